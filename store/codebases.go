package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

const codebaseColumns = `id, project, name, default_branch, git_url, linked, created_at`

func scanCodebase(r scanner) (c slipway.Codebase, err error) {
	return c, r.Scan(&c.ID, &c.Project, &c.Name, &c.DefaultBranch, &c.GitURL, &c.Linked, stamp{&c.CreatedAt})
}

// CreateCodebase adds a further codebase to a project; an empty default branch is main. A taken name is a
// Conflict.
func (s *Store) CreateCodebase(ctx context.Context, c slipway.Codebase, actor string) (slipway.Codebase, error) {
	if err := slipway.CheckName("codebase", c.Name); err != nil {
		return c, err
	}
	if c.DefaultBranch == "" {
		c.DefaultBranch = "main"
	}
	if err := slipway.CheckRef("refs/heads/" + c.DefaultBranch); err != nil {
		return c, err
	}
	err := s.write(ctx, func(t *tx) error {
		if _, ok, err := one(ctx, t, scanInt, `SELECT id FROM projects WHERE name = $1`, c.Project); err != nil {
			return err
		} else if !ok {
			return slipway.Errorf(slipway.NotFound, "project %q does not exist", c.Project)
		}
		c.CreatedAt = t.now
		err := t.QueryRowContext(ctx, `INSERT INTO codebases (project, name, default_branch, git_url, linked, created_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING id`,
			c.Project, c.Name, c.DefaultBranch, c.GitURL, bit(c.Linked), ms(t.now)).Scan(&c.ID)
		if unique(err) {
			return slipway.Errorf(slipway.Conflict, "project %s has a codebase %s already", c.Project, c.Name)
		}
		if err != nil {
			return fmt.Errorf("create codebase %s of %s: %w", c.Name, c.Project, err)
		}
		return t.audit(slipway.Event{Kind: "codebase.created", Project: c.Project, Actor: actor, Message: "codebase " + c.Name + " added"})
	})
	return c, err
}

// Codebases returns the further codebases of a project by name.
func (s *Store) Codebases(ctx context.Context, project string) ([]slipway.Codebase, error) {
	return list(ctx, s.reader, scanCodebase, `SELECT `+codebaseColumns+` FROM codebases WHERE project = $1 ORDER BY name`, project)
}

// RemoveCodebase takes a further codebase away from its project. One with unfinished runs, open pushes or
// open pull requests is a Conflict. Its connection with a forge goes with it, and the credentials of that and its deploy key;
// what was recorded of its runs stays.
func (s *Store) RemoveCodebase(ctx context.Context, project, name, actor string) error {
	return s.write(ctx, func(t *tx) error {
		for _, busy := range []struct{ what, query string }{
			{"a run that has not ended", `SELECT count(*) FROM runs WHERE project = $1 AND codebase = $2 AND state IN ('queued', 'running', 'waiting')`},
			{"a push under way", `SELECT count(*) FROM pushes WHERE project = $1 AND codebase = $2 AND state = 'received'`},
			{"an open pull request", `SELECT count(*) FROM pulls WHERE project = $1 AND codebase = $2 AND state = 'open' AND forge = 0`},
		} {
			n, _, err := one(ctx, t, scanInt, busy.query, project, name)
			if err != nil {
				return err
			}
			if n > 0 {
				return slipway.Errorf(slipway.Conflict, "codebase %s of %s has %s: wait for it, cancel or close it first", name, project, busy.what)
			}
		}
		n, err := t.exec(`DELETE FROM codebases WHERE project = $1 AND name = $2`, project, name)
		if err != nil {
			return fmt.Errorf("remove codebase %s of %s: %w", name, project, err)
		}
		if n == 0 {
			return slipway.Errorf(slipway.NotFound, "project %s has no codebase %q", project, name)
		}
		if err := t.disconnect(project, name); err != nil {
			return fmt.Errorf("remove codebase %s of %s: %w", name, project, err)
		}
		return t.audit(slipway.Event{Kind: "codebase.removed", Project: project, Actor: actor, Message: "codebase " + name + " removed"})
	})
}

// disconnect forgets what is kept of a codebase and its forge. Its pull requests there are nobody's business
// here any more.
func (t *tx) disconnect(project, name string) error {
	for _, query := range []string{
		`DELETE FROM refs_seen WHERE project = $1 AND codebase = $2`,
		`DELETE FROM built WHERE project = $1 AND codebase = $2`,
		`DELETE FROM connections WHERE project = $1 AND codebase = $2`,
		`DELETE FROM deliveries WHERE project = $1 AND codebase = $2`,
		`DELETE FROM commands WHERE project = $1 AND codebase = $2`,
		`DELETE FROM reactions WHERE project = $1 AND codebase = $2`,
		`UPDATE pulls SET state = 'closed', held = '', moves = moves + 1 WHERE project = $1 AND codebase = $2 AND state = 'open' AND forge = 1`,
	} {
		if _, err := t.exec(query, project, name); err != nil {
			return err
		}
	}
	key := slipway.CodebaseKey(project, name)
	if _, err := t.exec(`DELETE FROM deploy_keys WHERE codebase = $1`, key); err != nil {
		return err
	}
	_, err := t.exec(`DELETE FROM credentials WHERE name IN ($1, $2)`, credentialName(key, "token"), credentialName(key, "webhook"))
	return err
}

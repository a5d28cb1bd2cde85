package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

const connectionColumns = `project, forge, api, repository, repository_id, hook_ids, created_at,
	EXISTS (SELECT 1 FROM credentials k WHERE k.name = 'forge/' || connections.project || '/token')`

func scanConnection(r scanner) (c slipway.Connection, err error) {
	var ids string
	var token bool
	err = r.Scan(&c.Project, &c.Forge, &c.API, &c.Repository, &c.RepositoryID, &ids, stamp{&c.CreatedAt}, &token)
	c.Credential, c.HookSecret, c.HookIDs = credentialName(c.Project, "token"), credentialName(c.Project, "webhook"), strings.Fields(ids)
	if !token {
		c.Credential = ""
	}
	return c, err
}

func credentialName(project, what string) string { return "forge/" + project + "/" + what }

// SaveConnection connects a project, or changes how it is connected. The token is kept sealed, and without one the
// one that was kept stays; the secret
// of the webhook is made the first time, and again when the repository is another one. What happened
// before is not told to the forge.
func (s *Store) SaveConnection(ctx context.Context, d slipway.ProjectDetail, token, actor string) (slipway.Connection, error) {
	c := *d.Connection
	if err := c.Check(); err != nil {
		return c, err
	}
	err := s.write(ctx, func(t *tx) error {
		old, had, err := one(ctx, t, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE project = $1`, c.Project)
		if err != nil {
			return err
		}
		if err := t.saveConnection(c, d); err != nil {
			return fmt.Errorf("connect project %s: %w", c.Project, err)
		}
		if token != "" {
			if err := t.saveCredential(c.Project, "token", token); err != nil {
				return err
			}
		}
		if !had || old.API != c.API || old.Repository != c.Repository {
			if err := t.saveCredential(c.Project, "webhook", newSecret()); err != nil {
				return err
			}
		}
		c, _, err = one(ctx, t, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE project = $1`, c.Project)
		if err != nil {
			return err
		}
		return t.audit(slipway.Event{Kind: "forge.connected", Project: c.Project, Actor: actor, Message: fmt.Sprintf("connected with %s on %s (%s)", c.Repository, c.Forge, c.API)})
	})
	return c, err
}

func (t *tx) saveConnection(c slipway.Connection, d slipway.ProjectDetail) error {
	_, err := t.exec(`INSERT INTO connections (project, forge, api, repository, repository_id, link, forks, reacted, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT coalesce(max(id), 0) FROM events), $8)
		ON CONFLICT (project) DO UPDATE SET forge = excluded.forge, api = excluded.api, repository = excluded.repository,
			repository_id = excluded.repository_id, link = excluded.link, forks = excluded.forks, problem = '', problem_at = 0`,
		c.Project, c.Forge, c.API, c.Repository, c.RepositoryID, d.Link, d.Forks, ms(t.now))
	return err
}

func (t *tx) saveCredential(project, what, secret string) error {
	name := credentialName(project, what)
	sealed, err := t.s.seal([]byte(secret), "credential "+name)
	if err != nil {
		return err
	}
	if _, err := t.exec(`INSERT INTO credentials (name, project, sealed) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed`, name, project, sealed); err != nil {
		return fmt.Errorf("save credential %s: %w", name, err)
	}
	return nil
}

// Credential opens a sealed credential by the name that a connection has for it.
func (s *Store) Credential(ctx context.Context, name string) (string, error) {
	sealed, ok, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) }, `SELECT sealed FROM credentials WHERE name = $1`, name)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "there is no credential %s: connect the project again", name)
	}
	if err != nil {
		return "", err
	}
	open, err := s.unseal(sealed, "credential "+name)
	return string(open), err
}

// Connection says how a project is connected; NotFound if it is not.
func (s *Store) Connection(ctx context.Context, project string) (slipway.Connection, error) {
	c, ok, err := one(ctx, s.reader, scanConnection, `SELECT `+connectionColumns+` FROM connections WHERE project = $1`, project)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "project %q is not connected with a forge: `slipway project connect %s` connects it", project, project)
	}
	return c, err
}

// Connections lists the projects that are connected, by name.
func (s *Store) Connections(ctx context.Context) ([]slipway.Connection, error) {
	return list(ctx, s.reader, scanConnection, `SELECT `+connectionColumns+` FROM connections ORDER BY project`)
}

// ProjectDetail is a project with its connection and how the forge answers, if it has one.
func (s *Store) ProjectDetail(ctx context.Context, project string) (slipway.ProjectDetail, error) {
	p, err := s.Project(ctx, project)
	d := slipway.ProjectDetail{Project: p}
	if err != nil {
		return d, err
	}
	if k, err := s.DeployKey(ctx, project, true); err == nil {
		d.DeployKey = &k
	} else if slipway.ErrorCode(err) != slipway.NotFound {
		return d, err
	}
	c, err := s.Connection(ctx, project)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return d, nil
	}
	if err != nil {
		return d, err
	}
	d.Connection = &c
	d.Health = &slipway.ForgeHealth{}
	_, _, err = one(ctx, s.reader, func(r scanner) (struct{}, error) {
		return struct{}{}, r.Scan(&d.Forks, &d.Link, stamp{&d.Health.Since}, stamp{&d.Health.Delivered}, &d.Health.Waiting, &d.Health.Behind)
	}, `SELECT forks, link, problem_at,
		(SELECT coalesce(max(created_at), 0) FROM deliveries d WHERE d.project = c.project),
		(SELECT count(*) FROM deliveries d WHERE d.project = c.project AND d.state = 'received'),
		(SELECT count(*) FROM events e WHERE e.project = c.project AND e.id > c.reacted)
		FROM connections c WHERE project = $1`, project)
	if err != nil {
		return d, err
	}
	now, err := problems(ctx, s.reader, project)
	for _, area := range slices.Sorted(maps.Keys(now)) {
		d.Health.Problems = append(d.Health.Problems, slipway.ForgeProblem{Area: area, Message: now[area]})
	}
	return d, err
}

// ForgeLinks are the pages of a run on the project's forge, nil if it has none.
func (s *Store) ForgeLinks(ctx context.Context, run slipway.Run) (*slipway.ForgeLinks, error) {
	if run.Codebase != "" { // only the main codebase is on it
		return nil, nil
	}
	var repository string
	l, ok, err := one(ctx, s.reader, func(r scanner) (*slipway.ForgeLinks, error) {
		v := &slipway.ForgeLinks{}
		return v, r.Scan(&v.Forge, &repository, &v.Pull)
	}, `SELECT forge, link, coalesce((SELECT p.link FROM pulls p WHERE p.project = c.project AND p.number = $1), '') FROM connections c WHERE project = $2`, run.Pull, run.Project)
	if err != nil || !ok {
		return nil, err
	}
	l.Commit = l.Forge.CommitLink(repository, run.Commit)
	return l, nil
}

// SetHooks keeps which webhooks were made on the forge.
func (s *Store) SetHooks(ctx context.Context, project string, ids []string, actor string) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`UPDATE connections SET hook_ids = $1 WHERE project = $2`, strings.Join(ids, " "), project)
		if err != nil || n == 0 {
			return err
		}
		return t.audit(slipway.Event{Kind: "forge.hooked", Project: project, Actor: actor, Message: fmt.Sprintf("webhook %s made", strings.Join(ids, ", "))})
	})
}

// SetForgeProblem keeps what a forge refuses in one area (fetch, read, write, webhook), "" when it answers
// there as it should. Saying the same again changes nothing.
func (s *Store) SetForgeProblem(ctx context.Context, project, area, problem string) error {
	if had, err := problems(ctx, s.reader, project); err != nil || had[area] == problem {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		now, err := problems(ctx, t, project)
		if err != nil || now[area] == problem {
			return err
		}
		begun := len(now) == 0
		if now[area] = problem; problem == "" {
			delete(now, area)
		}
		text := ""
		if len(now) > 0 {
			text = string(data(now))
		}
		n, err := t.exec(`UPDATE connections SET problem = $1, problem_at = CASE WHEN $2 = 1 THEN $3 WHEN $4 = 1 THEN 0 ELSE problem_at END WHERE project = $5`,
			text, bit(begun), ms(t.now), bit(text == ""), project)
		if err != nil || n == 0 {
			return err
		}
		e := slipway.Event{Kind: "forge.refused", Project: project, Message: problem}
		if problem == "" {
			e.Kind, e.Message = "forge.answered", area+": the forge answers as it should again"
		}
		return t.audit(e)
	})
}

// problems are what a project's forge refuses, by area.
func problems(ctx context.Context, q querier, project string) (map[string]string, error) {
	text, _, err := one(ctx, q, scanString, `SELECT problem FROM connections WHERE project = $1`, project)
	out := map[string]string{}
	if err != nil || text == "" {
		return out, err
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return out, fmt.Errorf("decode the problems of %s: %w", project, err)
	}
	return out, nil
}

// Synced reports whether the pull requests that were there before the project was connected are known.
func (s *Store) Synced(ctx context.Context, project string) (bool, error) {
	n, _, err := one(ctx, s.reader, scanInt, `SELECT synced FROM connections WHERE project = $1`, project)
	return n == 1, err
}

// SetSynced says that they are.
func (s *Store) SetSynced(ctx context.Context, project string) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE connections SET synced = 1 WHERE project = $1`, project)
		return err
	})
}

// LinkAccount says that an account of a forge is a user; user "" takes that back.
func (s *Store) LinkAccount(ctx context.Context, api, account, user, actor string) error {
	account = strings.ToLower(account)
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM accounts WHERE api = $1 AND account = $2`, api, account); err != nil {
			return err
		}
		if user == "" {
			return t.audit(slipway.Event{Kind: "user.unlinked", Actor: actor, Message: fmt.Sprintf("the account %s on %s is nobody's", account, api)})
		}
		n, err := t.exec(`INSERT INTO accounts (api, account, user_id) SELECT $1, $2, id FROM users WHERE name = $3`, api, account, user)
		if err != nil {
			return fmt.Errorf("link account %s: %w", account, err)
		}
		if n == 0 {
			return slipway.Errorf(slipway.NotFound, "user %q does not exist", user)
		}
		return t.audit(slipway.Event{Kind: "user.linked", Actor: actor, Message: fmt.Sprintf("the account %s on %s is %s", account, api, user)})
	})
}

// UserByAccount returns the user whose account of a forge that is, the zero user for nobody's. The forge's
// id of the account is kept when it is first seen; from then on the name with another id is nobody's.
func (s *Store) UserByAccount(ctx context.Context, api string, a slipway.Account) (slipway.User, error) {
	var name, id string
	account := strings.ToLower(a.Name)
	_, ok, err := one(ctx, s.reader, func(r scanner) (struct{}, error) { return struct{}{}, r.Scan(&name, &id) },
		`SELECT u.name, a.account_id FROM accounts a JOIN users u ON u.id = a.user_id WHERE a.api = $1 AND a.account = $2`, api, account)
	if err != nil || !ok || (id != "" && a.ID != "" && id != a.ID) {
		return slipway.User{}, err
	}
	if id == "" && a.ID != "" {
		err := s.write(ctx, func(t *tx) error {
			_, err := t.exec(`UPDATE accounts SET account_id = $1 WHERE api = $2 AND account = $3 AND account_id = ''`, a.ID, api, account)
			return err
		})
		if err != nil {
			return slipway.User{}, fmt.Errorf("keep the id of account %s: %w", account, err)
		}
	}
	return s.User(ctx, name)
}

package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

const projectColumns = `id, name, default_branch, git_url, created_at`

func scanProject(r scanner) (p slipway.Project, err error) {
	return p, r.Scan(&p.ID, &p.Name, &p.DefaultBranch, &p.GitURL, stamp{&p.CreatedAt})
}

// CreateProject adds a project; an empty default branch is main. A taken name is a Conflict.
func (s *Store) CreateProject(ctx context.Context, p slipway.Project, actor string) (slipway.Project, error) {
	if err := slipway.CheckName("project", p.Name); err != nil {
		return p, err
	}
	if p.DefaultBranch == "" {
		p.DefaultBranch = "main"
	}
	if err := slipway.CheckRef("refs/heads/" + p.DefaultBranch); err != nil {
		return p, err
	}
	err := s.write(ctx, func(t *tx) error {
		p.CreatedAt = t.now
		err := t.QueryRowContext(ctx, `INSERT INTO projects (name, default_branch, git_url, created_at) VALUES ($1, $2, $3, $4) RETURNING id`,
			p.Name, p.DefaultBranch, p.GitURL, ms(t.now)).Scan(&p.ID)
		if unique(err) {
			return slipway.Errorf(slipway.Conflict, "project %q exists already", p.Name)
		}
		if err != nil {
			return fmt.Errorf("create project %s: %w", p.Name, err)
		}
		return t.event(fmt.Sprintf("project/%d/created", p.ID), slipway.Event{
			Kind: "project.created", Project: p.Name, Actor: actor, Message: "project " + p.Name + " created",
		})
	})
	return p, err
}

// Projects returns every project by name.
func (s *Store) Projects(ctx context.Context) ([]slipway.Project, error) {
	return list(ctx, s.reader, scanProject, `SELECT `+projectColumns+` FROM projects ORDER BY name`)
}

// Project returns the project of that name.
func (s *Store) Project(ctx context.Context, name string) (slipway.Project, error) {
	p, ok, err := one(ctx, s.reader, scanProject, `SELECT `+projectColumns+` FROM projects WHERE name = $1`, name)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "project %q does not exist", name)
	}
	return p, err
}

// Setting returns a setting of the server, "" when it was never set.
func (s *Store) Setting(ctx context.Context, key string) (string, error) {
	v, _, err := one(ctx, s.reader, scanString, `SELECT value FROM settings WHERE key = $1`, key)
	return v, err
}

// SetSetting keeps a setting of the server.
func (s *Store) SetSetting(ctx context.Context, key, value string) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`, key, value)
		return err
	})
}

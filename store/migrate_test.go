package store

import (
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/slipway-cd/slipway"
)

// oldDatabase is a database of version 9 with a project on a forge. newer brings it up to a version of those that are
// SQL alone.
func oldDatabase(t *testing.T, newer int64, rows ...string) *Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slipway.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Sub(migrations, "migrations/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	before, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithTableName("migrations"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := before.UpTo(t.Context(), 9); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{
		`INSERT INTO projects (name, default_branch, git_url, created_at) VALUES ('shop', 'main', 'https://github.com/acme/shop', 1)`,
		`INSERT INTO codebases (project, name, default_branch, created_at) VALUES ('shop', 'web', 'main', 1)`,
		`INSERT INTO connections (project, forge, api, repository, repository_id, link, forks, hook_ids, synced, reacted, created_at)
			VALUES ('shop', 'github', 'https://api.github.com', 'acme/shop', '7', 'https://github.com/acme/shop', 'approve', '55 56', 1, 4, 1)`,
		`INSERT INTO credentials (name, project, sealed) VALUES ('forge/shop/token', 'shop', x'01')`,
		`INSERT INTO scans (project, digest, database, scanner, image, scanned_at, seen, sbom, report) VALUES ('shop', 'sha256:broken', 'db', 's', 'i', 1, 1, '', x'00')`,
		`INSERT INTO deliveries (id, project, delivery, digest, content, state, due_at, created_at) VALUES (9, 'shop', 'd', 'x', '{"id":"d"}', 'received', 0, 1)`,
		`INSERT INTO commands (project, comment, pull, text, author, allowed, answer, created_at) VALUES ('shop', '7', 3, 'retry', 'ada', 1, 'done', 1)`,
		`INSERT INTO reactions (project, name, sent, updated_at) VALUES ('shop', 'comment 3', 'said', 1)`,
		`INSERT INTO pulls (project, number, title, base, head, author, state, forge, link, fork, held, moves, created_at, updated_at)
			VALUES ('shop', 3, 'one', 'main', 'aa', 'eve@github', 'open', 1, 'https://github.com/acme/shop/pull/3', 1, 'aa', 5, 1, 1)`,
		`INSERT INTO pulls (project, number, title, base, head, author, state, codebase, created_at, updated_at) VALUES ('shop', 4, 'two', 'main', 'bb', 'ada', 'merged', 'web', 1, 1)`,
	} {
		if _, err := db.ExecContext(t.Context(), row); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
	}
	if _, err := before.UpTo(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if _, err := db.ExecContext(t.Context(), row); err != nil {
			t.Fatalf("%s: %v", row, err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var applied string
	if err := s.reader.QueryRowContext(t.Context(), `SELECT group_concat(version_id, ' ') FROM (SELECT version_id FROM migrations WHERE version_id > 8 ORDER BY version_id)`).Scan(&applied); err != nil || applied != "9 10 11 12 13 14 15 16 17 18" {
		t.Errorf("migrations %s, %v", applied, err)
	}
	return s
}

// A project on a forge whose deploy key came before the numbers of scans keeps both; without a token its API is not
// asked.
func TestMigrationOfADeployKey(t *testing.T) {
	t.Parallel()
	key := `INSERT INTO deploy_keys (codebase, accepted, git_url, public, hosts, sealed, problem, created_at) VALUES ('shop', 1, 'ssh://git@host/shop', 'ssh-ed25519 AAAA', 'host ssh-ed25519 AAAA', x'01', 'no answer', 1)`
	s := oldDatabase(t, 11, key, `DELETE FROM credentials`)
	d, err := s.ProjectDetail(t.Context(), "shop")
	if err != nil || d.DeployKey == nil || d.DeployKey.Problem != "no answer" || d.Connection == nil || d.Connection.Credential != "" || d.Connection.HookSecret != "forge/shop/webhook" {
		t.Errorf("detail %+v, %v", d, err)
	}
	with := oldDatabase(t, 11, key)
	if d, err := with.ProjectDetail(t.Context(), "shop"); err != nil || d.DeployKey == nil || d.Connection == nil || d.Connection.Credential != "forge/shop/token" {
		t.Errorf("with a token: %+v, %v", d, err)
	}
}

// What a project on a forge had before connections were those of codebases is the main codebase's then.
func TestMigrationOfConnections(t *testing.T) {
	t.Parallel()
	s := oldDatabase(t, 9)
	ctx := t.Context()
	d, err := s.ProjectDetail(ctx, "shop")
	if c := d.Connection; err != nil || c == nil || c.Shared || c.Key() != "shop" || c.Repository != "acme/shop" || len(c.HookIDs) != 2 || d.Forks != slipway.ForksApprove ||
		c.Credential != "forge/shop/token" || d.DeployKey != nil || len(d.Codebases) != 1 || d.Codebases[0].Connection != nil || d.Health.Waiting != 1 {
		t.Errorf("detail %+v, %v", d, err)
	}
	if _, ok, err := s.LastScan(ctx, "shop", "sha256:broken"); ok || err != nil {
		t.Errorf("the scans were not counted: %t, %v", ok, err)
	}
	if all, err := s.Metrics(ctx); err != nil || all["pulls"]["open"] != 1 || all["pulls"]["merged"] != 1 {
		t.Errorf("metrics %v, %v", all, err)
	}
	if is, err := s.Synced(ctx, "shop"); !is || err != nil {
		t.Errorf("synced %t, %v", is, err)
	}
	if n, err := s.Reacted(ctx, "shop"); n != 4 || err != nil {
		t.Errorf("reacted %d, %v", n, err)
	}
	if due, _, err := s.DueDeliveries(ctx, "shop", 10); err != nil || len(due) != 1 || due[0].ID != 9 || due[0].Codebase != "shop" {
		t.Errorf("due %+v, %v", due, err)
	}
	if c, had, err := s.Command(ctx, "shop", "7"); err != nil || !had || c.Answer != "done" {
		t.Errorf("command %+v, %v", c, err)
	}
	if sent, err := s.Sent(ctx, "shop", "comment 3"); sent != "said" || err != nil {
		t.Errorf("sent %q, %v", sent, err)
	}
	if p, err := s.Pull(ctx, "shop", 3); err != nil || !p.Forge || !p.Fork || p.Held != "aa" || p.Link == "" || p.Name() != "3" {
		t.Errorf("pull %+v, %v", p, err)
	}
	if p, err := s.Pull(ctx, "shop/web", 4); err != nil || p.Forge || p.State != slipway.PullMerged || p.Name() != "web#4" {
		t.Errorf("pull of web %+v, %v", p, err)
	}
}

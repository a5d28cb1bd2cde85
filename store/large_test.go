package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// large is a store with runs of 500 services in turn, each deployed to development and, the newest, to production.
func large(b testing.TB, runs int) *world {
	w := newWorld(b)
	for _, text := range []string{
		`PRAGMA synchronous = OFF`,
		`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})
		INSERT INTO runs (id, project, event, ref, commit_hash, title, actor, state, created_at)
			SELECT i, 'shop', 'merge', 'refs/heads/main', printf('%040x', i), 'a change', 'ada', 'succeeded', i FROM n`,
		`INSERT INTO steps (run_id, project, key, kind, service, environment, spec, lock, state)
			SELECT r.id, 'shop', k.value || '/service' || (r.id % 500), k.value, 'service' || (r.id % 500), '', '{}', '', 'succeeded'
			FROM runs r, json_each('["build", "test", "scan", "chart", "publish", "attest", "deploy", "verify"]') k`,
		`INSERT INTO deployments (project, environment, service, target, version, commit_hash, run_id, step, image_digest, state, created_at, updated_at)
			SELECT 'shop', e.value, 'service' || (r.id % 500), json_object('project', 'shop', 'environment', e.value, 'service', 'service' || (r.id % 500),
				'cluster', 'default', 'namespace', 'shop-' || e.value, 'release', 'service' || (r.id % 500)), 'v1.0.' || r.id, r.commit_hash, r.id, 'deploy',
				printf('sha256:%064x', r.id), iif(r.id > {runs} - 500, 'verified', 'replaced'), r.id, r.id
			FROM runs r, json_each('["development", "production"]') e WHERE e.value = 'development' OR r.id > {runs} - 500`,
	} {
		if _, err := w.writer.Exec(strings.ReplaceAll(text, "{runs}", fmt.Sprint(runs))); err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// The board and the runs of a service of a large project are those that the rows say.
func TestLargeProject(t *testing.T) {
	t.Parallel()
	w := large(t, 1500)
	board, err := w.Board(w.ctx, "shop", []string{"service7", "new"}, []string{"production"})
	w.ok(err)
	if len(board.Rows) != 501 || fmt.Sprint(board.Environments) != "[production development]" {
		t.Fatalf("%d rows, environments %v", len(board.Rows), board.Environments)
	}
	for i, want := range map[int]string{0: "service7", 1: "new", 2: "service0"} {
		if got := board.Rows[i].Service; got != want {
			t.Errorf("row %d is of %s, want %s", i, got, want)
		}
	}
	for _, row := range board.Rows {
		if row.Service == "new" {
			continue
		}
		if row.LastRun == nil || row.LastRun.ID <= 1000 {
			t.Fatalf("%s: last run %+v", row.Service, row.LastRun)
		}
		for i, c := range row.Cells {
			if c.Environment != board.Environments[i] || c.Current == nil || c.Current.RunID != row.LastRun.ID || c.Current.Target.Environment != c.Environment || c.Current.Target.Service != row.Service {
				t.Fatalf("%s in %s: %+v", row.Service, board.Environments[i], c.Current)
			}
		}
	}
	for _, f := range []slipway.RunFilter{{Project: "shop", Service: "service7"}, {Service: "service7"}} {
		runs, err := w.Runs(w.ctx, f)
		w.ok(err)
		if len(runs) != 3 || runs[0].ID != 1007 || runs[2].ID != 7 {
			t.Errorf("%+v: %+v", f, runs)
		}
	}
}

// What is asked often does not take longer with the number of runs and deployments: it is found by an index.
func TestQuestionsByIndex(t *testing.T) {
	t.Parallel()
	w := large(t, 1)
	for what, plan := range map[string]string{
		`SELECT project FROM deployments WHERE json_extract(target, '$.cluster') = 'a' AND json_extract(target, '$.namespace') = 'b' AND project = 'shop' LIMIT 1`: "USING COVERING INDEX deployments_place",
		`SELECT project FROM deployments WHERE json_extract(target, '$.cluster') = 'a' AND json_extract(target, '$.namespace') = 'b' ORDER BY id LIMIT 1`:          "USING COVERING INDEX deployments_place",
		`SELECT id FROM runs WHERE project = 'shop' AND service = 'a' AND service <> ''`:                                                                           "USING COVERING INDEX runs_service",
	} {
		lines, err := list(w.ctx, w.reader, func(r scanner) (s string, err error) {
			var id, parent, unused int
			err = r.Scan(&id, &parent, &unused, &s)
			return s, err
		}, `EXPLAIN QUERY PLAN `+what)
		w.ok(err)
		if !strings.Contains(strings.Join(lines, "\n"), plan) {
			t.Errorf("%s\n%q, want %s", what, lines, plan)
		}
	}
}

// BenchmarkLarge reads what pages and deployments ask for, of 500 services with 20,000 runs.
func BenchmarkLarge(b *testing.B) {
	w := large(b, 20_000)
	for _, q := range []struct {
		name string
		read func(ctx context.Context) error
	}{
		{"Board", func(ctx context.Context) error { _, err := w.Board(ctx, "shop", nil, nil); return err }},
		{"OfOne", func(ctx context.Context) error {
			_, err := w.Runs(ctx, slipway.RunFilter{Project: "shop", Service: "service3"})
			return err
		}},
		{"Owner/own", func(ctx context.Context) error {
			_, err := w.NamespaceOwner(ctx, "shop", "default", "shop-production")
			return err
		}},
		{"Owner/none", func(ctx context.Context) error {
			_, err := w.NamespaceOwner(ctx, "shop", "default", "shop-new")
			return err
		}},
	} {
		b.Run(q.name, func(b *testing.B) {
			for b.Loop() {
				if err := q.read(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

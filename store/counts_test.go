package store

import (
	"database/sql"
	"io/fs"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/slipway-cd/slipway"
)

func (w *world) runs(env, digest string) {
	w.t.Helper()
	s := p("deploy/web@" + env)
	r := w.newRun("refs/heads/"+env+digest[7:], commitA, steps(s))
	d := slipway.Deployment{Target: slipway.Target{Project: "shop", Environment: env, Service: "web"}, ImageDigest: digest, State: slipway.Verified}
	w.finish(r.ID, s.Key, slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{d}})
}

func scanned(n int, database string, severities ...slipway.Severity) slipway.Scan {
	s := scanOfImage(n, database)
	s.Findings = nil
	for _, v := range severities {
		s.Findings = append(s.Findings, slipway.Finding{Kind: slipway.FindingVulnerability, ID: "CVE", Severity: v})
	}
	return s
}

// The counts are those of the newest scan, of images that run only, and a change of them is an event.
func TestDeployedCounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runs("qa", "sha256:web")
	w.runs("production", "sha256:web")
	w.runs("staging", "sha256:unknown")
	w.ok(w.KeepScan(w.ctx, "shop", scanned(1, "db1", slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityUnknown, slipway.SeverityNegligible), nil, true))
	other := scanned(1, "db1", slipway.SeverityCritical)
	other.Digest = "sha256:elsewhere"
	w.ok(w.KeepScan(w.ctx, "shop", other, nil, true))
	counts := func() []slipway.ImageCounts {
		t.Helper()
		all, err := w.DeployedCounts(w.ctx, "shop")
		w.ok(err)
		return all
	}
	at := time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC)
	want := slipway.ImageCounts{Digest: "sha256:web", ScannedAt: at, FindingCounts: slipway.FindingCounts{Critical: 1, High: 1, Low: 1, Negligible: 1}}
	if got := counts(); len(got) != 1 || !got[0].ScannedAt.Equal(at) || got[0].FindingCounts != want.FindingCounts || got[0].Digest != want.Digest {
		t.Errorf("%+v", got)
	}
	w.ok(w.KeepScan(w.ctx, "shop", scanned(3, "db3", slipway.SeverityCritical, slipway.SeverityCritical), nil, false))
	w.ok(w.KeepScan(w.ctx, "shop", scanned(2, "db2"), nil, false)) // of an older day
	if got := counts(); len(got) != 1 || got[0].FindingCounts != (slipway.FindingCounts{Critical: 2}) {
		t.Errorf("%+v", got)
	}
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{Project: "shop", Kind: "scan.changed"})
	w.ok(err)
	if len(es) != 2 || es[1].Message != "the newest scan of web, which runs, finds 2 critical and 0 high; before it were 1 and 1" {
		t.Errorf("%+v", es)
	}
	d, err := w.DeployedScan(w.ctx, "shop", "web", "production")
	w.ok(err)
	if d.Scan == nil || len(d.Scan.Findings) != 2 || d.Deployment.Target.Environment != "production" {
		t.Errorf("%+v", d)
	}
	if d, err = w.DeployedScan(w.ctx, "shop", "web", "staging"); err != nil || d.Scan != nil {
		t.Errorf("%+v %v", d, err)
	}
	w.code(drop(w.DeployedScan(w.ctx, "shop", "web", "moon")), slipway.NotFound)
}

// Scans that were kept before there were counts are counted once; one that is broken is forgotten.
func TestOldScansAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.runs("qa", "sha256:web")
	w.ok(w.KeepScan(w.ctx, "shop", scanned(1, "db1", slipway.SeverityCritical, slipway.SeverityMedium), nil, true))
	w.tested("refs/heads/main", commitA, "1", "a:passed")
	w.ok(w.Close())
	db, err := sql.Open("sqlite", w.path)
	w.ok(err)
	files, err := fs.Sub(migrations, "migrations/sqlite")
	w.ok(err)
	back, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithTableName("migrations"), goose.WithGoMigrations(counts()), goose.WithDisableGlobalRegistry(true))
	w.ok(err)
	w.do(back.DownTo(w.ctx, 12))
	for _, q := range []string{
		`ALTER TABLE scans DROP COLUMN critical`, `ALTER TABLE scans DROP COLUMN high`, `ALTER TABLE scans DROP COLUMN medium`,
		`ALTER TABLE scans DROP COLUMN low`, `ALTER TABLE scans DROP COLUMN negligible`, `ALTER TABLE test_totals DROP COLUMN took`,
		`DELETE FROM migrations WHERE version_id >= 12`,
		`INSERT INTO scans (project, digest, database, scanner, image, scanned_at, seen, sbom, report) VALUES ('shop', 'sha256:broken', 'db', 's', 'i', 1, 1, '', x'00')`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	w.ok(db.Close())
	w.open()
	all, err := w.DeployedCounts(w.ctx, "shop")
	w.ok(err)
	if len(all) != 1 || all[0].FindingCounts != (slipway.FindingCounts{Critical: 1, Medium: 1}) {
		t.Errorf("%+v", all)
	}
	if _, ok, err := w.LastScan(w.ctx, "shop", "sha256:broken"); ok || err != nil {
		t.Errorf("%t %v", ok, err)
	}
	if h := w.history(slipway.CaseFilter{Name: "a"}); len(h.Results) != 1 || h.Results[0].Duration != nil {
		t.Errorf("%+v", h)
	}
}

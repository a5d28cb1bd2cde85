package store

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func scanOfImage(n int, database string) slipway.Scan {
	return slipway.Scan{
		Image: "registry.test/shop/web", Digest: "sha256:web", Scanner: "grype 1", Database: slipway.ScanDatabase{Checksum: database}, Packages: n,
		Findings:  []slipway.Finding{{Kind: slipway.FindingVulnerability, ID: fmt.Sprintf("CVE-%d", n), Severity: slipway.SeverityCritical, Package: "openssl"}},
		ScannedAt: time.Date(2026, 11, n, 9, 0, 0, 0, time.UTC), SBOM: fmt.Sprintf("sha256:sbom%d", n),
	}
}

func TestScansAreKeptByDatabaseAndScanner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := scanOfImage(1, "db1")
	w.ok(w.KeepScan(w.ctx, "shop", first, []byte(`{"spdx":1}`), true))
	got, ok, err := w.Scan(w.ctx, "shop", "sha256:web", "db1", "grype 1")
	w.ok(err)
	sbom, err := w.SBOM(w.ctx, "shop", got.SBOM)
	w.ok(err)
	if !ok || !reflect.DeepEqual(got, first) || string(sbom) != `{"spdx":1}` {
		t.Errorf("%t %+v %s", ok, got, sbom)
	}
	for _, key := range [][4]string{{"shop", "sha256:web", "db2", "grype 1"}, {"shop", "sha256:web", "db1", "grype 2"}, {"shop", "sha256:other", "db1", "grype 1"}, {"other", "sha256:web", "db1", "grype 1"}} {
		if _, ok, err := w.Scan(w.ctx, key[0], key[1], key[2], key[3]); ok || err != nil {
			t.Errorf("%v: %t %v", key, ok, err)
		}
	}
	w.ok(w.KeepScan(w.ctx, "shop", scanOfImage(2, "db2"), nil, false))
	if seen, ok, err := w.SeenScan(w.ctx, "shop", "sha256:web"); !ok || err != nil || seen.Packages != 1 {
		t.Errorf("%t %v %+v", ok, err, seen)
	}
	if last, ok, err := w.LastScan(w.ctx, "shop", "sha256:web"); !ok || err != nil || last.Packages != 2 {
		t.Errorf("%t %v %+v", ok, err, last)
	}
	// Its SBOM was not kept: it has to be made again.
	if _, ok, err := w.Scan(w.ctx, "shop", "sha256:web", "db2", "grype 1"); ok || err != nil {
		t.Errorf("%t %v", ok, err)
	}
	w.ok(w.SawScan(w.ctx, "shop", "sha256:web", "db2", "grype 1"))
	if seen, _, err := w.SeenScan(w.ctx, "shop", "sha256:web"); err != nil || seen.Packages != 2 {
		t.Errorf("%v %+v", err, seen)
	}
}

func TestOldScansAreForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := 1; n <= 6; n++ {
		w.ok(w.KeepScan(w.ctx, "shop", scanOfImage(n, fmt.Sprint("db", n)), fmt.Appendf(nil, `{"spdx":%d}`, n), n == 1))
	}
	for n := 1; n <= 6; n++ {
		_, ok, err := w.Scan(w.ctx, "shop", "sha256:web", fmt.Sprint("db", n), "grype 1")
		w.ok(err)
		if want := n == 1 || n > 3; ok != want { // the newest seen, and the newest three
			t.Errorf("scan %d: %t, want %t", n, ok, want)
		}
	}
	n, err := w.ForgetSBOMs(w.ctx, "shop")
	w.ok(err)
	if n != 2 {
		t.Errorf("%d SBOMs were removed, want 2", n)
	}
	if _, err := w.SBOM(w.ctx, "shop", "sha256:sbom2"); slipway.ErrorCode(err) != slipway.NotFound {
		t.Error(err)
	}
}

func TestScanOfAStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := p("scan/web")
	r := w.newRun("refs/heads/x", commitA, steps(s))
	found := scanOfImage(1, "db1")
	w.finish(r.ID, "scan/web", slipway.Result{Outcome: slipway.Succeeded, Scan: &found})
	got, err := w.ScanOf(w.ctx, r.ID, "web")
	w.ok(err)
	if !reflect.DeepEqual(got, found) {
		t.Errorf("%+v", got)
	}
	if _, err := w.ScanOf(w.ctx, r.ID, "orders"); slipway.ErrorCode(err) != slipway.NotFound {
		t.Error(err)
	}
}

func TestDeployedScans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, env := range []string{"staging", "production"} {
		s := p(fmt.Sprintf("deploy/web@%s", env))
		r := w.newRun("refs/heads/"+env, commitA, steps(s))
		d := slipway.Deployment{Target: slipway.Target{Project: "shop", Environment: env, Service: "web"}, ImageDigest: []string{"sha256:new", "sha256:web"}[i], State: slipway.Verified}
		w.finish(r.ID, s.Key, slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{d}})
	}
	w.ok(w.KeepScan(w.ctx, "shop", scanOfImage(1, "db1"), nil, true))
	list, err := w.DeployedScans(w.ctx, "shop")
	w.ok(err)
	if len(list) != 2 || list[0].Deployment.Target.Environment != "production" || list[0].Scan == nil || list[0].Scan.Packages != 1 || list[1].Scan != nil {
		t.Errorf("%+v", list)
	}
	all, err := w.InUse(w.ctx)
	w.ok(err)
	if len(all) != 2 {
		t.Errorf("%d deployments, want 2", len(all))
	}
}

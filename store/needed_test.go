package store

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// deployed makes a run that deployed a version to an environment, with its image and chart.
func (w *world) deployed(environment, version string, state slipway.DeploymentState) slipway.Run {
	w.t.Helper()
	key := "deploy/web@" + environment
	r := w.newRun("refs/heads/"+environment+"-"+version, commitA, steps(p(key)))
	outcome := slipway.Succeeded
	if state == slipway.Unhealthy || state == slipway.DeployFailed {
		outcome = slipway.Failed
	}
	w.finish(r.ID, key, slipway.Result{Outcome: outcome, Deployments: []slipway.Deployment{{
		Target: slipway.Target{Environment: environment, Service: "web"}, Version: version, State: state, ImageDigest: "image-" + version, ChartDigest: "chart-" + version,
	}}})
	return r
}

func (w *world) needed() map[string]string {
	w.t.Helper()
	out, err := w.Needed(w.ctx, "shop")
	w.ok(err)
	return out
}

// wantNeeded fails the test unless the digests are needed for these reasons, "" for not at all.
func (w *world) wantNeeded(want map[string]string) {
	w.t.Helper()
	got := w.needed()
	for digest, why := range want {
		if !strings.Contains(got[digest], why) || (why == "" && got[digest] != "") {
			w.t.Errorf("%s is needed because %q, want %q", digest, got[digest], why)
		}
	}
}

func TestNeededByWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.deployed("qa", "v1", slipway.Unhealthy)
	w.deployed("qa", "v2", slipway.Unhealthy)
	w.deployed("qa", "v3", slipway.DeployFailed) // nothing of it runs
	w.deployed("prod", "v4", slipway.Verified)
	on := w.newRun("refs/heads/on", commitA, steps(p("deploy/web@prod")))
	w.start(on.ID, "deploy/web@prod")
	w.do(w.SaveDeployment(w.ctx, slipway.Deployment{RunID: on.ID, Step: "deploy/web@prod", Target: slipway.Target{Environment: "prod", Service: "web"},
		Version: "v5", State: slipway.Deploying, ImageDigest: "image-v5", ChartDigest: "chart-v5"}))
	w.wantNeeded(map[string]string{
		"image-v1": "", "image-v2": "runs in qa", "chart-v2": "runs in qa", "image-v3": "", "image-v4": "runs in prod", "image-v5": "runs in prod", "chart-v5": "runs in prod",
	})
}

// A rollback may go back to as many versions as Helm keeps; the same version twice is one.
func TestNeededByRollbacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := 1; i <= backTo+2; i++ {
		w.deployed("qa", fmt.Sprint("v", i), slipway.Verified)
	}
	w.deployed("qa", fmt.Sprint("v", backTo+2), slipway.Verified)
	w.deployed("eu", "v1", slipway.Verified) // another target
	w.deployed("eu", "v0", slipway.Verified)
	want := map[string]string{"image-v0": "runs in eu", "image-v1": "a rollback of eu", "chart-v1": "a rollback of eu", "image-v2": "", "chart-v2": "",
		fmt.Sprint("image-v", backTo+2): "runs in qa"}
	for i := 3; i <= backTo+1; i++ {
		want[fmt.Sprint("image-v", i)] = "a rollback of qa"
	}
	w.wantNeeded(want)
}

func TestNeededByRunsThatHaveNotEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := func(digest string) slipway.Result {
		return slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "r/web", Digest: digest}}}
	}
	over := w.newRun("refs/heads/a", commitA, steps(p("build/web")))
	w.finish(over.ID, "build/web", image("over"))
	open := w.newRun("refs/heads/release/web/v1.0.0", commitA, steps(p("build/web"), p("approve/web@prod", "build/web")))
	w.finish(open.ID, "build/web", image("open"))
	w.finish(open.ID, "approve/web@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.0"}})
	// What a plan names and no step has recorded yet.
	publish, scan, rollback := p("publish/web"), p("scan/web"), p("rollback/web@qa")
	publish.Publish, scan.Scan = &slipway.PublishSpec{Built: &slipway.BuiltImage{Digest: "built"}}, &slipway.ScanSpec{Built: &slipway.BuiltImage{Digest: "scanned"}}
	rollback.Rollback = &slipway.RollbackSpec{From: slipway.Deployment{ImageDigest: "left"}, To: slipway.Deployment{ImageDigest: "back", ChartDigest: "back-chart"}}
	planned := w.newRun("refs/heads/b", commitA, steps(publish, scan, p("publish/cart"), rollback))
	w.wantNeeded(map[string]string{
		"over": "", "open": "run #2 has not ended", "built": "run #3 has not ended", "scanned": "run #3 has not ended",
		"back": "run #3 has not ended", "back-chart": "run #3 has not ended", "left": "",
	})
	w.ok(w.CancelRun(w.ctx, planned.ID, "ada", "enough"))
	w.wantNeeded(map[string]string{"built": "", "back": "", "open": "run #2"})
	if other, err := w.Needed(w.ctx, "blog"); err != nil || len(other) != 0 {
		t.Errorf("of another project: %v %v", other, err)
	}
}

// From the newest images of the default branch charts are published again.
func TestNeededByCharts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := 1; i <= 7; i++ {
		for _, service := range []string{"web", "cart"} {
			r := w.newRun("refs/heads/main", commitA, steps(p("publish/"+service)))
			w.finish(r.ID, "publish/"+service, slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{
				{Kind: slipway.ArtifactImage, Repository: "r/" + service, Tag: "main", Digest: fmt.Sprint(service, i)}}})
		}
	}
	branch := w.newRun("refs/heads/x", commitA, steps(p("publish/web")))
	w.finish(branch.ID, "publish/web", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "r/web", Tag: "x", Digest: "branch"}}})
	w.wantNeeded(map[string]string{"web1": "", "web2": "", "web3": "newest of the default branch", "web7": "newest of the default branch", "cart2": "", "cart3": "newest of the default branch", "branch": ""})
}

func TestPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	publish := func(ref string, as ...slipway.Artifact) slipway.Run {
		r := w.newRun(ref, commitA, steps(p("publish/web")))
		w.finish(r.ID, "publish/web", slipway.Result{Outcome: slipway.Succeeded, Artifacts: as})
		return r
	}
	image := slipway.Artifact{Kind: slipway.ArtifactImage, Repository: "r/web", Tag: "a", Digest: "image"}
	publish("refs/heads/a", image, slipway.Artifact{Kind: slipway.ArtifactChart, Repository: "r/charts/web", Tag: "1", Digest: "chart"},
		slipway.Artifact{Kind: slipway.ArtifactChart, Digest: "packaged", Path: "/work/web.tgz"}, slipway.Artifact{Kind: slipway.ArtifactReport, Digest: "report", Repository: "r/x"})
	image.Tag = "b"
	last := publish("refs/heads/b", image)
	got, err := w.Published(w.ctx, "shop")
	w.ok(err)
	if len(got) != 2 || got["image"].RunID != last.ID || got["image"].Tag != "b" || got["chart"].Tag != "1" || got["image"].CreatedAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

func TestRetentionAndFindingsAreEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ok(w.RecordRetention(w.ctx, slipway.RetentionReport{Project: "shop", Removed: []slipway.RetentionItem{{Digest: "sha256:a", Reason: "old"}}, Kept: make([]slipway.RetentionItem, 3), Bytes: 42}, "ada"))
	var found []slipway.Finding
	for i := range 7 {
		found = append(found, slipway.Finding{ID: fmt.Sprint("CVE-", i), Package: "zlib"})
	}
	w.ok(w.RecordFound(w.ctx, "shop", "web", "v1.0.0", "sha256:a", []string{"eu", "us"}, found))
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{Project: "shop"})
	w.ok(err)
	last := es[len(es)-2:]
	if e := last[0]; e.Kind != "retention.done" || e.Actor != "ada" || e.Message != "1 candidates removed, 3 kept, 42 bytes freed" || !strings.Contains(string(e.Data), `"sha256:a"`) {
		t.Errorf("%+v", e)
	}
	if e := last[1]; e.Kind != "scan.found" || !strings.Contains(e.Message, "web v1.0.0, which runs in eu, us, has new critical vulnerabilities: CVE-0 zlib, CVE-1 zlib") ||
		!strings.HasSuffix(e.Message, "CVE-4 zlib and 2 more") || !strings.Contains(string(e.Data), `"CVE-6 zlib"`) {
		t.Errorf("%+v", e)
	}
	w.ok(w.KeepScan(w.ctx, "shop", scanOfImage(1, "db"), []byte(`{"spdx":1}`), true))
	if doc, err := w.Document(w.ctx, "sha256:sbom1"); err != nil || string(doc) != `{"spdx":1}` {
		t.Errorf("%s %v", doc, err)
	}
	w.code(drop(w.Document(w.ctx, "sha256:none")), slipway.NotFound)
}

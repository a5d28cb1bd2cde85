package store

import (
	"slices"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestEarlierResults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := func(trust slipway.Trust) slipway.Plan {
		s := p("test/a")
		s.Test = &slipway.TestSpec{Trust: trust}
		return steps(s)
	}
	ask := func(inputs string, trusts ...slipway.Trust) slipway.Earlier {
		t.Helper()
		e, ok, err := w.Earlier(w.ctx, "shop", inputs, func(p slipway.PlanStep) bool { return p.Test != nil && slices.Contains(trusts, p.Test.Trust) })
		w.ok(err)
		if ok != (e.Step.RunID != 0) {
			t.Fatalf("%t: %+v", ok, e)
		}
		return e
	}
	made := func(trust slipway.Trust, res slipway.Result) slipway.Run {
		t.Helper()
		r := w.newRun("refs/heads/x", commitA, plan(trust))
		w.finish(r.ID, "test/a", res)
		return r
	}
	good := slipway.Result{Outcome: slipway.Succeeded, Inputs: "sha256:1", Report: &slipway.TestReport{Passed: 2},
		Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactReport, Digest: "sha256:r"}}}
	first := made(slipway.TrustBranch, good)
	made(slipway.TrustBranch, slipway.Result{Outcome: slipway.Failed, Inputs: "sha256:2"})
	if e := ask("sha256:1", slipway.TrustReviewed, slipway.TrustBranch); e.Step.RunID != first.ID || e.Report.Passed != 2 || len(e.Artifacts) != 1 {
		t.Errorf("%+v", e)
	}
	for _, other := range []slipway.Earlier{
		ask("sha256:1", slipway.TrustReviewed), ask("sha256:1"), ask("sha256:2", slipway.TrustBranch), ask("", slipway.TrustBranch), ask("sha256:3", slipway.TrustBranch),
	} {
		if other.Step.RunID != 0 {
			t.Errorf("found %+v", other)
		}
	}
	good.ReusedFrom = first.ID
	second := made(slipway.TrustBranch, good)
	if got := w.stepOf(second.ID, "test/a"); got.ReusedFrom != first.ID {
		t.Errorf("reused from run #%d", got.ReusedFrom)
	}
	if e := ask("sha256:1", slipway.TrustBranch); e.Step.RunID != second.ID || e.Step.ReusedFrom != first.ID {
		t.Errorf("the newest: %+v", e.Step)
	}
}

// A chart that was checked comes with what was found out about it.
func TestEarlierCharts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := p("chart/a")
	s.Chart = &slipway.ChartSpec{Service: "a", Version: "1.0.0"}
	r := w.newRun("refs/heads/x", commitA, steps(s))
	w.finish(r.ID, "chart/a", slipway.Result{Outcome: slipway.Succeeded, Inputs: "sha256:1", Manifests: []slipway.ManifestReport{{Environment: "qa", API: "shipped"}}})
	any := func(slipway.PlanStep) bool { return true }
	e, ok, err := w.Earlier(w.ctx, "shop", "sha256:1", any)
	if err != nil || !ok || len(e.Manifests) != 1 || e.Manifests[0].API != "shipped" || e.Step.Spec.Chart.Version != "1.0.0" {
		t.Errorf("%+v, %t, %v", e, ok, err)
	}
	if _, ok, err := w.Earlier(w.ctx, "shop", "sha256:1", func(p slipway.PlanStep) bool { return !any(p) }); ok || err != nil {
		t.Errorf("found what does not fit (%v)", err)
	}
}

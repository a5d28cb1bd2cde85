package store

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func said(gate, environment string, v slipway.Verdict, subjects ...string) slipway.GateResult {
	g := slipway.GateResult{Gate: gate, Environment: environment, Verdict: v, Summary: fmt.Sprintf("%d found", len(subjects))}
	for _, s := range subjects {
		g.Reasons = append(g.Reasons, slipway.GateReason{Verdict: v, Subject: s, Message: "not good", Place: "a.go:7"})
	}
	return g
}

// gates are those of a filter, each as step gate environment verdict.
func (w *world) gates(f slipway.GateFilter) string {
	w.t.Helper()
	f.Project = "shop"
	all, err := w.Gates(w.ctx, f)
	w.ok(err)
	var out []string
	for _, g := range all {
		out = append(out, strings.Join([]string{fmt.Sprint(g.RunID), g.Step, g.Gate, g.Environment, string(g.Verdict)}, " "))
	}
	return strings.Join(out, "\n")
}

func TestGatesAreRecordedWithTheOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/x", commitA, steps(p("scan/web")))
	given := slipway.Waiver{ID: 3, Gate: "secrets", Subject: "key *", Reason: "a test's", Author: "ada", Expires: w.clock.now()}
	secrets := said("secrets", "", slipway.Pass, "key a.pem")
	secrets.Reasons[0].Waiver = &given
	w.finish(r.ID, "scan/web", slipway.Result{Outcome: slipway.Failed, Reason: "gates", Gates: []slipway.GateResult{
		said("vulnerabilities", "", slipway.Fail, "CVE-1 openssl", "CVE-2 zlib"), said("database", "", slipway.Warn), secrets,
	}})
	all, err := w.Gates(w.ctx, slipway.GateFilter{Project: "shop", RunID: r.ID})
	w.ok(err)
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	g := all[0]
	if g.ID == 0 || g.Time.IsZero() || g.Project != "shop" || g.RunID != r.ID || g.Step != "scan/web" || g.Service != "web" || g.Summary != "2 found" ||
		len(g.Reasons) != 2 || g.Reasons[1] != (slipway.GateReason{Verdict: slipway.Fail, Subject: "CVE-2 zlib", Message: "not good", Place: "a.go:7"}) {
		t.Errorf("%+v", g)
	}
	if all[1].Reasons == nil || len(all[1].Reasons) != 0 { // a list for whoever reads the API
		t.Errorf("reasons of one that has none: %#v", all[1].Reasons)
	}
	if got := all[2].Reasons[0].Waiver; got == nil || got.Author != "ada" || !got.Expires.Equal(given.Expires) {
		t.Errorf("waiver: %+v", got)
	}
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{RunID: r.ID, Kind: "gate.failed"})
	w.ok(err)
	if len(es) != 1 || es[0].Message != "gate vulnerabilities of web: 2 found" || es[0].Step != "scan/web" ||
		string(es[0].Data) != `{"environment":"","gate":"vulnerabilities","service":"web"}` {
		t.Errorf("events: %+v", es)
	}
}

// What cannot be recorded leaves the step as it was, with nothing said.
func TestGatesAreRecordedWithTheOutcomeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/x", commitA, steps(p("scan/web")))
	st := w.start(r.ID, "scan/web")
	bad := slipway.Result{Outcome: slipway.Failed, Gates: []slipway.GateResult{said("secrets", "", slipway.Fail, "key"), said("tests", "", "perhaps")}}
	if err := w.FinishStep(w.ctx, st.ID, st.Attempt, bad, nil); err == nil || !strings.Contains(err.Error(), "record gate tests of step scan/web") {
		t.Fatal(err)
	}
	w.states(r.ID, "scan/web", "running")
	if got := w.gates(slipway.GateFilter{RunID: r.ID}); got != "" {
		t.Error(got)
	}
	if got := w.kinds(r.ID); contains(got, "gate.failed") {
		t.Errorf("events: %v", got)
	}
	// An attempt that is over says nothing any more.
	w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, succeeded, nil))
	w.code(w.FinishStep(w.ctx, st.ID, st.Attempt, slipway.Result{Outcome: slipway.Failed, Gates: []slipway.GateResult{said("secrets", "", slipway.Fail, "key")}}, nil), slipway.Conflict)
	if got := w.gates(slipway.GateFilter{RunID: r.ID}); got != "" {
		t.Error(got)
	}
}

func TestGatesOfARetryReplaceThoseBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/x", commitA, steps(p("chart/web"), p("test/web")))
	failing := slipway.Result{Outcome: slipway.Failed, Manifests: []slipway.ManifestReport{{Environment: "qa"}},
		Gates: []slipway.GateResult{said("manifests", "qa", slipway.Fail, "probes"), said("manifests", "prod", slipway.Fail, "probes")}}
	w.finish(r.ID, "test/web", slipway.Result{Outcome: slipway.Succeeded, Gates: []slipway.GateResult{said("tests", "", slipway.Pass)}})
	w.finish(r.ID, "chart/web", failing)
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.finish(r.ID, "chart/web", failing)
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{RunID: r.ID, Kind: "gate.failed"})
	w.ok(err)
	if len(es) != 4 { // two of each attempt
		t.Errorf("%d events, want 4", len(es))
	}
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	if got := w.gates(slipway.GateFilter{RunID: r.ID}); strings.Count(got, "fail") != 2 {
		t.Errorf("until it has spoken again:\n%s", got)
	}
	w.finish(r.ID, "chart/web", slipway.Result{Outcome: slipway.Succeeded, Manifests: []slipway.ManifestReport{{Environment: "qa"}},
		Gates: []slipway.GateResult{said("manifests", "qa", slipway.Pass)}})
	if got, want := w.gates(slipway.GateFilter{RunID: r.ID}), "1 test/web tests  pass\n1 chart/web manifests qa pass"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A deployment that the gates refused, and then let through without a word, has nothing on record that failed it.
func TestARetryWithoutGatesLeavesNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/x", commitA, steps(p("deploy/web@qa"), p("chart/web")))
	w.finish(r.ID, "deploy/web@qa", slipway.Result{Outcome: slipway.Failed, Gates: []slipway.GateResult{said("tests", "qa", slipway.Fail, "a")}})
	w.finish(r.ID, "chart/web", slipway.Result{Outcome: slipway.Failed, Manifests: []slipway.ManifestReport{{Environment: "qa"}}})
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.finish(r.ID, "deploy/web@qa", succeeded)
	w.finish(r.ID, "chart/web", failed)
	if got := w.gates(slipway.GateFilter{RunID: r.ID}); got != "" {
		t.Error(got)
	}
	w.code(drop(w.Manifests(w.ctx, r.ID, "web")), slipway.NotFound)
}

func TestGatesByFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "blog"}, "ada"))
	delivery := func(ref string) slipway.Run {
		r := w.newRun(ref, commitA, steps(p("test/web"), p("test/cart"), p("gate/web@qa"), p("gate/web@prod"), p("build/mail")))
		w.finish(r.ID, "test/web", slipway.Result{Outcome: slipway.Succeeded, Gates: []slipway.GateResult{said("tests", "", slipway.Pass)}})
		w.finish(r.ID, "test/cart", slipway.Result{Outcome: slipway.Succeeded, Gates: []slipway.GateResult{said("tests", "", slipway.Warn)}})
		for _, env := range []string{"qa", "prod"} {
			w.finish(r.ID, "gate/web@"+env, slipway.Result{Outcome: slipway.Succeeded, Gates: []slipway.GateResult{said("tests", env, slipway.Pass)}})
		}
		return r
	}
	delivery("refs/heads/x")
	delivery("refs/heads/y")
	only := w.newRun("refs/heads/z", commitA, steps(p("test/cart"))) // a run that says nothing of web
	w.finish(only.ID, "test/cart", slipway.Result{Outcome: slipway.Succeeded, Gates: []slipway.GateResult{said("tests", "", slipway.Pass)}})
	for _, c := range []struct {
		f    slipway.GateFilter
		want []string
	}{
		{slipway.GateFilter{RunID: 1}, []string{"1 test/web tests  pass", "1 test/cart tests  warn", "1 gate/web@qa tests qa pass", "1 gate/web@prod tests prod pass"}},
		{slipway.GateFilter{RunID: 1, Service: "cart"}, []string{"1 test/cart tests  warn"}},
		{slipway.GateFilter{RunID: 1, Environment: "qa", Service: "web"}, []string{"1 test/web tests  pass", "1 gate/web@qa tests qa pass"}},
		{slipway.GateFilter{Service: "web", Environment: "prod"}, []string{"2 test/web tests  pass", "2 gate/web@prod tests prod pass"}},
		{slipway.GateFilter{Service: "cart"}, []string{"3 test/cart tests  pass"}},
		{slipway.GateFilter{Service: "mail"}, nil},
		{slipway.GateFilter{RunID: 99}, nil},
	} {
		if got := w.gates(c.f); got != strings.Join(c.want, "\n") {
			t.Errorf("%+v: got\n%s", c.f, got)
		}
	}
	if other, err := w.Gates(w.ctx, slipway.GateFilter{Project: "blog", RunID: 1}); err != nil || len(other) != 0 {
		t.Errorf("of another project: %+v %v", other, err)
	}
}

func TestManifestsAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/x", commitA, steps(p("chart/web"), p("chart/cart")))
	want := []slipway.ManifestReport{
		{Environment: "qa", KubeVersion: "1.34", Live: true, Objects: []slipway.ManifestObject{{Name: "Deployment/web", Template: "chart/templates/a.yaml", YAML: strings.Repeat("kind: Deployment\n", 1000)}},
			Problems: []slipway.ManifestProblem{{Policy: "probes", Object: "Deployment/web", Path: "spec", Message: "none", Place: "a.yaml:3", Values: "values.yaml:1"}}},
		{Environment: "prod", KubeVersion: "1.33", Objects: []slipway.ManifestObject{}},
	}
	w.finish(r.ID, "chart/web", slipway.Result{Outcome: slipway.Succeeded, Manifests: want})
	w.finish(r.ID, "chart/cart", succeeded)
	got, err := w.Manifests(w.ctx, r.ID, "web")
	w.ok(err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	for _, service := range []string{"cart", "nothing", ""} {
		w.code(drop(w.Manifests(w.ctx, r.ID, service)), slipway.NotFound)
	}
}

func TestGatesOfAPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.newRun("refs/heads/x", commitA, steps(p("plan")))
	if g, err := w.GatesOf(w.ctx, before.ID); g != nil || err != nil {
		t.Errorf("before it is planned: %+v %v", g, err)
	}
	want := map[string]slipway.Gates{
		"":     {Tests: slipway.LevelFail, Coverage: slipway.CoverageGate{Level: slipway.LevelWarn, Minimum: 80, MaxDrop: -1}, Rules: []slipway.Rule{{Name: "small", Stage: slipway.KindScan}}},
		"prod": {Tests: slipway.LevelFail, Waivers: []slipway.Waiver{{Gate: "tests", Subject: "a", Expires: w.clock.now().UTC(), Place: "slipway.yaml:7"}}},
	}
	w.finish(before.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("deploy/a@prod")}, Gates: want}})
	// A way back is planned without gates, and takes away none.
	w.finish(before.ID, "deploy/a@prod", slipway.Result{Outcome: slipway.Failed, Next: steps1(p("rollback/a@prod"))})
	got, err := w.GatesOf(w.ctx, before.ID)
	w.ok(err)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if g, err := w.GatesOf(w.ctx, 99); g != nil || err != nil {
		t.Errorf("of no run: %+v %v", g, err)
	}
}

// The tests of an image are those of the run that made it, when a run changes the chart alone.
func TestTestsOfAChartOnlyRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	image := func(digest string) slipway.Result {
		return slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "r/shop/cart", Tag: "main", Digest: digest}}}
	}
	built := func(ref, digest string, words ...string) slipway.Run {
		r := w.newRun(ref, commitA, steps(p("build/cart"), p("test/cart")))
		w.finish(r.ID, "build/cart", image(digest))
		w.finish(r.ID, "test/cart", testResult("", words...))
		return r
	}
	main := built("refs/heads/main", "sha256:i", "a:passed", "b:passed")
	built("refs/heads/main", "sha256:other", "a:failed")
	chart := w.newRun("refs/heads/main", commitB, steps(p("chart/cart"), p("publish/cart", "chart/cart")))
	w.finish(chart.ID, "chart/cart", succeeded)
	w.finish(chart.ID, "publish/cart", image("sha256:i"))
	// Tests that were weakened in a branch give the same image, and say nothing of it.
	built("refs/heads/x", "sha256:i", "a:passed")
	passed := func(run slipway.Run, service, digest string) int {
		report, err := w.TestsOf(w.ctx, run.ID, service, digest)
		if slipway.ErrorCode(err) == slipway.NotFound {
			return -1
		}
		w.ok(err)
		return report.Passed
	}
	for _, c := range []struct {
		run     slipway.Run
		service string
		digest  string
		want    int
	}{
		{main, "cart", "sha256:none", 2}, // its own, whatever it made
		{chart, "cart", "sha256:i", 2},
		{chart, "cart", "sha256:other", 0},
		{chart, "cart", "sha256:none", -1},
		{chart, "cart", "", -1},
		{chart, "mail", "sha256:i", -1},
	} {
		if got := passed(c.run, c.service, c.digest); got != c.want {
			t.Errorf("run #%d, %s %s: %d passed, want %d", c.run.ID, c.service, c.digest, got, c.want)
		}
	}
	// Who ran them: a step that took its result of an earlier run did not.
	reused := w.newRun("refs/heads/main", commitB, steps(p("test/cart")))
	res := testResult("", "a:passed", "b:passed")
	res.ReusedFrom = main.ID
	w.finish(reused.ID, "test/cart", res)
	for _, r := range []slipway.Run{main, chart, reused} {
		if ran, err := w.TestedBy(w.ctx, r.ID, "cart", "sha256:i"); err != nil || ran.RunID != main.ID || ran.Spec.Key != "test/cart" {
			t.Errorf("run #%d: tested by %s of run #%d, %v, want run #%d", r.ID, ran.Spec.Key, ran.RunID, err, main.ID)
		}
	}
	w.code(drop(w.TestedBy(w.ctx, chart.ID, "mail", "sha256:i")), slipway.NotFound)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "blog"}, "ada"))
	other, err := w.CreateRun(w.ctx, slipway.Run{Project: "blog", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commitA}, steps(p("chart/cart")))
	w.ok(err)
	if got := passed(other, "cart", "sha256:i"); got != -1 {
		t.Errorf("another project's tests count: %d passed", got)
	}
}

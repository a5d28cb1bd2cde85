package judge_test

import (
	"context"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/reuse"
)

// folder is a workspace of steps that need no tree.
type folder string

func (folder) Tree(context.Context, string, string) (string, error) {
	return "", slipway.Errorf(slipway.NotFound, "no tree")
}
func (f folder) Dir(string) (string, error) { return string(f), nil }

// The merge takes from its pull request what was found out about the chart, and gates judge it anew.
func TestTheCheckOfAChartIsReused(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	work := folder(t.TempDir())
	helm := helmchart.New(helmchart.Options{})
	inner := c.judge.Judged(reuse.Chart{Inner: chart.New(helm, &kubeschema.Library{}, chart.Options{Tracer: helm}), Past: c.Store, Version: "this program"})
	runner := stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		env.Workspace = work
		return inner.Run(ctx, env, step)
	})
	run := func(event slipway.EventKind, version string, quota slipway.Level, environments ...string) (slipway.Run, slipway.Result) {
		t.Helper()
		st := planned("chart/cart")
		st.Chart = &slipway.ChartSpec{Service: "cart", Port: 8080, Version: version, Created: c.now, Image: slipway.Repository{Registry: slipway.Registry{Host: "registry.test"}, Name: "shop/cart"}}
		gates := map[string]slipway.Gates{"": lenient(nil)}
		for _, e := range environments {
			st.Chart.Renders = append(st.Chart.Renders, slipway.ChartRender{Environment: e, Namespace: "shop-" + e})
			gates[e] = lenient(func(g *slipway.Gates) {
				g.Manifests.Policies = map[string]slipway.Level{"requests": quota, "probes": quota}
			})
		}
		r := c.runs(event, slipway.Plan{Gates: gates, Steps: []slipway.PlanStep{st}})
		res, err := c.step(r, "chart/cart", runner)
		c.ok(err)
		return r, res
	}
	first, pull := run(slipway.PullUpdate, "0.0.0-pr.7.g1234567", slipway.LevelOff, "development", "qa")
	if pull.Outcome != slipway.Succeeded || pull.ReusedFrom != 0 || pull.Inputs == "" {
		t.Fatalf("%+v", pull)
	}
	merge, res := run(slipway.DefaultPush, "0.0.0-main.20260102030405.g1234567", slipway.LevelOff, "development")
	if res.Outcome != slipway.Succeeded || res.ReusedFrom != first.ID || len(res.Artifacts) != 1 || res.Artifacts[0].Tag != "0.0.0-main.20260102030405.g1234567" || res.Artifacts[0].Digest == pull.Artifacts[0].Digest {
		t.Errorf("%+v", res)
	}
	if on, err := c.Manifests(c.ctx, merge.ID, "cart"); err != nil || len(on) != 1 || on[0].Environment != "development" || len(on[0].Objects) == 0 {
		t.Errorf("on record: %+v, %v", on, err)
	}
	if _, again := run(slipway.DefaultPush, "0.0.0-main.20260102030406.g1234568", slipway.LevelOff, "development"); again.ReusedFrom != first.ID {
		t.Errorf("from run #%d, want #%d", again.ReusedFrom, first.ID)
	}
	if _, release := run(slipway.ReleasePush, "1.0.0", slipway.LevelOff, "development"); release.ReusedFrom != 0 {
		t.Errorf("a release takes from run #%d", release.ReusedFrom)
	}
	_, strict := run(slipway.DefaultPush, "0.0.0-main.20260102030407.g1234569", slipway.LevelFail, "development")
	if strict.ReusedFrom != first.ID || len(strict.Gates) == 0 {
		t.Errorf("%+v", strict)
	}
}

// What a reused chart is said to be is told anew: the step that found it out has another log.
func TestReusedEvidenceIsTold(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	policies := map[string]slipway.Gates{"qa": lenient(func(g *slipway.Gates) { g.Manifests.Policies = map[string]slipway.Level{"probes": slipway.LevelFail} })}
	reports := []slipway.ManifestReport{{Environment: "qa", Objects: []slipway.ManifestObject{{Name: "Deployment/cart"}},
		Problems: []slipway.ManifestProblem{{Policy: "probes", Object: "Deployment/cart", Message: "has none"}}}}
	run := c.plans(policies, "chart/cart")
	res, err := c.step(run, "chart/cart", c.judge.Judged(gives(slipway.Result{Outcome: slipway.Succeeded, ReusedFrom: 3, Manifests: reports})))
	c.want("reused", res, err, slipway.Failed, "manifests qa fail", "qa: gate manifests: 1 object, 1 failure (probes)")
	if text := c.log.text(); !strings.Contains(text, "fail probes Deployment/cart: has none") {
		t.Errorf("log:\n%s", text)
	}
}

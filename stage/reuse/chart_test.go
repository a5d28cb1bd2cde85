package reuse_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/reuse"
)

// charts stands in for the runner of chart steps.
type charts struct {
	*around
	apis   map[string]string
	packed int
	broken bool // it does not package
}

func (c *charts) Pack(_ context.Context, _ stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	c.packed++
	if c.broken {
		return slipway.Result{Outcome: slipway.Failed, Reason: "no"}, nil
	}
	return slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Tag: step.Chart.Version}}}, nil
}

func (c *charts) APIs(context.Context, stage.Env, slipway.PlanStep) (map[string]string, error) {
	return c.apis, nil
}

const merged = "0.0.0-main.20260102030405.gabc1234"

func chartStep(version string, environments ...string) slipway.PlanStep {
	c := &slipway.ChartSpec{Source: slipway.Source{Commit: "c2", Dir: "cart/chart"}, Service: "cart", Version: version, Labels: map[string]string{revision: version},
		Image: slipway.Repository{Registry: slipway.Registry{Host: "r"}, Name: "shop/cart"}}
	for _, e := range environments {
		c.Renders = append(c.Renders, slipway.ChartRender{Environment: e, Cluster: "local", Namespace: "shop-" + e, Manifests: &slipway.ManifestGate{Registries: []string{"r"}}})
	}
	return slipway.PlanStep{Key: "chart/cart", Kind: slipway.KindChart, Service: "cart", Chart: c}
}

func newCharts(past slipway.PlanStep) *charts {
	c := &charts{around: newAround(), apis: map[string]string{"": "v1", "dev": "v1", "qa": "v1", "prod": "v2"}}
	e := slipway.Earlier{Step: slipway.Step{RunID: 4, Spec: past, State: slipway.StepSucceeded}}
	names := []string{""}
	if len(past.Chart.Renders) > 0 {
		names = nil
		for _, r := range past.Chart.Renders {
			names = append(names, r.Environment)
		}
	}
	for _, name := range names {
		e.Manifests = append(e.Manifests, slipway.ManifestReport{Environment: name, API: c.apis[name]})
	}
	c.past = []slipway.Earlier{e}
	return c
}

func (c *charts) run(t *testing.T, run slipway.Run, step slipway.PlanStep, version string) slipway.Result {
	t.Helper()
	run.ID, run.Project = 9, "shop"
	r := reuse.Chart{Inner: c, Past: c, Version: version, Repo: func(string) reuse.Repo { return c }}
	res, err := r.Run(t.Context(), stage.Env{Run: run, Log: c}, step)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestChartsAreReused(t *testing.T) {
	t.Parallel()
	all := func() slipway.PlanStep { return chartStep("0.0.0-pr.7.g1234567", "dev", "qa", "prod") }
	for name, c := range map[string]struct {
		past, now slipway.PlanStep
		change    func(c *charts)
		reused    bool
	}{
		"a pull request's for its merge": {past: all(), now: chartStep(merged, "dev"), reused: true},
		"for the same environments":      {past: all(), now: chartStep(merged, "dev", "qa", "prod"), reused: true},
		"for none":                       {past: chartStep(merged), now: chartStep(merged), reused: true},
		"an environment more":            {past: chartStep(merged, "dev"), now: all()},
		"none before":                    {past: chartStep(merged), now: chartStep(merged, "dev")},
		"none now":                       {past: all(), now: chartStep(merged)},
		"other policies": {past: all(), now: chartStep(merged, "dev"), change: func(c *charts) {
			c.past[0].Step.Spec.Chart.Renders[0].Manifests = nil
		}},
		"another API of a cluster":                   {past: all(), now: chartStep(merged, "dev"), change: func(c *charts) { c.apis["dev"] = "v9" }},
		"another API of a cluster that is not asked": {past: all(), now: chartStep(merged, "dev"), change: func(c *charts) { c.apis["prod"] = "v9" }, reused: true},
		"an API that cannot be told":                 {past: all(), now: chartStep(merged, "dev"), change: func(c *charts) { c.apis["dev"], c.past[0].Manifests[0].API = "", "" }},
		"evidence that is gone":                      {past: all(), now: chartStep(merged, "dev"), change: func(c *charts) { c.past[0].Manifests = nil }},
		"a chart that cannot be packaged":            {past: all(), now: chartStep(merged, "dev"), change: func(c *charts) { c.broken = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCharts(c.past)
			if c.change != nil {
				c.change(k)
			}
			res := k.run(t, slipway.Run{}, c.now, "program")
			if (k.done == 0) != c.reused || (res.ReusedFrom == 4) != c.reused || res.Inputs == "" {
				t.Fatalf("%+v, done %d times", res, k.done)
			}
			if !c.reused {
				return
			}
			if k.packed != 1 || res.Artifacts[0].Tag != c.now.Chart.Version || res.Reason != "reused from run #4, packaged as "+c.now.Chart.Version || len(res.Manifests) != max(1, len(c.now.Chart.Renders)) {
				t.Errorf("%+v, packaged %d times", res, k.packed)
			}
		})
	}
}

// What a chart's result depends on makes other inputs; the commit that its version names does not.
func TestInputsOfCharts(t *testing.T) {
	t.Parallel()
	key := func(version string, change func(c *charts, s *slipway.PlanStep, r *slipway.Run)) string {
		s, run := chartStep(version, "dev"), slipway.Run{}
		c := newCharts(s)
		c.past = nil
		change(c, &s, &run)
		return c.run(t, run, s, "program").Inputs
	}
	none := func(*charts, *slipway.PlanStep, *slipway.Run) {}
	same := key(merged, none)
	if same == "" || key("0.0.0-pr.7.g1234567", none) != same {
		t.Error("another commit: other inputs")
	}
	released := key("1.0.0", none)
	if released == same || key("1.0.1", none) == released || key("1.0.0", none) != released {
		t.Error("the version of a release does not count")
	}
	keys := map[string]string{"": same}
	for name, change := range map[string]func(c *charts, s *slipway.PlanStep, r *slipway.Run){
		"files":      func(c *charts, _ *slipway.PlanStep, _ *slipway.Run) { c.tree = "t2" },
		"folder":     func(_ *charts, s *slipway.PlanStep, _ *slipway.Run) { s.Chart.Source.Dir = "charts/cart" },
		"service":    func(_ *charts, s *slipway.PlanStep, _ *slipway.Run) { s.Chart.Service = "mail" },
		"repository": func(_ *charts, s *slipway.PlanStep, _ *slipway.Run) { s.Chart.Image.Name = "shop/mail" },
		"standard":   func(_ *charts, s *slipway.PlanStep, _ *slipway.Run) { s.Chart.Source.Dir = "" },
		"port":       func(_ *charts, s *slipway.PlanStep, _ *slipway.Run) { s.Chart.Source.Dir, s.Chart.Port = "", 80 },
		"fork":       func(_ *charts, _ *slipway.PlanStep, r *slipway.Run) { r.Fork = true },
	} {
		keys[name] = key(merged, change)
	}
	if all := slices.Sorted(maps.Values(keys)); len(slices.Compact(all)) != len(keys) {
		t.Errorf("inputs are the same: %v", keys)
	}
	if got := key(merged, func(_ *charts, s *slipway.PlanStep, _ *slipway.Run) { s.Chart.Port = 80 }); got != same {
		t.Error("the port counts beside a chart")
	}
	c := newCharts(chartStep(merged, "dev"))
	if other := c.run(t, slipway.Run{}, chartStep(merged, "dev"), "another program"); other.Inputs == same {
		t.Error("another program: the same inputs")
	}
	if res := c.run(t, slipway.Run{}, chartStep(merged, "dev"), ""); res.Inputs != "" || c.done != 1 || strings.Contains(res.Reason, "reused") {
		t.Errorf("a program that is not known: %+v", res)
	}
}

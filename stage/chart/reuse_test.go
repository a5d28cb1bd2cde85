package chart_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/reuse"
)

// checked remembers the results of chart steps.
type checked struct {
	reuse.Repo
	past map[string]slipway.Earlier // by inputs
}

func (c *checked) TreeHash(context.Context, string, string) (string, error) { return "tree", nil }

func (c *checked) Earlier(_ context.Context, _, inputs string, fits func(slipway.PlanStep) bool) (slipway.Earlier, bool, error) {
	e, ok := c.past[inputs]
	return e, ok && fits(e.Step.Spec), nil
}

func reusing(helm *helmchart.Helm, past *checked) reuse.Chart {
	inner := chart.New(helm, &kubeschema.Library{}, chart.Options{Tracer: helm})
	return reuse.Chart{Inner: inner, Past: past, Version: "program", Repo: func(string) reuse.Repo { return past }}
}

// A chart that a pull request checked is packaged for the merge as it would be when it was checked again, with
// the same evidence.
func TestTheMergeOfACheckedChart(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	pull := unpack(t, goodChart, tree)
	pull.Chart.Version = "0.0.0-pr.7.g1234567"
	merge := pull
	merge.Chart = new(slipway.ChartSpec)
	*merge.Chart = *pull.Chart
	merge.Chart.Version, merge.Chart.Renders = "0.0.0-main.20260102030405.g1234567", pull.Chart.Renders[:1]

	helm, past := helmchart.New(helmchart.Options{Timeout: patience}), &checked{}
	r := reusing(helm, past)
	first, err := r.Run(t.Context(), newEnv(t, tree).Env, pull)
	if err != nil || first.Outcome != slipway.Succeeded || first.Inputs == "" || first.ReusedFrom != 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	past.past = map[string]slipway.Earlier{first.Inputs: {Step: slipway.Step{RunID: 5, Spec: pull}, Manifests: first.Manifests}}

	env := newEnv(t, tree)
	got, err := r.Run(t.Context(), env.Env, merge)
	if err != nil || got.Outcome != slipway.Succeeded || got.ReusedFrom != 5 || got.Inputs != first.Inputs {
		t.Fatalf("%+v, %v\n%s", got, err, env.log.text())
	}
	want, err := r.Inner.Run(t.Context(), newEnv(t, tree).Env, merge)
	if err != nil || want.Artifacts[0].Digest != got.Artifacts[0].Digest || want.Artifacts[0].Tag != got.Artifacts[0].Tag {
		t.Errorf("packaged %+v, want %+v (%v)", got.Artifacts, want.Artifacts, err)
	}
	if len(got.Manifests) != 1 || !reflect.DeepEqual(got.Manifests[0], first.Manifests[0]) || got.Manifests[0].Environment != want.Manifests[0].Environment {
		t.Errorf("evidence %+v", got.Manifests)
	}
	if text := env.log.text(); strings.Contains(text, "rendered") {
		t.Errorf("the log:\n%s", text)
	}
}

// BenchmarkReused is what a chart of 100 resources costs that is checked for three environments, and that was.
func BenchmarkReused(b *testing.B) {
	for _, known := range []bool{false, true} {
		b.Run(map[bool]string{false: "checked", true: "reused"}[known], func(b *testing.B) {
			tree := b.TempDir()
			write(b, tree, "chart/Chart.yaml", "apiVersion: v2\nname: delivery\nversion: 0.1.0\n")
			write(b, tree, "chart/values.yaml", "a: b\n")
			write(b, tree, "chart/templates/all.yaml", hundred(false))
			step := parseStep(b, "env: development shop-development\nenv: qa shop-qa\nenv: production shop-production")
			past := &checked{}
			r := reusing(helmchart.New(helmchart.Options{Timeout: patience}), past)
			first, err := r.Run(b.Context(), newEnv(b, tree).Env, step)
			if err != nil || first.Outcome != slipway.Succeeded {
				b.Fatal(first, err)
			}
			if known {
				past.past = map[string]slipway.Earlier{first.Inputs: {Step: slipway.Step{RunID: 5, Spec: step}, Manifests: first.Manifests}}
			}
			for b.Loop() {
				res, err := r.Run(b.Context(), newEnv(b, tree).Env, step)
				if err != nil || res.Outcome != slipway.Succeeded || (res.ReusedFrom == 5) != known {
					b.Fatal(res, err)
				}
			}
		})
	}
}

package chart_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate/manifest"
)

// The standard chart and those of the example pass every policy, production's and the restricted Pod
// Security Standard among them.
func TestOwnChartsPassEveryPolicy(t *testing.T) {
	t.Parallel()
	tree, err := filepath.Abs("../../examples/shop")
	if err != nil {
		t.Fatal(err)
	}
	levels := map[string]slipway.Level{}
	for _, p := range manifest.Policies() {
		levels[p.Name] = slipway.LevelFail
	}
	for dir, port := range map[string]int{"": 8080, "src/orders/chart": 0, "src/shipping/delivery/chart": 0} {
		step := parseStep(t, "")
		step.Chart.Source.Dir, step.Chart.Port = dir, port
		step.Chart.Renders = []slipway.ChartRender{{Environment: "production", Namespace: "shop-production", Production: true,
			Manifests: &slipway.ManifestGate{Policies: levels, PodSecurity: "restricted", Registries: []string{"registry.slipway.test"}}}}
		if dir != "" {
			parts := strings.Split(dir, "/")
			step.Chart.Service = parts[len(parts)-2]
			step.Chart.Image.Name = "shop/" + step.Chart.Service
		}
		env := newEnv(t, tree)
		res, err := newRunner(t).Run(t.Context(), env.Env, step)
		if err != nil || res.Outcome != slipway.Succeeded || len(res.Manifests) != 1 {
			t.Fatalf("%q: %+v, %v\n%s", dir, res, err, env.log.text())
		}
		for _, p := range res.Manifests[0].Problems {
			t.Errorf("%q: %+v", dir, p)
		}
	}
}

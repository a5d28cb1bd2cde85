package deploy

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"testing"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/kube"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/verify"
)

// TestUpgradeOverhead compares upgrades through Slipway with the SDK called directly, taking turns in
// one run: applying alone, and until the workloads are ready.
func TestUpgradeOverhead(t *testing.T) {
	if os.Getenv("SLIPWAY_E2E_BENCH") == "" {
		t.Skip("takes a minute: SLIPWAY_E2E_BENCH=1")
	}
	w := newWorld(t)
	w.must(t, version{run: 1, name: "v1.0.0", image: 0})
	cfg := w.sdk(t)
	const rounds = 15
	took := map[string][]time.Duration{}
	measure := func(what string, f func()) {
		w.calm(t) // nobody pays for the rollout before
		began := time.Now()
		f()
		took[what] = append(took[what], time.Since(began))
	}
	for i := range rounds {
		for _, wait := range []bool{false, true} {
			run := int64(100 + 10*i)
			suffix, strategy := "", kube.HookOnlyStrategy
			if wait {
				run, suffix, strategy = run+5, " and wait", kube.StatusWatcherStrategy
			}
			values := fmt.Sprintf("greeting: g%d\n", run)
			measure("SDK"+suffix, func() { w.direct(t, cfg, values, strategy) })
			v := version{run: run + 1, name: "v1.0.0", image: 0, values: fmt.Sprintf("greeting: g%d\n", run+1)}
			measure("Slipway"+suffix, func() {
				res, l := w.deploy(t, v)
				if res.Outcome != slipway.Succeeded {
					t.Fatal(res.Reason, l)
				}
				if wait {
					w.ready(t, v, res.Deployments[0])
				}
			})
		}
	}
	p50 := func(what string) time.Duration {
		slices.Sort(took[what])
		return took[what][rounds/2]
	}
	for _, suffix := range []string{"", " and wait"} {
		sdk, ours := p50("SDK"+suffix), p50("Slipway"+suffix)
		t.Logf("upgrade%s, p50 of %d: SDK %s, Slipway %s: %.2f times", suffix, rounds, sdk.Round(time.Millisecond), ours.Round(time.Millisecond), float64(ours)/float64(sdk))
	}
}

// ready verifies without the chart's tests.
func (w *world) ready(t *testing.T, v version, d slipway.Deployment) {
	env, spec, l := w.env(t, v)
	spec.Target.Tests, d.Target.Tests = false, false
	env.Deployments = []slipway.Deployment{d}
	var r stage.Runner = &verify.Runner{Helm: w.helm, Cluster: w.kube}
	res, err := r.Run(t.Context(), env, slipway.PlanStep{Key: verifyKey, Verify: &slipway.VerifySpec{Target: spec.Target}})
	if err != nil || res.Outcome != slipway.Succeeded {
		t.Fatal(res.Reason, err, l)
	}
}

// calm waits until the last rollout is over.
func (w *world) calm(t *testing.T) {
	t.Helper()
	rel, err := w.helm.Deployed(t.Context(), w.target())
	if err != nil {
		t.Fatal(err)
	}
	judge := verify.NewJudge(verify.Rules{}, "", "")
	if err := w.kube.Watch(t.Context(), w.target(), rel.Manifest, func(o verify.Observed) bool {
		return judge.Look(o).Done
	}); err != nil {
		t.Fatal(err)
	}
}

// sdk is Helm's own configuration for the test's namespace. It is used for every direct upgrade, so
// that discovery and connections are kept, as Slipway keeps its own.
func (w *world) sdk(t *testing.T) *action.Configuration {
	t.Helper()
	settings := cli.New()
	settings.KubeConfig, settings.QPS, settings.BurstLimit = os.Getenv("KUBECONFIG"), 200, 400
	settings.SetNamespace(w.namespace)
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := cfg.Init(settings.RESTClientGetter(), w.namespace, "secret"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// direct is an upgrade as a program that uses the SDK makes it.
func (w *world) direct(t *testing.T, cfg *action.Configuration, values string, strategy kube.WaitStrategy) {
	t.Helper()
	ch, err := loader.LoadArchive(bytes.NewReader(pack(t, "v1.0.0", "")))
	if err != nil {
		t.Fatal(err)
	}
	vals, err := loader.LoadValues(bytes.NewReader([]byte(values)))
	if err != nil {
		t.Fatal(err)
	}
	vals["image"] = map[string]any{"repository": w.host + "/hk/delivery", "tag": "v1.0.0@" + w.images[0]}
	up := action.NewUpgrade(cfg)
	up.Namespace, up.WaitStrategy, up.Timeout, up.MaxHistory, up.ForceConflicts = w.namespace, strategy, time.Minute, 5, true
	if _, err := up.RunWithContext(t.Context(), "delivery", ch, vals); err != nil {
		t.Fatal(err)
	}
}

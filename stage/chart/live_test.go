package chart_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage/chart"
)

// clusters stands in for registered ones: local answers, the others do not.
type clusters struct {
	mu    sync.Mutex
	asked []string
	gone  bool
}

func (c *clusters) OpenAPI(_ context.Context, cluster, tag string) (chart.OpenAPI, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, cluster+" "+tag)
	switch {
	case c.gone || cluster != "local":
		return chart.OpenAPI{}, slipway.Errorf(slipway.Unavailable, "cluster %s does not answer", cluster)
	case tag == "one":
		return chart.OpenAPI{Tag: "one"}, nil
	}
	return chart.OpenAPI{Tag: "one", Data: []byte(`{"info":{"version":"v1.24.1"},
"paths":{"/apis/example.org/v1/namespaces/{namespace}/things":{"post":{"x-kubernetes-action":"post","x-kubernetes-group-version-kind":{"group":"example.org","version":"v1","kind":"Thing"}}},
 "/apis/policy/v1beta1/namespaces/{namespace}/poddisruptionbudgets":{"post":{"x-kubernetes-action":"post","x-kubernetes-group-version-kind":{"group":"policy","version":"v1beta1","kind":"PodDisruptionBudget"}}}},
"definitions":{"org.example.v1.Thing":{"type":"object","properties":{"apiVersion":{"type":"string"},"kind":{"type":"string"},"metadata":{"type":"object"},"spec":{"type":"object","properties":{"size":{"type":"integer"}}}},
 "x-kubernetes-group-version-kind":[{"group":"example.org","version":"v1","kind":"Thing"}]},
 "pdb":{"type":"object","x-kubernetes-group-version-kind":[{"group":"policy","version":"v1beta1","kind":"PodDisruptionBudget"}]}}}`)}, nil
}

const liveChart = `
-- chart/Chart.yaml --
apiVersion: v2
name: delivery
version: 0.1.0
-- chart/values.yaml --
size: big
-- chart/crds/gadget.yaml --
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.example.org}
spec: {group: example.org, scope: Namespaced, names: {plural: gadgets, kind: Gadget}, versions: [{name: v1, served: true, storage: true}]}
-- chart/templates/things.yaml --
apiVersion: example.org/v1
kind: Thing
metadata:
  name: one
spec:
  size: {{ .Values.size }}
---
apiVersion: example.org/v1
kind: Gadget
metadata:
  name: of-the-chart-itself
---
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata:
  name: {{ .Capabilities.KubeVersion.Version }}-{{ .Capabilities.APIVersions.Has "example.org/v1/Thing" }}
`

func TestClusterIsAsked(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := parseStep(t, "env: qa shop-qa\nenv: staging shop-staging\nenv: production shop-production")
	unpackText(t, liveChart, tree)
	for i := range step.Chart.Renders {
		step.Chart.Renders[i].Cluster = "local"
	}
	step.Chart.Renders[2].Cluster = "far"
	helm := helmchart.New(helmchart.Options{Timeout: patience})
	asked := &clusters{}
	runner := chart.New(helm, &kubeschema.Library{}, chart.Options{Tracer: helm, Clusters: asked})
	now := created
	run := func() []slipway.ManifestReport {
		env := newEnv(t, tree)
		env.Now = func() time.Time { return now }
		res, err := runner.Run(t.Context(), env.Env, step)
		if err != nil || res.Outcome != slipway.Succeeded || len(res.Manifests) != 3 {
			t.Fatalf("%+v, %v\n%v", res, err, env.log.lines)
		}
		if now.Equal(created) && !strings.Contains(env.log.text(), "cluster far was not asked for its API (cluster far does not answer); the schema of v1.37.1 that ships with Slipway is used") {
			t.Errorf("the log does not say what was asked:\n%s", env.log.text())
		}
		return res.Manifests
	}
	reports := run()
	for i, want := range []struct {
		live              bool
		version, problems string
	}{
		{true, "v1.24.1", "deprecated-api PodDisruptionBudget/v1.24.1-true chart/templates/things.yaml:13 ; schema Thing/one chart/templates/things.yaml:6 chart/values.yaml:1"},
		{true, "v1.24.1", "deprecated-api PodDisruptionBudget/v1.24.1-true chart/templates/things.yaml:13 ; schema Thing/one chart/templates/things.yaml:6 chart/values.yaml:1"},
		{false, "v1.37.1", "removed-api PodDisruptionBudget/v1.37.1-false chart/templates/things.yaml:13 "},
	} {
		var problems []string
		for _, p := range reports[i].Problems {
			if p.Policy != "standard-labels" {
				problems = append(problems, p.Subject()+" "+p.Place+" "+p.Values)
			}
		}
		if r := reports[i]; r.Live != want.live || r.KubeVersion != want.version || strings.Join(problems, "; ") != want.problems {
			t.Errorf("%s: live %t, %s, %q", r.Environment, r.Live, r.KubeVersion, problems)
		}
	}
	apis := func(want string) {
		t.Helper()
		env := newEnv(t, tree)
		env.Now = func() time.Time { return now }
		got, err := runner.APIs(t.Context(), env.Env, step)
		if err != nil || len(got) != 3 || got["qa"] != want || got["staging"] != want || got["production"] != "" {
			t.Errorf("APIs %q, %v, want %q", got, err, want)
		}
	}
	apis("served v1.24.1 one")
	for i, want := range []string{"served v1.24.1 one", "served v1.24.1 one", ""} {
		if reports[i].API != want {
			t.Errorf("the report of %s names API %q", reports[i].Environment, reports[i].API)
		}
	}
	run()
	if len(asked.asked) != 2 {
		t.Errorf("asked again at once: %q", asked.asked)
	}
	now = now.Add(time.Minute)
	if again := run(); !again[0].Live || len(asked.asked) != 4 {
		t.Errorf("live %t, asked %q", again[0].Live, asked.asked)
	}
	now, asked.gone = now.Add(time.Minute), true
	if gone := run(); gone[0].Live || gone[0].KubeVersion != "v1.37.1" {
		t.Errorf("a cluster that is gone: %+v", gone[0])
	}
}

// A kind that was defined after the cluster was asked is looked for again at once.
func TestNewKindOfTheCluster(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := parseStep(t, "env: qa shop-qa")
	unpackText(t, strings.ReplaceAll(liveChart, "Thing", "Widget"), tree)
	step.Chart.Renders[0].Cluster = "local"
	helm := helmchart.New(helmchart.Options{Timeout: patience})
	asked := &growing{}
	runner := chart.New(helm, &kubeschema.Library{}, chart.Options{Tracer: helm, Clusters: asked})
	now := created
	for i, want := range []string{"has no Widget", "has no Widget", "size"} { // asked; asked a moment ago; defined since
		asked.defined = i > 0
		env := newEnv(t, tree)
		env.Now = func() time.Time { return now }
		res, err := runner.Run(t.Context(), env.Env, step)
		if err != nil || len(res.Manifests) != 1 {
			t.Fatalf("%+v, %v\n%v", res, err, env.log.lines)
		}
		said := ""
		for _, p := range res.Manifests[0].Problems {
			if p.Subject() == "schema Widget/one" {
				said += p.Path + " " + p.Message
			}
		}
		if !strings.Contains(said, want) {
			t.Errorf("round %d: %s, want %s", i+1, said, want)
		}
		now = now.Add(time.Duration(i) * 10 * time.Second)
	}
}

// growing is a cluster in which somebody defines a kind.
type growing struct {
	clusters
	defined bool
}

func (g *growing) OpenAPI(ctx context.Context, cluster, tag string) (chart.OpenAPI, error) {
	doc, err := g.clusters.OpenAPI(ctx, cluster, "")
	if g.defined {
		doc.Tag, doc.Data = "two", []byte(strings.ReplaceAll(string(doc.Data), "Thing", "Widget"))
	}
	return doc, err
}

func TestCancelledWhileAsking(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := unpack(t, goodChart, tree)
	step.Chart.Renders[0].Cluster = "local"
	ctx, cancel := context.WithCancelCause(t.Context())
	helm := helmchart.New(helmchart.Options{Timeout: patience})
	runner := chart.New(helm, &kubeschema.Library{}, chart.Options{Clusters: asking(func() { cancel(slipway.ErrTimeout) })})
	if _, err := runner.Run(ctx, newEnv(t, tree).Env, step); !errors.Is(err, slipway.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

type asking func()

func (f asking) OpenAPI(ctx context.Context, _, _ string) (chart.OpenAPI, error) {
	f()
	<-ctx.Done()
	return chart.OpenAPI{}, context.Cause(ctx)
}

func TestMinor(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]chart.Minor{
		"v1.36.3": {Major: 1, Minor: 36}, "1.9": {Major: 1, Minor: 9}, "v1.31.5-gke.1": {Major: 1, Minor: 31}, "v1.30+": {Major: 1, Minor: 30},
		"": {}, "v1": {}, "x.y": {}, "v-1.3": {},
	} {
		if got := chart.ParseMinor(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
	v := chart.Minor{Major: 1, Minor: 22}
	for at, want := range map[string]bool{"v1.21.9": false, "v1.22.0": true, "v1.30.0": true, "v2.0.0": true, "": false} {
		if v.Reached(chart.ParseMinor(at)) != want {
			t.Errorf("%q", at)
		}
	}
}

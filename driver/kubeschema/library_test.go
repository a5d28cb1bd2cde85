package kubeschema

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/stage/chart"
)

var _ chart.Schemas = (*Library)(nil)

func TestNearestVersion(t *testing.T) {
	t.Parallel()
	all := []string{"v1.33.13", "v1.35.6", "v1.37.1"}
	for version, want := range map[string]string{
		"": "v1.37.1", "nonsense": "v1.37.1", "v1.35.0-gke.1": "v1.35.6", "1.33": "v1.33.13", "v1.34.2": "v1.35.6",
		"v1.20.0": "v1.33.13", "v1.99.0": "v1.37.1", "v2.0.0": "v1.37.1",
	} {
		if got := nearestVersion(version, all); got != want {
			t.Errorf("%q: %s, want %s", version, got, want)
		}
	}
}

func TestShippedVersions(t *testing.T) {
	t.Parallel()
	var l Library
	if len(versions()) < 3 {
		t.Fatalf("only %v", versions())
	}
	for _, v := range versions() {
		s, err := l.Shipped(v)
		if err != nil || s.Version() != v {
			t.Fatalf("%s: %v, %v", v, s, err)
		}
		if again, err := l.Shipped(v); err != nil || again != s {
			t.Errorf("%s was read twice, %v", v, err)
		}
		if got := s.Check(object(t, deployment)); len(got.Problems) > 0 || !got.Known {
			t.Errorf("%s: %+v", v, got)
		}
		if got := s.Check(object(t, strings.Replace(deployment, "IfNotPresent", "always", 1))); len(got.Problems) != 1 {
			t.Errorf("%s has no enumerations: %+v", v, got)
		}
	}
}

// TestLifecyclesFitTheSchemas: what the markers say is gone is not in the schema of that version.
func TestLifecyclesFitTheSchemas(t *testing.T) {
	t.Parallel()
	var l Library
	for _, v := range versions() {
		s, err := read(v)
		if err != nil {
			t.Fatal(err)
		}
		at := chart.ParseMinor(v)
		for kind, byVersion := range s.byKind {
			for av := range byVersion {
				if life, ok := l.Lifecycle(av, kind); ok && life.Removed.Reached(at) {
					t.Errorf("%s has %s %s, which is removed in %s", v, av, kind, life.Removed)
				}
			}
		}
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	var l Library
	for said, want := range map[string]string{
		"extensions/v1beta1 Deployment":               "v1.8 v1.16 apps/v1 Deployment",
		"extensions/v1beta1 Ingress":                  "v1.14 v1.22 networking.k8s.io/v1 Ingress",
		"policy/v1beta1 PodSecurityPolicy":            "v1.21 v1.25 ",
		"policy/v1beta1 PodDisruptionBudget":          "v1.21 v1.25 policy/v1 PodDisruptionBudget",
		"batch/v1beta1 CronJob":                       "v1.21 v1.25 batch/v1 CronJob",
		"autoscaling/v2beta2 HorizontalPodAutoscaler": "v1.23 v1.26 autoscaling/v2 HorizontalPodAutoscaler",
	} {
		av, kind, _ := strings.Cut(said, " ")
		life, ok := l.Lifecycle(av, kind)
		if got := life.Deprecated.String() + " " + life.Removed.String() + " " + life.Replacement; !ok || got != want {
			t.Errorf("%s: %s, %t", said, got, ok)
		}
	}
	if life, ok := l.Lifecycle("apps/v1", "Deployment"); ok && life.Deprecated != (chart.Minor{}) {
		t.Errorf("apps/v1 Deployment: %+v", life)
	}
	if _, ok := l.Lifecycle("example.org/v1", "Thing"); ok {
		t.Error("a custom resource has a lifecycle")
	}
}

const served = `{"info":{"version":"v1.35.2+k3s1"},
"paths":{"/apis/example.org/v1/namespaces/{namespace}/things":{"post":{"x-kubernetes-action":"post","x-kubernetes-group-version-kind":{"group":"example.org","version":"v1","kind":"Thing"}}},
 "/apis/example.org/v1/alls":{"post":{"x-kubernetes-action":"post","x-kubernetes-group-version-kind":{"group":"example.org","version":"v1","kind":"All"}}}},
"definitions":{"org.example.v1.Thing":{"type":"object","required":["spec"],"properties":{"apiVersion":{"type":"string"},"kind":{"type":"string"},"metadata":{"$ref":"#/definitions/meta"},
 "spec":{"type":"object","properties":{"size":{"type":"integer"},"mode":{"type":"string","enum":["a","b"]},"port":{"x-kubernetes-int-or-string":true},"open":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"properties":{"a":{"type":"string"}}}}}},
 "x-kubernetes-group-version-kind":[{"group":"example.org","version":"v1","kind":"Thing"}]},
 "meta":{"type":"object","properties":{"name":{"type":"string"}}},
 "org.example.v1.All":{"type":"object","pattern":"(","x-kubernetes-group-version-kind":[{"group":"example.org","version":"v1","kind":"All"}]}}}`

func TestServedByACluster(t *testing.T) {
	t.Parallel()
	var l Library
	s, err := l.Served(chart.OpenAPI{Data: []byte(served)})
	if err != nil {
		t.Fatal(err)
	}
	if s.Version() != "v1.35.2+k3s1" || !strings.Contains(strings.Join(s.APIVersions(), " "), "example.org/v1/Thing") {
		t.Errorf("%s: %v", s.Version(), s.APIVersions())
	}
	for text, want := range map[string]string{
		`{apiVersion: example.org/v1, kind: Thing, metadata: {name: a}, spec: {size: 1, mode: a, port: http, open: {b: 1}}}`: "",
		`{apiVersion: example.org/v1, kind: Thing, metadata: {name: a}, spec: {size: big, mode: c, prt: 1}}`: `spec.mode: must be one of a, b, is the text "c"|` +
			`spec.prt: unknown field|spec.size: must be a whole number, is the text "big"`,
		`{apiVersion: example.org/v1, kind: Thing, metadata: {name: a}}`:           "spec: required, but missing",
		`{apiVersion: example.org/v2, kind: Thing, metadata: {name: a}, spec: {}}`: "apiVersion: Thing is in example.org/v1, not example.org/v2 (Kubernetes v1.35.2+k3s1)",
		`{apiVersion: example.org/v1, kind: All, x: 1}`:                            "",
	} {
		if v := s.Check(object(t, text)); strings.Join(texts(v), "|") != want || !v.Known {
			t.Errorf("%s: %+v", text, v)
		}
	}
	if v := s.Check(object(t, `{apiVersion: other.org/v1, kind: Thing}`)); v.Known {
		t.Errorf("%+v", v)
	}
}

func TestServedByWhatIsNoCluster(t *testing.T) {
	t.Parallel()
	var l Library
	for _, doc := range []string{"", "null", "[]", "{}", `{"info":{"version":"v1.35.2"}}`, `{"definitions":{"a":7}}`, strings.Replace(served, "v1.35.2+k3s1", "x", 1)} {
		if s, err := l.Served(chart.OpenAPI{Data: []byte(doc)}); err == nil {
			t.Errorf("%.40q: %v", doc, s.Version())
		}
	}
}

// FuzzServed makes sure that no document makes the check panic.
func FuzzServed(f *testing.F) {
	f.Add([]byte(served))
	f.Add([]byte(`{"info":{"version":"v1.1"},"paths":{"/a":{"post":{"x-kubernetes-action":"post","x-kubernetes-group-version-kind":{"kind":"A","version":"v1"}}}},"definitions":{"a":{"$ref":"#/definitions/a","x-kubernetes-group-version-kind":[{"kind":"A","version":"v1"}]}}}`))
	f.Fuzz(func(_ *testing.T, doc []byte) {
		var l Library
		s, err := l.Served(chart.OpenAPI{Data: doc})
		if err != nil {
			return
		}
		s.APIVersions()
		s.Check(map[string]any{"apiVersion": "v1", "kind": "A", "spec": map[string]any{"a": []any{}}})
	})
}

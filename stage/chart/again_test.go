package chart_test

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/chart"
)

const podOfWeb = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
      containers:
        - {name: web, image: registry.test/shop/web:v1, securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
        - {name: proxy, image: "docker.io/envoyproxy/envoy:v1", securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [NET_RAW]}}}
`

// What a policy finds by its settings is found anew by other settings, with the places that are known; what it finds
// without stays.
func TestAgain(t *testing.T) {
	t.Parallel()
	own := slipway.Repository{Registry: slipway.Registry{Host: "registry.test"}, Name: "shop/web"}
	recorded := slipway.ManifestReport{Environment: "qa",
		Objects: []slipway.ManifestObject{{Name: "Deployment/web", Template: "chart/templates/web.yaml", YAML: podOfWeb}},
		Problems: []slipway.ManifestProblem{
			{Policy: "probes", Object: "Deployment/web", Message: "no probes", Place: "chart/templates/web.yaml:9"},
			{Policy: "registry", Object: "Deployment/web", Path: "spec.template.spec.containers[proxy].image", Message: "of before", Place: "chart/templates/web.yaml:10", Values: "chart/values.yaml:3"},
		}}
	for name, c := range map[string]struct {
		change func(*slipway.ManifestReport)
		gate   slipway.ManifestGate
		want   string
	}{
		"nothing is asked": {nil, slipway.ManifestGate{PodSecurity: "privileged"}, "probes Deployment/web chart/templates/web.yaml:9"},
		"baseline":         {nil, slipway.ManifestGate{}, "probes Deployment/web chart/templates/web.yaml:9"},
		"registries": {nil, slipway.ManifestGate{Registries: []string{"ghcr.io"}},
			"probes Deployment/web chart/templates/web.yaml:9, registry Deployment/web chart/templates/web.yaml:10 chart/values.yaml:3"},
		"allowed": {nil, slipway.ManifestGate{Registries: []string{"ghcr.io", "docker.io/envoyproxy"}}, "probes Deployment/web chart/templates/web.yaml:9"},
		"restricted": {nil, slipway.ManifestGate{PodSecurity: "restricted"},
			"probes Deployment/web chart/templates/web.yaml:9, pod-security Deployment/web chart/templates/web.yaml"},
		"not recorded": {func(r *slipway.ManifestReport) { r.Objects[0].YAML = "" }, slipway.ManifestGate{PodSecurity: "restricted"},
			"probes Deployment/web chart/templates/web.yaml:9, registry Deployment/web chart/templates/web.yaml:10 chart/values.yaml:3, registry Deployment/web chart/templates/web.yaml, pod-security Deployment/web chart/templates/web.yaml"},
		"a large ConfigMap": {func(r *slipway.ManifestReport) {
			r.Objects, r.Problems = []slipway.ManifestObject{{Name: "ConfigMap/pages"}}, nil
		}, slipway.ManifestGate{PodSecurity: "restricted"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recorded
			r.Objects = append([]slipway.ManifestObject(nil), recorded.Objects...)
			if c.change != nil {
				c.change(&r)
			}
			var got []string
			for _, p := range chart.Again(r, own, c.gate).Problems {
				got = append(got, strings.TrimSpace(p.Subject()+" "+p.Place+" "+p.Values))
			}
			if s := strings.Join(got, ", "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
			if len(recorded.Problems) != 2 || recorded.Problems[1].Message != "of before" {
				t.Error("the record was changed")
			}
		})
	}
}

package chart_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// What is recorded of objects shows neither Secrets nor what a policy took for a secret.
func TestReportIsMasked(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := parseStep(t, "env: qa shop-qa\npolicies: defaults")
	unpackText(t, `
-- chart/Chart.yaml --
apiVersion: v2
name: delivery
version: 0.1.0
-- chart/values.yaml --
password: s3cr3t-Val-9
-- chart/templates/a.yaml --
apiVersion: v1
kind: Secret
metadata:
  name: a
stringData: {password: {{ .Values.password }}, url: "postgres://u:{{ .Values.password }}@db/a"}
data: {token: {{ .Values.password | b64enc }}}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: b
data:
  PASSWORD: {{ .Values.password }}
  file.properties: |
    a=1
    db.password={{ .Values.password }}
  count: "7"
---
apiVersion: v1
kind: Pod
metadata: {name: c}
spec:
  containers:
  - name: c
    image: nginx:1
    env: [{name: API_TOKEN, value: {{ .Values.password }}}]
    args: [--password={{ .Values.password }}]
`, tree)
	env := newEnv(t, tree)
	res, err := newRunner(t).Run(t.Context(), env.Env, step)
	if err != nil || len(res.Manifests) != 1 || len(res.Manifests[0].Objects) != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	text := string(mustJSON(t, res)) + env.log.text()
	for _, secret := range []string{"s3cr3t-Val-9", "czNjcjN0LVZhbC05"} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is told: %s", secret, text)
		}
	}
	found := 0
	for _, p := range res.Manifests[0].Problems {
		if p.Policy == "plain-secret" {
			found++
		}
	}
	if found != 7 {
		t.Errorf("%d secrets were found: %+v", found, res.Manifests[0].Problems)
	}
	for i, want := range []string{"token: (masked)", "count: \"7\"", "image: nginx:1"} {
		if o := res.Manifests[0].Objects[i]; !strings.Contains(o.YAML, want) || o.Template != "chart/templates/a.yaml" {
			t.Errorf("%s of %s has no %s:\n%s", o.Name, o.Template, want, o.YAML)
		}
	}
}

func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := parseStep(t, "env: qa shop-qa\npolicies: defaults")
	unpackText(t, `
-- chart/Chart.yaml --
apiVersion: v2
name: delivery
version: 0.1.0
-- chart/values.yaml --
{}
-- chart/templates/a.yaml --
{{- range until 400 }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: a-{{ . }}
data:
  x: {{ repeat 5000 "x" }}
  {{- range until 50 }}
  PASSWORD_{{ . }}_PASSWORD: hunter22
  {{- end }}
{{- end }}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: big}
data: {x: {{ repeat 100000 "x" }}}
`, tree)
	res, err := newRunner(t).Run(t.Context(), newEnv(t, tree).Env, step)
	if err != nil || len(res.Manifests) != 1 {
		t.Fatal(res.Reason, err)
	}
	r := res.Manifests[0]
	if len(r.Objects) != 401 || len(r.Problems) != 1000 {
		t.Errorf("%d objects, %d problems", len(r.Objects), len(r.Problems))
	}
	text := string(mustJSON(t, res))
	if len(text) > 2<<20 {
		t.Errorf("%d bytes", len(text))
	}
	if strings.Contains(text, "hunter22") {
		t.Error("a secret beyond the bound of problems is told")
	}
}

func mustJSON(t *testing.T, v slipway.Result) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

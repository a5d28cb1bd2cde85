package chart_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage/chart"
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
stringdata: {password: {{ .Values.password }}}
more: [{{ .Values.password }}]
even: {{ .Values.password }}
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
  DB_PASSWORD: 987654
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
	for _, secret := range []string{"s3cr3t-Val-9", "czNjcjN0LVZhbC05", "987654"} {
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
	if found != 8 {
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
  x: {{ repeat 3000 "x" }}
  {{- range until 25 }}
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

// Whatever a chart renders, the step ends with a report.
func TestOddObjects(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := unpack(t, goodChart, tree)
	helm := helmchart.New(helmchart.Options{Timeout: patience})
	library := &kubeschema.Library{}
	word := rapid.SampledFrom([]string{"apiVersion", "kind", "metadata", "name", "namespace", "annotations", "labels", "spec", "template", "containers", "image",
		"data", "stringData", "env", "value", "password", "items", "group", "names", "v1", "apps/v1", "Secret", "Deployment", "List", "CustomResourceDefinition", "", "a/b", "[", "\x00", "\xff"})
	value := rapid.OneOf(rapid.Just[any](nil), rapid.Bool().AsAny(), word.AsAny(), rapid.Just[any](json.Number("7")), rapid.Just[any](json.Number("1e400")))
	for range 4 {
		inner := value
		value = rapid.OneOf(value, rapid.MapOfN(word, inner, 0, 4).AsAny(), rapid.SliceOfN(inner, 0, 3).AsAny())
	}
	fields := rapid.MapOfN(word, value, 0, 6)
	env := newEnv(t, tree)
	rapid.Check(t, func(t *rapid.T) {
		var objects []chart.Object
		for range rapid.IntRange(1, 3).Draw(t, "n") {
			o := fields.Draw(t, "object")
			o["apiVersion"], o["kind"] = rapid.OneOf(word.AsAny(), value).Draw(t, "apiVersion"), rapid.OneOf(word.AsAny(), value).Draw(t, "kind")
			objects = append(objects, chart.Object{Source: "templates/a.yaml", Fields: o})
		}
		what := []chart.Rendered{{Objects: objects}, {Objects: objects}}
		res, err := chart.New(rendered{helm, what}, library, chart.Options{Tracer: helm}).Run(context.Background(), env.Env, step)
		if err != nil || len(res.Manifests) != 2 || len(res.Manifests[0].Objects) != len(objects) {
			t.Fatalf("%+v, %v", res, err)
		}
	})
}

// A trace that does not work costs the lines, not the step.
func TestTraceThatFails(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := unpack(t, "testdata/policies.txtar", tree)
	env := newEnv(t, tree)
	res, err := chart.New(helmchart.New(helmchart.Options{Timeout: patience}), &kubeschema.Library{}, chart.Options{Tracer: broken{}}).Run(t.Context(), env.Env, step)
	if err != nil || res.Outcome != slipway.Succeeded || !strings.Contains(env.log.text(), "the lines that problems come from are not known: no process") {
		t.Errorf("%+v, %v\n%s", res.Outcome, err, env.log.text())
	}
	for _, p := range res.Manifests[0].Problems {
		if !strings.HasPrefix(p.Place, "chart/templates/") || strings.Contains(p.Place, ":") || p.Values != "" {
			t.Errorf("%+v", p)
		}
	}
}

type broken struct{}

func (broken) Trace(context.Context, chart.Chart, chart.Render, []chart.Field) ([]chart.Origin, error) {
	return nil, errors.New("no process")
}

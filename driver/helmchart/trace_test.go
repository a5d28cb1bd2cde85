package helmchart

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	helm "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/slipway-cd/slipway/stage/chart"
)

var _ chart.Tracer = (*Helm)(nil)

func tracedChart() chart.Chart {
	return files(map[string]string{
		"values.yaml": `replicas: 2
sidecar:
  repository: busybox
  tag: latest
privileged: true
user: 0
resources:
  requests:
    cpu: 10m
empty: {}
probes:
  enabled: false
mode: fast
config:
  PASSWORD: hunter22
  other: x
list:
- name: one
  value: first
- name: two
  value: second
own: 8080
pod: {}
`,
		"values-qa.yaml": `sidecar:
  tag: "1"
user: 0
`,
		"templates/_helpers.tpl": `{{- define "labels" -}}
app: {{ .Chart.Name }}
release: {{ .Release.Name }}
{{- end }}

{{- define "image" }}{{ .repository }}:{{ .tag }}{{ end }}
`,
		"templates/deployment.yaml": `{{- /* a comment
  key: value
*/}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}
  labels:
    {{- include "labels" . | nindent 4 }}
spec:
  replicas: {{ .Values.replicas }}
  template:
    spec: {{- with .Values.pod }}{{ toYaml . | nindent 6 }}{{ end }}
      containers:
      - name: web
        image: {{ include "image" .Values.sidecar | quote }}
        {{- if eq .Values.mode "fast" }}
        args: [--fast]
        {{- end }}
        securityContext:
          privileged: {{ .Values.privileged }}
          runAsUser: {{ .Values.user }}
        resources: {{- toYaml .Values.resources | nindent 10 }}
        {{- with .Values.empty }}
        lifecycle: {{- toYaml . | nindent 10 }}
        {{- end }}
        {{- if .Values.probes.enabled }}
        readinessProbe:
          tcpSocket: {port: 80}
        {{- end }}
        env:
        {{- range .Values.list }}
        - name: {{ .name }}
          value: {{ .value }}
        {{- end }}
        - name: HASH
          value: {{ .Values.mode | sha256sum }}
        - name: WEB
          value: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
`,
		"templates/config.yaml": `apiVersion: v1
kind: ConfigMap
metadata:
  name: first
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: second
data:
  {{- toYaml .Values.config | nindent 2 }}
  script: |
    key: value
    other: {{ .Values.own }}
  {{- range $k, $v := .Values.config }}
  {{ $k }}-again: {{ $v }}
  {{- end }}
`,
	})
}

func field(source, kind, name, keys string) chart.Field {
	return chart.Field{Source: source, Kind: kind, Name: name, Keys: strings.Split(keys, " ")}
}

// traceCases are fields with where they come from: template, values.
var traceCases = []struct {
	field chart.Field
	want  string
}{
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec replicas"), "templates/deployment.yaml:11 values.yaml:1"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 image"), "templates/deployment.yaml:16 values-qa.yaml:2"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 securityContext privileged"), "templates/deployment.yaml:21 values.yaml:5"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 securityContext runAsUser"), "templates/deployment.yaml:22 values-qa.yaml:3"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 securityContext runAsNonRoot"), "templates/deployment.yaml:20 -"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 resources limits memory"), "templates/deployment.yaml:23 values.yaml:7"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 lifecycle preStop"), "templates/deployment.yaml:15 values.yaml:10"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 lifecycle"), "templates/deployment.yaml:15 values.yaml:10"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec hostUsers"), "templates/deployment.yaml:13 values.yaml:23"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 livenessProbe"), "templates/deployment.yaml:15 -"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 readinessProbe"), "templates/deployment.yaml:15 values.yaml:12"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 args 0"), "templates/deployment.yaml:18 -"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 env 1 value"), "templates/deployment.yaml:34 values.yaml:21"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 env 2 value"), "templates/deployment.yaml:37 -"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "spec template spec containers 0 env 3 value"), "templates/deployment.yaml:39 -"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "metadata labels app"), "templates/_helpers.tpl:2 -"},
	{field("templates/deployment.yaml", "Deployment", "delivery", "metadata annotations"), "templates/deployment.yaml:6 -"},
	{field("templates/config.yaml", "ConfigMap", "first", "metadata name"), "templates/config.yaml:4 -"},
	{field("templates/config.yaml", "ConfigMap", "second", "data PASSWORD"), "templates/config.yaml:10 values.yaml:15"},
	{field("templates/config.yaml", "ConfigMap", "second", "data PASSWORD-again"), "templates/config.yaml:16 values.yaml:15"},
	{field("templates/config.yaml", "ConfigMap", "second", "data script"), "templates/config.yaml:12 values.yaml:22"},
	{field("templates/config.yaml", "ConfigMap", "third", "data script"), "- -"},
	{field("templates/none.yaml", "ConfigMap", "third", "data"), "- -"},
}

func originText(o chart.Origin) string {
	text := func(p chart.Place) string {
		if p.Line == 0 {
			return "-"
		}
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return text(o.Template) + " " + text(o.Values)
}

func TestTrace(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]*Helm{"here": New(Options{Timeout: patience}), "process": New(Options{Process: process(t), Timeout: patience})} {
		t.Cleanup(h.Close)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := render(nil)
			r.ValuesFiles = []string{"values-qa.yaml"}
			var fields []chart.Field
			for _, c := range traceCases {
				fields = append(fields, c.field)
			}
			got, err := h.Trace(t.Context(), tracedChart(), r, fields)
			if err != nil || len(got) != len(fields) {
				t.Fatal(got, err)
			}
			for i, c := range traceCases {
				if text := originText(got[i]); text != c.want {
					t.Errorf("%s %v: %s, want %s", c.field.Name, c.field.Keys, text, c.want)
				}
			}
		})
	}
}

// One field at a time must say the same: what is changed for one must not mislead another.
func TestTraceOneByOne(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	r := render(nil)
	r.ValuesFiles = []string{"values-qa.yaml"}
	for _, c := range traceCases {
		got, err := h.Trace(t.Context(), tracedChart(), r, []chart.Field{c.field})
		if err != nil || originText(got[0]) != c.want {
			t.Errorf("%v: %v, %v, want %s", c.field.Keys, got, err, c.want)
		}
	}
}

func TestTraceOfDependency(t *testing.T) {
	t.Parallel()
	c := files(map[string]string{
		"values.yaml":                       "db:\n  image: mine\n",
		"charts/db/Chart.yaml":              "apiVersion: v2\nname: db\nversion: 0.1.0\n",
		"charts/db/values.yaml":             "image: theirs\nsize: 7\n",
		"charts/db/templates/database.yaml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: db\nspec:\n  hostname: h{{ .Values.size }}\n  containers:\n  - image: {{ .Values.image }}\n",
	})
	got, err := New(Options{Timeout: patience}).Trace(t.Context(), c, render(nil), []chart.Field{
		field("charts/db/templates/database.yaml", "Pod", "db", "spec containers 0 image"),
		field("charts/db/templates/database.yaml", "Pod", "db", "spec hostname"),
	})
	if err != nil || originText(got[0]) != "charts/db/templates/database.yaml:8 values.yaml:2" {
		t.Errorf("%v, %v", got, err)
	}
}

// A dependency with an alias is told by the folder that it is in, and its values by the file that is there.
func TestTraceOfAnAlias(t *testing.T) {
	t.Parallel()
	pod := "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Values.name }}\nspec:\n  hostname: {{ .Values.host }}\n  containers:\n  - image: {{ .Values.img }}\n"
	c := files(map[string]string{
		"values.yaml":                           "first:\n  name: a\n  img: mine\nsecond:\n  name: b\n",
		"charts/db/Chart.yaml":                  "apiVersion: v2\nname: db\nversion: 0.1.0\ndependencies: [{name: deep, alias: well, version: 0.1.0}]\n",
		"charts/db/values.yaml":                 "img: theirs\nhost: h\n",
		"charts/db/templates/p.yaml":            pod,
		"charts/db/charts/deep/Chart.yaml":      "apiVersion: v2\nname: deep\nversion: 0.1.0\n",
		"charts/db/charts/deep/templates/x.yml": "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {{ .Release.Name }}-deep-{{ .Values.of }}\nspec:\n  hostname: h\n",
	})
	i := slices.IndexFunc(c.Files, func(f chart.File) bool { return f.Path == "Chart.yaml" })
	c.Files[i].Data = append(c.Files[i].Data, "dependencies:\n- {name: db, version: 0.1.0, alias: first}\n- {name: db, version: 0.1.0, alias: second}\n"...)
	h := New(Options{Timeout: patience})
	got, err := h.Trace(t.Context(), c, render(nil), []chart.Field{
		field("charts/first/templates/p.yaml", "Pod", "a", "spec containers 0 image"),
		field("charts/second/templates/p.yaml", "Pod", "b", "spec containers 0 image"),
		field("charts/first/templates/p.yaml", "Pod", "a", "spec hostname"),
	})
	want := []string{"charts/db/templates/p.yaml:8 values.yaml:3", "charts/db/templates/p.yaml:8 charts/db/values.yaml:1", "charts/db/templates/p.yaml:6 charts/db/values.yaml:2"}
	if err != nil || len(got) != len(want) {
		t.Fatal(got, err)
	}
	for i, w := range want {
		if originText(got[i]) != w {
			t.Errorf("%d: %s, want %s", i, originText(got[i]), w)
		}
	}
	for from, to := range map[string]string{
		"web/charts/first/charts/well/templates/x.yml": "charts/db/charts/deep/templates/x.yml",
		"web/charts/other/templates/x.yml":             "charts/other/templates/x.yml",
		"web/templates/charts/first/x.yml":             "templates/charts/first/x.yml",
	} {
		if got := inFolder(c, from); got != to {
			t.Errorf("%s is %s, want %s", from, got, to)
		}
	}
	i = slices.IndexFunc(c.Files, func(f chart.File) bool { return f.Path == "charts/db/templates/p.yaml" })
	c.Files[i].Data = []byte("a: {{ fail \"no\" }}\n")
	if _, problems := renderFiles(t.Context(), c, render(nil), time.Now()); len(problems) == 0 || problems[0].File != "charts/db/templates/p.yaml" || problems[0].Line != 1 {
		t.Errorf("problems %+v", problems)
	}
}

func TestTraceOfBrokenCharts(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	f := field("templates/a.yaml", "ConfigMap", "a", "data x")
	for name, text := range map[string]string{
		"does not render":      `{{ fail "no" }}`,
		"does not parse":       `{{ if }}`,
		"is not YAML":          "a: [",
		"fails on other words": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: {{ if ne .Values.word \"good\" }}{{ fail \"no\" }}{{ end }}{{ .Values.word }}\n",
	} {
		c := files(map[string]string{"values.yaml": "word: good\n", "templates/a.yaml": text})
		got, err := h.Trace(t.Context(), c, render(nil), []chart.Field{f})
		if err != nil || len(got) != 1 || got[0].Values.Line != 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func BenchmarkTrace(b *testing.B) {
	h := New(Options{Timeout: patience})
	r := render(nil)
	var fields []chart.Field
	for _, c := range traceCases {
		fields = append(fields, c.field)
	}
	for b.Loop() {
		if _, err := h.Trace(b.Context(), tracedChart(), r, fields); err != nil {
			b.Fatal(err)
		}
	}
}

// The comments that say lines change no object: they are only found where text stands in a block.
func TestLinesChangeNoObject(t *testing.T) {
	t.Parallel()
	h := New(Options{Timeout: patience})
	standard := standardChart(t, h, 8080)
	all := render(map[string]any{"config": map[string]any{"A": "b"}, "env": map[string]any{"C": 1}, "ingress": map[string]any{"host": "a.test", "tlsSecret": "x"},
		"tests": map[string]any{"command": []any{"a"}}, "volumes": []any{map[string]any{"name": "v"}}})
	for name, c := range map[string]chart.Chart{"standard": standard, "traced": tracedChart(), "tricky": files(map[string]string{
		"templates/_h.tpl": "{{- define \"one\" -}}\na: {{ .Release.Name }}\n{{- end }}{{ define \"json\" }}{\n\"a\": \"b\",\n\"c\": 1\n}{{ end }}\n",
		"templates/a.yaml": "{{- if true -}}\napiVersion: v1\nkind: ConfigMap\n{{- /* name: no\n  kind: x */}}\nmetadata:\n  name: a\n  labels: {{ include \"one\" . | fromYaml | toJson }}\n  annotations: {\n    a: b,\n    c: {{ include \"one\" . | quote }}\n  }\ndata:\n" +
			"  {{ printf \"x\" }}: {{ include \"json\" . | fromJson | toJson | quote }}\n  {{ .Release.Name }}-y: \"z\"\n{{ range $i, $e := list 1 2 }}\n  \"k{{ $i }}\": \"{{ $e }}\"\n{{ end -}}\n{{- end }}\n---\n# only a comment\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: b}\n",
	})} {
		tr := &tracer{ctx: t.Context(), chart: c, render: all, now: created, sources: map[string]bool{}}
		for _, f := range c.Files {
			tr.sources[f.Path] = true
		}
		plain := tr.with(nil)
		marked := tr.with(func(loaded *helm.Chart, _ map[string]any) {
			for i, f := range loaded.Templates {
				f.Data = sayLines(f.Data, i)
			}
		})
		if plain == nil || marked == nil {
			t.Fatalf("%s does not render: %v", name, marked)
		}
		if len(plain.docs) == 0 || !reflect.DeepEqual(withoutComments(plain.docs), withoutComments(marked.docs)) {
			t.Errorf("%s:\ngot  %v\nwant %v", name, marked.docs, plain.docs)
		}
	}
}

var inText = regexp.MustCompile(` *#slipway:\d+:\d+\n`)

// withoutComments is the objects as text, without the comments.
func withoutComments(docs map[string][][]map[string]any) string {
	return inText.ReplaceAllString(fmt.Sprint(docs), "")
}

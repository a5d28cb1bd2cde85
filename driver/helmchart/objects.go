package helmchart

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	release "helm.sh/helm/v4/pkg/release/v1"
	releaseutil "helm.sh/helm/v4/pkg/release/v1/util"
	"sigs.k8s.io/yaml"

	"github.com/slipway-cd/slipway/stage/chart"
)

// objects parses rendered templates, and the crds folder, into objects in the order of installation.
func objects(c chart.Chart, files map[string]string) ([]chart.Object, []chart.Problem) {
	var out []chart.Object
	var problems []chart.Problem
	add := func(source, text string, o chart.Object) {
		fields, p := parse(source, text)
		problems = append(problems, p...)
		for _, f := range fields {
			o.Source, o.Fields = source, f
			out = append(out, o)
		}
	}
	for _, f := range c.Files {
		if strings.HasPrefix(f.Path, "crds/") && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(f.Path)) {
			for _, doc := range documents(string(f.Data)) {
				add(f.Path, doc, chart.Object{CRD: true})
			}
		}
	}
	good := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		p := unreadable(inFolder(c, name), files[name])
		problems = append(problems, p...)
		if !failed(p) {
			good[name] = files[name]
		}
	}
	hooks, manifests, err := releaseutil.SortManifests(good, nil, releaseutil.InstallOrder)
	if err != nil {
		return out, append(problems, failure("", 0, oneLine(err.Error())))
	}
	for _, m := range manifests {
		add(inChart(c.Name, m.Name), m.Content, chart.Object{})
	}
	for _, hook := range hooks {
		add(inChart(c.Name, hook.Path), hook.Manifest, chart.Object{Hook: events(hook)})
	}
	return out, problems
}

func events(h *release.Hook) string {
	var out []string
	for _, e := range h.Events {
		out = append(out, e.String())
	}
	return strings.Join(out, ",")
}

func documents(text string) []string {
	split := releaseutil.SplitManifests(text)
	keys := slices.Collect(maps.Keys(split))
	slices.SortFunc(keys, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		out = append(out, split[k])
	}
	return out
}

// unreadable reports documents of a rendered template that are not YAML or not objects.
func unreadable(source, text string) []chart.Problem {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var problems []chart.Problem
	for _, doc := range documents(text) {
		var v any
		if err := yaml.Unmarshal([]byte(doc), &v); err != nil {
			problems = append(problems, renderedYAML(source, doc, err.Error()))
			continue
		}
		switch v.(type) {
		case nil:
		case map[string]any:
			if _, err := yaml.YAMLToJSONStrict([]byte(doc)); err != nil {
				problems = append(problems, warning(source, "a key stands twice, the last one counts: "+oneLine(err.Error())))
			}
		default:
			problems = append(problems, failure(source, 0, "renders to text or a list, not to a Kubernetes object"))
		}
	}
	return problems
}

// renderedYAML shows the line of the rendered text: it is not a line of the template.
func renderedYAML(source, doc, text string) chart.Problem {
	p := yamlProblem(source, text)
	lines := strings.Split(doc, "\n")
	if p.Line > 0 && p.Line <= len(lines) {
		p.Message += fmt.Sprintf(" (rendered: %q)", strings.TrimSpace(cut(lines[p.Line-1], 80)))
	}
	p.Line = 0
	return p
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}

// parse decodes a document; the items of a List are objects of their own.
func parse(source, text string) ([]map[string]any, []chart.Problem) {
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, []chart.Problem{renderedYAML(source, text, err.Error())}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return nil, []chart.Problem{failure(source, 0, oneLine(err.Error()))}
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, nil
	}
	items, isList := m["items"].([]any)
	if m["kind"] != "List" || !isList {
		return []map[string]any{m}, nil
	}
	var out []map[string]any
	for i, item := range items {
		o, ok := item.(map[string]any)
		if !ok {
			return nil, []chart.Problem{failure(source, 0, fmt.Sprintf("items[%d] of a List is not an object", i))}
		}
		out = append(out, o)
	}
	return out, nil
}

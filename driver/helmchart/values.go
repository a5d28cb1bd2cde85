package helmchart

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	helm "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/slipway-cd/slipway/stage/chart"
)

// values merges the values files of a render and its literals; values.yaml of the chart comes below
// them when the chart is rendered.
func values(c chart.Chart, r chart.Render) (map[string]any, []chart.Problem) {
	out := map[string]any{}
	var problems []chart.Problem
	for _, name := range r.ValuesFiles {
		i := slices.IndexFunc(c.Files, func(f chart.File) bool { return f.Path == name })
		if i < 0 {
			problems = append(problems, failure(name, 0, "values file is missing"))
			continue
		}
		v, err := loader.LoadValues(bytes.NewReader(c.Files[i].Data))
		if err != nil {
			problems = append(problems, yamlProblem(name, err.Error()))
			continue
		}
		out = loader.MergeMaps(out, v)
	}
	return loader.MergeMaps(out, r.Values), problems
}

// noFetching refuses to load what a schema refers to outside itself: Helm would read files of this
// machine and ask hosts of this network.
type noFetching struct{}

func (noFetching) Load(url string) (any, error) {
	return nil, fmt.Errorf("refers to %s: a values.schema.json may only refer to itself (#/...)", url)
}

// checkValues validates values against the values.schema.json of the chart and of its dependencies.
func checkValues(c *helm.Chart, vals map[string]any) []chart.Problem {
	var problems []chart.Problem
	file := strings.TrimPrefix(c.ChartFullPath()+"/values.schema.json", c.Root().Name()+"/")
	if len(c.Schema) > 0 {
		problems = schemaProblems(file, c.Schema, vals)
	}
	for _, d := range c.Dependencies() {
		if sub, ok := vals[d.Name()].(map[string]any); ok {
			problems = append(problems, checkValues(d, sub)...)
		}
	}
	return problems
}

func schemaProblems(file string, schema []byte, vals map[string]any) []chart.Problem {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return []chart.Problem{failure(file, 0, "not valid JSON: "+err.Error())}
	}
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(noFetching{})
	const url = "file:///values.schema.json"
	if err := compiler.AddResource(url, doc); err != nil {
		return []chart.Problem{failure(file, 0, oneLine(err.Error()))}
	}
	compiled, err := compiler.Compile(url)
	if err != nil {
		return []chart.Problem{failure(file, 0, oneLine(err.Error()))}
	}
	err = compiled.Validate(plain(vals))
	var tree *jsonschema.ValidationError
	if !errors.As(err, &tree) {
		if err != nil {
			return []chart.Problem{failure(file, 0, oneLine(err.Error()))}
		}
		return nil
	}
	var problems []chart.Problem
	for _, line := range slices.Sorted(slices.Values(leaves(tree))) {
		problems = append(problems, failure(file, 0, line))
	}
	return problems
}

// leaves are the causes that have no further cause, each with the path of the value.
func leaves(e *jsonschema.ValidationError) []string {
	if len(e.Causes) == 0 {
		at := "values"
		if len(e.InstanceLocation) > 0 {
			at = "value " + strings.Join(e.InstanceLocation, ".")
		}
		return []string{at + ": " + e.BasicOutput().Error.String()}
	}
	var out []string
	for _, c := range e.Causes {
		out = append(out, leaves(c)...)
	}
	return out
}

// plain makes the maps of Helm's own type ordinary ones, which the validator wants.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	}
	return v
}

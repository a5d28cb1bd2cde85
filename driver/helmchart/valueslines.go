package helmchart

import (
	"path"
	"slices"
	"strconv"

	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/slipway-cd/slipway/stage/chart"
)

// valuesFiles are the files that give the values of a render, those that win first.
type valuesFiles struct {
	literals map[string]any // of no file
	files    []valuesFile
}

type valuesFile struct {
	name   string
	prefix []string // of dependencies: where their values stand among all
	root   *yamlv3.Node
}

func newValuesFiles(c chart.Chart, r chart.Render) *valuesFiles {
	out := &valuesFiles{literals: r.Values}
	add := func(name string, prefix []string) {
		i := slices.IndexFunc(c.Files, func(f chart.File) bool { return f.Path == name })
		if i < 0 {
			return
		}
		var n yamlv3.Node
		if err := yamlv3.Unmarshal(c.Files[i].Data, &n); err == nil && len(n.Content) > 0 {
			out.files = append(out.files, valuesFile{name, prefix, n.Content[0]})
		}
	}
	for _, name := range slices.Backward(r.ValuesFiles) {
		add(name, nil)
	}
	add("values.yaml", nil)
	for _, f := range c.Files {
		if dir, name := path.Split(f.Path); name == "values.yaml" && path.Dir(path.Clean(dir)) == "charts" {
			for _, called := range calledBy(c, path.Base(dir)) {
				add(f.Path, []string{called})
			}
		}
	}
	return out
}

// place is the line that gave the value at keys; value is a leaf's, nil for a map. No line is known when a
// literal of the deployment gave it, or when the file that wins says another value than is there.
func (v *valuesFiles) place(keys []string, value any) chart.Place {
	if _, literal := at(v.literals, keys); literal {
		return chart.Place{}
	}
	for _, f := range v.files {
		n := len(f.prefix)
		if len(keys) <= n || !slices.Equal(keys[:n], f.prefix) {
			continue
		}
		if place, said := f.place(keys[n:], value); said {
			return place
		}
	}
	return chart.Place{}
}

// place reports whether the file says something at keys, and where.
func (f valuesFile) place(keys []string, value any) (chart.Place, bool) {
	n, line := f.root, 0
	for _, k := range keys {
		for n.Kind == yamlv3.AliasNode {
			return chart.Place{}, true // what an anchor gives stands elsewhere
		}
		switch n.Kind {
		case yamlv3.MappingNode:
			key, v := entry(n, k)
			if key == nil {
				return chart.Place{}, false
			}
			n, line = v, key.Line
		case yamlv3.SequenceNode:
			i, err := strconv.Atoi(k)
			if err != nil || i >= len(n.Content) {
				return chart.Place{}, true // a list is replaced as a whole
			}
			n = n.Content[i]
			line = n.Line
		default:
			return chart.Place{}, true
		}
	}
	place := chart.Place{File: f.name, Line: line}
	if value == nil {
		return place, n.Kind == yamlv3.MappingNode || n.Kind == yamlv3.SequenceNode
	}
	var said any
	if err := n.Decode(&said); err != nil {
		return chart.Place{}, true
	}
	a, ok := scalarText(said)
	b, same := scalarText(value)
	if !ok || !same || a != b {
		return chart.Place{}, true
	}
	return place, true
}

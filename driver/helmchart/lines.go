package helmchart

import (
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"helm.sh/helm/v4/pkg/chart/common"
	helm "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/slipway-cd/slipway/stage/chart"
)

// A line of a template that begins with a key or an item of a list gets a comment before it that says
// where it is. The comment goes through include, nindent and the like, and changes no object.
var (
	keyLine  = regexp.MustCompile(`^(\s*)(?:- +)*(?:[A-Za-z0-9_./$"'-]|\{\{ ?[^-{}][^{}]*\}\})+ *:(?:\s|$|\{\{)`)
	itemLine = regexp.MustCompile(`^(\s*)- `)
	saysLine = regexp.MustCompile(`^\s*#slipway:(\d+):(\d+)$`)
)

// templates finds the lines of templates.
func (t *tracer) templates(fields []asked, out []chart.Origin) {
	var names []string
	said := map[*common.File]bool{} // a dependency that is there under two aliases has its files once
	marked := t.with(func(loaded *helm.Chart, _ map[string]any) {
		for _, c := range append([]*helm.Chart{loaded}, descendants(loaded)...) {
			for _, f := range c.Templates {
				name := inFolder(t.chart, path.Join(c.ChartFullPath(), f.Name))
				if path.Base(name) != "NOTES.txt" && !said[f] {
					said[f] = true
					f.Data = sayLines(f.Data, len(names))
					names = append(names, name)
				}
			}
		}
	})
	if marked == nil {
		return
	}
	parsed := map[string][]markedDoc{}
	for i, f := range fields {
		if marked.object(t, f) == nil || objectName(marked.object(t, f)) != f.Name {
			continue
		}
		if parsed[f.Source] == nil {
			for _, doc := range documents(marked.text[f.Source]) {
				parsed[f.Source] = append(parsed[f.Source], newMarkedDoc(doc))
			}
		}
		if file, line := parsed[f.Source][f.doc].place(f); line > 0 && file < len(names) {
			out[i].Template = chart.Place{File: names[file], Line: line}
		}
	}
}

// sayLines puts a comment before each line of a template that may have one.
func sayLines(data []byte, file int) []byte {
	var b strings.Builder
	inAction := false
	for i, line := range strings.SplitAfter(string(data), "\n") {
		if !inAction {
			indent, ok := keyLine.FindStringSubmatch(line), true
			if indent == nil {
				indent = itemLine.FindStringSubmatch(line)
			}
			if indent == nil || strings.HasPrefix(strings.TrimSpace(line), `"`) {
				ok = false
			}
			if ok {
				fmt.Fprintf(&b, "%s#slipway:%d:%d\n", indent[1], file, i+1)
			}
		}
		b.WriteString(line)
		inAction = opensAction(line, inAction)
	}
	return []byte(b.String())
}

// opensAction reports whether an action of the template is open at the end of a line.
func opensAction(line string, open bool) bool {
	for {
		mark := "{{"
		if open {
			mark = "}}"
		}
		i := strings.Index(line, mark)
		if i < 0 {
			return open
		}
		line, open = line[i+2:], !open
	}
}

// markedDoc is a document with comments that say where its lines are from.
type markedDoc struct {
	root  *yamlv3.Node
	lines []string
}

func newMarkedDoc(text string) markedDoc {
	var n yamlv3.Node
	if err := yamlv3.Unmarshal([]byte(text), &n); err != nil || len(n.Content) == 0 {
		return markedDoc{}
	}
	return markedDoc{root: n.Content[0], lines: strings.Split(text, "\n")}
}

// place is the line that the deepest of the field's keys that is there comes from.
func (d markedDoc) place(f asked) (file, line int) {
	if d.root == nil {
		return 0, 0
	}
	n := d.root
	if items := child(n, "items"); items != nil && scalarOf(child(n, "kind")) == "List" {
		if f.item >= len(items.Content) {
			return 0, 0
		}
		n = items.Content[f.item]
	}
	file, line = d.says(n.Line)
	for _, k := range f.Keys {
		switch n.Kind {
		case yamlv3.MappingNode:
			key, value := entry(n, k)
			if key == nil {
				return file, line
			}
			if fl, l := d.says(key.Line); l > 0 {
				file, line = fl, l
			}
			n = value
		case yamlv3.SequenceNode:
			i, err := strconv.Atoi(k)
			if err != nil || i >= len(n.Content) {
				return file, line
			}
			n = n.Content[i]
			if fl, l := d.says(n.Line); l > 0 {
				file, line = fl, l
			}
		default:
			return file, line
		}
	}
	return file, line
}

// says reads the comment before a line.
func (d markedDoc) says(line int) (file, at int) {
	if line < 2 || line-2 >= len(d.lines) {
		return 0, 0
	}
	m := saysLine.FindStringSubmatch(d.lines[line-2])
	if m == nil {
		return 0, 0
	}
	file, _ = strconv.Atoi(m[1]) //nolint:errcheck // digits
	at, _ = strconv.Atoi(m[2])   //nolint:errcheck // digits
	return file, at
}

func entry(n *yamlv3.Node, key string) (k, v *yamlv3.Node) {
	if n == nil || n.Kind != yamlv3.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i], n.Content[i+1]
		}
	}
	return nil, nil
}

func child(n *yamlv3.Node, key string) *yamlv3.Node {
	_, v := entry(n, key)
	return v
}

func scalarOf(n *yamlv3.Node) string {
	if n == nil || n.Kind != yamlv3.ScalarNode {
		return ""
	}
	return n.Value
}

package approve

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	contextLines = 3
	maxDiff      = 1 << 20 // bytes; what is beyond is counted, not shown
)

// Diff compares two sets of Kubernetes objects, given as YAML documents, object by object. The text
// is a unified diff per object, in a stable order, with secret values masked; "" when nothing
// differs. key is that of the masks' hashes. Comments, the order of keys and the order of documents make no difference.
func Diff(before, after string, key []byte) (string, error) {
	a, err := objects(before, masker{key})
	if err != nil {
		return "", fmt.Errorf("the deployed manifest: %w", err)
	}
	b, err := objects(after, masker{key})
	if err != nil {
		return "", fmt.Errorf("the new manifest: %w", err)
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for k := range a {
			if !yield(k) {
				return
			}
		}
		for k := range b {
			if _, both := a[k]; !both && !yield(k) {
				return
			}
		}
	})
	var out strings.Builder
	hidden := 0
	for _, name := range names {
		text := unified(name, a[name], b[name])
		if out.Len()+len(text) > maxDiff {
			hidden++
			continue
		}
		out.WriteString(text)
	}
	if hidden > 0 {
		fmt.Fprintf(&out, "(%d more objects differ; the diff is too long to show)\n", hidden)
	}
	return out.String(), nil
}

// objects reads YAML documents into the masked text of each object by its name: kind, namespace if
// any, and name.
func objects(manifest string, m masker) (map[string]string, error) {
	out := map[string]string{}
	dec := yaml.NewDecoder(strings.NewReader(manifest))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if len(doc.Content) == 0 || field(doc.Content[0], "kind") == nil {
			continue
		}
		m.mask(&doc)
		normal(&doc)
		root := doc.Content[0]
		meta := field(root, "metadata")
		name := scalar(root, "kind") + "/" + cmp.Or(scalar(meta, "name"), scalar(meta, "generateName"))
		if ns := scalar(meta, "namespace"); ns != "" {
			name += " in " + ns
		}
		var buf bytes.Buffer
		enc := yaml.NewEncoder(&buf)
		enc.SetIndent(2)
		if err := enc.Encode(root); err != nil {
			return nil, err
		}
		out[name] += buf.String()
	}
}

// normal gives equal objects equal text: keys sorted, no comments, plain styles.
func normal(n *yaml.Node) {
	n.HeadComment, n.LineComment, n.FootComment = "", "", ""
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.FoldedStyle
	for _, c := range n.Content {
		normal(c)
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	type pair struct{ k, v *yaml.Node }
	pairs := make([]pair, 0, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		pairs = append(pairs, pair{n.Content[i], n.Content[i+1]})
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(a.k.Value, b.k.Value) })
	for i, p := range pairs {
		n.Content[2*i], n.Content[2*i+1] = p.k, p.v
	}
}

// unified is the unified diff of one object, "" when equal.
func unified(name, before, after string) string {
	if before == after {
		return ""
	}
	ops := edits(lines(before), lines(after))
	var out strings.Builder
	from, to := name, name
	if before == "" {
		from = "/dev/null"
	}
	if after == "" {
		to = "/dev/null"
	}
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", from, to)
	for _, h := range hunks(ops) {
		writeHunk(&out, ops, h)
	}
	return out.String()
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// edit is a line that was kept (' '), removed ('-') or added ('+').
type edit struct {
	op   byte
	text string
	a, b int // line numbers before it, from 0
}

// edits finds a shortest edit script by the longest common subsequence. Objects are small; one that
// is not is replaced as a whole.
func edits(a, b []string) []edit {
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	var out []edit
	i, j := 0, 0
	keep := func() { out = append(out, edit{' ', a[i], i, j}); i++; j++ }
	remove := func() { out = append(out, edit{'-', a[i], i, j}); i++ }
	add := func() { out = append(out, edit{'+', b[j], i, j}); j++ }
	for i < start {
		keep()
	}
	ea, eb := len(a)-end, len(b)-end
	lcs := common(a[start:ea], b[start:eb])
	for i < ea || j < eb {
		switch {
		case lcs != nil && i < ea && j < eb && a[i] == b[j]:
			keep()
		case j >= eb || i < ea && (lcs == nil || lcs[i-start+1][j-start] >= lcs[i-start][j-start+1]):
			remove()
		default:
			add()
		}
	}
	for i < len(a) {
		keep()
	}
	return out
}

// common is the table of the lengths of common subsequences of suffixes, nil when it would be large.
func common(a, b []string) [][]int32 {
	if len(a)*len(b) > 16<<20 {
		return nil
	}
	t := make([][]int32, len(a)+1)
	for i := range t {
		t[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				t[i][j] = t[i+1][j+1] + 1
			} else {
				t[i][j] = max(t[i+1][j], t[i][j+1])
			}
		}
	}
	return t
}

// hunks are ranges of edits that hold changes with their context.
func hunks(ops []edit) [][2]int {
	var out [][2]int
	for i, e := range ops {
		if e.op == ' ' {
			continue
		}
		from, to := max(0, i-contextLines), min(len(ops), i+1+contextLines)
		if n := len(out); n > 0 && out[n-1][1] >= from {
			out[n-1][1] = to
		} else {
			out = append(out, [2]int{from, to})
		}
	}
	return out
}

func writeHunk(out *strings.Builder, ops []edit, h [2]int) {
	var na, nb int
	for _, e := range ops[h[0]:h[1]] {
		if e.op != '+' {
			na++
		}
		if e.op != '-' {
			nb++
		}
	}
	first := ops[h[0]]
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(first.a, na), span(first.b, nb))
	for _, e := range ops[h[0]:h[1]] {
		fmt.Fprintf(out, "%c%s\n", e.op, e.text)
	}
}

func span(start, n int) string {
	if n > 0 {
		start++
	}
	return fmt.Sprintf("%d,%d", start, n)
}

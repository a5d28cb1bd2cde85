package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Name is the file at the root of a repository that configures it.
const Name = "slipway.yaml"

const (
	maxFileSize = 1 << 20
	maxNodes    = 20_000 // with aliases counted each time they are used
	maxDepth    = 20
)

// File is a parsed slipway.yaml. Its zero value is an empty one.
type File struct {
	name string
	root value
}

// value is a node of the file that fits its shape; a zero node means that it is absent.
type value struct {
	node  *yaml.Node
	shape *shape
	path  string
	file  string
	lines []string     // of the file
	keys  []*yaml.Node // of objects and tables, in the order of the file
	items []value      // of objects, tables and lists
	// faulty are the keys whose values do not fit, which was said already.
	faulty []string
}

// Parse reads the text of a slipway.yaml and checks everything that can be said of it alone, all at
// once. The File holds what was right, so that more can be checked. name is for the problems.
func Parse(name string, data []byte) (File, Problems) {
	p := checker{file: name, lines: strings.Split(string(data[:min(len(data), maxFileSize)]), "\n")}
	doc := p.document(data)
	if doc == nil {
		return File{name: name}, p.problems.sorted()
	}
	return File{name: name, root: p.value(doc, root(), "")}, p.problems.sorted()
}

type checker struct {
	file     string
	lines    []string
	problems Problems
	nodes    int
}

func (p *checker) problem(c class, n *yaml.Node, path, hint, format string, args ...any) {
	pr := Problem{File: p.file, Path: path, Message: fmt.Sprintf(format, args...), Hint: hint, class: c}
	if n != nil {
		pr.Line, pr.Column = n.Line, n.Column
	}
	p.problems.add(pr)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?:column \d+: )?(.*)$`)

// document is the content of the single document, nil when there is none or it is not YAML.
func (p *checker) document(data []byte) *yaml.Node {
	if len(data) > maxFileSize {
		p.problem(syntax, nil, "", "expected at most 1 MiB", "the file has %d bytes", len(data))
		return nil
	}
	if !utf8.Valid(data) {
		p.problem(syntax, nil, "", "expected UTF-8 text", "the file is not text")
		return nil
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		p.notYAML(err)
		return nil
	}
	if err := dec.Decode(&second); err == nil {
		p.problem(syntax, &second, "", "expected one document: take the line --- away", "a second YAML document begins here")
		return nil
	} else if !errors.Is(err, io.EOF) {
		p.notYAML(err)
		return nil
	}
	if len(doc.Content) == 0 {
		return nil
	}
	if !p.sound(&doc, 0) {
		return nil
	}
	return doc.Content[0]
}

func (p *checker) notYAML(err error) {
	msg, line := strings.TrimSpace(err.Error()), 0
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		line, _ = strconv.Atoi(m[1]) // no number: the file as a whole
		msg = m[2]
	}
	p.problems.add(Problem{File: p.file, Line: line, Message: "not YAML: " + msg, class: syntax,
		Hint: "check indentation, colons and quotes there and on the line above"})
}

// sound bounds the document as it is after its aliases are followed, before anything walks it.
func (p *checker) sound(n *yaml.Node, depth int) bool {
	p.nodes++
	if p.nodes > maxNodes {
		p.problem(syntax, n, "", fmt.Sprintf("expected at most %d, an alias counted as what it stands for", maxNodes), "the file has too many values")
		return false
	}
	if depth > maxDepth {
		p.problem(syntax, n, "", fmt.Sprintf("expected at most %d levels", maxDepth), "nested too deeply")
		return false
	}
	if n.Kind == yaml.AliasNode {
		return p.sound(n.Alias, depth+1)
	}
	for _, c := range n.Content {
		if !p.sound(c, depth+1) {
			return false
		}
	}
	return true
}

// value checks a node against a shape. What does not fit is reported and left out.
func (p *checker) value(n *yaml.Node, s *shape, path string) value {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	v := value{node: n, shape: s, path: path, file: p.file, lines: p.lines}
	if !p.plain(n, path) {
		return value{}
	}
	if s.orFalse != "" && n.ShortTag() == "!!bool" {
		if b, _ := boolOf(n); !b {
			return v
		}
	}
	switch s.kind {
	case object, table:
		return p.mapping(v)
	case list:
		return p.sequence(v)
	case text:
		return p.text(v)
	case integer, number:
		return p.number(v)
	}
	if _, ok := boolOf(n); !ok {
		return p.wrongType(v)
	}
	return v
}

// plain refuses tags that have no JSON form.
func (p *checker) plain(n *yaml.Node, path string) bool {
	switch n.ShortTag() {
	case "!!map", "!!seq", "!!str", "!!int", "!!bool", "!!null", "!!timestamp":
		return true
	case "!!float":
		if f, ok := floatOf(n); ok && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return true
		}
		p.problem(syntax, n, path, "expected a number or text", "%s is not a number that can be used", n.Value)
		return false
	case "!!merge":
		p.problem(syntax, n, path, "repeat the keys instead", "merge keys (<<) are not supported")
		return false
	}
	p.problem(syntax, n, path, "expected plain text, numbers, true or false", "the YAML tag %s is not supported", n.ShortTag())
	return false
}

func (p *checker) wrongType(v value) value {
	p.problem(structure, v.node, v.path, "expected "+v.shape.expected(), "%s does not fit here", describe(v.node))
	return value{}
}

func (p *checker) mapping(v value) value {
	s, n := v.shape, v.node
	if n.ShortTag() == "!!null" && !s.needs() {
		return v
	}
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		return p.wrongType(v)
	}
	if s.kind == table && len(n.Content)/2 > s.most {
		p.problem(structure, n, v.path, fmt.Sprintf("expected at most %d", s.most), "%d entries", len(n.Content)/2)
		return value{}
	}
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, child := n.Content[i], n.Content[i+1]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			p.problem(syntax, k, v.path, "expected text before the colon", "%s is no key", describe(k))
			continue
		}
		if k.ShortTag() == "!!merge" {
			p.problem(syntax, k, v.path, "repeat the keys instead", "merge keys (<<) are not supported")
			continue
		}
		at := join(v.path, k.Value)
		if first := seen[k.Value]; first != nil {
			p.problem(syntax, k, at, "keep one of the two", "given twice, first in line %d", first.Line)
			continue
		}
		seen[k.Value] = k
		elem := s.elem
		if s.kind == object {
			known, ok := s.key(k.Value)
			if !ok {
				p.problem(structure, k, at, didYouMean(k.Value, s.names()), "unknown key")
				continue
			}
			elem = known.shape
		} else if !s.keyMatch.re().MatchString(k.Value) {
			p.problem(structure, k, at, "expected "+s.keyRule, "%q may not be used as a name here", clip(k.Value))
			continue
		}
		if item := p.value(child, elem, at); item.node != nil {
			v.keys, v.items = append(v.keys, k), append(v.items, item)
		} else {
			v.faulty = append(v.faulty, k.Value)
		}
	}
	for _, k := range s.keys {
		if k.required && seen[k.name] == nil {
			p.problem(structure, n, v.path, "add "+k.name+": ...", "%s is missing", k.name)
		}
	}
	return v
}

// needs reports whether the object has a required key, so that it may not be null.
func (s *shape) needs() bool {
	for _, k := range s.keys {
		if k.required {
			return true
		}
	}
	return false
}

func (p *checker) sequence(v value) value {
	n := v.node
	if n.ShortTag() == "!!null" {
		return v
	}
	if n.Kind != yaml.SequenceNode || n.ShortTag() != "!!seq" {
		return p.wrongType(v)
	}
	if len(n.Content) > v.shape.most {
		p.problem(structure, n, v.path, fmt.Sprintf("expected at most %d", v.shape.most), "%d items", len(n.Content))
		return value{}
	}
	for i, c := range n.Content {
		if item := p.value(c, v.shape.elem, fmt.Sprintf("%s[%d]", v.path, i)); item.node != nil {
			v.items = append(v.items, item)
		}
	}
	return v
}

func (p *checker) text(v value) value {
	s, n := v.shape, v.node
	if n.Kind != yaml.ScalarNode || (n.ShortTag() != "!!str" && n.ShortTag() != "!!timestamp") {
		if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" && s.match == nil && len(s.enum) == 0 {
			p.problem(structure, n, v.path, fmt.Sprintf("write %q in quotes", clip(n.Value)), "%s is not text", describe(n))
			return value{}
		}
		return p.wrongType(v)
	}
	switch {
	case s.most > 0 && utf8.RuneCountInString(n.Value) > s.most:
		p.problem(structure, n, v.path, fmt.Sprintf("expected at most %d", s.most), "%d characters", utf8.RuneCountInString(n.Value))
		return value{}
	case len(s.enum) > 0 && !contains(s.enum, n.Value):
		p.problem(structure, n, v.path, didYouMean(n.Value, s.enum), "%q is not known here", clip(n.Value))
		return value{}
	case s.match != nil && !s.match.re().MatchString(n.Value):
		p.problem(structure, n, v.path, "expected "+s.expected(), "%q does not fit here", clip(n.Value))
		return value{}
	}
	return v
}

func (p *checker) number(v value) value {
	f, ok := floatOf(v.node)
	if !ok || (v.shape.kind == integer && f != math.Trunc(f)) {
		return p.wrongType(v)
	}
	if f < float64(v.shape.min) || f > float64(v.shape.max) {
		p.problem(structure, v.node, v.path, fmt.Sprintf("expected %s", between(v.shape.min, v.shape.max)), "%s is out of range", v.node.Value)
		return value{}
	}
	return v
}

func between(least, most int) string {
	if least == most {
		return strconv.Itoa(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func boolOf(n *yaml.Node) (value, ok bool) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		return false, false
	}
	err := n.Decode(&value)
	return value, err == nil
}

func floatOf(n *yaml.Node) (float64, bool) {
	if n.Kind != yaml.ScalarNode || (n.ShortTag() != "!!int" && n.ShortTag() != "!!float") {
		return 0, false
	}
	var f float64
	err := n.Decode(&f)
	return f, err == nil
}

// describe names a node as people see it.
func describe(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!map":
		return "a set of keys"
	case "!!seq":
		return "a list"
	case "!!null":
		return "an empty value"
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return clip(n.Value)
	}
	return strconv.Quote(clip(n.Value))
}

var password = regexp.MustCompile(`://[^/@]*@`)

// clip makes a value of the file fit for a message: short, and without a password in a URL.
func clip(s string) string {
	s = password.ReplaceAllString(s, "://***@")
	if utf8.RuneCountInString(s) <= 60 {
		return s
	}
	return string([]rune(s)[:60]) + "..."
}

func join(path, key string) string {
	if path == "" {
		return clip(key)
	}
	return path + "." + clip(key)
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

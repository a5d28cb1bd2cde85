package config

import (
	"regexp"
	"strings"
	"sync"
)

// kind is the type of a value in slipway.yaml.
type kind int

const (
	object kind = iota // the keys that the shape lists
	table              // any keys that match keyPattern, each with the same shape
	list
	text
	integer
	number // with or without a fraction
	boolean
)

// shape describes a value of slipway.yaml. The parser, the JSON Schema and the reference page are all
// made from the one tree of shapes that root returns, so they cannot disagree.
type shape struct {
	kind kind
	doc  string // a sentence or two for people
	word string // what is expected, in a few words: "a duration such as 5m"

	keys     []key    // of an object, in the order of the documentation
	elem     *shape   // of a table or list
	keyWord  string   // of a table: what its keys are
	keyRule  string   // of a table: what its keys must look like
	keyMatch *pattern // of a table
	most     int      // of a table, list or text: the greatest size

	match    *pattern // of a text
	enum     []string // of a text
	min, max int      // of an integer or number

	orFalse string // when set, false may stand in its place, and means this
}

// key is a key of an object.
type key struct {
	name     string
	shape    *shape
	required bool
	fallback string // what holds without it, for people
}

// pattern is a regular expression in the subset that Go and ECMA 262 share. It is compiled when something is
// compared with it: most files use few of all keys.
type pattern struct {
	expr string
	re   func() *regexp.Regexp
}

func newPattern(expr string) *pattern {
	return &pattern{expr: expr, re: sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}
}

func (s *shape) key(name string) (key, bool) {
	for _, k := range s.keys {
		if k.name == name {
			return k, true
		}
	}
	return key{}, false
}

func (s *shape) names() []string {
	out := make([]string, len(s.keys))
	for i, k := range s.keys {
		out[i] = k.name
	}
	return out
}

// expected says what a value of the shape looks like, for hints.
func (s *shape) expected() string {
	w := s.word
	if w == "" {
		switch s.kind {
		case object:
			w = "keys such as " + strings.Join(s.names()[:min(3, len(s.keys))], ", ")
		case table:
			w = s.keyWord + " each with " + s.elem.expected()
		case list:
			w = "a list, each item with " + s.elem.expected()
		case text:
			w = "text"
			if len(s.enum) > 0 {
				w = strings.Join(s.enum, " or ")
			}
		case integer:
			w = "a whole number"
		case number:
			w = "a number"
		case boolean:
			w = "true or false"
		}
	}
	if s.orFalse != "" {
		w += ", or false"
	}
	return w
}

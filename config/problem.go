package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"

	"github.com/slipway-cd/slipway"
)

// Problem is one thing that is wrong with a repository's configuration, and where.
type Problem struct {
	File    string `json:"file"`             // relative to the repository
	Line    int    `json:"line,omitempty"`   // from 1; 0: the file as a whole
	Column  int    `json:"column,omitempty"` // from 1; 0: the line as a whole
	Path    string `json:"path,omitempty"`   // of the key: services.delivery.port
	Message string `json:"message"`          // what is wrong
	Hint    string `json:"hint,omitempty"`   // what would be right

	class class
}

// class says which part of the parser found a problem. The JSON Schema knows of structure only.
type class int

const (
	meaning   class = iota // well-formed, but does not fit the repository or itself
	syntax                 // not YAML, or YAML that has no JSON form
	structure              // keys, types, patterns and bounds: what the schema describes too
)

// String is the problem as compilers print theirs: file:line:column: path: message (hint).
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d", p.Line)
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
	}
	b.WriteString(": ")
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems are all that was found at once, in the order of files and lines. Nil means that the
// configuration may be used.
type Problems []Problem

// Err is nil when there are no problems, else an Invalid error with each on a line of its own.
func (ps Problems) Err() error {
	if len(ps) == 0 {
		return nil
	}
	return &slipway.Error{Code: slipway.Invalid, Message: ps.String(), Err: errors.New("configuration is not valid")}
}

// String is one problem per line.
func (ps Problems) String() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

func (ps Problems) sorted() Problems {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(ps)
}

// maxProblems bounds what is reported of one file: a hostile one could have a million.
const maxProblems = 200

func (ps *Problems) add(p Problem) {
	if len(*ps) < maxProblems {
		*ps = append(*ps, p)
	}
}

// nearest is the known word that s was probably meant to be, "" when none is near.
func nearest(s string, known []string) string {
	best, least := "", max(2, len(s)/3)+1
	if len(s) > 60 {
		return ""
	}
	for _, k := range known {
		if d := levenshtein.Distance(strings.ToLower(s), strings.ToLower(k), nil); d < least && d < len(k) {
			best, least = k, d
		}
	}
	return best
}

func didYouMean(s string, known []string) string {
	if n := nearest(s, known); n != "" {
		return fmt.Sprintf("did you mean %s?", n)
	}
	return "expected one of " + strings.Join(known, ", ")
}

package plan

import (
	"strings"
	"unicode/utf8"
)

// pattern is a path with wildcards, relative to the repository. `*` and `?` stand for what is in one
// part of a path, `**` for any number of parts. It fits what it names and everything below that.
type pattern struct {
	parts []string
	fixed string // the folder that everything it fits is in, "." for the root
	plain bool   // no wildcards: fixed is all of it
}

// newPattern reads a pattern as it is written in slipway.yaml: with or without a leading or trailing
// slash.
func newPattern(text string) pattern {
	var p pattern
	for part := range strings.SplitSeq(text, "/") {
		if part == "" || part == "." || (part == "**" && len(p.parts) > 0 && p.parts[len(p.parts)-1] == "**") {
			continue
		}
		p.parts = append(p.parts, part)
	}
	n := 0
	for n < len(p.parts) && !strings.ContainsAny(p.parts[n], "*?") {
		n++
	}
	p.plain = n == len(p.parts)
	p.fixed = strings.Join(p.parts[:n], "/")
	if n == 0 {
		p.fixed = "."
	}
	return p
}

// fits reports whether a path, or a folder it is in, is what the pattern names.
func (p pattern) fits(path string) bool {
	if p.plain {
		return within(path, p.fixed)
	}
	at, rest := 0, path // the part to be compared next, with what
	back, from := -1, ""
	for {
		if at == len(p.parts) {
			return true
		}
		if p.parts[at] == "**" {
			at++
			back, from = at, rest
			continue
		}
		if rest != "" {
			part, more, _ := strings.Cut(rest, "/")
			if partFits(p.parts[at], part) {
				at, rest = at+1, more
				continue
			}
		}
		if back < 0 || from == "" {
			return false
		}
		_, from, _ = strings.Cut(from, "/") // ** takes one part more
		at, rest = back, from
	}
}

// partFits compares one part of a path with one of a pattern.
func partFits(want, part string) bool {
	star := strings.IndexByte(want, '*')
	if star < 0 && strings.IndexByte(want, '?') < 0 {
		return want == part
	}
	if star == 0 && !strings.ContainsAny(want[1:], "*?") {
		return strings.HasSuffix(part, want[1:])
	}
	return wild(want, part)
}

// wild compares a text with one in which * stands for any characters and ? for one.
func wild(want, text string) bool {
	w, t := 0, 0
	back, from := -1, 0
	for t < len(text) {
		switch {
		case w < len(want) && want[w] == '*':
			w++
			back, from = w, t
		case w < len(want) && want[w] == '?':
			_, size := utf8.DecodeRuneInString(text[t:])
			w, t = w+1, t+size
		case w < len(want) && want[w] == text[t]:
			w, t = w+1, t+1
		case back >= 0:
			_, size := utf8.DecodeRuneInString(text[from:])
			from += size
			w, t = back, from
		default:
			return false
		}
	}
	for w < len(want) && want[w] == '*' {
		w++
	}
	return w == len(want)
}

// named reports whether a filter takes the name of a branch or tag. In its patterns * stands for any
// characters, slashes included: feature/* is also feature/experimental/x, as in the documents, which
// exclude that. Patterns may be written with refs/heads/ or refs/tags/ in front.
func named(name string, include, exclude []string, kind string) bool {
	fits := func(patterns []string) bool {
		for _, p := range patterns {
			p = strings.TrimPrefix(p, "refs/"+kind+"/")
			if wild(strings.TrimPrefix(p, "refs/"), name) {
				return true
			}
		}
		return false
	}
	return fits(include) && !fits(exclude)
}

// within reports whether a path is a folder or below it.
func within(p, dir string) bool {
	return dir == "." || p == dir || (len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir)
}

// parent is the folder of a slash-separated path: path.Dir without its cleaning.
func parent(p string) string {
	if i := strings.LastIndexByte(p, '/'); i > 0 {
		return p[:i]
	}
	return "."
}

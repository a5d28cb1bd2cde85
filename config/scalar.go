package config

import (
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// spot is a place in a file, both from 1; columns count characters.
type spot struct{ line, column int }

// within is where a character of a text stands in the file that the text was read from, whatever its style: plain,
// quoted or block, on one line or several. line and column are those within the text, from 1. It is false where the
// file and the text cannot be brought together.
//
// Styles differ in what they make of white space and escapes, and in nothing else: the characters between are the
// same ones in the same order.
func within(n *yaml.Node, source []string, line, column int) (spot, bool) {
	text := []rune(n.Value)
	at := 0
	for l := 1; l < line; l++ {
		for at < len(text) && text[at] != '\n' {
			at++
		}
		at++
	}
	at = min(at+column-1, len(text))
	r := scalarReader{source: source, style: n.Style, line: n.Line, column: n.Column}
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		r.line, r.column = n.Line+1, 1
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		r.column++
	}
	last := spot{}
	for i, want := range text {
		if unicode.IsSpace(want) {
			if i == at && last.line > 0 {
				return spot{last.line, last.column + 1}, true
			}
			continue
		}
		here, got, ok := r.next()
		if !ok || got != want {
			return spot{}, false
		}
		if i == at {
			return here, true
		}
		last = spot{r.line, r.column - 1}
	}
	return spot{last.line, last.column + 1}, last.line > 0
}

// scalarReader reads the characters of a text that are no white space, as they stand in the file.
type scalarReader struct {
	source       []string
	style        yaml.Style
	line, column int // of what is read next
}

func (r *scalarReader) next() (spot, rune, bool) {
	for ; r.line <= len(r.source); r.line, r.column = r.line+1, 1 {
		line := []rune(r.source[r.line-1])
		for r.column <= len(line) {
			here, c := spot{r.line, r.column}, line[r.column-1]
			r.column++
			switch {
			case unicode.IsSpace(c):
				continue
			case c == '\'' && r.style&yaml.SingleQuotedStyle != 0:
				r.column++ // it is written twice
			case c == '\\' && r.style&yaml.DoubleQuotedStyle != 0:
				decoded, length := escape(line[r.column-1:])
				r.column += length
				if length == 0 || unicode.IsSpace(decoded) {
					continue
				}
				c = decoded
			}
			return here, c, true
		}
	}
	return spot{}, 0, false
}

// escape is what follows a backslash in double quotes, and how many characters that takes; none at the end of a line.
func escape(rest []rune) (rune, int) {
	if len(rest) == 0 {
		return 0, 0
	}
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[rest[0]]
	if digits > 0 && len(rest) > digits {
		n, err := strconv.ParseUint(string(rest[1:1+digits]), 16, 32)
		if err == nil {
			return rune(n), 1 + digits
		}
	}
	switch c := rest[0]; {
	case strings.ContainsRune("nrtvfN_LP \t", c):
		return ' ', 1
	case strings.ContainsRune("0abe", c):
		return map[rune]rune{'0': 0, 'a': '\a', 'b': '\b', 'e': 0x1b}[c], 1
	default:
		return c, 1
	}
}

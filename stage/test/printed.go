package test

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// printed is what a test wrote: all of it, or its beginning and its end. Why a test failed comes last, what it was
// doing comes first. It takes up 48 KiB at most.
type printed struct {
	head []byte
	tail ending
}

// ending keeps the end of a text: the last maxOutput bytes at least, and nothing in front of twice that.
type ending struct {
	b    []byte
	left int64 // bytes in front of b that were left out
}

// whole is a text of which all is there.
func whole(s string) (p printed) {
	p.add([]byte(s))
	return p
}

func (p *printed) add(s []byte) {
	n := 0
	if len(p.tail.b) == 0 {
		n = min(len(s), maxOutput-len(p.head))
		p.head = append(p.head, s[:n]...)
	}
	if n < len(s) {
		p.tail.add(s[n:])
	}
}

// append adds another text, in a line of its own.
func (p *printed) append(more printed) {
	if p.size() > 0 && more.size() > 0 {
		p.add([]byte("\n"))
	}
	p.add(more.head)
	if len(more.tail.b) > 0 {
		p.add(more.tail.b)
		p.tail.left += more.tail.left
	}
}

// add appends whole characters.
func (e *ending) add(s []byte) {
	e.b = append(e.b, s...)
	if len(e.b) <= 2*maxOutput {
		return
	}
	cut := len(e.b) - maxOutput
	for cut > 0 && !utf8.RuneStart(e.b[cut]) && len(e.b)-cut < maxOutput+utf8.UTFMax {
		cut--
	}
	e.left += int64(cut)
	e.b = append(e.b[:0], e.b[cut:]...)
}

// size is how many bytes are held: more than fit where some were left out.
func (p printed) size() int { return len(p.head) + len(p.tail.b) }

// String is what is held, in the bounds of an output.
func (p printed) String() string { return p.cut(maxOutput) }

const (
	// markRoom is for the line that says how much was left out.
	markRoom = 48
	// lineReach is how far from its place a cut moves to the end of a line.
	lineReach = 256
)

// cut is the text in at most limit bytes, which are at most maxOutput: as it is, or a quarter of that of its
// beginning, the rest of its end, and a line between that says how much was left out.
func (p printed) cut(limit int) string {
	first := max(0, limit-markRoom) / 4
	head, tail, left := bytes.TrimLeftFunc(p.head, unicode.IsSpace), bytes.TrimRightFunc(p.tail.b, unicode.IsSpace), p.tail.left
	if left == 0 {
		all := bytes.TrimSpace(slices.Concat(p.head, p.tail.b))
		if len(all) <= limit {
			return strings.ToValidUTF8(string(all), "")
		}
		head, tail = all[:first], all[first:]
	}
	begins, ends := head[:min(first, len(head))], tail[max(0, len(tail)-max(0, limit-markRoom)+first):]
	if at := bytes.LastIndexByte(begins, '\n'); at > 0 && at >= len(begins)-lineReach {
		begins = begins[:at]
	}
	if at := bytes.IndexByte(ends, '\n'); at >= 0 && at < min(lineReach, len(ends)-1) {
		ends = ends[at+1:]
	}
	left += int64(len(head) - len(begins) + len(tail) - len(ends))
	return strings.ToValidUTF8(string(begins), "") + "\n" + slipway.LeftOut(left) + "\n" + strings.ToValidUTF8(string(ends), "")
}

// together are texts one below the other in limit bytes: short ones as they are, the others with as much room each.
func together(limit int, parts ...printed) string {
	var some []printed
	for _, p := range parts {
		if len(bytes.TrimSpace(p.head)) > 0 || len(bytes.TrimSpace(p.tail.b)) > 0 {
			some = append(some, p)
		}
	}
	order := make([]int, len(some))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return some[a].size() - some[b].size() })
	room, out := limit-len(some)+1, make([]string, len(some))
	for done, i := range order {
		out[i] = some[i].cut(room / (len(order) - done))
		room -= len(out[i])
	}
	return strings.Join(out, "\n")
}

package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Match reports whether a waiver's subject names that of a reason: a * stands for any characters, everything
// else for itself. It takes time in proportion to the two lengths.
func Match(pattern, subject string) bool { return newPattern(pattern).match(subject) }

// pattern is what stands before, between and behind the stars.
type pattern struct {
	parts []string
}

func newPattern(s string) pattern { return pattern{strings.Split(s, "*")} }

// match finds each part as early as it can stand, which leaves most room for the rest: what was passed over
// is never looked at again.
func (p pattern) match(s string) bool {
	first, last := p.parts[0], p.parts[len(p.parts)-1]
	if len(p.parts) == 1 {
		return s == first
	}
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s = s[at+len(part):]
	}
	return true
}

// Holds reports whether a waiver may let something through at a time: it has a reason, an author and an end
// that has not come, and nobody took it back.
func Holds(w slipway.Waiver, now time.Time) bool {
	return w.Withdrawn.IsZero() && now.Before(w.Expires) && w.Reason != "" && w.Author != ""
}

type waiver struct {
	slipway.Waiver
	pattern pattern
}

// waivers are in an order that depends only on what they say: the one that ends last comes first.
type waivers []waiver

func newWaivers(lists ...[]slipway.Waiver) (out waivers) {
	for _, list := range lists {
		for _, w := range list {
			out = append(out, waiver{w, newPattern(w.Subject)})
		}
	}
	slices.SortStableFunc(out, func(a, b waiver) int {
		return cmp.Or(b.Expires.Compare(a.Expires), strings.Compare(a.Subject, b.Subject), strings.Compare(a.Author, b.Author),
			strings.Compare(a.Reason, b.Reason), cmp.Compare(a.ID, b.ID), strings.Compare(a.Place, b.Place),
			strings.Compare(a.Service, b.Service), strings.Compare(a.Environment, b.Environment), a.Withdrawn.Compare(b.Withdrawn))
	})
	return out
}

// of are the waivers for a gate, service and environment.
func (ws waivers) of(gate, service, environment string) (out waivers) {
	for _, w := range ws {
		if w.Gate == gate && (w.Service == "" || w.Service == service) && (w.Environment == "" || w.Environment == environment) {
			out = append(out, w)
		}
	}
	return out
}

// find is the waiver that lets the subject through, or else what became of one that would have.
func (ws waivers) find(subject string, now time.Time) (*slipway.Waiver, string) {
	lapsed := ""
	for _, w := range ws {
		if !w.pattern.match(subject) {
			continue
		}
		if Holds(w.Waiver, now) {
			given := w.Waiver
			return &given, ""
		}
		if lapsed == "" {
			lapsed = why(w.Waiver)
		}
	}
	return nil, lapsed
}

func why(w slipway.Waiver) string {
	author := line(w.Author, 100)
	switch {
	case author == "" || w.Reason == "":
		return "a waiver without an author and a reason does not hold"
	case !w.Withdrawn.IsZero():
		return fmt.Sprintf("the waiver of %s was withdrawn on %s", author, w.Withdrawn.UTC().Format(time.DateOnly))
	case w.Expires.IsZero():
		return fmt.Sprintf("the waiver of %s has no end and does not hold", author)
	}
	return fmt.Sprintf("the waiver of %s expired on %s", author, w.Expires.UTC().Format(time.DateOnly))
}

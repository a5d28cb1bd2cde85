package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// waivers are in an order that depends only on what they say: the one that ends last comes first.
type waivers []slipway.Waiver

func newWaivers(lists ...[]slipway.Waiver) (out waivers) {
	out = slices.Concat(lists...)
	slices.SortStableFunc(out, func(a, b slipway.Waiver) int {
		return cmp.Or(b.Expires.Compare(a.Expires), strings.Compare(a.Subject, b.Subject), strings.Compare(a.Author, b.Author),
			strings.Compare(a.Reason, b.Reason), cmp.Compare(a.ID, b.ID), strings.Compare(a.Place, b.Place),
			strings.Compare(a.Service, b.Service), strings.Compare(a.Environment, b.Environment), a.Withdrawn.Compare(b.Withdrawn))
	})
	return out
}

// of are the waivers for a gate, service and environment.
func (ws waivers) of(gate, service, environment string) (out waivers) {
	for _, w := range ws {
		if w.Concerns(gate, service, environment) {
			out = append(out, w)
		}
	}
	return out
}

// find is the waiver that lets the subject through, or else what became of one that would have.
func (ws waivers) find(subject string, now time.Time) (*slipway.Waiver, string) {
	lapsed := ""
	for _, w := range ws {
		if !w.Covers(subject) {
			continue
		}
		if w.Holds(now) {
			return &w, ""
		}
		if lapsed == "" {
			lapsed = why(w)
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

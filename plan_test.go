package slipway_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestDecisionsInShort(t *testing.T) {
	t.Parallel()
	runs := slipway.Decision{Service: "cart", Runs: true, Reason: "runs: src/cart/main.go changed"}
	gone := slipway.Decision{Service: "old", Removed: true, Reason: "removed: there is no such service"}
	skipped := func(n int, reason string) (all []slipway.Decision) {
		for i := range n {
			d := slipway.Decision{Service: fmt.Sprintf("s%d", i), Reason: reason}
			if reason == "" {
				d.Reason = "skipped, the changed file is not under src/" + d.Service
			}
			all = append(all, d)
		}
		return all
	}
	few := append(skipped(18, ""), runs, gone)
	for name, c := range map[string]struct {
		all, shown []slipway.Decision
		rest       string
	}{
		"none":        {},
		"few":         {few, few, ""},
		"own reasons": {append(skipped(30, ""), runs, gone), []slipway.Decision{runs, gone}, "30 more services: skipped, each for its own reason"},
		"one reason":  {append(skipped(99, "skipped, this release branch is for cart"), runs), []slipway.Decision{runs}, "99 more services: skipped, this release branch is for cart"},
		"one service": {append(skipped(1, ""), slices.Repeat([]slipway.Decision{runs}, 20)...), slices.Repeat([]slipway.Decision{runs}, 20), "1 more service: skipped, the changed file is not under src/s0"},
		"all run":     {slices.Repeat([]slipway.Decision{runs}, 21), slices.Repeat([]slipway.Decision{runs}, 21), ""},
	} {
		shown, rest := slipway.DecisionsInShort(c.all)
		if !slices.Equal(shown, c.shown) || rest != c.rest {
			t.Errorf("%s: %v and %q, want %v and %q", name, shown, rest, c.shown, c.rest)
		}
	}
	if got := runs.String(); got != "cart: runs: src/cart/main.go changed" {
		t.Error(got)
	}
}

package act_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// A run waits for the one that is active where a service that runs says so, and on no other branch.
func TestBatchWaitsForTheActiveRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.main()
	plan := func(r slipway.Run) slipway.Result {
		t.Helper()
		res, err := w.planner.Run(w.ctx, stage.Env{Run: r, Log: &notes{}, Now: time.Now}, slipway.PlanStep{})
		w.ok(err)
		return res
	}
	active, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: first, Actor: "ada"},
		slipway.Plan{Steps: []slipway.PlanStep{{Key: "build/cart", Kind: slipway.KindBuild}}})
	w.ok(err)
	at := func(f files) string { return w.commit(first, "next", f) }
	cart := service("cart").with("src/cart/main.go", "package main // another\n")
	next := slipway.Run{ID: active.ID + 1, Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main"}
	for name, c := range map[string]struct {
		files files
		event slipway.EventKind
		after int64
	}{
		"asked for":         {cart.with("slipway.yaml", "version: 1\nservices: {cart: {trigger: {batch: true}}}\n"), slipway.DefaultPush, active.ID},
		"not asked for":     {cart, slipway.DefaultPush, 0},
		"on another branch": {cart.with("slipway.yaml", "version: 1\nservices: {cart: {trigger: {batch: true}}}\n"), slipway.BranchPush, 0},
	} {
		r := next
		r.Commit, r.Event = at(c.files), c.event
		res := plan(r)
		if res.After != c.after || (res.Outcome == slipway.Postponed) != (c.after != 0) || (res.Next == nil) != (c.after != 0) {
			t.Errorf("%s: %+v", name, res)
		}
		if c.after != 0 && !strings.Contains(res.Reason, "when run #") {
			t.Errorf("%s: %s", name, res.Reason)
		}
	}
}

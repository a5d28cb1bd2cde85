package act_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// A run waits for the one of its branch that is active where a service that runs says so, whatever branch
// that is; one of a pull request does not.
func TestBatchWaitsForTheActiveRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.main()
	w.succeed(w.runs("refs/heads/main")[0].ID)
	plan := func(r slipway.Run) slipway.Result {
		t.Helper()
		res, err := w.planner.Run(w.ctx, stage.Env{Run: r, Log: &notes{}, Now: time.Now}, slipway.PlanStep{})
		w.ok(err)
		return res
	}
	active := map[string]int64{}
	var last int64
	for ref, event := range map[string]slipway.EventKind{
		"refs/heads/main": slipway.DefaultPush, "refs/heads/feature/x": slipway.BranchPush, "refs/heads/release-1": slipway.BranchPush,
		"refs/pull/1/head": slipway.PullUpdate, "refs/tags/v1": slipway.BranchPush,
	} {
		r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: event, Ref: ref, Commit: first, Actor: "ada"},
			slipway.Plan{Steps: []slipway.PlanStep{{Key: "build/cart", Kind: slipway.KindBuild}}})
		w.ok(err)
		active[ref], last = r.ID, r.ID
	}
	at := func(f files) string { return w.commit(first, "next", f) }
	cart := service("cart").with("src/cart/main.go", "package main // another\n")
	says := func(trigger string) files {
		return cart.with("slipway.yaml", "version: 1\nservices: {cart: {trigger: {"+trigger+"}}}\n")
	}
	for name, c := range map[string]struct {
		files files
		event slipway.EventKind
		ref   string
		waits bool
	}{
		"asked for":                        {says("batch: true"), slipway.DefaultPush, "refs/heads/main", true},
		"not asked for":                    {cart, slipway.DefaultPush, "refs/heads/main", false},
		"on another branch":                {says("batch: true"), slipway.BranchPush, "refs/heads/feature/x", true},
		"on a branch that it names":        {says("batch: true, branches: {include: [main, feature/*, release*]}"), slipway.BranchPush, "refs/heads/release-1", true},
		"on a branch that it leaves out":   {says("batch: true, branches: {exclude: [feature/*]}"), slipway.BranchPush, "refs/heads/feature/x", false},
		"on another branch, not asked for": {cart, slipway.BranchPush, "refs/heads/feature/x", false},
		"on a branch that nobody works on": {says("batch: true"), slipway.BranchPush, "refs/heads/feature/y", false},
		"of a pull request":                {says("batch: true"), slipway.PullUpdate, "refs/pull/1/head", false},
		"of a tag":                         {says("batch: true, tags: {include: [v*]}"), slipway.BranchPush, "refs/tags/v1", false},
	} {
		res := plan(slipway.Run{ID: last + 1, Project: "shop", Event: c.event, Ref: c.ref, Base: "main", Commit: at(c.files)})
		var after int64
		if c.waits {
			after = active[c.ref]
		}
		if res.After != after || (res.Outcome == slipway.Postponed) != c.waits || (res.Next == nil) != c.waits {
			t.Errorf("%s: %+v", name, res)
		}
		if c.waits && !strings.Contains(res.Reason, "when run #") {
			t.Errorf("%s: %s", name, res.Reason)
		}
	}
}

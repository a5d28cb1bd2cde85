package store

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/slipway-cd/slipway"
)

const main = "refs/heads/main"

// merged is a run of the default branch that runs some services and leaves others as they are.
func (w *world) merged(commit string, decisions []slipway.Decision, services ...string) slipway.Run {
	w.t.Helper()
	plan := slipway.Plan{Decisions: decisions}
	for _, s := range services {
		plan.Steps = append(plan.Steps, p("build/"+s), p("deploy/"+s+"@dev", "build/"+s))
	}
	r := w.newRun(main, commit, steps(p("plan")))
	w.finish(r.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &plan})
	return r
}

func (w *world) built(want map[string]slipway.Done, unfinished map[string]int64) {
	w.t.Helper()
	got, err := w.Built(w.ctx, "shop", "", main, 0)
	w.ok(err)
	if !reflect.DeepEqual(got.Services, want) || !reflect.DeepEqual(got.Unfinished, unfinished) {
		w.t.Errorf("built %v, unfinished %v\nwant %v, %v", got.Services, got.Unfinished, want, unfinished)
	}
}

type (
	done  = map[string]slipway.Done
	begun = map[string]int64
)

func unchanged(services ...string) (out []slipway.Decision) {
	for _, s := range services {
		out = append(out, slipway.Decision{Service: s, Unchanged: true})
	}
	return out
}

// A service is done when its own steps are, whatever becomes of the others and of the run.
func TestEachServiceIsDoneByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.merged(commitA, unchanged("c"), "a", "b")
	c := slipway.Done{Commit: commitA, RunID: r.ID}
	w.built(done{"c": c}, begun{"a": r.ID, "b": r.ID})
	w.finish(r.ID, "build/a", succeeded)
	w.built(done{"c": c}, begun{"a": r.ID, "b": r.ID})
	w.finish(r.ID, "deploy/a@dev", succeeded)
	w.built(done{"c": c, "a": c}, begun{"b": r.ID})
	w.finish(r.ID, "build/b", failed)
	w.built(done{"c": c, "a": c}, begun{})

	next := w.merged(commitB, unchanged("a"), "b")
	n := slipway.Done{Commit: commitB, RunID: next.ID}
	w.finish(next.ID, "build/b", succeeded)
	w.fail(next.ID, "deploy/b@dev")
	w.built(done{"c": c, "a": n}, begun{"b": next.ID})
	before, err := w.Built(w.ctx, "shop", "", main, next.ID)
	w.ok(err)
	if len(before.Unfinished) != 0 {
		t.Errorf("before run #%d: %v", next.ID, before.Unfinished)
	}
	w.ok(w.RetryRun(w.ctx, next.ID, "ada"))
	w.finish(next.ID, "deploy/b@dev", succeeded)
	w.built(done{"c": c, "a": n, "b": n}, begun{})

	w.merged(commitA, []slipway.Decision{{Service: "a", Removed: true}})
	w.built(done{"c": c, "a": {RunID: next.ID + 1}, "b": n}, begun{})
}

// What a later run said of a service holds, whenever an earlier one ends.
func TestAnEarlierRunThatEndsLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.merged(commitA, nil, "a", "b")
	second := w.merged(commitB, unchanged("a"), "b")
	w.finish(second.ID, "build/b", succeeded)
	w.finish(second.ID, "deploy/b@dev", succeeded)
	for _, key := range []string{"build/a", "deploy/a@dev", "build/b", "deploy/b@dev"} {
		w.finish(first.ID, key, succeeded)
	}
	at := slipway.Done{Commit: commitB, RunID: second.ID}
	w.built(done{"a": at, "b": at}, begun{})
}

// A service is done when those are that run for its sake in other codebases.
func TestWhatRunsBecauseOfAService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(p("build/a"), p("deploy/a@dev", "build/a"), p("build/b"), p("deploy/b@dev", "build/b"), p("build/far"), p("deploy/far@dev", "build/far"))
	plan.Because = map[string][]string{"far": {"a"}}
	r := w.newRun(main, commitA, plan)
	at := slipway.Done{Commit: commitA, RunID: r.ID}
	for _, key := range []string{"build/a", "deploy/a@dev", "build/b", "deploy/b@dev", "build/far"} {
		w.finish(r.ID, key, succeeded)
	}
	w.built(done{"b": at}, begun{"a": r.ID, "far": r.ID})
	w.finish(r.ID, "deploy/far@dev", succeeded)
	w.built(done{"a": at, "b": at, "far": at}, begun{})
}

// Pull requests and releases say nothing of what a branch was done with, and branches nothing of each other.
func TestOnlyPushesOfABranchAreItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := slipway.Plan{Decisions: unchanged("b"), Steps: []slipway.PlanStep{p("build/a")}}
	w.finish(w.newRun("refs/heads/release/a/v1.0.0", commitA, plan).ID, "build/a", succeeded)
	pull, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.PullUpdate, Ref: main, Commit: commitA}, plan)
	w.ok(err)
	w.finish(pull.ID, "build/a", succeeded)
	w.finish(w.newRun("refs/heads/feature/x", commitA, plan).ID, "build/a", succeeded)
	w.built(done{}, begun{})
}

// A push of a monorepo costs one statement for all services that it leaves alone.
func BenchmarkBuilt(b *testing.B) {
	w := newWorld(b)
	var names []string
	for i := range 500 {
		names = append(names, fmt.Sprint("s", i))
	}
	decisions := unchanged(names[1:]...)
	for i := range 30 {
		r := w.merged(fmt.Sprintf("%040d", i), decisions, "s0")
		w.finish(r.ID, "build/s0", succeeded)
		w.finish(r.ID, "deploy/s0@dev", failed)
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			w.do(w.Built(w.ctx, "shop", "", main, 0))
		}
	})
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			w.merged(commitA, decisions)
		}
	})
}

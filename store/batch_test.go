package store

import (
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// batched starts the plan step of a run and puts it behind the run that is active.
func (w *world) batched(r slipway.Run) {
	w.t.Helper()
	active, err := w.ActiveRun(w.ctx, "shop", "", r.Ref, r.ID)
	w.ok(err)
	if active == 0 {
		w.t.Fatalf("no run is active before run #%d", r.ID)
	}
	w.finish(r.ID, "plan", slipway.Result{Outcome: slipway.Postponed, After: active, Reason: "batch: waits for the run before"})
}

func TestPushesAreGatheredWhileARunIsActive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(p("plan"))
	first := w.newRun("refs/heads/main", commitA, plan)
	st := w.start(first.ID, "plan")
	second := w.newRun("refs/heads/main", commitB, plan)
	w.batched(second)
	w.states(second.ID, "plan", "retrying")
	other := w.newRun("refs/heads/feature/x", commitA, plan)
	if id, err := w.ActiveRun(w.ctx, "shop", "", "refs/heads/feature/x", other.ID); err != nil || id != 0 {
		t.Errorf("another ref: %d, %v", id, err)
	}

	third := w.newRun("refs/heads/main", commitB, plan)
	if got := w.runState(second.ID, slipway.RunCancelled); got.Reason != "batched into run #4" {
		t.Errorf("reason: %s", got.Reason)
	}
	w.batched(third)
	w.do(w.RecoverSteps(w.ctx, "here")) // a server that starts again wakes nobody too early
	w.states(third.ID, "plan", "retrying")
	st = w.start(first.ID, "plan")
	w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, succeeded, nil))
	w.runState(first.ID, slipway.RunSucceeded)
	w.states(third.ID, "plan", "ready")
	if id, err := w.ActiveRun(w.ctx, "shop", "", "refs/heads/main", third.ID); err != nil || id != 0 {
		t.Errorf("still active: %d, %v", id, err)
	}
	w.finish(third.ID, "plan", succeeded)
	w.runState(third.ID, slipway.RunSucceeded)
}

func TestTheRunThatIsWaitedForHasEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.newRun("refs/heads/main", commitA, steps(p("plan")))
	second := w.newRun("refs/heads/main", commitB, steps(p("plan")))
	st := w.start(second.ID, "plan")
	w.finish(first.ID, "plan", failed)
	w.ok(w.FinishStep(w.ctx, st.ID, 1, slipway.Result{Outcome: slipway.Postponed, After: first.ID}, nil))
	w.states(second.ID, "plan", "ready")
	st = w.start(second.ID, "plan")
	w.code(w.FinishStep(w.ctx, st.ID, 2, slipway.Result{Outcome: slipway.Postponed, After: second.ID}, nil), slipway.Invalid)
	w.ok(w.FinishStep(w.ctx, st.ID, 2, succeeded, nil))
}

// A run that waits for a person does not hold up those behind it, and one that is cancelled neither.
func TestWhoIsBehindGoesOn(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(w *world, r slipway.Run){
		"waits for a person": func(w *world, r slipway.Run) {
			w.finish(r.ID, "approve/a@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.2"}})
			w.runState(r.ID, slipway.RunWaiting)
		},
		"cancelled": func(w *world, r slipway.Run) { w.ok(w.CancelRun(w.ctx, r.ID, "ada", "")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.newRun("refs/heads/main", commitA, steps(p("approve/a@prod")))
			second := w.newRun("refs/heads/main", commitB, steps(p("plan")))
			w.batched(second)
			end(w, first)
			w.states(second.ID, "plan", "ready")
		})
	}
}

// On a branch whose services gather pushes, a newer push waits for the run that is active, and the next one
// takes its changes in; where nothing gathers, and for a pull request, the newer one takes the place at once.
func TestPushesToABranchAreGathered(t *testing.T) {
	t.Parallel()
	const ref = "refs/heads/feature/x"
	gathers := slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Batch: true, Steps: steps(p("build/a")).Steps}}
	alone := slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: steps(p("build/a")).Steps}}

	t.Run("one next run", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.newRun(ref, commitA, steps(p("plan")))
		w.finish(first.ID, "plan", gathers)
		st := w.start(first.ID, "build/a")
		second := w.newRun(ref, commitB, steps(p("plan")))
		w.batched(second)
		third := w.newRun(ref, commitB, steps(p("plan")))
		if got := w.runState(second.ID, slipway.RunCancelled); got.Reason != "batched into run #3" {
			t.Errorf("reason: %s", got.Reason)
		}
		w.batched(third)
		w.runState(first.ID, slipway.RunRunning)
		w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, succeeded, nil))
		w.states(third.ID, "plan", "ready")
		w.finish(third.ID, "plan", gathers)
		w.finish(third.ID, "build/a", succeeded)
		w.runState(third.ID, slipway.RunSucceeded)
	})
	t.Run("the next one does not gather", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.newRun(ref, commitA, steps(p("plan")))
		w.finish(first.ID, "plan", gathers)
		second := w.newRun(ref, commitB, steps(p("plan")))
		w.runState(first.ID, slipway.RunRunning)
		w.finish(second.ID, "plan", alone)
		if got := w.runState(first.ID, slipway.RunCancelled); got.Reason != "superseded by run #2" {
			t.Errorf("reason: %s", got.Reason)
		}
	})
	t.Run("the one that is active does not gather", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.newRun(ref, commitA, steps(p("plan")))
		w.finish(first.ID, "plan", alone)
		second := w.newRun(ref, commitB, steps(p("plan")))
		w.runState(first.ID, slipway.RunCancelled)
		if id, err := w.ActiveRun(w.ctx, "shop", "", ref, second.ID); err != nil || id != 0 {
			t.Errorf("still active: %d, %v", id, err)
		}
	})
	t.Run("a red plan", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		first := w.newRun(ref, commitA, steps(p("plan")))
		w.finish(first.ID, "plan", gathers)
		second := w.newRun(ref, commitB, steps(p("plan")))
		w.finish(second.ID, "plan", failed)
		w.runState(second.ID, slipway.RunFailed)
		w.runState(first.ID, slipway.RunRunning)
	})
	t.Run("a pull request", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		update := func(commit string) slipway.Run {
			r, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.PullUpdate, Ref: "refs/pull/1/head", Commit: commit, Pull: 1}, steps(p("plan")))
			w.ok(err)
			return r
		}
		first := update(commitA)
		w.finish(first.ID, "plan", gathers)
		update(commitB)
		w.runState(first.ID, slipway.RunCancelled)
	})
}

// A run that is to begin later does not begin at all when there is a newer one, though both were planned at once; and
// one that waits for the plan of another goes on with the end of that, whatever it is.
func TestPushesThatArePlannedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	active := w.newRun(main, commitA, steps(p("plan")))
	w.finish(active.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Batch: true, Steps: steps(p("build/a")).Steps}})
	second := w.newRun(main, commitB, steps(p("plan")))
	st := w.start(second.ID, "plan")
	third := w.newRun(main, commitB, steps(p("plan")))
	w.finish(third.ID, "plan", slipway.Result{Outcome: slipway.Postponed, After: second.ID, UntilPlanned: true, Reason: "waits"})
	w.states(third.ID, "plan", "retrying")
	w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, slipway.Result{Outcome: slipway.Postponed, After: active.ID}, nil))
	if got := w.runState(second.ID, slipway.RunCancelled); got.Reason != "batched into run #3" {
		t.Errorf("reason: %s", got.Reason)
	}
	w.states(third.ID, "plan", "ready")

	for name, end := range map[string]func(slipway.Step) error{
		"planned": func(st slipway.Step) error { return w.FinishStep(w.ctx, st.ID, st.Attempt, succeeded, nil) },
		"refused": func(st slipway.Step) error { return w.FinishStep(w.ctx, st.ID, st.Attempt, failed, nil) },
		"errored": func(st slipway.Step) error { return w.ErrorStep(w.ctx, st.ID, st.Attempt, "no answer", nil) },
		"in trouble": func(st slipway.Step) error {
			return w.RetryStep(w.ctx, st.ID, st.Attempt, "no answer", time.Now(), nil)
		},
		"cancelled": func(st slipway.Step) error {
			if err := w.CancelRun(w.ctx, st.RunID, "ada", ""); err != nil {
				return err
			}
			return w.CancelStep(w.ctx, st.ID, st.Attempt, nil)
		},
	} {
		ref := "refs/tags/" + name // nothing takes the place of anything there
		before, after := w.newRun(ref, commitA, steps(p("plan"))), slipway.Run{}
		st := w.start(before.ID, "plan")
		after, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: ref, Commit: commitB}, steps(p("plan")))
		w.ok(err)
		w.finish(after.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Turn: 1}})
		w.states(after.ID, "plan", "retrying")
		if got := w.stepOf(after.ID, "plan").Reason; got != waitsForPlan(before.ID) {
			t.Errorf("%s: %s", name, got)
		}
		w.ok(end(st))
		w.states(after.ID, "plan", "ready")
	}
}

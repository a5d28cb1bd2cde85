package store

import (
	"testing"

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

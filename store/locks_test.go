package store

import (
	"errors"
	"testing"

	"github.com/slipway-cd/slipway"
)

func locked(s slipway.PlanStep) slipway.PlanStep {
	s.Lock = "shop/dev/a"
	return s
}

// busy starts the newest job of a step and returns who keeps it from starting.
func (w *world) busy(run int64, key string) *Busy {
	w.t.Helper()
	st := w.stepOf(run, key)
	_, _, err := w.StartStep(w.ctx, st.ID, w.queue.newest(st.ID), "here")
	w.code(err, slipway.Conflict)
	var b *Busy
	if !errors.As(err, &b) {
		w.t.Fatalf("not busy: %v", err)
	}
	return b
}

func TestTwoStepsNeverHoldOneLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(locked(p("deploy/a@dev")))
	one := w.newRun("refs/heads/main", commitA, plan)
	two := w.newRun("refs/heads/main", commitB, plan)
	st := w.start(one.ID, "deploy/a@dev")
	if b := w.busy(two.ID, "deploy/a@dev"); b.RunID != one.ID || b.Step != "deploy/a@dev" {
		t.Errorf("holder: %+v", b)
	}
	w.states(two.ID, "deploy/a@dev", "retrying")
	if got := w.runState(two.ID, slipway.RunQueued); got.Reason != "" {
		t.Errorf("reason: %s", got.Reason)
	}
	if got, want := w.stepOf(two.ID, "deploy/a@dev").Reason, "waits for deploy/a@dev of run #1, which has shop/dev/a"; got != want {
		t.Errorf("reason %q, want %q", got, want)
	}
	w.ok(w.RetryStep(w.ctx, st.ID, 1, "the cluster does not answer", w.clock.now(), nil)) // keeps it
	w.states(two.ID, "deploy/a@dev", "retrying")
	st = w.start(one.ID, "deploy/a@dev")
	w.ok(w.ReleaseStep(w.ctx, st.ID, 2, nil)) // so does a stop of the server
	w.do(w.RecoverSteps(w.ctx, "here"))
	w.states(two.ID, "deploy/a@dev", "retrying")
	w.finish(one.ID, "deploy/a@dev", succeeded)
	w.states(two.ID, "deploy/a@dev", "ready")
	w.finish(two.ID, "deploy/a@dev", succeeded)
	w.runState(two.ID, slipway.RunSucceeded)
}

func TestTheRunThatHadTheLockGoesFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	older := w.newRun("refs/heads/main", commitA, steps(p("build/a"), locked(p("deploy/a@dev", "build/a"))))
	r := w.newRun("refs/heads/main", commitB, steps(locked(p("deploy/a@dev")), locked(p("verify/a@dev", "deploy/a@dev"))))
	st := w.start(r.ID, "deploy/a@dev")
	w.finish(older.ID, "build/a", succeeded)
	w.busy(older.ID, "deploy/a@dev")
	w.ok(w.FinishStep(w.ctx, st.ID, 1, succeeded, nil))
	w.states(older.ID, "deploy/a@dev", "retrying") // verify of the other run is in line before it
	w.states(r.ID, "verify/a@dev", "ready")
	w.finish(r.ID, "verify/a@dev", slipway.Result{Outcome: slipway.Failed, Next: &slipway.Plan{Steps: []slipway.PlanStep{locked(p("rollback/a@dev"))}}})
	w.states(older.ID, "deploy/a@dev", "retrying")
	w.finish(r.ID, "rollback/a@dev", succeeded)
	w.states(older.ID, "deploy/a@dev", "ready")
	w.finish(older.ID, "deploy/a@dev", succeeded)
}

func TestTheOldestRunIsNext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(locked(p("deploy/a@dev")))
	first, second, third := w.newRun("refs/heads/main", commitA, plan), w.newRun("refs/heads/main", commitB, plan), w.newRun("refs/heads/main", commitB, plan)
	st := w.start(first.ID, "deploy/a@dev")
	w.busy(third.ID, "deploy/a@dev")
	w.busy(second.ID, "deploy/a@dev")
	w.ok(w.FinishStep(w.ctx, st.ID, 1, succeeded, nil))
	w.states(second.ID, "deploy/a@dev", "ready")
	w.states(third.ID, "deploy/a@dev", "retrying")
	w.ok(w.CancelRun(w.ctx, second.ID, "ada", "")) // before it starts: the line moves on
	w.states(third.ID, "deploy/a@dev", "ready")
	w.start(third.ID, "deploy/a@dev")
}

func TestALineThatIsAheadKeepsTheLockFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(locked(p("deploy/a@dev")))
	first, second := w.newRun("refs/heads/main", commitA, plan), w.newRun("refs/heads/main", commitB, plan)
	if b := w.busy(second.ID, "deploy/a@dev"); b.RunID != first.ID { // its job came first
		t.Errorf("ahead: %+v", b)
	}
	w.finish(first.ID, "deploy/a@dev", succeeded)
	w.finish(second.ID, "deploy/a@dev", succeeded)
}

func TestRecoverWakesALine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := steps(locked(p("deploy/a@dev")))
	first, second := w.newRun("refs/heads/main", commitA, plan), w.newRun("refs/heads/main", commitB, plan)
	w.start(first.ID, "deploy/a@dev")
	w.busy(second.ID, "deploy/a@dev")
	w.ok(w.CancelRun(w.ctx, first.ID, "ada", ""))
	w.states(second.ID, "deploy/a@dev", "retrying") // the first still ends
	w.do(w.RecoverSteps(w.ctx, "here"))
	w.states(first.ID, "deploy/a@dev", "cancelled")
	w.states(second.ID, "deploy/a@dev", "ready")
}

package store

import (
	"fmt"
	"testing"

	"github.com/slipway-cd/slipway"
)

// asks is a run of the default branch that deploys a service to dev and waits for people before prod.
func (w *world) asks(commit string, services ...string) slipway.Run {
	w.t.Helper()
	plan := slipway.Plan{Gates: map[string]slipway.Gates{"": {}}}
	for _, s := range services {
		plan.Decisions = append(plan.Decisions, slipway.Decision{Service: s, Runs: true})
		plan.Steps = append(plan.Steps, p("deploy/"+s+"@dev"), p("approve/"+s+"@prod", "deploy/"+s+"@dev"), p("deploy/"+s+"@prod", "approve/"+s+"@prod"))
	}
	r := w.newRun(main, commit, steps(p("plan")))
	w.finish(r.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &plan})
	for _, s := range services {
		w.finish(r.ID, "deploy/"+s+"@dev", succeeded)
		w.finish(r.ID, "approve/"+s+"@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "main-" + commit[:7], Required: 1}})
	}
	return r
}

// leaves is a run whose plan leaves a service to another run.
func (w *world) leaves(commit, service string, to int64) slipway.Run {
	w.t.Helper()
	r := w.newRun(main, commit, steps(p("plan")))
	w.finish(r.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Decisions: []slipway.Decision{{Service: service, LeftTo: to}}}})
	return r
}

func (w *world) waitsWith(service string) slipway.WaitingRun {
	w.t.Helper()
	b, err := w.Built(w.ctx, "shop", "", main, 0)
	w.ok(err)
	return b.Waiting[service]
}

// What a run that waits began is known however many runs ago it was, and with which commit to compare is the newest at
// which a plan left the service to it.
func TestWhatWaitsIsKnownHoweverLongAgo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.asks(commitA, "a")
	if got := w.waitsWith("a"); got.Commit != commitA || got.RunID != r.ID || got.Environment != "prod" || got.For != "a" || len(got.Steps) != 3 {
		t.Errorf("waits %+v", got)
	}
	for range maxUnfinished + 5 {
		w.leaves(commitB, "a", r.ID)
	}
	if got := w.waitsWith("a"); got.Commit != commitB || got.RunID != r.ID {
		t.Errorf("waits %+v", got)
	}
	w.built(done{"a": {}}, begun{"a": r.ID})
	w.ok(w.CancelRun(w.ctx, r.ID, "ada", ""))
	w.built(done{"a": {}}, begun{"a": r.ID})
	if got := w.waitsWith("a"); got.RunID != 0 {
		t.Errorf("waits %+v", got)
	}
	next := w.asks(commitA, "a")
	if got := w.waitsWith("a"); got.Commit != commitA || got.RunID != next.ID {
		t.Errorf("left to run #%d at %s counts for run #%d: %+v", r.ID, commitB, next.ID, got)
	}
}

// A plan that was made a moment too late leaves nothing to a run that does not just wait any more.
func TestAPlanThatLeavesWhatDoesNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.asks(commitA, "a", "b")
	next := w.newRun(main, commitB, steps(p("plan")))
	leave := func() slipway.Step {
		built, err := w.Built(w.ctx, "shop", "", main, next.ID)
		w.ok(err)
		st := w.start(next.ID, "plan")
		w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{
			Turn: built.Turn, Decisions: []slipway.Decision{{Service: "a", LeftTo: r.ID}}}}, nil))
		return w.stepOf(next.ID, "plan")
	}
	all, err := w.Approvals(w.ctx, "shop", slipway.ApprovalWaiting)
	w.ok(err)
	for _, a := range all {
		if a.Service == "a" {
			w.do(w.Vote(w.ctx, a.ID, slipway.Vote{User: "bob", Approve: true}, slipway.Approvals{}))
		}
	}
	if st := leave(); st.State != slipway.StepReady || st.Reason != fmt.Sprintf("planned again: a was left to run #%d, which does not just wait for people with it any more", r.ID) {
		t.Errorf("plan is %s: %s", st.State, st.Reason)
	}
	if got := w.waitsWith("a"); got.Commit != "" {
		t.Errorf("a waits %+v", got)
	}
	if got := w.waitsWith("b"); got.Commit != commitA {
		t.Errorf("b waits %+v", got)
	}
}

// A run that is cancelled while it is planned has done nothing: the branch is not done with anything in it.
func TestARunThatIsCancelledWhileItIsPlanned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun(main, commitA, steps(p("plan")))
	st := w.start(r.ID, "plan")
	w.ok(w.CancelRun(w.ctx, r.ID, "bob", ""))
	w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{
		Decisions: []slipway.Decision{{Service: "a", Runs: true}}, Steps: []slipway.PlanStep{p("build/a")}}}, nil))
	w.runState(r.ID, slipway.RunCancelled)
	b, err := w.Built(w.ctx, "shop", "", main, 0)
	w.ok(err)
	if b.Of("a").Commit != "" {
		t.Errorf("done with %+v", b.Of("a"))
	}
	w.ok(w.RetryRun(w.ctx, r.ID, "bob"))
	w.states(r.ID, "plan", "ready")
}

package store

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// releaseRun is a run that delivers services a and b to qa and then to production.
func (w *world) releaseRun() slipway.Run {
	w.t.Helper()
	var all []slipway.PlanStep
	for _, s := range []string{"a", "b"} {
		all = append(all, p("build/"+s), p("chart/"+s), p("publish/"+s, "build/"+s, "chart/"+s),
			p("deploy/"+s+"@qa", "publish/"+s), p("verify/"+s+"@qa", "deploy/"+s+"@qa"), p("deploy/"+s+"@prod", "verify/"+s+"@qa"))
	}
	r := w.newRun("refs/heads/main", commitA, steps(all...))
	for _, s := range []string{"a", "b"} {
		w.finish(r.ID, "build/"+s, succeeded)
		w.finish(r.ID, "chart/"+s, succeeded)
	}
	return r
}

// wayBack is the failed end of a verification with the way back that follows.
func wayBack(service string) slipway.Result {
	return slipway.Result{Outcome: slipway.Failed, Reason: "not ready", Next: &slipway.Plan{Steps: []slipway.PlanStep{
		p("rollback/" + service + "@qa"),
		{Key: "verify-rollback/" + service + "@qa", Kind: slipway.KindVerify, Service: service, Environment: "qa", Needs: []string{"rollback/" + service + "@qa"}},
	}}}
}

func (w *world) fail(run int64, key string) {
	w.t.Helper()
	st := w.start(run, key)
	w.ok(w.ErrorStep(w.ctx, st.ID, st.Attempt, "the cluster does not answer", nil))
}

func TestRetryFindsTheWayBackToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.releaseRun()
	for _, s := range []string{"a", "b"} {
		w.finish(r.ID, "publish/"+s, succeeded)
		w.finish(r.ID, "deploy/"+s+"@qa", succeeded)
	}
	w.finish(r.ID, "verify/b@qa", succeeded)
	w.finish(r.ID, "deploy/b@prod", succeeded)
	w.finish(r.ID, "verify/a@qa", wayBack("a"))
	w.fail(r.ID, "rollback/a@qa")
	w.states(r.ID, "verify-rollback/a@qa", "skipped", "deploy/a@prod", "skipped")

	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.states(r.ID, "rollback/a@qa", "ready", "verify-rollback/a@qa", "blocked", "verify/a@qa", "failed", "deploy/a@prod", "skipped")
	w.finish(r.ID, "rollback/a@qa", succeeded)
	w.fail(r.ID, "verify-rollback/a@qa")

	w.ok(w.RetryRun(w.ctx, r.ID, "ada")) // what it brought back was not verified yet
	w.states(r.ID, "rollback/a@qa", "succeeded", "verify-rollback/a@qa", "ready", "verify/a@qa", "failed")
	w.finish(r.ID, "verify-rollback/a@qa", succeeded)
	w.runState(r.ID, slipway.RunFailed)
	err := w.RetryRun(w.ctx, r.ID, "ada")
	w.code(err, slipway.Conflict)
	if !strings.Contains(err.Error(), "was rolled back") {
		t.Error(err)
	}
}

func TestOneServiceThatWentBackDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.releaseRun()
	w.finish(r.ID, "publish/a", succeeded)
	w.finish(r.ID, "deploy/a@qa", succeeded)
	w.finish(r.ID, "verify/a@qa", wayBack("a"))
	w.finish(r.ID, "rollback/a@qa", succeeded)
	w.finish(r.ID, "verify-rollback/a@qa", succeeded)
	w.fail(r.ID, "publish/b")
	w.runState(r.ID, slipway.RunFailed)
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.states(r.ID, "publish/b", "ready", "deploy/b@qa", "blocked", "deploy/b@prod", "blocked",
		"verify/a@qa", "failed", "deploy/a@prod", "skipped", "rollback/a@qa", "succeeded")
}

func TestALaterEnvironmentGoesOnWhereOnlyItWasNotRolledBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.releaseRun()
	w.fail(r.ID, "publish/b")
	w.finish(r.ID, "publish/a", succeeded)
	w.finish(r.ID, "deploy/a@qa", succeeded)
	w.finish(r.ID, "verify/a@qa", succeeded)
	w.finish(r.ID, "deploy/a@prod", slipway.Result{Outcome: slipway.Failed, Reason: "not ready", Next: steps1(p("rollback/a@prod"))})
	w.finish(r.ID, "rollback/a@prod", succeeded)
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.states(r.ID, "publish/b", "ready", "verify/a@qa", "succeeded", "deploy/a@prod", "failed")
}

func steps1(s ...slipway.PlanStep) *slipway.Plan { return &slipway.Plan{Steps: s} }

func TestApprovalsElsewhereAreNotAskedForAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/release/a/v1.0.0", commitA, steps(p("approve/a@eu"), p("deploy/a@eu", "approve/a@eu"), p("deploy/a@us", "deploy/a@eu")))
	w.finish(r.ID, "approve/a@eu", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.0", ImageDigest: "sha256:aa"}})
	asked, err := w.Approvals(w.ctx, "shop", slipway.ApprovalWaiting)
	w.ok(err)
	w.do(w.Vote(w.ctx, asked[0].ID, slipway.Vote{User: "bob", Approve: true}, slipway.Approvals{}))
	w.finish(r.ID, "deploy/a@eu", succeeded)
	w.finish(r.ID, "deploy/a@us", failed)
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.states(r.ID, "approve/a@eu", "succeeded", "deploy/a@us", "ready")
}

func TestWhatIsLostIsDoneAgainWhenItIsNeeded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.releaseRun()
	w.finish(r.ID, "publish/a", succeeded)
	w.fail(r.ID, "deploy/a@qa")
	w.fail(r.ID, "publish/b")
	w.ok(w.RetryRun(w.ctx, r.ID, "ada", "chart/a", "chart/b", "chart/none"))
	w.states(r.ID, "chart/a", "succeeded", "deploy/a@qa", "ready", "build/b", "succeeded", "chart/b", "ready", "publish/b", "blocked")
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{RunID: r.ID, Kind: "run.retried"})
	w.ok(err)
	if len(es) != 1 || !strings.Contains(es[0].Message, "not kept any more, so this runs again: chart/b") {
		t.Errorf("events: %+v", es)
	}
	w.finish(r.ID, "chart/b", succeeded)
	w.states(r.ID, "publish/b", "ready")
}

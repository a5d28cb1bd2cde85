package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

// waiting makes a release run of a that waits for its approval in prod.
func (w *world) waiting(version string, a slipway.Approval) (slipway.Run, slipway.Approval) {
	w.t.Helper()
	r := w.newRun("refs/heads/release/a/"+version, commitA, steps(p("approve/a@prod"), p("deploy/a@prod", "approve/a@prod"), p("verify/a@prod", "deploy/a@prod"), p("build/b")))
	a.Version = version
	w.finish(r.ID, "approve/a@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &a})
	w.finish(r.ID, "build/b", succeeded)
	as, err := w.Approvals(w.ctx, "shop", slipway.ApprovalWaiting)
	w.ok(err)
	for _, a := range as {
		if a.RunID == r.ID {
			return r, a
		}
	}
	w.t.Fatalf("run #%d waits for nobody: %+v", r.ID, as)
	return r, a
}

func yes(user string) slipway.Vote {
	return slipway.Vote{User: user, Approve: true, Reason: "looks good"}
}

func TestApprovalNeedsAsManyPeopleAsItSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, a := w.waiting("v1.0.0", slipway.Approval{Required: 2, Diff: "+ replicas: 2", Notes: []string{"12 tests passed"}, ImageDigest: "sha256:aa"})
	if got := w.runState(r.ID, slipway.RunWaiting); got.Reason != "approve/a@prod: waits for approval of a v1.0.0 in prod" {
		t.Errorf("reason: %s", got.Reason)
	}
	if a.Requester != "ada" || a.Diff == "" || len(a.Notes) != 1 || a.Environment != "prod" {
		t.Errorf("approval: %+v", a)
	}
	a, err := w.Vote(w.ctx, a.ID, yes("bob"), slipway.Approvals{})
	w.ok(err)
	if a.State != slipway.ApprovalWaiting || len(a.Votes) != 1 {
		t.Fatalf("after one vote: %+v", a)
	}
	_, err = w.Vote(w.ctx, a.ID, yes("bob"), slipway.Approvals{})
	w.code(err, slipway.Conflict)
	w.states(r.ID, "deploy/a@prod", "blocked")
	a, err = w.Vote(w.ctx, a.ID, yes("eve"), slipway.Approvals{})
	w.ok(err)
	if a.State != slipway.ApprovalApproved || a.DecidedAt.IsZero() {
		t.Fatalf("after two votes: %+v", a)
	}
	w.states(r.ID, "approve/a@prod", "succeeded", "deploy/a@prod", "ready")
	_, err = w.Vote(w.ctx, a.ID, yes("joe"), slipway.Approvals{})
	w.code(err, slipway.Conflict)
	_, d, err := w.StartStep(w.ctx, w.stepOf(r.ID, "deploy/a@prod").ID, 1, "here")
	w.ok(err)
	if len(d.Approvals) != 1 || len(d.Approvals[0].Votes) != 2 {
		t.Errorf("the deployment sees %+v", d.Approvals)
	}
}

func TestOneRejectionIsEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, a := w.waiting("v1.0.0", slipway.Approval{Required: 3})
	w.do(w.Vote(w.ctx, a.ID, yes("bob"), slipway.Approvals{}))
	a, err := w.Vote(w.ctx, a.ID, slipway.Vote{User: "eve", Reason: "not on a Friday"}, slipway.Approvals{})
	w.ok(err)
	if a.State != slipway.ApprovalRejected {
		t.Fatalf("approval: %+v", a)
	}
	w.states(r.ID, "approve/a@prod", "failed", "deploy/a@prod", "skipped", "verify/a@prod", "skipped")
	if got := w.runState(r.ID, slipway.RunFailed); !strings.Contains(got.Reason, "eve rejected a v1.0.0 for prod: not on a Friday") {
		t.Errorf("reason: %s", got.Reason)
	}
	_, err = w.Vote(w.ctx, a.ID, yes("joe"), slipway.Approvals{})
	w.code(err, slipway.Conflict)
}

func TestTwoVotesAtOnceCannotBothWin(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, a := w.waiting("v1.0.0", slipway.Approval{})
	var wg sync.WaitGroup
	errs := make([]error, 8)
	start := make(chan struct{})
	for i := range errs {
		wg.Go(func() {
			<-start
			_, errs[i] = w.Vote(w.ctx, a.ID, slipway.Vote{User: fmt.Sprintf("user%d", i), Approve: i%2 == 0}, slipway.Approvals{})
		})
	}
	close(start)
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			w.code(err, slipway.Conflict)
		}
	}
	if won != 1 {
		t.Errorf("%d votes won", won)
	}
	if st := w.stepOf(r.ID, "approve/a@prod"); !st.State.Final() {
		t.Errorf("step is %s", st.State)
	}
}

func TestTheStricterPolicyHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, a := w.waiting("v1.0.0", slipway.Approval{Required: 1})
	now := slipway.Approvals{Required: 2, NotRequester: true}
	_, err := w.Vote(w.ctx, a.ID, yes("ada"), now)
	w.code(err, slipway.Forbidden)
	a, err = w.Vote(w.ctx, a.ID, yes("bob"), now)
	w.ok(err)
	if a.State != slipway.ApprovalWaiting {
		t.Errorf("one vote was enough: %+v", a)
	}
	_, other := w.waiting("v1.1.0", slipway.Approval{Required: 1, NotRequester: true})
	_, err = w.Vote(w.ctx, other.ID, yes("ada"), slipway.Approvals{})
	w.code(err, slipway.Forbidden)
	_, err = w.Vote(w.ctx, other.ID, slipway.Vote{User: "ada", Reason: "my mistake"}, slipway.Approvals{}) // may be taken back
	w.ok(err)
	_, err = w.Vote(w.ctx, 999, yes("bob"), slipway.Approvals{})
	w.code(err, slipway.NotFound)
	_, err = w.Vote(w.ctx, a.ID, slipway.Vote{Approve: true}, slipway.Approvals{})
	w.code(err, slipway.Invalid)
}

func TestANewerVersionSupersedesWaitingApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, a := w.waiting("v1.0.0", slipway.Approval{})
	young, _ := w.waiting("v1.1.0", slipway.Approval{})
	_, err := w.Vote(w.ctx, a.ID, yes("bob"), slipway.Approvals{})
	w.code(err, slipway.Conflict)
	if !strings.Contains(err.Error(), fmt.Sprintf("v1.1.0 of run #%d", young.ID)) {
		t.Errorf("the error does not say what superseded it: %v", err)
	}
	w.states(old.ID, "approve/a@prod", "cancelled", "deploy/a@prod", "cancelled", "verify/a@prod", "cancelled", "build/b", "succeeded")
	w.runState(old.ID, slipway.RunCancelled)
	backport, _ := w.waiting("v1.0.1", slipway.Approval{}) // older than what waits: both may
	w.runState(young.ID, slipway.RunWaiting)
	w.runState(backport.ID, slipway.RunWaiting)
}

func TestANewerDeploymentSupersedesWaitingApprovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	young, a := w.waiting("v1.1.0", slipway.Approval{})
	backport, _ := w.waiting("v1.0.1", slipway.Approval{})
	w.do(w.Vote(w.ctx, a.ID, yes("bob"), slipway.Approvals{}))
	w.finish(young.ID, "deploy/a@prod", slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{w.deployment("v1.1.0", slipway.Deployed)}})
	w.runState(backport.ID, slipway.RunCancelled)
	w.finish(young.ID, "verify/a@prod", succeeded)
	late := w.newRun("refs/heads/release/a/v1.0.2", commitB, steps(p("approve/a@prod"), p("deploy/a@prod", "approve/a@prod")))
	w.finish(late.ID, "approve/a@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.2"}})
	w.states(late.ID, "approve/a@prod", "cancelled", "deploy/a@prod", "cancelled")
	if got := w.runState(late.ID, slipway.RunCancelled); !strings.Contains(got.Reason, "prod has the newer v1.1.0") {
		t.Errorf("reason: %s", got.Reason)
	}
}

func (w *world) deployment(version string, state slipway.DeploymentState) slipway.Deployment {
	return slipway.Deployment{
		Target:  slipway.Target{Project: "shop", Environment: "prod", Service: "a", Release: "a", Namespace: "shop-prod"},
		Version: version, Commit: commitA, Image: "r/prod/shop/a", Tag: version, ImageDigest: "sha256:" + strings.Repeat("a", 8) + version[1:2], State: state, Revision: 1,
	}
}

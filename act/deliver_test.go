package act_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// waiting is a run of the developer whose deployment to production waits for approval.
func (w *world) waiting(policy slipway.Approvals) slipway.Approval {
	w.t.Helper()
	return w.waitingFor("v1.0.0", policy)
}

func (w *world) waitingFor(version string, policy slipway.Approvals) slipway.Approval {
	w.t.Helper()
	key := slipway.StepKey(slipway.KindApprove, "cart", "production")
	r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.ReleasePush, Ref: "refs/heads/release/cart/" + version, Commit: strings.Repeat("1", 40),
		Actor: "developer", Service: "cart", Version: version}, slipway.Plan{Steps: []slipway.PlanStep{{Key: key, Kind: slipway.KindApprove, Service: "cart", Environment: "production"}}})
	w.ok(err)
	w.finish(r.ID, key, slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: version, Required: policy.Required, NotRequester: policy.NotRequester}})
	d, err := w.store.Run(w.ctx, r.ID)
	w.ok(err)
	return d.Approvals[0]
}

func TestVote(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	a := w.waiting(slipway.Approvals{Required: 1})
	vote := func(by slipway.User, id int64, reason string) error {
		_, err := w.Vote(w.ctx, by, id, true, reason)
		return err
	}
	w.code(vote(slipway.User{}, a.ID, "x"), slipway.Unauthorized)
	w.code(vote(slipway.User{}, 99, "x"), slipway.Unauthorized)
	w.code(vote(w.viewer, a.ID, "x"), slipway.Forbidden, "approve")
	w.code(vote(w.developer, a.ID, "x"), slipway.Forbidden)
	w.code(vote(w.approver, a.ID, " \n"), slipway.Invalid, "say why")
	w.code(vote(w.approver, a.ID, strings.Repeat("x", 2001)), slipway.Invalid, "at most 2000")
	strange, none := vote(w.stranger, a.ID, "x"), vote(w.stranger, 99, "x")
	w.code(strange, slipway.NotFound)
	w.code(none, slipway.NotFound)
	if strings.Contains(strange.Error(), "shop") || strings.ReplaceAll(none.Error(), "99", "1") != strange.Error() {
		t.Errorf("a stranger learns that an approval exists:\n%v\n%v", strange, none)
	}
	decided, err := w.Vote(w.ctx, w.approver, a.ID, true, "  looks good ")
	w.ok(err)
	if decided.State != slipway.ApprovalApproved || len(decided.Votes) != 1 || decided.Votes[0].Reason != "looks good" || decided.Votes[0].User != "approver" {
		t.Errorf("decided %+v", decided)
	}
	w.code(vote(w.admin, a.ID, "me too"), slipway.Conflict, "approved already")
}

// The stricter of the policy when it was planned and now on the default branch holds (D14).
func TestTheStricterPolicyHolds(t *testing.T) {
	t.Parallel()
	const strict = "version: 1\nenvironments:\n  - name: production\n    production: true\n    approvals:\n      required: 2\n      notRequester: true\n"
	for name, c := range map[string]struct {
		config string
		planned,
		want slipway.Approvals
	}{
		"stricter now":      {strict, slipway.Approvals{Required: 1}, slipway.Approvals{Required: 2, NotRequester: true}},
		"stricter then":     {"", slipway.Approvals{Required: 3, NotRequester: true}, slipway.Approvals{Required: 3, NotRequester: true}},
		"environment gone":  {strings.ReplaceAll(strict, "name: production", "name: live"), slipway.Approvals{Required: 1}, slipway.Approvals{Required: 1}},
		"broken since then": {"version: nine\n", slipway.Approvals{Required: 1}, slipway.Approvals{Required: 1}},
	} {
		w := newWorld(t)
		f := service("cart")
		if c.config != "" {
			f = f.with("slipway.yaml", c.config)
		}
		w.move("refs/heads/main", w.commit("", "first", f))                          // as a mirror would: a push of what is not valid is refused
		w.ok(w.store.SetRole(w.ctx, "developer", "shop", slipway.Approver, "admin")) // the requester, who now has the role
		var err error
		w.developer, err = w.store.User(w.ctx, "developer")
		w.ok(err)
		a := w.waiting(c.planned)
		_, err = w.Vote(w.ctx, w.developer, a.ID, true, "mine")
		if refused := slipway.ErrorCode(err) == slipway.Forbidden; refused != c.want.NotRequester {
			t.Errorf("%s: the requester's own approval: %v", name, err)
		}
		required := 0
		for _, by := range []slipway.User{w.approver, w.admin} {
			now, err := w.store.Approval(w.ctx, a.ID)
			w.ok(err)
			if now.State != slipway.ApprovalWaiting {
				break
			}
			w.do(w.Vote(w.ctx, by, a.ID, true, "fine"))
		}
		now, err := w.store.Approval(w.ctx, a.ID)
		w.ok(err)
		required = len(now.Votes)
		if decided := now.State == slipway.ApprovalApproved; decided != (c.want.Required <= 2) || (decided && required != c.want.Required) {
			t.Errorf("%s: %s after %d approvals, want %d", name, now.State, required, c.want.Required)
		}
	}
}

func TestTwoVotesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	a := w.waiting(slipway.Approvals{Required: 1})
	var all sync.WaitGroup
	errs := make([]error, 2)
	all.Go(func() { _, errs[0] = w.Vote(w.ctx, w.approver, a.ID, true, "yes") })
	all.Go(func() { _, errs[1] = w.Vote(w.ctx, w.admin, a.ID, false, "no") })
	all.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("approve: %v, reject: %v", errs[0], errs[1])
	}
}

func TestCancelAndRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	_, err := w.CancelRun(w.ctx, w.viewer, 1, "")
	w.code(err, slipway.Forbidden)
	_, err = w.CancelRun(w.ctx, w.stranger, 1, "")
	w.code(err, slipway.NotFound, "run #1 does not exist, or you have no role in its project")
	_, err = w.CancelRun(w.ctx, w.developer, 9, "")
	w.code(err, slipway.NotFound)
	_, err = w.CancelRun(w.ctx, slipway.User{}, 9, "")
	w.code(err, slipway.Unauthorized)
	_, err = w.CancelRun(w.ctx, w.developer, 1, strings.Repeat("x", 3000))
	w.code(err, slipway.Invalid)
	_, err = w.RetryRun(w.ctx, w.developer, 1)
	w.code(err, slipway.Conflict)
	r, err := w.CancelRun(w.ctx, w.developer, 1, "")
	w.ok(err)
	if r.State != slipway.RunCancelled || r.Reason != "cancelled by developer" {
		t.Errorf("cancelled: %+v", r)
	}
	_, err = w.CancelRun(w.ctx, w.developer, 1, "again")
	w.code(err, slipway.Conflict)
	_, err = w.RetryRun(w.ctx, w.viewer, 1)
	w.code(err, slipway.Forbidden)
	if r, err = w.RetryRun(w.ctx, w.developer, 1); err != nil || r.State.Final() {
		t.Errorf("retried: %+v, %v", r, err)
	}
}

// deployed is a version that was deployed to qa and ended in a state.
func (w *world) deployed(version string, state slipway.DeploymentState) slipway.Deployment {
	w.t.Helper()
	target := slipway.Target{Project: "shop", Environment: "qa", Service: "cart", Cluster: "default", Namespace: "shop-qa", Release: "cart", Timeout: slipway.Duration(time.Minute)}
	key := slipway.StepKey(slipway.KindDeploy, "cart", "qa")
	r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.ReleasePush, Ref: "refs/heads/release/cart/" + version, Commit: strings.Repeat("2", 40), Service: "cart", Version: version},
		slipway.Plan{Steps: []slipway.PlanStep{{Key: key, Kind: slipway.KindDeploy, Service: "cart", Environment: "qa"}}})
	w.ok(err)
	d := slipway.Deployment{Target: target, Version: version, Commit: r.Commit, Image: "registry.test/shop/cart", Chart: "registry.test/shop/charts/cart", State: slipway.Deployed, Revision: int(r.ID)}
	res := slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{d}}
	if _, err := slipway.ParseVersion(version); err == nil {
		res.Release = &slipway.Release{Service: "cart", Version: version, Commit: r.Commit, ImageDigest: "sha256:1", ChartDigest: "sha256:2"}
	}
	w.finish(r.ID, key, res)
	all, err := w.store.Deployments(w.ctx, slipway.DeploymentFilter{RunID: r.ID})
	w.ok(err)
	d = all[0]
	d.State = state
	d, err = w.store.SaveDeployment(w.ctx, d)
	w.ok(err)
	return d
}

func TestRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.move("refs/heads/main", w.commit("", "broken", service("cart").with("slipway.yaml", "version: nine\n"))) // a mirror's
	ask := slipway.RollbackRequest{Project: "shop", Service: "cart", Environment: "qa"}
	_, err := w.Rollback(w.ctx, w.approver, ask)
	w.code(err, slipway.NotFound, "nothing of cart was ever deployed to qa")
	v1 := w.deployed("v1.0.0", slipway.Verified)
	v2 := w.deployed("v1.1.0", slipway.Verified)

	_, err = w.Rollback(w.ctx, slipway.User{}, ask)
	w.code(err, slipway.Unauthorized)
	_, err = w.Rollback(w.ctx, w.developer, ask)
	w.code(err, slipway.Forbidden, "may not roll back services of shop")
	_, err = w.Rollback(w.ctx, w.approver, slipway.RollbackRequest{Project: "shop", Environment: "qa"})
	w.code(err, slipway.Invalid, "names a service and an environment")
	_, err = w.Rollback(w.ctx, w.approver, slipway.RollbackRequest{Project: "shop", Service: "cart"})
	w.code(err, slipway.Invalid)
	bad := ask
	bad.To = "v9.9.9"
	_, err = w.Rollback(w.ctx, w.approver, bad)
	w.code(err, slipway.NotFound, "v9.9.9 was never deployed there; verified there: v1.0.0")
	bad.To = "1.1.0"
	_, err = w.Rollback(w.ctx, w.approver, bad)
	w.code(err, slipway.Conflict, "already")

	// The default branch is not valid: the way back is open all the same.
	r, err := w.Rollback(w.ctx, w.approver, ask)
	w.ok(err)
	if r.Event != slipway.RollbackCall || r.Service != "cart" || r.Version != "v1.0.0" || r.Actor != "approver" || r.Title != "roll back cart in qa from v1.1.0 to v1.0.0" {
		t.Errorf("run %+v", r)
	}
	d, err := w.Run(w.ctx, w.viewer, r.ID)
	w.ok(err)
	spec := d.Steps[0].Spec
	if spec.Rollback == nil || spec.Rollback.From.ID != v2.ID || spec.Rollback.To.ID != v1.ID || spec.Rollback.Reason != "asked for by approver" || spec.Timeout < slipway.Duration(time.Minute) || spec.Retries == 0 {
		t.Errorf("step %+v", spec)
	}
}

// A rollback goes back to no version in quarantine that is no release either.
func TestRollbackBehindAQuarantineOfTheDefaultBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	good := w.deployed("main-1111111", slipway.Verified)
	w.deployed("main-2222222", slipway.Verified)
	w.deployed("main-3333333", slipway.Verified)
	w.ok(w.store.Quarantine(w.ctx, "shop", "cart", "main-2222222", "it crashed", "ada"))
	_, err := w.Rollback(w.ctx, w.approver, slipway.RollbackRequest{Project: "shop", Service: "cart", Environment: "qa", To: "main-2222222"})
	w.code(err, slipway.Conflict, "in quarantine (it crashed)", "main-1111111")
	r, err := w.Rollback(w.ctx, w.approver, slipway.RollbackRequest{Project: "shop", Service: "cart", Environment: "qa"})
	w.ok(err)
	if r.Version != good.Version {
		t.Errorf("goes back to %s", r.Version)
	}
}

func TestQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	w.deployed("v1.0.0", slipway.Verified)
	d := w.deployed("v1.1.0", slipway.Verified)
	w.deployed("v1.2.0", slipway.Verified)
	key := slipway.StepKey(slipway.KindVerify, "cart", "qa")
	r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.RollbackCall, Ref: "refs/environments/qa", Commit: d.Commit}, slipway.Plan{Steps: []slipway.PlanStep{{Key: key, Kind: slipway.KindVerify}}})
	w.ok(err)
	w.finish(r.ID, key, slipway.Result{Outcome: slipway.Succeeded, Quarantine: "cart/v1.1.0", Reason: "it crashed"})

	ask := slipway.RollbackRequest{Project: "shop", Service: "cart", Environment: "qa", To: "v1.1.0"}
	_, err = w.Rollback(w.ctx, w.approver, ask)
	w.code(err, slipway.Conflict, "in quarantine (it crashed)", "v1.0.0")
	_, err = w.LiftQuarantine(w.ctx, w.developer, "shop", "cart", "v1.1.0")
	w.code(err, slipway.Forbidden)
	_, err = w.LiftQuarantine(w.ctx, w.approver, "shop", "cart", "v7.0.0")
	if err == nil {
		t.Error("a quarantine that never was is lifted")
	}
	waits := w.waitingFor("v1.1.0", slipway.Approvals{Required: 1})
	_, err = w.Vote(w.ctx, w.approver, waits.ID, true, "go")
	w.code(err, slipway.Conflict, "in quarantine (it crashed)", "slipway lift cart v1.1.0")
	w.do(w.Vote(w.ctx, w.approver, waits.ID, false, "no"))
	release, err := w.LiftQuarantine(w.ctx, w.approver, "shop", "cart", "v1.1.0")
	w.ok(err)
	if release.Quarantined != "" || release.Version != "v1.1.0" {
		t.Errorf("lifted %+v", release)
	}
	w.do(w.Rollback(w.ctx, w.approver, ask))
}

// A retry after the workspace is gone packages the chart again, which what is published needs.
func TestRetryAfterTheWorkspaceIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	pkg := filepath.Join(t.TempDir(), "cart.tgz")
	w.ok(os.WriteFile(pkg, []byte("chart"), 0o600))
	step := func(kind slipway.StepKind, needs ...string) slipway.PlanStep {
		return slipway.PlanStep{Key: string(kind) + "/cart", Kind: kind, Service: "cart", Needs: needs}
	}
	var ids []int64
	for range 2 {
		r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: strings.Repeat("3", 40)},
			slipway.Plan{Steps: []slipway.PlanStep{step(slipway.KindBuild), step(slipway.KindChart), step(slipway.KindPublish, "build/cart", "chart/cart")}})
		w.ok(err)
		w.finish(r.ID, "build/cart", slipway.Result{Outcome: slipway.Succeeded})
		w.finish(r.ID, "chart/cart", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactChart, Digest: "sha256:aa", Path: pkg}}})
		st := w.start(r.ID, "publish/cart")
		w.ok(w.store.ErrorStep(w.ctx, st.ID, st.Attempt, "the registry does not answer", nil))
		ids = append(ids, r.ID)
	}
	state := func(id int64, key string) (s slipway.StepState) {
		all, err := w.store.Steps(w.ctx, id)
		w.ok(err)
		for _, st := range all {
			if st.Spec.Key == key {
				s = st.State
			}
		}
		return s
	}
	w.do(w.RetryRun(w.ctx, w.developer, ids[0]))
	if got := state(ids[0], "chart/cart"); got != slipway.StepSucceeded || state(ids[0], "publish/cart") != slipway.StepReady {
		t.Errorf("the package is there, and its step is %s", got)
	}
	w.ok(os.Remove(pkg))
	w.do(w.RetryRun(w.ctx, w.developer, ids[1]))
	if got := state(ids[1], "chart/cart"); got != slipway.StepReady || state(ids[1], "publish/cart") != slipway.StepBlocked || state(ids[1], "build/cart") != slipway.StepSucceeded {
		t.Errorf("the package is gone, and its step is %s", got)
	}
}

// A project that wants no further attempts of its builds still finds its way back.
func TestAWayBackIsNotGivenUpAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.push(w.approver, "refs/heads/main", w.commit("", "first", service("cart").with("slipway.yaml", "version: 1\nlimits: {retries: 0}\n")))
	limits, err := w.planner.Limits(w.ctx, "shop")
	w.ok(err)
	policy, err := w.planner.Policy(w.ctx, "shop")
	w.ok(err)
	if limits.Retries < 10 || policy.Limits.Retries != 0 {
		t.Errorf("a way back has %d further attempts, a build %d", limits.Retries, policy.Limits.Retries)
	}
}

package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func TestARunGoesThroughItsPlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/feature/x", commitA, steps(
		p("build/delivery"), p("test/delivery", "build/delivery"), p("chart/delivery"), p("publish/delivery", "test/delivery", "chart/delivery")))
	if r.State != slipway.RunQueued {
		t.Fatalf("new run is %s", r.State)
	}
	w.states(r.ID, "build/delivery", "ready", "test/delivery", "blocked", "chart/delivery", "ready", "publish/delivery", "blocked")
	w.start(r.ID, "build/delivery")
	w.runState(r.ID, slipway.RunRunning)
	b := w.stepOf(r.ID, "build/delivery")
	w.ok(w.FinishStep(w.ctx, b.ID, 1, slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{
		{Kind: slipway.ArtifactImage, Repository: "r/shop/delivery", Digest: "sha256:aa"}, {Kind: slipway.ArtifactImage, Repository: "r/shop/delivery", Digest: "sha256:aa"},
	}}, nil))
	w.states(r.ID, "test/delivery", "ready")
	w.finish(r.ID, "chart/delivery", slipway.Result{Outcome: slipway.Skipped, Reason: "the chart is the same"})
	w.states(r.ID, "chart/delivery", "skipped", "publish/delivery", "blocked")
	w.finish(r.ID, "test/delivery", slipway.Result{Outcome: slipway.Succeeded, Report: &slipway.TestReport{Passed: 3}})
	w.finish(r.ID, "publish/delivery", succeeded)
	got := w.runState(r.ID, slipway.RunSucceeded)
	if got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) {
		t.Errorf("times of the run: %v to %v", got.StartedAt, got.FinishedAt)
	}
	d, err := w.Run(w.ctx, r.ID)
	w.ok(err)
	if len(d.Artifacts) != 1 || d.Artifacts[0].Service != "delivery" || d.Artifacts[0].Commit != commitA {
		t.Errorf("artifacts: %+v", d.Artifacts)
	}
	rep, err := w.Report(w.ctx, w.stepOf(r.ID, "test/delivery").ID)
	w.ok(err)
	if rep.Passed != 3 {
		t.Errorf("report: %+v", rep)
	}
	want := []string{"run.created", "step.ready", "step.ready", "step.running", "run.running", "artifact.made", "step.succeeded", "step.ready",
		"step.running", "step.skipped", "step.running", "step.succeeded", "step.ready", "step.running", "step.succeeded", "run.succeeded"}
	if got := w.kinds(r.ID); !reflect.DeepEqual(got, want) {
		t.Errorf("events:\n%v\nwant\n%v", got, want)
	}
	if n, err := w.VerifyEvents(w.ctx); err != nil || n < int64(len(want)) {
		t.Errorf("chain of %d events: %v", n, err)
	}
}

func TestAFailedStepSkipsWhatNeedsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a"), p("test/a", "build/a"), p("publish/a", "test/a"), p("build/b")))
	w.finish(r.ID, "build/a", failed)
	w.states(r.ID, "build/a", "failed", "test/a", "skipped", "publish/a", "skipped", "build/b", "ready")
	if got := w.stepOf(r.ID, "test/a").Reason; got != "needs build/a, which failed" {
		t.Errorf("reason: %s", got)
	}
	if got := w.stepOf(r.ID, "publish/a").Reason; got != "needs test/a, which was skipped" {
		t.Errorf("reason: %s", got)
	}
	w.runState(r.ID, slipway.RunRunning)
	w.finish(r.ID, "build/b", succeeded)
	if got := w.runState(r.ID, slipway.RunFailed); got.Reason != "build/a: red" {
		t.Errorf("reason of the run: %s", got.Reason)
	}
}

func TestNextIsCommittedWithTheOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, slipway.Plan{})
	w.states(r.ID, "plan", "ready")
	w.finish(r.ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{
		ConfigCommit: commitB, Decisions: []slipway.Decision{{Service: "a", Runs: true, Reason: "2 files changed"}},
		Steps: []slipway.PlanStep{p("deploy/a@dev", "plan"), p("verify/a@dev", "deploy/a@dev")},
	}})
	w.finish(r.ID, "deploy/a@dev", succeeded)
	w.finish(r.ID, "verify/a@dev", slipway.Result{Outcome: slipway.Failed, Reason: "not ready", Next: &slipway.Plan{Steps: []slipway.PlanStep{p("rollback/a@dev")}}})
	w.states(r.ID, "rollback/a@dev", "ready")
	w.finish(r.ID, "rollback/a@dev", succeeded)
	w.runState(r.ID, slipway.RunFailed)
	d, err := w.Run(w.ctx, r.ID)
	w.ok(err)
	if d.Plan.ConfigCommit != commitB || len(d.Plan.Decisions) != 1 || len(d.Steps) != 4 {
		t.Errorf("detail: %+v", d.Plan)
	}
	w.code(w.RetryRun(w.ctx, r.ID, "ada"), slipway.Conflict) // it was rolled back
}

func TestAResultThatCannotBeRecordedChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a"), p("test/a", "build/a")))
	st := w.start(r.ID, "build/a")
	before := w.kinds(r.ID)
	for name, res := range map[string]slipway.Result{
		"taken key":       {Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("test/a")}}},
		"twice":           {Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("x/a"), p("x/a")}}},
		"unknown need":    {Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("x/a", "y/a")}}},
		"circle":          {Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("x/a", "y/a"), p("y/a", "x/a")}}},
		"no key":          {Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{{Kind: "x"}}}},
		"unknown outcome": {Outcome: "splendid"},
		"no approval":     {Outcome: slipway.Waiting},
		"bad quarantine":  {Outcome: slipway.Failed, Quarantine: "delivery"},
		"no target":       {Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{{State: slipway.Deployed}}},
	} {
		res.Artifacts = []slipway.Artifact{{Kind: slipway.ArtifactImage, Digest: "sha256:ff"}}
		if err := w.FinishStep(w.ctx, st.ID, st.Attempt, res, nil); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	boom := errors.New("boom")
	undone := func() error {
		return w.end(w.ctx, st.ID, st.Attempt, nil, func(t *tx, r *runRow, st *stepRow) error {
			if err := t.outcome(r, st, succeeded); err != nil {
				return err
			}
			return boom
		})
	}
	if err := undone(); !errors.Is(err, boom) {
		t.Errorf("error: %v", err)
	}
	w.states(r.ID, "build/a", "running", "test/a", "blocked")
	if after := w.kinds(r.ID); !reflect.DeepEqual(before, after) {
		t.Errorf("events were written: %v", after)
	}
	d, err := w.Run(w.ctx, r.ID)
	w.ok(err)
	if len(d.Artifacts) != 0 {
		t.Errorf("artifacts were recorded: %v", d.Artifacts)
	}
}

func TestOnlyTheAttemptThatRunsMayEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a")))
	st := w.start(r.ID, "build/a")
	_, _, err := w.StartStep(w.ctx, st.ID, w.queue.newest(st.ID), "there")
	w.code(err, slipway.Conflict)
	w.ok(w.RetryStep(w.ctx, st.ID, 1, "registry does not answer", w.clock.now().Add(time.Minute), nil))
	w.code(w.FinishStep(w.ctx, st.ID, 1, succeeded, nil), slipway.Conflict)
	again := w.stepOf(r.ID, "build/a")
	if again.State != slipway.StepRetrying || again.Errors != 1 || again.ErrorsSince.IsZero() || !again.ReadyAt.After(w.clock.now()) {
		t.Fatalf("retrying step: %+v", again)
	}
	_, _, err = w.StartStep(w.ctx, st.ID, 1, "here") // the job of the first attempt
	w.code(err, slipway.Conflict)
	st = w.start(r.ID, "build/a")
	if st.Attempt != 2 {
		t.Fatalf("attempt %d", st.Attempt)
	}
	w.code(w.FinishStep(w.ctx, st.ID, 1, succeeded, nil), slipway.Conflict)
	w.ok(w.ErrorStep(w.ctx, st.ID, 2, "registry does not answer", nil))
	w.runState(r.ID, slipway.RunErrored)
	w.code(w.FinishStep(w.ctx, st.ID, 2, succeeded, nil), slipway.Conflict)
	w.code(w.FinishStep(w.ctx, 999, 2, succeeded, nil), slipway.NotFound)
}

func TestCancelRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a"), p("build/b"), p("test/a", "build/a"), p("approve/b@prod")))
	st := w.start(r.ID, "build/a")
	w.finish(r.ID, "approve/b@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.0"}})
	w.ok(w.CancelRun(w.ctx, r.ID, "bob", ""))
	w.states(r.ID, "build/a", "running", "build/b", "cancelled", "test/a", "cancelled", "approve/b@prod", "cancelled")
	if got := w.runState(r.ID, slipway.RunRunning); got.Reason != "stopping: cancelled by bob" {
		t.Errorf("reason: %s", got.Reason)
	}
	if want := []cancelled{{r.ID, slipway.ErrCancelled}}; !reflect.DeepEqual(w.queue.cancels, want) {
		t.Errorf("queue was told %v", w.queue.cancels)
	}
	as, err := w.Approvals(w.ctx, "shop", slipway.ApprovalSuperseded)
	w.ok(err)
	if len(as) != 1 {
		t.Errorf("approvals: %+v", as)
	}
	w.ok(w.CancelRun(w.ctx, r.ID, "bob", "")) // twice is once
	w.ok(w.CancelStep(w.ctx, st.ID, 1, nil))
	w.runState(r.ID, slipway.RunCancelled)
	w.code(w.CancelRun(w.ctx, r.ID, "bob", ""), slipway.Conflict)
	w.ok(w.RetryRun(w.ctx, r.ID, "bob"))
	w.states(r.ID, "build/a", "ready", "build/b", "ready", "test/a", "blocked", "approve/b@prod", "ready")
	w.runState(r.ID, slipway.RunRunning)
}

func TestWhatEndsWellDespiteACancelIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("deploy/a@dev"), p("verify/a@dev", "deploy/a@dev")))
	st := w.start(r.ID, "deploy/a@dev")
	w.ok(w.CancelRun(w.ctx, r.ID, "bob", ""))
	w.ok(w.FinishStep(w.ctx, st.ID, 1, slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("x/y")}}}, nil))
	w.states(r.ID, "deploy/a@dev", "succeeded", "verify/a@dev", "cancelled")
	if got := w.stepOf(r.ID, "deploy/a@dev").Reason; !strings.Contains(got, "was not started") {
		t.Errorf("reason: %s", got)
	}
	w.runState(r.ID, slipway.RunCancelled)
}

func TestANewerPushSupersedes(t *testing.T) {
	t.Parallel()
	plan := steps(p("build/a"), p("publish/a", "build/a"), p("deploy/a@qa", "publish/a"))
	for _, c := range []struct {
		name, ref string
		before    func(w *world, run int64)
		want      slipway.RunState
	}{
		{"branch", "refs/heads/feature/x", func(w *world, run int64) {}, slipway.RunCancelled},
		{"pull request", "refs/pull/1/head", func(w *world, run int64) {}, slipway.RunCancelled},
		{"release before its version is claimed", "refs/heads/release/a/v1.0.0", func(w *world, run int64) { w.finish(run, "build/a", succeeded) }, slipway.RunCancelled},
		{"release that publishes", "refs/heads/release/a/v1.0.0", func(w *world, run int64) {
			w.finish(run, "build/a", succeeded)
			w.start(run, "publish/a")
		}, slipway.RunRunning},
		{"default branch", "refs/heads/main", func(w *world, run int64) {}, slipway.RunQueued},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			old := w.newRun(c.ref, commitA, plan)
			other := w.newRun(c.ref+"y", commitA, plan)
			c.before(w, old.ID)
			young := w.newRun(c.ref, commitB, plan)
			got := w.runState(old.ID, c.want)
			w.runState(other.ID, slipway.RunQueued)
			w.runState(young.ID, slipway.RunQueued)
			if want := fmt.Sprintf("superseded by run #%d", young.ID); c.want == slipway.RunCancelled && got.Reason != want {
				t.Errorf("reason %q, want %q", got.Reason, want)
			}
		})
	}
}

func TestRetryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a"), p("chart/a"), p("test/a", "build/a"), p("publish/a", "test/a", "chart/a")))
	w.code(w.RetryRun(w.ctx, r.ID, "ada"), slipway.Conflict)
	w.finish(r.ID, "chart/a", slipway.Result{Outcome: slipway.Skipped})
	w.finish(r.ID, "build/a", succeeded)
	st := w.start(r.ID, "test/a")
	w.ok(w.ErrorStep(w.ctx, st.ID, 1, "no BuildKit", nil))
	w.runState(r.ID, slipway.RunErrored)
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.states(r.ID, "build/a", "succeeded", "chart/a", "skipped", "test/a", "ready", "publish/a", "blocked")
	if st := w.stepOf(r.ID, "test/a"); st.Errors != 0 || !st.ErrorsSince.IsZero() {
		t.Errorf("a retry by a person starts afresh: %+v", st)
	}
	if st := w.finish(r.ID, "test/a", succeeded); st.Attempt != 2 {
		t.Errorf("attempt %d", st.Attempt)
	}
	w.finish(r.ID, "publish/a", succeeded)
	w.runState(r.ID, slipway.RunSucceeded)
	w.code(w.RetryRun(w.ctx, r.ID, "ada"), slipway.Conflict)
	w.code(w.RetryRun(w.ctx, 999, "ada"), slipway.NotFound)
}

func TestRetryAsksAgainWhenWhatWasApprovedFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/release/a/v1.0.0", commitA, steps(p("approve/a@prod"), p("retag/a", "approve/a@prod"), p("deploy/a@prod", "retag/a")))
	ask := slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.0", ImageDigest: "sha256:aa"}}
	w.finish(r.ID, "approve/a@prod", ask)
	first, err := w.Approvals(w.ctx, "shop", slipway.ApprovalWaiting)
	w.ok(err)
	w.do(w.Vote(w.ctx, first[0].ID, slipway.Vote{User: "bob", Approve: true}, slipway.Approvals{}))
	w.finish(r.ID, "retag/a", succeeded)
	w.finish(r.ID, "deploy/a@prod", slipway.Result{Outcome: slipway.Failed, Reason: "the base revision is not the approved one"})
	w.ok(w.RetryRun(w.ctx, r.ID, "ada"))
	w.states(r.ID, "approve/a@prod", "ready", "retag/a", "succeeded", "deploy/a@prod", "blocked")
	w.finish(r.ID, "approve/a@prod", ask)
	w.runState(r.ID, slipway.RunWaiting)
	second, err := w.Approvals(w.ctx, "shop", slipway.ApprovalWaiting)
	w.ok(err)
	if len(second) != 1 || second[0].ID == first[0].ID {
		t.Fatalf("asked again: %+v", second)
	}
	w.do(w.Vote(w.ctx, second[0].ID, slipway.Vote{User: "bob", Approve: true}, slipway.Approvals{}))
	w.states(r.ID, "deploy/a@prod", "ready")
}

func TestRecover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a"), p("build/b"), p("build/c"), p("test/a", "build/a")))
	a := w.start(r.ID, "build/a")
	b := w.start(r.ID, "build/b")
	w.ok(w.RetryStep(w.ctx, b.ID, 1, "later", w.clock.now().Add(time.Minute), nil))
	gone := w.newRun("refs/heads/main", commitB, steps(p("build/a")))
	d := w.start(gone.ID, "build/a")
	w.ok(w.CancelRun(w.ctx, gone.ID, "bob", ""))
	before := map[int64]int{}
	for _, key := range []string{"build/a", "build/b", "build/c"} {
		st := w.stepOf(r.ID, key)
		before[st.ID] = w.queue.newest(st.ID)
	}
	w.open() // as the next process does
	n, err := w.RecoverSteps(w.ctx, "here")
	w.ok(err)
	if n != 2 {
		t.Errorf("%d steps were left running, want 2", n)
	}
	w.states(r.ID, "build/a", "ready", "build/b", "retrying", "build/c", "ready", "test/a", "blocked")
	w.states(gone.ID, "build/a", "cancelled")
	w.runState(gone.ID, slipway.RunCancelled)
	for id, n := range before {
		if got := w.queue.newest(id); got != n+1 {
			t.Errorf("step %d has job %d, want %d", id, got, n+1)
		}
	}
	w.code(w.FinishStep(w.ctx, a.ID, 1, succeeded, nil), slipway.Conflict) // the dead process speaks
	w.code(w.FinishStep(w.ctx, d.ID, 1, succeeded, nil), slipway.Conflict)
	if st := w.start(r.ID, "build/a"); st.Attempt != 2 {
		t.Errorf("attempt %d", st.Attempt)
	}
	w.ok(w.ReleaseStep(w.ctx, a.ID, 2, nil))
	w.states(r.ID, "build/a", "ready")
}

func TestStateByState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, from := range slipway.StepStates() {
		for _, to := range slipway.StepStates() {
			r := w.newRun("refs/heads/main", commitA, steps(p("build/a")))
			err := w.write(w.ctx, func(tx *tx) error {
				row, err := tx.loadRun(r.ID)
				if err != nil {
					return err
				}
				st := row.steps[0]
				if _, err := tx.exec(`UPDATE steps SET state = $1, attempt = 1 WHERE id = $2`, from, st.ID); err != nil {
					return err
				}
				st.State = from
				return tx.move(row, st, change{to: to})
			})
			if allowed := slipway.MayMove(from, to); (err == nil) != allowed {
				t.Errorf("%s to %s: allowed %t, got %v", from, to, allowed, err)
			} else if !allowed {
				w.code(err, slipway.Conflict)
			}
		}
	}
}

func TestAStepThatMovedMeanwhileIsAConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a")))
	w.code(w.write(w.ctx, func(tx *tx) error {
		row, err := tx.loadRun(r.ID)
		if err != nil {
			return err
		}
		other, err := tx.loadRun(r.ID)
		if err != nil {
			return err
		}
		if err := tx.move(row, row.steps[0], change{to: slipway.StepRunning}); err != nil {
			return err
		}
		return tx.move(other, other.steps[0], change{to: slipway.StepCancelled})
	}), slipway.Conflict)
	w.states(r.ID, "build/a", "ready")
}

func TestTheDatabaseChecksStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, steps(p("build/a")))
	for _, stmt := range []string{
		`UPDATE steps SET state = 'splendid'`,
		`UPDATE steps SET state = 'running'`, // without an attempt
		`UPDATE steps SET fulfilled = 1`,     // while ready
		`UPDATE steps SET lock_wait = 1`,
		`UPDATE runs SET state = 'splendid'`,
		`UPDATE runs SET project = 'nowhere'`,
		`UPDATE events SET message = 'never was'`,
		`DELETE FROM events`,
		`INSERT INTO events (key, time, kind, message, hash) SELECT key, time, kind, message, hash FROM events LIMIT 1`,
		`INSERT INTO steps (run_id, project, key, kind, spec, state) VALUES (1, 'shop', 'build/a', 'build', '{}', 'ready')`,
		`INSERT INTO steps (run_id, project, key, kind, spec, state) VALUES (999, 'shop', 'build/z', 'build', '{}', 'ready')`,
	} {
		if _, err := w.DB().Exec(stmt); err == nil {
			t.Errorf("the database takes %s", stmt)
		}
	}
	w.states(r.ID, "build/a", "ready")
}

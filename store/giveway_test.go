package store

import (
	"testing"

	"github.com/slipway-cd/slipway"
)

// deploys is a plan that deploys a version under the lock of its target and verifies it.
func deploys(version string) slipway.Plan {
	deploy := locked(p("deploy/a@dev"))
	deploy.Service, deploy.Environment = "a", "dev"
	deploy.Deploy = &slipway.DeploySpec{Version: version}
	return steps(deploy, locked(p("verify/a@dev", "deploy/a@dev")))
}

func TestAWaitingOlderDeploymentGivesWay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		waiting []string // versions, in the order of their runs
		order   []int    // in which their jobs come
		left    int
	}{
		"commits":                     {[]string{"main-1", "main-2", "main-3"}, []int{0, 1, 2}, 2},
		"commits, the newest first":   {[]string{"main-1", "main-2", "main-3"}, []int{2, 0, 1}, 2},
		"releases":                    {[]string{"v1.0.1", "v1.0.2"}, []int{0, 1}, 1},
		"a backport after a release":  {[]string{"v1.1.0", "v1.0.2"}, []int{0, 1}, 0},
		"a backport before a release": {[]string{"v1.0.2", "v1.1.0"}, []int{1, 0}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			now := w.newRun("refs/heads/main", commitA, deploys("main-0"))
			w.start(now.ID, "deploy/a@dev")
			var runs []slipway.Run
			for _, v := range c.waiting {
				runs = append(runs, w.newRun("refs/heads/main", commitB, deploys(v)))
			}
			for _, i := range c.order {
				st := w.stepOf(runs[i].ID, "deploy/a@dev")
				if !st.State.Final() {
					_, _, err := w.StartStep(w.ctx, st.ID, w.queue.newest(st.ID), "here")
					w.code(err, slipway.Conflict)
				}
			}
			for i, r := range runs {
				if i == c.left {
					w.states(r.ID, "deploy/a@dev", "retrying", "verify/a@dev", "blocked")
					continue
				}
				w.states(r.ID, "deploy/a@dev", "cancelled", "verify/a@dev", "cancelled")
				w.runState(r.ID, slipway.RunCancelled)
			}
			w.states(now.ID, "deploy/a@dev", "running") // what runs is left alone
		})
	}
}

// What has begun, what is not comparable and what only verifies stays in line.
func TestWhatDoesNotGiveWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	now := w.newRun("refs/heads/main", commitA, deploys("main-0"))
	begun := w.newRun("refs/heads/main", commitA, deploys("main-1"))
	release := w.newRun("refs/heads/release/a/v1.0.0", commitA, deploys("v1.0.0"))
	st := w.start(now.ID, "deploy/a@dev")
	w.busy(release.ID, "deploy/a@dev")
	w.ok(w.FinishStep(w.ctx, st.ID, 1, succeeded, nil))
	w.finish(now.ID, "verify/a@dev", succeeded)
	st = w.start(begun.ID, "deploy/a@dev")
	w.ok(w.ReleaseStep(w.ctx, st.ID, 1, nil))
	newer := w.newRun("refs/heads/main", commitB, deploys("main-2"))
	w.busy(newer.ID, "deploy/a@dev")
	w.states(begun.ID, "deploy/a@dev", "ready", "verify/a@dev", "blocked")
	w.states(release.ID, "deploy/a@dev", "retrying", "verify/a@dev", "blocked")
}

// A run that comes late does not put an older commit over a newer one; a release that is asked for does
// replace a commit.
func TestAnOvertakenCommitIsNotDeployed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := deploys("main-1")
	plan.Steps[0].Needs = []string{"build/a"}
	plan.Steps = append(plan.Steps, p("build/a"))
	late := w.newRun("refs/heads/main", commitA, plan)
	newer := w.newRun("refs/heads/main", commitB, deploys("main-2"))
	dep := w.deployment("main-2", slipway.Deployed)
	dep.Target.Environment = "dev"
	w.finish(newer.ID, "deploy/a@dev", slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{dep}})
	w.finish(newer.ID, "verify/a@dev", succeeded)

	w.finish(late.ID, "build/a", succeeded)
	st := w.stepOf(late.ID, "deploy/a@dev")
	_, _, err := w.StartStep(w.ctx, st.ID, w.queue.newest(st.ID), "here")
	w.code(err, slipway.Conflict)
	w.states(late.ID, "deploy/a@dev", "cancelled", "verify/a@dev", "cancelled")
	if got := w.runState(late.ID, slipway.RunCancelled); got.Reason != "superseded: run #2 deployed main-2 to dev" {
		t.Errorf("reason: %s", got.Reason)
	}
	again := w.newRun("refs/heads/release/a/v1.0.1", commitA, deploys("v1.0.1"))
	w.start(again.ID, "deploy/a@dev")
}

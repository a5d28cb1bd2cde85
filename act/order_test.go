package act_test

import (
	"slices"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/stage"
)

const refMain = "refs/heads/main"

// line is a delivery whose plans are made by their runner, at any moment.
type line struct {
	*delivery
	trees   map[string]files             // by commit
	cluster map[string]map[string]string // environment -> service -> commit
	last    string
}

func newLine(t *testing.T) *line {
	return &line{delivery: newDelivery(t), trees: map[string]files{}, cluster: map[string]map[string]string{}}
}

// asked pushes a tree; its run is not planned yet.
func (l *line) asked(ref string, tree files) slipway.Run {
	l.t.Helper()
	commit := l.commit(l.last, "push", tree)
	l.last, l.trees[commit] = commit, tree
	l.move(ref, commit)
	run := slipway.Run{Project: "shop", Event: slipway.BranchPush, Ref: ref, Commit: commit, Actor: "ada"}
	if ref == refMain {
		run.Event = slipway.DefaultPush
	}
	run, err := l.store.CreateRun(l.ctx, run, act.FirstPlan())
	l.ok(err)
	return run
}

// thought is a plan that was made and is not stored.
type thought struct {
	step slipway.Step
	res  slipway.Result
	err  error
}

// think makes the plan of a run.
func (l *line) think(run slipway.Run) thought {
	l.t.Helper()
	return l.thinks(run, l.start(run.ID, "plan"))
}

func (l *line) thinks(run slipway.Run, st slipway.Step) thought {
	res, err := l.planner.Run(l.ctx, stage.Env{Run: run, Log: &notes{}, Now: time.Now}, st.Spec)
	return thought{st, res, err}
}

// keep stores a plan as the engine does.
func (l *line) keep(t thought) {
	l.t.Helper()
	if t.err != nil {
		l.ok(l.store.RetryStep(l.ctx, t.step.ID, t.step.Attempt, t.err.Error(), time.Now(), nil))
		return
	}
	l.ok(l.store.FinishStep(l.ctx, t.step.ID, t.step.Attempt, t.res, nil))
}

// step ends one step well, or fails it; a plan is made. It reports whether the step could be started.
func (l *line) step(run slipway.Run, st slipway.Step, fails bool) bool {
	l.t.Helper()
	started, _, err := l.store.StartStep(l.ctx, st.ID, l.jobs.newest[st.ID], "here")
	if slipway.ErrorCode(err) == slipway.Conflict {
		return false
	}
	l.ok(err)
	if st.Spec.Kind == slipway.KindPlan {
		l.keep(l.thinks(run, started))
		return true
	}
	l.ok(l.store.FinishStep(l.ctx, started.ID, started.Attempt, l.acts(run, started, fails), nil))
	return true
}

// acts does a step's work; an approval is asked for; of a deployment that fails, the cluster has something.
func (l *line) acts(run slipway.Run, st slipway.Step, fails bool) slipway.Result {
	res := slipway.Result{Outcome: slipway.Succeeded}
	if fails {
		res = slipway.Result{Outcome: slipway.Failed, Reason: "red"}
	}
	if a := st.Spec.Approve; a != nil && !fails {
		return slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: a.Deploy.Version, Required: a.Approvals.Required}}
	}
	if d := st.Spec.Deploy; d != nil && st.Spec.Kind == slipway.KindDeploy {
		state := slipway.Deployed
		if fails {
			state = slipway.Unhealthy
		}
		at := d.Target.Environment
		if l.cluster[at] == nil {
			l.cluster[at] = map[string]string{}
		}
		l.cluster[at][d.Target.Service] = run.Commit
		res.Deployments = []slipway.Deployment{{Target: d.Target, Version: d.Version, Commit: d.Commit, RunID: run.ID, Step: st.Spec.Key, State: state}}
	}
	return res
}

// all are the runs of a ref, oldest first.
func (l *line) all(ref string) []slipway.Run {
	runs := l.runs(ref)
	slices.Reverse(runs)
	return runs
}

// quiet goes on until nothing does.
func (l *line) quiet(ref string) {
	l.t.Helper()
	for moved := true; moved; {
		moved = false
		for _, run := range l.all(ref) {
			steps, err := l.store.Steps(l.ctx, run.ID)
			l.ok(err)
			for _, st := range steps {
				if st.State == slipway.StepReady || st.State == slipway.StepRetrying && st.Errors > 0 {
					moved = l.step(run, st, false) || moved
				}
			}
		}
	}
	for _, run := range l.all(ref) {
		if !run.State.Final() {
			l.t.Errorf("run #%d is %s: %s", run.ID, run.State, run.Reason)
		}
	}
}

// wantDeployed compares the cluster with a tree.
func (l *line) wantDeployed(tree files, services ...string) {
	l.t.Helper()
	for _, name := range services {
		commit := l.cluster["development"][name]
		if got, want := l.trees[commit]["src/"+name+"/f"], tree["src/"+name+"/f"]; got != want || commit == "" {
			l.t.Errorf("%s is deployed with %q of %s, and the branch has %q", name, got, slipway.ShortHash(commit), want)
		}
	}
}

// plan is the newest plan of a run.
func (l *line) plan(run slipway.Run) map[string]string {
	l.t.Helper()
	d, err := l.store.Run(l.ctx, run.ID)
	l.ok(err)
	return said(d.Plan)
}

func changed(tree files, name, text string) files { return tree.with("src/"+name+"/f", text) }

// A change and its revert that are pushed right after each other leave nothing of the change, whatever comes
// first of the planning of the two.
func TestAChangeAndItsRevertAtOnce(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(l *line, change, back slipway.Run){
		"one after the other": func(l *line, change, back slipway.Run) {
			l.keep(l.think(change))
			l.keep(l.think(back))
		},
		"planned at once, the first is done first": func(l *line, change, back slipway.Run) {
			a, b := l.think(change), l.think(back)
			l.keep(a)
			l.keep(b)
		},
		"planned at once, the second is done first": func(l *line, change, back slipway.Run) {
			a, b := l.think(change), l.think(back)
			l.keep(b)
			l.keep(a)
		},
		"the second is begun first": func(l *line, change, back slipway.Run) {
			b := l.think(back)
			a := l.think(change)
			l.keep(a)
			l.keep(b)
		},
		"the second is done before the first is begun": func(l *line, change, back slipway.Run) {
			l.keep(l.think(back))
			l.keep(l.think(change))
		},
		"killed while both are planned": func(l *line, change, back slipway.Run) {
			l.think(change)
			l.think(back)
			l.do(l.store.RecoverSteps(l.ctx, "here"))
			l.restart()
			l.keep(l.think(back))
		},
		"killed when the second is planned": func(l *line, change, back slipway.Run) {
			l.think(change)
			l.keep(l.think(back))
			l.do(l.store.RecoverSteps(l.ctx, "here"))
			l.restart()
		},
		"the first could not be planned at once": func(l *line, change, back slipway.Run) {
			st := l.start(change.ID, "plan")
			b := l.think(back)
			l.ok(l.store.RetryStep(l.ctx, st.ID, st.Attempt, "git does not answer", time.Now(), nil))
			l.keep(b)
			l.keep(l.think(change))
		},
		"the first is planned again while the second is": func(l *line, change, back slipway.Run) {
			st := l.start(change.ID, "plan")
			l.ok(l.store.ErrorStep(l.ctx, st.ID, st.Attempt, "git does not answer", nil))
			b := l.think(back)
			l.ok(l.store.RetryRun(l.ctx, change.ID, "ada"))
			l.keep(l.think(change))
			l.keep(b)
		},
		"the first is cancelled while the second is planned": func(l *line, change, back slipway.Run) {
			a := l.think(change)
			l.ok(l.store.CancelRun(l.ctx, change.ID, "ada", ""))
			b := l.think(back)
			l.ok(l.store.CancelStep(l.ctx, a.step.ID, a.step.Attempt, nil))
			l.keep(b)
		},
		"the first is retried when the second is done": func(l *line, change, back slipway.Run) {
			l.keep(l.think(change))
			l.live(change.ID, 100, func(s slipway.PlanStep) bool { return s.Kind == slipway.KindBuild })
			l.keep(l.think(back))
			l.again(change)
		},
		"the first is retried while the second is planned": func(l *line, change, back slipway.Run) {
			l.keep(l.think(change))
			l.live(change.ID, 100, func(s slipway.PlanStep) bool { return s.Kind == slipway.KindBuild })
			b := l.think(back)
			l.ok(l.store.RetryRun(l.ctx, change.ID, "ada"))
			l.keep(b)
		},
		"the first failed to deploy, and is retried at the end": func(l *line, change, back slipway.Run) {
			l.keep(l.think(change))
			for steps := l.ready(change); len(steps) > 0; steps = l.ready(change) {
				l.step(change, steps[0], steps[0].Spec.Kind == slipway.KindDeploy)
			}
			l.quiet(refMain)
			l.again(change)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLine(t)
			was := changed(service("cart", "mail"), "cart", "0")
			l.asked(refMain, was)
			l.quiet(refMain)
			change := l.asked(refMain, changed(was, "cart", "1"))
			back := l.asked(refMain, was.with("README", "back"))
			how(l, change, back)
			l.quiet(refMain)
			l.wantDeployed(was, "cart", "mail")
			if t.Failed() {
				t.Logf("the change: %v\nback: %v", l.plan(change), l.plan(back))
			}
			next := l.asked(refMain, was.with("README", "next"))
			l.quiet(refMain)
			l.wants(l.plan(next), map[string]string{"cart": "skipped", "mail": "skipped"})
		})
	}
}

// again retries a run; one of which nothing may be retried any more is left.
func (l *line) again(run slipway.Run) {
	l.t.Helper()
	if err := l.store.RetryRun(l.ctx, run.ID, "ada"); err != nil {
		l.code(err, slipway.Conflict)
	}
}

// ready are the steps of a run that can be started.
func (l *line) ready(run slipway.Run) []slipway.Step {
	l.t.Helper()
	steps, err := l.store.Steps(l.ctx, run.ID)
	l.ok(err)
	return slices.DeleteFunc(steps, func(s slipway.Step) bool { return s.State != slipway.StepReady })
}

// A push whose run comes late, when a later push has its own already, makes none: runs are in the order of the pushes.
func TestAPushThatIsAcceptedLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.main()
	change := w.commit(first, "change", service("cart", "mail").with("src/cart/f", "1"))
	back := w.commit(change, "back", service("cart", "mail"))
	moved := func(commit string) []slipway.Push {
		recorded, err := w.receive(w.approver, refMain, commit)
		w.ok(err)
		w.move(refMain, commit)
		return recorded
	}
	one, two := moved(change), moved(back)
	w.Moved(w.ctx, two)
	if said := w.Moved(w.ctx, one); len(said) != 1 || said[0] != "refs/heads/main has moved on to "+slipway.ShortHash(back)+" since: nothing runs for "+slipway.ShortHash(change) {
		t.Errorf("%q", said)
	}
	if all := w.runs(refMain); len(all) != 2 || all[0].Commit != back {
		t.Errorf("runs %+v", all)
	}
	w.wantPushes(refMain, "received", "accepted", "received", "received", "accepted", "accepted")
	if seen, err := w.store.SeenRefs(w.ctx, "shop", ""); err != nil || seen[refMain] != back {
		t.Errorf("seen %v, %v", seen, err)
	}

	// One that moved the ref to where it still is has its run, whenever it was recorded.
	again, err := w.receive(w.approver, refMain, w.commit(back, "again", service("cart")))
	w.ok(err)
	w.Moved(w.ctx, moved(w.commit(back, "x", service("mail"))))
	w.move(refMain, again[0].New)
	w.Moved(w.ctx, again)
	if all := w.runs(refMain); len(all) != 4 || all[0].Commit != again[0].New {
		t.Errorf("runs %+v", all)
	}
}

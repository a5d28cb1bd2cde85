package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

// TestNoInterleavingBreaksTheStore lets runs live through random interleavings of everything that may
// happen to them, things that come too late among them, and checks after each what must always hold.
func TestNoInterleavingBreaksTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		for _, stmt := range []string{ // what earlier lives left is not this one's
			`DELETE FROM locks`,
			`UPDATE steps SET state = 'cancelled', lock_wait = 0 WHERE state NOT IN ('succeeded', 'failed', 'errored', 'skipped', 'cancelled')`,
			`UPDATE approvals SET state = 'superseded' WHERE state = 'waiting'`,
		} {
			w.do(w.DB().Exec(stmt))
		}
		l := &life{world: w, rt: rt, project: fmt.Sprintf("p%d", n), jobs: len(w.queue.jobs)}
		w.do(w.CreateProject(w.ctx, slipway.Project{Name: l.project}, "ada"))
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { l.check() },
			"create": func(t *rapid.T) {
				if len(l.runs) < 4 {
					l.create()
				}
			},
			"start":    func(*rapid.T) { l.start() },
			"start2":   func(*rapid.T) { l.start() },
			"finish":   func(*rapid.T) { l.finish() },
			"finish2":  func(*rapid.T) { l.finish() },
			"finish3":  func(*rapid.T) { l.finish() },
			"trouble":  func(*rapid.T) { l.trouble() },
			"vote":     func(*rapid.T) { l.vote() },
			"cancel":   func(*rapid.T) { l.may(w.CancelRun(w.ctx, l.anyRun(), "bob", "")) },
			"retry":    func(*rapid.T) { l.may(w.RetryRun(w.ctx, l.anyRun(), "bob", "build/s0@dev", "publish/s1@dev")) },
			"retrying": func(*rapid.T) { l.may(w.RetryRun(w.ctx, l.anyRun(), "bob")) },
			"recover": func(*rapid.T) {
				_, err := w.RecoverSteps(w.ctx, "here")
				l.may(err)
			},
		})
	})
	if _, err := w.VerifyEvents(w.ctx); err != nil {
		t.Error(err)
	}
}

// life is one interleaving.
type life struct {
	*world
	rt      *rapid.T
	project string
	jobs    int // queue length at its begin
	runs    []int64
	begun   []slipway.Step // attempts that were started, ended or not
	extra   int
}

// may takes an error that a well-meaning late-comer gets, and no other.
func (l *life) may(err error) {
	switch slipway.ErrorCode(err) {
	case "", slipway.Conflict, slipway.NotFound, slipway.Forbidden:
	default:
		l.rt.Fatalf("%v", err)
	}
}

func (l *life) pick(label string, n int) int { return rapid.IntRange(0, n-1).Draw(l.rt, label) }

func (l *life) anyRun() int64 {
	if len(l.runs) == 0 {
		return 0
	}
	return l.runs[l.pick("run", len(l.runs))]
}

// create makes a run with a random graph of steps.
func (l *life) create() {
	kinds := []string{"build", "approve", "deploy", "publish"}
	var plan slipway.Plan
	for i := range 1 + l.pick("steps", 5) {
		s := p(fmt.Sprintf("%s/s%d@dev", kinds[l.pick("kind", len(kinds))], i))
		for j := range i {
			if l.pick("need", 3) == 0 {
				s.Needs = append(s.Needs, plan.Steps[j].Key)
			}
		}
		if s.Kind != slipway.KindApprove && l.pick("locked", 2) == 0 {
			s.Lock = fmt.Sprintf("%s/lock%d", l.project, l.pick("lock", 2))
		}
		plan.Steps = append(plan.Steps, s)
	}
	ref := []string{"refs/heads/main", "refs/heads/feature/x"}[l.pick("ref", 2)]
	r := slipway.Run{Project: l.project, Event: slipway.BranchPush, Ref: ref, Commit: commitA, Actor: "ada"}
	if ref == "refs/heads/main" {
		r.Event = slipway.DefaultPush
	}
	out, err := l.CreateRun(l.ctx, r, plan)
	l.may(err)
	l.runs = append(l.runs, out.ID)
}

// start starts any job that was ever queued.
func (l *life) start() {
	jobs := l.queue.jobs[l.jobs:]
	if len(jobs) == 0 {
		return
	}
	j := jobs[l.pick("job", len(jobs))]
	if l.pick("newest", 4) > 0 { // mostly the newest of that step
		j.number = l.queue.newest(j.step)
	}
	st, _, err := l.StartStep(l.ctx, j.step, j.number, "here")
	l.may(err)
	if err == nil {
		l.begun = append(l.begun, st)
	}
}

func (l *life) anyBegun() (slipway.Step, bool) {
	if len(l.begun) == 0 {
		return slipway.Step{}, false
	}
	return l.begun[len(l.begun)-1-l.pick("begun", min(6, len(l.begun)))], true
}

// finish ends any attempt that was ever started.
func (l *life) finish() {
	st, ok := l.anyBegun()
	if !ok {
		return
	}
	res := slipway.Result{Outcome: []slipway.Outcome{slipway.Succeeded, slipway.Succeeded, slipway.Failed, slipway.Skipped}[l.pick("outcome", 4)]}
	switch {
	case st.Spec.Kind == slipway.KindApprove:
		res = slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: fmt.Sprintf("v1.%d.0", l.pick("version", 3)), Required: 1 + l.pick("required", 2)}}
	case st.Spec.Kind == slipway.KindDeploy:
		state := []slipway.DeploymentState{slipway.Deployed, slipway.Verified, slipway.Unhealthy}[l.pick("deployment", 3)]
		res.Deployments = []slipway.Deployment{{Target: slipway.Target{Environment: "dev", Service: st.Spec.Service}, Version: "v1.1.0", State: state}}
	case l.extra < 5 && l.pick("more", 3) == 0:
		l.extra++
		more := p(fmt.Sprintf("verify/x%d", l.extra))
		more.Lock = st.Spec.Lock
		res.Next = &slipway.Plan{Steps: []slipway.PlanStep{more}}
		if l.pick("back", 2) == 0 { // the way back of this step's service, before it
			back := p(fmt.Sprintf("rollback/x%d", l.extra))
			back.Service, back.Environment = st.Spec.Service, st.Spec.Environment
			more.Service, more.Environment, more.Needs = back.Service, back.Environment, []string{back.Key}
			res.Next.Steps = []slipway.PlanStep{back, more}
		}
	}
	l.may(l.FinishStep(l.ctx, st.ID, st.Attempt, res, nil))
}

// trouble ends any attempt that was ever started without a result.
func (l *life) trouble() {
	st, ok := l.anyBegun()
	if !ok {
		return
	}
	switch l.pick("trouble", 4) {
	case 0:
		l.may(l.RetryStep(l.ctx, st.ID, st.Attempt, "again", l.clock.now().Add(time.Minute), nil))
	case 1:
		l.may(l.ErrorStep(l.ctx, st.ID, st.Attempt, "broken", nil))
	case 2:
		l.may(l.ReleaseStep(l.ctx, st.ID, st.Attempt, nil))
	case 3:
		l.may(l.CancelStep(l.ctx, st.ID, st.Attempt, nil))
	}
}

func (l *life) vote() {
	as, err := l.Approvals(l.ctx, l.project, "")
	l.may(err)
	if len(as) == 0 {
		return
	}
	v := slipway.Vote{User: []string{"ada", "bob", "eve"}[l.pick("voter", 3)], Approve: l.pick("approve", 3) > 0}
	_, err = l.Vote(l.ctx, as[l.pick("approval", len(as))].ID, v, slipway.Approvals{})
	l.may(err)
}

// check is what must always hold.
func (l *life) check() {
	fail := l.rt.Fatalf
	holders, queued, inLine := map[string]int{}, map[string]int{}, map[string]int{}
	err := l.write(l.ctx, func(t *tx) error {
		for _, id := range l.runs {
			r, err := t.loadRun(id)
			if err != nil {
				return err
			}
			if state, reason := derive(r.steps, r.cancel); state != r.State || reason != r.Reason {
				fail("run #%d is %s (%s), its steps say %s (%s)", id, r.State, r.Reason, state, reason)
			}
			for _, st := range r.steps {
				l.checkStep(t, r, st)
				switch {
				case st.lock == "":
				case st.lockWait:
					inLine[st.lock]++
				case st.State == slipway.StepReady:
					queued[st.lock]++
				case st.State == slipway.StepRunning:
					holders[st.lock]++
				}
			}
		}
		held, err := list(l.ctx, t, scanString, `SELECT name FROM locks JOIN steps s ON s.id = step_id WHERE name LIKE $1 AND s.state IN ('ready', 'running', 'retrying')`, l.project+"/%")
		if err != nil {
			return err
		}
		for _, name := range held {
			queued[name]++
		}
		dead, err := list(l.ctx, t, scanString, `SELECT name FROM locks JOIN steps s ON s.id = step_id WHERE s.state NOT IN ('ready', 'running', 'retrying')`)
		if err != nil || len(dead) > 0 {
			fail("locks of steps that are over: %v %v", dead, err)
		}
		return nil
	})
	if err != nil {
		fail("%v", err)
	}
	for lock, n := range holders {
		if n > 1 {
			fail("%d steps hold %s", n, lock)
		}
	}
	for lock, n := range inLine {
		if n > 0 && holders[lock]+queued[lock] == 0 {
			fail("%d steps wait for %s, and nobody will free it", n, lock)
		}
	}
	l.checkEvents()
}

func (l *life) checkStep(t *tx, r *runRow, st *stepRow) {
	fail := l.rt.Fatalf
	what := fmt.Sprintf("step %s of run #%d, %s", st.Spec.Key, r.ID, st.State)
	switch st.State {
	case slipway.StepReady, slipway.StepRetrying:
		if !st.lockWait && l.queue.newest(st.ID) != st.job {
			fail("%s: has job %d, the newest queued is %d", what, st.job, l.queue.newest(st.ID))
		}
		if r.cancel != "" {
			fail("%s: its run is cancelled", what)
		}
	case slipway.StepBlocked:
		if c, ok := next(r, st); ok {
			fail("%s: should be %s", what, c.to)
		}
	}
	waiting, _, err := one(l.ctx, t, scanInt, `SELECT count(*) FROM approvals WHERE step_id = $1 AND state = 'waiting'`, st.ID)
	if err != nil || (waiting == 1) != (st.State == slipway.StepWaiting) {
		fail("%s: %d approvals wait (%v)", what, waiting, err)
	}
}

// checkEvents checks that the events of each step are a way through the table of moves that ends where
// the step is, and those of each run end in the run's state.
func (l *life) checkEvents() {
	for _, id := range l.runs {
		d, err := l.Run(l.ctx, id)
		l.may(err)
		at := map[string]slipway.StepState{}
		run := slipway.RunQueued
		es, err := l.Events(l.ctx, 0, slipway.EventFilter{RunID: id, Limit: 1000})
		l.may(err)
		for _, e := range es {
			noun, verb, _ := strings.Cut(e.Kind, ".")
			switch {
			case noun == "step":
				from, ok := at[e.Step]
				if !ok {
					from = slipway.StepBlocked
				}
				if !slipway.MayMove(from, slipway.StepState(verb)) {
					l.rt.Fatalf("run #%d: %s went from %s to %s: %s", id, e.Step, from, verb, e.Message)
				}
				at[e.Step] = slipway.StepState(verb)
				if !json.Valid(e.Data) {
					l.rt.Fatalf("data of event %d: %s", e.ID, e.Data)
				}
			case noun == "run" && verb != "created" && verb != "cancelling" && verb != "retried":
				if run == slipway.RunState(verb) {
					l.rt.Fatalf("run #%d became %s twice in a row", id, verb)
				}
				run = slipway.RunState(verb)
			}
		}
		if run != d.Run.State && len(es) < 1000 {
			l.rt.Fatalf("run #%d is %s, its events say %s", id, d.Run.State, run)
		}
		for _, st := range d.Steps {
			if got, ok := at[st.Spec.Key]; ok && got != st.State && len(es) < 1000 {
				l.rt.Fatalf("%s of run #%d is %s, its events say %s", st.Spec.Key, id, st.State, got)
			}
		}
	}
}

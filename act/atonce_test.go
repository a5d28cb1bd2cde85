package act_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// crowd is a line in which everything happens at any moment.
type crowd struct {
	*line
	r       *rand.Rand
	ref     string
	fork    files // where the branch left the default one; nil: it is that
	trees   []files
	pushes  int
	plans   []*planning
	working []work
	said    []string // what happened, for when it goes wrong
}

// planning is a plan that is being stored, with what a replay of the past said when it was made.
type planning struct {
	thought
	run  slipway.Run
	tree files
	want map[string]bool
}

// work is a step that runs.
type work struct {
	run  slipway.Run
	step slipway.Step
}

var crowded = []string{"a", "b", "c", "d"}

func newCrowd(t *testing.T, seed uint64) *crowd {
	c := &crowd{line: newLine(t), r: rand.New(rand.NewPCG(seed, 24)), ref: refMain}
	yaml := "services: {b: {dependsOn: [a]}}\n"
	if seed%2 == 1 {
		yaml = "services: {b: {dependsOn: [a]}, c: {trigger: {batch: true}}}\n"
	}
	start := service(crowded...).with("slipway.yaml", yaml)
	if seed%3 == 1 {
		start = start.with("slipway.yaml", approved+yaml)
	}
	c.trees = []files{start}
	if seed%3 == 2 {
		c.asked(refMain, start)
		c.quiet(refMain)
		c.ref, c.fork = "refs/heads/x", start
	}
	return c
}

// note keeps what happened.
func (c *crowd) note(format string, args ...any) {
	c.said = append(c.said, fmt.Sprintf(format, args...))
}

// push pushes another tree: on top of the newest, or of any.
func (c *crowd) push() {
	if c.pushes++; c.pushes > 14 {
		return
	}
	tree := c.trees[c.r.IntN(len(c.trees))]
	if c.r.IntN(3) > 0 {
		tree = c.trees[len(c.trees)-1]
	}
	for range c.r.IntN(3) {
		name := crowded[c.r.IntN(4)]
		switch {
		case name == "d" && c.r.IntN(2) == 0 && has(tree, "d"):
			tree = maps.Clone(tree)
			delete(tree, "src/d/Dockerfile")
			delete(tree, "src/d/f")
		case has(tree, name):
			tree = changed(tree, name, fmt.Sprint(c.r.IntN(2)))
		default:
			tree = tree.with("src/d/Dockerfile", "FROM scratch\nCOPY . /\n")
		}
	}
	c.trees = append(c.trees, tree)
	run := c.asked(c.ref, tree.with("README", fmt.Sprint(c.pushes)))
	c.note("run #%d pushed", run.ID)
}

// past is what became of the runs before one, as the model knows it, and whether a later one is planned.
func (c *crowd) past(before int64) (history []past, later bool) {
	for _, run := range c.all(c.ref) {
		d, err := c.store.Run(c.ctx, run.ID)
		c.ok(err)
		if len(d.Plan.Decisions) == 0 || run.ID == before {
			continue
		}
		if run.ID > before {
			return history, true
		}
		history = append(history, pastOf(d, c.line.trees[run.Commit]))
	}
	return history, false
}

// pastOf is a run as the model knows it.
func pastOf(d slipway.RunDetail, tree files) past {
	was := past{tree: tree, good: map[string]bool{}, left: map[string]bool{}, skipped: map[string]bool{}, took: map[string]bool{}, waits: map[string]bool{}, leftTo: map[string]bool{}}
	for _, dec := range d.Plan.Decisions {
		was.good[dec.Service], was.skipped[dec.Service], was.leftTo[dec.Service] = dec.Runs, !dec.Runs, dec.LeftTo != 0
	}
	idle := map[string]bool{}
	for _, name := range crowded {
		idle[name] = true
	}
	for _, s := range d.Steps {
		name := s.Spec.Service
		was.took[name] = true
		was.good[name] = was.good[name] && s.State == slipway.StepSucceeded
		was.left[name] = was.left[name] || !s.State.Final() || s.Spec.Kind == slipway.KindDeploy && s.Attempt > 0
		idle[name] = idle[name] && (s.State == slipway.StepSucceeded || s.State == slipway.StepWaiting || s.State == slipway.StepBlocked)
	}
	idle["b"] = idle["b"] && idle["a"] // it is deployed after that one
	for _, name := range crowded {
		was.waits[name] = was.took[name] && !was.good[name] && idle[name]
	}
	return was
}

// foresees says by replaying the past what runs, and what is left to a run that waits.
func (c *crowd) foresees(history []past, tree files) map[string]bool {
	out := map[string]bool{}
	for _, name := range crowded {
		out[name] = runs(history, c.fork, tree, name) && !(c.fork == nil && leaves(history, tree, name))
	}
	if out["b"] && runs(history, c.fork, tree, "a") { // that is deployed before
		out["a"] = true
	}
	return out
}

// begin starts a step; a plan is made at once, and stored at some later time.
func (c *crowd) begin(w work) {
	st, _, err := c.store.StartStep(c.ctx, w.step.ID, c.jobs.newest[w.step.ID], "here")
	if slipway.ErrorCode(err) == slipway.Conflict {
		return
	}
	c.ok(err)
	c.note("run #%d %s begun", w.run.ID, st.Spec.Key)
	if st.Spec.Kind != slipway.KindPlan {
		c.working = append(c.working, work{w.run, st})
		return
	}
	p := &planning{run: w.run, tree: c.line.trees[w.run.Commit]}
	history, later := c.past(w.run.ID)
	p.want = c.foresees(history, p.tree)
	if later { // nobody is to plan it any more, or it does no harm
		p.want = nil
	}
	p.thought = c.thinks(w.run, st)
	c.plans = append(c.plans, p)
}

// store stores a plan, and compares it with the replay if it was taken.
func (c *crowd) storePlan(p *planning) {
	c.t.Helper()
	history, _ := c.past(p.run.ID)
	c.keep(p.thought)
	d, err := c.store.Run(c.ctx, p.run.ID)
	c.ok(err)
	c.note("run #%d planned: %v %s %s", p.run.ID, said(d.Plan), d.Run.State, d.Steps[0].Reason)
	for _, dec := range d.Plan.Decisions {
		if dec.Removed || p.want == nil {
			continue
		}
		if dec.Runs != p.want[dec.Service] {
			c.t.Fatalf("run #%d: %s: a replay says that it runs: %t", p.run.ID, dec, p.want[dec.Service])
		}
		if c.fork == nil && !dec.Runs && c.foresees(history, p.tree)[dec.Service] {
			c.t.Fatalf("run #%d: %s: when that was stored it was not so any more", p.run.ID, dec)
		}
	}
}

// end ends a step that runs, in some way.
func (c *crowd) end(w work, well bool) {
	how := c.r.IntN(24)
	d, err := c.store.Run(c.ctx, w.run.ID)
	c.ok(err)
	switch {
	case well:
	case how < 4:
		c.note("run #%d %s failed", w.run.ID, w.step.Spec.Key)
		c.ok(c.store.FinishStep(c.ctx, w.step.ID, w.step.Attempt, c.acts(w.run, w.step, true), nil))
		return
	case how == 4:
		c.ok(c.store.RetryStep(c.ctx, w.step.ID, w.step.Attempt, "registry does not answer", time.Now(), nil))
		return
	case how < 12 && len(d.Run.Reason) > 8 && d.Run.Reason[:8] == "stopping":
		c.ok(c.store.CancelStep(c.ctx, w.step.ID, w.step.Attempt, nil))
		return
	}
	c.note("run #%d %s done", w.run.ID, w.step.Spec.Key)
	c.ok(c.store.FinishStep(c.ctx, w.step.ID, w.step.Attempt, c.acts(w.run, w.step, false), nil))
}

// vote has a person agree to something that waits, or reject it.
func (c *crowd) vote(agrees bool) bool {
	open, err := c.store.Approvals(c.ctx, "shop", slipway.ApprovalWaiting)
	c.ok(err)
	if len(open) == 0 {
		return false
	}
	a := open[c.r.IntN(len(open))]
	c.note("%s of run #%d in %s: %t", a.Service, a.RunID, a.Environment, agrees)
	c.do(c.store.Vote(c.ctx, a.ID, slipway.Vote{User: "bob", Approve: agrees, Reason: "so"}, slipway.Approvals{}))
	return true
}

// kill is the end of the process: what it was at is begun again.
func (c *crowd) kill() {
	c.note("killed")
	c.plans, c.working = nil, nil
	c.do(c.store.RecoverSteps(c.ctx, "here"))
}

// ask has a person cancel or retry some run.
func (c *crowd) ask() {
	all := c.all(c.ref)
	if len(all) == 0 {
		return
	}
	run := all[c.r.IntN(len(all))]
	var err error
	if !run.State.Final() && c.r.IntN(3) == 0 {
		err = c.store.CancelRun(c.ctx, run.ID, "ada", "")
	} else if run.State.Final() {
		err = c.store.RetryRun(c.ctx, run.ID, "ada")
	} else {
		return
	}
	c.note("run #%d, which was %s, cancelled or retried: %v", run.ID, run.State, err)
	if err != nil {
		c.code(err, slipway.Conflict)
	}
}

// open are the steps that can be begun.
func (c *crowd) open() (out []work) {
	for _, run := range c.all(c.ref) {
		if run.State.Final() {
			continue
		}
		steps, err := c.store.Steps(c.ctx, run.ID)
		c.ok(err)
		for _, st := range steps {
			if st.State == slipway.StepReady || st.State == slipway.StepRetrying && st.Errors > 0 {
				out = append(out, work{run, st})
			}
		}
	}
	return out
}

// tick has one thing happen; once there is nothing new, all goes on well until nothing is left, which it reports.
func (c *crowd) tick(well bool) bool {
	switch how := c.r.IntN(40); {
	case well:
	case how < 4:
		for range 1 + c.r.IntN(3) {
			c.push()
		}
		return true
	case how < 7:
		c.ask()
		return true
	case how == 7:
		c.kill()
		return true
	case how < 10 && c.vote(c.r.IntN(3) > 0):
		return true
	}
	open := c.open()
	n := len(open) + len(c.plans) + len(c.working)
	if n == 0 {
		return well && c.vote(true)
	}
	if i := slices.IndexFunc(open, func(w work) bool { return w.step.Spec.Kind == slipway.KindPlan }); i >= 0 && c.r.IntN(3) == 0 {
		c.begin(open[i])
		return true
	}
	switch i := c.r.IntN(n); {
	case i < len(open):
		c.begin(open[i])
	case i < len(open)+len(c.plans):
		i -= len(open)
		p := c.plans[i]
		c.plans = slices.Delete(c.plans, i, i+1)
		if !well && c.r.IntN(8) == 0 {
			p.err = fmt.Errorf("git does not answer")
		}
		c.storePlan(p)
	default:
		i -= len(open) + len(c.plans)
		w := c.working[i]
		c.working = slices.Delete(c.working, i, i+1)
		c.end(w, well)
	}
	return true
}

// check compares what is there with the newest commit of the branch.
func (c *crowd) check() {
	c.t.Helper()
	all := c.all(c.ref)
	for _, run := range all {
		if !run.State.Final() {
			c.t.Errorf("run #%d is %s: %s", run.ID, run.State, run.Reason)
		}
	}
	tip := all[len(all)-1]
	tree := c.line.trees[tip.Commit]
	d, err := c.store.Run(c.ctx, tip.ID)
	c.ok(err)
	if len(d.Plan.Decisions) == 0 && tip.State == slipway.RunSucceeded {
		c.t.Errorf("run #%d was never planned", tip.ID)
	}
	built, err := c.store.Built(c.ctx, "shop", "", c.ref, 0)
	c.ok(err)
	for _, dec := range d.Plan.Decisions {
		of := d
		if dec.LeftTo != 0 {
			of, err = c.store.Run(c.ctx, dec.LeftTo)
			c.ok(err)
		}
		red := slices.ContainsFunc(of.Steps, func(s slipway.Step) bool {
			return s.Spec.Service == dec.Service && s.State != slipway.StepSucceeded
		})
		switch {
		case dec.Removed:
			continue
		case red && of.Run.State == slipway.RunSucceeded:
			c.t.Errorf("run #%d succeeded without %s", of.Run.ID, dec.Service)
		case red:
			continue
		}
		want := inputs(tree, dec.Service)
		if at := built.Of(dec.Service).Commit; at == "" || inputs(c.line.trees[at], dec.Service) != want {
			c.t.Errorf("%s: done with at %s, where it is another one", dec, slipway.ShortHash(at))
		}
		for environment, has := range c.cluster {
			if at := has[dec.Service]; c.fork == nil && (at == "" || inputs(c.line.trees[at], dec.Service) != want) {
				c.t.Errorf("%s: deployed in %s is %s, where it is another one", dec, environment, slipway.ShortHash(at))
			}
		}
	}
}

// Whatever comes between what, each service is in the end as the branch has it, unless its last run says that it
// failed; and nothing runs that has not changed.
func TestEveryServiceHasWhatTheBranchHas(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{0, 1, 2, 3, 4, 5, 7, 25} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t, seed)
			t.Cleanup(func() {
				if t.Failed() {
					t.Log(strings.Join(c.said, "\n"))
				}
			})
			c.push()
			for range 160 {
				c.tick(false)
			}
			for c.tick(true) {
			}
			c.check()
		})
	}
}

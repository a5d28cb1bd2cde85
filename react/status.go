package react

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Aggregate is the context of the status that stands for all services of a commit: the one that a
// branch protection can require, whichever services a commit touches.
const Aggregate = "slipway"

// verdict is what is said of a service or of all, for one run.
type verdict struct {
	state slipway.StatusState
	text  string
	run   int64
	step  string // that tells most, "" for none
	ran   bool
}

// statuses are those of a commit: the aggregate first, then the services in the order of the plan,
// skipped ones last. Several runs of one commit (of a branch and of its pull request) count together:
// the worst is said.
func (r *Reactor) statuses(ctx context.Context, codebase, hash string, held slipway.PullRequest) ([]slipway.CommitStatus, error) {
	runs, err := r.newest(ctx, codebase, hash)
	if err != nil {
		return nil, err
	}
	all := tally{about: slipway.CommitStatus{Commit: hash}, services: map[string]verdict{}}
	for _, run := range runs {
		d, err := r.Runs.Run(ctx, run.ID)
		if err != nil {
			return nil, err
		}
		passed, err := r.reports(ctx, d)
		if err != nil {
			return nil, err
		}
		all.add(d, passed)
	}
	if held.Held == hash {
		all.total = worse(all.total, verdict{state: slipway.StatusPending, text: "of a fork: runs when a member comments /slipway approve"})
		all.about.Pull = held.Number
	}
	if err := r.topic(ctx, codebase, &all.about); err != nil {
		return nil, err
	}
	project, _ := slipway.SplitCodebase(codebase)
	return all.statuses(r.URL, project), nil
}

// topic adds the branch of a pull request that is not of a fork, where the branch itself has no run.
func (r *Reactor) topic(ctx context.Context, codebase string, about *slipway.CommitStatus) error {
	if about.Branch != "" || about.Pull == 0 {
		return nil
	}
	p, err := r.Runs.Pull(ctx, codebase, about.Pull)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	if err == nil && !p.Fork {
		about.Branch = p.Topic
	}
	return err
}

// newest are the newest run of each event and ref of a commit of a codebase, newest first.
func (r *Reactor) newest(ctx context.Context, codebase, hash string) ([]slipway.Run, error) {
	runs, err := r.Runs.Runs(ctx, slipway.RunFilter{Codebase: codebase, Commit: hash, Limit: 200})
	seen := map[string]bool{}
	var out []slipway.Run
	for _, run := range runs {
		key := string(run.Event) + " " + run.Ref
		if run.Event == slipway.RollbackCall || seen[key] {
			continue
		}
		seen[key] = true
		out = append(out, run)
	}
	return out, err
}

// reports are the test reports of a run by the key of their step.
func (r *Reactor) reports(ctx context.Context, d slipway.RunDetail) (map[string]slipway.TestReport, error) {
	out := map[string]slipway.TestReport{}
	for _, st := range d.Steps {
		if st.Spec.Kind != slipway.KindTest || !st.State.Final() {
			continue
		}
		report, err := r.Runs.Report(ctx, st.ID)
		if slipway.ErrorCode(err) == slipway.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[st.Spec.Key] = report
	}
	return out, nil
}

// tally gathers the verdicts of a commit's runs.
type tally struct {
	about    slipway.CommitStatus // commit, pull and branch
	total    verdict
	order    []string
	services map[string]verdict
}

func (t *tally) add(d slipway.RunDetail, reports map[string]slipway.TestReport) {
	run := d.Run
	if run.Pull != 0 {
		t.about.Pull = run.Pull
	} else if branch, ok := strings.CutPrefix(run.Ref, "refs/heads/"); ok && t.about.Branch == "" {
		t.about.Branch = branch
	}
	t.total = worse(t.total, runVerdict(d))
	for _, dec := range d.Plan.Decisions {
		if dec.Service == "" || dec.Removed {
			continue
		}
		v := serviceVerdict(d, dec, reports)
		have, known := t.services[dec.Service]
		if !known {
			t.order = append(t.order, dec.Service)
		}
		t.services[dec.Service] = worse(have, v)
	}
}

func (t *tally) statuses(address, project string) []slipway.CommitStatus {
	if t.total.state == "" {
		return nil
	}
	status := func(context string, v verdict) slipway.CommitStatus {
		s := t.about
		s.Context, s.State, s.Description = context, v.state, slipway.CleanLine(v.text, 300)
		s.URL = address + "/projects/" + project + "/pulls"
		if v.run != 0 {
			s.URL = runLink(address, v.run, v.step)
		}
		return s
	}
	out := []slipway.CommitStatus{status(Aggregate, t.total)}
	for _, ran := range []bool{true, false} {
		for _, name := range t.order {
			if v := t.services[name]; v.ran == ran {
				out = append(out, status(Aggregate+"/"+name, v))
			}
		}
	}
	return out
}

func runLink(address string, run int64, step string) string {
	link := address + "/runs/" + strconv.FormatInt(run, 10)
	if step != "" {
		link += "?step=" + url.QueryEscape(step)
	}
	return link
}

// worse is the verdict that counts: red before trouble, trouble before what goes on, that before what is
// done, and what ran before what was skipped.
func worse(a, b verdict) verdict {
	rank := func(v verdict) int {
		switch v.state {
		case slipway.StatusFailure:
			return 5
		case slipway.StatusError:
			return 4
		case slipway.StatusPending:
			return 3
		case slipway.StatusSuccess:
			if v.ran {
				return 2
			}
			return 1
		}
		return 0
	}
	if rank(b) > rank(a) {
		return b
	}
	return a
}

// runVerdict is what is said of a run as a whole.
func runVerdict(d slipway.RunDetail) verdict {
	run := d.Run
	v := verdict{run: run.ID, ran: true}
	ran, skipped, left := 0, 0, 0
	for _, dec := range d.Plan.Decisions {
		switch {
		case dec.Service == "" || dec.Removed:
		case dec.Runs:
			ran++
		default:
			skipped++
		}
		if dec.LeftTo != 0 {
			left++
		}
	}
	switch run.State {
	case slipway.RunSucceeded:
		v.state, v.text = slipway.StatusSuccess, fmt.Sprintf("%s, %d skipped", slipway.Counted(ran, "service"), skipped)
		if ran == 0 {
			v.text, v.ran = "no service is affected", false
			if len(d.Plan.Decisions) == 1 {
				v.text = d.Plan.Decisions[0].Reason
			}
			if left > 0 && len(d.Plan.Decisions) > 1 {
				v.text += fmt.Sprintf("; %s left to earlier runs, which wait for approvals", slipway.Counted(left, "service"))
			}
		}
	case slipway.RunFailed, slipway.RunErrored:
		v.state = slipway.StatusFailure
		if run.State == slipway.RunErrored {
			v.state = slipway.StatusError
		}
		v.text = "run " + string(run.State)
		if st, ok := culprit(d.Steps); ok {
			v.step, v.text = st.Spec.Key, fmt.Sprintf("%s %s", st.Spec.Key, st.State)
			if st.Reason != "" {
				v.text += ": " + st.Reason
			}
		}
	case slipway.RunCancelled:
		v.state, v.text = slipway.StatusError, "cancelled"
		if run.Reason != "" {
			v.text = run.Reason
		}
	case slipway.RunWaiting:
		v.state, v.text = slipway.StatusPending, fmt.Sprintf("run #%d waits for an approval", run.ID)
	default:
		v.state, v.text = slipway.StatusPending, fmt.Sprintf("run #%d is under way", run.ID)
	}
	return v
}

// culprit is the first step that failed, or else ended in an error.
func culprit(steps []slipway.Step) (slipway.Step, bool) {
	for _, state := range []slipway.StepState{slipway.StepFailed, slipway.StepErrored} {
		for _, st := range steps {
			if st.State == state {
				return st, true
			}
		}
	}
	return slipway.Step{}, false
}

// serviceVerdict is what is said of one service of a run.
func serviceVerdict(d slipway.RunDetail, dec slipway.Decision, reports map[string]slipway.TestReport) verdict {
	v := verdict{run: d.Run.ID, ran: dec.Runs, state: slipway.StatusSuccess, text: dec.Reason}
	if !dec.Runs {
		if dec.LeftTo != 0 {
			v.run = dec.LeftTo
		}
		return v
	}
	var steps []slipway.Step
	open, waiting, cancelled, tests := 0, 0, 0, ""
	for _, st := range d.Steps {
		if st.Spec.Service != dec.Service {
			continue
		}
		steps = append(steps, st)
		switch {
		case st.State == slipway.StepWaiting:
			waiting++
		case st.State == slipway.StepCancelled:
			cancelled++
		case !st.State.Final():
			open++
		}
		if report, ok := reports[st.Spec.Key]; ok {
			tests = testText(report)
		}
	}
	st, bad := culprit(steps)
	switch {
	case bad:
		v.state, v.step = slipway.StatusFailure, st.Spec.Key
		if st.State == slipway.StepErrored {
			v.state = slipway.StatusError
		}
		v.text = fmt.Sprintf("%s %s", st.Spec.Kind, st.State)
		if report, ok := reports[st.Spec.Key]; ok && report.Failed > 0 {
			v.text = testText(report)
		} else if st.Reason != "" {
			v.text += ": " + st.Reason
		}
	case cancelled > 0:
		v.state, v.text = slipway.StatusError, "cancelled"
	case open > 0:
		v.state, v.text = slipway.StatusPending, "under way"
	case waiting > 0:
		v.state, v.text = slipway.StatusPending, "waits for an approval"
	default:
		v.text = "done"
		if tests != "" {
			v.text += ", " + tests
		}
	}
	return v
}

func testText(r slipway.TestReport) string {
	switch {
	case r.Failed > 0:
		return fmt.Sprintf("%d of %s failed", r.Failed, slipway.Counted(r.Passed+r.Failed, "test"))
	case r.Skipped > 0:
		return fmt.Sprintf("%s passed, %d skipped", slipway.Counted(r.Passed, "test"), r.Skipped)
	}
	return slipway.Counted(r.Passed, "test") + " passed"
}

package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// runPage is a run with the step that is looked at.
type runPage struct {
	slipway.RunDetail
	Lanes    lanes
	Graph    graph
	Failures []stepFailure
	Retrying []slipway.Step // what went wrong and is tried again
	Back     []wentBack
	Asking   []asking           // approvals that wait, the one that is looked at first
	Others   []slipway.Approval // further ones that wait
	Timings  []timing
	Waited   time.Duration // for people
	Selected *slipway.Step
	Report   *report
	Gates    *gateList
	Said     []stepGate // by the gates of the selected step
	Evidence []evidence // of the selected step
	Proofs   []proof    // what the selected step has signed
	Log      *stepLog   // nil: no step, or it is in the browser already

	said  []slipway.GateResult
	given waived
}

// stepFailure is why a step failed: its tests, its gates, or the end of its log.
type stepFailure struct {
	Step  slipway.Step
	Tests []slipway.SuiteCase // failed ones
	More  int                 // failed ones that are not shown
	Gates []failedGate
	Lines []slipway.LogLine
}

// Told reports whether the gates say all that the step's reason says.
func (f stepFailure) Told() bool {
	return len(f.Gates) > 0 && strings.HasPrefix(f.Step.Reason, "gate ")
}

// stepLog is the log of the selected step as far as it is written.
type stepLog struct {
	Run  int64
	Key  string
	Live bool
	*folded
}

const (
	mostFailures = 3  // steps whose failure is explained at the top
	tailLines    = 14 // of the log of each
	mostTests    = 5  // failed tests of each
)

func (s *server) run(r *http.Request, by slipway.User) (string, view, error) {
	n, err := id(r, "run")
	if err != nil {
		return "", view{}, err
	}
	d, err := s.Reads.Run(r.Context(), by, n)
	if err != nil {
		return "", view{}, err
	}
	p := &runPage{RunDetail: d, Selected: chooseStep(d, r.FormValue("step")), Waited: waited(s.Now(), d)}
	key, service := "", ""
	if p.Selected != nil {
		key, service = p.Selected.Spec.Key, p.Selected.Spec.Service
	}
	p.Lanes = lanesOf(r, d.Steps, service)
	shown := d
	shown.Steps = p.Lanes.Steps
	p.Timings, p.Graph = timings(s.Now(), shown), layOut(shown.Steps, n, key)
	said, given, err := s.gates(r, by, d, "")
	if err != nil {
		return "", view{}, err
	}
	listed := slices.DeleteFunc(slices.Clone(said), func(g slipway.GateResult) bool { return p.Lanes.leavesOut(g.Service) })
	p.said, p.given, p.Gates = said, given, listGates(d, listed, given, runHref(n))
	p.Back = backOf(d)
	if p.Asking, p.Others, err = s.asking(r.Context(), by, d, r.FormValue("step")); err != nil {
		return "", view{}, err
	}
	if err := s.explain(r, by, p); err != nil {
		return "", view{}, err
	}
	return "run", view{Title: fmt.Sprintf("Run %d", n), State: string(d.Run.State), Project: d.Run.Project, Tab: "runs", Live: without(r), Run: n, Data: p}, nil
}

// explain reads the reports and logs that the page shows.
func (s *server) explain(r *http.Request, by slipway.User, p *runPage) error {
	for _, st := range p.Steps {
		switch {
		case st.State == slipway.StepRetrying && st.Reason != "":
			p.Retrying = append(p.Retrying, st)
		case failed(st) && len(p.Failures) < mostFailures:
			f, err := s.failure(r.Context(), by, p, st)
			if err != nil {
				return err
			}
			p.Failures = append(p.Failures, f)
		}
	}
	if p.Selected == nil {
		return nil
	}
	key := p.Selected.Spec.Key
	p.Said, p.Evidence = stepGates(p.said, key), stepEvidence(p.RunDetail, *p.Selected)
	switch p.Selected.Spec.Kind {
	case slipway.KindTest:
		var err error
		if p.Report, err = s.report(r.Context(), by, p.Run, p.Selected.Spec); err != nil {
			return err
		}
	case slipway.KindAttest:
		p.Proofs = proofs(p.RunDetail, p.Selected.Spec.Service)
	}
	p.Log = &stepLog{Run: p.Run.ID, Key: key, Live: !p.Selected.State.Final(), folded: &folded{}}
	if r.Header.Get("X-Log") == key { // the browser has it, and its stream continues it
		return nil
	}
	var err error
	p.Log.folded, err = s.readLog(r.Context(), by, p.Run.ID, *p.Selected)
	return err
}

func (s *server) failure(ctx context.Context, by slipway.User, p *runPage, st slipway.Step) (stepFailure, error) {
	f, told := stepFailure{Step: st}, ""
	if st.Spec.Kind == slipway.KindTest {
		got, err := s.Reads.Report(ctx, by, p.Run.ID, st.Spec.Key)
		if err := unlessMissing(err); err != nil {
			return f, err
		}
		for _, c := range got.Notable(mostTests) {
			if c.State == slipway.TestFailed {
				f.Tests = append(f.Tests, c)
			}
		}
		if f.More = got.Failed - len(f.Tests); len(f.Tests) > 0 {
			told = slipway.GateTests
		}
	}
	if st.State == slipway.StepFailed {
		f.Gates = slices.DeleteFunc(p.failedGates(st.Spec.Key), func(g failedGate) bool { return g.Gate == told })
	}
	if len(f.Tests)+len(f.Gates) > 0 {
		return f, nil
	}
	log, err := s.readLog(ctx, by, p.Run.ID, st)
	if err == nil {
		f.Lines = log.tail(tailLines, st.Reason)
	}
	return f, err
}

// readLog reads a step's log as far as it is written.
func (s *server) readLog(ctx context.Context, by slipway.User, run int64, st slipway.Step) (*folded, error) {
	f := &folded{}
	if st.Attempt == 0 {
		return f, nil
	}
	err := s.Streams.Log(ctx, by, run, st.Spec.Key, false, func(l slipway.LogLine) error {
		f.add(l)
		return nil
	})
	if f.held > mostLines {
		f.trim()
	}
	return f, unlessMissing(err)
}

// unlessMissing is err, but nil when it says that something is not there.
func unlessMissing(err error) error {
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	return err
}

func failed(st slipway.Step) bool {
	return st.State == slipway.StepFailed || st.State == slipway.StepErrored
}

// chooseStep is the step a person most likely wants to see: the one asked for, else one at work, else
// the first that failed, else the last that did something.
func chooseStep(d slipway.RunDetail, asked string) *slipway.Step {
	var bad, working, last *slipway.Step
	for i := range d.Steps {
		st := &d.Steps[i]
		switch {
		case asked != "" && st.Spec.Key == asked:
			return st
		case failed(*st):
			if bad == nil {
				bad = st
			}
		case st.State == slipway.StepRunning || st.State == slipway.StepRetrying:
			if working == nil {
				working = st
			}
		case st.Attempt > 0:
			last = st
		}
	}
	for _, st := range []*slipway.Step{working, bad, last} {
		if st != nil {
			return st
		}
	}
	if len(d.Steps) > 0 {
		return &d.Steps[0]
	}
	return nil
}

// Services counts those that the plan decides about, and Running those of them that it runs. A way back decides once more
// about a service.
func (p *runPage) Services() int { return p.decided(func(slipway.Decision) bool { return true }) }

func (p *runPage) Running() int { return p.decided(func(d slipway.Decision) bool { return d.Runs }) }

func (p *runPage) decided(counts func(slipway.Decision) bool) int {
	of := map[string]bool{}
	for _, d := range p.Plan.Decisions {
		if d.Service != "" && counts(d) {
			of[d.Service] = true
		}
	}
	return len(of)
}

// manySteps is from how many on the times of a run's steps are folded away.
const manySteps = 40

// ManySteps reports whether the times of the steps are folded away.
func (p *runPage) ManySteps() bool { return len(p.Timings) > manySteps }

// timing is when a step ran, in thousandths of the run.
type timing struct {
	Step        slipway.Step
	From, Width int
}

func timings(now time.Time, d slipway.RunDetail) []timing {
	end := d.Run.FinishedAt
	if end.IsZero() {
		end = now
	}
	total := max(end.Sub(d.Run.CreatedAt), time.Millisecond)
	share := func(t time.Time) int { return int(min(1000, max(0, t.Sub(d.Run.CreatedAt)*1000/total))) }
	var out []timing
	for _, st := range d.Steps {
		t := timing{Step: st}
		if !st.StartedAt.IsZero() {
			stop := st.FinishedAt
			if stop.IsZero() {
				stop = end
			}
			t.From = min(share(st.StartedAt), 996)
			t.Width = max(4, share(stop)-t.From)
		}
		out = append(out, t)
	}
	return out
}

// waited is for how long a run's steps waited for people; where several did at once, that time counts once.
func waited(now time.Time, d slipway.RunDetail) (sum time.Duration) {
	all := slices.Clone(d.Approvals)
	slices.SortFunc(all, func(a, b slipway.Approval) int { return a.CreatedAt.Compare(b.CreatedAt) })
	var until time.Time // to which it is counted
	for _, a := range all {
		end := a.DecidedAt
		switch {
		case !end.IsZero():
		case a.State == slipway.ApprovalWaiting:
			end = now
		default:
			continue
		}
		if from := later(a.CreatedAt, until); end.After(from) {
			sum, until = sum+end.Sub(from), end
		}
	}
	return sum
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

package laptop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Step is a step of a run on the laptop, and how it ended.
type Step struct {
	Key       string              `json:"key"`
	Kind      slipway.StepKind    `json:"kind"`
	Service   string              `json:"service"`
	State     slipway.StepState   `json:"state"`
	Reason    string              `json:"reason,omitempty"`
	Seconds   float64             `json:"seconds"`
	Reused    time.Time           `json:"reused,omitzero"` // when it was done whose result this is
	Report    *slipway.TestReport `json:"report,omitempty"`
	Artifacts []slipway.Artifact  `json:"artifacts,omitempty"`
	// Deployments are how those stood that the step made or looked at.
	Deployments []slipway.Deployment `json:"deployments,omitempty"`

	Took time.Duration `json:"-"`
	spec slipway.PlanStep
}

// Run runs the steps of a plan: those at once whose needs are met, parallel of them at most. It
// has no queue, no attempts and no record: what fails is run again by the person.
type Run struct {
	Run       slipway.Run
	Runners   map[slipway.StepKind]stage.Runner
	Workspace stage.Workspace
	Parallel  int
	Now       func() time.Time
	LogOf     func(slipway.PlanStep) stage.Log
	Moved     func(Step) // told when a step starts and when it ends, from one goroutine
}

// ended is what a runner said.
type ended struct {
	at   int
	res  slipway.Result
	err  error
	took time.Duration
}

// made is what the steps of a run have made so far, oldest first.
type made struct {
	artifacts   []slipway.Artifact
	deployments []slipway.Deployment
}

// Execute runs the steps to their ends, and those that follow from how they ended, and returns them in the
// order of the plan. When ctx ends, running steps are cancelled and waited for, and nothing more is started.
func (l *Run) Execute(ctx context.Context, plan []slipway.PlanStep) []Step {
	steps := blocked(plan)
	var all made
	running, over := 0, make(chan ended)
	for {
		running += l.start(ctx, steps, l.Parallel-running, made{slices.Clone(all.artifacts), slices.Clone(all.deployments)}, over)
		if running == 0 {
			return steps
		}
		e := <-over
		running--
		s := &steps[e.at]
		s.conclude(ctx, e)
		all.artifacts = append(all.artifacts, s.Artifacts...)
		all.deployments = append(all.deployments, s.Deployments...)
		l.Moved(*s)
		if e.res.Next != nil {
			steps = append(steps, blocked(e.res.Next.Steps)...)
		}
	}
}

func blocked(plan []slipway.PlanStep) []Step {
	steps := make([]Step, len(plan))
	for i, s := range plan {
		steps[i] = Step{Key: s.Key, Kind: s.Kind, Service: s.Service, State: slipway.StepBlocked, spec: s}
	}
	return steps
}

// start begins what may begin, at most free steps, and returns how many. What never will is skipped or
// cancelled.
func (l *Run) start(ctx context.Context, steps []Step, free int, sofar made, over chan<- ended) (begun int) {
	for again := true; again; {
		again = false
		for i := range steps {
			s := &steps[i]
			if s.State != slipway.StepBlocked {
				continue
			}
			ready, broken := needs(steps, s.spec)
			switch {
			case ctx.Err() != nil:
				s.State, s.Reason = slipway.StepCancelled, "the run was cancelled"
			case broken != "":
				s.State, s.Reason = slipway.StepSkipped, broken+" did not succeed"
			case ready && begun < free:
				s.State = slipway.StepRunning
				begun++
				l.Moved(*s)
				go l.one(ctx, i, s.spec, sofar, over)
				continue
			default:
				continue
			}
			l.Moved(*s)
			again = true
		}
	}
	return begun
}

// needs reports whether everything that a step needs has succeeded, or what of it never will.
func needs(steps []Step, spec slipway.PlanStep) (ready bool, broken string) {
	ready = true
	for _, key := range spec.Needs {
		at := slices.IndexFunc(steps, func(s Step) bool { return s.Key == key })
		if at < 0 { // left out: needs a server
			continue
		}
		switch s := steps[at]; {
		case s.State == slipway.StepSucceeded:
		case s.State.Final():
			return false, key
		default:
			ready = false
		}
	}
	return ready, ""
}

// one runs one step.
func (l *Run) one(ctx context.Context, at int, spec slipway.PlanStep, sofar made, over chan<- ended) {
	if d := time.Duration(spec.Timeout); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, d, slipway.ErrTimeout)
		defer cancel()
	}
	begin := l.Now()
	e := ended{at: at}
	if r := l.Runners[spec.Kind]; r != nil {
		e.res, e.err = r.Run(ctx, stage.Env{
			Run: l.Run, StepID: int64(at + 1), Attempt: 1, Log: l.LogOf(spec), Journal: &memory{}, Now: l.Now,
			Workspace: l.Workspace, Artifacts: sofar.artifacts, Deployments: sofar.deployments,
		}, spec)
	} else {
		e.err = slipway.Errorf(slipway.Internal, "no runner for steps of kind %s", spec.Kind)
	}
	if e.err != nil && errors.Is(context.Cause(ctx), slipway.ErrTimeout) {
		e.res, e.err = slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf("not done in %s", time.Duration(spec.Timeout))}, nil
	}
	e.took = l.Now().Sub(begin)
	over <- e
}

// conclude sets how the step ended.
func (s *Step) conclude(ctx context.Context, e ended) {
	s.Took, s.Seconds = e.took, e.took.Round(time.Millisecond).Seconds()
	s.Reason, s.Report, s.Artifacts, s.Deployments = e.res.Reason, e.res.Report, e.res.Artifacts, e.res.Deployments
	if e.res.ReusedFrom != 0 {
		s.Reused = time.Unix(e.res.ReusedFrom, 0).UTC()
	}
	switch {
	case e.err != nil && ctx.Err() != nil:
		s.State, s.Reason = slipway.StepCancelled, "the run was cancelled"
		if s.spec.Deploy != nil {
			t := s.spec.Deploy.Target
			s.Reason += fmt.Sprintf("; what became of it: helm status %s --namespace %s", t.Release, t.Namespace)
		}
	case e.err != nil:
		s.State, s.Reason = slipway.StepErrored, e.err.Error()
	case e.res.Outcome == slipway.Succeeded:
		s.State = slipway.StepSucceeded
	case e.res.Outcome == slipway.Skipped:
		s.State = slipway.StepSkipped
	default:
		s.State = slipway.StepFailed
	}
}

// memory is a journal for as long as a step runs.
type memory struct {
	mu   sync.Mutex
	kept map[string][]byte
}

// Put keeps a value.
func (m *memory) Put(_ context.Context, key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kept == nil {
		m.kept = map[string][]byte{}
	}
	m.kept[key] = b
	return nil
}

// Get returns what was kept.
func (m *memory) Get(_ context.Context, key string, v any) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.kept[key]
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(b, v)
}

// State is how a run ended: cancelled before all, then errored, then failed.
func State(steps []Step) slipway.RunState {
	worst := slipway.RunSucceeded
	for _, s := range steps {
		switch {
		case s.State == slipway.StepCancelled:
			return slipway.RunCancelled
		case s.State == slipway.StepErrored:
			worst = slipway.RunErrored
		case s.State == slipway.StepFailed && worst == slipway.RunSucceeded:
			worst = slipway.RunFailed
		}
	}
	return worst
}

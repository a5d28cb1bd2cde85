package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
)

func (t *tx) loadStep(id int64) (*runRow, *stepRow, error) {
	run, ok, err := one(t.ctx, t, scanInt, `SELECT run_id FROM steps WHERE id = $1`, id)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, slipway.Errorf(slipway.NotFound, "step %d does not exist", id)
	}
	r, err := t.loadRun(run)
	if err != nil {
		return nil, nil, err
	}
	for _, st := range r.steps {
		if st.ID == id {
			return r, st, nil
		}
	}
	return nil, nil, slipway.Errorf(slipway.NotFound, "step %d does not exist", id)
}

// StartStep moves a step from ready or retrying to running, counts the attempt and takes the step's
// lock, all for the job of that number: an older job finds nothing to do. It returns the step and
// what earlier steps of its run made: run, artifacts, deployments and approvals.
//
// A Conflict means that this job has nothing to start. When it carries a *Busy, the step now waits
// for its lock and gets a new job as soon as it is free. A deployment of a commit over a newer one of the
// same branch is cancelled instead of started.
func (s *Store) StartStep(ctx context.Context, stepID int64, job int, node string) (slipway.Step, slipway.RunDetail, error) {
	var st *stepRow
	var busy *Busy
	var gone bool
	var d slipway.RunDetail
	err := s.write(ctx, func(t *tx) (err error) {
		var r *runRow
		if r, st, err = t.loadStep(stepID); err != nil {
			return err
		}
		if st.job != job || st.lockWait || (st.State != slipway.StepReady && st.State != slipway.StepRetrying) {
			return slipway.Errorf(slipway.Conflict, "step %s of run #%d is %s; job %d has nothing to start", st.Spec.Key, r.ID, st.State, job)
		}
		if gone, err = t.overtaken(r, st); err != nil || gone {
			return err
		}
		if busy, err = t.lockStep(st); err != nil {
			return err
		}
		if busy != nil {
			if err := t.waitForLock(r, st, busy); err != nil {
				return err
			}
			return t.settle(r)
		}
		if err := t.move(r, st, change{to: slipway.StepRunning, node: node}); err != nil {
			return err
		}
		s.logs.announce(attempt{runID: r.ID, stepID: st.ID, attempt: st.Attempt})
		if err := t.settle(r); err != nil {
			return err
		}
		d, err = inputs(ctx, t, r.ID)
		return err
	})
	if err != nil {
		if st != nil {
			s.logs.end(attempt{runID: st.RunID, stepID: st.ID, attempt: st.Attempt})
		}
		return slipway.Step{}, slipway.RunDetail{}, err
	}
	switch {
	case busy != nil:
		return slipway.Step{}, slipway.RunDetail{}, slipway.Errorf(slipway.Conflict, "%w", busy)
	case gone:
		return slipway.Step{}, slipway.RunDetail{}, slipway.Errorf(slipway.Conflict, "step %s of run #%d: %s", st.Spec.Key, st.RunID, st.Reason)
	}
	return st.Step, d, nil
}

// waitForLock puts a step in line for its lock.
func (t *tx) waitForLock(r *runRow, st *stepRow, busy *Busy) error {
	if st.State == slipway.StepRetrying { // by way of ready: retrying does not move to itself
		if err := t.move(r, st, change{to: slipway.StepReady}); err != nil {
			return err
		}
	}
	if err := t.move(r, st, change{to: slipway.StepRetrying, reason: busy.Error(), lockWait: true}); err != nil {
		return err
	}
	return t.giveWay(r, st)
}

// inputs is what the runners of a run's steps may see.
func inputs(ctx context.Context, q querier, runID int64) (d slipway.RunDetail, err error) {
	if d.Run, err = getRun(ctx, q, runID); err != nil {
		return d, err
	}
	if d.Artifacts, err = artifacts(ctx, q, `run_id = $1`, runID); err != nil {
		return d, err
	}
	if d.Deployments, err = deployments(ctx, q, `run_id = $1 ORDER BY id`, runID); err != nil {
		return d, err
	}
	if d.Approvals, err = approvals(ctx, q, `run_id = $1 ORDER BY id`, runID); err != nil {
		return d, err
	}
	d.Steps, err = stepsOf(ctx, q, runID)
	return d, err
}

// running loads a step that must be running its attempt-th attempt.
func (t *tx) running(stepID int64, attempt int) (*runRow, *stepRow, error) {
	r, st, err := t.loadStep(stepID)
	if err != nil {
		return nil, nil, err
	}
	if st.State != slipway.StepRunning || st.Attempt != attempt {
		return nil, nil, slipway.Errorf(slipway.Conflict, "step %s of run #%d is %s (attempt %d), not running attempt %d", st.Spec.Key, r.ID, st.State, st.Attempt, attempt)
	}
	return r, st, nil
}

// end loads a running step, lets change move it, and settles its run; done runs in the same
// transaction and may be nil.
func (s *Store) end(ctx context.Context, stepID int64, attempt int, done func(*sql.Tx) error, change func(*tx, *runRow, *stepRow) error) error {
	return s.write(ctx, func(t *tx) error {
		r, st, err := t.running(stepID, attempt)
		if err != nil {
			return err
		}
		if err := change(t, r, st); err != nil {
			return err
		}
		if err := t.settle(r); err != nil {
			return err
		}
		if err := t.nextTurn(r, st); err != nil {
			return err
		}
		if done == nil {
			return nil
		}
		return done(t.Tx)
	})
}

// FinishStep records how a running step ended, and everything that its result carries, in one
// transaction: artifacts, report, release, deployments, approval, the steps that follow, dependents
// that can start, locks, the run's state, events, and what done does (the queue's job).
//
// A plan that was made before another one of its branch was stored is not: the step is put back, or waits for the plan
// of an earlier run, or its run gives way to a later one.
//
// A Conflict means that the step is not running that attempt, and nothing was recorded. A result that
// cannot be recorded (an unknown outcome, a step key that is taken) is Invalid.
func (s *Store) FinishStep(ctx context.Context, stepID int64, attempt int, res slipway.Result, done func(*sql.Tx) error) error {
	report, err := s.prepareStep(ctx, stepID, res)
	if err != nil {
		return err
	}
	return s.end(ctx, stepID, attempt, done, func(t *tx, r *runRow, st *stepRow) error {
		st.report = report
		if res.Next != nil && res.Outcome == slipway.Succeeded {
			if put, err := t.outOfTurn(r, st, *res.Next); put || err != nil {
				return err
			}
		}
		if err := t.record(r, st, res); errors.Is(err, errTaken) {
			res = slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}
		} else if err != nil {
			return err
		}
		if r.cancel != "" && res.Next != nil && len(res.Next.Steps) > 0 {
			if st.Spec.Kind == slipway.KindPlan { // else the run would have succeeded, with nothing done
				return t.cancelStep(r, st)
			}
			res.Next = nil
			res.Reason = join(res.Reason, "what would follow was not started: "+r.cancel)
		}
		if res.Next != nil {
			if err := t.savePlan(r, *res.Next); err != nil {
				return err
			}
			if err := t.decided(r, *res.Next); err != nil {
				return err
			}
			if err := t.planned(r, st, *res.Next); err != nil {
				return err
			}
			if err := t.addSteps(r, res.Next.Steps); err != nil {
				return err
			}
		}
		return t.outcome(r, st, res)
	})
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "; " + b
}

// outcome moves a running step to where its result says.
func (t *tx) outcome(r *runRow, st *stepRow, res slipway.Result) error {
	switch res.Outcome {
	case slipway.Succeeded:
		return t.move(r, st, change{to: slipway.StepSucceeded, reason: res.Reason, fulfilled: true})
	case slipway.Skipped:
		return t.move(r, st, change{to: slipway.StepSkipped, reason: res.Reason, fulfilled: true})
	case slipway.Failed:
		if err := t.closeDeployments(r, st, slipway.DeployFailed, res.Reason); err != nil {
			return err
		}
		return t.move(r, st, change{to: slipway.StepFailed, reason: res.Reason})
	case slipway.Waiting:
		if r.cancel != "" {
			return t.move(r, st, change{to: slipway.StepCancelled, reason: r.cancel})
		}
		return t.ask(r, st, res)
	case slipway.Postponed:
		return t.postpone(r, st, res)
	}
	return slipway.Errorf(slipway.Invalid, "step %s ended with the unknown outcome %q", st.Spec.Key, res.Outcome)
}

// RetryStep puts a running step whose attempt ended in an error back, to be tried again at a time.
func (s *Store) RetryStep(ctx context.Context, stepID int64, attempt int, reason string, at time.Time, done func(*sql.Tx) error) error {
	return s.end(ctx, stepID, attempt, done, func(t *tx, r *runRow, st *stepRow) error {
		return t.move(r, st, change{to: slipway.StepRetrying, reason: reason, at: at, failed: true})
	})
}

// ErrorStep ends a running step whose last attempt ended in an error.
func (s *Store) ErrorStep(ctx context.Context, stepID int64, attempt int, reason string, done func(*sql.Tx) error) error {
	return s.end(ctx, stepID, attempt, done, func(t *tx, r *runRow, st *stepRow) error {
		if err := t.closeDeployments(r, st, slipway.Unhealthy, reason); err != nil {
			return err
		}
		return t.move(r, st, change{to: slipway.StepErrored, reason: reason, failed: true})
	})
}

// CancelStep ends a running step that stopped because its run was cancelled.
func (s *Store) CancelStep(ctx context.Context, stepID int64, attempt int, done func(*sql.Tx) error) error {
	return s.end(ctx, stepID, attempt, done, func(t *tx, r *runRow, st *stepRow) error {
		return t.cancelStep(r, st)
	})
}

func (t *tx) cancelStep(r *runRow, st *stepRow) error {
	reason := r.cancel
	if reason == "" {
		reason = "cancelled"
	}
	if err := t.closeDeployments(r, st, slipway.Unhealthy, reason); err != nil {
		return err
	}
	return t.move(r, st, change{to: slipway.StepCancelled, reason: reason})
}

// ReleaseStep puts a running step back because the server stops; it is ready at once for the next one.
func (s *Store) ReleaseStep(ctx context.Context, stepID int64, attempt int, done func(*sql.Tx) error) error {
	return s.end(ctx, stepID, attempt, done, func(t *tx, r *runRow, st *stepRow) error {
		if r.cancel != "" {
			return t.cancelStep(r, st)
		}
		return t.move(r, st, change{to: slipway.StepReady, reason: "the server stopped; goes on when it is back"})
	})
}

// RecoverSteps is for the start of a server, before it takes jobs: every step that a dead process left
// running becomes ready (or cancelled, if its run is), and every step that is ready or waits for its
// next attempt gets a new job, so that jobs which that process held do not matter. On SQLite one
// process owns the database, so each running step is a dead one's, whatever its node. It returns how
// many steps were left running.
func (s *Store) RecoverSteps(ctx context.Context, node string) (int, error) {
	n := 0
	err := s.write(ctx, func(t *tx) error {
		ids, err := list(ctx, t, scanInt, `SELECT DISTINCT run_id FROM steps WHERE state IN ('ready', 'running', 'retrying', 'waiting') AND state <> 'waiting' ORDER BY run_id`)
		if err != nil {
			return err
		}
		for _, id := range ids {
			r, err := t.loadRun(id)
			if err != nil {
				return err
			}
			left, err := t.recoverRun(r)
			if err != nil {
				return err
			}
			n += left
		}
		return nil
	})
	return n, err
}

func (t *tx) recoverRun(r *runRow) (int, error) {
	n := 0
	for _, st := range r.steps {
		var err error
		switch {
		case st.State == slipway.StepRunning && r.cancel != "":
			n++
			err = t.cancelStep(r, st)
		case st.State == slipway.StepRunning:
			n++
			err = t.move(r, st, change{to: slipway.StepReady, reason: "the server was stopped while it ran; goes on from there"})
		case st.behind != 0: // the end of that run wakes it
		case (st.State == slipway.StepReady || st.State == slipway.StepRetrying) && !st.lockWait:
			st.job++
			if _, err = t.exec(`UPDATE steps SET job = $1 WHERE id = $2`, st.job, st.ID); err == nil {
				err = t.job(st)
			}
		case st.lockWait:
			t.free(st.lock)
		}
		if err != nil {
			return n, fmt.Errorf("recover step %s of run #%d: %w", st.Spec.Key, r.ID, err)
		}
	}
	return n, t.settle(r)
}

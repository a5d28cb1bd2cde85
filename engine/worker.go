package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// worker does one job: one attempt of a step.
type worker struct {
	river.WorkerDefaults[job]
	engine *Engine
}

// Work runs the step's attempt and records how it ended. The job is completed in the same
// transaction; a job that has nothing to start is completed without effect.
func (w *worker) Work(ctx context.Context, j *river.Job[job]) error {
	e := w.engine
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	entry := &running{cancel: cancel}
	if !e.enter(entry) {
		return river.JobSnooze(0) // the next start recovers the step anyway
	}
	defer e.leave(entry)
	keep := context.WithoutCancel(ctx)
	step, run, err := e.Store.StartStep(keep, j.Args.Step, j.Args.Number, e.Node)
	if code := slipway.ErrorCode(err); code == slipway.Conflict || code == slipway.NotFound {
		return nil
	}
	if err != nil {
		return e.again(ctx, j.Args, err)
	}
	e.started(entry, step.RunID)
	res, err := e.attempt(ctx, run, step)
	return e.record(ctx, step, res, err, func(tx *sql.Tx) error {
		_, err := river.JobCompleteTx[*driver](keep, tx, j)
		return err
	})
}

// again puts a job back whose step could not be started because the database did not answer.
func (e *Engine) again(ctx context.Context, j job, err error) error {
	if ctx.Err() != nil {
		return river.JobSnooze(0)
	}
	e.Log.Error("start step", "step", j.Step, "err", err)
	return river.JobSnooze(time.Second)
}

// attempt calls the runner of a step with everything around it.
func (e *Engine) attempt(ctx context.Context, run slipway.RunDetail, step slipway.Step) (slipway.Result, error) {
	runner, ok := e.runners[step.Spec.Kind]
	if !ok {
		return slipway.Result{}, fmt.Errorf("no runner for steps of kind %s", step.Spec.Kind)
	}
	env := stage.Env{
		Run: run.Run, StepID: step.ID, Attempt: step.Attempt, Now: e.Now,
		Journal:   journal{store: e.Store, step: step.ID},
		Artifacts: run.Artifacts, Deployments: run.Deployments, Approvals: run.Approvals,
	}
	if e.Workspace != nil {
		env.Workspace = e.Workspace(run.Run, step)
	}
	if len(step.Spec.Secrets) > 0 {
		if e.Secrets == nil {
			return slipway.Result{}, errors.New("step declares secrets, and there are none")
		}
		var err error
		if env.Secrets, err = e.Secrets(ctx, run.Run, step.Spec.Secrets); err != nil {
			return slipway.Result{}, fmt.Errorf("read secrets: %w", err)
		}
	}
	return runner.Run(ctx, env, step.Spec)
}

// record has the store record how an attempt ended. It does so although ctx is cancelled, and tries
// until the database answers or the engine stops.
func (e *Engine) record(ctx context.Context, step slipway.Step, res slipway.Result, err error, done func(*sql.Tx) error) error {
	cause := context.Cause(ctx)
	keep := context.WithoutCancel(ctx)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 5*time.Second) {
		rerr := e.recordOnce(keep, step, res, err, cause, done)
		switch {
		case rerr == nil, err != nil && slipway.ErrorCode(rerr) == slipway.Conflict:
			return nil // recorded, or not ours to record any more
		case !slipway.Temporary(rerr) && err == nil:
			res, err = slipway.Result{}, fmt.Errorf("record result: %w", rerr)
			continue
		case !slipway.Temporary(rerr):
			return fmt.Errorf("record end of step %s: %w", step.Spec.Key, rerr)
		}
		e.Log.Error("record end of step", "run", step.RunID, "step", step.Spec.Key, "err", rerr)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			if errors.Is(context.Cause(ctx), slipway.ErrShutdown) || pause > time.Second {
				return fmt.Errorf("record end of step %s: %w", step.Spec.Key, rerr)
			}
		}
	}
}

func (e *Engine) recordOnce(ctx context.Context, step slipway.Step, res slipway.Result, err, cause error, done func(*sql.Tx) error) error {
	if err == nil {
		return e.Store.FinishStep(ctx, step.ID, step.Attempt, res, done)
	}
	switch {
	case errors.Is(cause, slipway.ErrCancelled), errors.Is(cause, slipway.ErrSuperseded):
		return e.Store.CancelStep(ctx, step.ID, step.Attempt, done)
	case cause != nil: // the server stops
		return e.Store.ReleaseStep(ctx, step.ID, step.Attempt, done)
	}
	e.Log.Warn("step ended in an error", "run", step.RunID, "step", step.Spec.Key, "attempt", step.Attempt, "err", err)
	if next := e.retry(step, err); next.again {
		return e.Store.RetryStep(ctx, step.ID, step.Attempt, next.reason, next.at, done)
	}
	return e.Store.ErrorStep(ctx, step.ID, step.Attempt, err.Error(), done)
}

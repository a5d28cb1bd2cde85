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
	step, run, err := e.start(ctx, j.Args)
	if code := slipway.ErrorCode(err); code == slipway.Conflict || code == slipway.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	e.started(entry, step.RunID)
	res, err := e.attempt(ctx, run, step)
	return e.record(ctx, step, res, err, func(tx *sql.Tx) error {
		_, err := river.JobCompleteTx[*driver](keep, tx, j)
		return err
	})
}

// start starts the step of a job. While the database does not answer it tries again: the job is taken,
// and nobody else would.
func (e *Engine) start(ctx context.Context, j job) (slipway.Step, slipway.RunDetail, error) {
	for pause := firstPause; ; pause = longer(pause) {
		step, run, err := e.opts.Store.StartStep(context.WithoutCancel(ctx), j.Step, j.Number, e.opts.Node)
		if err == nil || !slipway.Temporary(err) {
			return step, run, err
		}
		e.opts.Log.Error("start step", "step", j.Step, "err", err)
		if !sleep(ctx, pause) {
			return step, run, river.JobSnooze(0)
		}
	}
}

// Pauses between attempts to reach the database.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

func longer(pause time.Duration) time.Duration { return min(2*pause, lastPause) }

// sleep waits for d; false means that ctx was done before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt calls the runner of a step with everything around it.
func (e *Engine) attempt(ctx context.Context, run slipway.RunDetail, step slipway.Step) (slipway.Result, error) {
	runner, ok := e.runners[step.Spec.Kind]
	if !ok {
		return slipway.Result{}, fmt.Errorf("no runner for steps of kind %s", step.Spec.Kind)
	}
	env := stage.Env{
		Run: run.Run, StepID: step.ID, Attempt: step.Attempt, Now: e.opts.Now,
		Journal:   journal{store: e.opts.Store, step: step.ID},
		Artifacts: run.Artifacts, Deployments: run.Deployments, Approvals: run.Approvals,
		Steps: run.Steps,
	}
	if e.opts.Workspace != nil {
		env.Workspace = e.opts.Workspace(run.Run, step)
	}
	if len(step.Spec.Secrets) > 0 {
		if e.opts.Secrets == nil {
			return slipway.Result{}, errors.New("step declares secrets, and there are none")
		}
		var err error
		if env.Secrets, err = e.opts.Secrets(ctx, run.Run, step.Spec.Secrets); err != nil {
			return slipway.Result{}, fmt.Errorf("read secrets: %w", err)
		}
	}
	return runner.Run(ctx, env, step.Spec)
}

// record has the store record how an attempt ended. It does so although ctx is cancelled, and tries
// until the database answers or the engine stops; what is not recorded then, the next start recovers.
func (e *Engine) record(ctx context.Context, step slipway.Step, res slipway.Result, err error, done func(*sql.Tx) error) error {
	cause := context.Cause(ctx)
	keep := context.WithoutCancel(ctx)
	for pause := firstPause; ; pause = longer(pause) {
		rerr := e.recordOnce(keep, step, res, err, cause, done)
		if rerr == nil || (err != nil && slipway.ErrorCode(rerr) == slipway.Conflict) {
			return nil // recorded, or not this attempt's to record any more
		}
		rerr = fmt.Errorf("record end of step %s: %w", step.Spec.Key, rerr)
		if !slipway.Temporary(rerr) {
			if err != nil {
				return rerr
			}
			err = rerr // the result cannot be recorded; that it cannot, can
			continue
		}
		e.opts.Log.Error("database does not answer", "run", step.RunID, "err", rerr)
		wait := ctx
		if ctx.Err() != nil && !e.isStopping() { // a cancelled run: not a reason to hurry
			wait = keep
		}
		if !sleep(wait, pause) && e.isStopping() {
			return rerr
		}
	}
}

func (e *Engine) recordOnce(ctx context.Context, step slipway.Step, res slipway.Result, err, cause error, done func(*sql.Tx) error) error {
	if err == nil {
		return e.opts.Store.FinishStep(ctx, step.ID, step.Attempt, res, done)
	}
	switch {
	case errors.Is(cause, slipway.ErrCancelled), errors.Is(cause, slipway.ErrSuperseded):
		return e.opts.Store.CancelStep(ctx, step.ID, step.Attempt, done)
	case cause != nil: // the server stops
		return e.opts.Store.ReleaseStep(ctx, step.ID, step.Attempt, done)
	}
	e.opts.Log.Warn("step ended in an error", "run", step.RunID, "step", step.Spec.Key, "attempt", step.Attempt, "err", err)
	if next := e.retry(step, err); next.again {
		return e.opts.Store.RetryStep(ctx, step.ID, step.Attempt, next.reason, next.at, done)
	}
	return e.opts.Store.ErrorStep(ctx, step.ID, step.Attempt, err.Error(), done)
}

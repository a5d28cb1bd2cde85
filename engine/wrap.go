package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// wrap puts what every runner has around it around a runner, outermost first. Each part has the
// runner's own contract.
func (e *Engine) wrap(r stage.Runner) stage.Runner {
	r = recovered(e.Log, r)
	r = abandoned(e.Grace, r)
	r = timed(e.Timeout, r)
	return e.captured(r)
}

// recovered makes a panic an error, with the stack in the server's log.
func recovered(log *slog.Logger, r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (res slipway.Result, err error) {
		defer func() {
			if v := recover(); v != nil {
				log.Error("runner panicked", "run", env.Run.ID, "step", step.Key, "panic", v, "stack", string(debug.Stack()))
				res, err = slipway.Result{}, errors.New("internal error: the step's runner crashed; the server's log says where")
			}
		}()
		return r.Run(ctx, env, step)
	})
}

// abandoned gives up on a runner that does not return within grace of its context's end, so that it
// cannot hold a worker, a stop or a cancel for ever.
func abandoned(grace time.Duration, r stage.Runner) stage.Runner {
	type end struct {
		res slipway.Result
		err error
	}
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		ended := make(chan end, 1)
		go func() {
			res, err := r.Run(ctx, env, step)
			ended <- end{res, err}
		}()
		select {
		case v := <-ended:
			return v.res, v.err
		case <-ctx.Done():
		}
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case v := <-ended:
			return v.res, v.err
		case <-timer.C:
			return slipway.Result{}, fmt.Errorf("%w, and the step did not stop within %s", context.Cause(ctx), grace)
		}
	})
}

// timed bounds a runner by the step's timeout, or by def. A runner that still says how the step ended
// is believed.
func timed(def time.Duration, r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		d := time.Duration(step.Timeout)
		if d <= 0 {
			d = def
		}
		ctx, cancel := context.WithTimeoutCause(ctx, d, slipway.ErrTimeout)
		defer cancel()
		res, err := r.Run(ctx, env, step)
		if err != nil && errors.Is(context.Cause(ctx), slipway.ErrTimeout) {
			return res, &timeoutError{after: d, err: err}
		}
		return res, err
	})
}

// timeoutError says that a step took longer than it may. Trying again would take as long.
type timeoutError struct {
	after time.Duration
	err   error
}

// Error names the limit.
func (e *timeoutError) Error() string { return fmt.Sprintf("timed out after %s: %v", e.after, e.err) }

// Unwrap returns what the runner said.
func (e *timeoutError) Unwrap() error { return e.err }

// Temporary is false, whatever the runner said.
func (e *timeoutError) Temporary() bool { return false }

package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

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

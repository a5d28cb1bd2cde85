package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

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

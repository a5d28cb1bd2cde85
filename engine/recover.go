package engine

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

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

package rollback

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Way plans how a target is left behind by a deployment that failed; nil: it is left as it is.
type Way func(ctx context.Context, env stage.Env, target slipway.Target, failed slipway.Deployment, reason string) (*slipway.Plan, error)

// After adds to a failed deployment or verification the plan that brings the target back to what ran before,
// where the service does not leave that to people (S118, D10). Result and plan are committed together, so that a
// crash between them cannot lose the way back. A step whose time is over has failed, too.
func After(r stage.Runner, back Way) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := r.Run(ctx, env, step)
		if err != nil && errors.Is(context.Cause(ctx), slipway.ErrTimeout) {
			res, err = slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf("not done in %s: %v", time.Duration(step.Timeout), err)}, nil
		}
		if err != nil || res.Outcome != slipway.Failed {
			return res, err
		}
		target, mode := modeOf(step)
		failed, ok := deploymentOf(res, env, step)
		if mode != slipway.RollbackAutomatic || !ok || failed.Revision == 0 {
			return res, nil
		}
		plan, err := back(context.WithoutCancel(ctx), env, target, failed, res.Reason)
		if err != nil {
			return res, fmt.Errorf("plan the rollback of %s in %s: %w", target.Service, target.Environment, err)
		}
		res.Next = plan
		return res, nil
	})
}

// modeOf is the target of a step, and who decides that it goes back.
func modeOf(step slipway.PlanStep) (slipway.Target, slipway.RollbackMode) {
	switch {
	case step.Deploy != nil:
		return step.Deploy.Target, step.Deploy.Mode
	case step.Verify != nil:
		return step.Verify.Target, step.Verify.Mode
	}
	return slipway.Target{}, slipway.RollbackManual
}

// deploymentOf is the deployment that a failed step was about.
func deploymentOf(res slipway.Result, env stage.Env, step slipway.PlanStep) (slipway.Deployment, bool) {
	for i := len(res.Deployments) - 1; i >= 0; i-- {
		if d := res.Deployments[i]; d.Target.Service == step.Service && d.Target.Environment == step.Environment {
			return d, true
		}
	}
	return env.Deployment(step.Service, step.Environment)
}

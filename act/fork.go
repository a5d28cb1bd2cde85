package act

import (
	"context"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Distrust makes a runner that plans give the steps of a fork's run no secrets and caches of their own,
// and refuses a plan that would publish or deploy what a stranger wrote (D12, D14).
func Distrust(planner stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := planner.Run(ctx, env, step)
		if err != nil || !env.Run.Fork || res.Next == nil {
			return res, err
		}
		next := *res.Next
		if next.Steps, err = distrusted(next.Steps); err != nil {
			return slipway.Result{}, err
		}
		res.Next = &next
		return res, nil
	})
}

func distrusted(steps []slipway.PlanStep) ([]slipway.PlanStep, error) {
	out := make([]slipway.PlanStep, len(steps))
	for i, s := range steps {
		s.Secrets = nil
		switch {
		case s.Build != nil:
			b := *s.Build
			b.Trust, b.Image = slipway.TrustFork, nil
			s.Build = &b
		case s.Test != nil:
			t := *s.Test
			t.Trust = slipway.TrustFork
			s.Test = &t
		case s.Chart != nil:
		default:
			return nil, slipway.Errorf(slipway.Internal, "step %s: a run of a fork only builds, tests and charts", s.Key)
		}
		out[i] = s
	}
	return out, nil
}

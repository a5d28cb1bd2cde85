package rollback_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/rollback"
)

// Only what failed and left a revision behind is taken back, and only where that is not left to people.
func TestAfter(t *testing.T) {
	t.Parallel()
	target := slipway.Target{Service: "cart", Environment: "qa"}
	made := slipway.Deployment{Target: target, Revision: 3}
	for name, c := range map[string]struct {
		mode slipway.RollbackMode
		res  slipway.Result
		back bool
	}{
		"failed":       {slipway.RollbackAutomatic, slipway.Result{Outcome: slipway.Failed, Deployments: []slipway.Deployment{made}}, true},
		"succeeded":    {slipway.RollbackAutomatic, slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{made}}, false},
		"by people":    {slipway.RollbackManual, slipway.Result{Outcome: slipway.Failed, Deployments: []slipway.Deployment{made}}, false},
		"before Helm":  {slipway.RollbackAutomatic, slipway.Result{Outcome: slipway.Failed, Deployments: []slipway.Deployment{{Target: target}}}, false},
		"of another":   {slipway.RollbackAutomatic, slipway.Result{Outcome: slipway.Failed, Deployments: []slipway.Deployment{{Target: slipway.Target{Service: "page", Environment: "qa"}, Revision: 3}}}, false},
		"nothing made": {slipway.RollbackAutomatic, slipway.Result{Outcome: slipway.Failed}, false},
	} {
		step := slipway.PlanStep{Service: "cart", Environment: "qa", Deploy: &slipway.DeploySpec{Target: target, Mode: c.mode}}
		asked := 0
		r := rollback.After(stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) { return c.res, nil }),
			func(_ context.Context, _ stage.Env, t slipway.Target, failed slipway.Deployment, _ string) (*slipway.Plan, error) {
				asked++
				return &slipway.Plan{Steps: []slipway.PlanStep{{Key: "rollback/" + t.Service}}}, nil
			})
		res, err := r.Run(t.Context(), stage.Env{}, step)
		if err != nil || (res.Next != nil) != c.back || (asked > 0) != c.back || res.Outcome != c.res.Outcome {
			t.Errorf("%s: %+v, %v, asked %d times", name, res, err, asked)
		}
	}
}

// A step whose time is over has failed; one that was cancelled, or that the surroundings ended, has not.
func TestAfterItsTime(t *testing.T) {
	t.Parallel()
	broken := errors.New("no answer")
	for _, cause := range []error{slipway.ErrTimeout, slipway.ErrCancelled} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		r := rollback.After(stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
			return slipway.Result{}, broken
		}),
			func(context.Context, stage.Env, slipway.Target, slipway.Deployment, string) (*slipway.Plan, error) {
				return nil, nil
			})
		res, err := r.Run(ctx, stage.Env{}, slipway.PlanStep{Timeout: slipway.Duration(60e9), Verify: &slipway.VerifySpec{Mode: slipway.RollbackAutomatic}})
		if over := errors.Is(cause, slipway.ErrTimeout); over != (res.Outcome == slipway.Failed) || over == errors.Is(err, broken) || over && !strings.Contains(res.Reason, "not done in 1m0s: no answer") {
			t.Errorf("%v: %+v, %v", cause, res, err)
		}
	}
}

package rollback_test

import (
	"context"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/rollback"
)

// records are the deployments and quarantines of delivery in qa.
type records struct {
	history     []slipway.Deployment
	quarantined slipway.Quarantines
}

func (r records) Deployments(context.Context, slipway.DeploymentFilter) ([]slipway.Deployment, error) {
	return r.history, nil
}

func (r records) Quarantines(context.Context, string, string) (slipway.Quarantines, error) {
	return r.quarantined, nil
}

// A way back in development leads over a version of the default branch that is in quarantine, and to nothing where
// nothing is left.
func TestBackOverAQuarantine(t *testing.T) {
	t.Parallel()
	all := []slipway.Deployment{deployment(1, "main-1111111", slipway.Replaced), deployment(2, "main-2222222", slipway.Replaced),
		deployment(3, "main-3333333", slipway.Replaced), deployment(4, "main-4444444", slipway.Unhealthy)}
	crashed := slipway.Quarantines{"delivery/main-2222222": "it crashed", "delivery/main-3333333": "it crashed"}
	env := stage.Env{Steps: []slipway.Step{{Spec: slipway.PlanStep{Key: "rollback/delivery@qa"}}}}
	plan := func(quarantined slipway.Quarantines) slipway.PlanStep {
		t.Helper()
		back := rollback.Back{Records: records{all, quarantined}, Limits: func(context.Context, string) (slipway.Limits, error) {
			return slipway.Limits{Retries: 4}, nil
		}}
		p, err := back.Plan(t.Context(), env, target, all[3], "it is not healthy\nits log ends so")
		if err != nil || len(p.Steps) == 0 || p.Steps[0].Rollback == nil {
			t.Fatalf("%+v, %v", p, err)
		}
		return p.Steps[0]
	}
	st := plan(crashed)
	if to := st.Rollback.To.Version; to != "main-1111111" {
		t.Errorf("it goes back to %q", to)
	}
	if st.Key != "rollback/delivery@qa#2" || st.Retries != 4 || st.Rollback.Reason != "it is not healthy" || !st.Rollback.Automatic {
		t.Errorf("%+v, %+v", st, st.Rollback)
	}
	crashed["delivery/main-1111111"] = "it crashed"
	if to := plan(crashed).Rollback.To; to.ID != 0 {
		t.Errorf("it goes back to %q, which is in quarantine", to.Version)
	}
}

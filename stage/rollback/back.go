package rollback

import (
	"context"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// mostHistory is how many deployments of a target are looked through for one to go back to.
const mostHistory = 500

// Back plans the way back of a target from what is on record about it.
type Back struct {
	Records Records
	// Limits are those that the project has now.
	Limits func(ctx context.Context, project string) (slipway.Limits, error)
}

// Records is what is on record about a target.
type Records interface {
	Deployments(ctx context.Context, f slipway.DeploymentFilter) ([]slipway.Deployment, error)
	Quarantines(ctx context.Context, project, service string) (slipway.Quarantines, error)
}

// Plan is a Way: it leads to the newest verified deployment of the target that is in no quarantine; where there is
// none, the failed one is taken away.
func (b Back) Plan(ctx context.Context, env stage.Env, target slipway.Target, failed slipway.Deployment, reason string) (*slipway.Plan, error) {
	var taken []string
	for _, st := range env.Steps {
		taken = append(taken, st.Spec.Key)
	}
	history, err := b.Records.Deployments(ctx, slipway.DeploymentFilter{Project: target.Project, Environment: target.Environment, Service: target.Service, Limit: mostHistory})
	if err != nil {
		return nil, err
	}
	quarantined, err := b.Records.Quarantines(ctx, target.Project, target.Service)
	if err != nil {
		return nil, err
	}
	to, err := Choose(history, "", quarantined)
	if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
		return nil, err
	}
	limits, err := b.Limits(ctx, target.Project)
	if err != nil {
		return nil, err
	}
	plan := Plan(Input{Target: target, From: failed, To: to, Reason: slipway.FirstLine(reason), Automatic: true, Limits: limits, Taken: taken})
	return &plan, nil
}

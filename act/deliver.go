package act

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/stage/rollback"
)

// Vote approves or rejects a deployment that waits. The stricter of the policy when the run was
// planned and now on the default branch holds (D14).
func (x *Actions) Vote(ctx context.Context, by slipway.User, id int64, approve bool, reason string) (slipway.Approval, error) {
	a, err := x.o.Approvals.Approval(ctx, id)
	if err == nil {
		err = auth.Check(by, auth.Approve, a.Project)
	} else if by.Name == "" {
		err = auth.Check(by, auth.Approve, "")
	}
	if slipway.ErrorCode(err) == slipway.NotFound {
		err = slipway.Errorf(slipway.NotFound, "approval %d does not exist, or you have no role in its project", id)
	}
	if err != nil {
		return slipway.Approval{}, err
	}
	if reason, err = checkReason(reason); err != nil {
		return slipway.Approval{}, err
	}
	if reason == "" {
		return slipway.Approval{}, slipway.Errorf(slipway.Invalid, "say why: a reason is kept with the decision")
	}
	if approve {
		if why, err := x.o.Quarantines.Quarantined(ctx, a.Project, a.Service, a.Version); err != nil {
			return slipway.Approval{}, err
		} else if why != "" {
			return slipway.Approval{}, slipway.Errorf(slipway.Conflict, "%s %s is in quarantine (%s): lift that first with `slipway lift %s %s`, or reject", a.Service, a.Version, why, a.Service, a.Version)
		}
	}
	var now slipway.Approvals
	switch env, err := x.o.Planner.Environment(ctx, a.Project, a.Environment); slipway.ErrorCode(err) {
	case "":
		now = env.Approvals
	case slipway.NotFound, slipway.Invalid: // taken out, or broken, since: what was planned holds
	default:
		return slipway.Approval{}, err
	}
	return x.o.Approvals.Vote(ctx, id, slipway.Vote{User: by.Name, Approve: approve, Reason: reason, Time: x.o.Now()}, now)
}

// CancelRun stops a run that has not ended.
func (x *Actions) CancelRun(ctx context.Context, by slipway.User, id int64, reason string) (slipway.Run, error) {
	if _, err := x.run(ctx, by, auth.CancelRun, id); err != nil {
		return slipway.Run{}, err
	}
	reason, err := checkReason(reason)
	if err != nil {
		return slipway.Run{}, err
	}
	if err := x.o.Runs.CancelRun(ctx, id, by.Name, first(reason, "cancelled by "+by.Name)); err != nil {
		return slipway.Run{}, err
	}
	d, err := x.o.Runs.Run(ctx, id)
	return d.Run, err
}

// RetryRun runs again the steps of an ended run that did not succeed. A chart whose package is not kept
// any more is packaged again for what still has to publish it.
func (x *Actions) RetryRun(ctx context.Context, by slipway.User, id int64) (slipway.Run, error) {
	d, err := x.run(ctx, by, auth.RetryRun, id)
	if err != nil {
		return slipway.Run{}, err
	}
	var lost []string
	for _, a := range d.Artifacts {
		if a.Kind == slipway.ArtifactChart && a.Path != "" && !x.o.Kept(a.Path) {
			lost = append(lost, a.Step)
		}
	}
	if err := x.o.Runs.RetryRun(ctx, id, by.Name, lost...); err != nil {
		return slipway.Run{}, err
	}
	d, err = x.o.Runs.Run(ctx, id)
	return d.Run, err
}

// Rollback starts a run that brings a service back to an earlier verified version (D10).
func (x *Actions) Rollback(ctx context.Context, by slipway.User, r slipway.RollbackRequest) (slipway.Run, error) {
	if err := auth.Check(by, auth.Rollback, r.Project); err != nil {
		return slipway.Run{}, err
	}
	if r.Service == "" || r.Environment == "" {
		return slipway.Run{}, slipway.Errorf(slipway.Invalid, "a rollback names a service and an environment: this one has %q and %q", r.Service, r.Environment)
	}
	reason, err := checkReason(r.Reason)
	if err != nil {
		return slipway.Run{}, err
	}
	history, err := x.o.Deployments.Deployments(ctx, slipway.DeploymentFilter{Project: r.Project, Environment: r.Environment, Service: r.Service, Limit: 200})
	if err != nil {
		return slipway.Run{}, err
	}
	current, ok := rollback.Current(history)
	if !ok {
		return slipway.Run{}, slipway.Errorf(slipway.NotFound, "nothing of %s was ever deployed to %s in project %s", r.Service, r.Environment, r.Project)
	}
	quarantined, err := x.o.Quarantines.Quarantines(ctx, r.Project, r.Service)
	if err != nil {
		return slipway.Run{}, err
	}
	to, err := rollback.Choose(history, r.To, quarantined)
	if err != nil {
		return slipway.Run{}, err
	}
	limits, err := x.o.Planner.Limits(ctx, r.Project)
	if err != nil {
		return slipway.Run{}, err
	}
	plan := rollback.Plan(rollback.Input{Target: current.Target, From: current, To: to, Reason: first(reason, "asked for by "+by.Name), Limits: limits})
	return x.o.Runs.CreateRun(ctx, slipway.Run{Project: r.Project, Event: slipway.RollbackCall, Ref: "refs/environments/" + r.Environment,
		Commit: to.Commit, Title: fmt.Sprintf("roll back %s in %s from %s to %s", r.Service, r.Environment, current.Version, to.Version),
		Actor: by.Name, Service: r.Service, Version: to.Version}, plan)
}

// LiftQuarantine lets a version be deployed again that a rollback left.
func (x *Actions) LiftQuarantine(ctx context.Context, by slipway.User, project, service, version string) (slipway.Release, error) {
	if err := auth.Check(by, auth.Rollback, project); err != nil {
		return slipway.Release{}, err
	}
	if err := x.o.Quarantines.LiftQuarantine(ctx, project, service, version, by.Name); err != nil {
		return slipway.Release{}, err
	}
	r, err := x.o.Deployments.Release(ctx, project, service, version)
	if slipway.ErrorCode(err) == slipway.NotFound { // a version of the default branch
		return slipway.Release{Project: project, Service: service, Version: version}, nil
	}
	return r, err
}

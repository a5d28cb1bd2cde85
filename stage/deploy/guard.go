package deploy

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Records is what is on record about a target and about the version that comes to it.
type Records interface {
	// NamespaceOwner returns the project that deploys to a namespace of a cluster: the one that asks, when it does;
	// "" for none.
	NamespaceOwner(ctx context.Context, project, cluster, namespace string) (string, error)
	// CurrentDeployment returns what runs in a target; NotFound when nothing was deployed yet.
	CurrentDeployment(ctx context.Context, project, environment, service string) (slipway.Deployment, error)
	// Quarantined returns why a version must not be deployed, "" when it may.
	Quarantined(ctx context.Context, project, service, version string) (string, error)
}

// Guarded looks, once the target's lock is held, whether the world has moved on since the step was
// planned: an older version is never deployed over a newer one (D1), a quarantined one not at all (D10),
// and a rollback does not take back what has been replaced already. Nothing touches a namespace that
// another project deploys to. What it stops has failed, with the reason.
func Guarded(r stage.Runner, on Records) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		why, err := overtaken(ctx, on, env.Run, step)
		if err != nil {
			return slipway.Result{}, err
		}
		if why != "" {
			return slipway.Result{Outcome: slipway.Failed, Reason: why}, nil
		}
		return r.Run(ctx, env, step)
	})
}

// overtaken says why a step must not be done any more, "" when it may.
func overtaken(ctx context.Context, on Records, run slipway.Run, step slipway.PlanStep) (string, error) {
	target := targetOf(step)
	owner, err := on.NamespaceOwner(ctx, target.Project, target.Cluster, target.Namespace)
	if err != nil {
		return "", err
	}
	if owner != "" && owner != target.Project {
		return slipway.ForeignNamespace(step.Environment, target.Namespace, target.Cluster, owner).Error(), nil
	}
	current, err := on.CurrentDeployment(ctx, run.Project, step.Environment, step.Service)
	if slipway.ErrorCode(err) == slipway.NotFound {
		current = slipway.Deployment{}
	} else if err != nil {
		return "", err
	}
	if back := step.Rollback; back != nil {
		if current.ID > back.From.ID && current.RunID != run.ID {
			return fmt.Sprintf("not rolled back: %s was deployed to %s since, by run #%d", current.Version, step.Environment, current.RunID), nil
		}
		return "", nil
	}
	version := step.Deploy.Version
	quarantined, err := on.Quarantined(ctx, run.Project, step.Service, version)
	if err != nil {
		return "", err
	}
	if quarantined != "" {
		return fmt.Sprintf("not deployed: %s is in quarantine (%s); lift that first: slipway lift %s %s", version, quarantined, step.Service, version), nil
	}
	if current.RunID != run.ID && newer(current, version, run) {
		return fmt.Sprintf("not deployed: the newer %s is in %s since run #%d; only a rollback goes back", current.Version, step.Environment, current.RunID), nil
	}
	return "", nil
}

// targetOf is where a deployment or a rollback goes.
func targetOf(step slipway.PlanStep) slipway.Target {
	if step.Rollback != nil {
		return step.Rollback.Target
	}
	return step.Deploy.Target
}

// newer reports whether what is deployed is newer than a version: by SemVer, or for commits of a
// branch by the order of their runs.
func newer(current slipway.Deployment, version string, run slipway.Run) bool {
	v, verr := slipway.ParseVersion(version)
	w, werr := slipway.ParseVersion(current.Version)
	if verr == nil && werr == nil {
		return w.Compare(v) > 0
	}
	return verr != nil && werr != nil && current.RunID > run.ID
}

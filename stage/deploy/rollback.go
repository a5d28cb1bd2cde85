package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Restorer is what going back needs of Helm beyond Helm.
type Restorer interface {
	// Rollback makes a new revision with chart, values, manifest and hooks of an earlier one.
	Rollback(ctx context.Context, req RollbackRequest) error
	// Storage names the objects of the newest revision that hold data which an uninstall would remove
	// or orphan: claims, and stateful sets with claims.
	Storage(ctx context.Context, t slipway.Target) ([]string, error)
	// Uninstall removes the release and its history. No release: nothing happens.
	Uninstall(ctx context.Context, t slipway.Target, log func(slipway.LogLine)) error
}

// RollbackRequest goes back to a revision that Helm still has.
type RollbackRequest struct {
	Target      slipway.Target
	Revision    int
	Marks       Marks
	Description string
	Log         func(slipway.LogLine)
}

// Rollback brings a target back to an earlier deployment: image, configuration and secrets together,
// as Helm recorded them, or deployed again from the recorded digests when Helm no longer has them
// (D10). Data, migrations, the contents of volumes and CRDs stay as they are.
type Rollback struct {
	Runner  *Runner // deploys again what Helm has dropped
	Restore Restorer
}

var _ stage.Runner = (*Rollback)(nil)

// Run carries out step.Rollback.
func (r *Rollback) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Rollback
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no rollback in it", step.Key)
	}
	var res slipway.Result
	var err error
	if spec.To.ID == 0 {
		res, err = r.remove(ctx, env, *spec)
	} else {
		res, err = r.back(ctx, env, step.Key, *spec)
	}
	if err != nil || res.Outcome != slipway.Succeeded {
		return res, err
	}
	res.Reason += "; " + spec.Reason
	if from := spec.From; from.ID != 0 {
		from.State, from.Reason = slipway.RolledBack, spec.Reason
		res.Deployments = append([]slipway.Deployment{from}, res.Deployments...)
		if from.Version != spec.To.Version {
			res.Quarantine = from.Target.Service + "/" + from.Version
		}
	}
	return res, nil
}

func (r *Rollback) back(ctx context.Context, env stage.Env, key string, spec slipway.RollbackSpec) (slipway.Result, error) {
	history, err := r.Runner.Helm.History(ctx, spec.Target)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("look at Helm release %s in %s: %w", spec.Target.Release, spec.Target.Namespace, err)
	}
	if spec.Automatic && len(history) > 0 && history[0].Marks.outside(env.Run.ID) {
		return slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf(
			"Helm release %s in %s is left as it is: revision %d was made outside Slipway (%s)", spec.Target.Release, spec.Target.Namespace, history[0].Number, history[0].Description)}, nil
	}
	for _, rev := range history {
		if holds(rev, spec.To) {
			return r.revert(ctx, env, key, spec)
		}
	}
	env.Log.Printf("Helm no longer has revision %d of %s as it was recorded: deploying %s again from its digests",
		spec.To.Revision, spec.Target.Release, spec.To.Version)
	want := redeployment(env, key, spec)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	return r.Runner.reach(ctx, env, want, r.Runner.look(reading, want, env.Now), nil)
}

// holds reports whether a revision is the recorded deployment, as it was deployed.
func holds(rev Revision, d slipway.Deployment) bool {
	return rev.Number == d.Revision && (rev.Status == StatusDeployed || rev.Status == StatusSuperseded) &&
		SameDigest(rev.Marks.Image, d.ImageDigest) && SameDigest(rev.Marks.Chart, d.ChartDigest) && SameDigest(rev.Marks.Values, d.ValuesDigest)
}

func (r *Rollback) revert(ctx context.Context, env stage.Env, key string, spec slipway.RollbackSpec) (slipway.Result, error) {
	to := spec.To
	dep := to
	dep.ID, dep.RunID, dep.Step, dep.State, dep.Revision = 0, env.Run.ID, key, "", 0
	dep.CreatedAt, dep.UpdatedAt = time.Time{}, time.Time{}
	req := RollbackRequest{
		Target: spec.Target, Revision: to.Revision, Log: env.Log.Line,
		Description: describe(env.Run.ID, fmt.Sprintf("rollback to %s (revision %d)", to.Version, to.Revision), spec.Reason),
		Marks: Marks{
			Intent: intentID(fmt.Sprint(env.Run.ID), key, spec.Target.Lock(), spec.Target.Cluster, spec.Target.Namespace, spec.Target.Release,
				"revision", fmt.Sprint(to.Revision), to.ImageDigest, to.ChartDigest, to.ValuesDigest),
			Run: fmt.Sprint(env.Run.ID), Version: labelValue(to.Version), Commit: labelValue(to.Commit),
			Image: digestMark(to.ImageDigest), Chart: digestMark(to.ChartDigest), Values: digestMark(to.ValuesDigest),
		},
	}
	j := &job{
		target: spec.Target, intent: req.Marks.Intent, helm: r.Runner.Helm, env: env, staleAfter: r.Runner.StaleAfter,
		act: func(ctx context.Context, _ []Revision) (Revision, error) {
			return Revision{}, r.Restore.Rollback(ctx, req)
		},
		before: func(ctx context.Context, in Intent) (err error) {
			dep.Revision, dep.State, dep.Reason = in.Expected, slipway.Deploying, spec.Reason
			dep, err = r.Runner.Deployments.Save(ctx, dep)
			return err
		},
	}
	rev, err := j.run(ctx)
	return r.Runner.ended(ctx, dep, rev, err)
}

// redeployment is the recorded deployment as something to deploy. The production repository and the
// registry's address come from the spec; the names are the recorded ones.
func redeployment(env stage.Env, key string, spec slipway.RollbackSpec) Desired {
	to, target := spec.To, spec.Target
	target.Values = to.Target.Values
	return Desired{
		Run: env.Run.ID, Step: key, Target: target, Version: to.Version, Commit: to.Commit,
		Image: repository(to.Image, spec.Registry), Tag: to.Tag, ImageDigest: to.ImageDigest,
		Chart: repository(to.Chart, spec.Registry), ChartDigest: to.ChartDigest,
		Reason: "rollback to " + to.Version + ": " + spec.Reason,
	}
}

// repository reads a reference with a host; the registry gives the address when it is the same host.
func repository(ref string, registry slipway.Registry) slipway.Repository {
	host, name, _ := strings.Cut(ref, "/")
	if host != registry.Host {
		registry = slipway.Registry{Host: host}
	}
	return slipway.Repository{Registry: registry, Name: name}
}

// remove uninstalls a first install that failed, unless that would touch data.
func (r *Rollback) remove(ctx context.Context, env stage.Env, spec slipway.RollbackSpec) (slipway.Result, error) {
	t := spec.Target
	history, err := r.Runner.Helm.History(ctx, t)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("look at Helm release %s in %s: %w", t.Release, t.Namespace, err)
	}
	if len(history) == 0 {
		return slipway.Result{Outcome: slipway.Succeeded, Reason: fmt.Sprintf("there is no Helm release %s in %s", t.Release, t.Namespace)}, nil
	}
	if last := history[0]; last.Marks.outside(env.Run.ID) {
		return slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf(
			"Helm release %s in %s is left as it is: revision %d was made outside Slipway (%s)", t.Release, t.Namespace, last.Number, last.Description)}, nil
	}
	storage, err := r.Restore.Storage(ctx, t)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("look for storage of %s in %s: %w", t.Release, t.Namespace, err)
	}
	if len(storage) > 0 {
		return slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf(
			"the first install of %s in %s is left as it is, because it owns storage (%s) and there is no earlier version to go back to; remove it with: helm uninstall %s --namespace %s",
			t.Release, t.Namespace, strings.Join(storage, ", "), t.Release, t.Namespace)}, nil
	}
	for _, rev := range history[1:] {
		if rev.Status == StatusDeployed || rev.Status == StatusSuperseded {
			return slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf(
				"Helm release %s in %s is left as it is: Slipway has verified nothing there that it may go back to, but revision %d ran before (%s); look, and choose with: helm rollback %s %d --namespace %s",
				t.Release, t.Namespace, rev.Number, rev.Description, t.Release, rev.Number, t.Namespace)}, nil
		}
	}
	env.Log.Printf("there is no earlier version of %s in %s: uninstalling", t.Service, t.Environment)
	if err := r.Restore.Uninstall(ctx, t, env.Log.Line); err != nil {
		return failed(fmt.Errorf("uninstall %s in %s: %w", t.Release, t.Namespace, err))
	}
	return slipway.Result{Outcome: slipway.Succeeded, Reason: fmt.Sprintf("the failed first install of %s in %s was uninstalled", t.Release, t.Namespace)}, nil
}

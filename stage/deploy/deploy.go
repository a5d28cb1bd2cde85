// Package deploy brings a version of a service to a target: it observes the Helm release, decides (a
// pure function, Decide), acts, and observes again. Its Runner installs and upgrades; its Rollback
// goes back to an earlier deployment. Deployed means that Helm has applied every object; whether the
// workloads become ready and pass their tests is for stage/verify.
//
// It does not know Helm, Kubernetes or a registry: what it needs of them are the interfaces below,
// which drivers implement. It plans nothing: what follows a failure is decided by whoever runs it.
package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Helm is the Helm release of a target. An error whose code is Invalid, Conflict or Forbidden means
// that the chart, the cluster or another owner refuses what is asked, and that asking again changes
// nothing; Unavailable means that asking again may help.
type Helm interface {
	// History returns the revisions of the target's release, newest first; none when there is no
	// release. It changes nothing.
	History(ctx context.Context, t slipway.Target) ([]Revision, error)
	// Inspect reads the chart and merges its values without a cluster.
	Inspect(req Request) (Inspection, error)
	// Apply makes a new revision: an install when there is none (or the last was uninstalled), else
	// an upgrade. It returns when every object is applied and the hooks have run; when ctx ends it
	// stops between two objects, with the revision marked as failed or left pending. The revision it
	// returns is as Helm stored it; the zero Revision when only a look at the history tells.
	Apply(ctx context.Context, req Request) (Revision, error)
	// Abandon marks a revision that is pending or uninstalling as failed, why becoming its
	// description. A revision in another state is left as it is.
	Abandon(ctx context.Context, t slipway.Target, revision int, why string) error
	// Supersede marks every deployed revision but the newest one as superseded.
	Supersede(ctx context.Context, t slipway.Target) error
}

// Charts pulls chart packages from registries.
type Charts interface {
	// PullChart returns the bytes of the chart package (.tgz) whose manifest has that digest.
	PullChart(ctx context.Context, repository slipway.Repository, digest string) ([]byte, error)
}

// Cluster prepares the place where a release goes.
type Cluster interface {
	// Prepare makes sure that the target's namespace exists and holds the pull secret, which is also
	// attached to the namespace's default service account.
	Prepare(ctx context.Context, t slipway.Target, pull PullSecret) error
	// Prepared reports whether Prepare would find nothing to do. It changes nothing; what cannot be looked at is not
	// prepared.
	Prepared(ctx context.Context, t slipway.Target, pull PullSecret) bool
}

// Robots gives the credentials with which an environment pulls (D18).
type Robots interface {
	// PullToken returns the user and secret with which a project's environment pulls from a registry
	// (its stable host name); both empty: anybody may pull. Two calls may return different secrets
	// only when the first is no longer valid.
	PullToken(ctx context.Context, registry, project, environment string) (user, secret string, err error)
}

// Deployments records deployments outside the transaction that ends a step.
type Deployments interface {
	// Save inserts the deployment of that run and step, or brings it up to date, and returns it with
	// its ID.
	Save(ctx context.Context, d slipway.Deployment) (slipway.Deployment, error)
}

// PullSecret is what the image pull secret of a namespace holds.
type PullSecret struct {
	Name     string
	Registry string // host as it stands in image references
	User     string
	Secret   string
}

// PullSecretName is the name of the image pull secret that Slipway maintains in each namespace it
// deploys to.
const PullSecretName = "slipway-registry"

// Runner deploys. Its fields are set before the first Run and not changed afterwards.
type Runner struct {
	Helm        Helm
	Charts      Charts
	Cluster     Cluster
	Robots      Robots
	Deployments Deployments
	// StaleAfter is the age at which an operation that another Helm client began counts as
	// abandoned; 0: 15 minutes.
	StaleAfter time.Duration
}

var _ stage.Runner = (*Runner)(nil)

// Run deploys step.Deploy with the run's image and chart.
func (r *Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	return r.Ahead(reading, env, step).Run(ctx, env, step)
}

// reach makes the target what is desired, from what was seen of it, and says how it ended. approval is what people agreed
// to, nil when nobody had to.
func (r *Runner) reach(ctx context.Context, env stage.Env, want Desired, seen *view, approval *slipway.Approval) (slipway.Result, error) {
	req, err := seen.chart.wait(ctx)
	if err != nil {
		return failed(err)
	}
	req.Log = env.Log.Line
	dep := req.deployment()
	j := &job{
		target: want.Target, intent: req.Marks.Intent, helm: r.Helm, env: env, staleAfter: r.StaleAfter, seen: seen,
		act: func(ctx context.Context, history []Revision) (Revision, error) {
			req.Seen = history
			return r.Helm.Apply(ctx, req)
		},
		before: func(ctx context.Context, in Intent) error {
			if why := stillApproved(approval, dep, in.Base); why != "" {
				return slipway.Errorf(slipway.Conflict, "%s; approve again: slipway retry %d", why, env.Run.ID)
			}
			if err := r.prepare(ctx, want, seen); err != nil {
				return err
			}
			dep.Revision, dep.State = in.Expected, slipway.Deploying
			dep, err = r.Deployments.Save(ctx, dep)
			return err
		},
	}
	rev, err := j.run(ctx)
	return r.ended(ctx, dep, rev, err)
}

// ended turns the end of a job into the end of the step. An error that a retry may cure leaves the
// deployment in state Deploying, any other end is recorded.
func (r *Runner) ended(ctx context.Context, dep slipway.Deployment, rev Revision, err error) (slipway.Result, error) {
	t := dep.Target
	dep.Revision = max(rev.Number, dep.Revision)
	if err == nil && dep.ID == 0 { // adopted: what was recorded before the crash gives its ID
		dep.State = slipway.Deploying
		dep, err = r.Deployments.Save(ctx, dep)
	}
	if err == nil {
		dep.State, dep.Reason = slipway.Deployed, ""
		return slipway.Result{
			Outcome:     slipway.Succeeded,
			Reason:      fmt.Sprintf("%s %s is revision %d of Helm release %s in %s", t.Service, dep.Version, rev.Number, t.Release, t.Namespace),
			Deployments: []slipway.Deployment{dep},
		}, nil
	}
	begun := dep.State == slipway.Deploying
	dep.Reason = err.Error()
	if dep.State = slipway.DeployFailed; rev.Number != 0 {
		dep.State = slipway.Unhealthy // Helm may have applied some of its objects
	}
	if refused(err) {
		res := slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}
		if begun {
			res.Deployments = []slipway.Deployment{dep}
		}
		return res, nil
	}
	if begun && !slipway.Temporary(err) && !errors.Is(err, slipway.ErrShutdown) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if _, saveErr := r.Deployments.Save(ctx, dep); saveErr != nil {
			err = errors.Join(err, fmt.Errorf("record the deployment: %w", saveErr))
		}
	}
	return slipway.Result{}, err
}

// refused tells a refusal, which is a result, from trouble of the surroundings, which is an error.
func refused(err error) bool {
	switch slipway.ErrorCode(err) {
	case slipway.Invalid, slipway.Conflict, slipway.Forbidden:
		return true
	}
	return false
}

// failed is a refusal before there was anything to record.
func failed(err error) (slipway.Result, error) {
	if refused(err) {
		return slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}, nil
	}
	return slipway.Result{}, err
}

func (r *Runner) request(ctx context.Context, want Desired) (Request, error) {
	pkg, err := r.Charts.PullChart(ctx, want.Chart, want.ChartDigest)
	if err != nil {
		return Request{}, fmt.Errorf("pull chart %s@%s: %w", want.Chart.Ref(), want.ChartDigest, err)
	}
	req := NewRequest(want, pkg)
	in, err := r.Helm.Inspect(req)
	if err != nil {
		return Request{}, fmt.Errorf("read chart %s@%s: %w", want.Chart.Ref(), want.ChartDigest, err)
	}
	return req.inspected(in), nil
}

// prepare makes the place ready, unless it was seen to be.
func (r *Runner) prepare(ctx context.Context, want Desired, seen *view) error {
	p, err := seen.place.wait(ctx)
	if err != nil {
		return err
	}
	if p.ready && !seen.stale() {
		return nil
	}
	return r.Cluster.Prepare(ctx, want.Target, p.pull)
}

func approved(env stage.Env, t slipway.Target) *slipway.Approval {
	for i := len(env.Approvals) - 1; i >= 0; i-- {
		a := &env.Approvals[i]
		if a.Service == t.Service && a.Environment == t.Environment && a.State == slipway.ApprovalApproved {
			return a
		}
	}
	return nil
}

// stillApproved compares what was approved with what is about to be done (D11); "" when nothing
// differs or no approval is needed.
func stillApproved(a *slipway.Approval, d slipway.Deployment, base int) string {
	if a == nil {
		return ""
	}
	for _, c := range []struct{ what, approved, now string }{
		{"image", a.ImageDigest, d.ImageDigest},
		{"chart", a.ChartDigest, d.ChartDigest},
		{"values", a.ValuesDigest, d.ValuesDigest},
		{"Helm revision it replaces", revisionName(a.BaseRevision), revisionName(base)},
	} {
		if c.approved != c.now {
			return fmt.Sprintf("the %s changed since the approval: approved was %s, now it is %s", c.what, c.approved, c.now)
		}
	}
	return ""
}

func revisionName(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

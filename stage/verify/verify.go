// Package verify says whether a deployment is healthy: every object of the deployed Helm revision is
// ready, the containers run the intended image, and the release's own tests (helm test) pass. It
// fails early when waiting longer is pointless: an image that cannot be pulled, a container that
// crashes again and again, a rollout past its deadline.
//
// It changes nothing but the test hooks that it runs, and does not roll back: whoever runs it decides
// what follows a failure.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Helm reads a release and runs its tests. Errors are coded as those of stage/deploy.Helm.
type Helm interface {
	// Deployed returns the deployed revision of the target's release; NotFound when there is none.
	Deployed(ctx context.Context, t slipway.Target) (Release, error)
	// Test runs the test hooks of the newest revision, one after the other, until one fails, and
	// writes the logs of their pods to log, each pod in its own group, whether it passed or failed.
	Test(ctx context.Context, t slipway.Target, log func(slipway.LogLine)) (TestRun, error)
}

// Release is a Helm revision with what it put into the cluster.
type Release struct {
	Revision int
	Manifest string // YAML documents
	Tests    []string
}

// TestRun is what the test hooks of a release said.
type TestRun struct {
	Passed []string
	Failed string // name of the hook that failed; "" when all passed
	Reason string
}

// Cluster watches workloads.
type Cluster interface {
	// Watch calls seen with the state of every object of a manifest and of its pods, at once and
	// after every change, until seen returns true or ctx ends, whose error it returns then. Calls do
	// not overlap.
	Watch(ctx context.Context, t slipway.Target, manifest string, seen func(Observed) (done bool)) error
	// Logs returns the last lines of a container's log; previous asks for the instance before the
	// current one. A container that has none has no lines.
	Logs(ctx context.Context, t slipway.Target, pod, container string, previous bool, lines int) ([]string, error)
	// Events returns the newest warnings about an object, oldest first, as sentences.
	Events(ctx context.Context, t slipway.Target, kind, name string) ([]string, error)
}

// Observed is what the cluster says of a manifest's objects.
type Observed struct {
	Time    time.Time
	Objects []Object // in the manifest's order
	Pods    []Pod    // of the objects' current generation, by name
}

// Phase is where an object stands.
type Phase string

const (
	InProgress Phase = "in progress"
	Ready      Phase = "ready"
	Broken     Phase = "failed" // it will not become ready by itself
	Missing    Phase = "missing"
)

// Object is an object of the manifest.
type Object struct {
	Kind    string
	Name    string
	Phase   Phase
	Message string
	// Refused is why the cluster does not let the object make its pods (quota, admission), "" when it
	// does.
	Refused string
}

// Pod is a pod of one of the objects.
type Pod struct {
	Name          string
	Owner         string // Kind/name of the object
	Ready         bool
	Finished      bool   // ran to its end successfully
	Unschedulable string // why no node takes it; "" when one did
	Containers    []Container
}

// Container is a container of a pod, init containers first.
type Container struct {
	Name     string
	Image    string // as in the pod's spec
	ImageID  string // what the node runs; "" before it was pulled
	Ready    bool
	Waiting  string // reason: ImagePullBackOff, CrashLoopBackOff ...
	Message  string // of Waiting, or of the last end
	Restarts int
	Ended    string // why the last instance ended: OOMKilled, Error (exit 1); "" when none did
}

// Runner verifies deployments. Its fields are set before the first Run and not changed afterwards.
type Runner struct {
	Helm    Helm
	Cluster Cluster
	Rules   Rules
	// Timeout bounds the wait for readiness when the target says none; 0: 5 minutes.
	Timeout time.Duration
	// LogLines is how much of a failing container's log is shown; 0: 20.
	LogLines int
}

var _ stage.Runner = (*Runner)(nil)

// Run verifies the run's deployment to step.Verify.Target. It may run again after a crash: it looks
// anew, and tests are run again.
func (r *Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Verify
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no verification in it", step.Key)
	}
	t := spec.Target
	dep, ok := env.Deployment(t.Service, t.Environment)
	if !ok {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "verify %s in %s: run %d deployed nothing there", t.Service, t.Environment, env.Run.ID)
	}
	rel, err := r.Helm.Deployed(ctx, t)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return unhealthy(dep, fmt.Sprintf("Helm release %s in %s has no deployed revision", t.Release, t.Namespace)), nil
	}
	if err != nil {
		return slipway.Result{}, fmt.Errorf("look at Helm release %s in %s: %w", t.Release, t.Namespace, err)
	}
	if rel.Revision != dep.Revision {
		return unhealthy(dep, fmt.Sprintf("Helm release %s in %s is at revision %d, not at %d that this run deployed: someone changed it outside Slipway",
			t.Release, t.Namespace, rel.Revision, dep.Revision)), nil
	}
	why, err := r.ready(ctx, env, dep, rel)
	if err == nil && why == "" && t.Tests {
		why, err = r.test(ctx, env, t, rel)
	}
	if err != nil {
		return slipway.Result{}, err
	}
	if why != "" {
		return unhealthy(dep, why), nil
	}
	dep.State, dep.Reason = slipway.Verified, ""
	return slipway.Result{
		Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{dep},
		Reason: fmt.Sprintf("%s %s is healthy in %s", t.Service, dep.Version, t.Environment),
	}, nil
}

func unhealthy(dep slipway.Deployment, why string) slipway.Result {
	dep.State, dep.Reason = slipway.Unhealthy, why
	return slipway.Result{Outcome: slipway.Failed, Reason: why, Deployments: []slipway.Deployment{dep}}
}

// ready waits for the release's objects. It returns "" when all are ready, else why they are not.
func (r *Runner) ready(ctx context.Context, env stage.Env, dep slipway.Deployment, rel Release) (string, error) {
	t := dep.Target
	timeout := time.Duration(t.Timeout)
	if timeout == 0 {
		timeout = cmpDuration(r.Timeout, 5*time.Minute)
	}
	wait, cancel := context.WithTimeoutCause(ctx, timeout, errNotReady)
	defer cancel()
	judge := NewJudge(r.Rules, dep.Image, dep.ImageDigest)
	progress := progress{log: env.Log, seen: map[string]string{}}
	var last Observed
	var verdict Verdict
	err := r.Cluster.Watch(wait, t, rel.Manifest, func(o Observed) bool {
		last = o
		progress.show(o)
		verdict = judge.Look(o)
		return verdict.Done
	})
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil && !errors.Is(context.Cause(wait), errNotReady):
		return "", fmt.Errorf("watch %s in %s: %w", t.Release, t.Namespace, err)
	case err == nil && verdict.Failure == "":
		return "", nil
	case err != nil:
		verdict = judge.Overdue(last, timeout)
	}
	progress.fail(last, verdict)
	r.explain(ctx, env, t, verdict)
	return verdict.Failure, nil
}

var errNotReady = errors.New("not ready in time")

// explain shows the events and the log of what failed, so that nobody needs kubectl to see why.
func (r *Runner) explain(ctx context.Context, env stage.Env, t slipway.Target, v Verdict) {
	lines := r.LogLines
	if lines == 0 {
		lines = 20
	}
	if v.Pod.Name == "" {
		r.events(ctx, env, t, v.Object.Kind, v.Object.Name)
		return
	}
	r.events(ctx, env, t, "Pod", v.Pod.Name)
	group := "Pod/" + v.Pod.Name
	out, err := r.logs(ctx, t, v, lines)
	if err != nil {
		env.Log.Line(slipway.LogLine{Group: group, Text: "its log could not be read: " + err.Error()})
		return
	}
	if len(out) > 0 {
		env.Log.Line(slipway.LogLine{Group: group, Text: fmt.Sprintf("last lines of container %s:", v.Container.Name)})
	}
	for _, l := range out {
		env.Log.Line(slipway.LogLine{Group: group, Stream: "stdout", Text: l})
	}
}

// logs returns the log that tells why a container failed: of the instance that ended, as the one after
// it may have started a moment ago, and of the other instance when that one left nothing.
func (r *Runner) logs(ctx context.Context, t slipway.Target, v Verdict, lines int) ([]string, error) {
	ended := v.Container.Restarts > 0 && (v.Container.Waiting != "" || v.Container.Ended != "")
	out, err := r.Cluster.Logs(ctx, t, v.Pod.Name, v.Container.Name, ended, lines)
	if err == nil && len(out) == 0 && v.Container.Restarts > 0 {
		return r.Cluster.Logs(ctx, t, v.Pod.Name, v.Container.Name, !ended, lines)
	}
	return out, err
}

func (r *Runner) events(ctx context.Context, env stage.Env, t slipway.Target, kind, name string) {
	if name == "" {
		return
	}
	group := kind + "/" + name
	events, err := r.Cluster.Events(ctx, t, kind, name)
	if err != nil {
		env.Log.Line(slipway.LogLine{Group: group, Text: "its events could not be read: " + err.Error()})
	}
	for _, e := range events {
		env.Log.Line(slipway.LogLine{Group: group, Text: e})
	}
}

func (r *Runner) test(ctx context.Context, env stage.Env, t slipway.Target, rel Release) (string, error) {
	if len(rel.Tests) == 0 {
		env.Log.Printf("the chart has no tests (helm.sh/hook: test)")
		return "", nil
	}
	env.Log.Printf("running the chart's tests: %s", strings.Join(rel.Tests, ", "))
	run, err := r.Helm.Test(ctx, t, env.Log.Line)
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case err != nil:
		return "", fmt.Errorf("run the tests of %s in %s: %w", t.Release, t.Namespace, err)
	case run.Failed != "":
		return fmt.Sprintf("in-cluster test %s failed: %s", run.Failed, run.Reason), nil
	}
	slices.Sort(run.Passed)
	env.Log.Printf("in-cluster tests passed: %s", strings.Join(run.Passed, ", "))
	return "", nil
}

func cmpDuration(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

package deploy

import (
	"context"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Ahead begins to read what the deployment of step.Deploy needs to know, and returns the runner that deploys with it. Reading
// changes nothing: the chart by its digest, the release's history, the namespace. Whoever has to find out whether
// anything may be deployed at all does so meanwhile, and calls Run afterwards, or never; the reading ends with ctx then.
// What Run reports is what it would have without reading ahead.
func (r *Runner) Ahead(ctx context.Context, env stage.Env, step slipway.PlanStep) stage.Runner {
	want, err := desired(env, step)
	if err != nil {
		return stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
			return slipway.Result{}, err
		})
	}
	seen := r.look(ctx, want, env.Now)
	return stage.Func(func(ctx context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		return r.reach(ctx, env, want, seen, approved(env, want.Target))
	})
}

// desired is what a step says of its target, with what its run made.
func desired(env stage.Env, step slipway.PlanStep) (Desired, error) {
	spec := step.Deploy
	if spec == nil {
		return Desired{}, slipway.Errorf(slipway.Internal, "step %s has no deployment in it", step.Key)
	}
	image, ok := env.Artifact(slipway.ArtifactImage, spec.Target.Service)
	if !ok {
		return Desired{}, slipway.Errorf(slipway.Internal, "deploy %s: run %d made no image of it", spec.Target.Service, env.Run.ID)
	}
	chart, ok := env.Artifact(slipway.ArtifactChart, spec.Target.Service)
	if !ok {
		return Desired{}, slipway.Errorf(slipway.Internal, "deploy %s: run %d made no chart of it", spec.Target.Service, env.Run.ID)
	}
	return Desired{
		Step: step.Key, Run: env.Run.ID,
		Target: spec.Target, Version: spec.Version, Commit: spec.Commit,
		Image: spec.Image, Tag: spec.Tag, ImageDigest: image.Digest,
		Chart: spec.Chart, ChartDigest: chart.Digest, Reason: spec.Reason,
		Aliases: []string{image.Repository},
	}, nil
}

// fresh is how long what was seen of a release and its namespace is acted upon without another look. What somebody else
// does to a release meanwhile, the cluster refuses to overwrite: a revision's number is given once.
const fresh = time.Second

// view is what was read of a deployment's surroundings, or is being read.
type view struct {
	now     func() time.Time
	at      time.Time // when the reading began
	chart   answer[Request]
	history answer[[]Revision]
	place   answer[place]
}

// place is where a release goes, as it was seen.
type place struct {
	pull  PullSecret
	ready bool // there is nothing to prepare
}

// look reads everything at once.
func (r *Runner) look(ctx context.Context, want Desired, now func() time.Time) *view {
	return &view{
		now: now, at: now(),
		chart:   ask(func() (Request, error) { return r.request(ctx, want) }),
		history: ask(func() ([]Revision, error) { return r.Helm.History(ctx, want.Target) }),
		place: ask(func() (place, error) {
			user, secret, err := r.Robots.PullToken(ctx, want.Image.Registry.Host, want.Target.Project, want.Target.Environment)
			if err != nil {
				return place{}, fmt.Errorf("credentials to pull in %s: %w", want.Target.Environment, err)
			}
			pull := PullSecret{Name: PullSecretName, Registry: want.Image.Registry.Host, User: user, Secret: secret}
			return place{pull: pull, ready: r.Cluster.Prepared(ctx, want.Target, pull)}, nil
		}),
	}
}

func (v *view) stale() bool { return v.now().Sub(v.at) > fresh }

// answer is what a question that was asked beside others was answered with.
type answer[T any] struct {
	done chan struct{}
	got  *reply[T]
}

type reply[T any] struct {
	value T
	err   error
	panic any
}

// ask calls f in a goroutine of its own.
func ask[T any](f func() (T, error)) answer[T] {
	a := answer[T]{done: make(chan struct{}), got: &reply[T]{}}
	go func() {
		defer close(a.done)
		defer func() { a.got.panic = recover() }()
		a.got.value, a.got.err = f()
	}()
	return a
}

// wait returns the answer, or the cause of ctx's end. A panic of the question is one of whoever waits.
func (a answer[T]) wait(ctx context.Context) (T, error) {
	var none T
	select {
	case <-a.done:
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	if a.got.panic != nil {
		panic(a.got.panic)
	}
	return a.got.value, a.got.err
}

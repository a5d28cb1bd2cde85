package publish

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Copier copies by digest. The embedded registry and driver/oci are Copiers. Errors are
// slipway.Errors. It is safe for concurrent use.
type Copier interface {
	// Resolve returns the digest that a tag names; NotFound when there is none.
	Resolve(ctx context.Context, repo slipway.Repository, tag string) (string, error)
	// Copy brings a manifest, what it needs and what refers to it to another repository, and gives
	// it the tag there last (none when tag is empty). A tag that is there with the same digest is
	// success, with another one Conflict.
	Copy(ctx context.Context, from slipway.Repository, digest string, to slipway.Repository, tag string) error
}

const retagKey = "retag"

// Retagger retags. Embedded copies inside the embedded registry, whose stable host name is Host (empty:
// there is none), and is the only way into its production namespace; Outside copies everywhere else.
type Retagger struct {
	Host     string
	Embedded Copier
	Outside  Copier
}

var _ stage.Runner = (*Retagger)(nil)

// name is one thing to be named: the same digest, from a candidate to production.
type name struct {
	kind     slipway.ArtifactKind
	artifact slipway.Artifact
	from, to slipway.Repository
	tag      string
	approved string // digest that people agreed to; empty: no approval was needed
}

// Run gives the run's image and chart their production names as step.Retag says, the chart first. It
// refuses when a candidate's tag no longer is what the run made, or when something else was approved.
func (r *Retagger) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	names, err := namesOf(env, step)
	if err != nil {
		return slipway.Result{}, err
	}
	for _, n := range names {
		if refused, err := r.check(ctx, n); err != nil || refused != "" {
			return failed(refused), err
		}
	}
	if err := env.Journal.Put(ctx, retagKey, map[string]string{"image": names[1].artifact.Digest, "chart": names[0].artifact.Digest}); err != nil {
		return slipway.Result{}, fmt.Errorf("record intent: %w", err)
	}
	res := slipway.Result{Outcome: slipway.Succeeded}
	for _, n := range names {
		if err := r.copy(ctx, n); err != nil {
			if slipway.ErrorCode(err) == slipway.Conflict {
				return failed(r.taken(ctx, n)), nil
			}
			return slipway.Result{}, fmt.Errorf("promote %s of %s: %w", n.kind, step.Service, err)
		}
		env.Log.Printf("%s %s:%s is %s", n.kind, n.to.Ref(), n.tag, n.artifact.Digest)
		res.Artifacts = append(res.Artifacts, n.result(env, step))
	}
	return res, nil
}

// namesOf lists chart and image, with the digests that the run made and those that were approved.
func namesOf(env stage.Env, step slipway.PlanStep) ([]name, error) {
	spec := step.Retag
	if spec == nil {
		return nil, slipway.Errorf(slipway.Internal, "step %s has nothing to retag in it", step.Key)
	}
	image, ok := env.Artifact(slipway.ArtifactImage, step.Service)
	if !ok {
		return nil, slipway.Errorf(slipway.Internal, "retag %s: run %d made no image of it", step.Service, env.Run.ID)
	}
	chart, ok := env.Artifact(slipway.ArtifactChart, step.Service)
	if !ok {
		return nil, slipway.Errorf(slipway.Internal, "retag %s: run %d made no chart of it", step.Service, env.Run.ID)
	}
	var approved slipway.Approval
	for _, a := range env.Approvals {
		if a.Service == step.Service && a.Environment == step.Environment && a.State == slipway.ApprovalApproved {
			approved = a
		}
	}
	return []name{
		{slipway.ArtifactChart, chart, spec.FromChart, spec.ToChart, spec.ChartVersion, approved.ChartDigest},
		{slipway.ArtifactImage, image, spec.FromImage, spec.ToImage, spec.Tag, approved.ImageDigest},
	}, nil
}

// check says why the name may not be given, "" when it may.
func (r *Retagger) check(ctx context.Context, n name) (string, error) {
	if n.approved != "" && n.approved != n.artifact.Digest {
		return fmt.Sprintf("the %s %s was approved, but the run has %s: approve again", n.kind, n.approved, n.artifact.Digest), nil
	}
	there, err := lookUp(ctx, r.of(n.from), n.from, n.tag)
	if err != nil {
		return "", err
	}
	switch there {
	case n.artifact.Digest:
		return "", nil
	case "":
		return fmt.Sprintf("the candidate %s:%s is gone; it was %s. Publish it again: retry the publish step", n.from.Ref(), n.tag, n.artifact.Digest), nil
	}
	return fmt.Sprintf("the candidate %s:%s has moved from %s, which was tested, to %s; nothing was retagged. Find out who moved it, and release the next version", n.from.Ref(), n.tag, n.artifact.Digest, there), nil
}

func (r *Retagger) taken(ctx context.Context, n name) string {
	there, err := lookUp(ctx, r.of(n.to), n.to, n.tag)
	if err != nil || there == "" {
		there = "another digest"
	}
	return fmt.Sprintf("%s:%s is %s already and is not moved to %s: choose the next version", n.to.Ref(), n.tag, there, n.artifact.Digest)
}

func (r *Retagger) embedded(repo slipway.Repository) bool {
	return r.Host != "" && repo.Registry.Host == r.Host
}

func (r *Retagger) of(repo slipway.Repository) Copier {
	if r.embedded(repo) {
		return r.Embedded
	}
	return r.Outside
}

// copy chooses the way. From an outside registry into the embedded one it goes by the candidates, since
// nothing from outside writes into production.
func (r *Retagger) copy(ctx context.Context, n name) error {
	digest := n.artifact.Digest
	if !r.embedded(n.to) || r.embedded(n.from) {
		return r.of(n.to).Copy(ctx, n.from, digest, n.to, n.tag)
	}
	between := slipway.Repository{Registry: n.to.Registry, Name: strings.TrimPrefix(n.to.Name, n.to.Registry.Prefix+"/")}
	between.Registry.Prefix = ""
	if err := r.Outside.Copy(ctx, n.from, digest, between, ""); err != nil {
		return err
	}
	return r.Embedded.Copy(ctx, between, digest, n.to, n.tag)
}

func (n name) result(env stage.Env, step slipway.PlanStep) slipway.Artifact {
	return slipway.Artifact{
		Project: env.Run.Project, RunID: env.Run.ID, Step: step.Key, Service: step.Service, Kind: n.kind,
		Repository: n.to.Ref(), Tag: n.tag, Digest: n.artifact.Digest, Size: n.artifact.Size,
		Commit: n.artifact.Commit, CreatedAt: clock(env),
	}
}

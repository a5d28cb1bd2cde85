// Package reuse keeps builds, tests and checks of charts from being done again on what they were done on
// before: the same files, base images, settings, policies. It stands before the runner that does them. It
// knows what such a step depends on; it keeps nothing, and reuses nothing that is not known to be equal.
package reuse

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Repo is what of a repository a step depends on.
type Repo interface {
	TreeHash(ctx context.Context, commit, dir string) (string, error)
	// Files lists what is in a folder, in an order that depends on nothing else.
	Files(ctx context.Context, commit, dir string) ([]File, error)
	ReadFile(ctx context.Context, commit, name string, limit int64) ([]byte, error)
	IsAncestor(ctx context.Context, ancestor, commit string) (bool, error)
}

// Bases resolves base images.
type Bases interface {
	// Digest is that of the image which a build of the project would take now.
	Digest(ctx context.Context, project, image string, pins map[string]string) (string, error)
}

// Past knows how steps ended.
type Past interface {
	// Earlier is the newest step of a project that succeeded with these inputs and that fits, with what it
	// made; false when there is none.
	Earlier(ctx context.Context, project, inputs string, fits func(slipway.PlanStep) bool) (slipway.Earlier, bool, error)
}

// Images knows what is in the registry.
type Images interface {
	// Head is NotFound for an image that is not there any more.
	Head(ctx context.Context, repo slipway.Repository, digest string) (int64, error)
}

// Runner does a step with Inner, unless the result is known.
type Runner struct {
	Inner  stage.Runner
	Repo   func(codebase string) Repo // by the codebase's key
	Bases  Bases
	Past   Past
	Images Images
	// BaseImages reads which images a Dockerfile starts from, and whether it depends on nothing else from
	// elsewhere.
	BaseImages func(dockerfile []byte, args map[string]string) (images []string, sure bool)
	// Version is of all that turns inputs into results: another one reuses nothing of this one's.
	Version string
	// Named is how people know the step whose result is taken; nil: by the number of its run.
	Named func(slipway.Step) string
}

// Run looks for the result and does the step where there is none. Trouble with looking is not trouble with
// the step.
func (r Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	key, err := r.inputs(ctx, env, step)
	if err != nil {
		env.Log.Printf("not looked for an earlier result: %s", err)
	}
	if key != "" {
		switch res, ok, err := r.earlier(ctx, env, step, key); {
		case err != nil:
			env.Log.Printf("not looked for an earlier result: %s", err)
		case ok:
			env.Log.Printf("%s: the same files, base images and settings", res.Reason)
			return res, nil
		}
	}
	if ctx.Err() != nil {
		return slipway.Result{}, context.Cause(ctx)
	}
	res, err := r.Inner.Run(ctx, env, step)
	// Red tests are never reused; their inputs tell whether others on the same ones passed.
	if err == nil && (res.Outcome == slipway.Succeeded || res.Report != nil) {
		res.Inputs = key
	}
	return res, err
}

const maxDockerfile = 1 << 20

// subject is what builds and tests have in common.
type subject struct {
	source     slipway.Source
	dockerfile string
	args, pins map[string]string
	trust      slipway.Trust
	settings   any      // the rest of what decides about the result
	images     []string // of services beside it, resolved as base images are
	contexts   []slipway.NamedContext
}

func subjectOf(step slipway.PlanStep) (subject, bool) {
	switch {
	case step.Build != nil:
		b := step.Build
		image := ""
		if b.Image != nil {
			image = b.Image.Ref()
		}
		return subject{b.Source, b.Dockerfile, b.Args, b.Pins, b.Trust, []any{"build", b.Target, b.Epoch, image}, nil, b.Contexts}, true
	case step.Test != nil:
		t := step.Test
		var images []string
		for _, service := range t.Services {
			images = append(images, service.Image)
		}
		return subject{t.Source, t.Dockerfile, t.Args, t.Pins, t.Trust, []any{"test", t.Stage, t.Results, t.Epoch, t.Services}, images, t.Contexts}, true
	}
	return subject{}, false
}

// inputs is a hash of all that the result of a step depends on, but for its trust; "" when that is not all
// known.
func (r Runner) inputs(ctx context.Context, env stage.Env, step slipway.PlanStep) (string, error) {
	s, ok := subjectOf(step)
	if !ok || len(env.Secrets) > 0 {
		return "", nil
	}
	repo := r.Repo(slipway.CodebaseKey(env.Run.Project, s.source.Codebase))
	data, err := repo.ReadFile(ctx, s.source.Commit, path.Join(s.source.Dir, s.dockerfile), maxDockerfile)
	if err != nil {
		return "", nil //nolint:nilerr // the step itself says what is wrong with it
	}
	images, sure := r.BaseImages(data, s.args)
	if !sure {
		return "", nil
	}
	bases := map[string]string{}
	for _, c := range s.contexts {
		tree, err := seen(ctx, r.Repo(slipway.CodebaseKey(env.Run.Project, c.Source.Codebase)), c.Source, "")
		if err != nil {
			return "", fmt.Errorf("find the files of %s: %w", c.Name, err)
		}
		bases[c.Name] = "tree " + tree
	}
	for _, image := range slices.Concat(images, s.images) {
		if bases[image] != "" {
			continue
		}
		if bases[image], err = r.Bases.Digest(ctx, env.Run.Project, image, s.pins); err != nil {
			return "", fmt.Errorf("find base image %s: %w", image, err)
		}
	}
	tree, err := seen(ctx, repo, s.source, s.dockerfile)
	if err != nil {
		return "", fmt.Errorf("find the files: %w", err)
	}
	return hash(r.Version, step.Service, tree, s.dockerfile, s.args, bases, s.settings)
}

// hash is one of values as JSON has them.
func hash(values ...any) (string, error) {
	text, err := json.Marshal(values)
	if err != nil {
		return "", fmt.Errorf("write the inputs: %w", err)
	}
	return slipway.DigestOf(text), nil
}

func (r Runner) earlier(ctx context.Context, env stage.Env, step slipway.PlanStep, key string) (slipway.Result, bool, error) {
	trusts := accepted(env.Run, step)
	found, ok, err := r.Past.Earlier(ctx, env.Run.Project, key, func(p slipway.PlanStep) bool { return slices.Contains(trusts, trustOf(p)) })
	if err != nil || !ok {
		return slipway.Result{}, false, err
	}
	from := cmp.Or(found.Step.ReusedFrom, found.Step.RunID)
	reason := fmt.Sprintf("reused from run #%d", from)
	if r.Named != nil {
		reason = fmt.Sprintf("reused (%s)", r.Named(found.Step))
	}
	res := slipway.Result{Outcome: slipway.Succeeded, Reason: reason, ReusedFrom: from, Report: found.Report}
	if s, _ := subjectOf(found.Step.Spec); s.trust == trustOf(step) {
		res.Inputs = key // else the next one asks for a result of its own trust
	}
	if step.Build == nil || step.Build.Image == nil {
		return res, true, nil
	}
	if ok, err := r.sameHistory(ctx, env, step, found.Step.Spec); err != nil || !ok {
		return slipway.Result{}, false, err
	}
	for _, a := range found.Artifacts {
		if _, err := r.Images.Head(ctx, *step.Build.Image, a.Digest); slipway.ErrorCode(err) == slipway.NotFound {
			return slipway.Result{}, false, nil
		} else if err != nil {
			return slipway.Result{}, false, err
		}
		a.ID, a.RunID, a.Step, a.Commit = 0, env.Run.ID, step.Key, step.Build.Source.Commit
		if env.Now != nil {
			a.CreatedAt = env.Now()
		}
		res.Artifacts = append(res.Artifacts, a)
	}
	return res, len(res.Artifacts) > 0, nil
}

// accepted are the degrees of trust whose results a step may take. A merge takes the tests of the pull
// request, which decided that it may be merged; an image that others may run is never one that less
// trusted code could have influenced (D20).
func accepted(run slipway.Run, step slipway.PlanStep) []slipway.Trust {
	order := []slipway.Trust{slipway.TrustReviewed, slipway.TrustBranch, slipway.TrustFork}
	own := slices.Index(order, trustOf(step))
	if own < 0 {
		own = slices.Index(order, slipway.TrustBranch)
	}
	if step.Test != nil && run.Event == slipway.DefaultPush {
		own = slices.Index(order, slipway.TrustBranch)
	}
	return order[:own+1]
}

func trustOf(step slipway.PlanStep) slipway.Trust {
	s, _ := subjectOf(step)
	return s.trust
}

// sameHistory reports whether the commit that an image names as its revision is one of the run's history:
// after a rebase it is not, and the image would point nowhere.
func (r Runner) sameHistory(ctx context.Context, env stage.Env, step, earlier slipway.PlanStep) (bool, error) {
	const revision = "org.opencontainers.image.revision"
	if earlier.Build == nil {
		return false, nil
	}
	was, is := earlier.Build.Labels[revision], step.Build.Labels[revision]
	if was == is || was == "" {
		return true, nil
	}
	ok, err := r.Repo(slipway.CodebaseKey(env.Run.Project, step.Build.Source.Codebase)).IsAncestor(ctx, was, step.Build.Source.Commit)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return false, nil // pruned since
	}
	return ok, err
}

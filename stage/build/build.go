// Package build makes a service's image from its Dockerfile: the tree of the commit goes in, the
// digest of a plain image manifest comes out, pushed without a tag, with its provenance beside it as
// a referrer (D15). It decides what a failed build is and how it is told; it does not know BuildKit,
// does not tag (that is publish), and keeps nothing between runs.
package build

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Builder builds images.
type Builder interface {
	// Build builds and, when the request names a repository, pushes by digest. A build that does not
	// work is a Result with a Failure; an error means that the builder or its surroundings failed. It
	// returns soon after ctx is cancelled, and then nothing of the build runs any more. Equal requests
	// on equal trees give equal digests.
	Build(ctx context.Context, req Request, log stage.Log) (Result, error)
}

// Request is one build.
type Request struct {
	Project    string // with Service: what caches belong to
	Service    string
	Dir        string // build context, an absolute folder; not written to
	Dockerfile string // relative to Dir
	Target     string // "": the last stage
	Args       map[string]string
	Labels     map[string]string
	Epoch      int64             // SOURCE_DATE_EPOCH, Unix seconds
	Pins       map[string]string // base image reference -> digest
	Image      *slipway.Repository
	Trust      slipway.Trust     // builds of different trust share no cache that one of them could write
	Secrets    map[string]string // for RUN --mount=type=secret,id=NAME; never in a layer
	Contexts   map[string]string // name -> absolute folder that COPY --from=name takes files from
}

// Result is how a build ended.
type Result struct {
	Failure    *Failure // set: the build does not work; the rest is empty
	Digest     string   // of the image manifest; empty when nothing was kept
	Size       int64    // bytes of configuration and layers, compressed
	Provenance *Provenance
}

// Provenance is the record of how the image was made, pushed as a referrer of it. Nobody has signed it: the
// provenance that counts is made of it when the image is published.
type Provenance struct {
	Digest string // of the referrer's manifest
	Size   int64  // bytes of the statement
}

// Failure says why a build does not work.
type Failure struct {
	File     string // relative to the build context; "" when unknown
	Line     int    // 1-based; 0 when unknown
	Step     string // the instruction: RUN go build ./...
	ExitCode int    // of the instruction; 0 when it did not get that far
	Message  string // when there is no exit code: what is wrong
}

// Reason tells the failure in one line, with dir before the file's name.
func (f Failure) Reason(dir string) string {
	var b strings.Builder
	b.WriteString("build failed")
	if f.File != "" {
		b.WriteString(" at " + path.Join(dir, f.File))
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
	}
	if what := f.What(); what != "" {
		b.WriteString(": " + what)
	}
	return b.String()
}

// What says in one line what is wrong, without the place.
func (f Failure) What() string {
	if f.ExitCode != 0 && f.Step != "" {
		return fmt.Sprintf("%s exited with %d", clip(f.Step), f.ExitCode)
	}
	return clip(f.Message)
}

// Runner is the build step.
type Runner struct{ Builder Builder }

// Run builds the image that the step describes.
func (r Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Build
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no build", step.Key)
	}
	tree, err := env.Workspace.Tree(ctx, spec.Source.Codebase, spec.Source.Commit)
	if err != nil {
		return stage.Refused(err)
	}
	dir, err := contextDir(tree, spec.Source)
	if err != nil {
		return slipway.Result{}, err
	}
	if err := checkRelative(spec.Dockerfile); err != nil {
		return slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}, nil
	}
	contexts, err := stage.Contexts(ctx, env.Workspace, spec.Contexts)
	if err != nil {
		return stage.Refused(err)
	}
	res, err := r.Builder.Build(ctx, Request{
		Project: env.Run.Project, Service: step.Service,
		Dir: dir, Dockerfile: spec.Dockerfile, Target: spec.Target,
		Args: spec.Args, Labels: spec.Labels, Epoch: spec.Epoch, Pins: spec.Pins,
		Image: spec.Image, Trust: spec.Trust, Secrets: env.Secrets, Contexts: contexts,
	}, env.Log)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("build image of %s: %w", step.Service, err)
	}
	if res.Failure != nil {
		return slipway.Result{Outcome: slipway.Failed, Reason: res.Failure.Reason(spec.Source.Dir)}, nil
	}
	return slipway.Result{Outcome: slipway.Succeeded, Artifacts: artifacts(env, step, res)}, nil
}

func artifacts(env stage.Env, step slipway.PlanStep, res Result) []slipway.Artifact {
	spec := step.Build
	if spec.Image == nil {
		return nil
	}
	image := slipway.Artifact{
		Project: env.Run.Project, RunID: env.Run.ID, Step: step.Key, Service: step.Service,
		Kind: slipway.ArtifactImage, Repository: spec.Image.Ref(), Digest: res.Digest, Size: res.Size,
		Commit: spec.Source.Commit,
	}
	if env.Now != nil {
		image.CreatedAt = env.Now()
	}
	all := []slipway.Artifact{image}
	if res.Provenance != nil {
		prov := image
		prov.Kind, prov.Digest, prov.Size, prov.Subject = slipway.ArtifactProvenance, res.Provenance.Digest, res.Provenance.Size, res.Digest
		all = append(all, prov)
	}
	return all
}

func contextDir(tree string, src slipway.Source) (string, error) {
	sub := filepath.FromSlash(src.Dir)
	if src.Dir != "" && !filepath.IsLocal(sub) {
		return "", slipway.Errorf(slipway.Invalid, "service folder %q is outside of the repository", src.Dir)
	}
	return filepath.Join(tree, sub), nil
}

func checkRelative(file string) error {
	if !filepath.IsLocal(filepath.FromSlash(file)) {
		return slipway.Errorf(slipway.Invalid, "Dockerfile %q is outside of the service's folder", file)
	}
	return nil
}

const maxReason = 500

// clip keeps a reason to one line of bounded length.
func clip(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > maxReason {
		return string(r[:maxReason]) + "..."
	}
	return s
}

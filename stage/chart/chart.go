// Package chart turns a service's chart folder into a package that may be deployed: loaded, linted,
// rendered for every environment that will get it, each rendered object checked against the schema
// of the Kubernetes API, and packaged in reproducible bytes (S91 to S96, S109, S110, D16, D17). A
// service without a chart gets the standard chart (D5).
//
// It talks to no registry, changes no cluster and never writes to the tree. What the policies of package
// gate/manifest and the schema find is recorded, and judged by the gate of the step: it does not fail it
// here. Templates, schemas and clusters are behind the interfaces Helm, Tracer, Schemas and Clusters;
// driver/helmchart, driver/kubeschema and driver/kube implement them.
package chart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Runner is the runner of chart steps. It keeps nothing but what clusters said of their API: a step that
// runs again does the same again and writes the same bytes.
type Runner struct {
	helm    Helm
	schemas Schemas
	opts    Options
	answers answers
}

// Options are what a runner may have besides. The zero value works.
type Options struct {
	Tracer   Tracer   // nil: problems have no places
	Clusters Clusters // nil: no cluster is asked for its API
}

// New returns a runner.
func New(helm Helm, schemas Schemas, opts Options) *Runner {
	return &Runner{helm: helm, schemas: schemas, opts: opts}
}

// Run implements stage.Runner. A chart with errors is a failed step: each of its problems is a line
// of the log, the reason has the first and their number.
func (r *Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	return r.run(ctx, env, step, true)
}

// Pack packages the chart of a step that is known to be right. What it renders is not looked at, and the
// result says nothing of it.
func (r *Runner) Pack(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	return r.run(ctx, env, step, false)
}

// APIs tells apart what the objects of each environment of a step are checked against now, by the name of the
// environment; "" where that cannot be told.
func (r *Runner) APIs(ctx context.Context, env stage.Env, step slipway.PlanStep) (map[string]string, error) {
	if step.Chart == nil {
		return nil, slipway.Errorf(slipway.Internal, "step %s has no chart", step.Key)
	}
	planned := plannedRenders(step.Chart)
	apis, err := r.apis(ctx, planned, clock(env)())
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(planned))
	for i, p := range planned {
		out[p.Environment] = apis[i].id
	}
	return out, nil
}

func clock(env stage.Env) func() time.Time {
	if env.Now != nil {
		return env.Now
	}
	return time.Now
}

func (r *Runner) run(ctx context.Context, env stage.Env, step slipway.PlanStep, check bool) (slipway.Result, error) {
	spec := step.Chart
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no chart", step.Key)
	}
	if v, err := slipway.ParseVersion(spec.Version); err != nil || v.SemVer() != spec.Version {
		return slipway.Result{}, slipway.Errorf(slipway.Invalid, "chart version %q of %s is not SemVer: expected MAJOR.MINOR.PATCH without a leading v", spec.Version, spec.Service)
	}
	out := newFindings(env.Log, displayDir(spec.Source.Dir))
	c, err := r.load(ctx, env, spec, out)
	if err != nil {
		return slipway.Result{}, err
	}
	if out.errors > 0 {
		return out.failed(), nil
	}
	now := clock(env)
	if check {
		if err := r.check(ctx, spec, c, now(), out); err != nil {
			return slipway.Result{}, fmt.Errorf("check chart of %s: %w", spec.Service, err)
		}
		if out.errors > 0 {
			return out.failed(), nil
		}
	}
	artifact, err := r.write(env, spec, c, now)
	if err != nil {
		return slipway.Result{}, fmt.Errorf("package chart of %s: %w", spec.Service, err)
	}
	artifact.Step, artifact.Project, artifact.RunID = step.Key, env.Run.Project, env.Run.ID
	env.Log.Printf("packaged %s, %d bytes, %s", filepath.Base(artifact.Path), artifact.Size, artifact.Digest)
	return slipway.Result{Outcome: slipway.Succeeded, Reason: out.summary(), Artifacts: []slipway.Artifact{artifact}, Manifests: out.reports}, nil
}

// load reads the chart, or takes the standard one, and gives it the version.
func (r *Runner) load(ctx context.Context, env stage.Env, spec *slipway.ChartSpec, out *findings) (Chart, error) {
	out.open("chart")
	defer out.close()
	c, problems, err := r.read(ctx, env, spec)
	if err != nil {
		return Chart{}, err
	}
	if out.add(problems...); out.errors > 0 {
		return Chart{}, nil
	}
	c, problems, err = r.helm.Stamp(c, spec.Version, spec.Labels)
	if err != nil {
		return Chart{}, fmt.Errorf("set version of the chart of %s: %w", spec.Service, err)
	}
	out.add(problems...)
	return c, nil
}

func (r *Runner) read(ctx context.Context, env stage.Env, spec *slipway.ChartSpec) (Chart, []Problem, error) {
	if spec.Source.Dir == "" {
		c, err := r.helm.Standard(spec.Service, spec.Port)
		return c, nil, err
	}
	dir := filepath.FromSlash(spec.Source.Dir)
	if !filepath.IsLocal(dir) {
		return Chart{}, nil, slipway.Errorf(slipway.Invalid, "chart folder %q of %s: must be inside the repository", spec.Source.Dir, spec.Service)
	}
	tree, err := env.Workspace.Tree(ctx, spec.Source.Codebase, spec.Source.Commit)
	if slipway.ErrorCode(err) == slipway.Invalid { // a link out of the tree, for example
		return Chart{}, []Problem{{Severity: Error, Message: err.Error()}}, nil
	}
	if err != nil {
		return Chart{}, nil, err
	}
	var keep []string
	for _, render := range spec.Renders {
		keep = append(keep, slipway.EnvironmentValues(render.Environment))
		keep = append(keep, render.Values...)
	}
	c, problems, err := r.helm.Load(ctx, filepath.Join(tree, dir), keep)
	if err != nil {
		return Chart{}, nil, fmt.Errorf("load chart of %s: %w", spec.Service, err)
	}
	return c, problems, nil
}

// write packages the chart into the step's folder, under its final name only when it is complete.
func (r *Runner) write(env stage.Env, spec *slipway.ChartSpec, c Chart, now func() time.Time) (slipway.Artifact, error) {
	data, err := r.helm.Package(c, spec.Created)
	if err != nil {
		return slipway.Artifact{}, err
	}
	dir, err := env.Workspace.Dir("chart-" + spec.Service)
	if err != nil {
		return slipway.Artifact{}, err
	}
	name := filepath.Join(dir, c.Name+"-"+spec.Version+".tgz")
	if err := replaceFile(name, data); err != nil {
		return slipway.Artifact{}, err
	}
	return slipway.Artifact{
		Service: spec.Service, Kind: slipway.ArtifactChart, Tag: spec.Version, Path: name,
		Digest: slipway.DigestOf(data), Size: int64(len(data)),
		Commit: spec.Source.Commit, CreatedAt: now(),
	}, nil
}

func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".chart-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone once it is renamed
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

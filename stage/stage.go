// Package stage is the contract between the engine and what a delivery consists of. Each stage is a
// package below this one with one entry point; stages do not know each other, the store or the
// engine: what one hands to the next is a slipway.Artifact or another noun of the root package.
package stage

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/slipway-cd/slipway"
)

// Order is the delivery: every kind of step, in the order in which they come. UI, docs and CLI derive
// their order from it.
func Order() []slipway.StepKind {
	return []slipway.StepKind{
		slipway.KindPlan,     // which services changed, and what follows for each
		slipway.KindBuild,    // Dockerfile + tree -> image digest
		slipway.KindTest,     // the service's own tests, in a container -> report
		slipway.KindScan,     // image -> SBOM, vulnerabilities, secrets
		slipway.KindChart,    // chart folder -> linted, rendered, validated package
		slipway.KindPublish,  // image tag and chart, by digest, to the candidates' namespace
		slipway.KindAttest,   // signature, provenance and what was found out, beside the image
		slipway.KindGate,     // all that is known, judged by what the environment demands
		slipway.KindApprove,  // people agree, with the evidence before them
		slipway.KindRetag,    // the same digests get their names in the production namespace
		slipway.KindDeploy,   // helm upgrade --install, by digest
		slipway.KindVerify,   // every resource ready, in-cluster tests passed
		slipway.KindRollback, // back to the last verified deployment
	}
}

// Runner does one step. Run is called at least once for a step, and again after a crash: it observes
// what is already there before it acts (D21). A Result says how it ended; an error means that Slipway
// or its surroundings failed, and the engine asks it whether trying again may help
// (slipway.Temporary). Run returns soon after ctx is cancelled, context.Cause tells why.
type Runner interface {
	Run(ctx context.Context, env Env, step slipway.PlanStep) (slipway.Result, error)
}

// Func is a Runner that is a function.
type Func func(ctx context.Context, env Env, step slipway.PlanStep) (slipway.Result, error)

// Run calls f.
func (f Func) Run(ctx context.Context, env Env, step slipway.PlanStep) (slipway.Result, error) {
	return f(ctx, env, step)
}

// Env is what a runner needs from around it, as a value.
type Env struct {
	Run       slipway.Run
	StepID    int64
	Attempt   int // 1 for the first
	Log       Log
	Journal   Journal
	Now       func() time.Time
	Workspace Workspace
	// Artifacts and Deployments are what earlier steps of this run made, oldest first; Approvals
	// what was decided in it.
	Artifacts   []slipway.Artifact
	Deployments []slipway.Deployment
	Approvals   []slipway.Approval
	// Steps are the run's steps as they were when this one started.
	Steps []slipway.Step
	// Secrets holds the values of the secrets that the step declared, by name.
	Secrets map[string]string
}

// Artifact returns the newest artifact of that kind and service.
func (e Env) Artifact(kind slipway.ArtifactKind, service string) (slipway.Artifact, bool) {
	for i := len(e.Artifacts) - 1; i >= 0; i-- {
		if a := e.Artifacts[i]; a.Kind == kind && a.Service == service {
			return a, true
		}
	}
	return slipway.Artifact{}, false
}

// Deployment returns the newest deployment of the run to that environment of the service.
func (e Env) Deployment(service, environment string) (slipway.Deployment, bool) {
	for i := len(e.Deployments) - 1; i >= 0; i-- {
		if d := e.Deployments[i]; d.Target.Service == service && d.Target.Environment == environment {
			return d, true
		}
	}
	return slipway.Deployment{}, false
}

// Log takes the lines of a step's log as they come. It is safe for concurrent use, masks the secrets
// of the step, and never blocks on readers.
type Log interface {
	Line(slipway.LogLine) // a zero Time means now
	Printf(format string, args ...any)
}

// Journal keeps what a step intends before it acts, so that the next attempt after a crash knows
// (D21). Put returns when the value is durable.
type Journal interface {
	Put(ctx context.Context, key string, value any) error
	// Get decodes the value into v and reports whether there was one.
	Get(ctx context.Context, key string, v any) (bool, error)
}

// Workspace gives folders that live as long as the run needs them.
type Workspace interface {
	// Tree returns a folder with the files of a commit of a codebase of the run's project, "" for the main
	// one. It is shared by the run's steps and must not be written to. Links out of the tree are refused
	// when it is made. Its errors say what was to be checked out.
	Tree(ctx context.Context, codebase, commit string) (string, error)
	// Dir returns a folder for the step's files; the same for each attempt, and readable by the
	// run's later steps under the same name.
	Dir(name string) (string, error)
}

// Contexts are the folders of named contexts, by name.
func Contexts(ctx context.Context, w Workspace, list []slipway.NamedContext) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	out := map[string]string{}
	for _, c := range list {
		tree, err := w.Tree(ctx, c.Source.Codebase, c.Source.Commit)
		if err != nil {
			return nil, fmt.Errorf("%s, which is copied from: %w", c.Name, err)
		}
		dir := filepath.FromSlash(c.Source.Dir)
		if !filepath.IsLocal(dir) {
			return nil, slipway.Errorf(slipway.Invalid, "folder %q of %s is outside of its codebase", c.Source.Dir, c.Name)
		}
		out[c.Name] = filepath.Join(tree, dir)
	}
	return out, nil
}

// Intent is a helper for runners: the journal's value under key, or the zero value.
func Intent[T any](ctx context.Context, j Journal, key string) (T, bool, error) {
	var v T
	ok, err := j.Get(ctx, key, &v)
	return v, ok, err
}

// Refused tells an error that whoever pushed has to mend (Invalid), which is a failed step, from trouble
// of the surroundings, which stays an error (D7).
func Refused(err error) (slipway.Result, error) {
	if slipway.ErrorCode(err) == slipway.Invalid {
		return slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}, nil
	}
	return slipway.Result{}, err
}

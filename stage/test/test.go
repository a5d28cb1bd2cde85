// Package test runs a service's own tests in a container: it has the test stage of the Dockerfile
// built, its entrypoint run with a folder for results, and reads the JUnit, TRX, `go test -json` and
// coverage files found there into a report (S58, S76 to S78, D22). A failed build, failed tests and an
// error of the surroundings are told apart by the phase they happen in, never by text (D7). It does not
// know BuildKit and does not judge the report beyond "a test failed".
package test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// ResultsEnv is the variable in which the container finds its results folder.
const ResultsEnv = "SLIPWAY_TEST_RESULTS"

// Container runs tests.
type Container interface {
	// RunTests builds the stage, starts the services, and runs the stage's entrypoint when all of them are
	// healthy. The result files are written below req.Output, as many as the limits allow. A build, a
	// service or tests that fail are a Result; an error means that the runner or its surroundings failed.
	// It returns soon after ctx is cancelled, and then nothing of the containers runs any more.
	RunTests(ctx context.Context, req Request, log stage.Log) (Result, error)
}

// Request is one run of tests.
type Request struct {
	Project    string // with Service: what caches belong to
	Service    string
	Dir        string // build context, an absolute folder; not written to
	Dockerfile string // relative to Dir
	Stage      string
	Args       map[string]string
	Epoch      int64 // SOURCE_DATE_EPOCH, Unix seconds
	Pins       map[string]string
	Trust      slipway.Trust
	Results    string // folder of results in the container, relative to its WORKDIR unless absolute
	Output     string // where the result files go: an empty, absolute folder
	Limits     Limits
	Secrets    map[string]string // for RUN --mount=type=secret,id=NAME, and variables of the test container
	// Services run beside the tests, which reach each by its name; nobody else does. They see no secrets.
	Services []slipway.TestService
	Contexts map[string]string // name -> absolute folder that COPY --from=name takes files from
}

// Limits bound what is read back from a container.
type Limits struct {
	Files int   // result files
	Bytes int64 // of all of them
}

// Result is how a run of tests ended.
type Result struct {
	BuildFailure *BuildFailure // set: the stage could not be built; the rest is empty
	ExitCode     int           // of the entrypoint
	Results      string        // absolute path of the results folder in the container
	Problems     []string      // files that were left out and may be results, and why
	Notes        []string      // other files that were left out, and why
	Duration     time.Duration
	// Service is set when a service could not be brought up, so that no test ran; the rest is empty.
	Service *ServiceFailure
	Stopped []ServiceFailure // services that ended by themselves while the tests ran
}

// ServiceFailure says what became of a service.
type ServiceFailure struct {
	Name    string
	Message string // goes on after the name, in one line: was not healthy after 1m: ...
}

// String is the failure with the name of its service.
func (f ServiceFailure) String() string { return "service " + f.Name + " " + f.Message }

// BuildFailure says why the stage could not be built.
type BuildFailure struct {
	File    string // relative to the build context; "" when unknown
	Line    int    // 1-based; 0 when unknown
	Message string // in one line: RUN go vet ./... exited with 1
}

func (f BuildFailure) place(dir string) string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return " at " + path.Join(dir, f.File)
	}
	return fmt.Sprintf(" at %s:%d", path.Join(dir, f.File), f.Line)
}

// Runner is the test step.
type Runner struct {
	Container Container
	Limits    Limits // zero: 10,000 files, 64 MiB
	// Attachments keeps the files that the tests leave; nil: they are not kept.
	Attachments Keeper
}

// Run runs the tests that the step describes.
func (r Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	spec := step.Test
	if spec == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has no tests", step.Key)
	}
	tree, err := env.Workspace.Tree(ctx, spec.Source.Codebase, spec.Source.Commit)
	if err != nil {
		return stage.Refused(err)
	}
	req, err := r.request(tree, env, step)
	if err != nil {
		return slipway.Result{}, err
	}
	if !filepath.IsLocal(filepath.FromSlash(spec.Dockerfile)) {
		return failed("Dockerfile %q is outside of the service's folder", spec.Dockerfile), nil
	}
	if err := CheckServices(spec.Services); err != nil {
		return failed("%s", err), nil
	}
	if req.Contexts, err = stage.Contexts(ctx, env.Workspace, spec.Contexts); err != nil {
		return stage.Refused(err)
	}
	res, err := r.Container.RunTests(ctx, req, env.Log)
	switch {
	case err != nil && context.Cause(ctx) == slipway.ErrTimeout:
		return failed("tests timed out%s", after(step.Timeout)), nil
	case err != nil:
		return slipway.Result{}, fmt.Errorf("test %s: %w", step.Service, err)
	case res.BuildFailure != nil:
		f := *res.BuildFailure
		return failed("build of stage %s failed%s: %s", spec.Stage, f.place(spec.Source.Dir), f.Message), nil
	case res.Service != nil:
		return failed("no test ran: %s", res.Service), nil
	}
	report := Read(req.Output)
	report.Problems, report.Notes = append(res.Problems, report.Problems...), append(res.Notes, report.Notes...)
	if err := keep(ctx, r.Attachments, env.Run.ID, req.Output, &report); err != nil {
		return slipway.Result{}, err
	}
	if res.Duration > 0 { // tests that ran side by side took less than their sum
		report.Duration = res.Duration
	}
	report.ExitCode = res.ExitCode
	return judge(env, step, req.Output, res, report), nil
}

func (r Runner) request(tree string, env stage.Env, step slipway.PlanStep) (Request, error) {
	spec := step.Test
	sub := filepath.FromSlash(spec.Source.Dir)
	if spec.Source.Dir != "" && !filepath.IsLocal(sub) {
		return Request{}, slipway.Errorf(slipway.Invalid, "service folder %q is outside of the repository", spec.Source.Dir)
	}
	output, err := outputDir(env.Workspace, step.Service)
	if err != nil {
		return Request{}, err
	}
	limits := r.Limits
	if limits == (Limits{}) {
		limits = Limits{Files: 10_000, Bytes: 64 << 20}
	}
	return Request{
		Project: env.Run.Project, Service: step.Service,
		Dir: filepath.Join(tree, sub), Dockerfile: spec.Dockerfile, Stage: spec.Stage,
		Args: spec.Args, Epoch: spec.Epoch, Pins: spec.Pins, Trust: spec.Trust,
		Results: spec.Results, Output: output, Limits: limits, Secrets: env.Secrets,
		Services: spec.Services,
	}, nil
}

// outputDir is the folder of the result files, emptied of what an interrupted attempt left.
func outputDir(ws stage.Workspace, service string) (string, error) {
	dir, err := ws.Dir(folderName(service))
	if err != nil {
		return "", fmt.Errorf("folder for test results: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("folder for test results: %w", err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return "", fmt.Errorf("remove results of an earlier attempt: %w", err)
		}
	}
	return dir, nil
}

func judge(env stage.Env, step slipway.PlanStep, dir string, res Result, report slipway.TestReport) slipway.Result {
	out := slipway.Result{Outcome: slipway.Succeeded, Report: &report, Artifacts: artifacts(env, step, dir, report)}
	total := report.Passed + report.Failed + report.Skipped
	switch {
	case report.Failed > 0:
		out.Outcome = slipway.Failed
		out.Reason = fmt.Sprintf("tests failed: %d of %d: %s", report.Failed, total, failures(report))
		if report.Crashed() {
			out.Reason += fmt.Sprintf("; exit code %d is that of a crash", res.ExitCode)
		}
	case res.ExitCode != 0 && len(report.Files) == 0:
		out.Outcome = slipway.Failed
		out.Reason = fmt.Sprintf("tests failed: exit code %d, no report found in %s", res.ExitCode, res.Results)
	case res.ExitCode != 0:
		out.Outcome = slipway.Failed
		out.Reason = fmt.Sprintf("tests failed: exit code %d, although none of %d tests is reported as failed", res.ExitCode, total)
	case len(report.Files) == 0:
		out.Reason = fmt.Sprintf("exit code 0; no result files found in %s", res.Results)
	default:
		out.Reason = fmt.Sprintf("%d passed", report.Passed)
		if report.Skipped > 0 {
			out.Reason += fmt.Sprintf(", %d skipped", report.Skipped)
		}
	}
	if out.Outcome == slipway.Failed {
		for _, s := range res.Stopped {
			out.Reason += fmt.Sprintf("; %s", s)
		}
	}
	for _, p := range report.Problems {
		env.Log.Printf("test results: %s", p)
	}
	for _, n := range report.Notes {
		env.Log.Printf("test results: %s", n)
	}
	env.Log.Printf("%s", out.Reason)
	return out
}

// maxArtifacts bounds how many result files are recorded one by one; all of them are kept.
const maxArtifacts = 100

// artifacts records the result files that were read.
func artifacts(env stage.Env, step slipway.PlanStep, dir string, report slipway.TestReport) []slipway.Artifact {
	var all []slipway.Artifact
	for _, f := range report.Files[:min(len(report.Files), maxArtifacts)] {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f)))
		if err != nil {
			continue // the report has been read from it: it lacks nothing but this record
		}
		a := slipway.Artifact{
			Project: env.Run.Project, RunID: env.Run.ID, Step: step.Key, Service: step.Service,
			Kind: slipway.ArtifactReport, Path: path.Join(folderName(step.Service), f),
			Digest: slipway.DigestOf(data), Size: int64(len(data)), Commit: step.Test.Source.Commit,
		}
		if env.Now != nil {
			a.CreatedAt = env.Now()
		}
		all = append(all, a)
	}
	return all
}

// folderName is the workspace folder of a service's result files.
func folderName(service string) string { return "test-results-" + service }

const namedFailures = 5

// failures names the first failed tests.
func failures(report slipway.TestReport) string {
	var names []string
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			if c.State != slipway.TestFailed {
				continue
			}
			if len(names) == namedFailures {
				return strings.Join(names, ", ") + ", ..."
			}
			names = append(names, c.Name)
		}
	}
	return strings.Join(names, ", ")
}

func after(d slipway.Duration) string {
	if d == 0 {
		return ""
	}
	return " after " + time.Duration(d).String()
}

func failed(format string, args ...any) slipway.Result {
	return slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf(format, args...)}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/laptop"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/build"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/judge"
	"github.com/slipway-cd/slipway/stage/source"
	"github.com/slipway-cd/slipway/stage/test"
	"github.com/slipway-cd/slipway/worktree"
)

// runOptions are the flags of run.
type runOptions struct {
	since        string
	event        string
	services     []string
	parallel     int
	quiet        bool
	buildkit     string
	tools        string
	mirrors      []string
	keepBuildkit bool
	noReuse      bool
	codebases    laptop.Named
	deploy       deployOptions
	in           io.Reader // who is asked
}

func (c *cli) run() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use: "run [SERVICE...]", Short: "Build, test and check charts here, as the server would after a push; deploy when asked",
		Long: "Makes the plan that the server would make for the working tree, with what is not committed, and runs\n" +
			"its builds, tests and chart checks with a local BuildKit. It needs no server. Named services run whatever\n" +
			"changed. Nothing is pushed and nothing deployed, unless --deploy names an environment: then the images go to\n" +
			"a registry, and when everything has succeeded Helm deploys them to the cluster that is named, verifies\n" +
			"them, and goes back to what ran before if that fails. Environments of production, with approvals, or\n" +
			"that demand signatures are deployed to by a server only.\n\n" +
			"Exit status: 0 all succeeded, 1 something failed, 2 something around it did not work.",
		Example: "  slipway run\n  slipway run delivery\n  slipway run --since HEAD --quiet\n" +
			"  slipway run --deploy development --kubeconfig ~/.kube/config --context kind-dev --registry registry.example.com/team",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.services, o.in = args, cmd.InOrStdin()
			return c.runLocally(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	codebaseFlags(cmd, &o.codebases)
	f.StringVar(&o.since, "since", "", "compare with where this branch left that branch, tag or commit (default: the default branch)")
	f.StringVar(&o.event, "event", string(slipway.PullUpdate), "what to plan for: push, pull-request, merge or release")
	f.IntVar(&o.parallel, "parallel", 2, "how many steps run at once")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "no logs but the end of those of steps that failed")
	f.StringVar(&o.buildkit, "buildkit", "", "address of a BuildKit (default: $BUILDKIT_HOST, else Docker's, else one of Slipway's own)")
	f.StringVar(&o.tools, "tools", "", "folder for installed tools, by version (default: the user's cache folder)")
	f.StringArrayVar(&o.mirrors, "registry-mirror", nil, "take base images of a registry from elsewhere: docker.io=https://mirror.example/path")
	f.BoolVar(&o.noReuse, "no-reuse", false, "build and test again what was done here before on the same inputs")
	o.deploy.flags(f)
	f.BoolVar(&o.keepBuildkit, "keep-buildkit", false, "leave Slipway's own BuildKit running at the end, for a quicker next start")
	return cmd
}

func (o runOptions) check() error {
	events := []slipway.EventKind{slipway.BranchPush, slipway.PullUpdate, slipway.DefaultPush, slipway.ReleasePush}
	if !slices.Contains(events, slipway.EventKind(o.event)) {
		return slipway.Errorf(slipway.Invalid, "--event %q: expected push, pull-request, merge or release", o.event)
	}
	if o.parallel < 1 || o.parallel > 64 {
		return slipway.Errorf(slipway.Invalid, "--parallel %d: expected 1 to 64", o.parallel)
	}
	for _, m := range o.mirrors {
		if _, where, _ := strings.Cut(m, "="); !strings.Contains(where, "://") {
			return slipway.Errorf(slipway.Invalid, "--registry-mirror %q: expected REGISTRY=URL, such as docker.io=https://mirror.example/path", m)
		}
	}
	return o.deploy.check(slipway.EventKind(o.event), isTerminal(o.in))
}

// runLocally plans and runs. What is going on is written to out, or to progress when the result is
// asked for as JSON.
func (c *cli) runLocally(ctx context.Context, o runOptions, progress io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	// A terminal that is closed and a reader that has gone cancel the run, too.
	outer := ctx
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	scratch, remove, err := worktree.Scratch("run")
	if err != nil {
		return laptop.Surroundings(err)
	}
	defer func() { err = errors.Join(err, remove()) }()
	x, p, err := c.prepareRun(ctx, o, scratch, progress)
	if err != nil {
		return err
	}
	temp, err := emptied(filepath.Join(scratch, "charts"))
	if err != nil {
		return laptop.Surroundings(err)
	}
	charts := helmchart.New(helmchart.Options{Process: renderProcess(), Temp: temp})
	var d *laptop.Deployer
	if p.To != nil && len(p.Steps) > 0 {
		d = laptop.NewDeployer(p.To, charts.Rehearse)
		if err := c.mayDeploy(ctx, o, d, p, progress); err != nil {
			return err
		}
	}
	begin := time.Now()
	steps, err := c.runSteps(ctx, o, p, runParts{x, charts, d}, scratch, progress)
	if err == nil {
		err = c.reportRun(ctx, x, p, steps, time.Since(begin))
	}
	if err != nil && ctx.Err() != nil && outer.Err() == nil {
		return errQuiet // nobody is there to be told
	}
	return err
}

// said is where a run tells what it does: standard output, or standard error beside a result as JSON.
func (c *cli) said(progress io.Writer) *cli {
	if c.out.json {
		return &cli{flags: c.flags, out: newPrinter(progress, false)}
	}
	return c
}

// prepareRun makes the plan and says what it is.
func (c *cli) prepareRun(ctx context.Context, o runOptions, scratch string, progress io.Writer) (laptop.Checkouts, laptop.Plan, error) {
	w, err := worktree.Open(ctx, ".", scratch)
	if err != nil {
		return laptop.Checkouts{}, laptop.Plan{}, laptop.Surroundings(err)
	}
	project, err := c.localProjectName(ctx, first(o.codebases.Main(), w.Root))
	if err != nil {
		return laptop.Checkouts{}, laptop.Plan{}, err
	}
	x, err := laptop.Open(ctx, project, w, o.codebases, scratch)
	if err != nil {
		return x, laptop.Plan{}, laptop.Surroundings(err)
	}
	here := x.Here()
	say := c.said(progress)
	say.out.line("%s: %s", say.out.bold(project), slipway.Printable(here.Describe()))
	say.told(x)
	found, err := say.checkConfiguration(ctx, x)
	if err != nil {
		return x, laptop.Plan{}, err
	}
	req := laptop.Request{Event: slipway.EventKind(o.event), Services: o.services}
	if req.Base, req.BaseName, err = x.Base(ctx, o.since); err != nil {
		return x, laptop.Plan{}, laptop.Surroundings(err)
	}
	if o.deploy.environment != "" {
		if req.To, err = x.Destination(ctx, found, o.deploy.goal(), time.Now()); err != nil {
			return x, laptop.Plan{}, err
		}
	}
	p, err := x.Plan(ctx, req, found)
	if err != nil {
		return x, laptop.Plan{}, laptop.Surroundings(err)
	}
	switch {
	case len(o.services) > 0 || req.Event == slipway.ReleasePush:
	case req.Base == "" && x.Here().Shallow:
		say.out.line("compared with nothing, so that every file counts as new, as %s", worktree.Unshallow)
	case req.Base == "":
		say.out.line("compared with nothing, as there is no other branch: every file counts as new")
	default:
		say.out.line("compared with %s (%s)", slipway.Printable(req.BaseName), slipway.ShortHash(req.Base))
	}
	say.decisions(p)
	if len(p.Steps) > 0 {
		err = x.Bring(ctx)
	}
	return x, p, laptop.Surroundings(err)
}

// checkConfiguration prints what is wrong with it, as validate does.
func (c *cli) checkConfiguration(ctx context.Context, x laptop.Checkouts) (slipway.Config, error) {
	found, problems, err := x.Configuration(ctx)
	if err != nil {
		return found, laptop.Surroundings(err)
	}
	for _, p := range problems {
		c.out.line("%s", slipway.Printable(p.String()))
	}
	if len(problems) > 0 {
		c.out.line("%s", slipway.Counted(len(problems), "problem"))
		for _, m := range x.Missing(ctx) {
			c.out.line("%s", slipway.Printable(m))
		}
		return found, errQuiet
	}
	return found, nil
}

// mayDeploy says what will be deployed where, and asks unless it was told not to.
func (c *cli) mayDeploy(ctx context.Context, o runOptions, d *laptop.Deployer, p laptop.Plan, progress io.Writer) error {
	if err := c.said(progress).announce(ctx, d, p); err != nil || o.deploy.yes {
		return err
	}
	yes, err := confirm(ctx, o.in, progress, fmt.Sprintf("\nDeploy to %s on %s?", p.To.Environment, slipway.Printable(p.To.Context)))
	if err == nil && !yes {
		err = slipway.Errorf(slipway.Invalid, "nothing was done: the answer was not yes")
	}
	return err
}

// runParts are what the steps of a run need.
type runParts struct {
	with   laptop.Checkouts
	charts *helmchart.Helm
	deploy *laptop.Deployer // nil: nothing is deployed
}

// runSteps runs the steps of the plan.
func (c *cli) runSteps(ctx context.Context, o runOptions, p laptop.Plan, parts runParts, scratch string, progress io.Writer) (steps []laptop.Step, err error) {
	if len(p.Steps) == 0 {
		return nil, nil
	}
	say := c.said(progress)
	engine, err := openLocalBuildkit(ctx, o, p, func(line string) { fmt.Fprintln(progress, slipway.Printable(line)) })
	if err != nil {
		return nil, laptop.Surroundings(err)
	}
	if engine != nil {
		defer func() { err = errors.Join(err, closeLocalBuildkit(engine, o.keepBuildkit)) }()
	}
	again := context.AfterFunc(ctx, func() {
		signal.Reset(os.Interrupt, syscall.SIGTERM) // who asks twice is not kept waiting
		fmt.Fprintln(progress, "cancelling; once more ends it at once")
	})
	defer again()
	results, err := laptop.OpenResults(p.Run.Project, o.noReuse)
	if err != nil {
		return nil, laptop.Surroundings(err)
	}
	say.out.line("")
	printed := newLive(say.out, o.quiet, p.Steps)
	l := &laptop.Run{
		Run: p.Run, Parallel: o.parallel, Now: time.Now,
		Workspace: source.NewWorkspaces(filepath.Join(scratch, "work"), func(key string) (source.Exporter, error) { return parts.with.Repo(key), nil }).For(p.Run.Project, p.Run.ID),
		Runners: map[slipway.StepKind]stage.Runner{
			slipway.KindBuild: results.Reusing(build.Runner{Builder: engine}, parts.with, parts.deploy, engine),
			slipway.KindTest:  judge.Here(p.Gates, results.Reusing(test.Runner{Container: engine}, parts.with, parts.deploy, engine)),
			slipway.KindChart: judge.Here(p.Gates, chart.New(parts.charts, &kubeschema.Library{}, chart.Options{Tracer: parts.charts})),
		},
		LogOf: func(s slipway.PlanStep) stage.Log { return printed.of(s.Key) },
		Moved: func(s laptop.Step) {
			if s.State == slipway.StepFailed || s.State == slipway.StepErrored {
				printed.of(s.Key).showTail()
			}
			printed.moved(s)
		},
	}
	if parts.deploy != nil {
		l.Run.ID = 0 // no server has a run of that number
		maps.Copy(l.Runners, parts.deploy.Runners())
	}
	return l.Execute(ctx, p.Steps), nil
}

// openLocalBuildkit begins to connect to BuildKit, if there is something for it to do. The builds are
// this person's own and may reach what the person reaches.
func openLocalBuildkit(ctx context.Context, o runOptions, p laptop.Plan, progress func(string)) (*buildkit.Engine, error) {
	if !slices.ContainsFunc(p.Steps, func(s slipway.PlanStep) bool { return s.Kind != slipway.KindChart }) {
		return nil, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the folder for BuildKit: %w", err)
	}
	opts := buildkit.Options{
		Dir: filepath.Join(cache, "slipway", "run", "buildkit"), Address: o.buildkit, Tools: o.tools, AllowShared: true, Progress: progress,
		Own: ownForServices(p.Plan),
	}
	if p.To != nil {
		opts.Credentials = p.To.Credentials
		if r := p.To.PushesTo(); r.Address != "" { // Slipway's own may reach this machine only where it is told to
			opts.Mirrors = append(opts.Mirrors, buildkit.Mirror{Registry: r.Host, Address: r.Address})
		}
	}
	for _, m := range o.mirrors {
		mirror, err := parseMirror(m, "")
		if err != nil {
			return nil, err
		}
		opts.Mirrors = append(opts.Mirrors, mirror)
	}
	return buildkit.Open(ctx, opts)
}

// ownForServices reports whether Slipway's own BuildKit is to be used although there may be another: tests have services,
// which no other runs, and this person can start it.
func ownForServices(p slipway.Plan) bool {
	return runtime.GOOS == "linux" && os.Geteuid() == 0 && slices.ContainsFunc(p.Steps, func(s slipway.PlanStep) bool {
		return s.Test != nil && len(s.Test.Services) > 0
	})
}

func closeLocalBuildkit(engine *buildkit.Engine, keep bool) error {
	if keep {
		engine.Detach()
		return nil
	}
	return closing(engine.Close)
}

// runResult is a run on the laptop as JSON.
type runResult struct {
	Project     string              `json:"project"`
	Event       slipway.EventKind   `json:"event"`
	Head        string              `json:"head,omitempty"`
	Branch      string              `json:"branch,omitempty"`
	Uncommitted int                 `json:"uncommitted"` // files
	State       slipway.RunState    `json:"state"`
	Seconds     float64             `json:"seconds"`
	Deploy      *laptop.Destination `json:"deploy,omitempty"`
	Decisions   []slipway.Decision  `json:"decisions"`
	Steps       []laptop.Step       `json:"steps"`
}

// reportRun says how the run ended.
func (c *cli) reportRun(ctx context.Context, x laptop.Checkouts, p laptop.Plan, steps []laptop.Step, took time.Duration) error {
	w, state := x.Here(), laptop.State(steps)
	for _, s := range steps {
		for i := range s.Artifacts {
			s.Artifacts[i].Path = "" // is gone at the end
		}
	}
	done, err := c.out.value(runResult{
		Project: p.Run.Project, Event: p.Run.Event, Head: w.Head, Branch: w.Branch, Uncommitted: w.Changed, State: state, Deploy: p.To,
		Seconds: took.Round(time.Millisecond).Seconds(), Decisions: append([]slipway.Decision{}, p.Decisions...), Steps: append([]laptop.Step{}, steps...),
	})
	switch {
	case err != nil:
		return err
	case done:
	case len(steps) == 0:
		c.out.line("\nnothing to run")
	default:
		c.summary(steps, took)
	}
	switch state {
	case slipway.RunCancelled:
		return context.Cause(ctx)
	case slipway.RunErrored:
		return laptop.Surroundings(errors.New("a step did not end for reasons around it, which are above; mend that, and run again"))
	case slipway.RunFailed:
		return errQuiet
	}
	return nil
}

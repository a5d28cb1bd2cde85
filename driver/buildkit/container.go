package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc/codes"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/test"
)

// RunTests is test.Container: the stage is solved, then its entrypoint runs in a container on the
// result, whose results folder is read before the container is released. Whether the stage did not
// build or the tests did not pass is told by which of the two was running.
func (e *Engine) RunTests(ctx context.Context, req test.Request, log stage.Log) (test.Result, error) {
	ln, err := e.connection(ctx)
	if err != nil {
		return test.Result{}, err
	}
	if len(req.Services) > 0 && ln.daemon == nil {
		return test.Result{}, slipway.Errorf(slipway.Invalid, "the tests have services, which %s cannot keep apart from those of other runs: let Slipway use its own BuildKit", ln.describe())
	}
	if ln.daemon != nil {
		var cancel context.CancelFunc
		ctx, cancel = ln.daemon.during(ctx)
		defer cancel()
	}
	j := job{
		project: req.Project, service: req.Service, dir: req.Dir, dockerfile: req.Dockerfile, target: req.Stage,
		args: req.Args, epoch: req.Epoch, pins: req.Pins, trust: req.Trust, secrets: req.Secrets, contexts: req.Contexts,
	}
	opt, pol, err := e.solveOpt(ln, j, log)
	if err != nil {
		return test.Result{}, err
	}
	run := &testRun{req: req, log: log, frontend: opt.FrontendAttrs, now: e.opts.Now, daemon: ln.daemon}
	opt.FrontendAttrs, opt.Internal = nil, true // nobody asks for a record
	prog, err := e.watch(log, func(ch chan *client.SolveStatus) error {
		_, err := ln.client.Build(ctx, opt, "slipway", run.build, ch)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return test.Result{}, context.Cause(ctx)
	case run.buildErr != nil:
		failure, err := e.verdict(ctx, ln, run.buildErr, j, prog, pol)
		if failure == nil {
			return test.Result{}, err
		}
		return test.Result{BuildFailure: &test.BuildFailure{File: failure.File, Line: failure.Line, Message: failure.What()}}, nil
	case run.serviceErr != nil:
		failure, err := e.serviceVerdict(ctx, run.serviceErr, pol)
		return test.Result{Service: failure}, err
	case run.finished:
		return run.result, nil
	case err == nil:
		err = errors.New("the container did not run")
	}
	return test.Result{}, surroundings(fmt.Errorf("run tests: %w", err))
}

// testRun is one run of a test container, in the terms of BuildKit's gateway.
type testRun struct {
	req      test.Request
	log      stage.Log
	frontend map[string]string
	now      func() time.Time
	daemon   *daemon // the own one; nil for a foreign BuildKit

	buildErr   error // phase one: the stage did not build
	serviceErr error // phase two: a service is not there
	finished   bool  // phase three ended with an exit code
	result     test.Result
}

// build is gateway.BuildFunc. It hides the verdict from BuildKit, for which a failed test would be a
// failed build.
func (r *testRun) build(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
	res, err := g.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: r.frontend, Evaluate: true})
	if err != nil {
		r.buildErr = err
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	if ref == nil {
		r.buildErr = fmt.Errorf("stage %s is empty: it has no entrypoint to run", r.req.Stage)
		return nil, r.buildErr
	}
	var img ocispecs.Image
	if err := json.Unmarshal(res.Metadata[exptypes.ExporterImageConfigKey], &img); err != nil {
		return nil, fmt.Errorf("configuration of stage %s: %w", r.req.Stage, err)
	}
	if len(r.req.Services) == 0 {
		return gateway.NewResult(), r.run(ctx, g, ref, img.Config, nil)
	}
	return gateway.NewResult(), r.runBeside(ctx, g, ref, img.Config)
}

// runBeside runs the tests with their services beside them.
func (r *testRun) runBeside(ctx context.Context, g gateway.Client, ref gateway.Reference, cfg ocispecs.ImageConfig) error {
	b, err := newBeside(r.daemon, g, r.req.Services, r.log, r.now)
	if err != nil {
		r.serviceErr = err
		return nil
	}
	if r.serviceErr = b.start(ctx); r.serviceErr == nil {
		err = r.run(ctx, g, ref, cfg, b)
		r.result.Stopped = b.stopped()
	}
	return errors.Join(err, b.stop(ctx))
}

// maxOutput is how many bytes of log the output of tests may take.
const maxOutput = 48_000_000

// resultsMount is the index of the results folder among the container's mounts.
const resultsMount = 1

// run runs the tests, with services beside them unless b is nil.
func (r *testRun) run(ctx context.Context, g gateway.Client, ref gateway.Reference, cfg ocispecs.ImageConfig, b *beside) error {
	args := append(append([]string{}, cfg.Entrypoint...), cfg.Cmd...)
	if len(args) == 0 {
		r.finished, r.result = true, test.Result{BuildFailure: &test.BuildFailure{
			File: r.req.Dockerfile, Message: "it has neither ENTRYPOINT nor CMD to run",
		}}
		return nil
	}
	workdir := path.Join("/", cfg.WorkingDir)
	dir := r.req.Results
	if !path.IsAbs(dir) {
		dir = path.Join(workdir, dir)
	}
	scratch, err := resultsFolder(ctx, g)
	if err != nil {
		return err
	}
	container := gateway.NewContainerRequest{Mounts: []gateway.Mount{
		{Dest: "/", Ref: ref, MountType: pb.MountType_BIND},
		{Dest: path.Clean(dir), Ref: scratch, MountType: pb.MountType_BIND, Selector: folder},
	}}
	if b != nil {
		container.Hostname, container.ExtraHosts = b.testHost(), b.hosts
	}
	ctr, err := g.NewContainer(ctx, container)
	if err != nil {
		return fmt.Errorf("make container: %w", err)
	}
	defer func() {
		if b != nil && ctx.Err() != nil {
			return // as of the services, BuildKit releases it
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = ctr.Release(ctx) // an error tells of the process, which has been told
	}()
	group, output := "["+r.req.Stage+"] tests", &room{limit: maxOutput}
	start := r.now()
	code, err := r.start(ctx, ctr, gateway.StartRequest{
		Args: args, Cwd: workdir, User: cfg.User,
		Env:       append(append([]string{}, cfg.Env...), test.ResultsEnv+"="+path.Clean(dir)),
		SecretEnv: secretEnv(r.req.Secrets),
		Stdout:    &lineWriter{log: r.log, group: group, stream: "stdout", room: output},
		Stderr:    &lineWriter{log: r.log, group: group, stream: "stderr", room: output},
	}, group)
	if err != nil {
		return err
	}
	r.result = test.Result{ExitCode: code, Results: path.Clean(dir), Duration: r.now().Sub(start)}
	if err := r.collect(ctx, ctr); err != nil {
		return fmt.Errorf("read test results: %w", err)
	}
	r.finished = true
	return nil
}

// start runs the process to its end and returns its exit code.
func (r *testRun) start(ctx context.Context, ctr gateway.Container, req gateway.StartRequest, group string) (int, error) {
	begin := r.now()
	r.log.Line(lineOf(begin, group, "started", group))
	proc, err := ctr.Start(ctx, req)
	if err == nil {
		err = proc.Wait()
	}
	req.Stdout.Close()
	req.Stderr.Close()
	end := r.now()
	took := elapsed(&begin, &end)
	var exit *gwpb.ExitError
	switch {
	case err == nil:
		r.log.Line(lineOf(end, group, "done", took))
		return 0, nil
	case ctx.Err() != nil:
		return 0, err
	case errors.As(err, &exit) && exit.ExitCode != gwpb.UnknownExitStatus:
		r.log.Line(lineOf(end, group, "failed", fmt.Sprintf("exit code %d after %s", exit.ExitCode, took)))
		return int(exit.ExitCode), nil
	}
	r.log.Line(lineOf(end, group, "failed", slipway.FirstLine(err.Error())))
	return 0, fmt.Errorf("run tests: %w", err)
}

// secretEnv gives each secret to the tests as the variable of its name.
func secretEnv(secrets map[string]string) []*pb.SecretEnv {
	var env []*pb.SecretEnv
	for name := range secrets {
		env = append(env, &pb.SecretEnv{ID: name, Name: name})
	}
	return env
}

// folder is the results folder inside its own file system.
const folder = "/results"

// resultsFolder is an empty folder that every user may write to.
func resultsFolder(ctx context.Context, g gateway.Client) (gateway.Reference, error) {
	state := llb.Scratch().File(llb.Mkdir(folder, 0o777|os.ModeSticky), llb.WithCustomName("[internal] folder for test results"))
	def, err := state.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, fmt.Errorf("make the folder for test results: %w", err)
	}
	return res.SingleRef()
}

// collect copies the result files out of the container, within the limits; links and special files
// are left out, so that nothing outside of the folder is read.
func (r *testRun) collect(ctx context.Context, ctr gateway.Container) error {
	root, err := os.OpenRoot(r.req.Output)
	if err != nil {
		return err
	}
	defer root.Close()
	c := &collector{ctr: ctr, root: root, limits: r.req.Limits}
	err = c.dir(ctx, ".")
	r.result.Problems, r.result.Notes = c.problems, c.notes
	return err
}

type collector struct {
	ctr      gateway.Container
	root     *os.Root
	limits   test.Limits
	files    int
	folders  int
	bytes    int64
	full     bool
	problems []string
	notes    []string // of what can be no results
}

const (
	maxDepth    = 32
	maxProblems = 20
	readChunk   = 4 << 20
)

func (c *collector) dir(ctx context.Context, dir string) error {
	entries, err := c.ctr.ReadDir(ctx, gateway.ReadDirContainerRequest{
		MountIndex: resultsMount, ReadDirRequest: gateway.ReadDirRequest{Path: path.Join(folder, dir)},
	})
	if grpcerrors.Code(err) == codes.ResourceExhausted { // the list is larger than a message may be
		c.problem("%s: holds more files than can be listed, left out", path.Base(path.Join(folder, dir)))
		return nil
	}
	if err != nil {
		return err
	}
	for _, st := range entries {
		if c.full {
			return nil
		}
		if !filepath.IsLocal(st.Path) || path.Base(st.Path) != st.Path {
			c.problem("%q: not a file name", st.Path)
			continue
		}
		name := path.Join(dir, st.Path)
		if err := c.entry(ctx, name, st); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (c *collector) entry(ctx context.Context, name string, st *fstypes.Stat) error {
	mode := os.FileMode(st.Mode)
	switch {
	case mode.IsDir():
		if depth(name) > maxDepth {
			c.problem("%s: folders are nested deeper than %d", name, maxDepth)
			return nil
		}
		if c.folders++; c.folders > c.limits.Files {
			c.full = true
			c.problem("more than %d folders: the rest is left out", c.limits.Files)
			return nil
		}
		if err := c.root.MkdirAll(filepath.FromSlash(name), 0o755); err != nil {
			return err
		}
		return c.dir(ctx, name)
	case !mode.IsRegular():
		c.leftOut(test.MayHold(name, false), "%s: is a link or a special file, left out", name)
		return nil
	case c.files >= c.limits.Files:
		c.full = true
		c.problem("more than %d files: the rest is left out", c.limits.Files)
		return nil
	case c.bytes+st.Size > c.limits.Bytes:
		c.leftOut(test.MayHold(name, true), "%s: %s would exceed the %s that results may have, left out", name, size(st.Size), size(c.limits.Bytes))
		return nil
	}
	c.files++
	c.bytes += st.Size
	return c.file(ctx, name, st.Size)
}

func (c *collector) file(ctx context.Context, name string, size int64) error {
	out, err := c.root.OpenFile(filepath.FromSlash(name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	for offset := int64(0); offset < size; {
		data, err := c.ctr.ReadFile(ctx, gateway.ReadContainerRequest{
			MountIndex: resultsMount,
			ReadRequest: gateway.ReadRequest{Filename: path.Join(folder, name), Range: &gateway.FileRange{
				Offset: int(offset), Length: int(min(readChunk, size-offset)),
			}},
		})
		if err != nil {
			return err
		}
		if len(data) == 0 {
			return io.ErrUnexpectedEOF
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
		offset += int64(len(data))
	}
	return out.Close()
}

func (c *collector) problem(format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// leftOut says what was left out: a problem when it may hold results, else a note.
func (c *collector) leftOut(results bool, format string, args ...any) {
	switch {
	case results:
		c.problem(format, args...)
	case len(c.notes) < maxProblems:
		c.notes = append(c.notes, fmt.Sprintf(format, args...))
	}
}

func depth(name string) int {
	n := 1
	for _, r := range name {
		if r == '/' {
			n++
		}
	}
	return n
}

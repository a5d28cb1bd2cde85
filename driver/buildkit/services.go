package buildkit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/moby/buildkit/util/grpcerrors"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/test"
)

const (
	healthyWithin    = time.Minute // unless the service says otherwise
	checkLimit       = 10 * time.Second
	hangs            = time.Second // a check that was cut off after so long would have taken longer
	firstPause       = 20 * time.Millisecond
	maxPause         = 300 * time.Millisecond
	maxServiceOutput = 8_000_000 // bytes of log
	releaseLimit     = 10 * time.Second
)

// beside is what runs beside the tests of one run, in a network of their own.
type beside struct {
	g     gateway.Client
	net   *runNet
	log   stage.Log
	now   func() time.Time
	id    string // tells its host names from those of every other run
	all   []*service
	hosts []*pb.HostIP // what every container of the run knows by name
}

// service is one of them.
type service struct {
	spec  slipway.TestService
	host  string // of its container
	addr  netip.Addr
	group string
	out   *lastLines

	ctr    gateway.Container
	ended  chan struct{} // closed when its process has; nil before it began
	err    error         // how, from then on
	begin  time.Time
	steady bool // was healthy once
}

// downError is a service that could not be brought up, by its own fault.
type downError struct{ test.ServiceFailure }

// Error says which and why.
func (e *downError) Error() string { return e.String() }

// imageError is an image of a service that could not be had, by whatever fault.
type imageError struct {
	name, image string
	err         error
}

// Error says which and why.
func (e *imageError) Error() string {
	return fmt.Sprintf("image %s of service %s: %v", e.image, e.name, e.err)
}

// Unwrap is the reason.
func (e *imageError) Unwrap() error { return e.err }

// newBeside makes the network, in which each container has its address and knows those of the others before it starts.
func newBeside(d *daemon, g gateway.Client, specs []slipway.TestService, log stage.Log, now func() time.Time) (*beside, error) {
	network, err := d.newRunNet()
	if err != nil {
		return nil, err
	}
	b := &beside{g: g, net: network, log: log, now: now, id: identity.NewID()[:10]}
	for i, spec := range specs {
		s := &service{
			spec: spec, host: spec.Name + "." + b.id, addr: runAddress(2 + i), group: "[service] " + spec.Name,
			out: &lastLines{log: log},
		}
		b.all = append(b.all, s)
		for _, name := range []string{spec.Name, s.host} {
			b.hosts = append(b.hosts, &pb.HostIP{Host: name, IP: s.addr.String()})
		}
		if err := network.add(s.host, s.addr); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	if err := network.add(b.testHost(), runAddress(1)); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// testHost is the host name of the test container: one that no service has.
func (b *beside) testHost() string { return "tests-" + b.id }

// start brings all services up at once and returns when each is healthy, or with the first reason why one will not be.
func (b *beside) start(ctx context.Context) error {
	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, s := range b.all {
		wg.Go(func() {
			err := b.bring(starting, ctx, s)
			if err != nil {
				cancel(err) // the first counts
			}
		})
	}
	wg.Wait()
	return context.Cause(starting)
}

// bring runs one service until it is healthy. Its process lives as long as life, or until it is stopped.
func (b *beside) bring(ctx, life context.Context, s *service) error {
	s.begin = b.now()
	b.log.Line(lineOf(s.begin, s.group, "started", s.group))
	ref, cfg, err := b.image(ctx, s)
	if err != nil {
		return &imageError{s.spec.Name, s.spec.Image, err}
	}
	req, err := s.process(cfg)
	if err != nil {
		return err
	}
	s.ctr, err = b.g.NewContainer(life, gateway.NewContainerRequest{
		Hostname: s.host, ExtraHosts: b.hosts, Mounts: []gateway.Mount{{Dest: "/", Ref: ref, MountType: pb.MountType_BIND}},
	})
	if err != nil {
		return fmt.Errorf("make container of service %s: %w", s.spec.Name, err)
	}
	started := b.now()
	proc, err := s.ctr.Start(life, req)
	if err != nil {
		return fmt.Errorf("start service %s: %w", s.spec.Name, err)
	}
	s.ended = make(chan struct{})
	go s.watch(proc, req)
	if err := b.await(ctx, s); err != nil {
		return err
	}
	s.steady = true
	done := b.now()
	b.log.Line(slipway.LogLine{Time: done, Group: s.group, Text: "healthy after " + elapsed(&started, &done)})
	return nil
}

// image finds what the reference stands for now, as for a base image, and has it at hand.
func (b *beside) image(ctx context.Context, s *service) (gateway.Reference, ocispecs.ImageConfig, error) {
	var img ocispecs.Image
	named, err := reference.ParseNormalizedNamed(s.spec.Image)
	if err != nil {
		return nil, img.Config, &downError{test.ServiceFailure{Name: s.spec.Name, Message: fmt.Sprintf("has image %q, which is not a reference", s.spec.Image)}}
	}
	named = reference.TagNameOnly(named)
	at, digest, config, err := b.g.ResolveImageConfig(ctx, named.String(), sourceresolver.Opt{
		LogName: metadata + named.String(), ImageOpt: &sourceresolver.ResolveImageOpt{ResolveMode: pb.AttrImageResolveModeDefault},
	})
	if err != nil {
		return nil, img.Config, err
	}
	if err := json.Unmarshal(config, &img); err != nil {
		return nil, img.Config, fmt.Errorf("read its configuration: %w", err)
	}
	b.log.Line(slipway.LogLine{Time: b.now(), Group: s.group, Text: "image " + named.String() + "@" + digest.String()})
	found, err := reference.ParseNormalizedNamed(at) // at the mirror that has it
	if err != nil {
		return nil, img.Config, err
	}
	exact, err := reference.WithDigest(found, digest)
	if err != nil {
		return nil, img.Config, err
	}
	def, err := llb.Image(exact.String(), llb.WithCustomName("[service "+s.spec.Name+"] FROM "+named.String())).Marshal(ctx)
	if err != nil {
		return nil, img.Config, err
	}
	res, err := b.g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, img.Config, err
	}
	ref, err := res.SingleRef()
	return ref, img.Config, err
}

// process is what the service's container runs.
func (s *service) process(cfg ocispecs.ImageConfig) (gateway.StartRequest, error) {
	command := cfg.Cmd
	if len(s.spec.Command) > 0 {
		command = s.spec.Command
	}
	args := slices.Concat(cfg.Entrypoint, command)
	if len(args) == 0 {
		return gateway.StartRequest{}, s.down("has nothing to run: its image has neither ENTRYPOINT nor CMD; give it a command")
	}
	output := &room{limit: maxServiceOutput}
	return gateway.StartRequest{
		Args: args, Cwd: "/" + strings.TrimPrefix(cfg.WorkingDir, "/"), User: cfg.User, Env: withEnv(cfg.Env, s.spec.Env),
		Stdout: &lineWriter{log: s.out, group: s.group, stream: "stdout", room: output},
		Stderr: &lineWriter{log: s.out, group: s.group, stream: "stderr", room: output},
	}, nil
}

// withEnv is the image's environment with what the service says otherwise.
func withEnv(image []string, own map[string]string) []string {
	var env []string
	for _, v := range image {
		if name, _, _ := strings.Cut(v, "="); !has(own, name) {
			env = append(env, v)
		}
	}
	for name, value := range own {
		env = append(env, name+"="+value)
	}
	slices.Sort(env[len(env)-len(own):])
	return env
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// watch waits for the end of the service's process.
func (s *service) watch(proc gateway.ContainerProcess, req gateway.StartRequest) {
	s.err = proc.Wait()
	req.Stdout.Close()
	req.Stderr.Close()
	close(s.ended)
}

// exit is the exit code of a process that ended by itself, false while it has not.
func (s *service) exit() (int, bool) {
	select {
	case <-s.ended:
	default:
		return 0, false
	}
	if s.err == nil {
		return 0, true
	}
	var exit *gwpb.ExitError
	if errors.As(s.err, &exit) { // 255 may also be one that BuildKit does not know
		return int(exit.ExitCode), true
	}
	return 0, false
}

// down is the failure of the service, with the last of its output.
func (s *service) down(format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	if last := s.out.text(); last != "" {
		message += "; its last output: " + last
	}
	return &downError{test.ServiceFailure{Name: s.spec.Name, Message: message}}
}

// await returns when the service is healthy, as the tests will find it: its ports accept connections in the network of
// the run, and its check has succeeded once. How long it has for that counts from when its container runs.
func (b *beside) await(ctx context.Context, s *service) error {
	if len(s.spec.Ports)+len(s.spec.Health) == 0 {
		return nil
	}
	limit := cmp.Or(time.Duration(s.spec.Timeout), healthyWithin)
	if err := b.until(ctx, s, func() bool { return b.net.runs(ctx, s.host) }); err != nil {
		return b.unhealthy(ctx, s, limit, "its container does not run")
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	lacks := ""
	for _, port := range s.spec.Ports {
		at := netip.AddrPortFrom(s.addr, uint16(port))
		lacks = fmt.Sprintf("port %d does not accept connections", port)
		if err := b.until(timed, s, func() bool { return b.net.connect(timed, at) == nil }); err != nil {
			return b.unhealthy(ctx, s, limit, lacks)
		}
	}
	if len(s.spec.Health) == 0 {
		return nil
	}
	var c check
	err := b.until(timed, s, func() bool { return b.check(timed, s, &c) })
	if err != nil {
		return b.unhealthy(ctx, s, limit, c.lacks)
	}
	return nil
}

// check is what a service's health command came to so far.
type check struct {
	said  string
	lacks string
}

// check runs the health command once.
func (b *beside) check(ctx context.Context, s *service, c *check) bool {
	one, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	begin := b.now()
	out, err := b.net.check(one, s.host, s.spec.Health)
	if out != c.said && out != "" && ctx.Err() == nil {
		for line := range strings.Lines(out) {
			b.log.Line(slipway.LogLine{Time: b.now(), Group: s.group, Text: "health: " + strings.TrimRight(line, "\r\n")})
		}
	}
	c.said = out
	switch {
	case err == nil:
		return true
	case one.Err() == nil:
		c.lacks = fmt.Sprintf("%s: %s", s.spec.Health[0], cmp.Or(lastLine(out), err.Error()))
	case c.lacks == "" || b.now().Sub(begin) > hangs: // else it was about to fail as before
		c.lacks = s.spec.Health[0] + " did not end"
	}
	return false
}

var errEnded = errors.New("ended")

// until asks, with pauses that grow, until the answer is yes, the service has ended or ctx has.
func (b *beside) until(ctx context.Context, s *service, ask func() bool) error {
	for pause := firstPause; ; pause = min(pause*3/2, maxPause) {
		if ask() {
			return nil
		}
		select {
		case <-s.ended:
			return errEnded
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// unhealthy says why a service is not.
func (b *beside) unhealthy(ctx context.Context, s *service, limit time.Duration, lacks string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-s.ended:
		code, ok := s.exit()
		if !ok {
			return fmt.Errorf("run service %s: %w", s.spec.Name, s.err)
		}
		return s.down("ended with exit code %d before it was healthy", code)
	default:
		return s.down("was not healthy after %s: %s", span(limit), lacks)
	}
}

// stopped are the services that ended by themselves since they were healthy.
func (b *beside) stopped() []test.ServiceFailure {
	var out []test.ServiceFailure
	for _, s := range b.all {
		if code, ok := s.exit(); ok && s.steady {
			var down *downError
			if errors.As(s.down("ended with exit code %d while the tests ran", code), &down) {
				out = append(out, down.ServiceFailure)
			}
		}
	}
	return out
}

// stop ends all services, and with them their network. When ctx is done BuildKit ends them, and would not answer who
// asks: then it waits until they and the tests are gone.
func (b *beside) stop(ctx context.Context) error {
	over := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
	defer cancel()
	if over {
		b.net.wait(ctx)
	}
	var wg sync.WaitGroup
	for _, s := range b.all {
		wg.Go(func() { b.release(ctx, s, over) })
	}
	wg.Wait()
	return b.close()
}

func (b *beside) release(ctx context.Context, s *service, over bool) {
	if s.begin.IsZero() {
		return
	}
	code, ended := s.exit()
	if s.ctr != nil && !over {
		_ = s.ctr.Release(ctx) // an error tells of the process, which is meant to end
	}
	if s.ended != nil {
		select {
		case <-s.ended:
		case <-ctx.Done():
		}
	}
	now := b.now()
	line := lineOf(now, s.group, "done", "stopped after "+elapsed(&s.begin, &now))
	switch {
	case ended && (code != 0 || !s.steady):
		line.State, line.Text = "failed", fmt.Sprintf("exit code %d", code)
	case ended:
		line.Text = "ended by itself with exit code 0"
	case !s.steady:
		line.State, line.Text = "failed", "stopped: it was not healthy"
	}
	b.log.Line(line)
}

func (b *beside) close() error { return b.net.close() }

// serviceVerdict sorts what went wrong with the services: the fault of who declared them is a failure, all else is
// trouble of the surroundings.
func (e *Engine) serviceVerdict(ctx context.Context, err error, pol *policy) (*test.ServiceFailure, error) {
	var down *downError
	if errors.As(err, &down) {
		return &down.ServiceFailure, nil
	}
	var image *imageError
	if !errors.As(err, &image) {
		return nil, surroundings(err)
	}
	fail := func(format string, args ...any) (*test.ServiceFailure, error) {
		return &test.ServiceFailure{Name: image.name, Message: fmt.Sprintf(format, args...)}, nil
	}
	if deny := policysession.DenyMessages(err); len(deny) > 0 {
		return fail("has no image: %s", deny[0].GetMessage())
	}
	switch grpcerrors.Code(image.err) {
	case codes.NotFound:
		return fail("has no image: %s is not in its registry", image.image)
	case codes.InvalidArgument, codes.FailedPrecondition:
		return fail("has no image: %s", message(image.err, ""))
	}
	if named, parseErr := reference.ParseNormalizedNamed(image.image); parseErr == nil {
		if m := pol.missing(ctx, reference.TagNameOnly(named).String()); m != "" {
			return fail("has no image: %s", strings.Replace(m, "base image ", "", 1))
		}
	}
	return nil, slipway.Errorf(slipway.Unavailable, "image %s of service %s: %w", image.image, image.name, image.err)
}

// lastLines passes the lines of a service on and remembers the last.
type lastLines struct {
	log stage.Log

	mu   sync.Mutex
	last []string
}

const (
	keptLines = 3
	keptLine  = 200
)

// Line passes it on.
func (l *lastLines) Line(line slipway.LogLine) {
	if text := strings.TrimSpace(line.Text); line.Stream != "" && text != "" {
		l.mu.Lock()
		if len(text) > keptLine {
			text = strings.ToValidUTF8(text[:keptLine], "") + "..."
		}
		if l.last = append(l.last, text); len(l.last) > keptLines {
			l.last = l.last[1:]
		}
		l.mu.Unlock()
	}
	l.log.Line(line)
}

// Printf passes it on.
func (l *lastLines) Printf(format string, args ...any) { l.log.Printf(format, args...) }

// text is the last lines in one.
func (l *lastLines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.last, " | ")
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
}

// span is a duration as people write it: 1m, 90s as 1m30s.
func span(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

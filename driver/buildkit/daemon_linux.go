package buildkit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/slipway-cd/slipway"
)

// daemon is Slipway's own buildkitd with its network. It lives in a session of its own: when Slipway is
// killed it goes on, and the next Slipway with the same folder adopts it. When it dies itself, it is
// started again, and what it left is removed first.
type daemon struct {
	opts     Options
	layout   layout
	network  network
	config   string // hash
	firewall *firewall
	iso      isolation // of the supervisor, once it runs
	fenced   bool      // what the daemon fetches itself is fenced
	gate     gate
	lock     *os.File

	stop context.CancelFunc
	done chan struct{} // the supervisor has ended

	mu   sync.Mutex
	proc process
	up   chan struct{} // closed while the daemon runs
}

const (
	startTimeout  = 60 * time.Second
	waitTimeout   = 10 * time.Second // for one that died: then the step says so and tries again
	stopTimeout   = 15 * time.Second
	healthEvery   = 5 * time.Second
	healthTimeout = 15 * time.Second
	watchEvery    = 200 * time.Millisecond
	maxBackoff    = 30 * time.Second
)

// connectOwn installs what is missing, starts or adopts the own daemon, and connects to it.
func connectOwn(ctx context.Context, opts Options) (*link, error) {
	fenced := true
	for _, f := range machine(ctx, opts) {
		if !f.OK && f.Needed {
			return nil, slipway.Errorf(slipway.Unavailable, "Slipway's own BuildKit needs %s: %s; %s", f.Name, f.Detail, f.Do)
		}
		if f.Name == fenceFinding {
			fenced = f.OK
		}
	}
	binary, err := install(ctx, opts)
	if err != nil {
		return nil, err
	}
	d, err := newDaemon(ctx, opts, binary, fenced)
	if err != nil {
		return nil, err
	}
	ln, err := d.open(ctx)
	if err != nil {
		d.unlock()
		return nil, err
	}
	return ln, nil
}

func newDaemon(ctx context.Context, opts Options, binary string, fenced bool) (*daemon, error) {
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of BuildKit: %w", err)
	}
	// Mounts are listed by their real path.
	dir, err := filepath.EvalSymlinks(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("folder of BuildKit: %w", err)
	}
	d := &daemon{opts: opts, layout: newLayout(dir), fenced: fenced, up: make(chan struct{})}
	d.layout.binary, d.layout.cni = binary, cniDir()
	if d.layout.runc, err = lookProgram("runc"); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.layout.sockets, 0o700); err != nil {
		return nil, fmt.Errorf("folder of BuildKit's socket: %w", err)
	}
	if d.lock, err = lockFile(d.layout.lock()); err != nil {
		return nil, err
	}
	if err := d.prepare(ctx); err != nil {
		d.unlock()
		return nil, err
	}
	if err := errors.Join(installPlugins(d.layout), os.RemoveAll(d.layout.joins())); err != nil {
		d.unlock()
		return nil, fmt.Errorf("plugins of BuildKit's network: %w", err)
	}
	return d, nil
}

// prepare decides on the network and the configuration.
func (d *daemon) prepare(ctx context.Context) error {
	var err error
	if d.network, err = d.loadNetwork(); err != nil {
		return err
	}
	if d.firewall, err = newFirewall(ctx); err != nil {
		return slipway.Errorf(slipway.Unavailable, "Slipway's own BuildKit: %w", err)
	}
	d.iso.links = otherBridges()
	d.iso.resolvers, d.iso.upstream = buildResolvers(d.opts)
	if d.iso.deny, err = prefixes(d.opts.Deny); err != nil {
		return slipway.Errorf(slipway.Invalid, "networks that builds must not reach: %w", err)
	}
	config := renderConfig(d.layout, d.network, d.opts)
	cni, err := renderCNI(d.layout, d.network)
	if err != nil {
		return err
	}
	d.config = hashOf(d.layout.binary, d.layout.cni, config, string(cni), joinScript, fmt.Sprint(d.groups()))
	if err := writeFile(d.layout.config(), []byte(config)); err != nil {
		return err
	}
	return writeFile(d.layout.cniFile(), cni)
}

// groups are the daemon's supplementary groups.
func (d *daemon) groups() []uint32 {
	if !d.fenced {
		return nil
	}
	return []uint32{d.network.Group}
}

// loadNetwork keeps the network of earlier starts, as a running daemon uses it.
func (d *daemon) loadNetwork() (network, error) {
	var n network
	if raw, err := os.ReadFile(d.layout.network()); err == nil && json.Unmarshal(raw, &n) == nil && n.Bridge == tag(d.layout.dir) && n.Subnet.IsValid() {
		if n.Group != 0 {
			return n, nil
		}
		n.Group = fenceGroup(d.layout.dir) // of a Slipway without fences
		return n, d.saveNetwork(n)
	}
	used, err := usedNetworks()
	if err != nil {
		return n, fmt.Errorf("networks of this machine: %w", err)
	}
	if n, err = chooseNetwork(d.layout.dir, used); err != nil {
		return n, err
	}
	return n, d.saveNetwork(n)
}

func (d *daemon) saveNetwork(n network) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return writeFile(d.layout.network(), raw)
}

// open adopts or starts the daemon and begins to watch over it.
func (d *daemon) open(ctx context.Context) (*link, error) {
	if err := d.firewall.apply(ctx, d.network, firewallRules(d.network, d.iso)); err != nil {
		return nil, err
	}
	if err := d.raiseFence(ctx); err != nil {
		return nil, err
	}
	// A daemon that starts is connected to as soon as it listens, also when it starts again.
	quick := backoff.Config{BaseDelay: pollInterval, Multiplier: 1.5, MaxDelay: time.Second}
	c, err := client.New(ctx, "unix://"+d.layout.socket(),
		client.WithGRPCDialOption(grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: dialTimeout})))
	if err != nil {
		return nil, err
	}
	begin := d.opts.Now()
	adopted := d.adopt(ctx, c)
	if !adopted {
		if err := d.start(ctx, c); err != nil {
			_ = c.Close() // never used
			return nil, err
		}
	}
	word := "started"
	if adopted {
		word = "adopted"
	}
	d.opts.Progress(fmt.Sprintf("buildkitd %s %s in %s (pid %d, network %s on %s)", Version, word,
		d.opts.Now().Sub(begin).Round(time.Millisecond), d.proc.PID, d.network.Subnet, d.network.Bridge))
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop, d.done = stop, make(chan struct{})
	go d.supervise(watch, c)
	ln := &link{client: c, name: "Slipway's own BuildKit", version: Version, daemon: d, fenced: d.fenced}
	if err := d.prove(ctx, ln); err != nil {
		return nil, errors.Join(err, ln.close(context.WithoutCancel(ctx)))
	}
	return ln, nil
}

// prove probes the daemon once for each configuration: a runtime or a kernel that does not do is told
// at the start rather than looking like somebody's broken build.
func (d *daemon) prove(ctx context.Context, ln *link) error {
	if raw, err := os.ReadFile(d.layout.proof()); err == nil && string(raw) == d.config {
		return nil
	}
	if err := suitable(ctx, ln, d.opts); err != nil {
		return err
	}
	return writeFile(d.layout.proof(), []byte(d.config))
}

// adopt takes over a daemon that an earlier Slipway started the same way and that answers.
func (d *daemon) adopt(ctx context.Context, c *client.Client) bool {
	p, ok := readProcess(d.layout.record())
	if !ok || !p.alive() || p.Config != d.config || !answers(ctx, c, healthTimeout) {
		return false
	}
	d.running(p)
	return true
}

// running records the daemon that answers.
func (d *daemon) running(p process) {
	d.seal()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.proc = p
	close(d.up)
}

// seal makes the firewall hold between two containers of the bridge as well, where the kernel has what
// it takes (the module br_netfilter), keeps IPv6, for which no build has a use, off the bridge, and has
// the kernel forward, which another program may have switched off again.
func (d *daemon) seal() {
	for file, value := range map[string]string{
		"/proc/sys/net/ipv4/ip_forward":                                    "1",
		"/sys/class/net/" + d.network.Bridge + "/bridge/nf_call_iptables":  "1",
		"/sys/class/net/" + d.network.Bridge + "/bridge/nf_call_ip6tables": "1",
		"/proc/sys/net/ipv6/conf/" + d.network.Bridge + "/disable_ipv6":    "1",
	} {
		if raw, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(raw)) == value {
			continue
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			d.opts.Log.Debug("seal the bridge of builds", "error", err)
		}
	}
}

// full reports whether the disk of the daemon's folder has no room to speak of.
func (d *daemon) full() bool {
	var st unix.Statfs_t
	return unix.Statfs(d.layout.dir, &st) == nil && st.Bavail*uint64(st.Bsize) < minFree
}

// minFree is less than any step needs that writes at all.
const minFree = 32 << 20

// down records that there is none.
func (d *daemon) down() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.up = make(chan struct{})
}

// wait returns when the daemon runs, or an Unavailable error when it takes too long to start again.
func (d *daemon) wait(ctx context.Context) error {
	d.mu.Lock()
	up := d.up
	d.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(waitTimeout):
		return slipway.Errorf(slipway.Unavailable, "buildkitd does not start again (log: %s)", d.layout.log())
	}
}

// during is a context that ends with the daemon that runs now. BuildKit's client would wait for ever for a process in a
// container of one that died.
func (d *daemon) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := d.current()
	go func() {
		watch := time.NewTicker(watchEvery)
		defer watch.Stop()
		for p.alive() {
			select {
			case <-ctx.Done():
				return
			case <-watch.C:
			}
		}
		cancel(slipway.Errorf(slipway.Unavailable, "BuildKit: buildkitd died (log: %s)", d.layout.log()))
	}()
	return ctx, func() { cancel(nil) }
}

// start ends a daemon that cannot be used, removes what is left of it, and starts one.
func (d *daemon) start(ctx context.Context, c *client.Client) error {
	before, unclean := readProcess(d.layout.record())
	if unclean {
		if err := end(ctx, before); err != nil {
			return err
		}
	}
	if err := clean(ctx, d.layout, d.network); err != nil {
		return slipway.Errorf(slipway.Unavailable, "clean up after an earlier buildkitd: %w", err)
	}
	if err := os.MkdirAll(d.layout.tmp(), 0o700); err != nil {
		return err
	}
	p, err := spawn(d.layout, d.config, d.groups(), d.opts.Getenv)
	if err != nil {
		return err
	}
	if !poll(ctx, startTimeout, func() bool { return !p.alive() || answers(ctx, c, dialTimeout) }) || !p.alive() {
		_ = end(context.WithoutCancel(ctx), p) // the reason for the error below matters more
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return slipway.Errorf(slipway.Unavailable, "buildkitd does not start: %s (log: %s)", logTail(d.layout.log(), 4096), d.layout.log())
	}
	if unclean {
		settle(ctx, c, p)
	}
	d.running(p)
	return nil
}

// settle has a new daemon make a snapshot. One that was killed between making a snapshot's folder and
// recording it leaves the folder, on which the next snapshot fails, once: it removes the folder.
func settle(ctx context.Context, c *client.Client, p process) {
	for i := range 3 {
		state := llb.Scratch().File(llb.Mkfile("/settled", 0o644, fmt.Appendf(nil, "%d %d %d", p.PID, p.Start, i)))
		def, err := state.Marshal(ctx)
		if err != nil {
			return
		}
		if _, err := c.Solve(ctx, def, client.SolveOpt{Internal: true}, nil); err == nil || ctx.Err() != nil {
			return
		}
	}
}

func answers(ctx context.Context, c *client.Client, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := c.ListWorkers(ctx)
	return err == nil
}

// supervise starts the daemon again when it dies or does not answer, and keeps the firewall in place.
func (d *daemon) supervise(ctx context.Context, c *client.Client) {
	defer close(d.done)
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	health := time.NewTicker(healthEvery)
	defer health.Stop()
	missed := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-watch.C:
			if d.current().alive() {
				continue
			}
			d.opts.Progress("buildkitd died: starting it again")
		case <-health.C:
			d.guard(ctx)
			if answers(ctx, c, healthTimeout) || ctx.Err() != nil {
				missed = 0
				continue
			}
			if missed++; missed < 2 {
				continue
			}
			d.opts.Progress("buildkitd does not answer: starting it again")
		}
		missed = 0
		d.down()
		d.restart(ctx, c)
	}
}

// guard puts the firewall back when another program put something before it, and extends it to bridges
// that came since.
func (d *daemon) guard(ctx context.Context) {
	d.seal()
	d.guardFence(ctx)
	links := otherBridges()
	if (slices.Equal(links, d.iso.links) && d.firewall.intact(ctx, d.network)) || ctx.Err() != nil {
		return
	}
	d.iso.links = links
	if err := d.firewall.apply(ctx, d.network, firewallRules(d.network, d.iso)); err != nil && ctx.Err() == nil {
		d.opts.Log.Error("isolate builds", "error", err)
	}
}

// restart tries until the daemon runs or ctx is done, waiting longer each time.
func (d *daemon) restart(ctx context.Context, c *client.Client) {
	for wait := time.Second; ctx.Err() == nil; wait = min(2*wait, maxBackoff) {
		err := d.start(ctx, c)
		if err == nil {
			d.opts.Progress(fmt.Sprintf("buildkitd runs again (pid %d)", d.current().PID))
			return
		}
		d.opts.Log.Error("start buildkitd again", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (d *daemon) current() process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.proc
}

// detach stops watching; the daemon and its network stay.
func (d *daemon) detach() {
	d.stop()
	<-d.done
	d.unlock()
}

// close ends the daemon and removes its network.
func (d *daemon) close(ctx context.Context) error {
	d.stop()
	<-d.done
	defer d.unlock()
	if err := end(ctx, d.current()); err != nil {
		return err
	}
	return d.sweep(ctx)
}

// sweep removes everything of a daemon that is gone but its cache.
func (d *daemon) sweep(ctx context.Context) error {
	return errors.Join(
		clean(ctx, d.layout, d.network),
		removeBridge(d.network.Bridge),
		d.firewall.remove(ctx, d.network, firewallRules(d.network, d.iso)),
		d.firewall.lower(ctx, d.network),
		removeIfThere(d.layout.network()),
	)
}

// end stops a process, by force when it takes too long.
func end(ctx context.Context, p process) error {
	p.signal(syscall.SIGTERM)
	if p.waitGone(ctx, stopTimeout) {
		return nil
	}
	p.signal(syscall.SIGKILL)
	if !p.waitGone(context.WithoutCancel(ctx), stopTimeout) {
		return fmt.Errorf("buildkitd (pid %d) does not end", p.PID)
	}
	return nil
}

// lockFile keeps a second Slipway away from a folder.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, slipway.Errorf(slipway.Unavailable, "BuildKit's folder %s is in use by another Slipway: wait until that has ended, or name a BuildKit that both use", filepath.Dir(name))
	}
	return f, nil
}

func (d *daemon) unlock() { d.lock.Close() }

// buildResolvers are the resolvers of builds: those that are addresses of this machine, and others. Builds do not reach
// one on loopback.
func buildResolvers(opts Options) (local, upstream []netip.Addr) {
	servers := opts.Nameservers
	if len(servers) == 0 {
		servers = append(nameservers("/etc/resolv.conf"), nameservers("/run/systemd/resolve/resolv.conf")...)
	}
	for _, s := range servers {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil, a.IsLoopback(), slices.Contains(local, a), slices.Contains(upstream, a):
		case ownAddress(a):
			local = append(local, a)
		default:
			upstream = append(upstream, a)
		}
	}
	return local, upstream
}

func nameservers(file string) []string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "nameserver" {
			out = append(out, f[1])
		}
	}
	return out
}

// cniDir is where the CNI plugins are: Debian's place, or everybody else's.
func cniDir() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir
		}
	}
	return ""
}

// Remove removes what a daemon of that folder left behind when no Slipway runs any more: the process,
// its network, mounts and firewall rules. With cache it removes the folder as well.
func Remove(ctx context.Context, opts Options, cache bool) error {
	opts, err := opts.withDefaults()
	if err != nil {
		return err
	}
	dir, err := filepath.EvalSymlinks(opts.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	d := &daemon{opts: opts, layout: newLayout(dir)}
	if d.lock, err = lockFile(d.layout.lock()); err != nil {
		return err
	}
	defer d.unlock()
	d.layout.runc, _ = lookProgram("runc") // without it there are no containers
	if err := d.prepare(ctx); err != nil {
		return err
	}
	if p, ok := readProcess(d.layout.record()); ok {
		if err := end(ctx, p); err != nil {
			return err
		}
	}
	if err := d.sweep(ctx); err != nil {
		return err
	}
	if cache {
		return os.RemoveAll(dir)
	}
	return nil
}

package buildkit

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/tonistiigi/fsutil"

	"github.com/slipway-cd/slipway"
)

// Finding is one thing that was looked at.
type Finding struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Needed bool   `json:"needed"` // nothing is built without it
	Detail string `json:"detail"`
	Do     string `json:"do,omitempty"` // what to do when it is not OK
}

// Probe looks at the BuildKit that is connected by using it, and at the machine where it is Slipway's
// own. It takes a second or two.
func (e *Engine) Probe(ctx context.Context) []Finding {
	ln, err := e.connection(ctx)
	if err != nil {
		f := Finding{Name: "BuildKit", Needed: true, Detail: err.Error(), Do: "see the other findings"}
		if e.opts.Address == "" {
			return append(machine(ctx, e.opts), f)
		}
		return []Finding{f}
	}
	found := []Finding{{Name: "BuildKit", OK: true, Needed: true, Detail: ln.describe()}}
	if ln.daemon != nil {
		found = append(machine(ctx, e.opts), found...)
	}
	return append(found, probe(ctx, ln, e.opts)...)
}

const (
	useAnother = "use another BuildKit, or let Slipway start its own"
	probeLimit = 5 * time.Minute // a machine that is busy takes a minute
	fetchLimit = time.Minute
)

// probe finds out what a BuildKit can do by doing it.
func probe(ctx context.Context, ln *link, opts Options) []Finding {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	exporter := Finding{Name: "image exporter", Needed: true, Detail: "pushes images by digest", Do: useAnother}
	if err := probeExporter(ctx, ln); err != nil {
		exporter.Detail = slipway.FirstLine(err.Error())
	} else {
		exporter.OK = true
	}
	begin := []Finding{exporter, probeFetch(ctx, ln, opts)}
	p := &containerProbe{shared: opts.AllowShared, own: ln.daemon != nil}
	busybox, err := staticBusybox()
	if err != nil {
		return append(begin, p.unknown(err)...)
	}
	fs, err := fsutil.NewFS(filepath.Dir(busybox))
	if err == nil {
		fs, err = fsutil.NewFilterFS(fs, &fsutil.FilterOpt{IncludePatterns: []string{filepath.Base(busybox)}})
	}
	if err != nil {
		return append(begin, p.unknown(err)...)
	}
	p.file = filepath.Base(busybox)
	opt := client.SolveOpt{LocalMounts: map[string]fsutil.FS{"probe": fs}, SharedKey: "slipway-probe"}
	if _, err := ln.client.Build(ctx, opt, "slipway", p.run, nil); err != nil && len(p.found) == 0 {
		return append(begin, p.failed(err)...)
	}
	return append(begin, p.found...)
}

// probeFetch has the BuildKit fetch something from this machine's loopback address, where only its fence keeps it
// away: that of another BuildKit is not Slipway's to make.
func probeFetch(ctx context.Context, ln *link, opts Options) Finding {
	f := Finding{Name: "what BuildKit fetches", Needed: ln.fenced && !opts.AllowShared}
	reached, err := fetchesLoopback(ctx, ln)
	switch {
	case err != nil:
		f.Detail, f.Do = "not known: "+slipway.FirstLine(err.Error()), useAnother
	case reached && ln.fenced:
		f.Detail, f.Do = "a source of a Dockerfile can be fetched from this machine's loopback address", "see whether another program changes the firewall's rules"
	case ln.fenced:
		f.OK, f.Detail = true, "sources of Dockerfiles are not fetched from this machine, wherever a redirect leads"
	case opts.AllowShared:
		f.OK, f.Detail = true, "redirects of a Dockerfile's sources may lead to this machine, as builds may reach it"
	default:
		f.Detail = "a redirect may lead anywhere in the network of this BuildKit: builds of branches may not ADD from URLs or git repositories"
		f.Do = "nothing, or let Slipway start its own BuildKit"
	}
	return f
}

// fetchesLoopback reports whether a request of the BuildKit arrives.
func fetchesLoopback(ctx context.Context, ln *link) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	var reached atomic.Bool
	srv := &http.Server{ReadHeaderTimeout: dialTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached.Store(true)
		http.Error(w, "only a probe", http.StatusNotFound)
	})}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	def, err := llb.HTTP("http://" + l.Addr().String() + "/probe").Marshal(ctx)
	if err == nil {
		_, solveErr := ln.client.Solve(ctx, def, client.SolveOpt{Internal: true}, nil)
		switch {
		case solveErr == nil:
			err = errors.New("it fetched what is not there")
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		}
	}
	_ = srv.Close() // nothing is left to serve
	<-served
	return reached.Load(), err
}

// probeExporter exports an image of one file without pushing it.
func probeExporter(ctx context.Context, ln *link) error {
	def, err := llb.Scratch().File(llb.Mkfile("/probe", 0o644, []byte("probe"))).Marshal(ctx)
	if err != nil {
		return err
	}
	resp, err := ln.client.Solve(ctx, def, client.SolveOpt{Exports: []client.ExportEntry{{
		Type: client.ExporterImage, Attrs: map[string]string{"name": "slipway.invalid/probe", "push": "false", "store": "false"},
	}}}, nil)
	if err != nil {
		return err
	}
	if resp.ExporterResponse[exptypes.ExporterImageDigestKey] == "" {
		return errors.New("it makes no image manifest, and so cannot push one")
	}
	return nil
}

// staticBusybox is a program with which a container can be looked at from inside.
func staticBusybox() (string, error) {
	const missing = "busybox-static is not installed (apt-get install busybox-static)"
	path, err := lookProgram("busybox")
	if err != nil {
		return "", errors.New(missing)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", err
	}
	f, err := elf.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		return "", errors.New(missing)
	}
	return path, nil
}

// containerProbe runs in a container made of a busybox.
type containerProbe struct {
	file   string
	shared bool // builds may reach this machine
	own    bool // Slipway's firewall is in place, seen from inside or not
	found  []Finding
}

func (p *containerProbe) findings(container, files, isolation Finding) []Finding {
	container.Name, container.Needed, container.Do = "containers", true, "see BuildKit's log; Debian's runc is known to work, its crun is not where cgroups are hybrid"
	files.Name, files.Needed, files.Do = "test results", true, useAnother
	isolation.Name, isolation.Needed = "isolation of builds", !p.shared
	if isolation.Do == "" {
		isolation.Do = useAnother + ", or allow builds to reach this machine if everyone who can push is trusted"
	}
	return []Finding{container, files, isolation}
}

func (p *containerProbe) unknown(err error) []Finding {
	not := Finding{Detail: "not known: " + err.Error()}
	isolation := not
	isolation.Do = "apt-get install busybox-static"
	ok := Finding{OK: true, Detail: not.Detail} // a build will tell; isolation would not
	found := p.findings(ok, ok, isolation)
	found[2].Needed = found[2].Needed && !p.own
	return found
}

func (p *containerProbe) failed(err error) []Finding {
	not := Finding{Detail: slipway.FirstLine(err.Error())}
	return p.findings(not, not, not)
}

// run is gateway.BuildFunc.
func (p *containerProbe) run(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
	local := llb.Local("probe", llb.IncludePatterns([]string{p.file}), llb.SharedKeyHint("probe"))
	def, err := llb.Scratch().File(llb.Copy(local, "/"+p.file, "/bin/busybox", &llb.CopyInfo{CreateDestPath: true})).Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := g.Solve(ctx, gateway.SolveRequest{Definition: def.ToPB(), Evaluate: true})
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	ctr, err := g.NewContainer(ctx, gateway.NewContainerRequest{Mounts: []gateway.Mount{{Dest: "/", Ref: ref, MountType: pb.MountType_BIND}}})
	if err != nil {
		return nil, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = ctr.Release(ctx) // it was only a probe
	}()
	out, err := runIn(ctx, ctr, networkScript())
	if err != nil {
		return nil, err
	}
	container := Finding{OK: true, Detail: "run"}
	files := Finding{OK: true, Detail: "can be read from a container"}
	caps := g.BuildOpts().Caps
	if err := caps.Supports(gwpb.CapGatewayExecFilesystem); err != nil {
		files = Finding{Detail: "this BuildKit cannot read files of a test container"}
	} else if _, err := ctr.ReadDir(ctx, gateway.ReadDirContainerRequest{ReadDirRequest: gateway.ReadDirRequest{Path: "/bin"}}); err != nil {
		files = Finding{Detail: slipway.FirstLine(err.Error())}
	}
	p.found = p.findings(container, files, isolated(out, hostAddresses()))
	return gateway.NewResult(), nil
}

// runIn runs a shell script in the container and returns what it printed.
func runIn(ctx context.Context, ctr gateway.Container, script string) (string, error) {
	var out bytes.Buffer
	proc, err := ctr.Start(ctx, gateway.StartRequest{
		Args: []string{"/bin/busybox", "sh", "-c", script}, Stdout: nopCloser{&out}, Stderr: nopCloser{&out},
	})
	if err != nil {
		return "", err
	}
	err = proc.Wait()
	return out.String(), err
}

type nopCloser struct{ *bytes.Buffer }

// Close does nothing.
func (nopCloser) Close() error { return nil }

// closedPort is one that nothing listens on: a host that can be reached refuses it, one that cannot
// be does not.
const closedPort = 1

// networkScript prints the container's addresses, and what a connection to each address of this machine
// and to the container's gateway comes to.
func networkScript() string {
	var b strings.Builder
	b.WriteString("b=/bin/busybox\n$b ip -4 -o addr | while read n i f a r; do echo \"own ${a%/*}\"; done\n")
	b.WriteString("gw=$($b ip route | $b sed -n 's/^default via \\([0-9.]*\\).*/\\1/p')\n")
	b.WriteString("echo \"gateway $gw\"\n")
	fmt.Fprintf(&b, "for a in $gw %s; do echo \"try $a $($b nc -w 2 $a %d </dev/null 2>&1 && echo connected)\" & done; wait\n", strings.Join(hostAddresses(), " "), closedPort)
	return b.String()
}

// hostAddresses are this machine's IPv4 addresses but loopback.
func hostAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// isolated judges what the script printed, by the addresses that this machine still has: one that it lost meanwhile, with
// the bridge of another program, leads out into the world, where anybody may have answered.
func isolated(out string, host []string) Finding {
	tried, gateway := 0, ""
	for line := range strings.Lines(out) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		addr, answer, _ := strings.Cut(rest, " ")
		switch {
		case kind == "gateway":
			gateway = addr
		case kind == "own" && slices.Contains(host, addr):
			return Finding{Detail: "builds share this machine's network (" + addr + " is theirs too)"}
		case kind == "try" && (addr == gateway || slices.Contains(host, addr)) && (strings.Contains(answer, "refused") || strings.Contains(answer, "connected")):
			return Finding{Detail: "builds reach this machine at " + addr}
		case kind == "try":
			tried++
		}
	}
	if tried == 0 && len(host) > 0 {
		return Finding{Detail: "not known: the probe printed nothing of use"}
	}
	return Finding{OK: true, Detail: fmt.Sprintf("none of %d addresses of this machine can be reached from a build", tried)}
}

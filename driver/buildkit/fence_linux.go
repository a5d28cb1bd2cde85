package buildkit

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// gate is the fence of a running daemon as it changes: registries come with the builds that push to them, the
// addresses of names and the machine's resolvers and bridges change.
type gate struct {
	mu     sync.Mutex
	given  []string // host:port of mirrors and proxies
	pushed []string // of registries that builds push to, the newest last
	names  map[string]resolved
	fence  fence // in place
}

// resolved are the addresses that a host:port had last.
type resolved struct {
	addrs []netip.Addr
	until time.Time
}

const (
	// maxPushed bounds the registries to which the daemon has a way, whatever builds name.
	maxPushed      = 64
	resolveTimeout = 2 * time.Second
	resolveEvery   = time.Minute
)

// allow lets the daemon reach a registry, as builds name it: https://host[:port], http://host[:port].
func (d *daemon) allow(ctx context.Context, address string) error {
	at := hostPort(address)
	if !d.fenced || at == "" {
		return nil
	}
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	if slices.Contains(d.gate.given, at) || slices.Contains(d.gate.pushed, at) {
		return nil
	}
	d.gate.pushed = append(d.gate.pushed, at)
	d.gate.pushed = d.gate.pushed[max(0, len(d.gate.pushed)-maxPushed):]
	if err := d.refence(ctx); err != nil {
		d.gate.pushed = d.gate.pushed[:len(d.gate.pushed)-1]
		return err
	}
	return nil
}

// refence brings the fence up to date. The gate's lock is held.
func (d *daemon) refence(ctx context.Context) error {
	want := fence{
		group: d.network.Group, deny: d.iso.deny, links: otherBridges(),
		resolvers: resolvers("/etc/resolv.conf"), given: d.ways(ctx),
	}
	if want.equal(d.gate.fence) && d.firewall.raised(ctx, d.network) {
		return nil
	}
	if err := d.firewall.raise(ctx, d.network, want); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return slipway.Errorf(slipway.Unavailable, "%w", err)
	}
	d.gate.fence = want
	return nil
}

// raiseFence brings the fence in place before the daemon starts, or lowers what an earlier one left.
func (d *daemon) raiseFence(ctx context.Context) error {
	if !d.fenced {
		return d.firewall.lower(ctx, d.network)
	}
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	d.gate.names = map[string]resolved{}
	for _, m := range d.opts.Mirrors {
		if at := hostPort(m.Address); at != "" {
			d.gate.given = append(d.gate.given, at)
		}
	}
	d.gate.given = append(d.gate.given, proxyHosts(d.opts.Getenv)...)
	return d.refence(ctx)
}

// guardFence puts the fence back and brings it up to date.
func (d *daemon) guardFence(ctx context.Context) {
	if !d.fenced {
		return
	}
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	if err := d.refence(ctx); err != nil && ctx.Err() == nil {
		d.opts.Log.Error("fence BuildKit", "error", err)
	}
}

// ways are the addresses of what is given. Those of names are added where the fence could refuse them: an
// outside registry changes its addresses with every question.
func (d *daemon) ways(ctx context.Context) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	denied := deniedAddress(d.iso.deny)
	var out []netip.AddrPort
	for _, at := range slices.Concat(d.gate.given, d.gate.pushed) {
		if a, err := netip.ParseAddrPort(at); err == nil {
			out = append(out, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
			continue
		}
		host, number, err := net.SplitHostPort(at)
		if err != nil {
			continue
		}
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue
		}
		for _, a := range d.addresses(ctx, at, host) {
			if a = a.Unmap(); denied(a) || a.IsPrivate() || carrier.Contains(a) {
				out = append(out, netip.AddrPortFrom(a, uint16(port)))
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return slices.Compact(out)
}

// addresses looks up a name once a minute; one that has no address now keeps those it had.
func (d *daemon) addresses(ctx context.Context, at, host string) []netip.Addr {
	known, now := d.gate.names[at], d.opts.Now()
	if now.Before(known.until) {
		return known.addrs
	}
	addrs, err := lookupHost(ctx, host)
	if err != nil {
		return known.addrs
	}
	d.gate.names[at] = resolved{addrs, now.Add(resolveEvery)}
	return addrs
}

// carrier is the network behind the addresses of carriers, which some clusters use as well.
var carrier = netip.MustParsePrefix("100.64.0.0/10")

// resolvers are those that the daemon asks for names, wherever they are: without any named it asks on loopback.
func resolvers(file string) []netip.Addr {
	var out []netip.Addr
	for _, s := range nameservers(file) {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, a.WithZone("").Unmap())
		}
	}
	if len(out) == 0 {
		out = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

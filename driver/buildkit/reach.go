package buildkit

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/moby/buildkit/sourcepolicy/policysession"
	"golang.org/x/net/http/httpproxy"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// notReached is what people read about an address that builds may not reach.
const notReached = "an address of the machine that builds or of its private networks: builds may not reach it"

// remoteHost denies what lives at an address of this machine, and a name that has no address. The daemon asks
// for the address once more and follows redirects: what it then reaches is its fence's business.
func (p *policy) remoteHost(ctx context.Context, u *url.URL, what string) (*policysession.DecisionResponse, error) {
	host := u.Hostname()
	if numeric(host) {
		return deny("source %s: %s is not an address as it is commonly written", what, host), nil
	}
	addrs, err := p.lookup(ctx, host)
	if err != nil && p.proxied(u) {
		return allow(), nil // the proxy knows the name, or nobody
	}
	var unknown *net.DNSError
	switch {
	case asError(err, &unknown) && unknown.IsNotFound, err == nil && len(addrs) == 0:
		return deny("source %s: no host %s is known", what, host), nil
	case err != nil:
		return nil, status.Errorf(codes.Unavailable, "look up the host of source %s: %v", what, err)
	}
	for _, a := range addrs {
		if p.denied(a) {
			return deny("source %s is at %s, %s", what, a.Unmap(), notReached), nil
		}
	}
	return allow(), nil
}

// proxied reports whether the daemon asks a proxy for the URL.
func (p *policy) proxied(u *url.URL) bool {
	if p.env == nil {
		return false
	}
	by, err := proxies(p.env)(u)
	return err == nil && by != nil
}

// proxies says which proxy is asked for a URL.
func proxies(getenv func(string) string) func(*url.URL) (*url.URL, error) {
	either := func(name string) string { return cmp.Or(getenv(name), getenv(strings.ToLower(name))) }
	c := httpproxy.Config{HTTPProxy: either("HTTP_PROXY"), HTTPSProxy: either("HTTPS_PROXY"), NoProxy: either("NO_PROXY")}
	return c.ProxyFunc()
}

// proxyHosts are the host:port of the proxies that the variables name.
func proxyHosts(getenv func(string) string) []string {
	var out []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		proxy := getenv(name)
		if proxy != "" && !strings.Contains(proxy, "://") {
			proxy = "http://" + proxy
		}
		if at := hostPort(proxy); at != "" {
			out = append(out, at)
		}
	}
	return out
}

// hostPort is where an address (a URL) is reached, "" when it names no host.
func hostPort(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	port := cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	if port == "" {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// fencedError is a connection that was not made.
type fencedError struct{ addr netip.Addr }

// Error names the address.
func (e *fencedError) Error() string { return fmt.Sprintf("%s is %s", e.addr, notReached) }

// client asks what a build names from Slipway's own process, behind a fence like the daemon's.
func (p *policy) client() *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		if p.denied(ap.Addr()) {
			return &fencedError{ap.Addr().Unmap()}
		}
		return nil
	}}
	var given []string
	for _, m := range p.mirrors {
		given = append(given, hostPort(m.Address))
	}
	t := &http.Transport{DisableKeepAlives: true, TLSHandshakeTimeout: dialTimeout}
	if p.env != nil {
		proxy := proxies(p.env)
		t.Proxy = func(r *http.Request) (*url.URL, error) { return proxy(r.URL) }
		given = append(given, proxyHosts(p.env)...)
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if slices.Contains(given, address) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
		}
		return dialer.DialContext(ctx, network, address)
	}
	return t
}

// leads finds out, after something could not be fetched, what of it leads to where builds may not reach, by asking for
// each source once more; "" when nothing does.
func (p *policy) leads(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	p.mu.Lock()
	all := slices.Clone(p.fetched)
	p.mu.Unlock()
	c := &http.Client{Transport: p.client()}
	for _, f := range all {
		if f.ask.Scheme != "http" && f.ask.Scheme != "https" {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.ask.String(), nil)
		if err != nil {
			continue
		}
		resp, err := c.Do(req)
		if err == nil {
			resp.Body.Close()
			continue
		}
		var fenced *fencedError
		if asError(err, &fenced) {
			return fmt.Sprintf("source %s leads to %s, %s", f.what, fenced.addr, notReached)
		}
	}
	return ""
}

// redacted is a URL as it may be logged.
func redacted(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	return u.Redacted()
}

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(host, ".")); err == nil {
		return []netip.Addr{a}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// numeric reports whether a host is an address in one of the spellings that only some programs understand: 2130706433,
// 0x7f.1, 0177.0.0.1.
func numeric(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// deniedAddress says which addresses a build's sources may not have: those of this machine, loopback,
// link-local, metadata services of clouds and the networks that are denied to builds.
func deniedAddress(nets []netip.Prefix) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		for _, a := range meanings(a) {
			if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() || within(neverReached, a) || within(nets, a) || ownAddress(a) {
				return true
			}
		}
		return false
	}
}

// meanings are an address and the IPv4 address that it stands for.
func meanings(a netip.Addr) []netip.Addr {
	a = a.WithZone("").Unmap()
	if !a.Is6() {
		return []netip.Addr{a}
	}
	raw := a.As16()
	switch {
	case nat64.Contains(a):
		return []netip.Addr{a, netip.AddrFrom4([4]byte(raw[12:]))}
	case sixToFour.Contains(a):
		return []netip.Addr{a, netip.AddrFrom4([4]byte(raw[2:6]))}
	}
	return []netip.Addr{a}
}

var sixToFour = netip.MustParsePrefix("2002::/16")

func within(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// ownAddress reports whether this machine has the address; it has when that cannot be told.
func ownAddress(a netip.Addr) bool {
	local, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, l := range local {
		if ipnet, ok := l.(*net.IPNet); ok {
			if la, ok := netip.AddrFromSlice(ipnet.IP); ok && la.Unmap() == a {
				return true
			}
		}
	}
	return false
}

package buildkit

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"

	"github.com/slipway-cd/slipway"
)

func testFence() fence {
	return fence{
		group: 1879048200,
		given: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5000"), netip.MustParseAddrPort("[fd00::9]:443")},
		resolvers: []netip.Addr{
			netip.MustParseAddr("127.0.0.53"),
		},
		deny:  []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd42::/48")},
		links: []string{"mybr"},
	}
}

func joined(rules [][]string) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = strings.Join(r, " ")
	}
	return out
}

func TestFenceRules(t *testing.T) {
	t.Parallel()
	f := testFence()
	n := network{Bridge: "slipbk00112233"}
	if got := strings.Join(f.jump(n), " "); got != "-m owner --gid-owner 1879048200 --suppl-groups -j SLIPBK00112233-OUT" {
		t.Errorf("jump %s", got)
	}
	v4, v6 := joined(f.rules("iptables")), joined(f.rules("ip6tables"))
	wantV4 := []string{
		"-d 127.0.0.1/32 -p tcp -m tcp --dport 5000 -j RETURN",
		"-p tcp -m conntrack --ctorigdst 127.0.0.1/32 --ctorigdstport 5000 -j RETURN",
		"-d 127.0.0.53/32 -p udp -m udp --dport 53 -j RETURN",
		"-p udp -m conntrack --ctorigdst 127.0.0.53/32 --ctorigdstport 53 -j RETURN",
		"-d 127.0.0.53/32 -p tcp -m tcp --dport 53 -j RETURN",
		"-p tcp -m conntrack --ctorigdst 127.0.0.53/32 --ctorigdstport 53 -j RETURN",
		"-p tcp -o lo -j REJECT --reject-with tcp-reset",
		"-o lo -j REJECT --reject-with icmp-admin-prohibited",
		"-p tcp -m conntrack --ctstate DNAT -j REJECT --reject-with tcp-reset",
	}
	if !slices.Equal(v4[:len(wantV4)], wantV4) {
		t.Errorf("IPv4\n%s", strings.Join(v4, "\n"))
	}
	for _, want := range []string{
		"-d 169.254.0.0/16 -j REJECT --reject-with icmp-admin-prohibited", "-d 10.42.0.0/16 -j REJECT --reject-with icmp-admin-prohibited",
		"-p tcp -d 10.42.0.0/16 -j REJECT --reject-with tcp-reset", "-o mybr -j REJECT --reject-with icmp-admin-prohibited",
		"-o slipbk+ -j REJECT --reject-with icmp-admin-prohibited",
	} {
		if !slices.Contains(v4, want) {
			t.Errorf("IPv4: no %q", want)
		}
	}
	if v6[0] != "-d fd00::9/128 -p tcp -m tcp --dport 443 -j RETURN" || v6[2] != "-p tcp -o lo -j REJECT --reject-with tcp-reset" {
		t.Errorf("IPv6\n%s", strings.Join(v6, "\n"))
	}
	for _, want := range []string{
		"-d fe80::/10 -j REJECT --reject-with icmp6-adm-prohibited", "-d fd42::/48 -j REJECT --reject-with icmp6-adm-prohibited",
		"-d 64:ff9b::a2a:0/112 -j REJECT --reject-with icmp6-adm-prohibited", "-d 64:ff9b::a9fe:0/112 -j REJECT --reject-with icmp6-adm-prohibited",
	} {
		if !slices.Contains(v6, want) {
			t.Errorf("IPv6: no %q in\n%s", want, strings.Join(v6, "\n"))
		}
	}
	// It lets through nothing by itself but what is given, and each family speaks of its own addresses only.
	for _, r := range append(slices.Clone(v4), v6...) {
		if strings.Contains(r, "ACCEPT") || (strings.HasSuffix(r, "RETURN") && !strings.Contains(r, "dport") && !strings.Contains(r, "ctorigdstport")) {
			t.Errorf("rule %q", r)
		}
	}
	if strings.Contains(strings.Join(v4, "\n"), "::") || slices.ContainsFunc(v6, func(r string) bool { return strings.Contains(r, "127.0.0") }) {
		t.Error("a rule of the other family")
	}
}

func TestFenceGroup(t *testing.T) {
	t.Parallel()
	a, b := fenceGroup("/data/a"), fenceGroup("/data/b")
	if a == b || a != fenceGroup("/data/a") || a < firstGroup || b >= firstGroup+groups {
		t.Errorf("groups %d and %d", a, b)
	}
}

func TestFenceEqual(t *testing.T) {
	t.Parallel()
	if !testFence().equal(testFence()) {
		t.Error("not equal to itself")
	}
	for i, change := range []func(*fence){
		func(f *fence) { f.group++ }, func(f *fence) { f.given = f.given[:1] }, func(f *fence) { f.resolvers = nil },
		func(f *fence) { f.deny = nil }, func(f *fence) { f.links = nil },
	} {
		f := testFence()
		change(&f)
		if f.equal(testFence()) {
			t.Errorf("change %d is not seen", i)
		}
	}
}

func TestFenceLeads(t *testing.T) {
	t.Parallel()
	const ours = "-A OUTPUT -m owner --gid-owner 1879048200 --suppl-groups -j SLIPBKA-OUT\n"
	const other = "-A OUTPUT -m owner --gid-owner 1879048201 --suppl-groups -j SLIPBKB-OUT\n"
	for list, want := range map[string]bool{
		"-P OUTPUT ACCEPT\n" + ours + "-A OUTPUT -j ACCEPT\n": true,
		other + ours:                          true,
		"-A OUTPUT -o lo -j ACCEPT\n" + ours:  false,
		"-P OUTPUT ACCEPT\n" + other:          false,
		"-A OUTPUT -j KUBE-FIREWALL\n" + ours: false,
	} {
		if got := fenceLeads(list, "SLIPBKA-OUT"); got != want {
			t.Errorf("%v for\n%s", got, list)
		}
	}
	if got := jumps("-P OUTPUT ACCEPT\n"+other+ours+ours, "SLIPBKA-OUT"); len(got) != 2 || "-A "+got[0]+"\n" != ours {
		t.Errorf("jumps %q", got)
	}
}

func TestHostPort(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"http://127.0.0.1:5000": "127.0.0.1:5000", "https://registry.example": "registry.example:443", "http://registry.example/x": "registry.example:80",
		"https://[fd00::1]:8443/": "[fd00::1]:8443", "http://user:secret@proxy:3128": "proxy:3128", "": "", "://": "", "registry.example": "", "unix:///x": "",
	} {
		if got := hostPort(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func TestDeniedAddress(t *testing.T) {
	t.Parallel()
	denied := deniedAddress([]netip.Prefix{netip.MustParsePrefix("10.42.0.0/16")})
	for _, s := range []string{
		"127.0.0.1", "127.9.9.9", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0", "::1%lo", "224.0.0.1",
		"fd00:ec2::254", "168.63.129.16", "100.100.100.200", "10.42.1.1", "::ffff:10.42.1.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a2a:101::1",
	} {
		if !denied(netip.MustParseAddr(s)) {
			t.Errorf("%s is let through", s)
		}
	}
	for _, s := range []string{"203.0.113.1", "2001:db8::1", "::ffff:203.0.113.1", "64:ff9b::cb00:7101", "10.43.0.1"} {
		if denied(netip.MustParseAddr(s)) {
			t.Errorf("%s is denied", s)
		}
	}
}

// Spellings of addresses of this machine that a parser may overlook.
func TestPolicyOfSpellings(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, nil)
	for _, id := range []string{
		"http://localhost./x", "http://LOCALHOST/x", "http://127.0.0.1./x", "http://2130706433/x", "http://0x7f000001/x", "http://0177.0.0.1/x", "http://127.1/x",
		"http://docker.io@127.0.0.1/x", "http://docker.io:80@[::1]:8080/x", "http://[::ffff:7f00:1]/x", "http://[fe80::1%25eth0]/x", "http:///x",
		"docker-image://[::1]:8080/a:1", "docker-image://[::ffff:127.0.0.1]:8080/a:1", "docker-image://LOCALHOST:5000/a:1", "docker-image://127.1:5000/a:1",
		"docker-image+blob://docker.io/a@sha256:" + strings.Repeat("ab", 32), "HTTP://docker.io/x", "ftp://docker.io/x", "oci-layout://x", "nothing",
		"https://nowhere.example/x", "docker-image://nowhere.example/a:1",
	} {
		d, _, err := p.check(t.Context(), &policysession.CheckPolicyRequest{Source: &gwpb.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: id}}})
		if err != nil || d.Action != spb.PolicyAction_DENY || len(d.DenyMessages) != 1 {
			t.Errorf("%s: %v %v", id, d, err)
		}
	}
	for _, full := range []string{
		"https://docker.io@127.0.0.1/r.git", "http://2130706433/r.git", "ssh://git@[::1]:22/r.git", "git@127.0.0.1:r.git", "git@localhost:r.git", "file:///etc", "/etc", "ext::sh -c true",
		"https://nowhere.example/r.git", "HTTPS://127.0.0.1/r.git",
	} {
		if d := ask(t, p, "git://x", map[string]string{pb.AttrFullRemoteURL: full}); d.Action != spb.PolicyAction_DENY {
			t.Errorf("%s: %v", full, d)
		}
	}
	for _, id := range []string{"http://docker.io./x", "https://docker.io/x", "docker-image://docker.io/a:1", "https://203.0.113.4:8443/x"} {
		if d := ask(t, p, id, nil); d.Action != spb.PolicyAction_ALLOW {
			t.Errorf("%s: %v", id, d)
		}
	}
	if d := ask(t, p, "https://user:hidden@nowhere.example/x", nil); strings.Contains(d.DenyMessages[0].Message, "hidden") {
		t.Errorf("a password in %v", d)
	}
}

// A resolver that does not answer is nobody's Dockerfile; behind a proxy only the proxy needs to know the name.
func TestPolicyWithoutAnswer(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, nil)
	request := func(id string) *policysession.CheckPolicyRequest {
		return &policysession.CheckPolicyRequest{Source: &gwpb.ResolveSourceMetaResponse{Source: &pb.SourceOp{Identifier: id}}}
	}
	for _, id := range []string{"https://slow.example/x", "docker-image://slow.example/a:1"} {
		d, _, err := p.check(t.Context(), request(id))
		if d != nil || !slipway.Temporary(surroundings(err)) || !strings.Contains(err.Error(), "slow.example") {
			t.Errorf("%s: %v %v", id, d, err)
		}
	}
	p.env = func(name string) string {
		return map[string]string{"https_proxy": "http://proxy.example:3128", "NO_PROXY": "inside.example"}[name]
	}
	for id, want := range map[string]spb.PolicyAction{
		"https://slow.example/x": spb.PolicyAction_ALLOW, "https://nowhere.example/x": spb.PolicyAction_ALLOW, "https://127.0.0.1/x": spb.PolicyAction_DENY,
		"https://inside.example/x": spb.PolicyAction_DENY, "http://nowhere.example/x": spb.PolicyAction_DENY,
	} {
		if d, _, err := p.check(t.Context(), request(id)); err != nil || d.Action != want {
			t.Errorf("%s: %v %v", id, d, err)
		}
	}
	if got := proxyHosts(p.env); !slices.Equal(got, []string{"proxy.example:3128"}) {
		t.Errorf("proxies %q", got)
	}
}

// Without a fence, code that nobody reviewed has nothing fetched but images.
func TestPolicyWithoutFence(t *testing.T) {
	t.Parallel()
	e := &Engine{opts: Options{Credentials: func(context.Context, string, string) (string, string) { return "", "" }}}
	for _, c := range []struct {
		fenced, shared bool
		trust          slipway.Trust
		confined       bool
	}{
		{false, false, slipway.TrustBranch, true}, {false, false, "", true}, {false, false, slipway.TrustReviewed, false},
		{true, false, slipway.TrustBranch, false}, {false, true, slipway.TrustBranch, false},
	} {
		e.opts.AllowShared = c.shared
		p, err := e.policy(&link{fenced: c.fenced}, job{project: "shop", trust: c.trust}, &lines{})
		if err != nil || p.confined != c.confined {
			t.Errorf("%+v: %v", c, err)
		}
	}
	p := testPolicy(t, nil)
	p.confined = true
	for id, want := range map[string]spb.PolicyAction{
		"https://docker.io/x": spb.PolicyAction_DENY, "git://github.com/a/b": spb.PolicyAction_DENY, "docker-image://docker.io/a:1": spb.PolicyAction_ALLOW,
		"local://context": spb.PolicyAction_ALLOW,
	} {
		if d := ask(t, p, id, nil); d.Action != want {
			t.Errorf("%s: %v", id, d)
		}
	}
}

// What Slipway itself asks about a source does not lead to this machine either, but where it is told to go.
func TestPolicyLeads(t *testing.T) {
	t.Parallel()
	asked := false
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(target.Close)
	mirror := httptest.NewServer(http.RedirectHandler(target.URL+"/secret", http.StatusFound))
	t.Cleanup(mirror.Close)
	p := testPolicy(t, nil, Mirror{Registry: "docker.io", Address: mirror.URL})
	p.fetched = []fetched{{what: "the source", ask: mustURL(t, mirror.URL)}}
	host, _, err := net.SplitHostPort(strings.TrimPrefix(target.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.leads(t.Context()), "source the source leads to "+host+", "+notReached; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := p.missing(t.Context(), strings.TrimPrefix(mirror.URL, "http://")+"/a:1"); !strings.Contains(got, "its registry leads to "+host) {
		t.Errorf("registry: %q", got)
	}
	if asked {
		t.Error("it was asked")
	}
	p.fetched = nil
	if got := p.leads(t.Context()); got != "" {
		t.Errorf("nothing leads to %q", got)
	}
}

func mustURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestVerticesThatFetch(t *testing.T) {
	t.Parallel()
	for vertex, want := range map[string][2]bool{ // adds, fetches
		"[2/2] ADD https://a.example/x /x":             {true, true},
		"[2/2] ADD --chmod=755 http://a.example/x /x":  {true, true},
		"[2/2] ADD git@github.com:a/b.git /x":          {true, true},
		"[2/2] ADD file /x":                            {false, false},
		"[1/2] FROM docker.io/library/busybox:1.36":    {false, true},
		"[2/2] RUN curl https://a.example":             {false, false},
		"[internal] load metadata for docker.io/a:1":   {false, true},
		"exporting to image":                           {false, true},
		"[internal] load build definition from ADD":    {false, false},
		"https://a.example/x":                          {false, false},
		"[build 3/5] COPY --from=b.example/c:1 /x /y ": {false, false},
	} {
		if adds(vertex) != want[0] || fetches(vertex) != want[1] {
			t.Errorf("%s: adds %v, fetches %v", vertex, adds(vertex), fetches(vertex))
		}
	}
}

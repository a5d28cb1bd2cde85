package buildkit

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/slipway-cd/slipway/stage"
)

// policy answers BuildKit's question, for each source of a build, where it may come from: base images
// are pinned and taken from mirrors, and nothing is fetched from this machine or its private links,
// because the daemon fetches from the machine's own network (D20). One is made per build.
type policy struct {
	pins    map[string]string // normalised reference without digest -> digest
	mirrors []Mirror
	auth    func(ctx context.Context, host string) authn.Authenticator
	denied  func(netip.Addr) bool
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error)
	log     stage.Log

	mu     sync.Mutex
	mirror map[string]string // reference -> reference at a mirror, "" for none

	project string
	finds   *finds // those of earlier builds; may be nil
}

// finds remembers for a minute which mirror has an image, by project: the steps of a run ask for the same
// base images, and a question takes as long as a cached build step. That none has it is asked again.
type finds struct {
	now func() time.Time

	mu   sync.Mutex
	refs map[string]find
}

type find struct {
	at    string
	until time.Time
}

const (
	findAge  = time.Minute
	maxFinds = 1000
)

func (f *finds) get(project string, named reference.Named) string {
	if f == nil {
		return ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if found := f.refs[project+" "+named.String()]; f.now().Before(found.until) {
		return found.at
	}
	return ""
}

func (f *finds) put(project string, named reference.Named, at string) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refs == nil || len(f.refs) >= maxFinds {
		f.refs = map[string]find{}
	}
	f.refs[project+" "+named.String()] = find{at: at, until: f.now().Add(findAge)}
}

// normalisePins reads the pins of a plan, whose references are as people write them.
func normalisePins(pins map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for ref, dgst := range pins {
		named, err := reference.ParseNormalizedNamed(ref)
		if err != nil {
			return nil, fmt.Errorf("pinned image %q: %w", ref, err)
		}
		if _, err := reference.ParseNormalizedNamed("x@" + dgst); err != nil {
			return nil, fmt.Errorf("pinned image %q: digest %q: %w", ref, dgst, err)
		}
		out[reference.TagNameOnly(named).String()] = dgst
	}
	return out, nil
}

// check is policysession.PolicyCallback.
func (p *policy) check(ctx context.Context, req *policysession.CheckPolicyRequest) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest, error) {
	src := req.GetSource().GetSource()
	scheme, rest, _ := strings.Cut(src.GetIdentifier(), "://")
	switch scheme {
	case "docker-image":
		return p.image(ctx, src, rest)
	case "http", "https":
		u, err := url.Parse(src.GetIdentifier())
		if err != nil {
			return deny("source %q is not a URL", src.GetIdentifier()), nil, nil
		}
		return p.remoteHost(ctx, u.Hostname(), src.GetIdentifier()), nil, nil
	case "git":
		return p.git(ctx, src), nil, nil
	}
	return allow(), nil, nil
}

func (p *policy) image(ctx context.Context, src *pb.SourceOp, id string) (*policysession.DecisionResponse, *gwpb.ResolveSourceMetaRequest, error) {
	named, err := reference.ParseNormalizedNamed(id)
	if err != nil {
		return deny("base image %q is not a reference", id), nil, nil
	}
	if p.isMirror(reference.Domain(named)) {
		return allow(), nil, nil
	}
	want := p.pinned(named)
	target, err := p.mirrored(ctx, want)
	if err != nil {
		return nil, nil, err
	}
	if target == "" {
		target = want.String()
		if only := p.only(reference.Domain(named)); only != "" {
			return deny("image %s is not in the registry %s", want, only), nil, nil
		}
		host, _, _ := strings.Cut(reference.Domain(named), ":")
		if d := p.remoteHost(ctx, host, want.String()); d.Action != spb.PolicyAction_ALLOW {
			return d, nil, nil
		}
	}
	if target == named.String() {
		return allow(), nil, nil
	}
	return &policysession.DecisionResponse{
		Action: spb.PolicyAction_CONVERT,
		Update: &pb.SourceOp{Identifier: "docker-image://" + target, Attrs: src.GetAttrs()},
	}, nil, nil
}

// pinned is the reference with the digest that the plan pins it to.
func (p *policy) pinned(named reference.Named) reference.Named {
	key := reference.TrimNamed(named).String()
	if t, ok := named.(reference.Tagged); ok {
		key += ":" + t.Tag()
	} else if _, ok := named.(reference.Digested); !ok {
		key = reference.TagNameOnly(named).String()
	}
	dgst, ok := p.pins[key]
	if !ok {
		return named
	}
	out, err := reference.ParseNormalizedNamed(key + "@" + dgst)
	if err != nil {
		return named
	}
	return out
}

// mirrored is the reference at the mirror that has the image, "" when none has.
func (p *policy) mirrored(ctx context.Context, named reference.Named) (string, error) {
	p.mu.Lock()
	known, ok := p.mirror[named.String()]
	p.mu.Unlock()
	if ok {
		return known, nil
	}
	found := p.finds.get(p.project, named)
	if found == "" {
		var err error
		if found, err = p.find(ctx, named); err != nil {
			return "", err
		}
		if found != "" {
			p.finds.put(p.project, named, found)
		}
	}
	if found != "" {
		p.log.Printf("%s is taken from the mirror %s", named, found)
	}
	p.mu.Lock()
	p.mirror[named.String()] = found
	p.mu.Unlock()
	return found, nil
}

// find asks the mirrors.
func (p *policy) find(ctx context.Context, named reference.Named) (string, error) {
	for _, m := range p.mirrors {
		if m.Registry != reference.Domain(named) {
			continue
		}
		at := mirrorRef(m, named)
		has, err := p.has(ctx, m, at)
		if err != nil {
			return "", status.Errorf(codes.Unavailable, "mirror %s of %s: %v", m.Address, m.Registry, err)
		}
		if has {
			return at, nil
		}
	}
	return "", nil
}

func mirrorRef(m Mirror, named reference.Named) string {
	_, host := splitAddress(m.Address)
	repo := reference.Path(named)
	if m.Prefix != "" {
		repo = strings.Trim(m.Prefix, "/") + "/" + repo
	}
	ref := host + "/" + repo
	if t, ok := named.(reference.Tagged); ok {
		ref += ":" + t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		ref += "@" + d.Digest().String()
	}
	return ref
}

func (p *policy) has(ctx context.Context, m Mirror, at string) (bool, error) {
	insecure, host := splitAddress(m.Address)
	opts := []name.Option{}
	if insecure {
		opts = append(opts, name.Insecure)
	}
	ref, err := name.ParseReference(at, opts...)
	if err != nil {
		return false, err
	}
	_, err = remote.Head(ref, remote.WithContext(ctx), remote.WithAuth(p.auth(ctx, host)))
	if code := statusOf(err); code == http.StatusNotFound || code == http.StatusForbidden || code == http.StatusUnauthorized {
		return false, nil
	}
	return err == nil, err
}

func statusOf(err error) int {
	var te *transport.Error
	if asError(err, &te) {
		return te.StatusCode
	}
	return 0
}

func (p *policy) isMirror(domain string) bool {
	for _, m := range p.mirrors {
		if _, host := splitAddress(m.Address); host == domain {
			return true
		}
	}
	return false
}

// only is the address of the mirror that stands for the registry completely, "" for none.
func (p *policy) only(domain string) string {
	for _, m := range p.mirrors {
		if m.Registry == domain && m.Only {
			return m.Registry
		}
	}
	return ""
}

func (p *policy) git(ctx context.Context, src *pb.SourceOp) *policysession.DecisionResponse {
	full := src.GetAttrs()[pb.AttrFullRemoteURL]
	if full == "" {
		full = src.GetIdentifier()
	}
	host := ""
	if u, err := url.Parse(full); err == nil {
		host = u.Hostname()
	}
	if host == "" { // user@host:path
		_, host, _ = strings.Cut(full, "@")
		host, _, _ = strings.Cut(host, ":")
	}
	if host == "" {
		return deny("git source %q names no host", full)
	}
	return p.remoteHost(ctx, host, full)
}

// remoteHost denies what lives at an address of this machine. A name that does not resolve is allowed:
// the fetch says why it fails.
func (p *policy) remoteHost(ctx context.Context, host, what string) *policysession.DecisionResponse {
	addrs, err := p.lookup(ctx, host)
	if err != nil {
		return allow()
	}
	for _, a := range addrs {
		if p.denied(a.Unmap()) {
			return deny("source %s is at %s, an address of the machine that builds or of its private networks: builds may not reach it", what, a)
		}
	}
	return allow()
}

func allow() *policysession.DecisionResponse {
	return &policysession.DecisionResponse{Action: spb.PolicyAction_ALLOW}
}

func deny(format string, args ...any) *policysession.DecisionResponse {
	return &policysession.DecisionResponse{
		Action:       spb.PolicyAction_DENY,
		DenyMessages: []*policysession.DenyMessage{{Message: fmt.Sprintf(format, args...)}},
	}
}

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{a}, nil
	}
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// deniedAddress says which addresses a build's sources may not have: those of this machine, loopback,
// link-local (metadata services of clouds among them) and the networks that are denied to builds.
func deniedAddress(nets []netip.Prefix) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		if a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
			return true
		}
		for _, n := range nets {
			if n.Contains(a) {
				return true
			}
		}
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
}

// splitAddress reads a registry's address: whether it is plain http, and its host:port.
func splitAddress(address string) (insecure bool, host string) {
	if h, ok := strings.CutPrefix(address, "http://"); ok {
		return true, strings.TrimRight(h, "/")
	}
	return false, strings.TrimRight(strings.TrimPrefix(address, "https://"), "/")
}

package buildkit

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	gwpb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/moby/buildkit/util/gitutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/slipway-cd/slipway/stage"
)

// policy answers BuildKit's question, for each source of a build, where it may come from: base images
// are pinned and taken from mirrors, and nothing is fetched from this machine or its private links,
// because the daemon fetches from the machine's own network (D20). One is made per build.
type policy struct {
	pins     map[string]string // normalised reference without digest -> digest
	mirrors  []Mirror
	creds    *credentials
	confined bool // code that nobody reviewed, and what is fetched for it is not fenced
	denied   func(netip.Addr) bool
	env      func(string) string // for proxies; may be nil
	lookup   func(ctx context.Context, host string) ([]netip.Addr, error)
	log      stage.Log

	mu      sync.Mutex
	mirror  map[string]string // reference -> reference at a mirror, "" for none
	fetched []fetched         // what was let through

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
	case "local":
		return allow(), nil, nil
	case "docker-image":
		return p.image(ctx, src, rest)
	case "http", "https":
		u, err := url.Parse(src.GetIdentifier())
		if err != nil {
			return deny("source %q is not a URL", redacted(src.GetIdentifier())), nil, nil
		}
		d, err := p.fetch(ctx, u, redacted(src.GetIdentifier()))
		return d, nil, err
	case "git":
		d, err := p.git(ctx, src)
		return d, nil, err
	}
	return deny("source %q is of a kind that builds may not have", redacted(src.GetIdentifier())), nil, nil
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
		d, err := p.remoteHost(ctx, &url.URL{Scheme: "https", Host: registryName(reference.Domain(named))}, want.String())
		if err != nil || d.Action != spb.PolicyAction_ALLOW {
			return d, nil, err
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
	_, err = remote.Head(ref, remote.WithContext(ctx), remote.WithAuth(p.creds.registryAuth(ctx, host)))
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

// registryName is the host that the daemon asks for images of a domain.
func registryName(domain string) string {
	if domain == "docker.io" {
		return "registry-1.docker.io"
	}
	return domain
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

func (p *policy) git(ctx context.Context, src *pb.SourceOp) (*policysession.DecisionResponse, error) {
	full := src.GetAttrs()[pb.AttrFullRemoteURL]
	if full == "" {
		full = src.GetIdentifier()
	}
	u, err := gitutil.ParseURL(full)
	if err != nil || u.Host == "" {
		return deny("git source %q names no host", redacted(full)), nil
	}
	ask := &url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host}
	ask = ask.JoinPath(u.Path, "info/refs")
	ask.RawQuery = "service=git-upload-pack"
	return p.fetch(ctx, ask, redacted(full))
}

// fetched is a source that the daemon fetches, and what to ask for to see where it leads.
type fetched struct {
	what string
	ask  *url.URL
}

// fetch decides about what a build adds from elsewhere.
func (p *policy) fetch(ctx context.Context, u *url.URL, what string) (*policysession.DecisionResponse, error) {
	if p.confined {
		return deny("%s: builds of branches may not ADD from a URL or a git repository with this BuildKit, whose own requests Slipway cannot keep from the network around it: "+
			"fetch it in a RUN step, or let Slipway use its own BuildKit", what), nil
	}
	d, err := p.remoteHost(ctx, u, what)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil && d.Action == spb.PolicyAction_ALLOW && len(p.fetched) < maxFetched {
		p.fetched = append(p.fetched, fetched{what, u})
	}
	return d, err
}

// maxFetched bounds how many sources are asked again after a failure.
const maxFetched = 8

func allow() *policysession.DecisionResponse {
	return &policysession.DecisionResponse{Action: spb.PolicyAction_ALLOW}
}

func deny(format string, args ...any) *policysession.DecisionResponse {
	return &policysession.DecisionResponse{
		Action:       spb.PolicyAction_DENY,
		DenyMessages: []*policysession.DenyMessage{{Message: fmt.Sprintf(format, args...)}},
	}
}

// splitAddress reads a registry's address: whether it is plain http, and its host:port.
func splitAddress(address string) (insecure bool, host string) {
	if h, ok := strings.CutPrefix(address, "http://"); ok {
		return true, strings.TrimRight(h, "/")
	}
	return false, strings.TrimRight(strings.TrimPrefix(address, "https://"), "/")
}

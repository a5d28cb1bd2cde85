// Package oci speaks to OCI registries, the embedded one or any other: it resolves and writes tags,
// copies by digest together with what refers to a digest, and pushes and pulls charts, base images and
// attached artifacts. References keep the registry's stable host name (D18); only the transport goes
// to its address.
//
// It holds no policy: which tag may be written when is decided by the stages, and by the embedded
// registry itself. It does not build, sign or verify signatures.
package oci

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
)

// Credentials returns the user name and secret for a registry, by its stable host name; both empty
// for none. It is called once per operation and concurrently.
type Credentials func(ctx context.Context, host string) (user, secret string, err error)

// Options are what may be left out.
type Options struct {
	// Transport carries the requests; default: one with bounded waiting for connections and answers.
	Transport http.RoundTripper
	// Addresses are the URLs at which registries are reached, by their stable host names (D18). They
	// come before what a reference says: a plan may be older than the address.
	Addresses map[string]string
	// RetryDelay is the wait before the second of three attempts at a request that met temporary
	// trouble; it doubles. Default 200 ms.
	RetryDelay time.Duration
}

// Client is a client of any number of registries. It is safe for concurrent use and keeps nothing but
// connections.
type Client struct {
	credentials Credentials
	transport   http.RoundTripper
	addresses   map[string]string
	delay       time.Duration
	turns       turns
}

// New makes a client. No credentials function means anonymous access everywhere.
func New(credentials Credentials, opts Options) *Client {
	c := &Client{credentials: credentials, transport: opts.Transport, addresses: opts.Addresses, delay: opts.RetryDelay, turns: newTurns()}
	if c.transport == nil {
		c.transport = defaultTransport()
	}
	c.transport = onlyTLS{allPages{c.transport}}
	if c.delay <= 0 {
		c.delay = 200 * time.Millisecond
	}
	return c
}

func defaultTransport() http.RoundTripper {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          32,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		ExpectContinueTimeout: time.Second,
	}
}

// onlyTLS refuses plain HTTP to anything but this machine: ggcr would try it for private addresses.
type onlyTLS struct{ next http.RoundTripper }

func (t onlyTLS) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !loopback(req.URL.Hostname()) {
		return nil, fmt.Errorf("%s: plain HTTP is used on this machine only", req.URL.Host)
	}
	return t.next.RoundTrip(req)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// remoteRepo is a repository with the way to it.
type remoteRepo struct {
	slipway.Repository
	name    name.Repository
	options []remote.Option
}

var digestExpr = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (c *Client) open(ctx context.Context, repo slipway.Repository) (remoteRepo, error) {
	if address, ok := c.addresses[repo.Registry.Host]; ok {
		repo.Registry.Address = address
	}
	authority, plain, err := authority(repo.Registry)
	if err != nil {
		return remoteRepo{}, err
	}
	opts := []name.Option{name.StrictValidation}
	if plain {
		opts = append(opts, name.Insecure)
	}
	n, err := name.NewRepository(authority+"/"+repo.Name, opts...)
	if err != nil {
		return remoteRepo{}, slipway.Errorf(slipway.Invalid, "%s is not the name of a repository", repo.Ref())
	}
	auth := authn.Anonymous
	if c.credentials != nil {
		user, secret, err := c.credentials(ctx, repo.Registry.Host)
		if err != nil {
			return remoteRepo{}, fmt.Errorf("credentials for registry %s: %w", repo.Registry.Host, err)
		}
		if user != "" || secret != "" {
			auth = authn.FromConfig(authn.AuthConfig{Username: user, Password: secret})
		}
	}
	return remoteRepo{Repository: repo, name: n, options: []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuth(auth),
		remote.WithTransport(c.transport),
		remote.WithUserAgent("slipway"),
		remote.WithRetryBackoff(remote.Backoff{Duration: c.delay, Factor: 2, Jitter: 0.1, Steps: 3}),
	}}, nil
}

// openAt opens a repository for what it has under a digest.
func (c *Client) openAt(ctx context.Context, repo slipway.Repository, digest string) (remoteRepo, name.Digest, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return remoteRepo{}, name.Digest{}, err
	}
	ref, err := r.digest(digest)
	return r, ref, err
}

// authority returns host and port of a registry and whether it is reached by plain HTTP.
func authority(r slipway.Registry) (string, bool, error) {
	if r.Address == "" {
		if r.Host == "" {
			return "", false, slipway.Errorf(slipway.Invalid, "a registry has no host name; set one in slipway.yaml")
		}
		return r.Host, false, nil
	}
	u, err := url.Parse(r.Address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || (u.Path != "" && u.Path != "/") {
		return "", false, slipway.Errorf(slipway.Invalid, "registry %s: its address must be a URL of scheme, host and port only, such as https://registry.example.com:5000", r.Host)
	}
	switch {
	case u.Scheme == "https":
		return u.Host, false, nil
	case u.Scheme == "http" && loopback(u.Hostname()):
		return u.Host, true, nil
	}
	return "", false, slipway.Errorf(slipway.Invalid, "registry %s: address %s: must be https; plain http is used on this machine (loopback) only", r.Host, r.Address)
}

func (r remoteRepo) digest(digest string) (name.Digest, error) {
	if !digestExpr.MatchString(digest) {
		return name.Digest{}, slipway.Errorf(slipway.Invalid, "%s: %q is not a sha256 digest", r.Ref(), digest)
	}
	return r.name.Digest(digest), nil
}

func (r remoteRepo) tag(tag string) (name.Tag, error) {
	t, err := name.NewTag(r.name.Name()+":"+tag, name.StrictValidation)
	if err != nil || t.TagStr() != tag {
		return name.Tag{}, slipway.Errorf(slipway.Invalid, "%s: %q is not a tag", r.Ref(), tag)
	}
	return r.name.Tag(tag), nil
}

// Resolve returns the digest that a tag names now; NotFound when there is no such tag or repository.
func (c *Client) Resolve(ctx context.Context, repo slipway.Repository, tag string) (string, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return "", err
	}
	t, err := r.tag(tag)
	if err != nil {
		return "", err
	}
	d, err := remote.Head(t, r.options...)
	if err != nil {
		return "", r.translate(ctx, "look up "+repo.Ref()+":"+tag, err)
	}
	return d.Digest.String(), nil
}

// Head reports whether the repository has a manifest of that digest, by its size; NotFound when not.
func (c *Client) Head(ctx context.Context, repo slipway.Repository, digest string) (int64, error) {
	r, ref, err := c.openAt(ctx, repo, digest)
	if err != nil {
		return 0, err
	}
	d, err := remote.Head(ref, r.options...)
	if err != nil {
		return 0, r.translate(ctx, "look up "+repo.Ref()+"@"+digest, err)
	}
	return d.Size, nil
}

// Intact reads the manifest of a digest and compares the two: Conflict when it is another one, NotFound when there is
// none.
func (c *Client) Intact(ctx context.Context, repo slipway.Repository, digest string) error {
	r, err := c.open(ctx, repo)
	if err != nil {
		return err
	}
	ref, err := r.digest(digest)
	if err != nil {
		return err
	}
	_, err = remote.Get(ref, r.options...)
	err = r.translate(ctx, "look up "+repo.Ref()+"@"+digest, err)
	var known *slipway.Error
	if err == nil || errors.As(err, &known) || ctx.Err() != nil {
		return err
	}
	return slipway.Errorf(slipway.Conflict, "the manifest that %s has as %s is not the one of that digest", repo.Ref(), digest)
}

// Tag gives a manifest of the repository a tag. The same digest again succeeds; a tag that names another
// one is left alone: Conflict. OCI has no conditional write, so two clients at once are kept apart only
// by registries that refuse to move tags, as the embedded one does.
func (c *Client) Tag(ctx context.Context, repo slipway.Repository, digest, tag string) error {
	there, err := c.Resolve(ctx, repo, tag)
	switch {
	case slipway.ErrorCode(err) == slipway.NotFound:
	case err != nil:
		return err
	case there == digest:
		return nil
	default:
		return conflict(repo, tag, there, digest)
	}
	r, ref, err := c.openAt(ctx, repo, digest)
	if err != nil {
		return err
	}
	t, err := r.tag(tag)
	if err != nil {
		return err
	}
	doing := fmt.Sprintf("tag %s@%s as %s", repo.Ref(), digest, tag)
	desc, err := remote.Get(ref, r.options...)
	if err != nil {
		return r.translate(ctx, doing, err)
	}
	return r.translate(ctx, doing, remote.Tag(t, desc, r.options...))
}

func conflict(repo slipway.Repository, tag, there, wanted string) error {
	return slipway.Errorf(slipway.Conflict, "%s:%s is %s already and is not moved to %s: use another version", repo.Ref(), tag, there, wanted)
}

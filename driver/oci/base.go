package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-cd/slipway"
)

const (
	maxCandidates = 32 // images that a build took
	baseTime      = 3 * time.Second
	baseMemory    = 5 * time.Minute
)

// Mirror is a place to take another registry's images from.
type Mirror struct {
	Registry string             // as references name it: docker.io
	At       slipway.Repository // its name is put before the repository: mirror/docker.io
}

// BasesOptions are what may be left out.
type BasesOptions struct {
	// Mirrors are asked before the registries they stand for.
	Mirrors []Mirror
	// Timeout bounds the search for the base of one image; default 3 seconds.
	Timeout time.Duration
	// Remember is how long what could not be read is not asked for again; default 5 minutes.
	Remember time.Duration
	Now      func() time.Time
}

// Bases finds what images were built from. It is safe for concurrent use.
type Bases struct {
	client *Client
	opts   BasesOptions

	mu   sync.Mutex
	gone map[string]gone // by registry, or by name and digest
}

// gone is why something could not be read.
type gone struct {
	until time.Time
	why   string
}

// Base is an image that another one was built from.
type Base struct {
	Name       string             // as the build named it, without its tag: docker.io/library/debian
	Repository slipway.Repository // where it is read from: a mirror, or its registry
	Digest     string             // of the image for the platform of the one that was built
}

// NewBases makes a search that reads with the client.
func NewBases(client *Client, opts BasesOptions) *Bases {
	if opts.Timeout <= 0 {
		opts.Timeout = baseTime
	}
	if opts.Remember <= 0 {
		opts.Remember = baseMemory
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Bases{client: client, opts: opts, gone: map[string]gone{}}
}

// Of is the image that an image was built from: of those that the record of its build names, the one whose
// layers the image begins with, the longest first; of several stages, that is the base of the last. record is
// the digest of the builder's record beside the image. The zero Base is of an image that was built from none of
// them, or of which there is no record. An error says which of them could not be read, when that may have
// been the base; it is answered from memory for a while.
func (b *Bases) Of(ctx context.Context, repo slipway.Repository, image, record string) (Base, error) {
	if record == "" {
		return Base{}, nil
	}
	built, err := b.client.shape(ctx, repo, image, v1.Platform{})
	if err != nil {
		return Base{}, err
	}
	taken, err := b.client.taken(ctx, repo, record)
	if err != nil {
		return Base{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
	defer cancel()
	for i, m := range taken {
		taken[i] = b.named(m)
	}
	found, problems := make([]shape, len(taken)), make([]error, len(taken))
	var wg sync.WaitGroup
	for i, m := range taken {
		wg.Go(func() { found[i], problems[i] = b.read(ctx, m, built.platform) })
	}
	wg.Wait()
	longest, at := 0, -1
	for i, f := range found {
		if n := len(f.layers); n > longest && f.base.Digest != image && n <= len(built.layers) && slices.Equal(built.layers[:n], f.layers) {
			longest, at = n, i
		}
	}
	if at >= 0 {
		return found[at].base, nil
	}
	return Base{}, unreadable(taken, problems)
}

// unreadable says which of the images that a build took could not be read.
func unreadable(taken []material, problems []error) error {
	var names []string
	var first error
	for i, err := range problems {
		if err != nil {
			names, first = append(names, taken[i].name), cmp.Or(first, err)
		}
	}
	switch len(names) {
	case 0:
		return nil
	case 1:
		return slipway.Errorf(slipway.Unavailable, "the base image %s could not be read: %v", names[0], first)
	}
	return slipway.Errorf(slipway.Unavailable, "the base image, one of %s, could not be read: %v", strings.Join(names, ", "), first)
}

// shape is what an image is compared by.
type shape struct {
	base     Base
	platform v1.Platform
	layers   []v1.Hash // unpacked, as the same layer may be packed twice
}

// read looks for an image that a build took in the mirrors of its registry, then in that.
func (b *Bases) read(ctx context.Context, m material, platform v1.Platform) (shape, error) {
	key := m.name + "@" + m.digest
	if why := b.remembered(key); why != "" {
		return shape{}, errors.New(why)
	}
	var errs []error
	for _, repo := range b.places(m) {
		if why := b.remembered(repo.Registry.Host); why != "" {
			errs = append(errs, errors.New(why))
			continue
		}
		s, err := b.client.shape(ctx, repo, m.digest, platform)
		if err == nil {
			s.base.Name = m.name
			return s, nil
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = slipway.Errorf(slipway.Unavailable, "%s did not answer within %s", repo.Registry.Host, b.opts.Timeout)
		}
		if slipway.ErrorCode(err) == slipway.Unavailable {
			b.remember(repo.Registry.Host, err)
		}
		errs = append(errs, err)
	}
	err := joined(errs)
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		b.remember(key, err)
	}
	return shape{}, err
}

// joined are errors on one line.
func joined(errs []error) error {
	said := make([]string, len(errs))
	for i, err := range errs {
		said[i] = err.Error()
	}
	return errors.New(strings.Join(said, "; "))
}

// places are where an image may be, the best first.
func (b *Bases) places(m material) (out []slipway.Repository) {
	host, path, _ := strings.Cut(m.name, "/")
	for _, mirror := range b.opts.Mirrors {
		if mirror.Registry == host {
			at := mirror.At
			at.Name = strings.Trim(strings.Trim(at.Name, "/")+"/"+path, "/")
			out = append(out, at)
		}
	}
	r := slipway.Registry{Host: host}
	if bare, _, _ := strings.Cut(host, ":"); loopback(bare) {
		r.Address = "http://" + host
	}
	return append(out, slipway.Repository{Registry: r, Name: path})
}

func (b *Bases) remembered(key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	g, ok := b.gone[key]
	if ok && !b.opts.Now().Before(g.until) {
		delete(b.gone, key)
		return ""
	}
	return g.why
}

func (b *Bases) remember(key string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.opts.Now()
	for k, g := range b.gone {
		if !now.Before(g.until) {
			delete(b.gone, k)
		}
	}
	b.gone[key] = gone{now.Add(b.opts.Remember), err.Error()}
}

// named is the image of a material by the name that the build gave it: one that was taken from a mirror is
// that of the registry for which the mirror stands.
func (b *Bases) named(m material) material {
	host, path, _ := strings.Cut(m.name, "/")
	bare, _, _ := strings.Cut(host, ":")
	for _, mirror := range b.opts.Mirrors {
		_, address, _ := strings.Cut(mirror.At.Registry.Address, "://")
		embedded, _, _ := strings.Cut(address, ":")
		rest, below := strings.CutPrefix(path, strings.Trim(mirror.At.Name, "/")+"/")
		// the port of this machine's own registry may have been another one then
		if below && mirror.At.Name != "" && (host == address || loopback(bare) && loopback(embedded)) {
			m.name = mirror.Registry + "/" + rest
			return m
		}
	}
	return m
}

// shape reads what an image is compared by: of an index, that of the image for the platform.
func (c *Client) shape(ctx context.Context, repo slipway.Repository, digest string, platform v1.Platform) (shape, error) {
	r, ref, err := c.openAt(ctx, repo, digest)
	if err != nil {
		return shape{}, err
	}
	doing := "pull " + repo.Ref() + "@" + digest
	img, err := r.imageFor(ctx, ref, doing, platform)
	if err != nil {
		return shape{}, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return shape{}, r.translate(ctx, doing, err)
	}
	h, err := img.Digest()
	if err != nil {
		return shape{}, r.translate(ctx, doing, err)
	}
	out := shape{base: Base{Repository: repo, Digest: h.String()}, layers: config.RootFS.DiffIDs}
	out.platform = v1.Platform{OS: config.OS, Architecture: config.Architecture}
	if config.Architecture == "arm" { // of others, indexes leave the variant out as often as not
		out.platform.Variant = config.Variant
	}
	return out, nil
}

// material is an image that a build took.
type material struct{ name, digest string }

// taken are the images that the record of a build names.
func (c *Client) taken(ctx context.Context, repo slipway.Repository, record string) (out []material, err error) {
	at, err := c.PullArtifact(ctx, repo, record)
	if err != nil {
		return nil, fmt.Errorf("read the record of the build: %w", err)
	}
	type resource struct {
		URI    string            `json:"uri"`
		Digest map[string]string `json:"digest"`
	}
	var st struct {
		Predicate struct {
			Materials       []resource `json:"materials"` // SLSA v0.2
			BuildDefinition struct {
				ResolvedDependencies []resource `json:"resolvedDependencies"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal(at.Data, &st); err != nil {
		return nil, fmt.Errorf("read the record of the build: %w", err)
	}
	for _, m := range append(st.Predicate.Materials, st.Predicate.BuildDefinition.ResolvedDependencies...) {
		name, ok := dockerName(m.URI)
		it := material{name, "sha256:" + m.Digest["sha256"]}
		if ok && digestExpr.MatchString(it.digest) && !slices.Contains(out, it) && len(out) < maxCandidates {
			out = append(out, it)
		}
	}
	return out, nil
}

// dockerName reads pkg:docker/registry.example.com/mirror/debian@12?platform=linux%2Famd64 as
// registry.example.com/mirror/debian.
func dockerName(purl string) (string, bool) {
	name, ok := strings.CutPrefix(purl, "pkg:docker/")
	if !ok {
		return "", false
	}
	name, _, _ = strings.Cut(name, "?")
	name, _, _ = strings.Cut(name, "@")
	name, err := url.PathUnescape(name)
	if err != nil || name == "" {
		return "", false
	}
	host, rest, cut := strings.Cut(name, "/")
	if !cut || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		host, rest = "docker.io", name
		if !cut {
			rest = "library/" + name
		}
	}
	return host + "/" + rest, rest != ""
}

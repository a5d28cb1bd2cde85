package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Retag gives the manifest from@digest the name to:tag (by digest only when tag is empty), with
// everything it needs and everything that refers to it: provenance, SBOM, signatures. It is the only way
// into the production namespace. Blobs are linked, not copied. The tag is written last; repeating an
// interrupted Retag finishes it, and repeating a finished one adds what has come to refer to the digest.
// Errors: NotFound when from has no such manifest, Conflict when to:tag is another digest, Unavailable
// when the disk is full or the registry is closed.
func (r *Registry) Retag(ctx context.Context, from, digest, to, tag string) error {
	if !r.enter() {
		return slipway.Errorf(slipway.Unavailable, "retag %s to %s:%s: the registry is stopping", from, to, tag)
	}
	defer r.leave()
	err := r.retag(ctx, from, digest, to, tag)
	if err == nil {
		return nil
	}
	var f *fault
	if !errors.As(err, &f) {
		f = diskFault(err)
	}
	return fmt.Errorf("retag %s@%s to %s:%s: %w", from, digest, to, tag, f.slipwayError())
}

// Copy is Retag with the nouns of a plan.
func (r *Registry) Copy(ctx context.Context, from slipway.Repository, digest string, to slipway.Repository, tag string) error {
	return r.Retag(ctx, from.Name, digest, to.Name, tag)
}

// Resolve returns the digest of a tag; NotFound when there is none.
func (r *Registry) Resolve(ctx context.Context, repo slipway.Repository, tag string) (string, error) {
	if !r.enter() {
		return "", slipway.Errorf(slipway.Unavailable, "look up %s:%s: the registry is stopping", repo.Ref(), tag)
	}
	defer r.leave()
	if checkRepository(repo.Name) != nil || checkTag(tag) != nil {
		return "", slipway.Errorf(slipway.Invalid, "%s:%s is not a valid image reference", repo.Ref(), tag)
	}
	digest, err := r.resolve(ctx, repo.Name, tag)
	if err != nil {
		return "", fmt.Errorf("look up %s:%s: %w", repo.Ref(), tag, err)
	}
	if digest == "" {
		return "", slipway.Errorf(slipway.NotFound, "%s:%s is not in the registry", repo.Ref(), tag)
	}
	return digest, nil
}

func (r *Registry) retag(ctx context.Context, from, digest, to, tag string) error {
	if err := errors.Join(checkRepository(from), checkDigest(digest), checkRepository(to)); err != nil {
		return err
	}
	if tag != "" {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	if !r.disk.has(from) {
		return unknownRepository(from)
	}
	unlock := r.lock(to)
	defer unlock()
	if tag != "" {
		if err := r.checkTagFree(ctx, to, tag, digest); err != nil {
			return err
		}
	}
	if err := r.disk.room(0); err != nil {
		return err
	}
	if err := r.disk.ensure(to); err != nil {
		return err
	}
	c := copying{registry: r, from: from, to: to, seen: map[string]bool{}}
	m, err := c.needed(ctx, digest)
	if err != nil {
		return err
	}
	if err := errors.Join(c.referrers(ctx, digest), c.attached(ctx, digest)); err != nil {
		return err
	}
	if err := r.disk.syncBlobs(to); err != nil {
		return err
	}
	m.tag = tag
	if _, err := r.put(ctx, m); err != nil {
		return err
	}
	if err := r.disk.syncIndex(to); err != nil {
		return err
	}
	r.announce(ctx, m, promotion)
	return nil
}

// copying is one Retag under way.
type copying struct {
	registry *Registry
	from, to string
	seen     map[string]bool
}

// manifest brings a manifest over: first what it needs, then itself, then what refers to it.
func (c *copying) manifest(ctx context.Context, digest string) (manifest, error) {
	m, err := c.needed(ctx, digest)
	if err != nil {
		return m, err
	}
	if _, err := c.registry.put(ctx, m); err != nil {
		return m, err
	}
	return m, c.referrers(ctx, digest)
}

// needed brings over what a manifest names, and its bytes, so that it can be put.
func (c *copying) needed(ctx context.Context, digest string) (manifest, error) {
	c.seen[digest] = true
	m, err := c.load(ctx, digest)
	if err != nil {
		return m, err
	}
	for _, d := range m.content.Manifests {
		if c.seen[d.Digest] {
			continue
		}
		if _, err := c.manifest(ctx, d.Digest); err != nil {
			return m, err
		}
	}
	blobs := m.content.Layers
	if m.content.Config != nil {
		blobs = append(blobs, *m.content.Config)
	}
	for _, b := range blobs {
		if len(b.URLs) > 0 && !c.registry.disk.hasBlob(c.from, b.Digest) {
			continue // kept elsewhere
		}
		if err := c.link(b.Digest); err != nil {
			return m, err
		}
	}
	return m, c.link(digest)
}

func (c *copying) load(ctx context.Context, digest string) (manifest, error) {
	m := manifest{repository: c.to, digest: digest}
	if err := checkDigest(digest); err != nil {
		return m, err
	}
	there, mediaType, err := c.registry.head(ctx, c.from, digest)
	if err != nil {
		return m, err
	}
	if there == "" {
		return m, &fault{status: 404, code: "MANIFEST_UNKNOWN", message: fmt.Sprintf("%s has no manifest %s", c.from, digest)}
	}
	m.mediaType = mediaType
	if m.body, err = os.ReadFile(c.registry.disk.blob(c.from, digest)); err != nil {
		return m, err
	}
	if err := json.Unmarshal(m.body, &m.content); err != nil {
		return m, fmt.Errorf("manifest %s: %w", digest, err)
	}
	return m, nil
}

func (c *copying) link(digest string) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	err := c.registry.disk.link(c.from, c.to, digest)
	if errors.Is(err, fs.ErrNotExist) {
		return &fault{status: 404, code: "BLOB_UNKNOWN", message: fmt.Sprintf("%s has no blob %s", c.from, digest), err: err}
	}
	return err
}

func (c *copying) referrers(ctx context.Context, digest string) error {
	list, err := c.registry.referrers(ctx, c.from, digest)
	if err != nil {
		return err
	}
	for _, d := range list {
		if c.seen[d] {
			continue
		}
		if _, err := c.manifest(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// attached brings over what cosign attached by tag rather than as a referrer.
func (c *copying) attached(ctx context.Context, digest string) error {
	base := strings.Replace(digest, ":", "-", 1)
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		tag := base + suffix
		d, err := c.registry.resolve(ctx, c.from, tag)
		if err != nil {
			return err
		}
		if d == "" {
			continue
		}
		m, err := c.manifest(ctx, d)
		if err != nil {
			return err
		}
		m.tag = tag
		if _, err := c.registry.put(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

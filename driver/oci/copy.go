package oci

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
)

// Copy brings the manifest from@digest to another repository, with everything that refers to it, and
// then gives it the tag there (none when tag is empty). Within one registry the blobs are mounted; what
// is there already is not sent again; the digest stays the same. A tag that names another digest is
// left alone: Conflict, before anything is copied. Repeating an interrupted Copy finishes it.
func (c *Client) Copy(ctx context.Context, from slipway.Repository, digest string, to slipway.Repository, tag string) error {
	if tag != "" {
		there, err := c.Resolve(ctx, to, tag)
		switch {
		case slipway.ErrorCode(err) == slipway.NotFound:
		case err != nil:
			return err
		case there != digest:
			return conflict(to, tag, there, digest)
		}
	}
	src, err := c.open(ctx, from)
	if err != nil {
		return err
	}
	dst, err := c.open(ctx, to)
	if err != nil {
		return err
	}
	cp, err := newCopying(src, dst)
	if err != nil {
		return err
	}
	done, err := c.turns.take(ctx, to.Ref()+"@"+digest)
	if err != nil {
		return err
	}
	defer done()
	desc, err := cp.manifest(ctx, digest)
	if err != nil {
		return err
	}
	if err := cp.attached(ctx, digest); err != nil || tag == "" {
		return err
	}
	t, err := dst.tag(tag)
	if err != nil {
		return err
	}
	return dst.translate(ctx, fmt.Sprintf("tag %s@%s as %s", to.Ref(), digest, tag), cp.push.Push(ctx, t, desc))
}

// copying is one Copy under way.
type copying struct {
	src, dst remoteRepo
	pull     *remote.Puller
	push     *remote.Pusher
	seen     map[string]bool
}

func newCopying(src, dst remoteRepo) (*copying, error) {
	pull, err := remote.NewPuller(src.options...)
	if err != nil {
		return nil, err
	}
	push, err := remote.NewPusher(dst.options...)
	if err != nil {
		return nil, err
	}
	return &copying{src: src, dst: dst, pull: pull, push: push, seen: map[string]bool{}}, nil
}

// manifest copies a manifest and what refers to it, or to one of its children.
func (c *copying) manifest(ctx context.Context, digest string) (*remote.Descriptor, error) {
	c.seen[digest] = true
	ref, err := c.src.digest(digest)
	if err != nil {
		return nil, err
	}
	desc, err := c.pull.Get(ctx, ref)
	if err != nil {
		return nil, c.src.translate(ctx, "pull "+c.src.Ref()+"@"+digest, err)
	}
	if err := c.push.Push(ctx, c.dst.name.Digest(digest), desc); err != nil {
		return nil, c.dst.translate(ctx, "push "+c.dst.Ref()+"@"+digest, err)
	}
	children := []name.Digest{ref}
	if desc.MediaType.IsIndex() {
		below, err := c.children(ctx, desc)
		if err != nil {
			return nil, err
		}
		children = append(children, below...)
	}
	for _, child := range children {
		if err := c.referrers(ctx, child); err != nil {
			return nil, err
		}
	}
	return desc, nil
}

func (c *copying) children(ctx context.Context, desc *remote.Descriptor) ([]name.Digest, error) {
	idx, err := desc.ImageIndex()
	var m *v1.IndexManifest
	if err == nil {
		m, err = idx.IndexManifest()
	}
	if err != nil {
		return nil, c.src.translate(ctx, "read index "+c.src.Ref()+"@"+desc.Digest.String(), err)
	}
	var list []name.Digest
	for _, d := range m.Manifests {
		list = append(list, c.src.name.Digest(d.Digest.String()))
	}
	return list, nil
}

func (c *copying) referrers(ctx context.Context, subject name.Digest) error {
	list, err := referrers(ctx, c.src, subject)
	if err != nil {
		return err
	}
	for _, d := range list {
		if c.seen[d.Digest.String()] {
			continue
		}
		if _, err := c.manifest(ctx, d.Digest.String()); err != nil {
			return err
		}
	}
	return c.listed(ctx, subject, list)
}

// listed sees to it that the other repository lists what refers to a digest. Where a tag stands for the list, an
// interrupted copy may have brought a referrer and not written the list, and what is there is not pushed again.
func (c *copying) listed(ctx context.Context, subject name.Digest, list []v1.Descriptor) error {
	if len(list) == 0 {
		return nil
	}
	there, err := referrers(ctx, c.dst, c.dst.name.Digest(subject.DigestStr()))
	if err != nil {
		return err
	}
	for _, d := range list {
		if slices.ContainsFunc(there, func(t v1.Descriptor) bool { return t.Digest == d.Digest }) {
			continue
		}
		digest := d.Digest.String()
		desc, err := c.pull.Get(ctx, c.src.name.Digest(digest))
		if err != nil {
			return c.src.translate(ctx, "pull "+c.src.Ref()+"@"+digest, err)
		}
		if err := c.push.Put(ctx, c.dst.name.Digest(digest), desc); err != nil {
			return c.dst.translate(ctx, "list "+c.dst.Ref()+"@"+digest+" as a referrer", err)
		}
	}
	return nil
}

// attached brings over what older versions of cosign attached by tag rather than as a referrer.
func (c *copying) attached(ctx context.Context, digest string) error {
	for _, suffix := range []string{".sig", ".att", ".sbom"} {
		tag := strings.Replace(digest, ":", "-", 1) + suffix
		doing := "look up " + c.src.Ref() + ":" + tag
		there, err := c.pull.Head(ctx, c.src.name.Tag(tag))
		if err = c.src.translate(ctx, doing, err); slipway.ErrorCode(err) == slipway.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		desc, err := c.manifest(ctx, there.Digest.String())
		if err != nil {
			return err
		}
		if err := c.push.Push(ctx, c.dst.name.Tag(tag), desc); err != nil {
			return c.dst.translate(ctx, "tag "+c.dst.Ref()+":"+tag, err)
		}
	}
	return nil
}

func referrers(ctx context.Context, r remoteRepo, subject name.Digest) ([]v1.Descriptor, error) {
	doing := "list what refers to " + r.Ref() + "@" + subject.DigestStr()
	idx, err := remote.Referrers(subject, r.options...)
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	return m.Manifests, nil
}

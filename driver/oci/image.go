package oci

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
)

// PushLayout pushes what an OCI layout folder holds, an image or an index of images, under a tag and
// returns its digest. A layout with several entries is pushed as one index.
func (c *Client) PushLayout(ctx context.Context, dir string, repo slipway.Repository, tag string) (string, error) {
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return "", slipway.Errorf(slipway.Invalid, "read OCI layout %s: %w", dir, err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		return "", slipway.Errorf(slipway.Invalid, "read OCI layout %s: %w", dir, err)
	}
	var it image = idx
	if len(m.Manifests) == 1 {
		only := m.Manifests[0]
		if only.MediaType.IsIndex() {
			it, err = idx.ImageIndex(only.Digest)
		} else {
			it, err = idx.Image(only.Digest)
		}
		if err != nil {
			return "", slipway.Errorf(slipway.Invalid, "read OCI layout %s: %w", dir, err)
		}
	}
	return c.pushImage(ctx, it, repo, tag)
}

// image is an image or an index.
type image interface {
	remote.Taggable
	Digest() (v1.Hash, error)
}

func (c *Client) pushImage(ctx context.Context, img image, repo slipway.Repository, tag string) (string, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return "", err
	}
	var ref name.Reference
	if ref, err = r.tag(tag); err != nil {
		return "", err
	}
	h, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("read image for %s: %w", repo.Ref(), err)
	}
	if err := remote.Push(ref, img, r.options...); err != nil {
		return "", r.translate(ctx, "push "+repo.Ref()+":"+tag, err)
	}
	return h.String(), nil
}

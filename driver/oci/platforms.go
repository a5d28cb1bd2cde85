package oci

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
)

const (
	maxPlatforms = 64 // of an index
	maxNested    = 3  // indexes in indexes
)

// PlatformImage is an image of an index.
type PlatformImage struct {
	Platform string // linux/arm64, linux/arm/v7; empty: the index does not say
	Digest   string
}

// Platforms are the images of an index, each once, without attestations; of an image, that image alone. An
// index of more than 64 images is Invalid.
func (c *Client) Platforms(ctx context.Context, repo slipway.Repository, digest string) ([]PlatformImage, error) {
	r, ref, err := c.openAt(ctx, repo, digest)
	if err != nil {
		return nil, err
	}
	doing := "pull " + repo.Ref() + "@" + digest
	desc, err := remote.Get(ref, r.options...)
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	if !desc.MediaType.IsIndex() {
		return []PlatformImage{{Digest: digest}}, nil
	}
	index, err := desc.ImageIndex()
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	out, err := new(walk).index(nil, index, 0)
	return out, r.translate(ctx, doing, err)
}

// LayoutPlatforms are the images of the OCI layout in a folder, as Platforms tells them.
func LayoutPlatforms(dir string) ([]PlatformImage, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "read OCI layout %s: %w", dir, err)
	}
	out, err := new(walk).index(nil, index, 0)
	if err != nil {
		return nil, fmt.Errorf("read OCI layout %s: %w", dir, err)
	}
	return out, nil
}

// walk counts the indexes that are read on the way through one: a few can name each other in a great many ways.
type walk struct{ indexes int }

// index adds the images of an index to a list.
func (w *walk) index(to []PlatformImage, index v1.ImageIndex, depth int) ([]PlatformImage, error) {
	if w.indexes++; w.indexes > maxPlatforms || depth > maxNested {
		return nil, slipway.Errorf(slipway.Invalid, "its indexes are nested too deep or too many")
	}
	m, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, d := range m.Manifests {
		if d.MediaType.IsIndex() {
			child, err := index.ImageIndex(d.Digest)
			if err == nil {
				to, err = w.index(to, child, depth+1)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		known := func(p PlatformImage) bool { return p.Digest == d.Digest.String() }
		if !platformImage(d) || slices.ContainsFunc(to, known) {
			continue
		}
		if len(to) == maxPlatforms {
			return nil, slipway.Errorf(slipway.Invalid, "its index names more than %d images", maxPlatforms)
		}
		p := PlatformImage{Digest: d.Digest.String()}
		if d.Platform != nil {
			p.Platform = d.Platform.String()
		}
		to = append(to, p)
	}
	return to, nil
}

package oci

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-cd/slipway"
)

// Bounds of an image that is written to a folder.
const (
	maxLayoutBytes  = 8 << 30 // compressed
	maxLayoutLayers = 200
	// maxConfig bounds the configuration of an image, which is read into memory whatever it is wanted for.
	maxConfig = 8 << 20
)

// Layout writes an image of the repository into an empty folder as an OCI image layout, and returns the digest
// of what it wrote: of an index, the image for this machine's architecture, else its first. Blobs are compared
// with their digests. A manifest that is no image, or names more than 200 layers or 8 GiB, is Invalid.
func (c *Client) Layout(ctx context.Context, repo slipway.Repository, digest, dir string) (string, error) {
	r, ref, err := c.openAt(ctx, repo, digest)
	if err != nil {
		return "", err
	}
	doing := "fetch " + repo.Ref() + "@" + digest
	img, err := r.image(ctx, ref, doing)
	if err != nil {
		return "", err
	}
	m, err := img.Manifest()
	if err != nil {
		return "", r.translate(ctx, doing, err)
	}
	if err := layoutBounds(m); err != nil {
		return "", err
	}
	if img, err = r.hereOnly(ctx, img, m); err != nil {
		return "", r.translate(ctx, doing, err)
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", fmt.Errorf("write OCI layout %s: %w", dir, err)
	}
	if err := path.AppendImage(img); err != nil {
		return "", r.translate(ctx, doing, err)
	}
	h, err := img.Digest()
	return h.String(), err
}

// image fetches the manifest of an image, of an index that of the image for this machine.
func (r remoteRepo) image(ctx context.Context, ref name.Digest, doing string) (v1.Image, error) {
	return r.imageFor(ctx, ref, doing, v1.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// imageFor fetches the manifest of an image, of an index that of the image for a platform, else of its first.
func (r remoteRepo) imageFor(ctx context.Context, ref name.Digest, doing string, want v1.Platform) (v1.Image, error) {
	desc, err := remote.Get(ref, r.options...)
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	if desc.MediaType.IsImage() {
		img, err := desc.Image()
		return r.small(ctx, img, doing, err)
	}
	if !desc.MediaType.IsIndex() {
		return nil, slipway.Errorf(slipway.Invalid, "it is no image but %s", desc.MediaType)
	}
	idx, err := desc.ImageIndex()
	var m *v1.IndexManifest
	if err == nil {
		m, err = idx.IndexManifest()
	}
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	at := -1
	for i, d := range m.Manifests {
		if !platformImage(d) {
			continue
		}
		fits := d.Platform != nil && d.Platform.Satisfies(want)
		if at < 0 || fits {
			at = i
		}
		if fits {
			break
		}
	}
	if at < 0 {
		return nil, slipway.Errorf(slipway.Invalid, "its index names no image")
	}
	img, err := idx.Image(m.Manifests[at].Digest)
	return r.small(ctx, img, doing, err)
}

// small refuses an image that claims a configuration which is none.
func (r remoteRepo) small(ctx context.Context, img v1.Image, doing string, err error) (v1.Image, error) {
	var m *v1.Manifest
	if err == nil {
		m, err = img.Manifest()
	}
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	if m.Config.Size < 0 || m.Config.Size > maxConfig {
		return nil, slipway.Errorf(slipway.Invalid, "%s: its configuration has %d bytes; at most %d MiB are read", doing, m.Config.Size, maxConfig>>20)
	}
	return img, nil
}

// here is an image whose layers come from its registry and from nowhere else.
type here struct {
	v1.Image
	layers []v1.Layer
}

// Layers implements v1.Image.
func (h here) Layers() ([]v1.Layer, error) { return h.layers, nil }

// hereOnly leaves out what a manifest says of other places for its layers: it is not this machine's business to ask
// there, whatever the address.
func (r remoteRepo) hereOnly(ctx context.Context, img v1.Image, m *v1.Manifest) (v1.Image, error) {
	pull, err := remote.NewPuller(r.options...)
	if err != nil {
		return nil, err
	}
	out := here{Image: img}
	for _, d := range m.Layers {
		l, err := pull.Layer(ctx, r.name.Digest(d.Digest.String()))
		if err != nil {
			return nil, err
		}
		out.layers = append(out.layers, sized{l, d})
	}
	return out, nil
}

// sized is a layer with what its manifest says of it. It gives no more bytes than that.
type sized struct {
	v1.Layer
	said v1.Descriptor
}

// Compressed implements v1.Layer.
func (s sized) Compressed() (io.ReadCloser, error) {
	in, err := s.Layer.Compressed()
	if err != nil {
		return nil, err
	}
	return &atMost{ReadCloser: in, of: s.said}, nil
}

type atMost struct {
	io.ReadCloser
	of   v1.Descriptor
	read int64
}

// Read implements io.Reader.
func (a *atMost) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if a.read += int64(n); a.read > a.of.Size {
		return 0, slipway.Errorf(slipway.Invalid, "layer %s has more than the %d bytes that its manifest says", a.of.Digest, a.of.Size)
	}
	return n, err
}

// Size implements v1.Layer.
func (s sized) Size() (int64, error) { return s.said.Size, nil }

// MediaType implements v1.Layer.
func (s sized) MediaType() (types.MediaType, error) { return s.said.MediaType, nil }

// platformImage reports whether an entry of an index is an image that can run: attestations are none.
func platformImage(d v1.Descriptor) bool {
	return d.MediaType.IsImage() && (d.Platform == nil || d.Platform.OS != "unknown")
}

func layoutBounds(m *v1.Manifest) error {
	if m.Config.MediaType != types.OCIConfigJSON && m.Config.MediaType != types.DockerConfigJSON {
		return slipway.Errorf(slipway.Invalid, "it is no container image: its configuration is %s", m.Config.MediaType)
	}
	if len(m.Layers) > maxLayoutLayers {
		return slipway.Errorf(slipway.Invalid, "it has %d layers; at most %d are scanned", len(m.Layers), maxLayoutLayers)
	}
	total := m.Config.Size
	for _, l := range m.Layers {
		if l.Size < 0 || l.Size > maxLayoutBytes {
			total = maxLayoutBytes + 1
			break
		}
		total += l.Size
	}
	if total > maxLayoutBytes {
		return slipway.Errorf(slipway.Invalid, "its layers have more than %d GiB", int64(maxLayoutBytes)>>30)
	}
	return nil
}

package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/attest"
)

const (
	emptyMediaType = "application/vnd.oci.empty.v1+json"
	maxArtifact    = 64 << 20
)

// Attachment is something to attach to a digest, or what was found attached to it.
type Attachment = attest.Attachment

// PushArtifact attaches data to the manifest subject of the repository as an OCI 1.1 referrer (or by the
// tag scheme where a registry knows no referrers), and returns the digest of the new manifest. Equal
// input gives an equal digest, so a repeat attaches nothing twice. To one digest, one at a time is attached: such a tag is
// read and written back. Other processes that do so at the same moment are not kept away.
func (c *Client) PushArtifact(ctx context.Context, repo slipway.Repository, a Attachment, subject string) (string, error) {
	r, ref, err := c.openAt(ctx, repo, subject)
	if err != nil {
		return "", err
	}
	doing := "attach " + a.ArtifactType + " to " + repo.Ref() + "@" + subject
	target, err := remote.Head(ref, r.options...)
	if err != nil {
		return "", r.translate(ctx, doing, err)
	}
	m := v1.Manifest{
		ArtifactType: a.ArtifactType,
		Annotations:  a.Annotations,
		Subject:      &v1.Descriptor{MediaType: target.MediaType, Size: target.Size, Digest: target.Digest},
	}
	blobs := []v1.Layer{static.NewLayer([]byte("{}"), emptyMediaType), static.NewLayer(a.Data, types.MediaType(a.MediaType))}
	done, err := c.turns.take(ctx, repo.Ref()+"@"+subject)
	if err != nil {
		return "", err
	}
	defer done()
	digest, err := r.pushManifest(ctx, m, blobs)
	return digest, r.translate(ctx, doing, err)
}

// pushManifest pushes blobs, the first of which is the config, and a manifest that names them, by digest.
func (r remoteRepo) pushManifest(ctx context.Context, m v1.Manifest, blobs []v1.Layer) (string, error) {
	push, err := remote.NewPusher(r.options...)
	if err != nil {
		return "", err
	}
	m.SchemaVersion, m.MediaType = 2, types.OCIManifestSchema1
	for i, b := range blobs {
		d, err := partial.Descriptor(b)
		if err != nil {
			return "", err
		}
		if i == 0 {
			m.Config = *d
		} else {
			m.Layers = append(m.Layers, *d)
		}
		if err := push.Upload(ctx, r.name, b); err != nil {
			return "", err
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	h, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	return h.String(), push.Put(ctx, r.name.Digest(h.String()), rawManifest(raw))
}

// rawManifest is an OCI image manifest as bytes.
type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)        { return m, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// Referrers lists what is attached to a digest, without the data.
func (c *Client) Referrers(ctx context.Context, repo slipway.Repository, digest string) ([]Attachment, error) {
	r, ref, err := c.openAt(ctx, repo, digest)
	if err != nil {
		return nil, err
	}
	list, err := referrers(ctx, r, ref)
	if err != nil {
		return nil, err
	}
	out := make([]Attachment, 0, len(list))
	for _, d := range list {
		out = append(out, Attachment{Digest: d.Digest.String(), ArtifactType: d.ArtifactType, Annotations: d.Annotations})
	}
	return out, nil
}

// PullArtifact returns an attachment with its data, at most 64 MiB, checked against its digest.
func (c *Client) PullArtifact(ctx context.Context, repo slipway.Repository, digest string) (Attachment, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return Attachment{}, err
	}
	m, err := r.manifest(ctx, digest)
	if err != nil {
		return Attachment{}, err
	}
	if len(m.Layers) != 1 {
		return Attachment{}, slipway.Errorf(slipway.Invalid, "%s@%s: expected one blob, found %d", repo.Ref(), digest, len(m.Layers))
	}
	data, err := r.blob(ctx, m.Layers[0], maxArtifact)
	return Attachment{Digest: digest, ArtifactType: m.ArtifactType, MediaType: string(m.Layers[0].MediaType), Data: data, Annotations: m.Annotations}, err
}

// manifest reads an image manifest by digest.
func (r remoteRepo) manifest(ctx context.Context, digest string) (*v1.Manifest, error) {
	ref, err := r.digest(digest)
	if err != nil {
		return nil, err
	}
	doing := "pull " + r.Ref() + "@" + digest
	desc, err := remote.Get(ref, r.options...)
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	m, err := v1.ParseManifest(bytes.NewReader(desc.Manifest))
	if err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "%s: not an image manifest: %w", doing, err)
	}
	return m, nil
}

// blob reads a blob of at most limit bytes and checks it against its descriptor.
func (r remoteRepo) blob(ctx context.Context, d v1.Descriptor, limit int64) ([]byte, error) {
	doing := "pull " + r.Ref() + "@" + d.Digest.String()
	if d.Size > limit {
		return nil, slipway.Errorf(slipway.Invalid, "%s: %d bytes, at most %d are read", doing, d.Size, limit)
	}
	layer, err := remote.Layer(r.name.Digest(d.Digest.String()), r.options...)
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	rc, err := layer.Compressed()
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	defer rc.Close()
	b, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, r.translate(ctx, doing, err)
	}
	if int64(len(b)) != d.Size {
		return nil, fmt.Errorf("%s: %d bytes, its manifest says %d", doing, len(b), d.Size)
	}
	return b, nil
}

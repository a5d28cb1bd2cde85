package oci

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/slipway-cd/slipway"
)

const (
	maxRecords    = 16 // statements about an image that are read
	maxCandidates = 32 // images that a build took
	baseTime      = 15 * time.Second
)

// Base is the image that an image was built from: of those that the record of the build names, the one whose
// layers the image begins with, the longest first. false when there is no record, or none of them can be
// reached within 15 seconds.
func (c *Client) Base(ctx context.Context, repo slipway.Repository, digest string) (slipway.Repository, string, bool) {
	ctx, cancel := context.WithTimeout(ctx, baseTime)
	defer cancel()
	layers, err := c.layers(ctx, repo, digest)
	if err != nil || len(layers) == 0 {
		return slipway.Repository{}, "", false
	}
	var base slipway.Repository
	var found string
	longest := 0
	for _, m := range c.taken(ctx, repo, digest) {
		from, ok := dockerRepository(m.URI)
		if !ok || m.Digest["sha256"] == "" {
			continue
		}
		below, err := c.layers(ctx, from, "sha256:"+m.Digest["sha256"])
		if err == nil && len(below) > longest && len(below) < len(layers) && begins(layers, below) {
			base, found, longest = from, "sha256:"+m.Digest["sha256"], len(below)
		}
	}
	return base, found, longest > 0
}

func begins(layers, below []v1.Hash) bool {
	for i, l := range below {
		if layers[i] != l {
			return false
		}
	}
	return true
}

// layers are the digests of an image's layers, of an index those of the image for this machine.
func (c *Client) layers(ctx context.Context, repo slipway.Repository, digest string) ([]v1.Hash, error) {
	r, err := c.open(ctx, repo)
	if err != nil {
		return nil, err
	}
	ref, err := r.digest(digest)
	if err != nil {
		return nil, err
	}
	img, err := r.image(ctx, ref, "pull "+repo.Ref()+"@"+digest)
	if err != nil {
		return nil, err
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	out := make([]v1.Hash, len(m.Layers))
	for i, l := range m.Layers {
		out[i] = l.Digest
	}
	return out, nil
}

// material is something that a build took, as SLSA provenance names it.
type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

// taken are the materials of an image, from what is attached to it.
func (c *Client) taken(ctx context.Context, repo slipway.Repository, digest string) (out []material) {
	list, err := c.Referrers(ctx, repo, digest)
	if err != nil {
		return nil
	}
	for _, at := range list[:min(len(list), maxRecords)] {
		if strings.Contains(at.ArtifactType, "sigstore") {
			continue
		}
		record, err := c.PullArtifact(ctx, repo, at.Digest)
		if err != nil || !strings.Contains(record.MediaType, "in-toto") {
			continue
		}
		var st struct {
			Predicate struct {
				Materials       []material `json:"materials"` // SLSA v0.2
				BuildDefinition struct {
					ResolvedDependencies []material `json:"resolvedDependencies"`
				} `json:"buildDefinition"`
			} `json:"predicate"`
		}
		if json.Unmarshal(record.Data, &st) == nil {
			out = append(append(out, st.Predicate.Materials...), st.Predicate.BuildDefinition.ResolvedDependencies...)
		}
	}
	return out[:min(len(out), maxCandidates)]
}

// dockerRepository reads pkg:docker/registry.example.com/mirror/debian@12?platform=linux%2Famd64.
func dockerRepository(purl string) (slipway.Repository, bool) {
	name, ok := strings.CutPrefix(purl, "pkg:docker/")
	if !ok {
		return slipway.Repository{}, false
	}
	name, _, _ = strings.Cut(name, "?")
	name, _, _ = strings.Cut(name, "@")
	name, err := url.PathUnescape(name)
	if err != nil {
		return slipway.Repository{}, false
	}
	host, rest, cut := strings.Cut(name, "/")
	if !cut || (!strings.ContainsAny(host, ".:") && host != "localhost") {
		host, rest = "docker.io", name
		if !cut {
			rest = "library/" + name
		}
	}
	r := slipway.Registry{Host: host}
	if bare, _, _ := strings.Cut(host, ":"); loopback(bare) {
		r.Address = "http://" + host
	}
	return slipway.Repository{Registry: r, Name: rest}, rest != ""
}

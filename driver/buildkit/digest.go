package buildkit

import (
	"context"
	"net/http"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Digest is the digest of the base image that builds of a project would take now: the pinned one, else that
// of the mirror that has the image, else that of its registry. An image that is nowhere is NotFound.
func (e *Engine) Digest(ctx context.Context, project, image string, pins map[string]string) (string, error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", slipway.Errorf(slipway.Invalid, "base image %q: %w", image, err)
	}
	p, err := e.policy(&link{fenced: true}, job{project: project, pins: pins}, discard{})
	if err != nil {
		return "", err
	}
	want := p.pinned(reference.TagNameOnly(named))
	if d, ok := want.(reference.Digested); ok {
		return d.Digest().String(), nil
	}
	target, err := p.mirrored(ctx, want)
	if err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "look for base image %s: %w", image, err)
	}
	if target == "" {
		if p.only(reference.Domain(want)) != "" {
			return "", slipway.Errorf(slipway.NotFound, "base image %s is not in the mirror of its registry", image)
		}
		target = want.String()
	}
	return p.head(ctx, image, target)
}

func (p *policy) head(ctx context.Context, image, target string) (string, error) {
	named, err := reference.ParseNormalizedNamed(target)
	if err != nil {
		return "", slipway.Errorf(slipway.Invalid, "base image %q: %w", target, err)
	}
	opts := []name.Option{}
	for _, m := range p.mirrors {
		if insecure, host := splitAddress(m.Address); insecure && host == reference.Domain(named) {
			opts = append(opts, name.Insecure)
		}
	}
	ref, err := name.ParseReference(target, opts...)
	if err != nil {
		return "", slipway.Errorf(slipway.Invalid, "base image %q: %w", target, err)
	}
	found, err := remote.Head(ref, remote.WithContext(ctx), remote.WithAuth(p.creds.registryAuth(ctx, reference.Domain(named))), remote.WithTransport(p.client()))
	switch {
	case err == nil:
		return found.Digest.String(), nil
	case statusOf(err) == http.StatusNotFound:
		return "", slipway.Errorf(slipway.NotFound, "base image %s: its registry has none", image)
	}
	return "", slipway.Errorf(slipway.Unavailable, "look for base image %s: %w", image, err)
}

// discard is a log that nobody reads.
type discard struct{}

func (discard) Line(slipway.LogLine)  {}
func (discard) Printf(string, ...any) {}

var _ stage.Log = discard{}

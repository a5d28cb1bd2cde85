package buildkit

import (
	"context"
	"fmt"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/build"
)

// Build is build.Builder. The image is pushed by digest, without a tag; BuildKit's record of how it
// was made is attached to it as a referrer.
func (e *Engine) Build(ctx context.Context, req build.Request, log stage.Log) (build.Result, error) {
	ln, err := e.connection(ctx)
	if err != nil {
		return build.Result{}, err
	}
	j := job{
		project: req.Project, service: req.Service, dir: req.Dir, dockerfile: req.Dockerfile, target: req.Target,
		args: req.Args, epoch: req.Epoch, pins: req.Pins, trust: req.Trust, secrets: req.Secrets, contexts: req.Contexts,
	}
	return e.build(ctx, ln, j, req, log)
}

func (e *Engine) build(ctx context.Context, ln *link, j job, req build.Request, log stage.Log) (build.Result, error) {
	opt, pol, err := e.solveOpt(ln, j, log)
	if err != nil {
		return build.Result{}, err
	}
	opt.FrontendAttrs = withAttrs(opt.FrontendAttrs, req.Labels, "label:")
	opt.Internal = req.Image == nil // the record of the build, which takes as long as a cached build, is for its provenance
	if req.Image != nil {
		opt.Exports = []client.ExportEntry{imageExport(*req.Image, req.Epoch)}
		if err := ln.allow(ctx, req.Image.Registry); err != nil {
			return build.Result{}, err
		}
	}
	var resp *client.SolveResponse
	prog, err := e.watch(log, func(ch chan *client.SolveStatus) error {
		resp, err = ln.client.Solve(ctx, nil, opt, ch)
		return err
	})
	if err != nil {
		failure, err := e.verdict(ctx, ln, err, j, prog, pol)
		return build.Result{Failure: failure}, err
	}
	if req.Image == nil {
		return build.Result{}, nil
	}
	digest := resp.ExporterResponse[exptypes.ExporterImageDigestKey]
	if digest == "" {
		return build.Result{}, slipway.Errorf(slipway.Unavailable, "BuildKit (%s) pushed no image: it lacks the image exporter; use another or Slipway's own", ln.describe())
	}
	return e.attest(ctx, ln, attestation{ref: opt.Ref, image: *req.Image, digest: digest}, pol.creds, log)
}

// imageExport pushes a plain OCI manifest by digest, reproducibly.
func imageExport(image slipway.Repository, epoch int64) client.ExportEntry {
	insecure, host := registryHost(image.Registry)
	attrs := map[string]string{
		string(exptypes.OptKeyName):             host + "/" + image.Name,
		string(exptypes.OptKeyPush):             "true",
		string(exptypes.OptKeyPushByDigest):     "true",
		string(exptypes.OptKeyOCITypes):         "true",
		string(exptypes.OptKeyRewriteTimestamp): "true",
		string(exptypes.OptKeySourceDateEpoch):  fmt.Sprint(epoch),
	}
	if insecure {
		attrs[string(exptypes.OptKeyInsecure)] = "true"
	}
	return client.ExportEntry{Type: client.ExporterImage, Attrs: attrs}
}

// registryHost is where a registry is reached, and whether by plain http.
func registryHost(r slipway.Registry) (insecure bool, host string) {
	if r.Address == "" {
		return false, r.Host
	}
	return splitAddress(r.Address)
}

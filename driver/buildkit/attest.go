package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	controlapi "github.com/moby/buildkit/api/services/control"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/build"
)

const (
	intotoType    = "application/vnd.in-toto+json"
	recordType    = "application/vnd.slipway.build-record.v1+json" // of the referrer: nobody has signed it
	statementType = "https://in-toto.io/Statement/v1"
	predicateKey  = "in-toto.io/predicate-type"
	maxPredicate  = 16 << 20
)

// attestation is the record of how one pushed image was built, from which its provenance is made (stage/attest).
type attestation struct {
	ref    string // of the solve
	image  slipway.Repository
	digest string
}

// attest finishes the result of a pushed image: its size, and the record of its build as a referrer. That
// comes from BuildKit's own record of the build rather than from its attestations, which
// would wrap the image in an index: what is pushed and named is the plain manifest (D15).
func (e *Engine) attest(ctx context.Context, ln *link, a attestation, creds *credentials, log stage.Log) (build.Result, error) {
	insecure, host := registryHost(a.image.Registry)
	var nameOpts []name.Option
	if insecure {
		nameOpts = append(nameOpts, name.Insecure)
	}
	ref, err := name.NewDigest(host+"/"+a.image.Name+"@"+a.digest, nameOpts...)
	if err != nil {
		return build.Result{}, fmt.Errorf("name image: %w", err)
	}
	reg := []remote.Option{remote.WithContext(ctx), remote.WithAuth(creds.registryAuth(ctx, host))}
	subject, err := remote.Get(ref, reg...)
	if err != nil {
		return build.Result{}, unavailable("read the pushed image", err)
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(subject.Manifest))
	if err != nil || !subject.MediaType.IsImage() {
		return build.Result{}, fmt.Errorf("read the pushed image %s (%s): %w", a.digest, subject.MediaType, err)
	}
	res := build.Result{Digest: a.digest, Size: manifest.Config.Size}
	for _, l := range manifest.Layers {
		res.Size += l.Size
	}
	statement, err := provenance(ctx, ln, a)
	if err != nil {
		return build.Result{}, err
	}
	if statement == nil {
		log.Printf("no provenance: this BuildKit keeps no record of builds")
		return res, nil
	}
	digest, err := pushReferrer(ref.Context(), subject.Descriptor, statement, reg)
	if err != nil {
		return build.Result{}, unavailable("attach provenance", err)
	}
	res.Provenance = &build.Provenance{Digest: digest, Size: int64(len(statement))}
	return res, nil
}

// provenance is the in-toto statement about the image, nil when the daemon has none.
func provenance(ctx context.Context, ln *link, a attestation) ([]byte, error) {
	predicate, typ, err := predicate(ctx, ln, a.ref)
	if err != nil || predicate == nil {
		return nil, err
	}
	hash, err := v1.NewHash(a.digest)
	if err != nil {
		return nil, fmt.Errorf("image digest: %w", err)
	}
	return json.Marshal(map[string]any{
		"_type":         statementType,
		"predicateType": typ,
		"subject":       []any{map[string]any{"name": a.image.Ref(), "digest": map[string]string{hash.Algorithm: hash.Hex}}},
		"predicate":     json.RawMessage(predicate),
	})
}

// predicate reads the SLSA provenance from the daemon's record of the build.
func predicate(ctx context.Context, ln *link, ref string) ([]byte, string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := ln.client.ControlClient().ListenBuildHistory(ctx, &controlapi.BuildHistoryRequest{Ref: ref, EarlyExit: true})
	if err != nil {
		return nil, "", unavailable("read the record of the build", err)
	}
	for {
		ev, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, "", nil
		}
		if err != nil {
			return nil, "", unavailable("read the record of the build", err)
		}
		for _, d := range attestations(ev.GetRecord()) {
			if typ := d.GetAnnotations()[predicateKey]; typ != "" && d.GetSize() <= maxPredicate {
				body, err := readBlob(ctx, ln, d)
				return body, typ, err
			}
		}
	}
}

func attestations(rec *controlapi.BuildHistoryRecord) []*controlapi.Descriptor {
	all := rec.GetResult().GetAttestations()
	for _, r := range rec.GetResults() {
		all = append(all, r.GetAttestations()...)
	}
	return all
}

func readBlob(ctx context.Context, ln *link, d *controlapi.Descriptor) ([]byte, error) {
	stream, err := ln.client.ContentClient().Read(ctx, &contentapi.ReadContentRequest{Digest: d.GetDigest()})
	if err != nil {
		return nil, unavailable("read the provenance", err)
	}
	var body []byte
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, unavailable("read the provenance", err)
		}
		if body = append(body, part.GetData()...); len(body) > maxPredicate {
			return nil, fmt.Errorf("provenance is larger than %d bytes", maxPredicate)
		}
	}
	if !json.Valid(body) {
		return nil, fmt.Errorf("provenance %s is not JSON", d.GetDigest())
	}
	return body, nil
}

// pushReferrer pushes data as the only layer of an artifact that refers to the subject.
func pushReferrer(repo name.Repository, subject v1.Descriptor, data []byte, reg []remote.Option) (string, error) {
	layer := static.NewLayer(data, intotoType)
	empty := static.NewLayer([]byte("{}"), "application/vnd.oci.empty.v1+json")
	m := v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: recordType,
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	}
	for _, l := range []v1.Layer{empty, layer} {
		if err := remote.WriteLayer(repo, l, reg...); err != nil {
			return "", err
		}
	}
	config, err := partial.Descriptor(empty)
	if err != nil {
		return "", err
	}
	desc, err := partial.Descriptor(layer)
	if err != nil {
		return "", err
	}
	m.Config, m.Layers = *config, []v1.Descriptor{*desc}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	hash, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	return hash.String(), remote.Put(repo.Digest(hash.String()), rawManifest(raw), reg...)
}

// rawManifest is a manifest as it is pushed.
type rawManifest []byte

// RawManifest returns the bytes.
func (m rawManifest) RawManifest() ([]byte, error) { return m, nil }

// MediaType is that of an image manifest.
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// unavailable wraps an error of a registry or the daemon; one that a registry will answer again the
// next time is not worth trying again.
func unavailable(doing string, err error) error {
	if code := statusOf(err); code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return slipway.Errorf(slipway.Unavailable, "%s: %w", doing, err)
}

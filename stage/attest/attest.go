// Package attest signs what a run has published, and what is known about it: the digests of image and chart,
// how each was made (SLSA provenance), what is in the image (SBOM), and what tests and scan said of it. All of
// it are statements that cosign verifies, attached to the digest that they are about (D9), so that they
// follow it to production. It verifies them too, before a deployment and for people.
//
// It builds, tests and scans nothing, decides nothing about what a deployment must prove (that is a gate), and
// sees no private key.
package attest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

const (
	intentKey = "attest"
	maxSBOM   = 32 << 20
)

// Runner is the attest step. URL is that of the server, for links to runs; it is the identity of the builder unless
// the plan has another.
type Runner struct {
	Registry Registry
	Bundles  Bundles
	Keys     Keys
	Evidence Evidence
	URL      string
}

var _ stage.Runner = (*Runner)(nil)

// production is one run of the step.
type production struct {
	runner *Runner
	env    stage.Env
	step   slipway.PlanStep
	key    slipway.Key
}

// thing is a digest that is signed, with what is to be stated about it.
type thing struct {
	kind     slipway.ArtifactKind
	repo     slipway.Repository
	artifact slipway.Artifact
}

// Run signs image and chart as step.Attest says. What is attached already, signed by the key that signs now,
// is not attached again.
func (r *Runner) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	if step.Attest == nil {
		return slipway.Result{}, slipway.Errorf(slipway.Internal, "step %s has nothing to sign in it", step.Key)
	}
	p := &production{runner: r, env: env, step: step}
	things, err := p.things()
	if err != nil {
		return slipway.Result{}, err
	}
	if p.key, err = r.Keys.SigningKey(ctx); err != nil {
		return slipway.Result{}, fmt.Errorf("find the key that signs: %w", err)
	}
	if err := env.Journal.Put(ctx, intentKey, map[string]string{"image": things[0].artifact.Digest, "chart": things[1].artifact.Digest, "key": p.key.ID}); err != nil {
		return slipway.Result{}, fmt.Errorf("record intent: %w", err)
	}
	res := slipway.Result{Outcome: slipway.Succeeded}
	for _, t := range things {
		made, err := p.sign(ctx, t)
		switch {
		case slipway.ErrorCode(err) == slipway.NotFound:
			return slipway.Result{Outcome: slipway.Failed, Reason: fmt.Sprintf("the %s %s@%s is not in the registry any more: publish it again", t.kind, t.repo.Ref(), t.artifact.Digest)}, nil
		case err != nil:
			return slipway.Result{}, fmt.Errorf("sign the %s of %s: %w", t.kind, step.Service, err)
		}
		res.Artifacts = append(res.Artifacts, made...)
	}
	return res, nil
}

// things are image and chart as they were published.
func (p *production) things() ([]thing, error) {
	spec := p.step.Attest
	out := []thing{{kind: slipway.ArtifactImage, repo: spec.Image}, {kind: slipway.ArtifactChart, repo: spec.Chart}}
	for i := range out {
		found := false
		for _, a := range p.env.Artifacts {
			if a.Kind == out[i].kind && a.Service == p.step.Service && a.Repository == out[i].repo.Ref() {
				out[i].artifact, found = a, true
			}
		}
		if !found {
			return nil, slipway.Errorf(slipway.Internal, "sign %s: run %d published no %s of it", p.step.Service, p.env.Run.ID, out[i].kind)
		}
	}
	return out, nil
}

// sign attaches what is missing of the statements about a thing.
func (p *production) sign(ctx context.Context, t thing) ([]slipway.Artifact, error) {
	r := p.runner
	if _, err := r.Registry.Head(ctx, t.repo, t.artifact.Digest); err != nil {
		return nil, err
	}
	there, err := p.attached(ctx, t)
	if err != nil {
		return nil, err
	}
	statements, err := p.statements(ctx, t, there)
	if err != nil {
		return nil, err
	}
	var out []slipway.Artifact
	for _, text := range statements {
		digest, ok := there[string(text)]
		if !ok {
			if digest, err = p.attach(ctx, t, text); err != nil {
				return nil, err
			}
		}
		out = append(out, slipway.Artifact{
			Project: p.env.Run.Project, RunID: p.env.Run.ID, Step: p.step.Key, Service: p.step.Service, Kind: slipway.ArtifactSignature,
			Repository: t.repo.Ref(), Digest: digest, Subject: t.artifact.Digest, Size: int64(len(text)), Commit: t.artifact.Commit,
		})
		if p.env.Now != nil {
			out[len(out)-1].CreatedAt = p.env.Now()
		}
	}
	return out, nil
}

func (p *production) attach(ctx context.Context, t thing, text []byte) (string, error) {
	r := p.runner
	sealed, err := r.Bundles.Seal(ctx, text, p.key, func(ctx context.Context, digest []byte) ([]byte, error) {
		return r.Keys.Sign(ctx, p.key.ID, digest)
	})
	if err != nil {
		return "", err
	}
	digest, err := r.Registry.PushArtifact(ctx, t.repo, sealed, t.artifact.Digest)
	if err == nil {
		p.env.Log.Printf("%s of the %s %s is %s", titleOf(typeOf(text)), t.kind, t.artifact.Digest, digest)
	}
	return digest, err
}

// attached are the statements about a thing that the key has signed already, with the digests of their
// manifests.
func (p *production) attached(ctx context.Context, t thing) (map[string]string, error) {
	out := map[string]string{}
	list, err := p.runner.Registry.Referrers(ctx, t.repo, t.artifact.Digest)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if !a.mayBeBundle() || len(out) >= maxReferrers {
			continue
		}
		pulled, err := p.runner.Registry.PullArtifact(ctx, t.repo, a.Digest)
		if trouble(ctx, err) {
			return nil, err
		}
		if err != nil || !pulled.isBundle() {
			continue // broken, or none: what is missing is attached anew
		}
		opened, err := p.runner.Bundles.Open(pulled.Data, t.artifact.Digest, []slipway.Key{p.key})
		if err != nil {
			return nil, err
		}
		if opened.Problem == "" {
			out[string(opened.Statement)] = a.Digest
		}
	}
	return out, nil
}

// statements are what is to be stated about a thing.
func (p *production) statements(ctx context.Context, t thing, there map[string]string) ([][]byte, error) {
	digest := t.artifact.Digest
	signed, err := state("", digest, TypeSignature, struct{}{})
	if err != nil {
		return nil, err
	}
	out := [][]byte{signed}
	add := func(predicateType string, predicate any) error {
		text, err := state(t.repo.Ref(), digest, predicateType, predicate)
		out = append(out, text)
		return err
	}
	if t.kind == slipway.ArtifactChart {
		if st, ok := stepOf(p.env, slipway.KindChart, p.step.Service); ok && st.Spec.Chart != nil {
			return out, add(TypeProvenance, p.chartProvenance(st))
		}
		return out, nil
	}
	text, err := p.imageStatement(ctx, t, there)
	if err != nil {
		return nil, err
	}
	if text != nil {
		out = append(out, text)
	}
	sbom, err := p.sbom(ctx, digest)
	if err != nil {
		return nil, err
	}
	if sbom != nil {
		if err := add(TypeSBOM, json.RawMessage(sbom)); err != nil {
			return nil, err
		}
	}
	return out, errors.Join(p.tests(ctx, digest, add), p.scan(ctx, digest, add))
}

type addFunc func(predicateType string, predicate any) error

// imageStatement is the provenance of the image. That of an image which an earlier run built is the one
// that is there.
func (p *production) imageStatement(ctx context.Context, t thing, there map[string]string) ([]byte, error) {
	m, own, err := p.build(ctx, t.artifact)
	if err != nil {
		return nil, err
	}
	if !own {
		if text := p.kept(there); text != nil {
			return text, nil
		}
	}
	if m.step.Spec.Build == nil {
		p.env.Log.Printf("no provenance: which step built %s is not on record", t.artifact.Digest)
		return nil, nil
	}
	var record []byte
	if m.record.Digest != "" {
		pulled, err := p.runner.Registry.PullArtifact(ctx, t.repo, m.record.Digest)
		if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
			return nil, err
		}
		if record = pulled.Data; record == nil {
			p.env.Log.Printf("the provenance names no base images: the record of the build %s is gone", m.record.Digest)
		}
	}
	predicate, err := p.imageProvenance(m, record)
	if err != nil {
		return nil, err
	}
	return state(t.repo.Ref(), t.artifact.Digest, TypeProvenance, predicate)
}

// kept is the provenance of this builder that is there already.
func (p *production) kept(there map[string]string) []byte {
	for text := range there {
		if read := readStatement([]byte(text)); read.PredicateType == TypeProvenance && read.builder() == p.builder() {
			return []byte(text)
		}
	}
	return nil
}

// build is the step that built the image, and whether it is of this run.
func (p *production) build(ctx context.Context, image slipway.Artifact) (made, bool, error) {
	m := made{artifact: image}
	var from int64
	if st, ok := stepOf(p.env, slipway.KindBuild, p.step.Service); ok && st.Spec.Build != nil {
		if from = st.ReusedFrom; from == 0 {
			m.step, m.record = st, recordOf(p.env.Artifacts, image.Digest)
			return m, true, nil
		}
	}
	found, err := p.runner.Evidence.BuiltBy(ctx, p.env.Run.Project, p.step.Service, image.Digest, from)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return m, false, nil
	}
	m.step, m.record = found.Step, recordOf(found.Artifacts, image.Digest)
	return m, false, err
}

func recordOf(artifacts []slipway.Artifact, image string) slipway.Artifact {
	for _, a := range artifacts {
		if a.Kind == slipway.ArtifactProvenance && a.Subject == image {
			return a
		}
	}
	return slipway.Artifact{}
}

// sbom is the SPDX document of the image: the file of this run, or the kept one of its scan.
func (p *production) sbom(ctx context.Context, image string) ([]byte, error) {
	var digest string
	for _, a := range p.env.Artifacts {
		if a.Kind != slipway.ArtifactSBOM || a.Service != p.step.Service {
			continue
		}
		digest = a.Digest
		if a.Path == "" || !filepath.IsAbs(a.Path) {
			continue
		}
		text, err := readFile(a.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // of an earlier run
		}
		if err != nil {
			return nil, fmt.Errorf("read the SBOM: %w", err)
		}
		return p.statable(text)
	}
	if digest == "" {
		scan, err := p.runner.Evidence.ScanOf(ctx, p.env.Run.Project, image)
		if slipway.ErrorCode(err) == slipway.NotFound {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		digest = scan.SBOM
	}
	if digest == "" {
		return nil, nil
	}
	text, err := p.runner.Evidence.SBOM(ctx, digest)
	if slipway.ErrorCode(err) == slipway.NotFound {
		p.env.Log.Printf("no SBOM is attested: the document %s is not kept any more", digest)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the SBOM: %w", err)
	}
	return p.statable(text)
}

// statable is an SBOM that can be stated: a larger one than registries and cosign take is left out, and the log says so. The
// document is kept with the scan all the same.
func (p *production) statable(text []byte) ([]byte, error) {
	if len(text) > maxSBOM {
		p.env.Log.Printf("no SBOM is attested: it has %d bytes, and at most %d are", len(text), maxSBOM)
		return nil, nil
	}
	return text, checkSBOM(text)
}

func readFile(path string) ([]byte, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, slipway.Errorf(slipway.Invalid, "%s is no file", path)
	}
	return os.ReadFile(path)
}

func checkSBOM(text []byte) error {
	var spdx struct {
		Version string `json:"spdxVersion"`
	}
	if err := json.Unmarshal(text, &spdx); err != nil || !strings.HasPrefix(spdx.Version, "SPDX-") {
		return slipway.Errorf(slipway.Invalid, "the SBOM is not an SPDX document in JSON")
	}
	return nil
}

// tests states what the tests said of the code in the image.
func (p *production) tests(ctx context.Context, image string, add addFunc) error {
	report, err := p.runner.Evidence.TestsOf(ctx, p.env.Run.ID, p.step.Service, image)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the tests: %w", err)
	}
	ran, err := p.runner.Evidence.TestedBy(ctx, p.env.Run.ID, p.step.Service, image)
	if slipway.ErrorCode(err) == slipway.NotFound || (err == nil && ran.Spec.Test == nil) {
		p.env.Log.Printf("no tests are attested: which step ran them is not on record")
		return nil
	}
	if err != nil {
		return fmt.Errorf("find what ran the tests: %w", err)
	}
	return add(TypeTests, testsOf(report, p.source(ran.Spec.Test.Source.Commit), p.runLink(ran.RunID)))
}

// scan states what was found in the image.
func (p *production) scan(ctx context.Context, image string, add addFunc) error {
	found, err := p.runner.Evidence.ScanOf(ctx, p.env.Run.Project, image)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the scan: %w", err)
	}
	return add(TypeScan, scanOf(found))
}

func titleOf(predicateType string) string {
	if name := nameOf(predicateType); name != "" {
		return name
	}
	return predicateType
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
	"github.com/slipway-cd/slipway/store"
)

const (
	signBudget   = 300 // ms, beyond the registry's round trips
	verifyBudget = 100 // ms
	sbomPackages = 1000
)

// measureSign signs and attests image and chart in the embedded registry over HTTP; what it is compared with is
// the same attachments pushed to another image as they are.
func measureSign(ctx context.Context, w *world) (rows []row, err error) {
	b, err := openSigning(ctx, filepath.Join(w.dir, "sign"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.close(context.WithoutCancel(ctx))) }()
	var signed, pushed, cold, warm []time.Duration
	for range w.o.times(20) {
		began := time.Now()
		image, chart, err := b.sign(ctx)
		if err != nil {
			return nil, err
		}
		signed = append(signed, time.Since(began))
		took, err := b.pushRaw(ctx, image, chart)
		if err != nil {
			return nil, err
		}
		pushed = append(pushed, took)
		for _, times := range []*[]time.Duration{&cold, &warm} {
			began = time.Now()
			report, err := b.verifier.Report(ctx, b.subject(b.image, image), b.subject(b.chart, chart))
			if err != nil || !report.Subjects[0].Signed || len(report.Subjects[0].Attestations) != 4 {
				return nil, fmt.Errorf("verify what was signed: %+v: %w", report, err)
			}
			*times = append(*times, time.Since(began))
		}
	}
	beyond := millis(signed).minus(millis(pushed))
	first := row{
		what: "Sign image and chart, attest provenance, SBOM, tests and scan", figure: millis(signed).String(),
		reference: millis(pushed).String() + " to push the same", result: "+" + beyond.String(), budget: fmt.Sprintf("≤ +%d ms", signBudget), verdict: judge(beyond.p50(), signBudget),
	}
	again := limitRow("Verify image and chart before a deployment, warm", millis(warm), millis(cold), verifyBudget)
	again.reference += " the first time"
	w.note("How signing is measured", `The attest step of a run, with the store's key, the SBOM of %d packages and the embedded registry of this process over
HTTP: one signature and provenance each for image and chart, and SBOM, test result and scan of the image. What it is
compared with is the push of the same seven bundles to other digests, by the same client. Verifying reads what is
attached to both and checks signatures, subjects and keys; warm means that this process has seen the bundles before.`, sbomPackages)
	return []row{first, again}, nil
}

// signing is a registry and a store with a key.
type signing struct {
	dir          string
	registry     *registry.Registry
	server       *httptest.Server
	store        *store.Store
	client       *oci.Client
	runner       attest.Runner
	verifier     *attest.Verifier
	image, chart slipway.Repository
}

func openSigning(ctx context.Context, dir string) (*signing, error) {
	b := &signing{dir: dir}
	var err error
	b.registry, err = registry.Open(filepath.Join(dir, "registry"), func(context.Context, string, string, registry.Action, string) (string, error) { return "bench", nil }, registry.Options{})
	if err != nil {
		return nil, err
	}
	if b.store, err = store.Open(ctx, filepath.Join(dir, "slipway.db"), store.Options{}); err != nil {
		return nil, err
	}
	b.server = httptest.NewServer(b.registry)
	at := slipway.Registry{Host: registryHost, Address: b.server.URL}
	b.image, b.chart = slipway.Repository{Registry: at, Name: "bench/delivery"}, slipway.Repository{Registry: at, Name: "bench/charts/delivery"}
	b.client = oci.New(nil, oci.Options{})
	b.runner = attest.Runner{Registry: b.client, Bundles: cosign.Bundles{}, Keys: b.store, Evidence: signEvidence{}, URL: "http://" + registryHost}
	b.verifier = attest.NewVerifier(b.client, cosign.Bundles{}, b.store.Keys, attest.VerifierOptions{Builders: []string{b.runner.URL}})
	return b, nil
}

func (b *signing) close(ctx context.Context) error {
	b.server.Close()
	return errors.Join(b.registry.Close(ctx), b.store.Close(), os.RemoveAll(b.dir))
}

func (b *signing) subject(repo slipway.Repository, digest string) attest.Subject {
	return attest.Subject{Repository: repo, Digest: digest}
}

// push pushes something small and returns its digest.
func (b *signing) push(ctx context.Context, repo slipway.Repository) (string, error) {
	img, err := random.Image(256, 1)
	if err != nil {
		return "", err
	}
	digest, err := img.Digest()
	if err != nil {
		return "", err
	}
	ref, err := name.ParseReference(strings.TrimPrefix(b.server.URL, "http://")+"/"+repo.Name+"@"+digest.String(), name.Insecure)
	if err != nil {
		return "", err
	}
	return digest.String(), remote.Write(ref, img, remote.WithContext(ctx))
}

// sign runs the attest step for a new image and a new chart.
func (b *signing) sign(ctx context.Context) (image, chart string, err error) {
	if image, err = b.push(ctx, b.image); err != nil {
		return "", "", err
	}
	if chart, err = b.push(ctx, b.chart); err != nil {
		return "", "", err
	}
	source := slipway.Source{Commit: strings.Repeat("1a", 20)}
	done := func(spec slipway.PlanStep) slipway.Step {
		return slipway.Step{RunID: 1, Spec: spec, State: slipway.StepSucceeded}
	}
	env := stage.Env{Run: slipway.Run{ID: 1, Project: project}, Log: quietLog{}, Journal: quietJournal{}, Now: time.Now,
		Artifacts: []slipway.Artifact{
			{Kind: slipway.ArtifactImage, Service: "delivery", Repository: b.image.Ref(), Digest: image},
			{Kind: slipway.ArtifactChart, Service: "delivery", Repository: b.chart.Ref(), Digest: chart},
		},
		Steps: []slipway.Step{
			done(slipway.PlanStep{Key: "build/delivery", Build: &slipway.BuildSpec{Source: source}}),
			done(slipway.PlanStep{Key: "chart/delivery", Chart: &slipway.ChartSpec{Source: source}}),
		}}
	res, err := b.runner.Run(ctx, env, slipway.PlanStep{Key: "attest/delivery", Service: "delivery", Attest: &slipway.AttestSpec{
		Image: b.image, Chart: b.chart, Builder: b.runner.URL, Source: "git+http://" + registryHost,
	}})
	if err == nil && len(res.Artifacts) != 7 {
		err = fmt.Errorf("sign: %+v", res)
	}
	return image, chart, err
}

// pushRaw attaches what is attached to image and chart to another image and chart, and says how long the
// pushes took.
func (b *signing) pushRaw(ctx context.Context, image, chart string) (time.Duration, error) {
	var took time.Duration
	for _, from := range []attest.Subject{b.subject(b.image, image), b.subject(b.chart, chart)} {
		to, err := b.push(ctx, from.Repository)
		if err != nil {
			return 0, err
		}
		list, err := b.client.Referrers(ctx, from.Repository, from.Digest)
		if err != nil {
			return 0, err
		}
		for _, a := range list {
			pulled, err := b.client.PullArtifact(ctx, from.Repository, a.Digest)
			if err != nil {
				return 0, err
			}
			pulled.Data = append(pulled.Data, ' ') // a blob that is not there yet
			began := time.Now()
			if _, err := b.client.PushArtifact(ctx, from.Repository, pulled, to); err != nil {
				return 0, err
			}
			took += time.Since(began)
		}
	}
	return took, nil
}

// signEvidence is tests, a scan and an SBOM of a usual size.
type signEvidence struct{}

func (signEvidence) BuiltBy(context.Context, string, string, string, int64) (slipway.Earlier, error) {
	return slipway.Earlier{}, slipway.Errorf(slipway.NotFound, "not on record")
}

func (signEvidence) TestsOf(context.Context, int64, string, string) (slipway.TestReport, error) {
	s := slipway.TestSuite{Name: "orders"}
	for i := range 500 {
		s.Cases = append(s.Cases, slipway.TestCase{Name: fmt.Sprintf("case %d", i), State: slipway.TestPassed})
	}
	return slipway.TestReport{Passed: len(s.Cases), Suites: []slipway.TestSuite{s}}, nil
}

func (signEvidence) TestedBy(context.Context, int64, string, string) (slipway.Step, error) {
	return slipway.Step{RunID: 1, Spec: slipway.PlanStep{Test: &slipway.TestSpec{}}}, nil
}

func (signEvidence) ScanOf(context.Context, string, string) (slipway.Scan, error) {
	scan := slipway.Scan{Scanner: "grype 0.116.0", SBOM: "sha256:sbom"}
	for i := range 100 {
		scan.Findings = append(scan.Findings, slipway.Finding{Kind: slipway.FindingVulnerability, ID: fmt.Sprintf("CVE-2026-%d", i), Severity: slipway.SeverityLow, Package: "openssl"})
	}
	return scan, nil
}

func (signEvidence) SBOM(context.Context, string) ([]byte, error) {
	var s strings.Builder
	s.WriteString(`{"spdxVersion":"SPDX-2.3","packages":[`)
	for i := range sbomPackages {
		if i > 0 {
			s.WriteString(",")
		}
		fmt.Fprintf(&s, `{"name":"package-%d","SPDXID":"SPDXRef-%d","versionInfo":"1.2.3","licenseConcluded":"NOASSERTION","externalRefs":[{"referenceLocator":"pkg:deb/debian/package-%d@1.2.3?arch=amd64","referenceType":"purl"}]}`, i, i, i)
	}
	s.WriteString("]}")
	return []byte(s.String()), nil
}

type quietLog struct{}

func (quietLog) Line(slipway.LogLine)  {}
func (quietLog) Printf(string, ...any) {}

type quietJournal struct{}

func (quietJournal) Put(context.Context, string, any) error         { return nil }
func (quietJournal) Get(context.Context, string, any) (bool, error) { return false, nil }

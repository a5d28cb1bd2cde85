package attest_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	commit  = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d"
	server  = "https://slipway.example.com"
	gitRepo = "git+https://slipway.example.com/git/shop.git"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// keys is a service with keys in memory.
type keys struct {
	mu      sync.Mutex
	all     []slipway.Key
	private map[string]*ecdsa.PrivateKey
}

func newKeys(t testing.TB) *keys {
	t.Helper()
	k := &keys{private: map[string]*ecdsa.PrivateKey{}}
	k.rotate(t)
	return k
}

// rotate makes the key that signs from now on, and replaces the one before.
func (k *keys) rotate(t testing.TB) slipway.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	key := slipway.Key{Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), CreatedAt: noon}
	key.ID, _ = slipway.KeyID(der)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.all {
		k.all[i].ReplacedAt = noon
	}
	k.all, k.private[key.ID] = append([]slipway.Key{key}, k.all...), private
	return key
}

func (k *keys) change(id string, change func(*slipway.Key)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.all[slices.IndexFunc(k.all, func(x slipway.Key) bool { return x.ID == id })])
}

func (k *keys) Keys(context.Context) ([]slipway.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.all), nil
}

func (k *keys) SigningKey(ctx context.Context) (slipway.Key, error) {
	all, err := k.Keys(ctx)
	return all[0], err
}

func (k *keys) Sign(_ context.Context, id string, digest []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return ecdsa.SignASN1(rand.Reader, k.private[id], digest)
}

// evidence is what is known in a test; what is not set is not known.
type evidence struct {
	built *slipway.Earlier
	tests *slipway.TestReport
	ran   *slipway.Step // that made tests
	scan  *slipway.Scan
	sboms map[string][]byte
}

func known[T any](v *T) (T, error) {
	if v == nil {
		var none T
		return none, slipway.Errorf(slipway.NotFound, "not on record")
	}
	return *v, nil
}

func (e *evidence) BuiltBy(_ context.Context, _, _, _ string, run int64) (slipway.Earlier, error) {
	found, err := known(e.built)
	if err == nil && run != 0 && found.Step.RunID != run {
		return found, slipway.Errorf(slipway.NotFound, "not on record")
	}
	return found, err
}

func (e *evidence) TestsOf(context.Context, int64, string, string) (slipway.TestReport, error) {
	return known(e.tests)
}

func (e *evidence) TestedBy(context.Context, int64, string, string) (slipway.Step, error) {
	return known(e.ran)
}

func (e *evidence) ScanOf(context.Context, string, string) (slipway.Scan, error) {
	return known(e.scan)
}

func (e *evidence) SBOM(_ context.Context, digest string) ([]byte, error) {
	if b, ok := e.sboms[digest]; ok {
		return b, nil
	}
	return nil, slipway.Errorf(slipway.NotFound, "not kept")
}

// journal forgets.
type journal struct{}

func (journal) Put(context.Context, string, any) error         { return nil }
func (journal) Get(context.Context, string, any) (bool, error) { return false, nil }

// lines keeps a log.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Line(v slipway.LogLine) { l.Printf("%s", v.Text) }
func (l *lines) Printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, fmt.Sprintf(format, args...))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// world is a registry with an image and a chart in it, and all that signs them.
type world struct {
	t        testing.TB
	host     string
	client   *oci.Client
	keys     *keys
	evidence *evidence
	runner   *attest.Runner
	log      *lines
	image    string // digest
	chart    string
	record   string // of the build, attached to the image

	mu    sync.Mutex
	asked []string
	down  bool
	alter bool // blobs come with another first byte
	fail  func(*http.Request) bool

	alterManifest string // that digest's comes with another first byte
}

func newWorld(t testing.TB, referrers bool) *world {
	t.Helper()
	w := &world{t: t, keys: newKeys(t), evidence: &evidence{}, log: &lines{}}
	inner := ggcr.New(ggcr.WithReferrersSupport(referrers), ggcr.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.asked = append(w.asked, r.Method+" "+r.URL.Path)
		broken, alter := w.down || w.fail != nil && w.fail(r), w.alter
		manifest := w.alterManifest
		w.mu.Unlock()
		if broken {
			rw.WriteHeader(http.StatusTooManyRequests)
			return
		}
		if r.Method == http.MethodGet && (alter && strings.Contains(r.URL.Path, "/blobs/") || manifest != "" && strings.HasSuffix(r.URL.Path, "/manifests/"+manifest)) {
			kept := httptest.NewRecorder()
			inner.ServeHTTP(kept, r)
			maps.Copy(rw.Header(), kept.Header())
			rw.WriteHeader(kept.Code)
			_, _ = rw.Write(append([]byte("x"), kept.Body.Bytes()[1:]...))
			return
		}
		inner.ServeHTTP(rw, r)
	}))
	rt := &http.Transport{}
	t.Cleanup(func() { rt.CloseIdleConnections(); srv.Close() })
	w.host = srv.URL
	w.client = oci.New(nil, oci.Options{Transport: rt, RetryDelay: time.Millisecond})
	w.runner = &attest.Runner{Registry: w.client, Bundles: cosign.Bundles{}, Keys: w.keys, Evidence: w.evidence, URL: server}
	w.image, w.chart = w.push("shop/delivery"), w.push("shop/charts/delivery")
	w.record = w.attach(attest.Attachment{ArtifactType: "application/vnd.slipway.build-record.v1+json", MediaType: "application/vnd.in-toto+json",
		Data: []byte(`{"predicate":{"buildDefinition":{"resolvedDependencies":[{"uri":"pkg:docker/golang@1.26","digest":{"sha256":"` + strings.Repeat("b", 64) + `"}},{"uri":"local"}]}}}`)})
	return w
}

func (w *world) repo(name string) slipway.Repository {
	return slipway.Repository{Registry: slipway.Registry{Host: "registry.example.com", Address: w.host}, Name: name}
}

func (w *world) push(repo string) string {
	w.t.Helper()
	img, err := random.Image(512, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := p.AppendImage(img); err != nil {
		w.t.Fatal(err)
	}
	digest, err := w.client.PushLayout(context.Background(), dir, w.repo(repo), "x")
	if err != nil {
		w.t.Fatal(err)
	}
	return digest
}

// attach attaches something to the image.
func (w *world) attach(a attest.Attachment) string {
	w.t.Helper()
	digest, err := w.client.PushArtifact(context.Background(), w.repo("shop/delivery"), a, w.image)
	if err != nil {
		w.t.Fatal(err)
	}
	return digest
}

// pushes counts the manifests that were written since the last call.
func (w *world) pushes() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, a := range w.asked {
		if strings.HasPrefix(a, "PUT ") && strings.Contains(a, "/manifests/sha256:") {
			n++
		}
	}
	w.asked = nil
	return n
}

func (w *world) set(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *world) step() slipway.PlanStep {
	return slipway.PlanStep{Key: "attest/delivery", Kind: slipway.KindAttest, Service: "delivery", Attest: &slipway.AttestSpec{
		Image: w.repo("shop/delivery"), Chart: w.repo("shop/charts/delivery"), Builder: server, Source: gitRepo, Ref: "refs/heads/main", Commit: commit, Dir: "services/delivery",
	}}
}

// env is run 7, which built, tested and published.
func (w *world) env() stage.Env {
	source := slipway.Source{Commit: commit, Dir: "services/delivery"}
	done := func(id int64, spec slipway.PlanStep) slipway.Step {
		spec.Service = "delivery"
		spec.Key = slipway.StepKey(spec.Kind, "delivery", "")
		return slipway.Step{ID: id, RunID: 7, Spec: spec, State: slipway.StepSucceeded, StartedAt: noon, FinishedAt: noon.Add(time.Minute)}
	}
	artifact := func(kind slipway.ArtifactKind, repo, digest string) slipway.Artifact {
		return slipway.Artifact{Project: "shop", RunID: 7, Service: "delivery", Kind: kind, Repository: "registry.example.com/" + repo, Digest: digest, Commit: commit}
	}
	record := artifact(slipway.ArtifactProvenance, "shop/delivery", w.record)
	record.Subject = w.image
	return stage.Env{
		Run: slipway.Run{ID: 7, Project: "shop", Commit: commit}, Log: w.log, Journal: journal{}, Now: func() time.Time { return noon },
		Steps: []slipway.Step{
			done(1, slipway.PlanStep{Kind: slipway.KindBuild, Build: &slipway.BuildSpec{Source: source, Dockerfile: "Dockerfile", Args: map[string]string{"A": "1"}, Epoch: 1, Trust: slipway.TrustReviewed}}),
			done(2, slipway.PlanStep{Kind: slipway.KindTest, Test: &slipway.TestSpec{Source: source}}),
			done(3, slipway.PlanStep{Kind: slipway.KindChart, Chart: &slipway.ChartSpec{Source: source, Version: "1.0.2"}}),
			done(4, slipway.PlanStep{Kind: slipway.KindPublish, Publish: &slipway.PublishSpec{}}),
		},
		Artifacts: []slipway.Artifact{
			artifact(slipway.ArtifactImage, "shop/delivery", w.image), record,
			{Project: "shop", RunID: 7, Service: "delivery", Kind: slipway.ArtifactChart, Path: "/x.tgz", Digest: "sha256:of-the-package"},
			artifact(slipway.ArtifactImage, "shop/delivery", w.image), artifact(slipway.ArtifactChart, "shop/charts/delivery", w.chart),
		},
	}
}

// everything is evidence of each kind.
func (w *world) everything() {
	percent := slipway.Coverage{Covered: 1, Total: 2}
	w.evidence.tests = &slipway.TestReport{Passed: 2, Skipped: 1, Coverage: &percent, Suites: []slipway.TestSuite{{Name: "orders", Cases: []slipway.TestCase{
		{Name: "adds", State: slipway.TestPassed}, {Name: "wobbles", State: slipway.TestPassed, Flaky: true}, {Name: "later", State: slipway.TestSkipped}}}}}
	w.evidence.ran = &slipway.Step{RunID: 7, Spec: slipway.PlanStep{Test: &slipway.TestSpec{Source: slipway.Source{Commit: commit}}}}
	w.evidence.scan = &slipway.Scan{Digest: w.image, Scanner: "grype 0.116.0", Database: slipway.ScanDatabase{Built: noon, Checksum: "sha256:1"}, ScannedAt: noon, SBOM: "sha256:sbom",
		Findings: []slipway.Finding{{Kind: slipway.FindingVulnerability, ID: "CVE-2024-1234", Severity: slipway.SeverityHigh, Package: "openssl", Version: "3.0"},
			{Kind: slipway.FindingSecret, ID: "aws-key", Severity: slipway.SeverityCritical, Path: "src/.env", Line: 3}}}
	w.evidence.sboms = map[string][]byte{"sha256:sbom": []byte(`{"spdxVersion":"SPDX-2.3","packages":[{"name":"openssl"}]}`)}
}

// run runs the step and wants it to succeed.
func (w *world) run(env stage.Env) []slipway.Artifact {
	w.t.Helper()
	res, err := w.runner.Run(context.Background(), env, w.step())
	if err != nil || res.Outcome != slipway.Succeeded {
		w.t.Fatalf("%+v, %v", res, err)
	}
	return res.Artifacts
}

func (w *world) verifier() *attest.Verifier {
	return attest.NewVerifier(w.client, cosign.Bundles{}, w.keys.Keys, attest.VerifierOptions{Builders: []string{server}, Now: func() time.Time { return noon.Add(time.Hour) }})
}

func (w *world) subject() attest.Subject {
	return attest.Subject{Kind: slipway.ArtifactImage, Repository: w.repo("shop/delivery"), Digest: w.image}
}

func (w *world) proofs() []attest.Proof {
	w.t.Helper()
	p, err := w.verifier().Proofs(context.Background(), w.subject())
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// statements are what is attached to the image, by name; several of a name are together.
func (w *world) statements() map[string][]json.RawMessage {
	w.t.Helper()
	out := map[string][]json.RawMessage{}
	for _, p := range w.proofs() {
		if p.Problem != "" {
			w.t.Fatalf("%s: %s", p.Name, p.Problem)
		}
		a, err := w.client.PullArtifact(context.Background(), w.repo("shop/delivery"), p.Digest)
		if err != nil {
			w.t.Fatal(err)
		}
		all, err := w.keys.Keys(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		opened, err := cosign.Bundles{}.Open(a.Data, w.image, all)
		if err != nil {
			w.t.Fatal(err)
		}
		out[p.Name] = append(out[p.Name], opened.Statement)
	}
	return out
}

func names(m map[string][]json.RawMessage) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s:%d", k, len(m[k])))
	}
	return strings.Join(out, " ")
}

package deploy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helm"
	"github.com/slipway-cd/slipway/driver/kube"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/deploy"
	"github.com/slipway-cd/slipway/stage/verify"
)

const (
	project  = "hk"
	robot    = "robot"
	robotKey = "only-pulls"
)

// world is a real cluster with a registry of ours mapped into it.
type world struct {
	kubeconfig []byte
	api        kubernetes.Interface
	dynamic    dynamic.Interface
	host       string // as it stands in image references
	images     []string
	helm       *helm.Client
	kube       *kube.Client
	namespace  string
	charts     map[string][]byte // by digest
	journals   string            // folder
	mu         sync.Mutex
	saved      []slipway.Deployment
}

// newWorld makes a namespace for one test. It needs SLIPWAY_E2E=1.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("needs a Kubernetes: SLIPWAY_E2E=1 KUBECONFIG=...")
	}
	w := openWorld(t)
	w.host, w.images = testImages(t)
	w.namespace = fmt.Sprintf("%s-%s-%d", project, strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "-")), os.Getpid())
	w.namespace = w.namespace[:min(len(w.namespace), 60)]
	w.journals = t.TempDir()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := w.api.CoreV1().Namespaces().Delete(ctx, w.namespace, deleteNow()); err != nil {
			t.Log(err)
		}
	})
	return w
}

// openWorld connects to the cluster of KUBECONFIG.
func openWorld(t testing.TB) *world {
	kubeconfig, err := os.ReadFile(os.Getenv("KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	w := &world{kubeconfig: kubeconfig, charts: map[string][]byte{}}
	w.api, w.dynamic = kubernetes.NewForConfigOrDie(config), dynamic.NewForConfigOrDie(config)
	w.helm, w.kube = helm.New(w, nil), kube.New(w)
	return w
}

func (w *world) Kubeconfig(_ context.Context, name string) ([]byte, error) {
	if name != "local" {
		return nil, slipway.Errorf(slipway.NotFound, "no cluster %s", name)
	}
	return w.kubeconfig, nil
}

func (w *world) PullChart(_ context.Context, _ slipway.Repository, digest string) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.charts[digest], nil
}

func (w *world) PullToken(context.Context, string, string, string) (string, string, error) {
	return robot, robotKey, nil
}

func (w *world) Save(_ context.Context, d slipway.Deployment) (slipway.Deployment, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, have := range w.saved {
		if have.RunID == d.RunID && have.Step == d.Step {
			d.ID = have.ID
			w.saved[i] = d
			return d, nil
		}
	}
	d.ID = int64(len(w.saved) + 1)
	w.saved = append(w.saved, d)
	return d, nil
}

func (w *world) target() slipway.Target {
	return slipway.Target{Project: project, Environment: "qa", Service: "delivery", Cluster: "local", Namespace: w.namespace,
		Release: "delivery", HistoryMax: 5, Timeout: slipway.Duration(10 * time.Minute), Tests: true}
}

// version is something to deploy: one of the two images, and the chart's environment values.
type version struct {
	run    int64
	name   string
	image  int // of world.images; -1: one that does not exist
	values string
}

const noSuchDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func (w *world) env(t *testing.T, v version) (stage.Env, slipway.DeploySpec, *log) {
	t.Helper()
	pkg := pack(t, v.name, v.values)
	digest := "sha256:" + fmt.Sprintf("%064x", v.run)
	w.mu.Lock()
	w.charts[digest] = pkg
	w.mu.Unlock()
	image := noSuchDigest
	if v.image >= 0 {
		image = w.images[v.image]
	}
	l := &log{t: t}
	env := stage.Env{
		Run: slipway.Run{ID: v.run, Project: project, Actor: "ada"}, Log: l, Now: time.Now, Journal: journal(filepath.Join(w.journals, fmt.Sprint(v.run))),
		Artifacts: []slipway.Artifact{
			{Kind: slipway.ArtifactImage, Service: "delivery", Repository: w.host + "/hk/delivery", Digest: image},
			{Kind: slipway.ArtifactChart, Service: "delivery", Repository: w.host + "/hk/charts/delivery", Digest: digest},
		},
	}
	registry := slipway.Registry{Host: w.host}
	return env, slipway.DeploySpec{Target: w.target(), Version: v.name, Commit: fmt.Sprintf("%040x", v.run), Tag: v.name, Reason: v.name + ": a test",
		Image: slipway.Repository{Registry: registry, Name: "hk/delivery"}, Chart: slipway.Repository{Registry: registry, Name: "hk/charts/delivery"}}, l
}

func (w *world) runner() *deploy.Runner {
	return &deploy.Runner{Helm: w.helm, Charts: w, Cluster: w.kube, Robots: w, Deployments: w}
}

const deployKey, verifyKey, rollbackKey = "deploy/delivery@qa", "verify/delivery@qa", "rollback/delivery@qa"

func (w *world) deploy(t *testing.T, v version) (slipway.Result, *log) {
	t.Helper()
	env, spec, l := w.env(t, v)
	res, err := w.runner().Run(t.Context(), env, slipway.PlanStep{Key: deployKey, Deploy: &spec})
	if err != nil {
		t.Fatalf("deploy %s: %v", v.name, err)
	}
	return res, l
}

func (w *world) verify(t *testing.T, v version, d slipway.Deployment) (slipway.Result, *log) {
	t.Helper()
	env, spec, l := w.env(t, v)
	env.Deployments = []slipway.Deployment{d}
	r := &verify.Runner{Helm: w.helm, Cluster: w.kube}
	res, err := r.Run(t.Context(), env, slipway.PlanStep{Key: verifyKey, Verify: &slipway.VerifySpec{Target: spec.Target, Version: v.name}})
	if err != nil {
		t.Fatalf("verify %s: %v\n%s", v.name, err, l)
	}
	return res, l
}

// must deploys and verifies, and returns the verified deployment.
func (w *world) must(t *testing.T, v version) slipway.Deployment {
	t.Helper()
	res, l := w.deploy(t, v)
	if res.Outcome != slipway.Succeeded {
		t.Fatalf("deploy %s: %s\n%s", v.name, res.Reason, l)
	}
	res, l = w.verify(t, v, res.Deployments[0])
	if res.Outcome != slipway.Succeeded || res.Deployments[0].State != slipway.Verified {
		t.Fatalf("verify %s: %s\n%s", v.name, res.Reason, l)
	}
	return res.Deployments[0]
}

// settled fails the test unless exactly one revision is deployed, the newest, and none is moving.
func (w *world) settled(t *testing.T) deploy.Revision {
	t.Helper()
	history, err := w.helm.History(t.Context(), w.target())
	if err != nil || len(history) == 0 {
		t.Fatalf("history %v, %v", history, err)
	}
	deployed := 0
	for _, r := range history {
		if r.Status == deploy.StatusDeployed {
			deployed++
		}
		if r.Status.Moving() {
			t.Errorf("revision %d is %s", r.Number, r.Status)
		}
	}
	if deployed != 1 || history[0].Status != deploy.StatusDeployed {
		t.Errorf("history %+v", history)
	}
	return history[0]
}

type log struct {
	t     testing.TB
	mu    sync.Mutex
	lines []string
}

func (l *log) Line(line slipway.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(fmt.Sprintf("%s [%s] %s", line.Group, line.State, line.Text)))
}

func (l *log) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// has fails the test unless the log contains the text.
func (l *log) has(t *testing.T, text string) {
	t.Helper()
	if !strings.Contains(l.String(), text) {
		t.Errorf("the log lacks %q:\n%s", text, l)
	}
}

// journal is a folder of files: it outlives a process that is killed.
type journal string

func (j journal) Put(_ context.Context, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(string(j), 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(string(j), key), b, 0o644)
}

func (j journal) Get(_ context.Context, key string, v any) (bool, error) {
	b, err := os.ReadFile(filepath.Join(string(j), key))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(b, v)
}

// pack makes the test's chart with environment values.
func pack(t testing.TB, version, values string) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	add := func(name string, data []byte) {
		if err := tw.WriteHeader(&tar.Header{Name: "delivery/" + name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Chart.yaml", "values.yaml", "templates/all.yaml"} {
		b, err := os.ReadFile(filepath.Join("testdata/chart", name))
		if err != nil {
			t.Fatal(err)
		}
		add(name, bytes.ReplaceAll(b, []byte("VERSION"), []byte(strings.TrimPrefix(version, "v"))))
	}
	add("values-qa.yaml", []byte(values))
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var images struct {
	once    sync.Once
	host    string
	digests []string
	err     error
	stop    func()
}

// testImages builds two images of the test's app, serves them from a registry that asks for the
// robot's login, and maps it into the cluster.
func testImages(t *testing.T) (string, []string) {
	t.Helper()
	images.once.Do(func() { images.host, images.digests, images.err = makeImages() })
	if images.err != nil {
		t.Fatal(images.err)
	}
	return images.host, images.digests
}

func makeImages() (string, []string, error) {
	dir, err := os.MkdirTemp("", "slipway-e2e-app")
	if err != nil {
		return "", nil, err
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/app", "./testdata/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("build the app: %w: %s", err, out)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return appLayer(dir + "/app") })
	if err != nil {
		return "", nil, err
	}
	srv := httptest.NewServer(login(registry.New(registry.Logger(quiet()))))
	host := fmt.Sprintf("e2e-%d.slipway.internal", os.Getpid())
	cluster := os.Getenv("SLIPWAY_CLUSTER")
	if out, err := exec.Command(cluster, "registry", host+"="+srv.URL).CombinedOutput(); err != nil {
		srv.Close()
		return "", nil, fmt.Errorf("map the registry with SLIPWAY_CLUSTER=%s: %w: %s", cluster, err, out)
	}
	images.stop = func() {
		srv.Close()
		_ = exec.Command(cluster, "registry", "--remove", host).Run()
	}
	var digests []string
	for i := range 2 {
		digest, err := push(srv.URL, layer, i)
		if err != nil {
			return "", nil, err
		}
		digests = append(digests, digest)
	}
	return host, digests, nil
}

func appLayer(file string) (io.ReadCloser, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := tw.WriteHeader(&tar.Header{Name: "app", Mode: 0o755, Size: int64(len(b)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := tw.Write(b); err != nil {
		return nil, err
	}
	return io.NopCloser(&buf), tw.Close()
}

func push(url string, layer v1.Layer, n int) (string, error) {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return "", err
	}
	img, err = mutate.Config(img, v1.Config{Entrypoint: []string{"/app"}, User: "1000", Labels: map[string]string{"n": fmt.Sprint(n)}})
	if err != nil {
		return "", err
	}
	ref, err := name.ParseReference(strings.TrimPrefix(url, "http://")+fmt.Sprintf("/hk/delivery:n%d", n), name.Insecure)
	if err != nil {
		return "", err
	}
	if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: robot, Password: robotKey})); err != nil {
		return "", err
	}
	digest, err := img.Digest()
	return digest.String(), err
}

// login lets only the robot in.
func login(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, key, ok := r.BasicAuth()
		if !ok || user != robot || key != robotKey {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

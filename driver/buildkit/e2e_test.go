//go:build linux

package buildkit

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-cd/slipway"
)

// e2e guards tests that need root and start a real buildkitd.
func e2e(t testing.TB) {
	t.Helper()
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("needs root and starts a buildkitd: set SLIPWAY_E2E=1")
	}
}

// patience is how long a process may take to come or to go on a busy machine.
const patience = 5 * time.Minute

// nap is how many seconds a process of a test sleeps, which no other on the machine does: it is known by that.
func nap() string { return strconv.Itoa(os.Getpid()*100 + int(naps.Add(1))) }

var naps atomic.Int64

// common is the daemon of all tests that do it no harm, with its registry: to start, to prove and to end one takes
// seconds. It is made when the first test asks for it and ends after the last one.
var common house

type house struct {
	dir string
	reg *testRegistry
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := common.close(); err != nil {
		fmt.Fprintln(os.Stderr, "end the daemon that tests shared:", err)
		code = 1
	}
	os.Exit(code)
}

func (h *house) open() (err error) {
	if h.dir == "" {
		h.reg = startRegistry()
		h.dir, err = os.MkdirTemp("", "slipbk")
	}
	return err
}

func (h *house) close() error {
	if h.dir == "" {
		return nil
	}
	defer h.reg.stop()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return Remove(ctx, Options{Dir: h.dir, Progress: func(string) {}}, true)
}

// testRegistry is an OCI registry that lets in only who knows the password.
type testRegistry struct {
	address  string // URL
	host     string
	password string
	stop     func()
}

const testPassword = "only-for-the-test"

func newRegistry(t testing.TB) *testRegistry {
	t.Helper()
	reg := startRegistry()
	t.Cleanup(reg.stop)
	return reg
}

func startRegistry() *testRegistry {
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	reg := &testRegistry{password: testPassword}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, ok := r.BasicAuth()
		if !ok || user != "builder" || pass != reg.password {
			w.Header().Set("WWW-Authenticate", `Basic realm="slipway"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
			return
		}
		// It refuses a range without an end, with which a pull that was cancelled goes on; all of a blob will do.
		if strings.HasSuffix(r.Header.Get("Range"), "-") {
			r.Header.Del("Range")
		}
		handler.ServeHTTP(w, r)
	}))
	reg.address, reg.host, reg.stop = srv.URL, strings.TrimPrefix(srv.URL, "http://"), srv.Close
	return reg
}

func (r *testRegistry) credentials(_ context.Context, _, host string) (string, string) {
	if host == r.host {
		return "builder", r.password
	}
	return "", ""
}

func (r *testRegistry) options(ctx context.Context) []remote.Option {
	c := credentials{get: r.credentials}
	return []remote.Option{remote.WithContext(ctx), remote.WithAuth(c.registryAuth(ctx, r.host))}
}

func (r *testRegistry) repository(repo string) *slipway.Repository {
	return &slipway.Repository{Registry: slipway.Registry{Host: "registry.slipway.internal", Address: r.address}, Name: repo}
}

func (r *testRegistry) mirrors() []Mirror {
	return []Mirror{{Registry: "docker.io", Address: r.address, Prefix: "mirror/docker.io"}}
}

// pushBusybox puts a base image with a shell into the mirror, another one each time: nothing was built from it before.
func (r *testRegistry) pushBusybox(t testing.TB) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layer.tar")
	writeBusyboxLayer(t, file)
	r.push(t, "library/busybox:1.36", file, v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}})
}

// push puts an image of one layer into the mirror of docker.io.
func (r *testRegistry) push(t testing.TB, image, file string, config v1.Config) {
	t.Helper()
	layer, err := tarball.LayerFromFile(file, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		mutate.Addendum{Layer: layer})
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cfg = cfg.DeepCopy()
	cfg.OS, cfg.Architecture, cfg.Config = "linux", "amd64", config
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(r.host+"/mirror/docker.io/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, r.options(t.Context())...); err != nil {
		t.Fatal(err)
	}
}

// world is a running engine with its registry.
type world struct {
	*Engine
	ctx context.Context
	reg *testRegistry
	dir string
}

func testOptions(t testing.TB, reg *testRegistry, dir string) Options {
	return Options{
		Dir: dir, Own: true, Credentials: reg.credentials, Mirrors: reg.mirrors(),
		Log:      slog.New(slog.NewTextHandler(testWriter{t}, nil)),
		Progress: func(line string) { fmt.Fprintln(testWriter{t}, line) },
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// tempDir is a folder whose leftovers of a daemon are removed before the folder is.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "slipbk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := Remove(ctx, Options{Dir: dir, Progress: func(string) {}}, true); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return dir
}

// newWorld is a daemon of the test's own, with which it may do as it likes.
func newWorld(t testing.TB) *world {
	t.Helper()
	e2e(t)
	w := openWorld(t, newRegistry(t), tempDir(t))
	e := w.Engine
	t.Cleanup(func() {
		if err := e.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

// lodging is an engine of the test's own, with the daemon that all share: the test must leave that as it is.
func lodging(t testing.TB) *world {
	t.Helper()
	e2e(t)
	if err := common.open(); err != nil {
		t.Fatal(err)
	}
	w := openWorld(t, common.reg, common.dir)
	t.Cleanup(w.Detach)
	return w
}

func openWorld(t testing.TB, reg *testRegistry, dir string) *world {
	t.Helper()
	reg.pushBusybox(t)
	e, err := Open(t.Context(), testOptions(t, reg, dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Ready(t.Context()); err != nil {
		e.Detach()
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	return &world{Engine: e, ctx: ctx, reg: reg, dir: dir}
}

// tree writes files into a new folder.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasSuffix(name, ".sh") {
			mode = 0o755
		}
		if err := os.WriteFile(p, []byte(body), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// testLog keeps the lines, and wakes whoever waits for one.
type testLog struct {
	t     testing.TB
	mu    sync.Mutex
	lines []slipway.LogLine
	wake  chan struct{}
}

func newLog(t testing.TB) *testLog { return &testLog{t: t, wake: make(chan struct{}, 1)} }

func (l *testLog) Line(line slipway.LogLine) {
	l.mu.Lock()
	l.lines = append(l.lines, line)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *testLog) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func (l *testLog) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line.Text, part) {
			return true
		}
	}
	return false
}

func (l *testLog) count(which func(slipway.LogLine) bool) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if which(line) {
			n++
		}
	}
	return n
}

func (l *testLog) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, line := range l.lines {
		fmt.Fprintf(&b, "%-40.40s|%-7s|%-6s| %s\n", line.Group, line.State, line.Stream, line.Text)
	}
	return b.String()
}

// wait returns when a line with that part was logged.
func (l *testLog) wait(ctx context.Context, part string) {
	l.t.Helper()
	for !l.has(part) {
		select {
		case <-l.wake:
		case <-ctx.Done():
			l.t.Fatalf("no line with %q: %v\n%s", part, context.Cause(ctx), l.all())
		}
	}
}

// processes are the ids of processes with that argument.
func processes(arg string) []string {
	var found []string
	for _, pid := range entries("/proc") {
		raw, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err != nil {
			continue
		}
		for _, a := range strings.Split(string(raw), "\x00") {
			if a == arg {
				found = append(found, pid)
			}
		}
	}
	return found
}

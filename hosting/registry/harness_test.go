package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/hosting/registry"
)

// world is a registry behind a real HTTP server, with three users: dev may pull and push, robot may
// pull, admin may do everything; the secret is the name backwards.
type world struct {
	t      testing.TB
	dir    string
	reg    *registry.Registry
	server *httptest.Server
	host   string
	rt     *http.Transport

	mu     sync.Mutex
	pushed []registry.Pushed
}

func newWorld(t testing.TB) *world { return openWorld(t, t.TempDir(), registry.Options{}) }

func openWorld(t testing.TB, dir string, opts registry.Options) *world {
	t.Helper()
	w := &world{t: t, dir: dir, rt: &http.Transport{}}
	opts.OnPush = func(_ context.Context, p registry.Pushed) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.pushed = append(w.pushed, p)
	}
	reg, err := registry.Open(dir, authorize, opts)
	if err != nil {
		t.Fatal(err)
	}
	w.reg = reg
	w.server = httptest.NewServer(reg)
	w.host = strings.TrimPrefix(w.server.URL, "http://")
	t.Cleanup(w.close)
	return w
}

func (w *world) close() {
	w.rt.CloseIdleConnections()
	w.server.Close()
	if err := w.reg.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
}

func authorize(_ context.Context, user, secret string, action registry.Action, repository string) (string, error) {
	secrets := map[string]string{"dev": "ved", "robot": "tobor", "admin": "nimda"}
	if user == "" || secrets[user] != secret {
		return "", slipway.Errorf(slipway.Unauthorized, "unknown user or token")
	}
	allowed := map[string]string{"dev": "pull push", "robot": "pull", "admin": "pull push delete"}
	hidden := strings.HasPrefix(repository, "secret/") && user != "admin"
	if hidden || !strings.Contains(allowed[user], string(action)) {
		return "", slipway.Errorf(slipway.Forbidden, "%s may not %s %s", user, action, repository)
	}
	return user, nil
}

func as(user string) authn.Authenticator {
	b := []byte(user)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return authn.FromConfig(authn.AuthConfig{Username: user, Password: string(b)})
}

func (w *world) options(user string) []remote.Option {
	opts := []remote.Option{remote.WithTransport(w.rt), remote.WithRetryStatusCodes()}
	if user != "" {
		opts = append(opts, remote.WithAuth(as(user)))
	}
	return opts
}

func (w *world) ref(s string) name.Reference {
	w.t.Helper()
	r, err := name.ParseReference(w.host+"/"+s, name.StrictValidation)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) push(user, ref string, img remote.Taggable) error {
	w.t.Helper()
	return remote.Push(w.ref(ref), img, w.options(user)...)
}

func (w *world) mustPush(user, ref string, img remote.Taggable) {
	w.t.Helper()
	if err := w.push(user, ref, img); err != nil {
		w.t.Fatalf("push %s as %s: %v", ref, user, err)
	}
}

// pushBlobs pushes config and layers of an image, and not its manifest.
func (w *world) pushBlobs(repository string, img v1.Image) {
	w.t.Helper()
	layers, err := img.Layers()
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range append(layers, config) {
		if err := remote.WriteLayer(w.ref(repository+":x").Context(), l, w.options("dev")...); err != nil {
			w.t.Fatal(err)
		}
	}
}

// digest is what a reference names, "" for nothing.
func (w *world) digest(user, ref string) string {
	w.t.Helper()
	d, err := remote.Head(w.ref(ref), w.options(user)...)
	if status(err) == http.StatusNotFound {
		return ""
	}
	if err != nil {
		w.t.Fatalf("head %s: %v", ref, err)
	}
	return d.Digest.String()
}

func (w *world) events() []registry.Pushed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]registry.Pushed(nil), w.pushed...)
}

// do sends a raw request; a body may be nil, header pairs follow.
func (w *world) do(user, method, path string, body io.Reader, header ...string) (*http.Response, string) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.server.URL+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if user != "" {
		cfg, _ := as(user).Authorization()
		req.SetBasicAuth(cfg.Username, cfg.Password)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.rt.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(b)
}

// expect checks the status and the OCI error code of a raw request.
func (w *world) expect(user, method, path string, body io.Reader, wantStatus int, wantCode string) string {
	w.t.Helper()
	resp, text := w.do(user, method, path, body, "Content-Type", string(types.OCIManifestSchema1))
	if resp.StatusCode != wantStatus {
		w.t.Fatalf("%s %s as %q: status %d, want %d: %s", method, path, user, resp.StatusCode, wantStatus, text)
	}
	if wantCode == "" {
		return text
	}
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(text), &e); err != nil || len(e.Errors) != 1 {
		w.t.Fatalf("%s %s: not an OCI error: %q (%v)", method, path, text, err)
	}
	if e.Errors[0].Code != wantCode {
		w.t.Fatalf("%s %s: code %s, want %s: %s", method, path, e.Errors[0].Code, wantCode, text)
	}
	return e.Errors[0].Message
}

func status(err error) int {
	var e *transport.Error
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

func image(t testing.TB, layers int) v1.Image {
	t.Helper()
	img, err := random.Image(4096, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digestOf(t testing.TB, i interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := i.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// referrer is an image that refers to another one.
func referrer(t testing.TB, subject v1.Image, artifactType string) v1.Image {
	t.Helper()
	size, err := subject.Size()
	if err != nil {
		t.Fatal(err)
	}
	h, err := subject.Digest()
	if err != nil {
		t.Fatal(err)
	}
	mt, err := subject.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	img := mutate.MediaType(image(t, 1), types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.MediaType(artifactType))
	img, ok := mutate.Subject(img, v1.Descriptor{MediaType: mt, Size: size, Digest: h}).(v1.Image)
	if !ok {
		t.Fatal("mutate.Subject did not return an image")
	}
	return img
}

func (w *world) blobFile(repository, digest string) string {
	return filepath.Join(w.dir, repository, "blobs", "sha256", strings.TrimPrefix(digest, "sha256:"))
}

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

// blobsOf lists the digests of an image's manifest, config and layers.
func blobsOf(t testing.TB, img v1.Image) []string {
	t.Helper()
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	list := []string{digestOf(t, img), m.Config.Digest.String()}
	for _, l := range m.Layers {
		list = append(list, l.Digest.String())
	}
	return list
}

func putManifest(w *world, user, repository, ref string, img v1.Image) (int, string) {
	raw, err := img.RawManifest()
	if err != nil {
		w.t.Fatal(err)
	}
	mt, err := img.MediaType()
	if err != nil {
		w.t.Fatal(err)
	}
	resp, body := w.do(user, http.MethodPut, fmt.Sprintf("/v2/%s/manifests/%s", repository, ref), bytes.NewReader(raw), "Content-Type", string(mt))
	return resp.StatusCode, body
}

package cluster_test

import (
	"archive/tar"
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const (
	registryUser     = "puller"
	registryPassword = "s3cret"
)

// testRegistry is a registry on 127.0.0.1. Repositories below open/ can be
// read by everyone, all others with a password only.
type testRegistry struct{ url string }

func startRegistry(t *testing.T) *testRegistry {
	t.Helper()
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if !strings.HasPrefix(r.URL.Path, "/v2/open/") && (user != registryUser || password != registryPassword) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	host := strings.TrimPrefix(server.URL, "http://")
	image := tinyImage(t)
	for _, repository := range []string{"private/tiny:1", "private/other:1", "open/docker.io/library/tiny:1"} {
		ref, err := name.ParseReference(host+"/"+repository, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		auth := remote.WithAuth(&authn.Basic{Username: registryUser, Password: registryPassword})
		if err := remote.Write(ref, image, auth); err != nil {
			t.Fatalf("push %s: %v", ref, err)
		}
	}
	return &testRegistry{url: server.URL}
}

// buildGet compiles testdata/get into a static binary.
func buildGet(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "get")
	cmd := exec.Command("go", "build", "-o", path, "./testdata/get")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build get: %v\n%s", err, out)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tinyImage is an image of Debian's static busybox and of get.
func tinyImage(t *testing.T) v1.Image {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatalf("busybox-static is not installed: %v", err)
	}
	busybox, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	write := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	write(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	write(tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	write(tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755}, busybox)
	write(tar.Header{Name: "bin/get", Typeflag: tar.TypeReg, Mode: 0o755}, buildGet(t))
	for _, applet := range []string{"sh", "httpd", "nc", "id", "cat", "ls", "mkdir", "hostname", "sleep"} {
		write(tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	opened := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil }
	content, err := tarball.LayerFromOpener(opened)
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, content)
	if err != nil {
		t.Fatal(err)
	}
	config := v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/sh"}}
	image, err = mutate.Config(image, config)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

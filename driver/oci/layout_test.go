package oci_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-cd/slipway"
)

// put pushes what the client does not: hostile and odd manifests.
func (o *outside) put(t *testing.T, repo string, it remote.Taggable, digest v1.Hash) string {
	t.Helper()
	ref, err := name.NewDigest(strings.TrimPrefix(o.server.URL, "http://")+"/"+repo+"@"+digest.String(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Push(ref, it, remote.WithTransport(o.rt), remote.WithAuth(basic{})); err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

func TestLayout(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	repo := o.repo("shop/web")
	digest := o.push("shop/web", "v1")
	dir := t.TempDir()
	got, err := o.client.Layout(t.Context(), repo, digest, dir)
	if err != nil || got != digest {
		t.Fatalf("%s %v, want %s", got, err, digest)
	}
	h, err := v1.NewHash(digest)
	if err != nil {
		t.Fatal(err)
	}
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	img, err := idx.Image(h)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	if _, err := o.client.Layout(t.Context(), repo, "sha256:"+strings.Repeat("0", 64), t.TempDir()); slipway.ErrorCode(err) != slipway.NotFound {
		t.Error(err)
	}
}

func TestLayoutOfAnIndexIsThisMachinesImage(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	var idx v1.ImageIndex = empty.Index
	want := ""
	for _, p := range []v1.Platform{{OS: "unknown", Architecture: "unknown"}, {OS: "linux", Architecture: "s390x"}, {OS: "linux", Architecture: runtime.GOARCH}} {
		img, err := random.Image(64, 1)
		if err != nil {
			t.Fatal(err)
		}
		h, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		want = h.String()
		idx = mutate.AppendManifests(idx, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	h, err := idx.Digest()
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.client.Layout(t.Context(), o.repo("shop/web"), o.put(t, "shop/web", idx, h), t.TempDir())
	if err != nil || got != want {
		t.Errorf("%s %v, want %s", got, err, want)
	}
}

func TestLayoutRefusesTooManyLayers(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	img, err := random.Image(1, 201)
	if err != nil {
		t.Fatal(err)
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err = o.client.Layout(t.Context(), o.repo("shop/web"), o.put(t, "shop/web", img, h), dir)
	if slipway.ErrorCode(err) != slipway.Invalid || err.Error() != "it has 201 layers; at most 200 are scanned" {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%d entries were written, %v", len(entries), err)
	}
}

// manifest pushes an image manifest as it is.
func (o *outside) manifest(t *testing.T, repo string, m v1.Manifest) string {
	t.Helper()
	m.SchemaVersion, m.MediaType = 2, types.OCIManifestSchema1
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewDigest(strings.TrimPrefix(o.server.URL, "http://")+"/"+repo+"@"+h.String(), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Put(ref, bare(raw), remote.WithTransport(o.rt), remote.WithAuth(basic{})); err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// imageIn puts an image of one layer into a repository and returns its manifest.
func (o *outside) imageIn(t *testing.T, repo string) *v1.Manifest {
	t.Helper()
	img, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	o.put(t, repo, img, h)
	m, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type bare []byte

func (b bare) RawManifest() ([]byte, error)        { return b, nil }
func (b bare) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }

// A manifest may name other places for its layers. None of them is asked: it would be asked from this machine.
func TestLayoutAsksNoOtherPlace(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer elsewhere.Close()
	o := newOutside(t, true)
	m := o.imageIn(t, "shop/web")
	bad := *m.DeepCopy()
	bad.Layers[0].Digest.Hex = strings.Repeat("0", 64)
	bad.Layers[0].URLs = []string{strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1) + "/layer"}
	_, err := o.client.Layout(t.Context(), o.repo("shop/web"), o.manifest(t, "shop/web", bad), t.TempDir())
	if slipway.ErrorCode(err) != slipway.NotFound || asked.Load() != 0 {
		t.Errorf("%v, the other place was asked %d times", err, asked.Load())
	}
	short := *m.DeepCopy()
	short.Layers[0].Size--
	if _, err = o.client.Layout(t.Context(), o.repo("shop/web"), o.manifest(t, "shop/web", short), t.TempDir()); err == nil || !strings.Contains(err.Error(), "that its manifest says") {
		t.Errorf("a layer with more bytes than it claims: %v", err)
	}
}

// A configuration is read into memory: one of gigabytes is refused by what the manifest says of it.
func TestConfigurationsAreSmall(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	m := o.imageIn(t, "shop/web")
	for _, size := range []int64{-1, 4 << 30} {
		bad := *m.DeepCopy()
		bad.Config.Size = size
		_, err := o.client.Layout(t.Context(), o.repo("shop/web"), o.manifest(t, "shop/web", bad), t.TempDir())
		if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "at most 8 MiB are read") {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// basic is the password of the test's registry.
type basic struct{}

// Authorization implements authn.Authenticator.
func (basic) Authorization() (*authn.AuthConfig, error) {
	return &authn.AuthConfig{Username: user, Password: secret}, nil
}

package oci_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/oci"
)

func TestPlatforms(t *testing.T) {
	t.Parallel()
	o := newOutside(t, true)
	amd, arm := platform(must(random.Image(64, 1)), "amd64"), platform(must(random.Image(64, 1)), "arm64")
	inner := indexOf(arm, amd) // once more
	outer := mutate.AppendManifests(indexOf(amd), mutate.IndexAddendum{Add: inner})
	want := fmt.Sprint([]oci.PlatformImage{{Platform: "linux/amd64", Digest: must(amd.Digest()).String()}, {Platform: "linux/arm64", Digest: must(arm.Digest()).String()}})
	got, err := o.client.Platforms(t.Context(), o.repo("shop/web"), o.pushed(t, "shop/web", outer))
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v %v, want %s", got, err, want)
	}
	dir := t.TempDir()
	if _, err := layout.Write(dir, outer); err != nil {
		t.Fatal(err)
	}
	if got, err := oci.LayoutPlatforms(dir); err != nil || fmt.Sprint(got) != want {
		t.Errorf("%v %v, want %s", got, err, want)
	}
	image := o.pushed(t, "shop/web", amd)
	if got, err := o.client.Platforms(t.Context(), o.repo("shop/web"), image); err != nil || fmt.Sprint(got) != fmt.Sprint([]oci.PlatformImage{{Digest: image}}) {
		t.Errorf("of an image: %v %v", got, err)
	}
	if _, err := o.client.Platforms(t.Context(), o.repo("shop/web"), "sha256:"+strings.Repeat("a", 64)); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("of nothing: %v", err)
	}
	var many []v1.Image
	for range 65 {
		many = append(many, platform(must(random.Image(16, 1)), "amd64"))
	}
	if _, err := o.client.Platforms(t.Context(), o.repo("shop/web"), o.pushed(t, "shop/web", indexOf(many...))); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("of too many: %v", err)
	}
}

// One index can name another a hundred times, which names a third a hundred times; or they go ever deeper.
func TestIndexesThatMultiply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ deep, wide int }{{3, 100}, {5, 1}} {
		dir := t.TempDir()
		if _, err := layout.Write(dir, empty.Index); err != nil {
			t.Fatal(err)
		}
		blobs := filepath.Join(dir, "blobs", "sha256")
		if err := os.MkdirAll(blobs, 0o755); err != nil {
			t.Fatal(err)
		}
		text := []byte(`{"schemaVersion":2,"manifests":[]}`)
		for range c.deep {
			h, n, err := v1.SHA256(bytes.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(blobs, h.Hex), text, 0o600); err != nil {
				t.Fatal(err)
			}
			one := fmt.Sprintf(`,{"mediaType":"application/vnd.oci.image.index.v1+json","size":%d,"digest":%q}`, n, h)
			text = []byte(`{"schemaVersion":2,"manifests":[` + strings.Repeat(one, c.wide)[1:] + `]}`)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := oci.LayoutPlatforms(dir); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "nested too deep or too many") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

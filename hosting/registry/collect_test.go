package registry_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/slipway-cd/slipway/hosting/registry"
)

func pull(w *world, ref string) error {
	img, err := remote.Image(w.ref(ref), w.options("robot")...)
	if err != nil {
		return err
	}
	return validate.Image(img)
}

// later is a clock that tests put forward.
type later struct{ by time.Duration }

func (l *later) now() time.Time { return time.Now().Add(l.by) }

func held(t *testing.T, w *world, project string) map[string][]string {
	t.Helper()
	list, err := w.reg.Held(t.Context(), project)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]string{}
	for _, h := range list {
		if h.Pushed.IsZero() {
			t.Errorf("%s %s: no time", h.Repository, h.Digest)
		}
		out[h.Repository+"@"+h.Digest] = h.Tags
	}
	return out
}

func TestRemoveAndCollect(t *testing.T) {
	t.Parallel()
	clock := &later{}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	c := pushCandidate(w)
	gone := digestOf(t, c.img)
	stays := image(t, 2)
	w.mustPush("dev", "shop/delivery:v1.0.3", stays)
	w.mustPush("dev", "shop/delivery:main-1", stays)
	w.mustPush("dev", "other/thing:v1.0.0", image(t, 1))
	if got := held(t, w, "shop"); len(got) != 2 || !slices.Equal(got["shop/delivery@"+gone], []string{"v1.0.2"}) || len(got["shop/delivery@"+digestOf(t, stays)]) != 2 {
		t.Fatalf("held: %v", got)
	}
	without := map[string][]string{"shop/delivery": {gone}}
	would, err := w.reg.Collect(t.Context(), "shop", true, without)
	if err != nil || would.Bytes != 0 || would.Later == 0 {
		t.Fatalf("foretold %+v of what was pushed a moment ago, %v", would, err)
	}
	clock.by = 2 * time.Hour
	if old, err := w.reg.Collect(t.Context(), "shop", true, without); err != nil || old.Bytes != would.Later || old.Later != 0 {
		t.Errorf("foretold %+v of what is old, %v", old, err)
	}
	clock.by = 0
	for range 2 { // the second time there is nothing to remove
		if err := w.reg.RemoveAll(t.Context(), "shop/delivery", []string{gone}); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := w.reg.Collect(t.Context(), "shop", false, nil); err != nil || done.Bytes != 0 || done.Later != would.Later {
		t.Errorf("collected %+v, %v: what was pushed a moment ago is kept", done, err)
	}
	clock.by = 2 * time.Hour
	done, err := w.reg.Collect(t.Context(), "shop", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if done.Bytes != would.Later || done.Later != 0 {
		t.Errorf("freed %+v, foretold %+v", done, would)
	}
	for _, img := range []v1.Image{c.img, c.sbom, c.prov, c.sign} {
		if w.digest("robot", "shop/delivery@"+digestOf(t, img)) != "" {
			t.Errorf("%s is still there", digestOf(t, img))
		}
		for _, d := range blobsOf(t, img) {
			if _, err := os.Stat(w.blobFile("shop/delivery", d)); err == nil && !slices.Contains(blobsOf(t, stays), d) {
				t.Errorf("blob %s was not collected", d)
			}
		}
	}
	if err := pull(w, "shop/delivery:v1.0.3"); err != nil {
		t.Errorf("what stays cannot be pulled: %v", err)
	}
	if err := pull(w, "other/thing:v1.0.0"); err != nil {
		t.Errorf("another project's image cannot be pulled: %v", err)
	}
}

// What clients that know no referrers attach by a tag goes with what it is attached to, and only then.
func TestRemoveWhatTagsAttach(t *testing.T) {
	t.Parallel()
	clock := &later{}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	tag := func(img v1.Image, suffix string) string {
		return "shop/delivery:sha256-" + digestOf(t, img)[len("sha256:"):] + suffix
	}
	gone, stays, sig, att, deep, shared, named, alone, other := image(t, 1), image(t, 2), image(t, 3), image(t, 4), image(t, 5), image(t, 6), image(t, 7), image(t, 8), image(t, 9)
	for ref, img := range map[string]v1.Image{
		"shop/delivery:v1.0.2": gone, "shop/delivery:v1.0.3": stays, "shop/delivery:v1.0.4": named,
		tag(gone, ".sig"): sig, tag(gone, ".att"): att, tag(sig, ".sig"): deep, tag(gone, ""): shared, tag(stays, ".sig"): shared, tag(gone, ".sbom"): named,
		tag(other, ".sig"): alone,
	} {
		w.mustPush("dev", ref, img)
	}
	without := []string{digestOf(t, gone)}
	clock.by = 2 * time.Hour
	would, err := w.reg.Collect(t.Context(), "shop", true, map[string][]string{"shop/delivery": without})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.reg.RemoveAll(t.Context(), "shop/delivery", without); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := w.reg.Collect(t.Context(), "shop", false, nil); err != nil || done != would || done.Bytes == 0 {
		t.Errorf("collected %+v, %v; foretold %+v", done, err, would)
	}
	for _, ref := range []string{"shop/delivery:v1.0.2", tag(gone, ".sig"), tag(gone, ".att"), tag(sig, ".sig"), tag(gone, ""), tag(gone, ".sbom")} {
		if d := w.digest("robot", ref); d != "" {
			t.Errorf("%s is still %s", ref, d)
		}
	}
	for _, img := range []v1.Image{gone, sig, att, deep} {
		if _, err := os.Stat(w.blobFile("shop/delivery", digestOf(t, img))); err == nil {
			t.Errorf("%s was not collected", digestOf(t, img))
		}
	}
	for _, ref := range []string{"shop/delivery:v1.0.3", "shop/delivery:v1.0.4", tag(stays, ".sig"), tag(other, ".sig")} {
		if err := pull(w, ref); err != nil {
			t.Errorf("%s cannot be pulled: %v", ref, err)
		}
	}
}

func TestPromotedBytesAreNotFreed(t *testing.T) {
	t.Parallel()
	clock := &later{by: 2 * time.Hour}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	c := pushCandidate(w)
	digest := digestOf(t, c.img)
	if err := w.reg.Retag(t.Context(), "shop/delivery", digest, "prod/shop/delivery", "v1.0.2"); err != nil {
		t.Fatal(err)
	}
	if err := w.reg.RemoveAll(t.Context(), "prod/shop/delivery", []string{digest}); err == nil {
		t.Error("production was removed from")
	}
	would, err := w.reg.Collect(t.Context(), "shop", true, map[string][]string{"shop/delivery": {digest}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.reg.RemoveAll(t.Context(), "shop/delivery", []string{digest}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.reg.Collect(t.Context(), "shop", false, nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range blobsOf(t, c.img) {
		if fi, err := os.Stat(w.blobFile("prod/shop/delivery", d)); err != nil || would.Bytes >= fi.Size()*2 {
			t.Errorf("production lost %s, or %+v counts it as free: %v", d, would, err)
		}
	}
	if err := pull(w, "prod/shop/delivery:v1.0.2"); err != nil {
		t.Error(err)
	}
}

func TestKeepsWhatClientsWereToldOf(t *testing.T) {
	t.Parallel()
	clock := &later{}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1.0.0", img)
	if err := w.reg.RemoveAll(t.Context(), "shop/delivery", []string{digestOf(t, img)}); err != nil {
		t.Fatal(err)
	}
	clock.by = 3 * time.Hour
	layer := blobsOf(t, img)[0]
	w.do("dev", "HEAD", "/v2/shop/delivery/blobs/"+layer, nil)
	if _, err := w.reg.Collect(t.Context(), "shop", false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.blobFile("shop/delivery", layer)); err != nil {
		t.Errorf("a client was told that %s is there, and it is not any more", layer)
	}
}

// The platforms of an index go with it, and stay with it: they have no tag of their own.
func TestPlatformsBelongToTheirIndex(t *testing.T) {
	t.Parallel()
	clock := &later{}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	index, err := random.Index(256, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.mustPush("dev", "shop/delivery:v1.0.0", index)
	top := digestOf(t, index)
	if got := held(t, w, "shop"); len(got) != 1 || !slices.Equal(got["shop/delivery@"+top], []string{"v1.0.0"}) {
		t.Errorf("held: %v", got)
	}
	clock.by = 2 * time.Hour
	if _, err := w.reg.Collect(t.Context(), "shop", false, nil); err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		if err := pull(w, "shop/delivery@"+d.Digest.String()); err != nil {
			t.Errorf("platform %s: %v", d.Digest, err)
		}
	}
	if err := w.reg.RemoveAll(t.Context(), "shop/delivery", []string{top}); err != nil {
		t.Fatal(err)
	}
	clock.by = 4 * time.Hour
	if _, err := w.reg.Collect(t.Context(), "shop", false, nil); err != nil {
		t.Fatal(err)
	}
	if got := held(t, w, "shop"); len(got) != 0 {
		t.Errorf("after the index was removed: %v", got)
	}
}

// An index that somebody pushed by hand keeps the images that it names, whatever their age, with what refers to
// them; and what was foretold is what is done.
func TestAnIndexKeepsWhatItNames(t *testing.T) {
	t.Parallel()
	clock := &later{}
	w := openWorld(t, t.TempDir(), registry.Options{Now: clock.now})
	c := pushCandidate(w)
	named, alone := digestOf(t, c.img), image(t, 1)
	w.mustPush("dev", "shop/delivery:v1.0.1", alone)
	inner := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: c.img})
	outer := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: inner})
	w.mustPush("dev", "shop/delivery:v1.0.2-multi", outer)
	top := digestOf(t, outer)
	for _, h := range must(w.reg.Held(t.Context(), "shop")) {
		if h.Digest == top && !slices.Contains(h.Names, named) {
			t.Errorf("the index names %v", h.Names)
		}
	}
	going := []string{named, digestOf(t, alone)}
	stays, err := w.reg.Staying("shop/delivery", going)
	if err != nil || len(stays) != 1 || stays[named] != "v1.0.2-multi" {
		t.Fatalf("stays: %v, %v", stays, err)
	}
	clock.by = 2 * time.Hour
	collect := func(dry bool, without ...string) registry.Collected {
		return must(w.reg.Collect(t.Context(), "shop", dry, map[string][]string{"shop/delivery": without}))
	}
	would := collect(true, going...)
	if err := w.reg.RemoveAll(t.Context(), "shop/delivery", going); err != nil {
		t.Fatal(err)
	}
	if done := collect(false); done != would || done.Blobs < 3 {
		t.Errorf("freed %+v, foretold %+v", done, would)
	}
	for _, ref := range []string{"v1.0.2", "v1.0.2-multi"} {
		if w.digest("robot", "shop/delivery:"+ref) == "" {
			t.Errorf("%s is gone", ref)
		}
	}
	for _, img := range []v1.Image{c.img, c.sbom, c.prov, c.sign} {
		if err := pull(w, "shop/delivery@"+digestOf(t, img)); err != nil {
			t.Errorf("what the index names, or what refers to it: %v", err)
		}
	}
	clock.by = 5 * time.Hour // as those who pulled were told of the blobs
	going = []string{top, named}
	if stays := must(w.reg.Staying("shop/delivery", going)); len(stays) != 0 {
		t.Errorf("stays without its index: %v", stays)
	}
	would = collect(true, going...)
	if err := w.reg.RemoveAll(t.Context(), "shop/delivery", going); err != nil {
		t.Fatal(err)
	}
	if done := collect(false); done != would || done.Bytes == 0 {
		t.Errorf("freed %+v with the index, foretold %+v", done, would)
	}
	if left := must(os.ReadDir(filepath.Dir(w.blobFile("shop/delivery", top)))); len(left) != 0 {
		t.Errorf("%d blobs are left", len(left))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

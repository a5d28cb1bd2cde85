package registry_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/hosting/registry"
)

// candidate is an image with two referrers, one of which has a referrer itself.
type candidate struct {
	img              v1.Image
	sbom, prov, sign v1.Image
}

func pushCandidate(w *world) candidate {
	c := candidate{img: image(w.t, 3)}
	w.mustPush("dev", "shop/delivery:v1.0.2", c.img)
	c.sbom = referrer(w.t, c.img, "application/spdx+json")
	c.prov = referrer(w.t, c.img, "application/vnd.in-toto+json")
	c.sign = referrer(w.t, c.prov, "application/x.signature")
	for _, r := range []v1.Image{c.sbom, c.prov, c.sign} {
		w.mustPush("dev", "shop/delivery@"+digestOf(w.t, r), r)
	}
	return c
}

func TestRetagMovesNoBytes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := pushCandidate(w)
	digest := digestOf(t, c.img)
	for range 2 { // the second time changes nothing
		if err := w.reg.Retag(t.Context(), "shop/delivery", digest, "prod/shop/delivery", "v1.0.2"); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.digest("robot", "prod/shop/delivery:v1.0.2"); got != digest {
		t.Errorf("production tag is %q, want %s", got, digest)
	}
	for _, img := range []v1.Image{c.img, c.sbom, c.prov, c.sign} {
		if w.digest("robot", "prod/shop/delivery@"+digestOf(t, img)) == "" {
			t.Errorf("manifest %s did not come over", digestOf(t, img))
		}
		for _, d := range blobsOf(t, img) {
			if a, b := inode(t, w.blobFile("shop/delivery", d)), inode(t, w.blobFile("prod/shop/delivery", d)); a != b {
				t.Errorf("%s was copied, not linked", d)
			}
		}
	}
	_, body := w.do("robot", "GET", "/v2/prod/shop/delivery/referrers/"+digest, nil)
	if !strings.Contains(body, digestOf(t, c.sbom)) || !strings.Contains(body, digestOf(t, c.prov)) {
		t.Errorf("referrers in production: %s", body)
	}
	_, body = w.do("robot", "GET", "/v2/prod/shop/delivery/referrers/"+digestOf(t, c.prov), nil)
	if !strings.Contains(body, digestOf(t, c.sign)) {
		t.Errorf("referrers of a referrer: %s", body)
	}
	last := w.events()[len(w.events())-1]
	if last.Actor != "promotion" || last.Tag != "v1.0.2" || last.Repository != "prod/shop/delivery" {
		t.Errorf("event %+v", last)
	}
}

func TestRetagOfAnIndexAndCosignTags(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	idx, err := random.Index(1024, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	w.mustPush("dev", "shop/delivery:v1", idx)
	sig := "sha256-" + strings.TrimPrefix(digestOf(t, idx), "sha256:") + ".sig"
	w.mustPush("dev", "shop/delivery:"+sig, image(t, 1))
	if err := w.reg.Retag(t.Context(), "shop/delivery", digestOf(t, idx), "prod/shop/delivery", "v1"); err != nil {
		t.Fatal(err)
	}
	m, err := idx.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range m.Manifests {
		if w.digest("robot", "prod/shop/delivery@"+d.Digest.String()) == "" {
			t.Errorf("child %s did not come over", d.Digest)
		}
	}
	if w.digest("robot", "prod/shop/delivery:"+sig) != w.digest("robot", "shop/delivery:"+sig) {
		t.Error("the signature did not come over")
	}
}

// Everything that is attached comes over, also what is attached after the first promotion, and what a client
// that knows no referrers API attached by tag.
func TestRetagBringsEverythingThatRefers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	digest := digestOf(t, img)
	var all []string
	attach := func(kind string) {
		r := referrer(t, img, kind)
		w.mustPush("dev", "shop/delivery@"+digestOf(t, r), r)
		all = append(all, digestOf(t, r))
	}
	const bundle = "application/vnd.dev.sigstore.bundle.v0.3+json"
	for _, kind := range []string{bundle, bundle + ";2", bundle + ";3", "application/vnd.slipway.build-record.v1+json"} {
		attach(kind)
	}
	byTag := referrer(t, img, "application/x.by-tag")
	tag := "sha256-" + strings.TrimPrefix(digest, "sha256:")
	w.mustPush("dev", "shop/delivery:"+tag, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: byTag}))
	all = append(all, digestOf(t, byTag))
	for round := range 2 {
		if err := w.reg.Retag(t.Context(), "shop/delivery", digest, "prod/shop/delivery", "v1"); err != nil {
			t.Fatal(err)
		}
		_, body := w.do("robot", "GET", "/v2/prod/shop/delivery/referrers/"+digest, nil)
		for _, d := range all {
			if !strings.Contains(body, d) || w.digest("robot", "prod/shop/delivery@"+d) == "" {
				t.Errorf("round %d: %s did not come over: %s", round, d, body)
			}
		}
		attach("application/x.late")
	}
}

func TestRetagRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := pushCandidate(w)
	other := image(t, 1)
	w.mustPush("dev", "shop/delivery:v2", other)
	retag := func(from, digest, to, tag string) slipway.Code {
		return slipway.ErrorCode(w.reg.Retag(t.Context(), from, digest, to, tag))
	}
	digest := digestOf(t, c.img)
	if got := retag("shop/delivery", digest, "prod/shop/delivery", "v1"); got != "" {
		t.Fatal(got)
	}
	layer := blobsOf(t, c.img)[2]
	for _, x := range []struct {
		from, digest, to, tag string
		want                  slipway.Code
	}{
		{"shop/delivery", digestOf(t, other), "prod/shop/delivery", "v1", slipway.Conflict},
		{"shop/delivery", "sha256:" + strings.Repeat("0", 64), "prod/shop/delivery", "v3", slipway.NotFound},
		{"shop/delivery", layer, "prod/shop/delivery", "v3", slipway.NotFound},
		{"shop/nothing", digest, "prod/shop/delivery", "v3", slipway.NotFound},
		{"shop/delivery", "v1.0.2", "prod/shop/delivery", "v3", slipway.Invalid},
		{"shop/../delivery", digest, "prod/shop/delivery", "v3", slipway.Invalid},
		{"shop/delivery", digest, "prod/../shop", "v3", slipway.Invalid},
		{"shop/delivery", digest, "prod/shop/delivery", "-v3", slipway.Invalid},
	} {
		if got := retag(x.from, x.digest, x.to, x.tag); got != x.want {
			t.Errorf("retag %s@%s to %s:%s: %q, want %q", x.from, x.digest, x.to, x.tag, got, x.want)
		}
	}
	if got := w.digest("robot", "prod/shop/delivery:v3"); got != "" {
		t.Errorf("v3 appeared: %s", got)
	}
	full := openWorld(t, t.TempDir(), registry.Options{MinFree: 1 << 60})
	if err := os.CopyFS(full.dir, os.DirFS(w.dir)); err != nil {
		t.Fatal(err)
	}
	if got := slipway.ErrorCode(full.reg.Retag(t.Context(), "shop/delivery", digest, "prod/shop/delivery", "v9")); got != slipway.Unavailable {
		t.Errorf("on a full disk: %q", got)
	}
}

// An interrupted Retag shows no tag, and its repeat finishes it.
func TestRetagInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := pushCandidate(w)
	digest := digestOf(t, c.img)
	lost := w.blobFile("shop/delivery", blobsOf(t, c.sign)[2])
	if err := os.Rename(lost, lost+".away"); err != nil {
		t.Fatal(err)
	}
	err := w.reg.Retag(t.Context(), "shop/delivery", digest, "prod/shop/delivery", "v1.0.2")
	if slipway.ErrorCode(err) != slipway.NotFound {
		t.Fatalf("a blob of a signature is missing: %v", err)
	}
	if got := w.digest("robot", "prod/shop/delivery:v1.0.2"); got != "" {
		t.Fatalf("half a retag is visible: %s", got)
	}
	if err := os.Rename(lost+".away", lost); err != nil {
		t.Fatal(err)
	}
	again := openWorld(t, w.dir, registry.Options{}) // as after a crash: nothing was closed
	if err := again.reg.Retag(t.Context(), "shop/delivery", digest, "prod/shop/delivery", "v1.0.2"); err != nil {
		t.Fatal(err)
	}
	if got := again.digest("robot", "prod/shop/delivery:v1.0.2"); got != digest {
		t.Errorf("after the repeat: %q", got)
	}
}

func TestRetagsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := image(t, 1), image(t, 1)
	w.mustPush("dev", "shop/delivery:one", one)
	w.mustPush("dev", "shop/delivery:two", two)
	codes := map[slipway.Code]int{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 8 {
		digest := digestOf(t, []v1.Image{one, two}[i%2])
		wg.Go(func() {
			err := w.reg.Retag(context.Background(), "shop/delivery", digest, "prod/shop/delivery", "v1")
			mu.Lock()
			defer mu.Unlock()
			codes[slipway.ErrorCode(err)]++
		})
	}
	wg.Wait()
	if codes[""] != 4 || codes[slipway.Conflict] != 4 {
		t.Errorf("outcomes %v, want 4 successes and 4 conflicts", codes)
	}
}

func TestCopyAndResolveSpeakNouns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	candidates := slipway.Registry{Host: "registry.slipway.internal"}
	production := slipway.Registry{Host: "registry.slipway.internal", Prefix: "prod"}
	from := slipway.Repository{Registry: candidates, Name: candidates.Image("shop", "delivery")}
	to := slipway.Repository{Registry: production, Name: production.Image("shop", "delivery")}
	if _, err := w.reg.Resolve(t.Context(), to, "v1"); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("before: %v", err)
	}
	if err := w.reg.Copy(t.Context(), from, digestOf(t, img), to, "v1"); err != nil {
		t.Fatal(err)
	}
	if got, err := w.reg.Resolve(t.Context(), to, "v1"); err != nil || got != digestOf(t, img) {
		t.Errorf("after: %s, %v", got, err)
	}
	if err := w.reg.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.reg.Copy(t.Context(), from, digestOf(t, img), to, "v1"); !slipway.Temporary(err) {
		t.Errorf("closed: %v", err)
	}
	if err := w.reg.RemoveAll(t.Context(), from.Name, []string{digestOf(t, img)}); !slipway.Temporary(err) {
		t.Errorf("remove from a closed one: %v", err)
	}
	if _, err := w.reg.Collect(t.Context(), "shop", true, nil); !slipway.Temporary(err) {
		t.Errorf("collect of a closed one: %v", err)
	}
	if resp, _ := w.do("dev", http.MethodGet, "/v2/", nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("closed: status %d", resp.StatusCode)
	}
}

func TestNoTemporaryFilesStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := pushCandidate(w)
	if err := w.reg.Retag(t.Context(), "shop/delivery", digestOf(t, c.img), "prod/shop/delivery", "v1"); err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"index.json": true, "index.json.last": true, "oci-layout": true, "blobs": true}
	for _, repo := range []string{"shop/delivery", "prod/shop/delivery"} {
		entries, err := os.ReadDir(filepath.Join(w.dir, repo))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !known[e.Name()] && e.Name() != "_uploads" {
				t.Errorf("%s has %s", repo, e.Name())
			}
		}
	}
}

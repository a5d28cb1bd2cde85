package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway/hosting/registry"
)

func TestPushAndPull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 3)
	w.mustPush("dev", "shop/delivery:v1.0.2", img)

	got, err := remote.Image(w.ref("shop/delivery:v1.0.2"), w.options("robot")...)
	if err != nil {
		t.Fatal(err)
	}
	if digestOf(t, got) != digestOf(t, img) {
		t.Errorf("pulled %s, pushed %s", digestOf(t, got), digestOf(t, img))
	}
	layers, err := got.Layers()
	if err != nil || len(layers) != 3 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	for _, l := range layers {
		rc, err := l.Compressed() // checks the digest while it is read
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			t.Error(err)
		}
		_ = rc.Close()
	}
	idx, err := random.Index(1024, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	w.mustPush("dev", "shop/delivery:v2.0.0", idx)
	if w.digest("robot", "shop/delivery:v2.0.0") != digestOf(t, idx) {
		t.Error("the index has another digest")
	}
	tags, err := remote.List(w.ref("shop/delivery:x").Context(), w.options("robot")...)
	if err != nil || fmt.Sprint(tags) != "[v1.0.2 v2.0.0]" {
		t.Errorf("tags %v, %v", tags, err)
	}
	var tagged []registry.Pushed
	for _, e := range w.events() {
		if e.Tag != "" {
			tagged = append(tagged, e)
		}
	}
	want := registry.Pushed{Repository: "shop/delivery", Tag: "v1.0.2", Digest: digestOf(t, img), MediaType: "application/vnd.docker.distribution.manifest.v2+json", Actor: "dev"}
	if len(tagged) != 2 || tagged[0] != want {
		t.Errorf("events %+v, want first %+v", tagged, want)
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)

	resp, _ := w.do("", http.MethodGet, "/v2/", nil)
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != `Basic realm="slipway"` {
		t.Errorf("anonymous ping: %d, challenge %q", resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	}
	if resp, _ := w.do("dev", http.MethodGet, "/v2/", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("ping: %d", resp.StatusCode)
	}
	w.expect("", http.MethodGet, "/v2/shop/delivery/manifests/v1", nil, 401, "UNAUTHORIZED")
	w.expect("nobody", http.MethodGet, "/v2/shop/delivery/manifests/v1", nil, 401, "UNAUTHORIZED")
	w.expect("robot", http.MethodPost, "/v2/shop/delivery/blobs/uploads/", nil, 403, "DENIED")
	w.expect("dev", http.MethodGet, "/v2/secret/delivery/manifests/v1", nil, 403, "DENIED")
	w.expect("dev", http.MethodGet, "/v2/shop/other/manifests/v1", nil, 404, "NAME_UNKNOWN")
	w.expect("dev", http.MethodGet, "/v2/shop/delivery/manifests/v9", nil, 404, "MANIFEST_UNKNOWN")
	if got := status(w.push("robot", "shop/delivery:v2", img)); got != 403 {
		t.Errorf("push as robot: status %d", got)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mustPush("dev", "shop/delivery:v1", image(t, 1))
	sha := "sha256:" + strings.Repeat("a", 64)
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/shop/../../etc/passwd/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/shop/%2e%2e/x/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/Shop/delivery/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/-shop/delivery/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/shop//delivery/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/_uploads/x/manifests/v1", 400, "NAME_INVALID"},
		{"PUT", "/v2/shop/blobs/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/" + strings.Repeat("a", 300) + "/manifests/v1", 400, "NAME_INVALID"},
		{"GET", "/v2/shop/delivery/manifests/--x", 400, "MANIFEST_INVALID"},
		{"GET", "/v2/shop/delivery/manifests/sha512:" + strings.Repeat("a", 128), 400, "MANIFEST_INVALID"},
		{"GET", "/v2/shop/delivery/blobs/sha256:..", 400, "DIGEST_INVALID"},
		{"GET", "/v2/shop/delivery/referrers/x", 400, "DIGEST_INVALID"},
		{"GET", "/v2/shop/delivery/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"},
		{"PATCH", "/v2/shop/delivery/blobs/uploads/../../x", 404, ""},
		{"PATCH", "/v2/shop/delivery/blobs/uploads/" + strings.Repeat("0", 32), 404, "BLOB_UPLOAD_UNKNOWN"},
		{"POST", "/v2/shop/delivery/blobs/uploads/?mount=x&from=shop/a", 400, "DIGEST_INVALID"},
		{"POST", "/v2/shop/delivery/manifests/v1", 405, "UNSUPPORTED"},
		{"DELETE", "/v2/shop/delivery/blobs/" + sha, 405, "UNSUPPORTED"},
		{"GET", "/v2/_catalog", 404, "UNSUPPORTED"},
		{"GET", "/v2", 200, ""},
		{"PUT", "/v2/shop/delivery/manifests/v2", 400, "MANIFEST_INVALID"},
	} {
		w.expect("admin", c.method, c.path, strings.NewReader("not json"), c.status, c.code)
	}
	big := bytes.NewReader(bytes.Repeat([]byte{' '}, 5<<20))
	w.expect("dev", "PUT", "/v2/shop/delivery/manifests/v2", big, 413, "MANIFEST_INVALID")
	w.expect("dev", "PUT", "/v2/shop/delivery/manifests/"+sha, strings.NewReader("{}"), 400, "DIGEST_INVALID")

	img := image(t, 2) // its blobs are not there
	if code, body := putManifest(w, "dev", "shop/delivery", "v2", img); code != 400 || !strings.Contains(body, "MANIFEST_BLOB_UNKNOWN") {
		t.Errorf("manifest without blobs: %d %s", code, body)
	}
	if w.digest("dev", "shop/delivery:v2") != "" {
		t.Error("a refused manifest is visible")
	}
	if _, err := os.Stat(w.blobFile("shop/delivery", digestOf(t, img))); err == nil {
		t.Error("a refused manifest was kept")
	}
}

// The query parameter of a draft would write tags that nobody checked.
func TestTagQueryIsIgnored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := image(t, 1), image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", one)
	w.mustPush("dev", "shop/delivery:v2", two)
	if code, body := putManifest(w, "dev", "shop/delivery", digestOf(t, two)+"?tag=v1", two); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	if got := w.digest("dev", "shop/delivery:v1"); got != digestOf(t, one) {
		t.Errorf("v1 moved to %s", got)
	}
}

func TestTagsAreImmutable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := image(t, 1), image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", one)
	w.mustPush("dev", "shop/delivery:other", two)
	if code, body := putManifest(w, "dev", "shop/delivery", "v1", one); code != 201 {
		t.Errorf("the same digest again: %d %s", code, body)
	}
	err := w.push("dev", "shop/delivery:v1", two)
	if status(err) != http.StatusConflict {
		t.Fatalf("another digest: %v", err)
	}
	for _, part := range []string{digestOf(t, one), digestOf(t, two), "another version", "DENIED"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if got := w.digest("dev", "shop/delivery:v1"); got != digestOf(t, one) {
		t.Errorf("v1 is %s", got)
	}
	for _, ref := range []string{"mirror/docker.io/library/golang:1.26", "shop/delivery:sha256-" + strings.Repeat("0", 64)} {
		w.mustPush("dev", ref, one)
		w.mustPush("dev", ref, two)
		if got := w.digest("dev", ref); got != digestOf(t, two) {
			t.Errorf("%s did not move", ref)
		}
	}
}

func TestOnePushOfATagWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 8
	for round := range 5 {
		tag := fmt.Sprintf("v1.0.%d", round)
		images := make([]v1.Image, n)
		for i := range images {
			images[i] = image(t, 1)
			w.pushBlobs("shop/delivery", images[i])
		}
		codes := make([]int, n)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range n {
			wg.Go(func() {
				<-start
				codes[i], _ = putManifest(w, "dev", "shop/delivery", tag, images[i])
			})
		}
		close(start)
		wg.Wait()
		winner := -1
		for i, c := range codes {
			switch {
			case c == 201 && winner < 0:
				winner = i
			case c != 409:
				t.Errorf("%s: statuses %v", tag, codes)
			}
		}
		if winner < 0 || w.digest("dev", "shop/delivery:"+tag) != digestOf(t, images[winner]) {
			t.Errorf("%s: statuses %v, and the tag is not the winner's", tag, codes)
		}
	}
}

func TestNobodyPushesToProduction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	if err := w.reg.Retag(t.Context(), "shop/delivery", digestOf(t, img), "prod/shop/delivery", "v1"); err != nil {
		t.Fatal(err)
	}
	layer := blobsOf(t, img)[2]
	for _, user := range []string{"dev", "admin"} {
		for _, c := range [][2]string{
			{"POST", "/v2/prod/shop/delivery/blobs/uploads/"},
			{"POST", "/v2/prod/shop/delivery/blobs/uploads/?mount=" + layer + "&from=shop/delivery"},
			{"PUT", "/v2/prod/shop/delivery/manifests/v2"},
			{"PUT", "/v2/prod/shop/charts/delivery/manifests/1.0.0"},
			{"PUT", "/v2/prod/manifests/v2"},
			{"DELETE", "/v2/prod/shop/delivery/manifests/v1"},
		} {
			msg := w.expect(user, c[0], c[1], strings.NewReader("{}"), 403, "DENIED")
			if !strings.Contains(msg, "promotion") {
				t.Errorf("%s %s: %q", c[0], c[1], msg)
			}
		}
	}
	if got := w.digest("robot", "prod/shop/delivery:v1"); got != digestOf(t, img) {
		t.Errorf("production has %q", got)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := image(t, 1), image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", one)
	w.expect("dev", "DELETE", "/v2/shop/delivery/manifests/v1", nil, 403, "DENIED")
	w.expect("admin", "DELETE", "/v2/shop/nothing/manifests/v1", nil, 404, "NAME_UNKNOWN")
	w.expect("admin", "DELETE", "/v2/shop/delivery/manifests/v1", nil, 202, "")
	if w.digest("dev", "shop/delivery:v1") != "" {
		t.Error("the tag is still there")
	}
	w.mustPush("dev", "shop/delivery:v1", two)
}

func TestReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	layer := blobsOf(t, img)[2]
	whole, err := os.ReadFile(w.blobFile("shop/delivery", layer))
	if err != nil {
		t.Fatal(err)
	}
	path := "/v2/shop/delivery/blobs/" + layer
	resp, body := w.do("robot", "GET", path, nil, "Range", "bytes=10-19")
	if resp.StatusCode != http.StatusPartialContent || body != string(whole[10:20]) {
		t.Errorf("range: %d, %d bytes", resp.StatusCode, len(body))
	}
	resp, body = w.do("robot", "HEAD", path, nil)
	if resp.StatusCode != 200 || resp.ContentLength != int64(len(whole)) || body != "" || resp.Header.Get("Docker-Content-Digest") != layer {
		t.Errorf("HEAD: %d, length %d, digest %q", resp.StatusCode, resp.ContentLength, resp.Header.Get("Docker-Content-Digest"))
	}
	for _, accept := range []string{"", "*/*", "application/json, */*;q=0.1"} {
		resp, _ = w.do("robot", "GET", "/v2/shop/delivery/manifests/v1", nil, "Accept", accept)
		if resp.StatusCode != 200 {
			t.Errorf("Accept %q: %d", accept, resp.StatusCode)
		}
	}
	_, body = w.do("robot", "GET", "/v2/shop/delivery/tags/list?n=1", nil)
	if !strings.Contains(body, `"v1"`) {
		t.Errorf("tags: %s", body)
	}
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	img := image(t, 1)
	w.mustPush("dev", "shop/delivery:v1", img)
	var wg sync.WaitGroup
	want := map[string]bool{}
	for i := range 6 {
		ref := referrer(t, img, fmt.Sprintf("application/x.kind%d", i%2))
		want[digestOf(t, ref)] = true
		wg.Go(func() {
			if err := w.push("dev", "shop/delivery@"+digestOf(t, ref), ref); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	count := func(query string) int {
		_, body := w.do("robot", "GET", "/v2/shop/delivery/referrers/"+digestOf(t, img)+query, nil)
		var idx v1.IndexManifest
		if err := json.Unmarshal([]byte(body), &idx); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		for _, m := range idx.Manifests {
			if !want[m.Digest.String()] {
				t.Errorf("unexpected referrer %s", m.Digest)
			}
		}
		return len(idx.Manifests)
	}
	if n := count(""); n != 6 {
		t.Errorf("%d referrers, want 6: pushes at once lose some", n)
	}
	if n := count("?artifactType=application/x.kind1"); n != 3 {
		t.Errorf("%d referrers of one kind, want 3", n)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	w := openWorld(t, t.TempDir(), registry.Options{Now: func() time.Time { return now }})
	layer, err := random.Image(100_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.mustPush("dev", "shop/delivery:v1", layer)
	one, err := w.reg.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if one.Repositories != 1 || one.Bytes < 100_000 || one.Bytes > 110_000 {
		t.Errorf("%+v", one)
	}
	if err := w.reg.Retag(t.Context(), "shop/delivery", digestOf(t, layer), "prod/shop/delivery", "v1"); err != nil {
		t.Fatal(err)
	}
	if s, _ := w.reg.Stats(); s != one {
		t.Errorf("measured again within a minute: %+v", s)
	}
	now = now.Add(2 * time.Minute)
	two, err := w.reg.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if two.Repositories != 2 || two.Bytes-one.Bytes > 5_000 {
		t.Errorf("after a retag %+v, before %+v: linked blobs count once", two, one)
	}
}

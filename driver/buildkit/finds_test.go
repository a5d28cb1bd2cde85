package buildkit

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	spb "github.com/moby/buildkit/sourcepolicy/pb"
)

// A mirror that had an image is not asked again for a minute by builds of the same project; one that has
// it not is asked each time.
func TestFindsAreRemembered(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			return
		}
		asked.Add(1)
		if r.URL.Path != "/v2/mirror/library/there/manifests/1" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Content-Length", "2")
		w.Header().Set("Docker-Content-Digest", "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")
	}))
	t.Cleanup(server.Close)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	all := &finds{now: func() time.Time { return now }}
	build := func(project, image string, want spb.PolicyAction, requests int32) {
		t.Helper()
		p := testPolicy(t, nil, Mirror{Registry: "docker.io", Address: server.URL, Prefix: "mirror"})
		p.project, p.finds = project, all
		before := asked.Load()
		if d := ask(t, p, "docker-image://docker.io/library/"+image+":1", nil); d.Action != want {
			t.Errorf("%s of %s: %v", image, project, d)
		}
		if n := asked.Load() - before; n != requests {
			t.Errorf("%s of %s: the mirror was asked %d times, not %d", image, project, n, requests)
		}
	}
	build("shop", "there", spb.PolicyAction_CONVERT, 1)
	build("shop", "there", spb.PolicyAction_CONVERT, 0)
	build("blog", "there", spb.PolicyAction_CONVERT, 1)
	build("shop", "missing", spb.PolicyAction_ALLOW, 1)
	build("shop", "missing", spb.PolicyAction_ALLOW, 1)
	now = now.Add(findAge)
	build("shop", "there", spb.PolicyAction_CONVERT, 1)
}

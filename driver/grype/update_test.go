package grype

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// A mirror that goes silent is given up, whether it has begun to answer or not: the server that waits for it would not
// look at what somebody imports meanwhile.
func TestAMirrorThatGoesSilent(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case strings.HasPrefix(req.URL.Path, "/mute/"):
		case strings.HasSuffix(req.URL.Path, ".json"):
			w.Write([]byte(`{"schemaVersion":"v6.1.0","path":"db.tar.zst","checksum":"sha256:` + strings.Repeat("0", 64) + `"}`)) //nolint:errcheck // the test sees it
			return
		default:
			w.Write([]byte("\x28\xb5\x2f\xfd"))   //nolint:errcheck // the test sees it
			http.NewResponseController(w).Flush() //nolint:errcheck // the test sees it
		}
		select {
		case <-over:
		case <-req.Context().Done():
		}
	}))
	defer server.Close()
	defer close(over)
	for _, path := range []string{"/mute/", "/"} {
		g := newScanner(t, "good", Options{Stall: 50 * time.Millisecond, Database: filepath.Join(t.TempDir(), "db")})
		changed, err := g.Update(t.Context(), server.URL+path)
		if changed || slipway.ErrorCode(err) != slipway.Unavailable || !strings.Contains(err.Error(), "has sent nothing for 50ms") {
			t.Errorf("%s: %t %v", path, changed, err)
		}
		if left, _ := filepath.Glob(filepath.Join(g.opts.Database, "download-*")); len(left) > 0 {
			t.Errorf("%q is left", left)
		}
	}
}

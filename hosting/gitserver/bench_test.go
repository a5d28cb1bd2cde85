package gitserver

import (
	"net/http/cgi"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkPush compares a push of one commit with the same push to git http-backend alone.
func BenchmarkPush(b *testing.B) {
	push := func(b *testing.B, w *world) {
		w.commit("a.txt", "0")
		w.must(w.copy, "push", "origin", "HEAD:main")
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			w.commit("a.txt", strconv.Itoa(i+1))
			b.StartTimer()
			w.must(w.copy, "push", "--quiet", "origin", "HEAD:main")
		}
	}
	b.Run("slipway", func(b *testing.B) { push(b, newWorld(b, nil)) })
	b.Run("http-backend", func(b *testing.B) {
		w := newWorld(b, nil)
		w.must(w.bare, "config", "http.receivepack", "true")
		path := w.must("", "--exec-path")
		plain := httptest.NewServer(&cgi.Handler{Path: filepath.Join(path, "git-http-backend"), Root: "/git",
			Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(w.bare), "GIT_HTTP_EXPORT_ALL=1"}})
		b.Cleanup(plain.Close)
		w.must(w.copy, "remote", "set-url", "origin", strings.TrimSuffix(plain.URL, "/")+"/git/demo.git")
		push(b, w)
	})
}

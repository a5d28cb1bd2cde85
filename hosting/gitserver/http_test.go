package gitserver

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func (w *world) get(method, path, user string, body io.Reader, header ...string) (int, string, http.Header) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.http.URL+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, "secret")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.StatusCode, string(text), answer.Header
}

func TestWhoMayAskForWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, c := range []struct {
		method, path, user string
		want               int
	}{
		{"GET", "/git/demo.git/info/refs?service=git-upload-pack", "ann", 200},
		{"GET", "/git/demo/info/refs?service=git-upload-pack", "ann", 200},
		{"GET", "/git/demo/lib.git/info/refs?service=git-upload-pack", "ann", 200},
		{"GET", "/git/demo/lib/info/refs?service=git-upload-pack", "ann", 200},
		{"GET", "/git/demo/lib.git/info/refs?service=git-upload-pack", "", 401},
		{"GET", "/git/demo/lib.git/info/refs?service=git-receive-pack", "reader", 403},
		{"GET", "/git/demo/none.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo.git/lib.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo/-lib.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo/../lib.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo/lib/x.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo%2flib.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo.git/info/refs?service=git-upload-pack", "", 401},
		{"GET", "/git/demo.git/info/refs?service=git-receive-pack", "reader", 403},
		{"POST", "/git/demo.git/git-receive-pack", "reader", 403},
		{"GET", "/git/other.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/other.git/info/refs?service=git-upload-pack", "", 401},
		{"GET", "/git/demo.git/info/refs", "ann", 403},
		{"GET", "/git/demo.git/info/refs?service=git-upload-archive", "ann", 403},
		{"GET", "/git/demo.git/info/refs?service=git-upload-pack%00", "ann", 403},
		{"POST", "/git/demo.git/info/refs?service=git-upload-pack", "ann", 405},
		{"GET", "/git/demo.git/git-upload-pack", "ann", 405},
		{"GET", "/git/demo.git/HEAD", "ann", 404},
		{"GET", "/git/demo.git/config", "ann", 404},
		{"GET", "/git/demo.git/objects/info/packs", "ann", 404},
		{"GET", "/git/demo.git/../demo.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/..%2fdemo.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/%64emo.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/demo.git%2finfo/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/DEMO.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git/-demo.git/info/refs?service=git-upload-pack", "ann", 404},
		{"GET", "/git//info/refs?service=git-upload-pack", "ann", 404},
	} {
		got, text, header := w.get(c.method, c.path, c.user, nil)
		if got != c.want {
			t.Errorf("%s %s as %q: %d (%s), want %d", c.method, c.path, c.user, got, strings.TrimSpace(text), c.want)
		}
		if challenge := header.Get("WWW-Authenticate"); (challenge == `Basic realm="slipway"`) != (c.want == 401) {
			t.Errorf("%s %s: challenge %q", c.method, c.path, challenge)
		}
	}
	if out, err := w.git("", "ls-remote", strings.Replace(w.http.URL, "http://", "http://ann:wrong@", 1)+"/git/demo.git"); err == nil {
		t.Errorf("a wrong password lists refs: %s", out)
	}
}

// Whoever has too much open at once is told so; it is not our fault.
func TestTooManyIsNoInternalError(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) {
		known := o.Authorize
		o.Authorize = func(ctx context.Context, r *http.Request, codebase string, write bool) (string, error) {
			if user, _, _ := r.BasicAuth(); user == "eve" {
				return "", slipway.Errorf(slipway.TooMany, "eve has 9 clones open")
			}
			return known(ctx, r, codebase, write)
		}
	})
	if got, text, _ := w.get("GET", "/git/demo.git/info/refs?service=git-upload-pack", "eve", nil); got != http.StatusTooManyRequests || !strings.Contains(text, "9 clones") {
		t.Errorf("%d %s", got, text)
	}
}

func TestProtocolVersion2AndGzip(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	_, text, _ := w.get("GET", "/git/demo.git/info/refs?service=git-upload-pack", "ann", nil, "Git-Protocol", "version=2")
	wantText(t, text, "version 2", "ls-refs")
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	for _, line := range []string{"command=ls-refs\n", "", "peel\n", "ref-prefix refs/heads/\n"} {
		if line == "" {
			_, _ = io.WriteString(z, "0001")
			continue
		}
		if err := writePkt(z, line); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeFlush(z); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	status, text, _ := w.get("POST", "/git/demo.git/git-upload-pack", "ann", &body,
		"Git-Protocol", "version=2", "Content-Encoding", "gzip", "Content-Type", "application/x-git-upload-pack-request")
	if status != 200 {
		t.Errorf("status %d", status)
	}
	wantText(t, text, "refs/heads/main")
}

func randomFile(t *testing.T, name string, size int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBigPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.must(w.copy, "config", "core.compression", "0") // what is random does not get smaller
	randomFile(t, filepath.Join(w.copy, "big"), 50<<20)
	head := w.commit("a.txt", "1")
	if out, err := w.push("HEAD:main"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if w.ref("refs/heads/main") != head {
		t.Error("main did not move")
	}
	other := filepath.Join(t.TempDir(), "clone")
	w.must("", "clone", "--quiet", w.url("ann"), other)
	if info, err := os.Stat(filepath.Join(other, "big")); err != nil || info.Size() != 50<<20 {
		t.Errorf("cloned %v, %v", info, err)
	}
}

func TestPushOverTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.MaxPack = 1 << 20 })
	randomFile(t, filepath.Join(w.copy, "big"), 8<<20)
	w.commit("a.txt", "1")
	out, err := w.push("HEAD:main")
	if err == nil {
		t.Error("a pack of 8 MiB passed a limit of 1 MiB")
	}
	wantText(t, out, "pack exceeds maximum allowed size")
	w.wantTold("")
	if left, _ := filepath.Glob(filepath.Join(w.bare, "objects", "*incoming*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// TestRefusalIsHeardWhileSending sends half of a pack that is too large, and the rest only when the
// answer is there.
func TestRefusalIsHeardWhileSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *Options) { o.MaxPack = 1 << 20 })
	pr, pw := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.http.URL+"/git/demo.git/git-receive-pack", pr)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("ann", "secret")
	heard, sent := make(chan struct{}), make(chan error, 1)
	go func() {
		var head bytes.Buffer
		err := errors.Join(writePkt(&head, zero+" "+one()+" refs/heads/main\x00report-status side-band-64k\n"), writeFlush(&head))
		head.WriteString("PACK\x00\x00\x00\x02\x00\x00\x00\x01" + "\xb0\x80\x80\x08") // one blob of 16 MiB
		z, zerr := zlib.NewWriterLevel(&head, zlib.NoCompression)
		_, rerr := io.CopyN(z, rand.Reader, 5<<18)
		_, werr := pw.Write(head.Bytes())
		<-heard
		sent <- errors.Join(err, zerr, rerr, werr, pw.Close())
	}()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text := make([]byte, 200)
	n, err := io.ReadAtLeast(answer.Body, text, 40)
	if err != nil {
		t.Error(err)
	}
	wantText(t, string(text[:n]), "pack exceeds")
	close(heard)
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestBrokenObjectsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	blob := w.must(w.copy, "rev-parse", "HEAD:a.txt")
	var tree bytes.Buffer
	for _, name := range []string{".git", "a.txt"} {
		tree.WriteString("100644 " + name + "\x00")
		for i := 0; i < 40; i += 2 {
			tree.WriteByte(unhex(blob[i])<<4 | unhex(blob[i+1]))
		}
	}
	name := filepath.Join(t.TempDir(), "tree")
	if err := os.WriteFile(name, tree.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	hash := w.must(w.copy, "hash-object", "-t", "tree", "-w", "--literally", name)
	commit := w.must(w.copy, "commit-tree", "-m", "evil", hash)
	out, err := w.push(commit + ":refs/heads/main")
	if err == nil {
		t.Error("a tree with .git was accepted")
	}
	wantText(t, out, "hasDotgit")
	w.wantTold("")
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func TestOldHistoryIsAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	tree := w.must(w.copy, "rev-parse", "HEAD^{tree}")
	name := filepath.Join(t.TempDir(), "commit")
	text := "tree " + tree + "\nauthor Bob<bob@example.com> 1112911993 +051800\ncommitter Bob <bob@example.com> 1112911993 -7\n\nold\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	commit := w.must(w.copy, "hash-object", "-t", "commit", "-w", "--literally", name)
	if out, err := w.push(commit + ":refs/heads/main"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

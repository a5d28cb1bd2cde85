package git

import (
	"context"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"https://host/a.git", "http://127.0.0.1:8080/x", "ssh://git@host:22/a.git", "git://host/a", "git@host:team/a.git", "host:a.git"} {
		if err := CheckURL(good, false); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "-x", "--upload-pack=id", "ext::sh -c id", "file:///etc", "/etc", "./x", "../x", "https://", "https:///x", "ssh://-oProxyCommand=id/x",
		"ssh://-x@host/a", "-oProxyCommand=id:x", "git@-host:x", "ftp://host/x", "https://host/a b", "https://host/\nx", "fd::3", "ssh://u:p@host/x", "http::https://x"} {
		wantCode(t, CheckURL(bad, false), slipway.Invalid)
	}
	if err := CheckURL("/srv/a.git", true); err != nil {
		t.Error(err)
	}
	if err := CheckURL("https://ann:s3cret@host\x7f/", false); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("an error shows the password: %v", err)
	}
}

// cloneMirror makes a mirror in the steps in which the server does.
func cloneMirror(ctx context.Context, dir string, m Remote) (Repo, string, error) {
	if _, err := m.normal(); err != nil {
		return Repo{}, "", err
	}
	r, err := Init(ctx, dir, "main")
	if err != nil {
		return r, "", err
	}
	branch, err := r.RemoteDefault(ctx, m)
	if err != nil {
		return r, "", err
	}
	if err := r.SetDefaultBranch(ctx, branch); err != nil {
		return r, "", err
	}
	changes, err := r.Fetch(ctx, m)
	if err != nil {
		return r, "", err
	}
	return r, branch, r.Apply(ctx, changes)
}

func TestMirror(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	one := w.commit("one", map[string]string{"a": "1"})
	w.git("branch", "-m", "trunk")
	w.git("branch", "dir")
	w.git("tag", "v1")
	w.git("update-ref", "refs/heads/odd!name", one)
	remote := Remote{URL: w.repo.Dir, AllowFile: true}
	dir := filepath.Join(t.TempDir(), "mirror.git")
	r, branch, err := cloneMirror(ctx, dir, remote)
	if err != nil || branch != "trunk" {
		t.Fatalf("%q, %v", branch, err)
	}
	if refs, err := r.Refs(ctx); err != nil || len(refs) != 3 || refs["refs/heads/trunk"] != one {
		t.Errorf("%v, %v", refs, err)
	}
	w.git("branch", "-D", "dir")
	w.git("branch", "dir/below")
	w.git("tag", "-d", "v1")
	two := w.commit("two", map[string]string{"a": "2"})
	changes, err := r.Fetch(ctx, remote)
	want := []RefChange{{"refs/heads/dir", one, slipway.ZeroHash}, {"refs/heads/dir/below", slipway.ZeroHash, one}, {"refs/heads/trunk", one, two}, {"refs/tags/v1", one, slipway.ZeroHash}}
	if err != nil || len(changes) != len(want) {
		t.Fatalf("%v, %v", changes, err)
	}
	for i := range want {
		if changes[i] != want[i] {
			t.Errorf("change %v, want %v", changes[i], want[i])
		}
	}
	if got, err := r.Resolve(ctx, "refs/heads/trunk"); err != nil || got != one {
		t.Errorf("Fetch moved a ref by itself: %s, %v", got, err)
	}
	if again, err := r.Fetch(ctx, remote); err != nil || len(again) != len(changes) {
		t.Errorf("changes that were not applied got lost: %v, %v", again, err)
	}
	if err := r.Apply(ctx, changes); err != nil {
		t.Fatal(err)
	}
	if got, err := r.Resolve(ctx, "refs/heads/trunk"); err != nil || got != two {
		t.Errorf("%s, %v", got, err)
	}
	if changes, err = r.Fetch(ctx, remote); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}
}

func TestMirrorOfAnEmptyRepository(t *testing.T) {
	t.Parallel()
	empty, err := Init(t.Context(), filepath.Join(t.TempDir(), "e.git"), "trunk")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cloneMirror(t.Context(), filepath.Join(t.TempDir(), "m.git"), Remote{URL: empty.Dir, AllowFile: true}); err != nil {
		t.Error(err)
	}
}

func TestMirrorWithPassword(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	head := w.commit("one", nil)
	out, err := exec.CommandContext(t.Context(), "git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + w.dir, "GIT_HTTP_EXPORT_ALL=1"}}
	const password = "s3c%ret/ü"
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if user, p, _ := r.BasicAuth(); user != "ann" || p != password {
			rw.Header().Set("WWW-Authenticate", "Basic")
			http.Error(rw, "who?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(rw, r)
	}))
	defer server.Close()
	url := server.URL + "/.git"
	r, _, err := cloneMirror(t.Context(), filepath.Join(t.TempDir(), "m.git"), Remote{URL: url, User: "ann", Password: password})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := r.Resolve(t.Context(), "refs/heads/main"); err != nil || got != head {
		t.Errorf("%s, %v", got, err)
	}
	_, err = r.Fetch(t.Context(), Remote{URL: strings.Replace(url, "http://", "http://ann:wrong-one@", 1)})
	wantCode(t, err, slipway.Unavailable, url)
	if strings.Contains(err.Error(), "wrong-one") || !slipway.Temporary(err) {
		t.Errorf("%v shows the password, or is not temporary", err)
	}
	_, err = r.Fetch(t.Context(), Remote{URL: w.repo.Dir})
	wantCode(t, err, slipway.Invalid)
}

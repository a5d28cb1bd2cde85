package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/web"
)

// upstream is a repository that is mirrored, and how it moves.
type upstream struct {
	t    *testing.T
	dir  string
	url  string
	bare git.Repo
}

func (u *upstream) git(args ...string) string {
	u.t.Helper()
	cmd := plainGit(u.t.Context(), append([]string{"-c", "init.defaultBranch=trunk"}, args...)...)
	cmd.Dir = u.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *upstream) commit(text string) string {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, "README"), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
	u.git("add", ".")
	u.git("commit", "-q", "-m", text)
	return u.git("rev-parse", "HEAD")
}

// newUpstream is served by another Slipway, as any forge would.
func newUpstream(t *testing.T) *upstream {
	t.Helper()
	far := newSite(t, false, serveOptions{})
	if _, err := far.admin.CreateProject(t.Context(), slipway.Project{Name: "lib", DefaultBranch: "trunk"}); err != nil {
		t.Fatal(err)
	}
	u := &upstream{t: t, dir: t.TempDir()}
	u.git("init", "-q")
	u.url = strings.Replace(far.url, "http://", "http://admin:"+far.token+"@", 1) + "/git/lib.git"
	u.git("remote", "add", "origin", u.url)
	return u
}

// mirror is a server's own parts, without its process, over a mirrored project.
func mirror(t *testing.T, u *upstream) (*server, slipway.Codebase) {
	t.Helper()
	data := t.TempDir()
	o := serveOptions{data: data, buildkit: "unix://" + filepath.Join(data, "none.sock"), poll: time.Hour, registryHost: slipway.EmbeddedRegistry, url: "http://slipway.test"}
	s, err := openServer(t.Context(), o, "127.0.0.1:1", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	made, keep, err := s.repos.Create(t.Context(), slipway.Codebase{Project: "lib", GitURL: u.url})
	if err != nil {
		t.Fatal(err)
	}
	p := must[slipway.Project](t)(s.store.CreateProject(t.Context(), slipway.Project{Name: made.Project, DefaultBranch: made.DefaultBranch, GitURL: made.GitURL}, adminName))
	if err := keep(); err != nil {
		t.Fatal(err)
	}
	return s, p.Main()
}

// runsOf are the refs and commits that have runs, newest first.
func runsOf(t *testing.T, s *server) string {
	t.Helper()
	var out []string
	for _, r := range must[[]slipway.Run](t)(s.store.Runs(t.Context(), slipway.RunFilter{})) {
		out = append(out, strings.TrimPrefix(r.Ref, "refs/heads/")+"@"+r.Commit)
	}
	return strings.Join(out, " ")
}

// The page of codebases of a real server shows those of the project, and of no other project.
func TestCodebasesPage(t *testing.T) {
	t.Parallel()
	s := newSite(t, false, serveOptions{})
	if _, err := s.admin.CreateProject(t.Context(), slipway.Project{Name: "lib", DefaultBranch: "trunk"}); err != nil {
		t.Fatal(err)
	}
	cookie := web.SessionCookie + "=" + s.session()
	resp, page := s.get("/projects/lib/codebases", "", "Cookie", cookie)
	for _, want := range []string{"Main codebase", "hosted here", "/git/lib.git", "trunk"} {
		if resp.StatusCode != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("it answers %d without %q", resp.StatusCode, want)
		}
	}
	if resp, _ := s.get("/projects/none/codebases", "", "Cookie", cookie); resp.StatusCode != http.StatusNotFound {
		t.Errorf("of a project that is not there it answers %d", resp.StatusCode)
	}
}

// How the last poll of a mirrored codebase ended is known.
func TestPolls(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk")
	s, p := mirror(t, u)
	if got := s.polled(p.Key()); !got.Time.IsZero() || got.Since != s.begun || s.begun.IsZero() {
		t.Errorf("before the first poll %v is known", got)
	}
	if rows := pollRows(s.polled(p.Key())); len(rows) != 1 || !strings.HasPrefix(rows[0][1], "not since the server started, ") {
		t.Errorf("before the first poll a person is told %v", rows)
	}
	began := time.Now()
	s.pollAlone(t.Context(), p)
	good := s.polled(p.Key())
	if good.Problem != "" || good.Time.Before(began) {
		t.Fatalf("after the first poll %v is known", good)
	}
	gone := &stepped{server: s, t: t}
	gone.mirroring("gone", "http://127.0.0.1:1/gone.git")
	p = must[slipway.Project](t)(s.store.Project(t.Context(), "gone")).Main()
	s.pollAlone(t.Context(), p)
	if bad := s.polled(p.Key()); bad.Problem == "" || bad.Time.Before(good.Time) {
		t.Errorf("after one that found nothing out %v is known", bad)
	}
	if rows := pollRows(s.polled(p.Key())); len(rows) != 1 || !strings.Contains(rows[0][1], "and it did nothing: ") {
		t.Errorf("a person is told %v", rows)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	before := s.polled(p.Key())
	s.pollAlone(stopped, p)
	if got := s.polled(p.Key()); *got != *before {
		t.Errorf("a poll that was stopped is taken for one that ended: %v", got)
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk", "HEAD:old", "HEAD:older")
	s, p := mirror(t, u)
	if p.DefaultBranch != "trunk" {
		t.Errorf("its default branch is %q", p.DefaultBranch)
	}
	poll := func() {
		t.Helper()
		if err := s.pollMirror(t.Context(), p.Key(), nil); err != nil {
			t.Fatal(err)
		}
	}
	poll()
	poll()
	want := "trunk@" + first
	if got := runsOf(t, s); got != want { // what was there already does not run
		t.Errorf("after the first poll: %s, want %s", got, want)
	}
	second := u.commit("second")
	u.git("tag", "-a", "v1", "-m", "one")
	u.git("push", "-q", "origin", "HEAD:trunk", "HEAD:feature/x", ":old", "v1")
	poll()
	poll()
	for _, ref := range []string{"trunk@" + second, "feature/x@" + second} {
		if !strings.Contains(runsOf(t, s), ref) {
			t.Errorf("no run of %s: %s", ref, runsOf(t, s))
		}
	}
	refs := must[map[string]string](t)(s.repos.Open("lib").Refs(t.Context()))
	if len(refs) != 4 || refs["refs/tags/v1"] == "" || refs["refs/heads/old"] != "" || refs["refs/heads/trunk"] != second {
		t.Errorf("refs %v", refs)
	}
	if n := len(strings.Fields(runsOf(t, s))); n != 3 {
		t.Errorf("%d runs: %s", n, runsOf(t, s))
	}
	if open := must[[]slipway.Push](t)(s.store.OpenPushes(t.Context())); len(open) != 0 {
		t.Errorf("left open: %+v", open)
	}
}

// Killed at any point of a poll, the next start and poll make the run that is missing, and none twice.
func TestMirrorSurvivesACrash(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(s *server, p slipway.Codebase) error{
		"after the fetch": func(s *server, p slipway.Codebase) error {
			_, err := s.repos.Open(p.Project).Fetch(t.Context(), git.Remote{URL: p.GitURL})
			return err
		},
		"after recording": func(s *server, p slipway.Codebase) error {
			_, err := fetchAndRecord(t.Context(), s, p)
			return err
		},
		"after the refs moved": func(s *server, p slipway.Codebase) error {
			changes, err := fetchAndRecord(t.Context(), s, p)
			return errors.Join(err, s.repos.Open(p.Project).Apply(t.Context(), changes))
		},
	} {
		u := newUpstream(t)
		first := u.commit("first")
		u.git("push", "-q", "origin", "HEAD:trunk")
		s, p := mirror(t, u)
		if err := s.pollMirror(t.Context(), p.Key(), nil); err != nil {
			t.Fatal(err)
		}
		second := u.commit("second")
		u.git("push", "-q", "origin", "HEAD:trunk")
		if err := crash(s, p); err != nil {
			t.Fatal(err)
		}
		if err := s.actions.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.pollMirror(t.Context(), p.Key(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := runsOf(t, s), "trunk@"+second+" trunk@"+first; got != want {
			t.Errorf("%s: runs %s, want %s", name, got, want)
		}
	}
}

func fetchAndRecord(ctx context.Context, s *server, p slipway.Codebase) ([]git.RefChange, error) {
	changes, err := s.repos.Open(p.Project).Fetch(ctx, git.Remote{URL: p.GitURL})
	for _, c := range changes {
		_, rerr := s.store.RecordPush(ctx, slipway.Push{Project: p.Project, Ref: c.Ref, Old: c.Old, New: c.New, Actor: "mirror"})
		err = errors.Join(err, rerr)
	}
	return changes, err
}

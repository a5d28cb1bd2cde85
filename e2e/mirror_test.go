package e2e_test

import (
	"net/http/cgi"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/slipway-cd/slipway"
)

// TestMirroredRepository adds a project whose repository is elsewhere: a commit there becomes a run.
func TestMirroredRepository(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	elsewhere := httptest.NewServer(&cgi.Handler{Path: git, Args: []string{"http-backend"},
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}})
	t.Cleanup(elsewhere.Close)
	r := newRepo(t, s, "mirrored", tick())
	r.git("init", "--quiet", "--bare", "--initial-branch", "main", filepath.Join(root, "tick.git"))
	r.git("remote", "add", "elsewhere", filepath.Join(root, "tick.git"))
	r.git("push", "--quiet", "elsewhere", "main", "HEAD:refs/heads/feature/old")
	_, err = s.as("admin").CreateProject(t.Context(), slipway.Project{Name: "mirrored", GitURL: elsewhere.URL + "/tick.git"})
	if err != nil {
		t.Fatal(err)
	}
	s.roles(t, "mirrored")
	first := r.comes(r.head())
	s.until(t, first.ID, slipway.RunSucceeded)
	if runs := runsOf(t, r, "refs/heads/feature/old"); len(runs) != 0 {
		t.Errorf("a branch that was there before made runs: %+v", runs)
	}
	commit := r.commit("A change elsewhere", tree{"tick/www/index.html": "changed\n"})
	r.git("push", "--quiet", "elsewhere", "HEAD:refs/heads/feature/new")
	d := s.until(t, r.comes(commit).ID, slipway.RunSucceeded)
	if d.Run.Event != slipway.BranchPush || !slices.Equal(keys(d), []string{"build/tick", "plan", "test/tick"}) {
		t.Errorf("run of %s with %v", d.Run.Event, keys(d))
	}
	_, err = r.pushAs(t.Context(), "bob", "main")
	if err == nil {
		t.Error("a mirror took a push")
	}
	for _, bad := range []string{"file:///etc", "ext::sh -c id", "http://user:secret@127.0.0.1/x.git", "-oProxyCommand=id"} {
		_, err := s.as("admin").CreateProject(t.Context(), slipway.Project{Name: "bad-mirror", GitURL: bad})
		wantCode(t, err, slipway.Invalid, "git URL")
	}
}

// comes waits for the run of a commit that was pushed elsewhere.
func (r *repo) comes(commit string) slipway.Run {
	r.t.Helper()
	var runs []slipway.Run
	r.site.await(r.t.Context(), patience, func() bool {
		var err error
		runs, err = r.site.as("admin").Runs(r.t.Context(), slipway.RunFilter{Project: r.project, Commit: commit})
		return err == nil && len(runs) > 0
	})
	if len(runs) != 1 {
		r.t.Fatalf("commit %s has %d runs\n%s", commit, len(runs), r.site.process().LogTail(20))
	}
	return runs[0]
}

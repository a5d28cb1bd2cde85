package worktree

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/slipwaytest"
)

// What lies there is a commit that only this process sees; the repository stays as it is.
func TestWorktreeIsTakenAsItLiesThere(t *testing.T) {
	t.Parallel()
	dir, git := slipwaytest.Repository(t)
	clean, err := Open(t.Context(), dir, t.TempDir())
	if err != nil || clean.Commit != git("rev-parse", "HEAD") || clean.Changed != 0 || clean.Branch != "main" {
		t.Fatalf("a clean tree is %+v, %v", clean, err)
	}
	slipwaytest.Write(t, dir, "edited", "x")
	slipwaytest.Write(t, dir, "staged", "x")
	git("add", "staged")
	slipwaytest.Write(t, dir, "staged", "y")
	slipwaytest.Write(t, dir, "ignored", "x")
	slipwaytest.Write(t, dir, "neu é\n", "x")
	if err := os.Remove(filepath.Join(dir, "deleted")); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, ".git", "index"))
	if err != nil {
		t.Fatal(err)
	}
	objects := git("count-objects", "-v")
	w, err := Open(t.Context(), dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files, err := w.Repo.ChangedFiles(t.Context(), w.Head, w.Commit)
	want := []string{"deleted", "edited", "neu é\n", "staged"}
	if err != nil || !slices.Equal(files, want) || w.Changed != len(want) {
		t.Errorf("changed are %q (%d), %v, want %q", files, w.Changed, err, want)
	}
	staged, err := w.Repo.ReadFile(t.Context(), w.Commit, "staged", 100)
	if err != nil || string(staged) != "y" {
		t.Errorf("what lies there is %q, %v, not what is staged", staged, err)
	}
	after, err := os.ReadFile(filepath.Join(dir, ".git", "index"))
	if err != nil || !bytes.Equal(index, after) || git("count-objects", "-v") != objects || git("stash", "list") != "" {
		t.Errorf("the repository was touched: %v, %s, before %s", err, git("count-objects", "-v"), objects)
	}
	again, err := Open(t.Context(), dir, t.TempDir())
	if err != nil || again.Commit != w.Commit {
		t.Errorf("the same tree is commit %s, and then %s, %v", w.Commit, again.Commit, err)
	}
}

// A linked worktree has its own files and branch, and the history of the repository.
func TestLinkedWorktree(t *testing.T) {
	t.Parallel()
	dir, git := slipwaytest.Repository(t)
	linked := filepath.Join(t.TempDir(), "linked")
	git("worktree", "add", "-q", "-b", "topic/x", linked)
	slipwaytest.Write(t, linked, "edited", "x")
	slipwaytest.Write(t, dir, "kept", "only in the other")
	w, err := Open(t.Context(), linked, t.TempDir())
	if err != nil || w.Changed != 1 || w.Branch != "topic/x" {
		t.Fatalf("%+v, %v", w, err)
	}
	base, name, err := w.Base(t.Context(), "")
	if err != nil || name != "main" || base != git("rev-parse", "main") {
		t.Errorf("compared with %s (%s), %v", name, base, err)
	}
}

// The branch is compared with where it left the default branch, as the remote has it.
func TestWorktreeBase(t *testing.T) {
	t.Parallel()
	dir, git := slipwaytest.Repository(t)
	base := func(since string) string {
		t.Helper()
		w, err := Open(t.Context(), dir, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		commit, name, err := w.Base(t.Context(), since)
		if err != nil {
			return "refused"
		}
		for _, ref := range []string{"one", "two", "three"} {
			if hash := git("for-each-ref", "--format=%(objectname)", "refs/tags/"+ref); hash != "" && commit == hash {
				commit = ref
			}
		}
		return strings.TrimSpace(name + " " + commit)
	}
	git("tag", "one")
	if got := base(""); got != "" {
		t.Errorf("the only branch is compared with %q", got)
	}
	git("checkout", "-q", "-b", "topic/x")
	slipwaytest.Write(t, dir, "edited", "2")
	git("commit", "-q", "-a", "-m", "two")
	git("tag", "two")
	git("checkout", "-q", "main")
	slipwaytest.Write(t, dir, "kept", "3")
	git("commit", "-q", "-a", "-m", "three")
	git("tag", "three")
	git("checkout", "-q", "topic/x")
	for since, want := range map[string]string{"": "main one", "main": "main one", "HEAD": "HEAD two", "two": "two two", "nowhere": "refused", "--all": "refused", "HEAD:kept": "refused"} {
		if got := base(since); got != want {
			t.Errorf("--since %q compares with %q, want %q", since, got, want)
		}
	}
	git("update-ref", "refs/remotes/origin/main", "two")
	if got := base(""); got != "origin/main two" {
		t.Errorf("beside a remote it is compared with %q", got)
	}
}

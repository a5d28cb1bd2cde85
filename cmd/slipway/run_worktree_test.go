package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// gitRepo is a repository with one commit in a folder whose name git has to have quoted.
func gitRepo(t *testing.T) (dir string, git func(args ...string) string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), `a:"b`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	git = func(args ...string) string {
		t.Helper()
		out, err := gitIn(t.Context(), dir, []string{
			"GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com",
		}, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	git("init", "-q", "-b", "main")
	put(t, dir, ".gitignore", "ignored\n")
	for _, name := range []string{"kept", "edited", "staged", "deleted"} {
		put(t, dir, name, name)
	}
	git("add", ".")
	git("commit", "-q", "-m", "one")
	return dir, git
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What lies there is a commit that only this process sees; the repository stays as it is.
func TestWorktreeIsTakenAsItLiesThere(t *testing.T) {
	t.Parallel()
	dir, git := gitRepo(t)
	clean, err := openWorktree(t.Context(), dir, t.TempDir())
	if err != nil || clean.commit != git("rev-parse", "HEAD") || clean.changed != 0 || clean.branch != "main" {
		t.Fatalf("a clean tree is %+v, %v", clean, err)
	}
	put(t, dir, "edited", "x")
	put(t, dir, "staged", "x")
	git("add", "staged")
	put(t, dir, "staged", "y")
	put(t, dir, "ignored", "x")
	put(t, dir, "neu é\n", "x")
	if err := os.Remove(filepath.Join(dir, "deleted")); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, ".git", "index"))
	if err != nil {
		t.Fatal(err)
	}
	objects := git("count-objects", "-v")
	w, err := openWorktree(t.Context(), dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	files, err := w.repo.ChangedFiles(t.Context(), w.head, w.commit)
	want := []string{"deleted", "edited", "neu é\n", "staged"}
	if err != nil || !slices.Equal(files, want) || w.changed != len(want) {
		t.Errorf("changed are %q (%d), %v, want %q", files, w.changed, err, want)
	}
	staged, err := w.repo.ReadFile(t.Context(), w.commit, "staged", 100)
	if err != nil || string(staged) != "y" {
		t.Errorf("what lies there is %q, %v, not what is staged", staged, err)
	}
	after, err := os.ReadFile(filepath.Join(dir, ".git", "index"))
	if err != nil || !bytes.Equal(index, after) || git("count-objects", "-v") != objects || git("stash", "list") != "" {
		t.Errorf("the repository was touched: %v, %s, before %s", err, git("count-objects", "-v"), objects)
	}
	again, err := openWorktree(t.Context(), dir, t.TempDir())
	if err != nil || again.commit != w.commit {
		t.Errorf("the same tree is commit %s, and then %s, %v", w.commit, again.commit, err)
	}
}

// A linked worktree has its own files and branch, and the history of the repository.
func TestLinkedWorktree(t *testing.T) {
	t.Parallel()
	dir, git := gitRepo(t)
	linked := filepath.Join(t.TempDir(), "linked")
	git("worktree", "add", "-q", "-b", "topic/x", linked)
	put(t, linked, "edited", "x")
	put(t, dir, "kept", "only in the other")
	w, err := openWorktree(t.Context(), linked, t.TempDir())
	if err != nil || w.changed != 1 || w.branch != "topic/x" {
		t.Fatalf("%+v, %v", w, err)
	}
	base, name, err := w.base(t.Context(), "")
	if err != nil || name != "main" || base != git("rev-parse", "main") {
		t.Errorf("compared with %s (%s), %v", name, base, err)
	}
}

// The branch is compared with where it left the default branch, as the remote has it.
func TestWorktreeBase(t *testing.T) {
	t.Parallel()
	dir, git := gitRepo(t)
	base := func(since string) string {
		t.Helper()
		w, err := openWorktree(t.Context(), dir, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		commit, name, err := w.base(t.Context(), since)
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
	put(t, dir, "edited", "2")
	git("commit", "-q", "-a", "-m", "two")
	git("tag", "two")
	git("checkout", "-q", "main")
	put(t, dir, "kept", "3")
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

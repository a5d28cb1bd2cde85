package git

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// A git that lost its power leaves locks behind, and every later one would stumble over them.
func TestRemoveLocks(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	w.write(map[string]string{"a": "a"})
	w.git("add", ".")
	w.git("commit", "--quiet", "-m", "first")
	c := w.git("rev-parse", "HEAD")
	before := time.Now().Add(-time.Minute)
	lock := func(name string, at time.Time) {
		path := filepath.Join(w.repo.Dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	old := before.Add(-time.Hour)
	stale := []string{"config.lock", "objects/info/commit-graphs/commit-graph-chain.lock", "packed-refs.lock", "refs/heads/feature/x.lock", "refs/heads/side.lock"}
	for _, name := range append([]string{"objects/aa/bb.lock", "info/locked"}, stale...) {
		lock(name, old)
	}
	lock("refs/heads/now.lock", time.Now())
	if err := os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), filepath.Join(w.repo.Dir, "link.lock")); err != nil {
		t.Fatal(err)
	}
	if err := w.repo.UpdateRef(t.Context(), "refs/heads/side", c, slipway.ZeroHash); err == nil {
		t.Fatal("a ref moves in spite of its lock: the test proves nothing")
	}
	removed, err := w.repo.RemoveLocks(before)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(removed)
	if !slices.Equal(removed, stale) {
		t.Errorf("removed %v, want %v", removed, stale)
	}
	if err := w.repo.UpdateRef(t.Context(), "refs/heads/side", c, slipway.ZeroHash); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"refs/heads/now.lock", "objects/aa/bb.lock", "info/locked"} {
		if _, err := os.Stat(filepath.Join(w.repo.Dir, name)); err != nil {
			t.Error(err)
		}
	}
	if removed, err := (Repo{Dir: filepath.Join(t.TempDir(), "none")}).RemoveLocks(before); err != nil || len(removed) > 0 {
		t.Errorf("of no repository: %v, %v", removed, err)
	}
}

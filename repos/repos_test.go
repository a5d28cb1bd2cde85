package repos_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/repos"
)

// The repository of a project comes into its place when the project is recorded, also after a crash in
// between; nothing that is there is ever taken away.
func TestRepositories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r, ctx := repos.In(dir), t.Context()
	for range 2 { // the first try was not recorded
		if _, _, err := r.Create(ctx, slipway.Codebase{Project: "shop"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(r.Path("shop")); err == nil {
		t.Error("it is in its place before the project is recorded")
	}
	if _, _, err := r.Create(ctx, slipway.Codebase{Project: "blog"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Recover([]slipway.Codebase{{Project: "shop"}}); err != nil { // recorded, and killed then
			t.Fatal(err)
		}
	}
	if branch, err := r.Open("shop").DefaultBranch(ctx); err != nil || branch != "main" {
		t.Errorf("default branch %q, %v", branch, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ".new")); err == nil {
		t.Error("what belongs to no project is left")
	}
	if _, _, err := r.Create(ctx, slipway.Codebase{Project: "shop"}); slipway.ErrorCode(err) != slipway.Conflict || !strings.Contains(err.Error(), "belongs to no project: move it away") {
		t.Errorf("over one that is there: %v", err)
	}
	if _, err := os.Stat(r.Path("shop")); err != nil {
		t.Error(err)
	}
}

package repos_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/repos"
)

// worn is a maintenance of the repositories of project shop and its codebases, and what it logs.
func worn(t *testing.T, further ...string) (*repos.Maintenance, *strings.Builder) {
	t.Helper()
	logged := &strings.Builder{}
	codebases := []slipway.Codebase{{Project: "shop"}}
	for _, name := range further {
		codebases = append(codebases, slipway.Codebase{Project: "shop", Name: name})
	}
	m := &repos.Maintenance{Repos: repos.In(t.TempDir()), Log: slog.New(slog.NewTextHandler(logged, nil)),
		Codebases: func(context.Context) ([]slipway.Codebase, error) { return codebases, nil }}
	for _, c := range codebases {
		if _, err := git.Init(t.Context(), m.Repos.Path(c.Key()), "main"); err != nil {
			t.Fatal(err)
		}
	}
	return m, logged
}

// One broken repository keeps no other from being packed, and is told once; what is tidy is left alone.
func TestMaintainAll(t *testing.T) {
	t.Parallel()
	m, logged := worn(t, "aaa", "further")
	broken, untidy := m.Repos.Path("shop/aaa"), m.Repos.Path("shop/further")
	scatter(t, untidy, 12)
	part := filepath.Join(untidy, "objects", "pack", "tmp_pack_dead")
	old := time.Now().Add(-48 * time.Hour)
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(part, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(broken, "objects", "pack", "pack-1.idx"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	tidy := m.Repos.Path("shop")
	scatter(t, tidy, 3)
	before := packs(t, tidy)

	for range 2 {
		m.Once(t.Context())
	}
	if n := len(packs(t, untidy)); n != 1 {
		t.Errorf("%d packs behind the broken repository", n)
	}
	if _, err := os.Stat(part); err == nil {
		t.Error("what a killed git left is still there")
	}
	if after := packs(t, tidy); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("packs of a tidy repository were %v and are %v", before, after)
	}
	if n := strings.Count(logged.String(), "codebase=shop/aaa"); n != 1 {
		t.Errorf("told %d times of the broken one:\n%s", n, logged)
	}
	if n := strings.Count(logged.String(), "packed repository"); n != 1 {
		t.Errorf("packed %d times:\n%s", n, logged)
	}
	logged.Reset()
	if err := os.RemoveAll(filepath.Join(broken, "objects", "pack", "pack-1.idx")); err != nil {
		t.Fatal(err)
	}
	m.Once(t.Context())
	if logged.Len() > 0 {
		t.Errorf("nothing to do, and logged\n%s", logged)
	}
}

// A server that stops does not wait for repositories, and this is no error.
func TestMaintainEndsWithTheServer(t *testing.T) {
	t.Parallel()
	m, logged := worn(t)
	scatter(t, m.Repos.Path("shop"), 12)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	m.Run(ctx)
	m.Once(ctx)
	if n := len(packs(t, m.Repos.Path("shop"))); n < 12 || logged.Len() > 0 {
		t.Errorf("%d packs, logged %s", n, logged)
	}
}

// scatter makes packs.
func scatter(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		text := fmt.Sprint(dir, i)
		cmd := exec.CommandContext(t.Context(), "git", "--git-dir", dir, "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet")
		cmd.Stdin = strings.NewReader(fmt.Sprintf("commit refs/heads/b%d\ncommitter Ada <ada@example.com> 1700000000 +0000\ndata 1\nx\nM 100644 inline f\ndata %d\n%s\n", i, len(text), text))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git fast-import: %v\n%s", err, out)
		}
	}
}

func packs(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

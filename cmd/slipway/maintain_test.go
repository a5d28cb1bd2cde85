package main

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
)

// One broken repository keeps no other from being packed, and is told once; what is tidy is left alone.
func TestMaintainAll(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	logged := &strings.Builder{}
	c.server.log = slog.New(slog.NewTextHandler(logged, nil))
	broken := c.server.repos.Path("shop/aaa")
	untidy := c.server.repos.Path("shop/further")
	for _, name := range []string{"aaa", "further"} {
		must[slipway.Codebase](t)(c.CreateCodebase(t.Context(), slipway.Codebase{Project: "shop", Name: name}, "ada"))
		must[git.Repo](t)(git.Init(t.Context(), c.server.repos.Path("shop/"+name), "main"))
	}
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
	tidy := c.server.repos.Path("shop")
	scatter(t, tidy, 3)
	before := packs(t, tidy)

	known := map[string]string{}
	for range 2 {
		c.server.maintainAll(t.Context(), known)
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
	c.server.maintainAll(t.Context(), known)
	if logged.Len() > 0 {
		t.Errorf("nothing to do, and logged\n%s", logged)
	}
}

// A server that stops does not wait for repositories, and this is no error.
func TestMaintainEndsWithTheServer(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	logged := &strings.Builder{}
	c.server.log = slog.New(slog.NewTextHandler(logged, nil))
	scatter(t, c.server.repos.Path("shop"), 12)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	c.server.maintain(ctx)
	c.server.maintainAll(ctx, map[string]string{})
	if n := len(packs(t, c.server.repos.Path("shop"))); n < 12 || logged.Len() > 0 {
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
	return must[[]string](t)(filepath.Glob(filepath.Join(dir, "objects", "pack", "*.pack")))
}

package gitserver

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestPushToAFullDisk needs root, for a file system of its own that is small.
func TestPushToAFullDisk(t *testing.T) {
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("set SLIPWAY_E2E=1 and run as root")
	}
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=3m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	small := filepath.Join(disk, "demo.git")
	w.must("", "clone", "--quiet", "--mirror", w.bare, small)
	w.bare = small
	first := w.ref("refs/heads/main")
	before := w.told()
	randomFile(t, filepath.Join(w.copy, "big"), 8<<20)
	w.commit("a.txt", "2")
	out, err := w.push("HEAD:main")
	if err == nil {
		t.Error("8 MiB went onto a disk of 3 MiB")
	}
	wantText(t, out, "No space left on device")
	w.wantTold(before)
	if w.ref("refs/heads/main") != first {
		t.Error("main moved")
	}
	if left, _ := filepath.Glob(filepath.Join(w.bare, "objects", "*incoming*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	w.must(w.copy, "reset", "--quiet", "--hard", "HEAD~1")
	w.commit("a.txt", "3")
	w.must(w.copy, "push", "origin", "HEAD:main")
}

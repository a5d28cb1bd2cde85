package git

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/slipway-cd/slipway"
)

// TestInitOnAFullDisk needs root, for a file system of its own that is small.
func TestInitOnAFullDisk(t *testing.T) {
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("set SLIPWAY_E2E=1 and run as root")
	}
	t.Parallel()
	for _, inodes := range []int{2, 3, 5, 8} { // the disk is full for the folder, or for git
		disk := t.TempDir()
		if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=1m,nr_inodes=%d", inodes)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		_, err := Init(t.Context(), filepath.Join(disk, "shop", "main.git"), "main")
		if slipway.ErrorCode(err) != slipway.Unavailable || !slipway.Temporary(err) {
			t.Errorf("with %d inodes: %v", inodes, err)
		}
	}
}

// Another reason is not told as a full disk.
func TestFull(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		full bool
	}{
		{fmt.Errorf("x: %w", &fs.PathError{Op: "write", Path: "x", Err: syscall.EDQUOT}), true},
		{fmt.Errorf("x: %w", &exitError{command: "init", code: 128, stderr: "fatal: cannot mkdir x: No space left on device"}), true},
		{&exitError{command: "init", code: 128, stderr: "fatal: cannot mkdir x: Permission denied"}, false},
		{errors.New("No space left on device"), false},
		{nil, false},
	} {
		if full(c.err) != c.full {
			t.Errorf("%v: %v", c.err, !c.full)
		}
	}
	_, err := Init(t.Context(), filepath.Join("/dev/null", "x.git"), "main")
	if slipway.ErrorCode(err) != slipway.Internal || !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}

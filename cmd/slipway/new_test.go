package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/starter"
)

// A service is there as a whole or not at all, and so are the folders above it.
func TestWriteServiceIsWholeOrNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	broken := []starter.File{{Path: "a", Data: []byte("a")}, {Path: "a/b", Data: []byte("b")}}
	if err := writeService(root, "new/folder/cart", broken); err == nil {
		t.Error("a file below a file was written")
	}
	if left, err := os.ReadDir(root); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	good := []starter.File{{Path: "a", Data: []byte("a"), Executable: true}, {Path: "b/c", Data: []byte("c")}}
	if err := writeService(root, "new/folder/cart", good); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(root, "new", "folder", "cart", "a"))
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("the script is %v, %v", info, err)
	}
	if err := writeService(root, "new/folder/cart", good); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("written over: %v", err)
	}
	if err := writeService(root, "new/folder/mail", broken); err == nil {
		t.Error("a file below a file was written")
	}
	if left, err := os.ReadDir(filepath.Join(root, "new", "folder")); err != nil || len(left) != 1 {
		t.Errorf("beside the first service: %v, %v", left, err)
	}
}

func TestWriteServiceStaysInside(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	if err := writeService(root, "link/cart", []starter.File{{Path: "a"}}); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("written through a link: %v", err)
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside: %v, %v", left, err)
	}
}

func TestPlaceForService(t *testing.T) {
	t.Parallel()
	services := []slipway.Service{{Name: "shop", Dir: "."}, {Name: "cart", Dir: "src/cart"}, {Name: "mail", Dir: "src/mail"}, {Name: "x", Dir: "old/x"}}
	if got := besideOthers(services); got != "src" {
		t.Errorf("services are in %q", got)
	}
	if got := besideOthers(nil); got != "src" {
		t.Errorf("the first service goes to %q", got)
	}
	for target, want := range map[string]slipway.Code{
		"src/new": "", "new": "", "a/b/c/new": "",
		"src/cart/new": slipway.Invalid, "../new": slipway.Invalid, "/new": slipway.Invalid, "a/vendor/new": slipway.Invalid,
		".hidden/new": slipway.Invalid, "a/b/c/d/e/f/g/h/new": slipway.Invalid, "a\n/new": slipway.Invalid, "-a/new": slipway.Invalid,
		"src": slipway.Conflict, "old": slipway.Conflict,
	} {
		if got := slipway.ErrorCode(placeForService(services, "new", target)); got != want {
			t.Errorf("%q: %q, want %q", target, got, want)
		}
	}
	if got := slipway.ErrorCode(placeForService(services, "cart", "b/cart")); got != slipway.Conflict {
		t.Errorf("a name that is taken: %q", got)
	}
}

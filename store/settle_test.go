package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSettle(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "reports", "7")
	if err := folder(dir); err != nil {
		t.Fatal(err)
	}
	put := func(text, name string) error {
		f, err := os.CreateTemp(dir, ".part-")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		return settle(f, filepath.Join(dir, name))
	}
	for _, text := range []string{"one", "two"} {
		if err := put(text, "a"); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "a")); err != nil || string(b) != text {
			t.Errorf("%q, %v", b, err)
		}
	}
	if err := put("three", "none/a"); err == nil {
		t.Error("a file got a name in a folder that is not there")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || strings.HasPrefix(entries[0].Name(), ".") {
		t.Errorf("left %v, %v", entries, err)
	}
}

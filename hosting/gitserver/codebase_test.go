package gitserver

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCloneWithSubmodules pushes two codebases of a project, of which one links the other as a submodule by
// a relative URL, and clones both at once with a stock git.
func TestCloneWithSubmodules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	lib := filepath.Join(t.TempDir(), "lib")
	w.must("", "clone", "--quiet", strings.Replace(w.url("ann"), "demo.git", "demo/lib.git", 1), lib)
	if err := os.WriteFile(filepath.Join(lib, "lib.txt"), []byte("of lib"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.must(lib, "add", "-A")
	w.must(lib, "commit", "--quiet", "-m", "lib")
	w.must(lib, "push", "--quiet", "origin", "HEAD:refs/heads/main")
	if p := w.received[0]; p.Project != "demo" || p.Codebase != "lib" || filepath.Base(p.Dir) != "lib.git" {
		t.Errorf("received %+v", p)
	}
	w.commit("a.txt", "of demo")
	w.must(w.copy, "submodule", "--quiet", "add", "../demo/lib.git", "libs/lib")
	w.must(w.copy, "commit", "--quiet", "-m", "link lib")
	w.must(w.copy, "push", "--quiet", "origin", "HEAD:refs/heads/main")
	if p := w.received[1]; p.Project != "demo" || p.Codebase != "" {
		t.Errorf("received %+v", p)
	}
	other := filepath.Join(t.TempDir(), "clone")
	w.must("", "clone", "--quiet", "--recursive", w.url("reader"), other)
	for file, want := range map[string]string{"a.txt": "of demo", "libs/lib/lib.txt": "of lib"} {
		if data, err := os.ReadFile(filepath.Join(other, file)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", file, data, err)
		}
	}
}

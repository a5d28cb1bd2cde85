package git

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whether there may be submodules is asked with the caller's context, and trouble with the answer is told.
func TestWhetherAnythingIsLookedFor(t *testing.T) {
	t.Parallel()
	lib, w := newWork(t), newWork(t)
	one := lib.commit("lib", map[string]string{"x": "x"})
	before := w.commit("before", map[string]string{"file": "f"})
	w.write(map[string]string{".gitmodules": "[submodule \"a\"]\n\tpath = real\n\turl = ../lib.git\n"})
	w.git("add", "-A")
	w.git("update-index", "--add", "--cacheinfo", "160000,"+one+",real")
	head := w.linked("after")
	find := finder(map[string]*work{"../lib.git": lib})
	filled := func(any func(context.Context, string) (bool, error)) bool {
		dir := filepath.Join(t.TempDir(), "out")
		if err := (Whole{Repo: w.repo, Key: "w", Find: find, Any: any}).Export(t.Context(), head, dir); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(filepath.Join(dir, "real", "x"))
		return err == nil
	}
	for _, some := range []bool{true, false} {
		if filled(func(_ context.Context, from string) (bool, error) { return some && from == "w", nil }) != some {
			t.Errorf("there are others: %t, and the submodule is not as it should be", some)
		}
	}
	if !filled(nil) {
		t.Error("nothing is looked for where nobody can say")
	}

	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("nobody asks any more")
	asked := Whole{Repo: w.repo, Key: "w", Find: find, Any: func(got context.Context, _ string) (bool, error) {
		cancel(gone) // what git itself did is done by then, or not begun
		return false, context.Cause(got)
	}}
	for name, do := range map[string]func() error{
		"tree":  func() error { _, err := asked.TreeHash(ctx, head, "."); return err },
		"paths": func() error { _, err := asked.ChangedFiles(ctx, before, head); return err },
	} {
		if err := do(); !errors.Is(err, gone) {
			t.Errorf("%s: %v", name, err)
		}
	}
	broken := errors.New("the store does not answer")
	asked.Any = func(context.Context, string) (bool, error) { return false, broken }
	for name, do := range map[string]func() error{
		"changes": func() error { _, err := asked.FileChanges(t.Context(), before, head); return err },
		"recent":  func() error { _, err := asked.Recent(t.Context(), head, 5); return err },
		"file":    func() error { _, err := asked.ReadFile(t.Context(), head, "file", 10); return err },
	} {
		if err := do(); !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

package source

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/slipway-cd/slipway"
)

// exporter writes one file, or does what the test says.
type exporter struct {
	count atomic.Int32
	act   func(ctx context.Context, commit, dir string) error
}

func (e *exporter) Export(ctx context.Context, commit, dir string) error {
	e.count.Add(1)
	if e.act != nil {
		return e.act(ctx, commit, dir)
	}
	return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), []byte(commit), 0o644))
}

func newWorkspaces(t *testing.T, e *exporter) (*Workspaces, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "work")
	return NewWorkspaces(root, func(project string) (Exporter, error) {
		if project != "demo" {
			return nil, slipway.Errorf(slipway.NotFound, "project %q does not exist", project)
		}
		return e, nil
	}), root
}

func commit(c string) string { return strings.Repeat(c, 40) }

func TestTreeIsMadeOnce(t *testing.T) {
	t.Parallel()
	e := &exporter{}
	all, root := newWorkspaces(t, e)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			dir, err := all.For("demo", 7).Tree(t.Context(), "", commit("a"))
			if err != nil {
				t.Error(err)
				return
			}
			if data, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(data) != commit("a") {
				t.Errorf("%q, %v", data, err)
			}
		})
	}
	wg.Wait()
	if n := e.count.Load(); n != 1 {
		t.Errorf("exported %d times", n)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "7")); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
	if len(all.locks) != 0 {
		t.Errorf("locks left: %v", all.locks)
	}
	if _, err := all.For("other", 8).Tree(t.Context(), "", commit("a")); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "main", "../../x", strings.Repeat("/", 40), commit("a")[:12]} {
		if _, err := all.For("demo", 7).Tree(t.Context(), "", bad); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTreeThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	e := &exporter{act: func(_ context.Context, _, dir string) error {
		return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), slipway.Errorf(slipway.Invalid, "a link points out"))
	}}
	all, root := newWorkspaces(t, e)
	w := all.For("demo", 7)
	if _, err := w.Tree(t.Context(), "", commit("a")); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("%v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(root, "7")); len(entries) != 0 {
		t.Errorf("left %v", entries)
	}
	e.act = nil
	if _, err := w.Tree(t.Context(), "", commit("a")); err != nil {
		t.Errorf("the next attempt: %v", err)
	}
}

func TestWhoWaitsForATreeCanGiveUp(t *testing.T) {
	t.Parallel()
	entered, goOn := make(chan struct{}), make(chan struct{})
	e := &exporter{act: func(_ context.Context, _, dir string) error {
		close(entered)
		<-goOn
		return os.MkdirAll(dir, 0o755)
	}}
	all, _ := newWorkspaces(t, e)
	done := make(chan error)
	go func() {
		_, err := all.For("demo", 7).Tree(t.Context(), "", commit("a"))
		done <- err
	}()
	<-entered
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrTimeout)
	if _, err := all.For("demo", 7).Tree(ctx, "", commit("a")); !errors.Is(err, slipway.ErrTimeout) {
		t.Errorf("%v", err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSweepAndRemove(t *testing.T) {
	t.Parallel()
	all, root := newWorkspaces(t, &exporter{})
	if err := all.Recover(); err != nil {
		t.Errorf("sweeping nothing: %v", err)
	}
	for run := range int64(3) {
		if _, err := all.For("demo", run).Tree(t.Context(), "", commit("a")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := all.For("demo", 1).Dir("chart-cart"); err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(root, "1", tempPrefix+"123")
	if err := errors.Join(os.MkdirAll(filepath.Join(half, "tree"), 0o755), os.MkdirAll(filepath.Join(root, "rubbish"), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(all.Recover(), all.Sweep(func(run int64) bool { return run == 1 })); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 1 || entries[0].Name() != "1" {
		t.Errorf("%v, %v", entries, err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "1")); err != nil || len(entries) != 1 || entries[0].Name() != "step" {
		t.Errorf("%v, %v", entries, err)
	}
	for range 2 {
		if err := all.Remove(1); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(root); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	all, _ := newWorkspaces(t, &exporter{})
	w := all.For("demo", 7)
	one, err := w.Dir("chart/delivery@qa")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.Dir("chart/delivery@qa"); err != nil || again != one {
		t.Errorf("%s and %s, %v", one, again, err)
	}
	if info, err := os.Stat(one); err != nil || !info.IsDir() {
		t.Errorf("%v, %v", info, err)
	}
	for _, bad := range []string{"", ".", "..", "../x", "/x", "a/../../x", strings.Repeat("x", 300)} {
		if _, err := w.Dir(bad); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestTreesOfCodebases(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 2)
	all := NewWorkspaces(filepath.Join(t.TempDir(), "work"), func(codebase string) (Exporter, error) {
		asked <- codebase
		return &exporter{}, nil
	})
	main, err := all.For("demo", 7).Tree(t.Context(), "", commit("a"))
	if err != nil {
		t.Fatal(err)
	}
	web, err := all.For("demo", 7).Tree(t.Context(), "web", commit("a"))
	if err != nil {
		t.Fatal(err)
	}
	if main == web {
		t.Errorf("two codebases have one folder: %s", web)
	}
	if one, two := <-asked, <-asked; one != "demo" || two != "demo/web" {
		t.Errorf("asked for %s and %s", one, two)
	}
	for _, bad := range []string{"..", "a/b", "-x", "A"} {
		if _, err := all.For("demo", 7).Tree(t.Context(), bad, commit("a")); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

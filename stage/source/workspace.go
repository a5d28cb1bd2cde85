package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Exporter writes the files of a commit into an empty folder; links out of the tree are refused.
type Exporter interface {
	Export(ctx context.Context, commit, dir string) error
}

// Workspaces keeps the folders of all runs: <root>/<run>/tree-<commit>, shared by the steps of the
// run (tree-<commit>-<codebase> for a further codebase), and <root>/<run>/step/<name>. It is safe for concurrent use within one process; a root belongs
// to one process.
type Workspaces struct {
	root string
	open func(codebase string) (Exporter, error)

	mu    sync.Mutex
	locks map[string]*lock // by tree folder, while someone makes it or waits for it
}

type lock struct {
	free  chan struct{} // holds one value while nobody has the lock
	users int
}

const (
	tempPrefix = ".tmp-"
	treePrefix = "tree-"
)

// NewWorkspaces keeps runs' folders under root, which is made when it is needed. open returns the
// repository of a codebase by its key.
func NewWorkspaces(root string, open func(codebase string) (Exporter, error)) *Workspaces {
	return &Workspaces{root: root, open: open, locks: map[string]*lock{}}
}

// For returns the workspace of a run. Its folders live until Remove.
func (w *Workspaces) For(project string, run int64) stage.Workspace {
	return workspace{all: w, project: project, dir: filepath.Join(w.root, strconv.FormatInt(run, 10))}
}

// Remove deletes the folders of a run that has ended. Doing it again is no error.
func (w *Workspaces) Remove(run int64) error {
	return removeAll(filepath.Join(w.root, strconv.FormatInt(run, 10)))
}

// Recover deletes what a crash left half-made, and all trees: after a power cut their files may be empty, and
// they are made again when a step asks. What steps made stays. Call it at start, before any step runs.
func (w *Workspaces) Recover() error {
	var errs []error
	for _, prefix := range []string{tempPrefix, treePrefix} {
		left, err := filepath.Glob(filepath.Join(w.root, "*", prefix+"*"))
		errs = append(errs, err)
		for _, d := range left {
			errs = append(errs, removeAll(d))
		}
	}
	return errors.Join(errs...)
}

// Sweep deletes the folders of runs that keep does not want.
func (w *Workspaces) Sweep(keep func(run int64) bool) error {
	entries, err := os.ReadDir(w.root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("sweep workspaces: %w", err)
	}
	var errs []error
	for _, e := range entries {
		dir := filepath.Join(w.root, e.Name())
		if run, err := strconv.ParseInt(e.Name(), 10, 64); err != nil || !keep(run) {
			errs = append(errs, removeAll(dir))
		}
	}
	return errors.Join(errs...)
}

// removeAll also removes folders that a step made unwritable.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	walkErr := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return nil
	})
	return errors.Join(walkErr, os.RemoveAll(dir))
}

type workspace struct {
	all     *Workspaces
	project string
	dir     string
}

// Tree implements stage.Workspace. A tree that is there is complete: it is made beside and renamed.
func (s workspace) Tree(ctx context.Context, codebase, commit string) (string, error) {
	if len(commit) < 40 || strings.ContainsFunc(commit, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		return "", slipway.Errorf(slipway.Invalid, "%.80q is not the full hash of a commit", commit)
	}
	if codebase != "" && !slipway.ValidName(codebase) {
		return "", slipway.Errorf(slipway.Invalid, "%.80q is not the name of a codebase", codebase)
	}
	dir, key := filepath.Join(s.dir, treePrefix+commit), slipway.CodebaseKey(s.project, codebase)
	if codebase != "" {
		dir += "-" + codebase
	}
	release, err := s.all.lock(ctx, dir)
	if err != nil {
		return "", err
	}
	defer release()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := s.make(ctx, key, commit, dir); err != nil {
		return "", fmt.Errorf("check out %s of %s: %w", slipway.ShortHash(commit), key, err)
	}
	return dir, nil
}

func (s workspace) make(ctx context.Context, key, commit, dir string) (err error) {
	repo, err := s.all.open(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(s.dir, tempPrefix+"*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, removeAll(temp))
		}
	}()
	tree := filepath.Join(temp, "tree")
	if err := repo.Export(ctx, commit, tree); err != nil {
		return err
	}
	if err := os.Rename(tree, dir); err != nil {
		return err
	}
	return removeAll(temp)
}

// Dir implements stage.Workspace.
func (s workspace) Dir(name string) (string, error) {
	if name == "." || !filepath.IsLocal(name) || len(name) > 200 {
		return "", slipway.Errorf(slipway.Invalid, "%q cannot name a folder of a run", name)
	}
	dir := filepath.Join(s.dir, "step", name)
	return dir, os.MkdirAll(dir, 0o755)
}

// lock waits until nobody else makes the folder. The lock is gone when its last user released it.
func (w *Workspaces) lock(ctx context.Context, dir string) (release func(), err error) {
	w.mu.Lock()
	l := w.locks[dir]
	if l == nil {
		l = &lock{free: make(chan struct{}, 1)}
		l.free <- struct{}{}
		w.locks[dir] = l
	}
	l.users++
	w.mu.Unlock()
	leave := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(w.locks, dir)
		}
	}
	select {
	case <-l.free:
		return func() { l.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// Package repos has the repositories of projects' codebases: where they lie on a server, how each is made, kept and
// discarded whole, and which codebases their submodules stand for. What git does in one is in driver/git; what is asked
// of one is in act.
package repos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/git"
)

// Folder holds the bare repositories of the projects' codebases, by their keys. In makes one.
type Folder struct {
	dir string
	now func() time.Time

	// Readers, if set, are what objects are read with.
	Readers *git.Readers
}

// In is the folder that repositories are in; it need not be there yet.
func In(dir string) Folder { return Folder{dir: dir, now: time.Now} }

// Repo is a repository as package act sees it. Of makes one.
type Repo struct {
	git.Whole
	now func() time.Time
}

// Of is a repository with its submodules; where w finds none they are empty folders.
func Of(w git.Whole) Repo { return Repo{Whole: w, now: time.Now} }

// Path is where the repository of a codebase is.
func (r Folder) Path(codebase string) string {
	return filepath.Join(r.dir, filepath.FromSlash(codebase)+".git")
}

// Open is the repository of a codebase, whose submodules are empty folders.
func (r Folder) Open(codebase string) Repo { return Of(git.Whole{Repo: r.git(codebase)}) }

func (r Folder) git(codebase string) git.Repo {
	return git.Repo{Dir: r.Path(codebase), Readers: r.Readers}
}

// Has reports whether the repository of a codebase is in its place.
func (r Folder) Has(codebase string) bool {
	_, err := os.Stat(r.Path(codebase))
	return err == nil
}

// aside is where the repository of a codebase is made, until the codebase is recorded.
func (r Folder) aside(codebase string) string {
	return In(filepath.Join(r.dir, ".new")).Path(codebase)
}

// Create makes the repository of a codebase aside, and keep puts it into its place. What it mirrors is
// asked for its default branch and fetched later, by package mirror.
func (r Folder) Create(ctx context.Context, p slipway.Codebase) (slipway.Codebase, func() error, error) {
	dir := r.aside(p.Key())
	if _, err := os.Lstat(r.Path(p.Key())); err == nil {
		return p, nil, slipway.Errorf(slipway.Conflict, "%s is there already and belongs to no project: move it away", r.Path(p.Key()))
	}
	if err := os.RemoveAll(dir); err != nil {
		return p, nil, fmt.Errorf("clear %s: %w", dir, err)
	}
	made, err := git.Init(ctx, dir, cmp.Or(p.DefaultBranch, "main"))
	if err != nil {
		return p, nil, err
	}
	if p.GitURL != "" && p.DefaultBranch == "" {
		if p.DefaultBranch, err = made.RemoteDefault(ctx, git.Remote{URL: p.GitURL}); err != nil {
			return p, nil, err
		}
		if err := made.SetDefaultBranch(ctx, p.DefaultBranch); err != nil {
			return p, nil, err
		}
	}
	return p, func() error { return r.keep(p) }, nil
}

// keep puts the repository of a codebase into its place, where it outlasts a power cut: git syncs none of what
// makes a folder a repository.
func (r Folder) keep(c slipway.Codebase) error {
	place := r.Path(c.Key())
	if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), syncAll(r.aside(c.Key()))); err != nil {
		return err
	}
	if err := os.Rename(r.aside(c.Key()), place); err != nil {
		return err
	}
	return errors.Join(syncFile(filepath.Dir(place)), syncFile(r.dir))
}

// syncAll makes a folder's files and folders durable.
func syncAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncFile(path)
	})
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Discard puts the repository of a codebase that was removed out of the way.
func (r Folder) Discard(c slipway.Codebase) error {
	dir := filepath.Join(r.dir, ".removed")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(r.Path(c.Key()), filepath.Join(dir, fmt.Sprintf("%s-%s-%d.git", c.Project, c.Name, r.now().UnixNano())))
}

// Recover puts into their places the repositories of codebases that were recorded just before a crash,
// and clears away those of codebases that were not.
func (r Folder) Recover(codebases []slipway.Codebase) error {
	for _, c := range codebases {
		if _, err := os.Lstat(r.Path(c.Key())); err == nil {
			continue
		}
		if err := r.keep(c); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recover the repository of %s: %w", c.Key(), err)
		}
	}
	return os.RemoveAll(filepath.Join(r.dir, ".new"))
}

// Unlock removes the locks and what is half-made that the git of a server left which lost its power, in
// repositories made and being made, and says which.
func (r Folder) Unlock(before time.Time) (removed []string, err error) {
	for _, pattern := range []string{"*.git", "*/*.git", ".new/*/*.git"} {
		found, gerr := filepath.Glob(filepath.Join(r.dir, pattern))
		err = errors.Join(err, gerr)
		for _, path := range found {
			repo := git.Repo{Dir: path}
			names, lerr := repo.RemoveLocks(before)
			parts, perr := repo.RemoveParts(before)
			for _, name := range append(names, parts...) {
				removed = append(removed, filepath.Join(path, name))
			}
			if lerr = errors.Join(lerr, perr); lerr != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", path, lerr))
			}
		}
	}
	return removed, err
}

// Tree is the files of a commit.
func (r Repo) Tree(ctx context.Context, commit string) (act.Tree, error) {
	t, err := r.Whole.Tree(ctx, commit)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Subject is the first line of a commit's message, and when it was committed.
func (r Repo) Subject(ctx context.Context, commit string) (string, time.Time, error) {
	c, err := r.CommitInfo(ctx, commit)
	return c.Subject, c.Time, err
}

// Merge makes a merge commit of head into base.
func (r Repo) Merge(ctx context.Context, base, head, message, author string) (string, error) {
	m, err := r.MergeTree(ctx, base, head)
	if err != nil {
		return "", err
	}
	if len(m.Conflicts) > 0 {
		return "", slipway.Errorf(slipway.Conflict, "both sides changed %s: merge the base branch into yours, solve that, and push again", strings.Join(m.Conflicts, ", "))
	}
	commit, err := r.CommitTree(ctx, git.NewCommit{Tree: m.Tree, Parents: []string{base, head}, Message: message, Author: author, Email: author + "@slipway.invalid", Time: r.now()})
	if err != nil {
		return "", fmt.Errorf("write merge commit: %w", err)
	}
	return commit, nil
}

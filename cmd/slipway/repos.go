package main

import (
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

// repos are the bare repositories of the projects' codebases, below one folder, by their keys.
type repos struct {
	dir     string
	readers *git.Readers
}

// repo is a repository as package act sees it.
type repo struct{ git.Whole }

// alone is a repository whose submodules are empty folders.
func alone(r git.Repo) repo { return repo{git.Whole{Repo: r}} }

func (r repos) path(codebase string) string {
	return filepath.Join(r.dir, filepath.FromSlash(codebase)+".git")
}

func (r repos) open(codebase string) repo { return alone(r.git(codebase)) }

func (r repos) git(codebase string) git.Repo {
	return git.Repo{Dir: r.path(codebase), Readers: r.readers}
}

// aside is where the repository of a codebase is made, until the codebase is recorded.
func (r repos) aside(codebase string) string {
	return repos{dir: filepath.Join(r.dir, ".new")}.path(codebase)
}

// create makes the repository of a codebase aside, and keep puts it into its place. What it mirrors is
// asked for its default branch and fetched later, by pollMirror.
func (r repos) create(ctx context.Context, p slipway.Codebase) (slipway.Codebase, func() error, error) {
	dir := r.aside(p.Key())
	if _, err := os.Lstat(r.path(p.Key())); err == nil {
		return p, nil, slipway.Errorf(slipway.Conflict, "%s is there already and belongs to no project: move it away", r.path(p.Key()))
	}
	if err := os.RemoveAll(dir); err != nil {
		return p, nil, fmt.Errorf("clear %s: %w", dir, err)
	}
	made, err := git.Init(ctx, dir, first(p.DefaultBranch, "main"))
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

// keep puts the repository of a codebase into its place.
func (r repos) keep(c slipway.Codebase) error {
	if err := os.MkdirAll(filepath.Dir(r.path(c.Key())), 0o755); err != nil {
		return err
	}
	return os.Rename(r.aside(c.Key()), r.path(c.Key()))
}

// discard puts the repository of a codebase that was removed out of the way.
func (r repos) discard(c slipway.Codebase) error {
	dir := filepath.Join(r.dir, ".removed")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(r.path(c.Key()), filepath.Join(dir, fmt.Sprintf("%s-%s-%d.git", c.Project, c.Name, time.Now().UnixNano())))
}

// recover puts into their places the repositories of codebases that were recorded just before a crash,
// and clears away those of codebases that were not.
func (r repos) recover(codebases []slipway.Codebase) error {
	for _, c := range codebases {
		if _, err := os.Lstat(r.path(c.Key())); err == nil {
			continue
		}
		if err := r.keep(c); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recover the repository of %s: %w", c.Key(), err)
		}
	}
	return os.RemoveAll(filepath.Join(r.dir, ".new"))
}

// unlock removes the locks that the git of a server left which lost its power, in repositories made and
// being made, and says which.
func (r repos) unlock(before time.Time) (removed []string, err error) {
	for _, pattern := range []string{"*.git", "*/*.git", ".new/*/*.git"} {
		found, gerr := filepath.Glob(filepath.Join(r.dir, pattern))
		err = errors.Join(err, gerr)
		for _, path := range found {
			names, lerr := git.Repo{Dir: path}.RemoveLocks(before)
			for _, name := range names {
				removed = append(removed, filepath.Join(path, name))
			}
			if lerr != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", path, lerr))
			}
		}
	}
	return removed, err
}

// Tree is the files of a commit.
func (r repo) Tree(ctx context.Context, commit string) (act.Tree, error) {
	t, err := r.Whole.Tree(ctx, commit)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Subject is the first line of a commit's message, and when it was committed.
func (r repo) Subject(ctx context.Context, commit string) (string, time.Time, error) {
	c, err := r.CommitInfo(ctx, commit)
	return c.Subject, c.Time, err
}

// Merge makes a merge commit of head into base.
func (r repo) Merge(ctx context.Context, base, head, message, author string) (string, error) {
	m, err := r.MergeTree(ctx, base, head)
	if err != nil {
		return "", err
	}
	if len(m.Conflicts) > 0 {
		return "", slipway.Errorf(slipway.Conflict, "both sides changed %s: merge the base branch into yours, solve that, and push again", strings.Join(m.Conflicts, ", "))
	}
	commit, err := r.CommitTree(ctx, git.NewCommit{Tree: m.Tree, Parents: []string{base, head}, Message: message, Author: author, Email: author + "@slipway.invalid", Time: time.Now()})
	if err != nil {
		return "", fmt.Errorf("write merge commit: %w", err)
	}
	return commit, nil
}

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

// repos are the bare repositories of the projects, below one folder.
type repos struct {
	dir     string
	readers *git.Readers
}

// repo is a git.Repo as package act sees it.
type repo struct{ git.Repo }

func (r repos) path(project string) string { return filepath.Join(r.dir, project+".git") }

func (r repos) open(project string) repo {
	return repo{git.Repo{Dir: r.path(project), Readers: r.readers}}
}

// aside is where the repository of a project is made, until the project is recorded.
func (r repos) aside(project string) string { return filepath.Join(r.dir, ".new", project+".git") }

// create makes the repository of a project aside, and keep puts it into its place. What it mirrors is
// asked for its default branch and fetched later, by pollMirror.
func (r repos) create(ctx context.Context, p slipway.Project) (slipway.Project, func() error, error) {
	dir := r.aside(p.Name)
	if _, err := os.Lstat(r.path(p.Name)); err == nil {
		return p, nil, slipway.Errorf(slipway.Conflict, "%s is there already and belongs to no project: move it away", r.path(p.Name))
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
	return p, func() error { return os.Rename(dir, r.path(p.Name)) }, nil
}

// recover puts into their places the repositories of projects that were recorded just before a crash,
// and clears away those of projects that were not.
func (r repos) recover(projects []slipway.Project) error {
	for _, p := range projects {
		if _, err := os.Lstat(r.path(p.Name)); err == nil {
			continue
		}
		if err := os.Rename(r.aside(p.Name), r.path(p.Name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recover the repository of %s: %w", p.Name, err)
		}
	}
	return os.RemoveAll(filepath.Join(r.dir, ".new"))
}

// unlock removes the locks that the git of a server left which lost its power, in repositories made and
// being made, and says which.
func (r repos) unlock(before time.Time) (removed []string, err error) {
	for _, dir := range []string{r.dir, filepath.Join(r.dir, ".new")} {
		found, gerr := filepath.Glob(filepath.Join(dir, "*.git"))
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
	t, err := r.Repo.Tree(ctx, commit)
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

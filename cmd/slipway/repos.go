package main

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
)

// repos are the bare repositories of the projects, below one folder.
type repos struct{ dir string }

// repo is a git.Repo as package act sees it.
type repo struct{ git.Repo }

func (r repos) path(project string) string { return filepath.Join(r.dir, project+".git") }

func (r repos) open(project string) repo { return repo{git.Repo{Dir: r.path(project)}} }

// create makes the repository of a project, or clones what it mirrors.
func (r repos) create(ctx context.Context, p slipway.Project) error {
	if p.GitURL == "" {
		_, err := git.Init(ctx, r.path(p.Name), p.DefaultBranch)
		return err
	}
	_, _, err := git.CloneMirror(ctx, r.path(p.Name), git.Remote{URL: p.GitURL})
	return err
}

// Tree is the files of a commit.
func (r repo) Tree(ctx context.Context, commit string) (fs.FS, error) {
	return r.Repo.Tree(ctx, commit)
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

package main

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/worktree"
)

// localProjectName is what the project of a folder is called where no server is asked: by flag or environment, else as a remote
// on a Slipway server has it, else as origin's repository, else as the folder. Remotes count at the top of a working tree.
// The folder is that of the main codebase where one is at hand.
func (c *cli) localProjectName(ctx context.Context, dir string) (string, error) {
	if said := first(c.flags.project, os.Getenv("SLIPWAY_PROJECT")); said != "" {
		return said, slipway.CheckName("project", said)
	}
	if whole, err := filepath.Abs(dir); err == nil { // ".." is the name of no folder
		dir = whole
	}
	name := ""
	if _, here := worktree.Top(ctx, dir); here {
		name = first(remoteOf(ctx, dir, ""), originName(ctx, dir))
	}
	name = first(name, config.ShortName(filepath.Base(dir)), "project")
	return name, slipway.CheckName("project", name)
}

// originName is the name of the repository that origin is, "" for none.
func originName(ctx context.Context, dir string) string {
	where, _ := worktree.Git(ctx, dir, "config", "--get", "remote.origin.url") // no answer: none
	if u, err := url.Parse(where); err == nil && u.Scheme != "" {
		where = u.Path
	}
	where = strings.TrimSuffix(strings.TrimRight(where, "/"), "/.git")
	for _, ending := range []string{".git", ".bundle"} {
		where = strings.TrimSuffix(where, ending)
	}
	if i := strings.LastIndexAny(where, "/:"); i >= 0 { // ada@example.com:shop is a place, too
		where = where[i+1:]
	}
	return config.ShortName(where)
}

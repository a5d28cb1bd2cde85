package git

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/reuse"
)

// Files lists the files, links and submodules of a folder of a commit, in git's order. A folder that is not
// there is NotFound.
func (r Repo) Files(ctx context.Context, commit, dir string) ([]reuse.File, error) {
	hash, err := r.TreeHash(ctx, commit, dir)
	if err != nil {
		return nil, err
	}
	out, err := r.output(ctx, "ls-tree", "-r", "-z", "--end-of-options", hash)
	if err != nil {
		return nil, err
	}
	list, err := parseEntries(splitNUL(out))
	if err != nil {
		return nil, fmt.Errorf("list files of %s in %s: %w", dir, slipway.ShortHash(commit), err)
	}
	files := make([]reuse.File, len(list))
	for i, e := range list {
		files[i] = reuse.File{Path: e.path, Mode: e.mode, Hash: e.hash}
	}
	return files, nil
}

// TreeHash is the hash of a folder of a commit: equal hashes are equal folders, whatever the commits. A
// folder that is not there is NotFound.
func (r Repo) TreeHash(ctx context.Context, commit, dir string) (string, error) {
	if err := checkHash(commit); err != nil {
		return "", err
	}
	at := commit + "^{tree}"
	if dir = path.Clean("/" + dir)[1:]; dir != "" {
		at = commit + ":" + dir
	}
	out, err := r.output(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", at)
	if _, ok := exitStatus(err); ok {
		return "", slipway.Errorf(slipway.NotFound, "commit %s has no folder %q", slipway.ShortHash(commit), dir)
	}
	return strings.TrimSpace(string(out)), err
}

package reuse

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/ignore"
)

// File is a file, a link or a submodule of a tree.
type File struct {
	Path string // relative to the folder that was listed
	Mode string // git's: 100644, 100755, 120000, 160000
	Hash string // of the content
}

// seen is a hash of what a build sees of a folder: the hash that git has of the folder, unless an ignore file
// leaves something of it out.
func seen(ctx context.Context, repo Repo, s slipway.Source, dockerfile string) (string, error) {
	m, err := rules(ctx, repo, s, dockerfile)
	if err != nil {
		return "", err
	}
	if m == nil {
		return repo.TreeHash(ctx, s.Commit, s.Dir)
	}
	files, err := repo.Files(ctx, s.Commit, s.Dir)
	if err != nil {
		return "", err
	}
	return hashSeen(files, m, dockerfile), nil
}

// rules are those of a build context's ignore file, nil where there are none: a file that is not one that a
// build could use leaves nothing out.
func rules(ctx context.Context, repo Repo, s slipway.Source, dockerfile string) (*ignore.Matcher, error) {
	for _, name := range ignore.Files(dockerfile) {
		data, err := repo.ReadFile(ctx, s.Commit, path.Join(s.Dir, name), ignore.MaxSize)
		switch slipway.ErrorCode(err) {
		case slipway.NotFound:
			continue
		case slipway.Invalid: // a link, a folder, or too large
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		patterns, err := ignore.Parse(data)
		if err != nil || len(patterns) == 0 {
			return nil, nil //nolint:nilerr // the build says what is wrong with it
		}
		return ignore.New(patterns)
	}
	return nil, nil
}

// hashSeen hashes the files that a build sees, the folders, of which it may see one and nothing in it, and the
// Dockerfile, which is read whether or not it is seen.
func hashSeen(files []File, m *ignore.Matcher, dockerfile string) string {
	h := sha256.New()
	folders := map[string]bool{}
	for _, f := range files {
		dir := path.Dir(f.Path)
		switch {
		case !m.Excluded(f.Path):
			fmt.Fprintf(h, "%s %s %s\x00", f.Mode, f.Hash, f.Path)
		case f.Path == dockerfile:
			fmt.Fprintf(h, "dockerfile %s\x00", f.Hash)
			fallthrough
		default:
			dir = m.Folder(f.Path)
		}
		for ; dir != "" && dir != "." && !folders[dir]; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		fmt.Fprintf(h, "folder %s\x00", dir)
	}
	return "seen:" + hex.EncodeToString(h.Sum(nil))
}

package git

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Commit is what a commit says of itself. Texts are valid UTF-8.
type Commit struct {
	Hash       string
	Parents    []string
	Author     string // name
	Email      string
	AuthorTime time.Time
	Time       time.Time // when it was committed
	Subject    string    // first paragraph of the message, in one line
	Body       string    // the rest
}

const commitFields = 8

const commitFormat = "--format=tformat:%H%x00%P%x00%an%x00%ae%x00%at%x00%ct%x00%s%x00%b"

// CommitInfo returns one commit.
func (r Repo) CommitInfo(ctx context.Context, commit string) (Commit, error) {
	list, err := r.Log(ctx, "", commit, 1)
	if err != nil {
		return Commit{}, err
	}
	if len(list) != 1 {
		return Commit{}, fmt.Errorf("read commit %s: git log printed %d commits", commit, len(list))
	}
	return list[0], nil
}

// Log returns the commits that are reachable from head and not from base, newest first, at most
// limit. Base "" means all of history.
func (r Repo) Log(ctx context.Context, base, head string, limit int) ([]Commit, error) {
	args := []string{"log", "-z", "--no-notes", commitFormat, "--max-count=" + strconv.Itoa(limit), "--end-of-options", head}
	if err := checkHash(head); err != nil {
		return nil, err
	}
	known := []string{head}
	if base != "" {
		if err := checkHash(base); err != nil {
			return nil, err
		}
		args, known = append(args, "^"+base), append(known, base)
	}
	out, err := r.output(ctx, append(args, "--")...)
	if err != nil {
		return nil, r.missing(ctx, err, known...)
	}
	return parseCommits(string(out))
}

func parseCommits(out string) ([]Commit, error) {
	if out == "" {
		return nil, nil
	}
	const n = commitFields
	fields := strings.Split(strings.TrimSuffix(out, "\x00"), "\x00")
	if len(fields)%n != 0 {
		return nil, fmt.Errorf("read git log: %d fields do not make whole commits", len(fields))
	}
	var list []Commit
	for ; len(fields) >= n; fields = fields[n:] {
		authored, err1 := strconv.ParseInt(fields[4], 10, 64)
		committed, err2 := strconv.ParseInt(fields[5], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("read git log: %w", err)
		}
		list = append(list, Commit{
			Hash: fields[0], Parents: strings.Fields(fields[1]),
			Author: text(fields[2]), Email: text(fields[3]),
			AuthorTime: time.Unix(authored, 0).UTC(), Time: time.Unix(committed, 0).UTC(),
			Subject: text(fields[6]), Body: text(strings.TrimSpace(fields[7])),
		})
	}
	return list, nil
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// ChangedFiles returns the paths that differ between the trees of two commits, deleted ones and both
// names of a renamed one included, in git's order. Base "" or slipway.ZeroHash is the empty tree.
// Paths may hold any byte but NUL.
func (r Repo) ChangedFiles(ctx context.Context, base, head string) ([]string, error) {
	known := []string{head}
	if base == "" || base == slipway.ZeroHash {
		base = emptyTree
	} else {
		known = append(known, base)
	}
	if err := checkHashes(base, head); err != nil {
		return nil, err
	}
	out, err := r.output(ctx, "diff-tree", "-r", "--no-renames", "--name-only", "-z", "--end-of-options", base, head, "--")
	if err != nil {
		return nil, r.missing(ctx, err, known...)
	}
	return splitNUL(out), nil
}

func splitNUL(out []byte) []string {
	s := strings.TrimSuffix(string(out), "\x00")
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x00")
}

// MergeBase returns the best common ancestor of two commits, "" if they have none.
func (r Repo) MergeBase(ctx context.Context, a, b string) (string, error) {
	if err := checkHashes(a, b); err != nil {
		return "", err
	}
	out, err := r.output(ctx, "merge-base", "--end-of-options", a, b)
	if code, ok := exitStatus(err); ok && code == 1 {
		return "", nil
	}
	return strings.TrimSpace(string(out)), r.missing(ctx, err, a, b)
}

// IsAncestor reports whether every commit of ancestor is in commit: whether moving a ref from one to
// the other is a fast-forward.
func (r Repo) IsAncestor(ctx context.Context, ancestor, commit string) (bool, error) {
	if err := checkHashes(ancestor, commit); err != nil {
		return false, err
	}
	_, err := r.output(ctx, "merge-base", "--is-ancestor", "--end-of-options", ancestor, commit)
	if code, ok := exitStatus(err); ok && code == 1 {
		return false, nil
	}
	return err == nil, r.missing(ctx, err, ancestor, commit)
}

// Newest returns the newest commit, reachable from commit, that touched one of the included files or
// folders and not only excluded ones, and when it was committed. Paths are relative to the root of
// the tree, "." is all of it. It returns "" if nothing touched them.
func (r Repo) Newest(ctx context.Context, commit string, include, exclude []string) (string, time.Time, error) {
	if err := checkHash(commit); err != nil {
		return "", time.Time{}, err
	}
	args := []string{"log", "-1", "--format=%H %ct", "--end-of-options", commit, "--"}
	for _, p := range include {
		args = append(args, pathspec("top,literal", p))
	}
	for _, p := range exclude {
		args = append(args, pathspec("top,exclude,literal", p))
	}
	out, err := r.output(ctx, args...)
	if err != nil {
		return "", time.Time{}, r.missing(ctx, err, commit)
	}
	if len(out) == 0 {
		return "", time.Time{}, nil
	}
	hash, stamp, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read git log: %w", err)
	}
	return hash, time.Unix(seconds, 0).UTC(), nil
}

func pathspec(magic, p string) string {
	p = path.Clean("/" + p)[1:]
	if p == "" {
		return ":(top)"
	}
	return ":(" + magic + ")" + p
}

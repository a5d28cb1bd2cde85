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
	"github.com/slipway-cd/slipway/stage/source"
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
	known, from := []string{head}, ""
	if base == "" || base == slipway.ZeroHash {
		base = emptyTree
	} else {
		known, from = append(known, base), base
	}
	if err := checkHashes(base, head); err != nil {
		return nil, err
	}
	if list, err := r.compareThrough(ctx, from, head); err == nil {
		return paths(list), nil
	}
	out, err := r.output(ctx, "diff-tree", "-r", "--no-renames", "--name-only", "-z", "--end-of-options", base, head, "--")
	if err != nil {
		return nil, r.missing(ctx, err, known...)
	}
	return splitNUL(out), nil
}

// FileChanges returns the paths that differ between the trees of two commits, and how; both names of a
// renamed file.
func (r Repo) FileChanges(ctx context.Context, base, head string) ([]source.FileChange, error) {
	if err := checkHashes(base, head); err != nil {
		return nil, err
	}
	if list, err := r.compareThrough(ctx, base, head); err == nil {
		return fileChanges(list), nil
	}
	out, err := r.output(ctx, "diff-tree", "-r", "--no-renames", "--raw", "-z", "--end-of-options", base, head, "--")
	if err != nil {
		return nil, r.missing(ctx, err, base, head)
	}
	fields := splitNUL(out)
	if len(fields)%2 != 0 {
		return nil, fmt.Errorf("read git diff-tree: %d fields are no pairs", len(fields))
	}
	list := make([]source.FileChange, 0, len(fields)/2)
	for ; len(fields) > 0; fields = fields[2:] {
		meta := strings.Fields(fields[0])
		if len(meta) != 5 {
			return nil, fmt.Errorf("read git diff-tree: unexpected field %q", fields[0])
		}
		old, now := strings.TrimPrefix(meta[0], ":"), meta[1]
		plain := func(mode string) bool { return strings.HasPrefix(mode, "100") || mode == "000000" }
		list = append(list, source.FileChange{Path: fields[1], Added: meta[4] == "A", Deleted: meta[4] == "D", Plain: plain(old) && plain(now)})
	}
	return list, nil
}

func paths(list []changed) []string {
	if len(list) == 0 {
		return nil
	}
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.path
	}
	return names
}

func fileChanges(list []changed) []source.FileChange {
	out := make([]source.FileChange, len(list))
	plain := func(mode uint32) bool { return mode == 0 || mode&0o170000 == isFile }
	for i, c := range list {
		out[i] = source.FileChange{Path: c.path, Added: c.was == 0, Deleted: c.is == 0, Plain: plain(c.was) && plain(c.is)}
	}
	return out
}

// Recent returns the newest commits in the history of one, itself first, at most limit, with the files
// that each changed.
func (r Repo) Recent(ctx context.Context, commit string, limit int) ([]source.Touched, error) {
	if err := checkHash(commit); err != nil {
		return nil, err
	}
	if list, err := r.recentThrough(ctx, commit, limit); err == nil {
		return list, nil
	}
	out, err := r.output(ctx, "log", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-notes", "--root", "--format=tformat:%H%x00%ct%x00%P",
		"--max-count="+strconv.Itoa(limit), "--end-of-options", commit, "--")
	if err != nil {
		return nil, r.missing(ctx, err, commit)
	}
	return parseRecent(splitNUL(out))
}

// parseRecent reads three fields for each commit and then two for each file, of which the first begins
// with a colon.
func parseRecent(fields []string) (list []source.Touched, err error) {
	for len(fields) > 0 {
		if f := strings.TrimPrefix(fields[0], "\n"); strings.HasPrefix(f, ":") {
			if len(fields) < 2 || len(list) == 0 {
				return nil, fmt.Errorf("read git log: unexpected field %q", f)
			}
			list[len(list)-1].Files = append(list[len(list)-1].Files, fields[1])
			fields = fields[2:]
			continue
		}
		fields = append(fields, make([]string, max(0, 3-len(fields)))...) // the root has no parents, and may be last
		seconds, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil || checkHash(fields[0]) != nil {
			return nil, fmt.Errorf("read git log: unexpected fields %q", fields[:3])
		}
		list = append(list, source.Touched{Commit: fields[0], Time: time.Unix(seconds, 0).UTC(), Parents: len(strings.Fields(fields[2]))})
		fields = fields[3:]
	}
	return list, nil
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
	if base, err := r.mergeBaseThrough(ctx, a, b); err == nil {
		return base, nil
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
	out, err := r.output(ctx, append(args, pathspecs(include, exclude)...)...)
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

// Touching returns the newest commits, reachable from commit, that touched one of the included files or folders
// and not only excluded ones, at most limit, with those of the files; a merge has none. Paths are as Newest's.
func (r Repo) Touching(ctx context.Context, commit string, include, exclude []string, limit int) ([]source.Touched, error) {
	if err := checkHash(commit); err != nil {
		return nil, err
	}
	args := []string{"log", "-z", "--raw", "--no-renames", "--no-abbrev", "--no-notes", "--root", "--format=tformat:%H%x00%ct%x00%P",
		"--max-count=" + strconv.Itoa(limit), "--end-of-options", commit, "--"}
	out, err := r.output(ctx, append(args, pathspecs(include, exclude)...)...)
	if err != nil {
		return nil, r.missing(ctx, err, commit)
	}
	return parseRecent(splitNUL(out))
}

func pathspecs(include, exclude []string) (out []string) {
	for _, p := range include {
		out = append(out, pathspec("top,literal", p))
	}
	for _, p := range exclude {
		out = append(out, pathspec("top,exclude,literal", p))
	}
	return out
}

func pathspec(magic, p string) string {
	p = path.Clean("/" + p)[1:]
	if p == "" {
		return ":(top)"
	}
	return ":(" + magic + ")" + p
}

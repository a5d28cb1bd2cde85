package git

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/reuse"
	"github.com/slipway-cd/slipway/stage/source"
)

// Whole is a repository whose submodules hold the content of other repositories, where Find knows them;
// the others are empty folders. A commit of a submodule that its repository does not have, submodules that
// lead back to a repository they are in, and more than 5 in each other are slipway.Invalid. Nothing is
// fetched. With a nil Find it is the repository alone.
type Whole struct {
	Repo
	Key string // tells the repository from others
	// Find is the repository that the URL of a submodule stands for, as the one with the key from has it;
	// false when it is none that may be looked into.
	Find func(ctx context.Context, from, url string) (key string, repo Repo, ok bool, err error)
	// Any reports whether Find may know a repository at all; with false, submodules are not looked for. Nil: it may.
	Any func(ctx context.Context, from string) (bool, error)
}

// alone reports whether the repository is looked at without submodules.
func (w Whole) alone(ctx context.Context) (bool, error) {
	if w.Find == nil || w.Any == nil {
		return w.Find == nil, nil
	}
	some, err := w.Any(ctx, w.Key)
	if err != nil {
		return false, fmt.Errorf("look for repositories of submodules: %w", err)
	}
	return !some, nil
}

// mount is a submodule with its repository.
type mount struct {
	Submodule
	in Whole
}

// mounts are the submodules of a commit that are known, by path; unknown are the others.
func (w Whole) mounts(ctx context.Context, commit string) (known []mount, unknown []Submodule, err error) {
	if alone, err := w.alone(ctx); alone || err != nil {
		return nil, nil, err
	}
	list, err := w.Submodules(ctx, commit)
	if err != nil {
		return nil, nil, err
	}
	for _, s := range list {
		key, repo, ok, err := w.Find(ctx, w.Key, s.URL)
		if err != nil {
			return nil, nil, fmt.Errorf("find the repository of submodule %s: %w", s.Path, err)
		}
		if !ok {
			unknown = append(unknown, s)
			continue
		}
		known = append(known, mount{s, Whole{Repo: repo, Key: key, Find: w.Find}})
	}
	return known, unknown, nil
}

// all are the submodules of a commit that are known, with those in them, the outer ones first. way are the
// repositories that lead to this one.
func (w Whole) all(ctx context.Context, commit string, way ...string) (known []mount, unknown []Submodule, err error) {
	direct, unknown, err := w.mounts(ctx, commit)
	if err != nil {
		return nil, nil, err
	}
	way = append(slices.Clone(way), w.Key)
	for _, m := range direct {
		if at := slices.Index(way, m.in.Key); at >= 0 {
			return nil, nil, slipway.Errorf(slipway.Invalid, "submodules go in a circle: %s -> %s (at %s)", strings.Join(way[at:], " -> "), m.in.Key, m.Path)
		}
		if len(way) > maxNested {
			return nil, nil, slipway.Errorf(slipway.Invalid, "submodules are more than %d deep: %s", maxNested, strings.Join(append(way, m.in.Key), " -> "))
		}
		if !m.in.exists(ctx, m.Commit+"^{commit}") {
			if ctx.Err() != nil {
				return nil, nil, context.Cause(ctx)
			}
			return nil, nil, slipway.Errorf(slipway.Invalid, "submodule %s is at commit %s, which %s does not have: push it there first (git push --recurse-submodules=on-demand)", m.Path, slipway.ShortHash(m.Commit), m.in.Key)
		}
		inner, foreign, err := m.in.all(ctx, m.Commit, way...)
		if err != nil {
			return nil, nil, err
		}
		known = append(known, m)
		for _, i := range inner {
			i.Path = path.Join(m.Path, i.Path)
			known = append(known, i)
		}
		for _, f := range foreign {
			f.Path = path.Join(m.Path, f.Path)
			unknown = append(unknown, f)
		}
	}
	if len(known) > maxSubmodules {
		return nil, nil, slipway.Errorf(slipway.Invalid, "commit %s has more than %d submodules", slipway.ShortHash(commit), maxSubmodules)
	}
	return known, unknown, nil
}

// Foreign lists the submodules of a commit, and of its submodules, that stay empty folders.
func (w Whole) Foreign(ctx context.Context, commit string) ([]Submodule, error) {
	_, unknown, err := w.all(ctx, commit)
	return unknown, err
}

// Export is Repo's, with the files of submodules.
func (w Whole) Export(ctx context.Context, commit, dir string) error {
	known, _, err := w.all(ctx, commit)
	if err != nil {
		return err
	}
	if err := w.Repo.Export(ctx, commit, dir); err != nil {
		return err
	}
	for _, m := range known {
		if err := m.in.Repo.Export(ctx, m.Commit, filepath.Join(dir, filepath.FromSlash(m.Path))); err != nil {
			return fmt.Errorf("submodule %s: %w", m.Path, err)
		}
	}
	return nil
}

// inside is the submodule that a path is in, with the rest of the path; false for a path of its own.
func inside(list []mount, name string) (mount, string, bool) {
	for _, m := range slices.Backward(list) { // the innermost first
		if name == m.Path {
			return m, ".", true
		}
		if rest, ok := strings.CutPrefix(name, m.Path+"/"); ok {
			return m, rest, true
		}
	}
	return mount{}, name, false
}

// ReadFile is Repo's, also of files in submodules.
func (w Whole) ReadFile(ctx context.Context, commit, name string, limit int64) ([]byte, error) {
	known, _, err := w.all(ctx, commit)
	if err != nil {
		return nil, err
	}
	if m, rest, ok := inside(known, name); ok {
		return m.in.Repo.ReadFile(ctx, m.Commit, rest, limit)
	}
	return w.Repo.ReadFile(ctx, commit, name, limit)
}

// TreeHash is Repo's; it also tells whether submodules are empty folders.
func (w Whole) TreeHash(ctx context.Context, commit, dir string) (string, error) {
	known, _, err := w.all(ctx, commit)
	if err != nil {
		return "", err
	}
	dir = cmp.Or(path.Clean("/" + dir)[1:], ".")
	m, rest, ok := inside(known, dir)
	if ok {
		return m.in.TreeHash(ctx, m.Commit, rest)
	}
	hash, err := w.Repo.TreeHash(ctx, commit, dir)
	if err != nil || len(known) == 0 {
		return hash, err
	}
	sum := sha256.New()
	filled := false
	fmt.Fprintf(sum, "%s\n", hash)
	for _, m := range known {
		if dir == "." || strings.HasPrefix(m.Path, dir+"/") {
			fmt.Fprintf(sum, "%s %s %s\x00", m.Commit, m.in.Key, m.Path)
			filled = true
		}
	}
	if !filled {
		return hash, nil
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// Files is Repo's, with the files of submodules in place of these.
func (w Whole) Files(ctx context.Context, commit, dir string) ([]reuse.File, error) {
	known, _, err := w.all(ctx, commit)
	if err != nil {
		return nil, err
	}
	dir = cmp.Or(path.Clean("/" + dir)[1:], ".")
	if m, rest, ok := inside(known, dir); ok {
		return m.in.Files(ctx, m.Commit, rest)
	}
	files, err := w.Repo.Files(ctx, commit, dir)
	if err != nil {
		return nil, err
	}
	for _, m := range known {
		at := m.Path
		if dir != "." {
			var below bool
			if at, below = strings.CutPrefix(at, dir+"/"); !below {
				continue
			}
		}
		files = slices.DeleteFunc(files, func(f reuse.File) bool { return f.Path == at })
		more, err := m.in.Repo.Files(ctx, m.Commit, ".")
		if err != nil {
			return nil, fmt.Errorf("submodule %s: %w", m.Path, err)
		}
		for _, f := range more {
			f.Path = at + "/" + f.Path
			files = append(files, f)
		}
	}
	return files, nil
}

// ChangedFiles is Repo's, with what changed in submodules.
func (w Whole) ChangedFiles(ctx context.Context, base, head string) ([]string, error) {
	alone, err := w.alone(ctx)
	if err != nil {
		return nil, err
	}
	if alone || base == "" || base == slipway.ZeroHash {
		return w.Repo.ChangedFiles(ctx, base, head)
	}
	changes, err := w.FileChanges(ctx, base, head)
	if err != nil {
		return nil, err
	}
	paths := make([]string, len(changes))
	for i, c := range changes {
		paths[i] = c.Path
	}
	return paths, nil
}

// FileChanges is Repo's, with what differs between the two trees of each submodule in place of the
// submodule. One that is new or gone has all its files added or deleted.
func (w Whole) FileChanges(ctx context.Context, base, head string) ([]source.FileChange, error) {
	changes, err := w.Repo.FileChanges(ctx, base, head)
	if err != nil {
		return nil, err
	}
	if alone, err := w.alone(ctx); alone || err != nil || !slices.ContainsFunc(changes, func(c source.FileChange) bool { return !c.Plain || c.Path == modulesFile }) {
		return changes, err
	}
	was, err := w.known(ctx, base)
	if err != nil {
		return nil, err
	}
	now, err := w.known(ctx, head)
	if err != nil {
		return nil, err
	}
	paths := map[string]bool{}
	for p := range was {
		paths[p] = true
	}
	for p := range now {
		paths[p] = true
	}
	var out []source.FileChange
	for _, c := range changes {
		if !paths[c.Path] {
			out = append(out, c)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(paths)) {
		more, err := between(ctx, was[p], now[p])
		if err != nil {
			return nil, fmt.Errorf("compare submodule %s: %w", p, err)
		}
		for _, c := range more {
			c.Path = p + "/" + c.Path
			out = append(out, c)
		}
	}
	return out, nil
}

// known are the submodules of a commit by path, without those in them. What an old commit says that cannot
// be read counts as nothing.
func (w Whole) known(ctx context.Context, commit string) (map[string]*mount, error) {
	list, _, err := w.mounts(ctx, commit)
	if slipway.ErrorCode(err) == slipway.Invalid {
		return nil, nil
	}
	out := map[string]*mount{}
	for _, m := range list {
		if m.in.exists(ctx, m.Commit+"^{commit}") {
			out[m.Path] = &m
		}
	}
	return out, err
}

// between is what differs between two trees of a submodule; nil for none.
func between(ctx context.Context, was, now *mount) ([]source.FileChange, error) {
	switch {
	case was != nil && now != nil && was.in.Key == now.in.Key:
		if was.Commit == now.Commit {
			return nil, nil
		}
		return now.in.FileChanges(ctx, was.Commit, now.Commit)
	case was == nil:
		return now.in.unread().FileChanges(ctx, emptyTree, now.Commit)
	case now == nil:
		return was.in.unread().FileChanges(ctx, was.Commit, emptyTree)
	}
	gone, err := was.in.unread().FileChanges(ctx, was.Commit, emptyTree)
	if err != nil {
		return nil, err
	}
	come, err := now.in.unread().FileChanges(ctx, emptyTree, now.Commit)
	return append(gone, come...), err
}

// unread is the repository without readers, which compare commits and no trees.
func (w Whole) unread() Repo { return Repo{Dir: w.Dir, Env: w.Env} }

// Newest is Repo's: a file in a submodule was touched by the commit that moved the submodule.
func (w Whole) Newest(ctx context.Context, commit string, include, exclude []string) (string, time.Time, error) {
	known, _, err := w.mounts(ctx, commit)
	if err != nil {
		return "", time.Time{}, err
	}
	if len(known) > 0 {
		include = slices.Clone(include)
		for i, p := range include {
			if m, _, ok := inside(known, p); ok {
				include[i] = m.Path
			}
		}
		exclude = slices.DeleteFunc(slices.Clone(exclude), func(p string) bool {
			_, _, ok := inside(known, p)
			return ok
		})
	}
	return w.Repo.Newest(ctx, commit, include, exclude)
}

// Touching is Repo's; of a repository with submodules it is the newest commit alone, and not known what it
// touched.
func (w Whole) Touching(ctx context.Context, commit string, include, exclude []string, limit int) ([]source.Touched, error) {
	known, _, err := w.mounts(ctx, commit)
	if err != nil {
		return nil, err
	}
	if len(known) == 0 {
		return w.Repo.Touching(ctx, commit, include, exclude, limit)
	}
	newest, when, err := w.Newest(ctx, commit, include, exclude)
	if err != nil || newest == "" {
		return nil, err
	}
	return []source.Touched{{Commit: newest, Time: when}}, nil
}

// Recent is Repo's, up to the first commit that moved a submodule: of that it is not known here what it
// touched.
func (w Whole) Recent(ctx context.Context, commit string, limit int) ([]source.Touched, error) {
	recent, err := w.Repo.Recent(ctx, commit, limit)
	if err != nil {
		return nil, err
	}
	known, _, err := w.mounts(ctx, commit)
	if err != nil || len(known) == 0 {
		return recent, err
	}
	for i, c := range recent {
		if slices.ContainsFunc(c.Files, func(f string) bool { _, _, ok := inside(known, f); return ok }) {
			return recent[:i], nil
		}
	}
	return recent, nil
}

// WholeTree is a Tree with the files of submodules. It is safe for concurrent use.
type WholeTree struct {
	*Tree
	known []mount
	trees []*Tree // of known
}

// Tree lists a commit with its submodules. Close it.
func (w Whole) Tree(ctx context.Context, commit string) (*WholeTree, error) {
	known, _, err := w.all(ctx, commit)
	if err != nil {
		return nil, err
	}
	base, err := w.Repo.Tree(ctx, commit)
	if err != nil {
		return nil, err
	}
	t := &WholeTree{Tree: base, known: known}
	for _, m := range known {
		sub, err := m.in.Repo.Tree(ctx, m.Commit)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("submodule %s: %w", m.Path, err), t.Close())
		}
		t.trees = append(t.trees, sub)
	}
	return t, nil
}

// Mounts are the keys of the repositories that are submodules, by path.
func (t *WholeTree) Mounts() map[string]string {
	out := make(map[string]string, len(t.known))
	for _, m := range t.known {
		out[m.Path] = m.in.Key
	}
	return out
}

// Close closes the trees of the submodules too.
func (t *WholeTree) Close() error {
	err := t.Tree.Close()
	for _, sub := range t.trees {
		err = errors.Join(err, sub.Close())
	}
	return err
}

// at is the tree that a name is in, and the name there.
func (t *WholeTree) at(name string) (*Tree, string) {
	for i := range slices.Backward(t.known) {
		if _, rest, ok := inside(t.known[i:i+1], name); ok {
			return t.trees[i], rest
		}
	}
	return t.Tree, name
}

// Open opens a file or a folder.
func (t *WholeTree) Open(name string) (fs.File, error) {
	in, rest := t.at(name)
	return in.Open(rest)
}

// ReadFile returns a file of at most 16 MiB.
func (t *WholeTree) ReadFile(name string) ([]byte, error) {
	in, rest := t.at(name)
	return in.ReadFile(rest)
}

// ReadDir lists a folder by name.
func (t *WholeTree) ReadDir(name string) ([]fs.DirEntry, error) {
	in, rest := t.at(name)
	return in.ReadDir(rest)
}

// Stat describes a file, links followed.
func (t *WholeTree) Stat(name string) (fs.FileInfo, error) {
	in, rest := t.at(name)
	return in.Stat(rest)
}

// Lstat describes a file or a link itself.
func (t *WholeTree) Lstat(name string) (fs.FileInfo, error) {
	in, rest := t.at(name)
	return in.Lstat(rest)
}

// ReadLink returns what a link points to, as it is written.
func (t *WholeTree) ReadLink(name string) (string, error) {
	in, rest := t.at(name)
	return in.ReadLink(rest)
}

var _ interface {
	fs.ReadDirFS
	fs.ReadFileFS
	fs.StatFS
	io.Closer
} = (*WholeTree)(nil)

package git

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	maxTreeFile = 16 << 20 // bytes that Tree keeps of one file in memory
	maxReadFile = 64 << 20
)

// ReadFile returns a file of a commit, at most limit bytes of it: slipway.Invalid if it is larger or
// no regular file, slipway.NotFound if it is not there.
func (r Repo) ReadFile(ctx context.Context, commit, name string, limit int64) ([]byte, error) {
	if err := checkHash(commit); err != nil {
		return nil, err
	}
	if name == "." || !fs.ValidPath(name) {
		return nil, slipway.Errorf(slipway.Invalid, "%q is not a path in a repository", name)
	}
	out, err := r.run(ctx, call{args: []string{"ls-tree", "-z", "--full-tree", commit, "--", name}, env: []string{"GIT_LITERAL_PATHSPECS=1"}})
	if err != nil {
		return nil, r.missing(ctx, err, commit)
	}
	list, err := parseEntries(splitNUL(out))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	i := slices.IndexFunc(list, func(e entry) bool { return e.path == name })
	if i < 0 {
		return nil, slipway.Errorf(slipway.NotFound, "commit %s has no file %q", slipway.ShortHash(commit), name)
	}
	if m := list[i].mode; m != modeFile && m != modeExec {
		return nil, slipway.Errorf(slipway.Invalid, "%q of commit %s is not a regular file", name, slipway.ShortHash(commit))
	}
	data, err := r.run(ctx, call{args: []string{"cat-file", "blob", list[i].hash}, max: min(limit, maxReadFile)})
	if slipway.ErrorCode(err) == slipway.Invalid {
		return nil, slipway.Errorf(slipway.Invalid, "%q of commit %s is larger than %d bytes", name, slipway.ShortHash(commit), limit)
	}
	return data, err
}

// Tree is the files of one commit as a file system (fs.ReadDirFS, fs.ReadFileFS, fs.StatFS,
// fs.ReadLinkFS). It lists the commit once, or with Readers each folder when it is asked for, and reads
// files through one git process that ends with Close or the context it was made with. Open, Stat and
// ReadFile follow links inside the tree; ReadDir and Lstat show them as fs.ModeSymlink. Names that are not
// valid UTF-8 are not shown. It is safe for concurrent use.
type Tree struct {
	repo   Repo
	ctx    context.Context //nolint:containedctx // io/fs has no context of its own
	commit string
	shelf  shelf

	mu     sync.Mutex
	batch  *batch
	links  *links
	done   bool
	broken error // the first read that git, not the tree, is to blame for
}

type node struct {
	entry
	children []fs.DirEntry
	listed   bool // its children are known
}

// Tree opens a commit. Close it.
func (r Repo) Tree(ctx context.Context, commit string) (*Tree, error) {
	t := &Tree{repo: r, ctx: ctx, commit: commit}
	if t.shelf.open(ctx, r, commit) {
		return t, nil
	}
	if err := t.shelf.fill(t); err != nil {
		return nil, err
	}
	return t, nil
}

// Close ends the process behind the tree. Reading a file afterwards is fs.ErrClosed. Its error says that git
// failed, now or at an earlier read: what was made of the tree then must not be believed.
func (t *Tree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done = true
	return errors.Join(t.broken, t.stop())
}

func (t *Tree) stop() error {
	b := t.batch
	t.batch = nil
	if b == nil {
		return nil
	}
	return b.close()
}

// content reads a blob. A read that went wrong leaves no half-read process behind.
func (t *Tree) content(n *node) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil, fs.ErrClosed
	}
	if data, err := t.shelf.blob(t.ctx, n); err == nil || errors.Is(err, errTooLarge) {
		return data, tooLarge(err)
	}
	if t.batch == nil {
		b, err := t.repo.startBatch(t.ctx)
		if err != nil {
			t.broken = cmp.Or(t.broken, err)
			return nil, err
		}
		t.batch = b
	}
	data, err := t.batch.blob(n.hash, maxTreeFile)
	if err != nil && !errors.Is(err, errTooLarge) {
		t.broken = cmp.Or(t.broken, err)
		return nil, errors.Join(err, t.stop())
	}
	return data, tooLarge(err)
}

func tooLarge(err error) error {
	if err == nil {
		return nil
	}
	return slipway.Errorf(slipway.Invalid, "larger than %d bytes", maxTreeFile)
}

// node is what is under a name, nil for nothing; no link is followed.
func (t *Tree) node(name string) (*node, error) {
	n, err := t.shelf.node(t, name)
	return n, t.blame(err)
}

// list is what is in a folder.
func (t *Tree) list(n *node) ([]fs.DirEntry, error) {
	children, err := t.shelf.children(t, n)
	return children, t.blame(err)
}

// blame keeps an error of git for Close.
func (t *Tree) blame(err error) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken = cmp.Or(t.broken, err)
	return err
}

// find returns the node of a name without following a link in its last part.
func (t *Tree) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := t.node(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	if n != nil {
		return n, nil
	}
	dir, base := path.Split(name)
	if dir == "" {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	parent, err := t.follow(op, path.Clean(dir))
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.Unwrap(err)}
	}
	if n, err = t.node(path.Join(parent.path, base)); n == nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: cmp.Or(err, fs.ErrNotExist)}
	}
	return n, nil
}

// follow returns what a name stands for, links followed. Its error is always an *fs.PathError.
func (t *Tree) follow(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := t.node(name)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	if n != nil && n.mode != modeLink {
		return n, nil
	}
	l, err := t.allLinks()
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	real, inside := l.resolve(name)
	if !inside {
		return nil, &fs.PathError{Op: op, Path: name, Err: outside(name, l.targets[name])}
	}
	n, err = t.node(real)
	if n == nil || n.mode == modeLink {
		return nil, &fs.PathError{Op: op, Path: name, Err: cmp.Or(err, fs.ErrNotExist)}
	}
	return n, nil
}

// allLinks reads where the links of the tree point to, once.
func (t *Tree) allLinks() (*links, error) {
	t.mu.Lock()
	known := t.links
	t.mu.Unlock()
	if known != nil {
		return known, nil
	}
	found, err := t.shelf.links(t)
	if err != nil {
		return nil, t.blame(err)
	}
	l := &links{targets: map[string]string{}}
	for _, n := range found {
		data, err := t.content(n)
		if err != nil {
			return nil, err
		}
		l.targets[n.path] = string(data)
	}
	t.mu.Lock()
	t.links = l
	t.mu.Unlock()
	return l, nil
}

// Open opens a file or a folder.
func (t *Tree) Open(name string) (fs.File, error) {
	n, err := t.follow("open", name)
	if err != nil {
		return nil, err
	}
	if n.mode == modeDir || n.mode == modeSubmodule {
		children, err := t.list(n)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return &openDir{info: info{t: t, n: n, name: path.Base(name)}, left: children}, nil
	}
	data, err := t.content(n)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &openFile{Reader: bytes.NewReader(data), info: info{t: t, n: n, name: path.Base(name)}}, nil
}

// ReadFile returns a file of at most 16 MiB.
func (t *Tree) ReadFile(name string) ([]byte, error) {
	n, err := t.follow("read", name)
	if err != nil {
		return nil, err
	}
	if n.mode != modeFile && n.mode != modeExec {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("is a directory")}
	}
	data, err := t.content(n)
	if err != nil {
		return nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, nil
}

// ReadDir lists a folder by name.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.follow("readdir", name)
	if err != nil {
		return nil, err
	}
	if n.mode != modeDir && n.mode != modeSubmodule {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	children, err := t.list(n)
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	return slices.Clone(children), nil
}

// Stat describes a file, links followed.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.follow("stat", name)
	if err != nil {
		return nil, err
	}
	return info{t: t, n: n, name: path.Base(name)}, nil
}

// Lstat describes a file or a link itself.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	n, err := t.find("lstat", name)
	if err != nil {
		return nil, err
	}
	return info{t: t, n: n, name: path.Base(name)}, nil
}

// ReadLink returns what a link points to, as it is written.
func (t *Tree) ReadLink(name string) (string, error) {
	n, err := t.find("readlink", name)
	if err != nil {
		return "", err
	}
	if n.mode != modeLink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	data, err := t.content(n)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(data), nil
}

// size asks for the size of a blob, -1 if git does not say.
func (t *Tree) size(hash string) int64 {
	out, err := t.repo.output(t.ctx, "cat-file", "-s", hash)
	if err != nil {
		return -1
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return -1
	}
	return size
}

// dirEntry is one line of a folder's list.
type dirEntry struct {
	t *Tree
	n *node
}

func (d dirEntry) Name() string               { return path.Base(d.n.path) }
func (d dirEntry) IsDir() bool                { return d.Type().IsDir() }
func (d dirEntry) Type() fs.FileMode          { return info{n: d.n}.Mode().Type() }
func (d dirEntry) Info() (fs.FileInfo, error) { return info{t: d.t, n: d.n, name: d.Name()}, nil }
func (d dirEntry) String() string             { return fs.FormatDirEntry(d) }

// info is what is known of a file.
type info struct {
	t    *Tree
	n    *node
	name string
}

func (i info) Name() string       { return i.name }
func (i info) ModTime() time.Time { return ExportTime() }
func (i info) IsDir() bool        { return i.Mode().IsDir() }
func (i info) Sys() any           { return nil }

// Size asks git, once for each call.
func (i info) Size() int64 {
	if i.IsDir() {
		return 0
	}
	return i.t.size(i.n.hash)
}

// Mode is that of an exported file.
func (i info) Mode() fs.FileMode {
	switch i.n.mode {
	case modeDir, modeSubmodule:
		return fs.ModeDir | 0o755
	case modeLink:
		return fs.ModeSymlink | 0o777
	case modeExec:
		return 0o755
	}
	return 0o644
}

// openFile is a file being read.
type openFile struct {
	*bytes.Reader
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFile) Close() error               { return nil }

// openDir is a folder being listed.
type openDir struct {
	info info
	left []fs.DirEntry
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.info.name, Err: errors.New("is a directory")}
}

// ReadDir returns the next n entries, or all that are left.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	left := d.left
	if n > 0 {
		if len(left) == 0 {
			return nil, io.EOF
		}
		left = left[:min(n, len(left))]
	}
	d.left = d.left[len(left):]
	return slices.Clone(left), nil
}

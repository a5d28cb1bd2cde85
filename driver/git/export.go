package git

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-cd/slipway"
)

const maxExport = 8 << 30 // bytes in all files of a tree

// ExportTime is the modification time of all that Export writes: equal trees, equal folders.
func ExportTime() time.Time { return time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC) }

// Export writes the files of a commit into dir, which it makes if needed and which must be empty.
// Files are 0644 or 0755, submodules empty folders. What would reach outside of dir is refused with
// slipway.Invalid: links out of the tree, names such as "..". Errors do not say what was to be written
// where, which the caller knows. On an error dir holds a part, or nothing; the caller removes it.
func (r Repo) Export(ctx context.Context, commit, dir string) error {
	list, err := r.entries(ctx, commit)
	if err != nil {
		return err
	}
	x, err := newExport(list, dir)
	if err == nil {
		defer x.root.Close()
		err = x.write(ctx, r)
	}
	switch {
	case err == nil:
		return nil
	case full(err):
		return slipway.Errorf(slipway.Unavailable, "the disk of %s is full: %w", dir, err)
	}
	return err
}

const folderMode = 0o755

type export struct {
	root  *os.Root
	links []entry
	files []entry
	dirs  []entry
	left  int64 // bytes that may still be written
}

func newExport(list []entry, dir string) (*export, error) {
	if err := os.MkdirAll(dir, folderMode); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	x := &export{root: root, left: maxExport}
	for _, e := range list {
		if err := checkPath(e.path); err != nil {
			root.Close()
			return nil, err
		}
		switch e.mode {
		case modeDir, modeSubmodule:
			x.dirs = append(x.dirs, e)
		case modeLink:
			x.links = append(x.links, e)
		default:
			x.files = append(x.files, e)
		}
	}
	return x, nil
}

// write makes folders, then files, then links, so that no link can be in the way of a file.
func (x *export) write(ctx context.Context, r Repo) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	b, err := r.startBatch(ctx, "--buffer")
	if err != nil {
		return err
	}
	asked := make(chan error, 1)
	go func() { asked <- x.ask(b) }()
	err = x.read(b)
	if err != nil {
		cancel(err)
	}
	aerr := <-asked
	cerr := b.close()
	if err != nil {
		return err
	}
	if err := errors.Join(aerr, cerr); err != nil {
		return err
	}
	return x.stamp()
}

// ask names every link and file to git; read takes them in the same order.
func (x *export) ask(b *batch) error {
	defer b.in.Close()
	w := bufio.NewWriter(b.in)
	for _, list := range [][]entry{x.links, x.files} {
		for _, e := range list {
			if _, err := w.WriteString(e.hash + "\n"); err != nil {
				return err
			}
		}
	}
	return w.Flush()
}

func (x *export) read(b *batch) error {
	targets, err := x.readLinks(b)
	if err != nil {
		return err
	}
	for _, d := range append([]entry{{path: "."}}, x.dirs...) {
		if err := x.root.MkdirAll(d.path, folderMode); err != nil {
			return err
		}
		if err := x.root.Chmod(d.path, folderMode); err != nil { // whatever the umask is: it is in images
			return err
		}
	}
	for _, f := range x.files {
		if err := x.file(b, f); err != nil {
			return err
		}
	}
	for _, l := range x.links {
		if err := x.root.Symlink(targets[l.path], l.path); err != nil {
			return err
		}
	}
	return nil
}

// readLinks reads where each link points to and refuses those that point out.
func (x *export) readLinks(b *batch) (map[string]string, error) {
	l := links{targets: map[string]string{}}
	for _, e := range x.links {
		_, size, err := b.next()
		if err != nil {
			return nil, err
		}
		if size == 0 || size > maxLinkTarget {
			return nil, slipway.Errorf(slipway.Invalid, "the symbolic link %q has a target of %d bytes", e.path, size)
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(b.out, data); err != nil {
			return nil, b.failed(err)
		}
		if err := b.end(); err != nil {
			return nil, err
		}
		if strings.ContainsRune(string(data), 0) {
			return nil, slipway.Errorf(slipway.Invalid, "the symbolic link %q has a NUL in its target", e.path)
		}
		l.targets[e.path] = string(data)
	}
	for _, e := range x.links {
		if _, ok := l.resolve(e.path); !ok {
			return nil, outside(e.path, l.targets[e.path])
		}
	}
	return l.targets, nil
}

func (x *export) file(b *batch, e entry) (err error) {
	kind, size, err := b.next()
	if err != nil {
		return err
	}
	if kind != "blob" {
		return slipway.Errorf(slipway.Invalid, "%q is a %s and not a file", e.path, kind)
	}
	if x.left -= size; x.left < 0 {
		return slipway.Errorf(slipway.Invalid, "the tree has more than %d bytes", int64(maxExport))
	}
	perm := fs.FileMode(0o644)
	if e.mode == modeExec {
		perm = 0o755
	}
	f, err := x.root.OpenFile(e.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Chmod(perm); err != nil {
		return err
	}
	if n, err := io.CopyN(f, b.out, size); err != nil {
		if n < size && errors.Is(err, io.EOF) {
			return b.failed(err)
		}
		return err
	}
	return b.end()
}

// stamp sets every time, folders last and the innermost first.
func (x *export) stamp() error {
	for _, f := range x.files {
		if err := x.root.Chtimes(f.path, ExportTime(), ExportTime()); err != nil {
			return err
		}
	}
	for _, l := range x.links {
		if err := x.stampLink(l.path); err != nil {
			return err
		}
	}
	for i := len(x.dirs) - 1; i >= 0; i-- {
		if err := x.root.Chtimes(x.dirs[i].path, ExportTime(), ExportTime()); err != nil {
			return err
		}
	}
	return x.root.Chtimes(".", ExportTime(), ExportTime())
}

// stampLink sets the time of a link itself, which os.Root has no method for.
func (x *export) stampLink(name string) error {
	dir, err := x.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	t := unix.NsecToTimespec(ExportTime().UnixNano())
	return unix.UtimesNanoAt(int(dir.Fd()), path.Base(name), []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW)
}

package git

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestTreeIsAFileSystem(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	w.write(map[string]string{"run.sh": "#!/bin/sh\n"})
	if err := os.Chmod(filepath.Join(w.dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	head := w.commit("one", map[string]string{"slipway.yaml": "services: {}\n", "src/a/Dockerfile": "FROM scratch\n", "src-b": "x", "src/a.txt": "y"})
	tree, err := w.repo.Tree(ctx, head)
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(tree, "slipway.yaml", "src/a/Dockerfile", "run.sh", "src-b", "src/a.txt"); err != nil {
		t.Error(err)
	}
	if info, err := fs.Stat(tree, "run.sh"); err != nil || info.Mode() != 0o755 || info.Size() != 10 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := fs.ReadFile(tree, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	if _, err := fs.ReadFile(tree, "src-b"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestTreeLinks(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	head := w.commit("one", map[string]string{
		"real/file": "hello", "file->": "real/file", "dir->": "real", "out->": "../../etc/passwd", "abs->": "/etc/passwd", "loop->": "loop", "real/up->": "../file",
	})
	tree, err := w.repo.Tree(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for _, name := range []string{"file", "dir/file", "dir/up", "real/up"} {
		if data, err := fs.ReadFile(tree, name); err != nil || string(data) != "hello" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	for _, name := range []string{"out", "abs"} {
		_, err := fs.ReadFile(tree, name)
		if slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := fs.ReadFile(tree, "loop"); err == nil {
		t.Error("a loop was read")
	}
	entries, err := fs.ReadDir(tree, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if link := e.Name() != "real"; link != (e.Type() == fs.ModeSymlink) {
			t.Errorf("%s has type %v", e.Name(), e.Type())
		}
	}
	if target, err := tree.ReadLink("out"); err != nil || target != "../../etc/passwd" {
		t.Errorf("%q, %v", target, err)
	}
	if info, err := tree.Lstat("dir"); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("%v, %v", info, err)
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	head := w.commit("one", map[string]string{"a/*": "star", "a/b": "b", "l->": "a/b"})
	if data, err := w.repo.ReadFile(ctx, head, "a/*", 4); err != nil || string(data) != "star" {
		t.Errorf("%q, %v", data, err)
	}
	for name, code := range map[string]slipway.Code{"a": slipway.Invalid, "l": slipway.Invalid, "../x": slipway.Invalid, ".": slipway.Invalid,
		"/etc/passwd": slipway.Invalid, "none": slipway.NotFound, "--help": slipway.NotFound, ":a/b": slipway.NotFound} {
		_, err := w.repo.ReadFile(ctx, head, name, 100)
		wantCode(t, err, code)
	}
	_, err := w.repo.ReadFile(ctx, head, "a/*", 3)
	wantCode(t, err, slipway.Invalid, "larger than 3 bytes")
}

func TestExport(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	head := w.commit("one", map[string]string{
		"a.txt": "hello", "dir/b": strings.Repeat("x", 1<<20), "-dash": "1", "dir/new\nline": "2", "dir/link->": "../a.txt", "self->": ".", "dangling->": "dir/none",
	})
	w.git("update-index", "--add", "--cacheinfo", "160000,"+head+",module")
	w.git("update-index", "--chmod=+x", "a.txt")
	w.git("commit", "--quiet", "-m", "two")
	head = w.git("rev-parse", "HEAD")
	dir := filepath.Join(t.TempDir(), "x", "tree")
	if err := w.repo.Export(ctx, head, dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if !info.ModTime().Equal(ExportTime()) {
			t.Errorf("%s has the time %v", p, info.ModTime())
		}
		rel, err := filepath.Rel(dir, p)
		got = append(got, fmt.Sprintf("%v %q", info.Mode(), rel))
		return err
	})
	want := []string{
		`drwxr-xr-x "."`, `-rw-r--r-- "-dash"`, `-rwxr-xr-x "a.txt"`, `Lrwxrwxrwx "dangling"`, `drwxr-xr-x "dir"`, `-rw-r--r-- "dir/b"`,
		`Lrwxrwxrwx "dir/link"`, `-rw-r--r-- "dir/new\nline"`, `drwxr-xr-x "module"`, `Lrwxrwxrwx "self"`,
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\ngot  %q\nwant %q", err, got, want)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "dir", "link")); err != nil || string(data) != "hello" {
		t.Errorf("%q, %v", data, err)
	}
	if err := w.repo.Export(ctx, head, dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("exporting over files: %v", err)
	}
	wantCode(t, w.repo.Export(ctx, strings.Repeat("1", 40), filepath.Join(t.TempDir(), "y")), slipway.NotFound)
}

func TestExportRefusesLinksOut(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]map[string]string{
		"evil":      {"evil->": "../outside"},
		"absolute":  {"absolute->": "/etc/passwd"},
		"deep/evil": {"deep/evil->": "../../outside"},
		"by/way":    {"a/b/up->": "../..", "by/way->": "../a/b/up/../x"},
		"through":   {"d->": "e/..", "e/f": "1", "through->": "d/../x"},
	} {
		w := newWork(t)
		head := w.commit("one", files)
		parent := t.TempDir()
		err := w.repo.Export(t.Context(), head, filepath.Join(parent, "tree"))
		wantCode(t, err, slipway.Invalid, fmt.Sprintf("%q points to %q", name, files[name+"->"]))
		if left, _ := filepath.Glob(filepath.Join(parent, "tree", "*")); len(left) > 0 {
			t.Errorf("%s: files were written: %v", name, left)
		}
	}
}

// rawTree stores a tree that git itself would not make.
func (w *work) rawTree(entries ...string) string {
	w.t.Helper()
	var b bytes.Buffer
	for _, e := range entries {
		hash, err := hex.DecodeString(w.git("rev-parse", "HEAD:a"))
		if err != nil {
			w.t.Fatal(err)
		}
		b.WriteString(e + "\x00")
		b.Write(hash)
	}
	name := filepath.Join(w.t.TempDir(), "raw")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return w.git("commit-tree", "-m", "raw", w.git("hash-object", "-t", "tree", "-w", "--literally", name))
}

func TestExportRefusesHostileTrees(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	w.commit("one", map[string]string{"a": "x"})
	for _, entries := range [][]string{
		{"100644 .."}, {"100644 ."}, {"100644 .git"}, {"100644 .GIT"}, {"100644 ../x"}, {"100644 a/../../x"}, {"100644 /x"}, {"100644 a", "120000 a"}, {"100644 a", "100644 a"},
	} {
		head := w.rawTree(entries...)
		parent := t.TempDir()
		if err := w.repo.Export(t.Context(), head, filepath.Join(parent, "tree")); err == nil {
			t.Errorf("%q was exported", entries)
		}
		if left, _ := os.ReadDir(parent); len(left) > 1 {
			t.Errorf("%q: something outside was written: %v", entries, left)
		}
		tree, err := w.repo.Tree(t.Context(), head)
		if err != nil {
			continue
		}
		_ = fs.WalkDir(tree, ".", func(p string, _ fs.DirEntry, err error) error {
			if !fs.ValidPath(p) {
				t.Errorf("%q shows %q", entries, p)
			}
			return err
		})
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzLinks(f *testing.F) {
	f.Add("a/b", "../..", "c", "a/b/../x")
	f.Add("a", "b", "b", "a")
	f.Add("x", "/etc", "y", "x/..")
	f.Fuzz(func(t *testing.T, l1, t1, l2, t2 string) {
		for _, p := range []string{l1, l2} {
			if !fs.ValidPath(p) || p == "." || checkPath(p) != nil {
				return
			}
		}
		if strings.ContainsRune(t1+t2, 0) || t1 == "" || t2 == "" || len(t1)+len(t2)+len(l1)+len(l2) > 200 || strings.ContainsRune(l1+l2, 0) {
			return
		}
		base, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		base, err = filepath.EvalSymlinks(base)
		if err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(base, "root")
		l := links{targets: map[string]string{}}
		for link, target := range map[string]string{l1: t1, l2: t2} {
			p := filepath.Join(root, filepath.FromSlash(link))
			if os.MkdirAll(filepath.Dir(p), 0o755) != nil || os.Symlink(target, p) != nil {
				return
			}
			l.targets[link] = target
		}
		for link := range l.targets {
			where, inside := l.resolve(link)
			real, err := filepath.EvalSymlinks(filepath.Join(root, link))
			if err != nil {
				continue // dangling or a loop: nothing is reached
			}
			if real != root && !strings.HasPrefix(real, root+"/") && inside {
				t.Errorf("%v: %s leads to %s, and was found inside at %s", l.targets, link, real, where)
			}
			if inside && path.Join(root, where) != real {
				t.Errorf("%v: %s leads to %s and not to %s", l.targets, link, real, where)
			}
		}
	})
}

// A tree that is listed folder by folder is the one that is listed at once: names, links, submodules, files
// and what is not there, in whatever order it is asked for.
func TestTreesThroughReadersAgree(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		var b strings.Builder
		fmt.Fprintf(&b, "commit refs/heads/h%d\ncommitter A <a@b> 1 +0000\ndata 1\nx\n", n)
		for range rapid.IntRange(0, 12).Draw(rt, "changes") {
			drawChange(rt, &b)
		}
		target := rapid.SampledFrom([]string{"a", "a/ab", "../a", "/a", "l", "a.b/../a"}).Draw(rt, "target")
		fmt.Fprintf(&b, "M 120000 inline l\ndata %d\n%s\n\n", len(target), target)
		ctx := context.Background()
		if _, err := w.repo.run(ctx, call{args: []string{"fast-import", "--quiet", "--force"}, stdin: strings.NewReader(b.String())}); err != nil {
			rt.Fatalf("%v\n%s", err, b.String())
		}
		head, err := w.repo.Resolve(ctx, fmt.Sprintf("refs/heads/h%d", n))
		if err != nil {
			rt.Fatalf("%v", err)
		}
		with := w.repo
		with.Readers = NewReaders(ctx)
		defer with.Readers.Close()
		lazy, err := with.Tree(ctx, head)
		if err != nil {
			rt.Fatalf("%v", err)
		}
		whole, err := w.repo.Tree(ctx, head)
		if err != nil || whole.shelf.read != nil || lazy.shelf.read == nil {
			rt.Fatalf("%v, or the trees are of one kind", err)
		}
		for range 12 {
			name := rapid.OneOf(names(), rapid.Just("."), rapid.Just("l"), rapid.Just("l/ab"), rapid.Just("none"), rapid.Just("a/none/b"), rapid.Just("../a")).Draw(rt, "name")
			if got, want := told(lazy, name), told(whole, name); got != want {
				rt.Fatalf("%q is\n%s\nlisted at once\n%s", name, got, want)
			}
		}
		if got, want := walked(lazy), walked(whole); got != want {
			rt.Fatalf("the tree is\n%s\nlisted at once\n%s", got, want)
		}
		if err := errors.Join(lazy.Close(), whole.Close()); err != nil {
			rt.Fatalf("%v", err)
		}
	})
}

// told is all that a tree says of a name.
func told(t *Tree, name string) string {
	data, err := t.ReadFile(name)
	stat, err2 := t.Stat(name)
	lstat, err3 := t.Lstat(name)
	to, err4 := t.ReadLink(name)
	list, err5 := t.ReadDir(name)
	said := fmt.Sprintf("%q %v\n%v\n%v\n%q %v\n%v %v\n", data, err, err2, err3, to, err4, list, err5)
	for _, i := range []fs.FileInfo{stat, lstat} {
		if i != nil {
			said += fmt.Sprintln(i.Name(), i.Mode(), i.Size())
		}
	}
	return said
}

func walked(t *Tree) string {
	var b strings.Builder
	err := fs.WalkDir(t, ".", func(name string, e fs.DirEntry, err error) error {
		fmt.Fprintln(&b, name, e, err)
		if e.Type().IsRegular() {
			data, err := t.ReadFile(name)
			fmt.Fprintf(&b, "%q %v\n", data, err)
		}
		return nil
	})
	return fmt.Sprint(b.String(), err)
}

// Files that are read ahead are no others, however large they are; and whatever happens to the reader
// meanwhile, the tree goes on.
func TestTreesThroughReadersReadAhead(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	files := map[string]string{}
	for i := range 200 {
		size := 10 + i
		if i%50 == 7 {
			size = aheadSize + i
		}
		files[fmt.Sprintf("s%d/Dockerfile", i)] = strings.Repeat(string(rune('a'+i%26)), size)
		files[fmt.Sprintf("s%d/chart/Chart.yaml", i)] = fmt.Sprint("name: ", i)
	}
	head := w.commit("one", files)
	with := w.repo
	with.Readers = w.readers()
	for _, after := range []int{-1, 0, 1, 90} { // reads, after which the reader is killed
		tree, err := with.Tree(t.Context(), head)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for name, want := range files {
			if n++; n == after {
				rd, err := with.Readers.reader(with)
				if err != nil {
					t.Fatal(err)
				}
				rd.stop()
			}
			if _, err := fs.Stat(tree, path.Dir(name)+"/none"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if data, err := tree.ReadFile(name); err != nil || string(data) != want {
				t.Fatalf("%s: %d bytes, %v", name, len(data), err)
			}
		}
		if tree.shelf.blobbed > maxAhead+aheadFiles*aheadSize {
			t.Errorf("%d bytes are kept", tree.shelf.blobbed)
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		if _, err := tree.ReadFile("s1/Dockerfile"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

// The tests of this package's trees, through readers.
func TestTreeIsAFileSystemThroughReaders(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	head := w.commit("one", map[string]string{"slipway.yaml": "services: {}\n", "src/a/Dockerfile": "FROM scratch\n", "src-b": "x", "src/a.txt": "y"})
	w.repo.Readers = w.readers()
	tree, err := w.repo.Tree(t.Context(), head)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if err := fstest.TestFS(tree, "slipway.yaml", "src/a/Dockerfile", "src-b", "src/a.txt"); err != nil {
		t.Error(err)
	}
	_, err = w.repo.Tree(t.Context(), strings.Repeat("1", 40))
	wantCode(t, err, slipway.NotFound)
}

package git

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

var _ source.Exporter = Whole{}

// link puts a submodule into the index: a path, its URL and its commit.
func (w *work) link(path, url, commit string) {
	w.t.Helper()
	w.git("config", "--file", filepath.Join(w.dir, ".gitmodules"), "submodule."+path+".path", path)
	w.git("config", "--file", filepath.Join(w.dir, ".gitmodules"), "submodule."+path+".url", url)
	w.git("add", ".gitmodules")
	w.git("update-index", "--add", "--cacheinfo", "160000,"+commit+","+path)
}

// linked commits the index.
func (w *work) linked(message string) string {
	w.t.Helper()
	w.git("commit", "--quiet", "-m", message)
	return w.git("rev-parse", "HEAD")
}

// finder knows repositories by URLs such as ../lib.git.
func finder(known map[string]*work) func(context.Context, string, string) (string, Repo, bool, error) {
	return func(_ context.Context, _, url string) (string, Repo, bool, error) {
		w, ok := known[url]
		if !ok {
			return "", Repo{}, false, nil
		}
		return strings.TrimSuffix(strings.TrimPrefix(url, "../"), ".git"), w.repo, true, nil
	}
}

func changedIn(t *testing.T, w Whole, base, head string) string {
	t.Helper()
	list, err := w.FileChanges(t.Context(), base, head)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range list {
		s := c.Path
		if c.Added {
			s = "+" + s
		}
		if c.Deleted {
			s = "-" + s
		}
		out = append(out, s)
	}
	slices.Sort(out)
	paths, err := w.ChangedFiles(t.Context(), base, head)
	if err != nil || len(paths) != len(out) {
		t.Errorf("changed files %v, %v", paths, err)
	}
	return strings.Join(out, " ")
}

func TestSubmodulesAreFilledIn(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	deep, lib, parent := newWork(t), newWork(t), newWork(t)
	deepOne := deep.commit("deep", map[string]string{"d.txt": "deep"})
	lib.commit("lib", map[string]string{"Dockerfile": "FROM scratch\n", "src/a.go": "one"})
	lib.link("deep", "../deep.git", deepOne)
	libOne := lib.linked("link deep")
	lib.commit("two", map[string]string{"src/a.go": "two"})
	// git add -A of commit would take the pointers of folders that are not there out again.
	lib.git("update-index", "--add", "--cacheinfo", "160000,"+deepOne+",deep")
	libTwo := lib.linked("two, linked")
	parent.commit("parent", map[string]string{"own.txt": "own", "libs/README": "read"})
	before := parent.git("rev-parse", "HEAD")
	parent.link("libs/lib", "../lib.git", libOne)
	parent.link("libs/foreign", "https://elsewhere.example/x.git", libOne)
	one := parent.linked("link")
	parent.link("libs/lib", "../lib.git", libTwo)
	two := parent.linked("bump")
	w := Whole{Repo: parent.repo, Key: "parent", Find: finder(map[string]*work{"../lib.git": lib, "../deep.git": deep})}

	tree, err := w.Tree(ctx, one)
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files = append(files, name)
		}
		return err
	})
	if want := ".gitmodules libs/README libs/lib/.gitmodules libs/lib/Dockerfile libs/lib/deep/d.txt libs/lib/src/a.go own.txt"; err != nil || strings.Join(files, " ") != want {
		t.Errorf("files %v, %v", files, err)
	}
	for name, want := range map[string]string{"own.txt": "own", "libs/lib/src/a.go": "one", "libs/lib/deep/d.txt": "deep"} {
		if data, err := fs.ReadFile(tree, name); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if data, err := w.ReadFile(ctx, one, name, 100); err != nil || string(data) != want {
			t.Errorf("read %s: %q, %v", name, data, err)
		}
	}
	for dir, want := range map[string]string{
		".": strings.Join(files, " ") + " libs/foreign", "libs": ".", "libs/lib": ".gitmodules Dockerfile deep/d.txt src/a.go", "libs/lib/src": "a.go", "libs/lib/deep": "d.txt",
	} {
		list, err := w.Files(ctx, one, dir)
		var got []string
		for _, f := range list {
			got = append(got, f.Path)
		}
		slices.Sort(got)
		wanted := strings.Fields(want)
		if dir == "libs" {
			wanted = []string{"README", "foreign", "lib/.gitmodules", "lib/Dockerfile", "lib/deep/d.txt", "lib/src/a.go"}
		}
		slices.Sort(wanted)
		if err != nil || !slices.Equal(got, wanted) {
			t.Errorf("files of %s: %v, %v, want %v", dir, got, err, wanted)
		}
	}
	if err := tree.Close(); err != nil {
		t.Error(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if err := w.Export(ctx, two, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"own.txt": "own", "libs/lib/src/a.go": "two", "libs/lib/deep/d.txt": "deep"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("exported %s: %q, %v", name, data, err)
		}
	}
	if list, err := os.ReadDir(filepath.Join(dir, "libs/foreign")); err != nil || len(list) != 0 {
		t.Errorf("a submodule from elsewhere is no empty folder: %v, %v", list, err)
	}
	foreign, err := w.Foreign(ctx, two)
	if err != nil || len(foreign) != 1 || foreign[0].Path != "libs/foreign" || foreign[0].URL != "https://elsewhere.example/x.git" {
		t.Errorf("foreign %v, %v", foreign, err)
	}

	if got := changedIn(t, w, one, two); got != "libs/lib/src/a.go" {
		t.Errorf("a bump changes %q", got)
	}
	if got := changedIn(t, w, before, one); got != "+.gitmodules +libs/foreign +libs/lib/.gitmodules +libs/lib/Dockerfile +libs/lib/deep +libs/lib/src/a.go" {
		t.Errorf("a new submodule changes %q", got)
	}
	if got := changedIn(t, w, two, before); !strings.Contains(got, "-libs/lib/src/a.go") {
		t.Errorf("a submodule that goes changes %q", got)
	}

	// The commit that moved the submodule is the newest that touched a file in it.
	newest, _, err := w.Newest(ctx, two, []string{"libs/lib/src"}, nil)
	if err != nil || newest != two {
		t.Errorf("newest %s, %v", newest, err)
	}
	if recent, err := w.Recent(ctx, two, 10); err != nil || len(recent) != 0 {
		t.Errorf("recent %v, %v", recent, err)
	}

	// Equal folders have equal hashes; whether submodules are there matters.
	hash := func(w Whole, commit, dir string) string {
		h, err := w.TreeHash(ctx, commit, dir)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if hash(w, one, "libs/lib/src") == hash(w, two, "libs/lib/src") || hash(w, one, "libs/lib/deep") != hash(w, two, "libs/lib/deep") {
		t.Error("hashes of folders in submodules")
	}
	if plain := (Whole{Repo: parent.repo}); hash(w, one, ".") == hash(plain, one, ".") || hash(w, one, "libs") == hash(plain, one, "libs") || hash(w, one, ".") != hash(w, one, ".") {
		t.Error("a tree with filled submodules has the hash of one with empty ones")
	}
}

func TestSubmodulesThatAreRefused(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	a, b := newWork(t), newWork(t)
	aOne := a.commit("a", map[string]string{"a": "a"})
	b.link("a", "../a.git", aOne)
	bOne := b.linked("link a")
	a.link("b", "../b.git", bOne)
	circle := a.linked("link b")
	w := Whole{Repo: a.repo, Key: "a", Find: finder(map[string]*work{"../a.git": a, "../b.git": b})}
	_, err := w.Tree(ctx, circle)
	wantCode(t, err, slipway.Invalid, "submodules go in a circle: a -> b -> a")
	wantCode(t, w.Export(ctx, circle, filepath.Join(t.TempDir(), "x")), slipway.Invalid, "circle")

	b.link("a", "../a.git", strings.Repeat("1", 40))
	absent := Whole{Repo: b.repo, Key: "b", Find: w.Find}
	_, err = absent.Tree(ctx, b.linked("not pushed"))
	wantCode(t, err, slipway.Invalid, "submodule a is at commit 1111111, which a does not have: push it there first")

	// As deep as the chain goes.
	known := map[string]*work{}
	last := aOne
	previous := "../a0.git"
	known[previous] = a
	for i := 1; i < 8; i++ {
		n := newWork(t)
		n.commit("n", map[string]string{"n": fmt.Sprint(i)})
		n.link("in", previous, last)
		last, previous = n.linked("link"), fmt.Sprintf("../a%d.git", i)
		known[previous] = n
	}
	chain := Whole{Repo: known[previous].repo, Key: "a7", Find: finder(known)}
	_, err = chain.Tree(ctx, last)
	wantCode(t, err, slipway.Invalid, "submodules are more than 5 deep")
}

// What stands in .gitmodules never leads anywhere but to a submodule that the tree has.
func TestHostileModules(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	lib, w := newWork(t), newWork(t)
	libOne := lib.commit("lib", map[string]string{"x": "x"})
	asked := map[string]bool{}
	whole := Whole{Repo: w.repo, Key: "w", Find: func(_ context.Context, _, url string) (string, Repo, bool, error) {
		asked[url] = true
		return "lib", lib.repo, url == "../lib.git", nil
	}}
	for name, text := range map[string]string{
		"out":          "[submodule \"a\"]\n\tpath = ../out\n\turl = ../lib.git\n",
		"absolute":     "[submodule \"a\"]\n\tpath = /etc\n\turl = ../lib.git\n",
		"option":       "[submodule \"a\"]\n\tpath = --help\n\turl = ../lib.git\n",
		"git":          "[submodule \"a\"]\n\tpath = .git/hooks\n\turl = ../lib.git\n",
		"root":         "[submodule \"a\"]\n\tpath = .\n\turl = ../lib.git\n",
		"file":         "[submodule \"a\"]\n\tpath = file\n\turl = ../lib.git\n",
		"wildcard":     "[submodule \"a\"]\n\tpath = *\n\turl = ../lib.git\n",
		"no submodule": "[submodule \"a\"]\n\tpath = none\n\turl = ../lib.git\n",
		"include":      "[include]\n\tpath = /etc/passwd\n[submodule \"../../x\"]\n\tpath = none\n\turl = ../lib.git\n\tupdate = !touch /tmp/x\n",
		"no url":       "[submodule \"a\"]\n\tpath = real\n",
		"ext":          "[submodule \"-x\"]\n\tpath = real\n\turl = ext::sh -c touch% /tmp/x\n",
		"upload":       "[submodule \"a\"]\n\tpath = real\n\turl = --upload-pack=touch\n",
		"empty":        "",
	} {
		w.write(map[string]string{".gitmodules": text, "file": "f"})
		w.git("add", "-A")
		w.git("update-index", "--add", "--cacheinfo", "160000,"+libOne+",real")
		commit := w.linked(name)
		dir := filepath.Join(t.TempDir(), "out")
		if err := whole.Export(ctx, commit, dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if list, err := os.ReadDir(filepath.Join(dir, "real")); err != nil || len(list) != 0 {
			t.Errorf("%s: the submodule is filled in: %v, %v", name, list, err)
		}
		tree, err := whole.Tree(ctx, commit)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(tree.Mounts()) != 0 {
			t.Errorf("%s: mounts %v", name, tree.Mounts())
		}
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
	}
	if asked["../lib.git"] {
		t.Error("a path that is no submodule is asked for")
	}
	w.write(map[string]string{".gitmodules": "[submodule \"a\n"})
	w.git("add", "-A")
	_, err := whole.Tree(ctx, w.linked("broken"))
	wantCode(t, err, slipway.Invalid, ".gitmodules cannot be read")
	w.write(map[string]string{".gitmodules->": "file"})
	w.git("add", "-A")
	_, err = whole.Tree(ctx, w.linked("a link"))
	wantCode(t, err, slipway.Invalid, "is not a regular file")
}

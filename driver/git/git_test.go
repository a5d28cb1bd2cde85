package git

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The driver is what stage/source asks.
var (
	_ source.Repo     = Repo{}
	_ source.Exporter = Repo{}
)

// work is a working copy made with the git command, whose repository is the one under test.
type work struct {
	t    testing.TB
	dir  string
	repo Repo
}

func newWork(t testing.TB) *work {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "work")
	w := &work{t: t, dir: dir, repo: Repo{Dir: filepath.Join(dir, ".git")}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.git("init", "--quiet", "--initial-branch=main")
	return w
}

func (w *work) git(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_AUTHOR_DATE=@1700000000 +0000",
		"GIT_COMMITTER_NAME=Bob", "GIT_COMMITTER_EMAIL=bob@example.com", "GIT_COMMITTER_DATE=@1700000100 +0000")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// write writes files; a name that ends in -> is a link to the content, empty content removes.
func (w *work) write(files map[string]string) {
	w.t.Helper()
	for name, content := range files {
		link, isLink := strings.CutSuffix(name, "->")
		p := filepath.Join(w.dir, link)
		err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.RemoveAll(p))
		switch {
		case isLink:
			err = errors.Join(err, os.Symlink(content, p))
		case content != "":
			err = errors.Join(err, os.WriteFile(p, []byte(content), 0o644))
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *work) commit(message string, files map[string]string) string {
	w.t.Helper()
	w.write(files)
	w.git("add", "-A")
	w.git("commit", "--quiet", "--allow-empty", "-m", message)
	return w.git("rev-parse", "HEAD")
}

func wantCode(t *testing.T, err error, want slipway.Code, parts ...string) {
	t.Helper()
	if slipway.ErrorCode(err) != want {
		t.Errorf("error %v has code %q, want %q", err, slipway.ErrorCode(err), want)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}

func TestInitIsRepeatable(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "a", "b.git")
	for _, branch := range []string{"main", "trunk"} {
		r, err := Init(ctx, dir, branch)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r.DefaultBranch(ctx); err != nil || got != branch {
			t.Errorf("default branch %q, %v", got, err)
		}
	}
	if refs, err := (Repo{Dir: dir}).Refs(ctx); err != nil || len(refs) != 0 {
		t.Errorf("refs of an empty repository: %v, %v", refs, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, "hooks")); err == nil && len(entries) > 0 {
		t.Errorf("hooks from a template: %v", entries)
	}
	_, err := Init(ctx, dir, "-x")
	wantCode(t, err, slipway.Invalid)
}

func TestResolveAndRefs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	head := w.commit("one", map[string]string{"a": "1"})
	w.git("tag", "-a", "-m", "t", "v1")
	tag := w.git("rev-parse", "refs/tags/v1")
	w.git("update-ref", "refs/pull/1/head", head)
	for _, name := range []string{"HEAD", "refs/heads/main", "refs/tags/v1", head, head[:8], tag} {
		if got, err := w.repo.Resolve(ctx, name); err != nil || got != head {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
	for name, code := range map[string]slipway.Code{
		"refs/heads/none": slipway.NotFound, strings.Repeat("1", 40): slipway.NotFound, "abcd": slipway.NotFound,
		"--version": slipway.Invalid, "main": slipway.Invalid, "refs/heads/../x": slipway.Invalid, "refs/heads/-x": slipway.Invalid,
		"refs/heads/main^{tree}": slipway.Invalid, "refs/heads/main~1": slipway.Invalid, "HEAD:a": slipway.Invalid, "": slipway.Invalid,
	} {
		_, err := w.repo.Resolve(ctx, name)
		wantCode(t, err, code)
	}
	refs, err := w.repo.Refs(ctx)
	if err != nil || len(refs) != 2 || refs["refs/heads/main"] != head || refs["refs/tags/v1"] != tag {
		t.Errorf("refs %v, %v", refs, err)
	}
	if refs, err = w.repo.Refs(ctx, "refs/pull/"); err != nil || refs["refs/pull/1/head"] != head || len(refs) != 1 {
		t.Errorf("pulls %v, %v", refs, err)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	one := w.commit("one", map[string]string{"svc/a": "1", "gone": "x", "weird \n\"name\"": "x"})
	two := w.commit("two\nlines\n\nbody \x01 text\n\nmore", map[string]string{"svc/a": "2", "gone": ""})
	w.git("checkout", "--quiet", "-b", "side", one)
	side := w.commit("side", map[string]string{"other/b": "1"})
	w.git("checkout", "--quiet", "--orphan", "alone")
	alone := w.commit("alone", nil)

	c, err := w.repo.CommitInfo(ctx, two)
	if err != nil || c.Hash != two || c.Subject != "two lines" || c.Body != "body \x01 text\n\nmore" || c.Author != "Ann" || c.Email != "ann@example.com" ||
		!slices.Equal(c.Parents, []string{one}) || c.AuthorTime.Unix() != 1700000000 || c.Time.Unix() != 1700000100 {
		t.Errorf("%+v, %v", c, err)
	}
	list, err := w.repo.Log(ctx, "", two, 10)
	if err != nil || len(list) != 2 || list[0].Hash != two || list[1].Hash != one || list[1].Body != "" {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err = w.repo.Log(ctx, one, two, 10); err != nil || len(list) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
	for _, c := range []struct {
		base, head string
		want       []string
	}{
		{one, two, []string{"gone", "svc/a"}},
		{two, side, []string{"gone", "other/b", "svc/a"}},
		{two, two, nil},
		{"", one, []string{"gone", "svc/a", "weird \n\"name\""}},
		{slipway.ZeroHash, one, []string{"gone", "svc/a", "weird \n\"name\""}},
	} {
		if got, err := w.repo.ChangedFiles(ctx, c.base, c.head); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%.7s..%.7s: %q, %v, want %q", c.base, c.head, got, err, c.want)
		}
	}
	if got, err := w.repo.MergeBase(ctx, two, side); err != nil || got != one {
		t.Errorf("merge base %q, %v", got, err)
	}
	if got, err := w.repo.MergeBase(ctx, two, alone); err != nil || got != "" {
		t.Errorf("merge base of strangers %q, %v", got, err)
	}
	for _, c := range []struct {
		a, b string
		want bool
	}{{one, two, true}, {two, one, false}, {two, two, true}, {two, side, false}} {
		if got, err := w.repo.IsAncestor(ctx, c.a, c.b); err != nil || got != c.want {
			t.Errorf("%.7s in %.7s: %v, %v", c.a, c.b, got, err)
		}
	}
	missing := strings.Repeat("1", 40)
	_, err = w.repo.ChangedFiles(ctx, missing, two)
	wantCode(t, err, slipway.NotFound, missing)
	_, err = w.repo.MergeBase(ctx, missing, two)
	wantCode(t, err, slipway.NotFound)
	_, err = w.repo.IsAncestor(ctx, two, missing)
	wantCode(t, err, slipway.NotFound)
	_, err = w.repo.CommitInfo(ctx, missing)
	wantCode(t, err, slipway.NotFound)
	for _, bad := range []string{"-x", "main", "HEAD", one[:12], one + "\n", "--output=/tmp/x"} {
		_, err = w.repo.ChangedFiles(ctx, bad, two)
		wantCode(t, err, slipway.Invalid)
		_, err = w.repo.Log(ctx, "", bad, 1)
		wantCode(t, err, slipway.Invalid)
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	one := w.commit("one", map[string]string{"svc/a": "1", "root": "1", "svc/sub/x": "1", "[ab]": "1"})
	two := w.commit("two", map[string]string{"svc/sub/x": "2"})
	three := w.commit("three", map[string]string{"a": "1"})
	w.git("checkout", "--quiet", "-b", "side", one)
	side := w.commit("side", map[string]string{"svc/a": "side"})
	w.git("checkout", "--quiet", "main")
	w.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
	merge := w.git("rev-parse", "HEAD")
	for _, c := range []struct {
		include, exclude []string
		want             string
	}{
		{[]string{"svc"}, []string{"svc/sub"}, side},
		{[]string{"svc/sub"}, nil, two},
		{[]string{"."}, []string{"svc"}, three},
		{[]string{"root", "svc/sub"}, nil, two},
		{[]string{"[ab]"}, nil, one},
		{[]string{":(top)a"}, nil, ""},
		{[]string{"none"}, nil, ""},
		{[]string{"/svc/"}, nil, merge},
	} {
		got, when, err := w.repo.Newest(ctx, merge, c.include, c.exclude)
		if err != nil || got != c.want || (got != "" && when.Unix() != 1700000100) {
			t.Errorf("newest of %v without %v: %q at %v, %v, want %q", c.include, c.exclude, got, when, err, c.want)
		}
		list, err := w.repo.Touching(ctx, merge, c.include, c.exclude, 1)
		if first := append(list, source.Touched{})[0]; err != nil || first.Commit != c.want || len(list) > 1 {
			t.Errorf("touching %v without %v: %+v, %v, want %q", c.include, c.exclude, list, err, c.want)
		}
	}
}

func TestUpdateRefIsConditional(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	one := w.commit("one", nil)
	two := w.commit("two", nil)
	ref := "refs/pull/1/head"
	if err := w.repo.UpdateRef(ctx, ref, one, slipway.ZeroHash); err != nil {
		t.Fatal(err)
	}
	wantCode(t, w.repo.UpdateRef(ctx, ref, two, slipway.ZeroHash), slipway.Conflict, ref, "moved by someone else")
	wantCode(t, w.repo.UpdateRef(ctx, ref, one, two), slipway.Conflict)
	if err := w.repo.UpdateRef(ctx, ref, two, one); err != nil {
		t.Error(err)
	}
	wantCode(t, w.repo.UpdateRef(ctx, ref, slipway.ZeroHash, one), slipway.Conflict)
	if err := w.repo.UpdateRef(ctx, ref, slipway.ZeroHash, two); err != nil {
		t.Error(err)
	}
	wantCode(t, w.repo.UpdateRef(ctx, ref, strings.Repeat("1", 40), slipway.ZeroHash), slipway.NotFound)
	wantCode(t, w.repo.UpdateRef(ctx, "refs/heads/a b", one, slipway.ZeroHash), slipway.Invalid)
	wantCode(t, w.repo.UpdateRef(ctx, "refs/heads/a\x00b", one, slipway.ZeroHash), slipway.Invalid)
	wantCode(t, w.repo.UpdateRef(ctx, "HEAD", one, two), slipway.Invalid)
	if refs, err := w.repo.Refs(ctx, "refs/pull"); err != nil || len(refs) != 0 {
		t.Errorf("refs %v, %v", refs, err)
	}
}

func TestTwoUpdatesAtOnceCannotBothWin(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	base := w.commit("base", nil)
	const n = 6
	var heads []string
	for range n {
		heads = append(heads, w.commit("next", nil))
	}
	won := make(chan error, n)
	for _, head := range heads {
		go func() { won <- w.repo.UpdateRef(t.Context(), "refs/heads/race", head, slipway.ZeroHash) }()
	}
	winners := 0
	for range n {
		if err := <-won; err == nil {
			winners++
		} else {
			wantCode(t, err, slipway.Conflict)
		}
	}
	if winners != 1 || base == "" {
		t.Errorf("%d of %d won", winners, n)
	}
}

func TestMergeAndCommit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	one := w.commit("one", map[string]string{"a": "1\n", "b": "1\n"})
	ours := w.commit("ours", map[string]string{"a": "ours\n"})
	w.git("checkout", "--quiet", "-b", "clean", one)
	clean := w.commit("clean", map[string]string{"b": "2\n"})
	w.git("checkout", "--quiet", "-b", "clash", one)
	clash := w.commit("clash", map[string]string{"a": "theirs\n"})
	m, err := w.repo.MergeTree(ctx, ours, clean)
	if err != nil || len(m.Conflicts) != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	n := NewCommit{Tree: m.Tree, Parents: []string{ours, clean}, Message: "Merge #1\n\nbody", Author: "A <x>\nnn", Email: "ann@example.com", Time: time.Unix(1800000000, 0)}
	hash, err := w.repo.CommitTree(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := w.repo.CommitTree(ctx, n); err != nil || again != hash {
		t.Errorf("equal input made %s and %s, %v", hash, again, err)
	}
	c, err := w.repo.CommitInfo(ctx, hash)
	if err != nil || c.Author != "A xnn" || c.Subject != "Merge #1" || c.Time.Unix() != 1800000000 || len(c.Parents) != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	if data, err := w.repo.ReadFile(ctx, hash, "a", 100); err != nil || string(data) != "ours\n" {
		t.Errorf("%q, %v", data, err)
	}
	if data, err := w.repo.ReadFile(ctx, hash, "b", 100); err != nil || string(data) != "2\n" {
		t.Errorf("%q, %v", data, err)
	}
	m, err = w.repo.MergeTree(ctx, ours, clash)
	if err != nil || !slices.Equal(m.Conflicts, []string{"a"}) {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = w.repo.MergeTree(ctx, ours, strings.Repeat("1", 40))
	wantCode(t, err, slipway.NotFound)
	n.Author, n.Email = "", "<>"
	if _, err := w.repo.CommitTree(ctx, n); err != nil {
		t.Errorf("a commit without a name: %v", err)
	}
}

func TestQuarantineSeesObjectsAndMovesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	w.commit("one", map[string]string{"a": "1"})
	bare, err := Init(ctx, filepath.Join(t.TempDir(), "bare.git"), "main")
	if err != nil {
		t.Fatal(err)
	}
	head := w.git("rev-parse", "HEAD")
	if _, err := bare.CommitInfo(ctx, head); err == nil {
		t.Fatal("the commit is there already")
	}
	q := Repo{Dir: bare.Dir, Env: []string{"GIT_OBJECT_DIRECTORY=" + filepath.Join(w.dir, ".git", "objects"), "GIT_ALTERNATE_OBJECT_DIRECTORIES=" + filepath.Join(bare.Dir, "objects")}}
	if c, err := q.CommitInfo(ctx, head); err != nil || c.Subject != "one" {
		t.Errorf("%+v, %v", c, err)
	}
	if err := q.UpdateRef(ctx, "refs/heads/main", head, slipway.ZeroHash); err == nil {
		t.Error("a ref moved to a commit in quarantine")
	}
}

func TestNothingOfTheMachineOrTheContentRuns(t *testing.T) {
	home := t.TempDir()
	mark := filepath.Join(home, "ran")
	config := "[core]\n\tfsmonitor = touch " + mark + "\n\thooksPath = " + home + "\n\tpager = touch " + mark + "\n[log]\n\tshowSignature = true\n[url \"/nonexistent/\"]\n\tinsteadOf = /\n[alias]\n\tlog = !touch " + mark + "\n"
	script := "#!/bin/sh\ntouch " + mark + "\n"
	for name, content := range map[string]string{".gitconfig": config, "reference-transaction": script, "post-checkout": script} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w := newWork(t)
	head := w.commit("one", map[string]string{".gitattributes": "a export-ignore\nb export-subst\n", "a": "1", "b": "$Format:%H$"})
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", home)
	t.Setenv("GIT_DIR", "/nonexistent")
	ctx := t.Context()
	hooks := filepath.Join(w.repo.Dir, "hooks")
	if err := errors.Join(os.MkdirAll(hooks, 0o755), os.WriteFile(filepath.Join(hooks, "reference-transaction"), []byte(script), 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := w.repo.UpdateRef(ctx, "refs/heads/x", head, slipway.ZeroHash); err != nil {
		t.Error(err)
	}
	if _, err := w.repo.Log(ctx, "", head, 5); err != nil {
		t.Error(err)
	}
	if _, _, err := cloneMirror(ctx, filepath.Join(home, "m.git"), Remote{URL: w.repo.Dir, AllowFile: true}); err != nil {
		t.Errorf("the user's configuration redirects a mirror: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "tree")
	if err := w.repo.Export(ctx, head, dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "1", "b": "$Format:%H$"} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s is %q, %v: an attribute of the content had an effect", name, data, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("something of the machine's configuration or a hook ran")
	}
}

func TestCancelEndsGit(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	w := newWork(t)
	head := w.commit("one", nil)
	cancel(slipway.ErrSuperseded)
	if _, err := w.repo.CommitInfo(ctx, head); !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("%v does not tell why", err)
	}
	if err := w.repo.Export(ctx, head, filepath.Join(t.TempDir(), "x")); !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("%v does not tell why", err)
	}
}

func TestMaintain(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	gone := w.commit("what a push took out of history", map[string]string{"a": "1"})
	w.git("update-ref", "-d", "HEAD")
	w.git("reflog", "expire", "--expire=now", "--all")
	head := w.commit("one", map[string]string{"a": "2"})
	if err := w.repo.Maintain(ctx); err != nil {
		t.Fatal(err)
	}
	for _, commit := range []string{gone, head} {
		if _, err := w.repo.CommitInfo(ctx, commit); err != nil {
			t.Error(err)
		}
	}
	counted, err := w.repo.output(ctx, "count-objects", "-v")
	if err != nil || !strings.Contains(string(counted), "count: 0\n") || !strings.Contains(string(counted), "packs: 1\n") {
		t.Errorf("not packed (%v):\n%s", err, counted)
	}
	if _, err := os.Stat(filepath.Join(w.repo.Dir, "objects", "info", "commit-graph")); err != nil {
		t.Error(err)
	}
}

func TestTouching(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	one := w.commit("one", map[string]string{"svc/a": "1", "svc/docs/x": "1", "mail/a": "1"})
	two := w.commit("two", map[string]string{"svc/docs/x": "2", "svc/chart/y": "1", "mail/a": "2"})
	w.commit("three", map[string]string{"mail/a": "3", "svc/chart/y": "2"})
	list, err := w.repo.Touching(t.Context(), w.git("rev-parse", "HEAD"), []string{"svc"}, []string{"svc/chart"}, 10)
	if err != nil || len(list) != 2 || list[0].Commit != two || !slices.Equal(list[0].Files, []string{"svc/docs/x"}) || list[1].Commit != one || !slices.Equal(list[1].Files, []string{"svc/a", "svc/docs/x"}) || list[1].Parents != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	_, err = w.repo.Touching(t.Context(), strings.Repeat("1", 40), []string{"."}, nil, 2)
	wantCode(t, err, slipway.NotFound)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	at := w.commit("one", map[string]string{"cart/x": "1", "cart/é/b": "2", "mail/x": "1"})
	files, err := w.repo.Files(t.Context(), at, "cart")
	if err != nil || len(files) != 2 || files[0].Path != "x" || files[1].Path != "é/b" || files[0].Mode != "100644" || len(files[0].Hash) != 40 || files[0].Hash == files[1].Hash {
		t.Errorf("%+v, %v", files, err)
	}
	if all, err := w.repo.Files(t.Context(), at, "."); err != nil || len(all) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
	_, err = w.repo.Files(t.Context(), at, "gone")
	wantCode(t, err, slipway.NotFound)
}

func TestTreeHash(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	hash := func(commit, dir string) string {
		t.Helper()
		h, err := w.repo.TreeHash(t.Context(), commit, dir)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a := w.commit("one", map[string]string{"cart/x": "1", "mail/x": "1"})
	b := w.commit("two", map[string]string{"mail/x": "2"})
	if hash(a, "cart") != hash(b, "cart") || hash(a, "mail") == hash(b, "mail") || hash(a, ".") == hash(b, "") {
		t.Error("equal folders have other hashes, or others the same")
	}
	for _, dir := range []string{"gone", "cart/y"} {
		if h, err := w.repo.TreeHash(t.Context(), a, dir); slipway.ErrorCode(err) != slipway.NotFound {
			t.Errorf("%s: %s, %v", dir, h, err)
		}
	}
	if _, err := w.repo.TreeHash(t.Context(), "--output=x", "cart"); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("an option: %v", err)
	}
}

package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

// readers are closed when the test ends.
func (w *work) readers() *Readers {
	w.t.Helper()
	s := NewReaders(w.t.Context())
	w.t.Cleanup(s.Close)
	return s
}

// agree fails unless readers answer, and say what git commands say, of two commits.
func agree(t failing, with Repo, a, b string) {
	t.Helper()
	ctx := context.Background()
	plain := with
	plain.Readers = nil
	list, err := with.compareThrough(ctx, a, b)
	if err != nil {
		t.Fatalf("compare through a reader: %v", err)
	}
	want, err := plain.FileChanges(ctx, a, b)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if got := fileChanges(list); !reflect.DeepEqual(got, want) {
		t.Fatalf("%.7s..%.7s differ by\n%+v, git says\n%+v", a, b, got, want)
	}
	names, err := plain.ChangedFiles(ctx, a, b)
	if got := paths(list); err != nil || !reflect.DeepEqual(got, names) {
		t.Fatalf("%.7s..%.7s changed\n%q, git says\n%q, %v", a, b, got, names, err)
	}
	for _, limit := range []int{2, source.RecentCommits} {
		recent, err := with.recentThrough(ctx, b, limit)
		if err != nil {
			t.Fatalf("list through a reader: %v", err)
		}
		want, err := plain.Recent(ctx, b, limit)
		if err != nil || !reflect.DeepEqual(recent, want) {
			t.Fatalf("the newest up to %.7s are\n%+v, git says\n%+v, %v", b, recent, want, err)
		}
	}
	base, err := with.mergeBaseThrough(ctx, a, b)
	wanted, err2 := plain.MergeBase(ctx, a, b)
	if err2 != nil || (err == nil && base != wanted) || (err != nil && !errors.Is(err, errUnread)) {
		t.Fatalf("the merge base of %.7s and %.7s is %q, %v, git says %q, %v", a, b, base, err, wanted, err2)
	}
}

// failing is what tests and rapid have in common.
type failing interface {
	Helper()
	Fatalf(format string, args ...any)
}

// names collide in every way that git's order of names knows: a folder's counts as if a slash ended it.
func names() *rapid.Generator[string] {
	part := rapid.SampledFrom([]string{"a", "a.b", "a-", "a0", "A", "ab", "é", "ü\tx", "\xff", "\"", "z"})
	return rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(part, 1, 3).Draw(t, "parts"), "/")
	})
}

// A history of every kind of change is read as git commands read it.
func TestReadersAgreeWithGit(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	repo := w.repo
	repo.Readers = w.readers()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		script, commits := drawHistory(t, n)
		if _, err := repo.run(context.Background(), call{args: []string{"fast-import", "--quiet", "--force", "--export-marks=" + filepath.Join(repo.Dir, "marks")}, stdin: strings.NewReader(script)}); err != nil {
			t.Fatalf("%v\n%s", err, script)
		}
		marks, err := os.ReadFile(filepath.Join(repo.Dir, "marks"))
		if err != nil {
			t.Fatalf("%v", err)
		}
		hashes := map[string]string{}
		for line := range strings.Lines(string(marks)) {
			mark, hash, _ := strings.Cut(strings.TrimSpace(line), " ")
			hashes[mark] = hash
		}
		for range 2 {
			a, b := rapid.IntRange(1, commits).Draw(t, "a"), rapid.IntRange(1, commits).Draw(t, "b")
			agree(t, repo, hashes[fmt.Sprintf(":%d", a)], hashes[fmt.Sprintf(":%d", b)])
		}
	})
}

// drawHistory is a stream for git fast-import: commits on top of any earlier ones, merges and octopus
// merges of them, roots, with times that go back.
func drawHistory(t *rapid.T, n int) (script string, commits int) {
	var b strings.Builder
	commits = rapid.IntRange(2, 14).Draw(t, "commits")
	for c := 1; c <= commits; c++ {
		fmt.Fprintf(&b, "commit refs/heads/h%d-%d\nmark :%d\ncommitter A <a@b> %d -0130\ndata 1\nx\n", n, c, c, rapid.IntRange(1, 6).Draw(t, "time")*(1+c/4))
		parents := rapid.SliceOfNDistinct(rapid.IntRange(max(1, c-4), max(1, c-1)), 0, 3, rapid.ID).Draw(t, "parents")
		for i, p := range parents {
			if p < c {
				fmt.Fprintf(&b, "%s :%d\n", []string{"from", "merge", "merge"}[i], p)
			}
		}
		for range rapid.IntRange(0, 4).Draw(t, "changes") {
			drawChange(t, &b)
		}
		b.WriteString("\n")
	}
	return b.String(), commits
}

func drawChange(t *rapid.T, b *strings.Builder) {
	quoted := func(name string) string { return `"` + strings.ReplaceAll(name, `"`, `\"`) + `"` }
	name := quoted(names().Draw(t, "name"))
	switch mode := rapid.SampledFrom([]string{"100644", "100644", "100755", "120000", "160000", "delete"}).Draw(t, "mode"); mode {
	case "delete":
		fmt.Fprintf(b, "D %s\n", name)
	case "160000":
		fmt.Fprintf(b, "M 160000 %040d %s\n", rapid.IntRange(1, 2).Draw(t, "points"), name)
	default:
		text := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "text")
		fmt.Fprintf(b, "M %s inline %s\ndata %d\n%s\n", mode, name, len(text), text)
	}
}

// What a reader does not answer, a git command does: the same with odd objects as without readers.
func TestReadersLeaveOddObjectsToGit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	good := w.commit("good", map[string]string{"a": "1"})
	blob := w.git("rev-parse", "HEAD:a")
	raw := func(kind, content string) string {
		t.Helper()
		out, err := w.repo.run(ctx, call{args: []string{"hash-object", "--literally", "-t", kind, "-w", "--stdin"}, stdin: strings.NewReader(content)})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	bytes := func(hash string) string {
		var s strings.Builder
		for i := 0; i < len(hash); i += 2 {
			var c byte
			if _, err := fmt.Sscanf(hash[i:i+2], "%02x", &c); err != nil {
				t.Fatal(err)
			}
			s.WriteByte(c)
		}
		return s.String()
	}
	tree := func(lines ...string) string {
		content := ""
		for _, l := range lines {
			content += l + "\x00" + bytes(blob)
		}
		return raw("tree", content)
	}
	commit := func(tree, committer string) string {
		return raw("commit", "tree "+tree+"\nauthor A <a@b> 1 +0000\ncommitter "+committer+"\n\nx\n")
	}
	who := "A <a@b> 1700000000 +0000"
	for name, hash := range map[string]string{
		"names that are not sorted": commit(tree("100644 b", "100644 a"), who),
		"one name twice":            commit(tree("100644 a", "100644 a"), who),
		"an unknown mode":           commit(tree("100600 a"), who),
		"a mode with a zero":        commit(tree("0100644 a"), who),
		"no name":                   commit(tree("100644 "), who),
		"half a tree":               commit(raw("tree", "100644 a\x00short"), who),
		"no time":                   commit(tree("100644 b"), "A <a@b>"),
		"a time beyond all":         commit(tree("100644 b"), "A <a@b> 99999999999999999999 +0000"),
		"a time before 1970":        commit(tree("100644 b"), "A <a@b> -1 +0000"),
		"a tree that is a file":     commit(blob, who),
		"a tree that is not there":  commit(strings.Repeat("1", 40), who),
		"a commit that is a file":   blob,
		"no commit":                 strings.Repeat("1", 40),
	} {
		repo := w.repo
		repo.Readers = w.readers()
		if _, err := repo.recentThrough(ctx, hash, 10); err == nil {
			t.Errorf("%s: a reader read it", name)
		}
		got, gerr := repo.FileChanges(ctx, good, hash)
		want, werr := w.repo.FileChanges(ctx, good, hash)
		if !reflect.DeepEqual(got, want) || fmt.Sprint(gerr) != fmt.Sprint(werr) {
			t.Errorf("%s: %+v, %v, git says %+v, %v", name, got, gerr, want, werr)
		}
		recent, gerr := repo.Recent(ctx, hash, 10)
		wanted, werr := w.repo.Recent(ctx, hash, 10)
		if !reflect.DeepEqual(recent, wanted) || fmt.Sprint(gerr) != fmt.Sprint(werr) {
			t.Errorf("%s: %+v, %v, git says %+v, %v", name, recent, gerr, wanted, werr)
		}
	}
	// A mode from long ago, which git shows as today's.
	old := w.repo
	old.Readers = w.readers()
	agree(t, old, good, commit(tree("100664 a"), who))
	agree(t, old, commit(tree("100755 a"), who), commit(tree("100664 a", "100664 b"), who))
	// One folder in so many places that nobody lists them: git's own bound speaks, and memory stays.
	bomb := tree("100644 a")
	for range 12 {
		lines := ""
		for i := range 10 {
			lines += fmt.Sprintf("40000 %d\x00%s", i, bytes(bomb))
		}
		bomb = raw("tree", lines)
	}
	repo := w.repo
	repo.Readers = w.readers()
	if _, err := repo.compareThrough(ctx, good, commit(bomb, who)); !errors.Is(err, errUnread) {
		t.Errorf("a bomb: %v", err)
	}
}

// one is the reader of a repository, which answered.
func (w *work) one(repo Repo, commit string) *reader {
	w.t.Helper()
	if _, err := repo.recentThrough(w.t.Context(), commit, 1); err != nil {
		w.t.Fatal(err)
	}
	rd, err := repo.Readers.reader(repo)
	if err != nil {
		w.t.Fatal(err)
	}
	return rd
}

// alive reports whether the process of a reader is there, be it as a zombie.
func alive(rd *reader) bool { return syscall.Kill(rd.cmd.Process.Pid, 0) == nil }

// Nobody notices that a reader was killed, and none is left.
func TestReadersThatAreKilled(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	one := w.commit("one", map[string]string{"a": "1"})
	two := w.commit("two", map[string]string{"a": "2"})
	repo := w.repo
	repo.Readers = w.readers()
	first := w.one(repo, one)
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if files, err := repo.ChangedFiles(t.Context(), one, two); err != nil || len(files) != 1 {
		t.Errorf("%q, %v", files, err)
	}
	second := w.one(repo, two)
	if second == first || !alive(second) {
		t.Error("there is no other reader")
	}
	repo.Readers.Close()
	if alive(first) || alive(second) {
		t.Error("processes are left")
	}
	if files, err := repo.ChangedFiles(t.Context(), one, two); err != nil || len(files) != 1 || len(repo.Readers.open) > 0 {
		t.Errorf("after Close: %q, %v", files, err)
	}
}

// Who gives up does not leave an answer behind for the next to read.
func TestReadersThatAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	one := w.commit("one", map[string]string{"a": "1"})
	two := w.commit("two", map[string]string{"b/c": "2"})
	repo := w.repo
	repo.Readers = w.readers()
	w.one(repo, one)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			if i%2 == 0 {
				all.Go(cancel)
			}
			defer cancel()
			files, err := repo.ChangedFiles(ctx, one, two)
			if (err != nil && ctx.Err() == nil) || (err == nil && !reflect.DeepEqual(files, []string{"b/c"})) {
				t.Errorf("%q, %v", files, err)
			}
		})
	}
	all.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrSuperseded)
	if _, err := repo.Recent(ctx, two, 3); !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("%v", err)
	}
	agree(t, repo, one, two)
}

// A reader does not speak for a repository that took another's place.
func TestReadersOfARepositoryThatIsReplaced(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w, other := newWork(t), newWork(t)
	one := w.commit("one", map[string]string{"a": "1"})
	two := other.commit("two", map[string]string{"b": "1"})
	repo := w.repo
	repo.Readers = w.readers()
	rd := w.one(repo, one)
	if err := os.RemoveAll(repo.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Recent(ctx, one, 1); err == nil {
		t.Error("a repository that is gone answers")
	}
	if err := os.Rename(other.repo.Dir, repo.Dir); err != nil {
		t.Fatal(err)
	}
	_, err := repo.Recent(ctx, one, 1)
	wantCode(t, err, slipway.NotFound)
	if got, err := repo.Resolve(ctx, "refs/heads/main"); err != nil || got != two {
		t.Errorf("%s, %v", got, err)
	}
	if now := w.one(repo, two); now == rd {
		t.Error("the reader of the other")
	}
}

// Refs that move, objects that come and packs that go are seen by a reader that was there before.
func TestReadersSeeWhatChanges(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	before := w.commit("first", map[string]string{"a": "0", "deep/b/c": "0"})
	repo := w.repo
	repo.Readers = w.readers()
	rd := w.one(repo, before)
	for i, prepare := range [][]string{nil, {"gc", "--quiet", "--prune=now"}, nil, {"pack-refs", "--all"}, {"repack", "-a", "-d", "-q"}, {"gc", "--quiet", "--prune=now", "--aggressive"}, nil} {
		if prepare != nil {
			w.git(prepare...)
		}
		next := w.commit("next", map[string]string{"deep/b/c": fmt.Sprint("changed ", i)})
		if got, err := repo.resolveThrough(ctx, "refs/heads/main"); err != nil || got != next {
			t.Fatalf("main is %s, %v, want %s", got, err, next)
		}
		agree(t, repo, before, next)
		before = next
	}
	w.git("update-ref", "-d", "refs/heads/main")
	_, err := repo.Resolve(ctx, "refs/heads/main")
	wantCode(t, err, slipway.NotFound)
	if now, _ := repo.Readers.reader(repo); now != rd {
		t.Error("another reader was needed")
	}
}

// However many repositories are read, few processes stay, and what one keeps is bounded.
func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	readers := NewReaders(t.Context())
	defer readers.Close()
	var all []*reader
	for range maxReaders + 3 {
		w := newWork(t)
		head := w.commit("one", map[string]string{"a": "1"})
		w.repo.Readers = readers
		all = append(all, w.one(w.repo, head))
	}
	if len(readers.open) != maxReaders {
		t.Errorf("%d are open", len(readers.open))
	}
	readers.Close()
	for _, rd := range all {
		if alive(rd) {
			t.Error("a process is left")
		}
	}
	var k recently
	text := strings.Repeat("x", 1000)
	for i := range 20_000 {
		k.put(fmt.Sprint(i), text)
		if got, ok := k.get(fmt.Sprint(i)); !ok || got != text {
			t.Fatal("what was kept last is gone")
		}
	}
	if n := len(k.young) + len(k.old); n*len(text) > maxRecently {
		t.Errorf("%d are kept", n)
	}
	k.put("huge", strings.Repeat("x", maxRecently))
	if _, ok := k.get("huge"); ok {
		t.Error("what has no room is kept")
	}
}

// A reader that nobody asks ends, and one that is old gives way to another, with the packs it holds.
func TestReadersEnd(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	head := w.commit("one", map[string]string{"a": "1"})
	repo := w.repo
	repo.Readers = w.readers()
	now := time.Now()
	repo.Readers.Now = func() time.Time { return now }
	first := w.one(repo, head)
	now = now.Add(readerIdle - 1)
	repo.Readers.leave(first)
	if w.one(repo, head) != first {
		t.Fatal("it was not idle")
	}
	now = now.Add(readerIdle)
	repo.Readers.leave(first)
	repo.Readers.ending.Wait()
	if alive(first) || len(repo.Readers.open) > 0 {
		t.Error("it is idle, and there")
	}
	second := w.one(repo, head)
	now = now.Add(readerAge + 1)
	if third := w.one(repo, head); third == second {
		t.Error("it is old, and there")
	}
	repo.Readers.ending.Wait()
	if alive(second) {
		t.Error("the old one is left")
	}
}

// A shallow clone and a push in quarantine are git's to answer.
func TestReadersLeaveShallowClonesToGit(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	w.commit("one", map[string]string{"a": "1"})
	head := w.commit("two", map[string]string{"a": "2"})
	dir := filepath.Join(t.TempDir(), "shallow")
	w.git("clone", "--quiet", "--bare", "--depth=1", "file://"+w.dir, dir)
	repo := Repo{Dir: dir, Readers: w.readers()}
	if recent, err := repo.Recent(t.Context(), head, 10); err != nil || len(recent) != 1 || recent[0].Parents != 0 {
		t.Errorf("%+v, %v", recent, err)
	}
	repo = Repo{Dir: w.repo.Dir, Readers: repo.Readers, Env: []string{"GIT_OBJECT_DIRECTORY=" + t.TempDir()}}
	if _, err := repo.Recent(t.Context(), head, 10); err == nil {
		t.Error("a reader answered for a push")
	}
	if len(repo.Readers.open) > 0 {
		t.Error("a reader was opened")
	}
}

// A git without what readers need is asked once a while, not for each answer.
func TestReadersThatNeverAnswer(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	head := w.commit("one", map[string]string{"a": "1"})
	repo := w.repo
	repo.Readers = w.readers()
	rd, err := repo.Readers.reader(repo)
	if err != nil {
		t.Fatal(err)
	}
	rd.stop()
	for range 3 {
		if recent, err := repo.Recent(t.Context(), head, 1); err != nil || len(recent) != 1 {
			t.Errorf("%+v, %v", recent, err)
		}
	}
	if again, _ := repo.Readers.reader(repo); again != rd {
		t.Error("another was opened")
	}
}

// Where a branch left another is what readers answer, also behind merges; what is far, or not one commit,
// git commands do.
func TestMergeBasesThroughReaders(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newWork(t)
	repo := w.repo
	repo.Readers = w.readers()
	var script strings.Builder
	n := 0
	commit := func(parents ...int) int {
		n++
		fmt.Fprintf(&script, "commit refs/heads/c%d\nmark :%d\ncommitter A <a@b> %d +0000\ndata 1\nx\n", n, n, n)
		for i, p := range parents {
			fmt.Fprintf(&script, "%s :%d\n", []string{"from", "merge"}[min(i, 1)], p)
		}
		script.WriteString("\n")
		return n
	}
	root := commit()
	fork := commit(root)
	feature := commit(commit(commit(fork)))
	other := commit(commit(fork))
	main := commit(fork, other)
	updated := commit(feature, main)
	cross := commit(feature, other)
	far := fork
	for range maxWalked + 2 {
		far = commit(far)
	}
	alien := commit()
	if _, err := repo.run(ctx, call{args: []string{"fast-import", "--quiet"}, stdin: strings.NewReader(script.String())}); err != nil {
		t.Fatal(err)
	}
	hash := func(c int) string {
		if c == 0 {
			return ""
		}
		return w.git("rev-parse", fmt.Sprintf("refs/heads/c%d", c))
	}
	for _, c := range []struct{ a, b, want int }{
		{root, feature, root}, {feature, root, root}, {fork, fork, fork}, {main, feature, fork}, {main, updated, main},
		{other, updated, other}, {updated, cross, 0}, {far, fork, 0}, {alien, main, 0},
	} {
		a, b, want := hash(c.a), hash(c.b), hash(c.want)
		got, err := repo.mergeBaseThrough(ctx, a, b)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%d and %d: %.7s, %v, want %.7s", c.a, c.b, got, err, want)
		}
		known, err := w.repo.MergeBase(ctx, a, b)
		if got, err2 := repo.MergeBase(ctx, a, b); err != nil || err2 != nil || got != known || (want != "" && got != want) {
			t.Errorf("%d and %d: %.7s, %v, git says %.7s, %v", c.a, c.b, got, err2, known, err)
		}
	}
}

// A reader that somebody did not wait for is no sign of trouble: another one is started at once.
func TestReaderAfterACancel(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	one := w.commit("one", map[string]string{"a": "1"})
	repo := w.repo
	repo.Readers = w.readers()
	rd, err := repo.Readers.reader(repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := rd.start(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(rd.cmd.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for patience := 10 * time.Millisecond; !rd.over(); patience *= 2 { // until one is so late that it has asked
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := rd.ask(ctx, []question{{about, one}}); err == nil {
			t.Fatal("a stopped process answers")
		}
		cancel()
		if patience > time.Minute {
			t.Fatal("it is still waited for")
		}
	}
	if now := w.one(repo, one); now == rd {
		t.Error("the same reader")
	}
}

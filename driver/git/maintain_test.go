package git

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func (w *work) packed() (names []string) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.repo.Dir, "objects", "pack", "*.pack"))
	if err != nil {
		w.t.Fatal(err)
	}
	return names
}

func (w *work) untidy() bool {
	w.t.Helper()
	untidy, err := w.repo.Untidy()
	if err != nil {
		w.t.Fatal(err)
	}
	return untidy
}

// imports makes a pack of its own with n files in one commit of a branch.
func (w *work) imports(branch string, n int) {
	w.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "commit refs/heads/%s\ncommitter Ann <ann@example.com> 1700000000 +0000\ndata 1\nx\n", branch)
	for i := range n {
		text := fmt.Sprintf("%s %d", branch, i)
		fmt.Fprintf(&b, "M 100644 inline f%d\ndata %d\n%s\n", i, len(text), text)
	}
	cmd := exec.CommandContext(w.t.Context(), "git", "-c", "fastimport.unpackLimit=0", "fast-import", "--quiet")
	cmd.Dir, cmd.Stdin = w.dir, strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git fast-import: %v\n%s", err, out)
	}
}

func TestUntidy(t *testing.T) {
	t.Parallel()
	t.Run("loose objects", func(t *testing.T) {
		t.Parallel()
		w := newWork(t)
		w.commit("few", map[string]string{"a": "1"})
		if w.untidy() {
			t.Error("a commit is worth packing")
		}
		many := map[string]string{}
		for i := range manyLoose {
			many[fmt.Sprintf("f%d", i)] = fmt.Sprint(i)
		}
		w.commit("many", many)
		if !w.untidy() {
			t.Errorf("%d loose objects are not worth packing", manyLoose)
		}
		w.maintain()
	})
	t.Run("packs", func(t *testing.T) {
		t.Parallel()
		w := newWork(t)
		for i := range manyPacks {
			if w.untidy() {
				t.Fatalf("%d packs are worth packing", i)
			}
			w.imports(fmt.Sprint("b", i), 3)
		}
		if !w.untidy() {
			t.Errorf("%d packs are not worth packing", manyPacks)
		}
		w.maintain()
		if n := len(w.packed()); n != 1 {
			t.Errorf("%d packs", n)
		}
	})
	t.Run("packs of very different sizes", func(t *testing.T) {
		t.Parallel()
		w := newWork(t)
		for i := range manyPacks {
			w.imports(fmt.Sprint("b", i), 4<<i-2) // and a commit and its folder
		}
		if n := len(w.packed()); n != manyPacks || w.untidy() {
			t.Errorf("%d packs of which each is twice the one before are worth packing", n)
		}
	})
	t.Run("long history without a graph", func(t *testing.T) {
		t.Parallel()
		w := newWork(t)
		w.imports("main", manyPacked)
		if !w.untidy() {
			t.Error("a large pack without a commit-graph is left so")
		}
		w.maintain()
	})
	t.Run("no repository", func(t *testing.T) {
		t.Parallel()
		if untidy, err := (Repo{Dir: filepath.Join(t.TempDir(), "none")}).Untidy(); untidy || err != nil {
			t.Errorf("%v, %v", untidy, err)
		}
	})
}

// maintain maintains, after which there is nothing to do.
func (w *work) maintain() {
	w.t.Helper()
	if err := w.repo.Maintain(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if w.untidy() {
		w.t.Error("there is something to do again")
	}
}

// Pushes, fetches, clones, readers that stay and commits of the server's own go on while the repository is
// maintained all the time; nothing is lost, also not what no ref holds.
func TestMaintainBesideEverything(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	first := w.commit("first", map[string]string{"a": "0"})
	bare := Repo{Dir: filepath.Join(t.TempDir(), "bare.git"), Readers: NewReaders(t.Context())}
	defer bare.Readers.Close()
	w.git("clone", "--quiet", "--bare", "--no-local", ".", bare.Dir)
	e := &everything{t: t, bare: bare, first: first}
	e.made = append(e.made, first)
	var rounds atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := bare.Maintain(t.Context()); err != nil {
				t.Errorf("maintain: %v", err)
				return
			}
			rounds.Add(1)
		}
	}()
	for again := true; again && !t.Failed(); again = rounds.Load() < 3 {
		e.once()
	}
	close(stop)
	<-stopped
	e.check()
	t.Logf("maintained %d times beside the making of %d commits", rounds.Load(), len(e.made))
}

// everything is what goes on in a repository.
type everything struct {
	t     *testing.T
	bare  Repo
	first string

	mu   sync.Mutex
	made []string
}

func (e *everything) add(commit string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.made = append(e.made, commit)
}

func (e *everything) some() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made[rand.N(len(e.made))]
}

func (e *everything) once() {
	var work sync.WaitGroup
	for i := range 2 {
		work.Go(func() { e.push(i, 12) })
	}
	work.Go(func() { e.write(25) })
	work.Go(func() { e.fetch(12) })
	work.Go(func() { e.read(40) })
	work.Wait()
}

// push pushes a branch of its own, now fast-forward, now forced: what it was at is held by no ref then.
func (e *everything) push(n, times int) {
	w := newWork(e.t)
	for i := range times {
		commit := w.commit(fmt.Sprint("pushed ", i), map[string]string{fmt.Sprint("p", n): strings.Repeat(fmt.Sprint(i, " "), 200)})
		w.git("push", "--quiet", "--force", e.bare.Dir, fmt.Sprintf("HEAD:refs/heads/p%d", n))
		e.add(commit)
		if i%3 == 2 {
			w.git("update-ref", "-d", "HEAD")
		}
	}
}

// write makes commits in the repository itself, which no ref ever holds, as merges are made.
func (e *everything) write(times int) {
	ctx := e.t.Context()
	tree, err := e.bare.output(ctx, "rev-parse", e.first+"^{tree}")
	for i := range times {
		if err != nil {
			e.t.Errorf("write: %v", err)
			return
		}
		var commit string
		if commit, err = e.bare.CommitTree(ctx, NewCommit{Tree: strings.TrimSpace(string(tree)), Parents: []string{e.first}, Message: fmt.Sprint("made ", i), Author: "Ann", Email: "ann@example.com", Time: time.Unix(1700000000, 0)}); err == nil {
			e.add(commit)
		}
	}
}

func (e *everything) fetch(times int) {
	w := newWork(e.t)
	for i := range times {
		if i%4 == 0 {
			w.git("clone", "--quiet", "--no-local", e.bare.Dir, filepath.Join(e.t.TempDir(), "clone"))
		}
		w.git("fetch", "--quiet", e.bare.Dir, "+refs/heads/*:refs/remotes/x/*")
	}
}

// read asks with readers that stay and with commands.
func (e *everything) read(times int) {
	for range times {
		commit := e.some()
		if c, err := e.bare.CommitInfo(e.t.Context(), commit); err != nil || c.Hash != commit {
			e.t.Errorf("read %s: %+v, %v", commit, c, err)
		}
		if _, err := e.bare.IsAncestor(e.t.Context(), e.first, commit); err != nil {
			e.t.Errorf("compare %s: %v", commit, err)
		}
		if _, err := e.bare.FileChanges(e.t.Context(), e.first, commit); err != nil {
			e.t.Errorf("compare the files of %s: %v", commit, err)
		}
	}
}

func (e *everything) check() {
	for _, commit := range e.made {
		if _, err := e.bare.run(e.t.Context(), call{args: []string{"rev-list", "--objects", "--quiet", commit}}); err != nil {
			e.t.Errorf("commit %s is not whole: %v", commit, err)
		}
	}
	if _, err := e.bare.run(e.t.Context(), call{args: []string{"fsck", "--full", "--strict"}}); err != nil {
		e.t.Errorf("fsck: %v", err)
	}
}

// A git that is killed while it writes a pack leaves it half-made. Nothing is lost, the next one does it all,
// and what was left is removed.
func TestMaintainThatIsKilled(t *testing.T) {
	t.Parallel()
	var w *work
	var head string
	var parts []string
	for size := 4 << 20; len(parts) == 0; size *= 2 { // if git was quicker than the kill: it gets more to do
		w = newWork(t)
		noise := make([]byte, size)
		source := rand.NewChaCha8([32]byte{1})
		if _, err := source.Read(noise); err != nil {
			t.Fatal(err)
		}
		head = w.commit("noise", map[string]string{"noise": string(noise)})
		parts = w.killedWhilePacking()
	}
	removed, err := w.repo.RemoveParts(time.Now().Add(-time.Hour))
	if err != nil || len(removed) > 0 {
		t.Errorf("removed %v, %v of a git that may still run", removed, err)
	}
	later := time.Now().Add(time.Second)
	if removed, err = w.repo.RemoveParts(later); err != nil || !slices.Equal(removed, parts) {
		t.Errorf("removed %v, %v; it left %v", removed, err, parts)
	}
	w.git("fsck", "--full")
	if err := w.repo.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.repo.CommitInfo(t.Context(), head); err != nil || len(w.packed()) != 1 {
		t.Errorf("%v; packs %v", err, w.packed())
	}
	if removed, err = w.repo.RemoveParts(later); err != nil || len(removed) > 0 {
		t.Errorf("removed %v, %v where nothing is half-made", removed, err)
	}
	w.git("fsck", "--full")
}

// killedWhilePacking kills a git that packs as soon as there is something half-made, and returns what is: nothing, if
// it had done before it was killed.
func (w *work) killedWhilePacking() (parts []string) {
	w.t.Helper()
	cmd := w.repo.command(w.t.Context(), upkeep(), nil, repacking())
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for len(parts) == 0 {
		select {
		case err := <-done:
			if err != nil {
				w.t.Fatalf("git ended before it was killed: %v", err)
			}
			return nil
		default:
		}
		var err error
		if parts, err = filepath.Glob(filepath.Join(w.repo.Dir, "objects", "pack", "tmp_pack_*")); err != nil {
			w.t.Fatal(err)
		}
	}
	killed := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-done
	if len(w.packed()) > 0 {
		return nil
	}
	if killed != nil {
		w.t.Fatal(killed)
	}
	for i, p := range parts {
		parts[i], _ = filepath.Rel(w.repo.Dir, p)
	}
	return parts
}

func TestRemoveParts(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	w.commit("one", map[string]string{"a": "1"})
	old := time.Now().Add(-48 * time.Hour)
	stale := []string{"objects/aa/tmp_obj_x1", "objects/pack/.tmp-12-pack-aa.idx", "objects/pack/pack-1.keep", "objects/pack/pack-2.keep", "objects/pack/tmp_idx_x", "objects/pack/tmp_pack_x"}
	stay := []string{"objects/pack/pack-3.keep", "objects/pack/pack-4.pack", "objects/pack/tmp_pack_young", "refs/heads/tmp_pack_x"}
	texts := map[string]string{"objects/pack/pack-1.keep": "receive-pack 12 on here\n", "objects/pack/pack-2.keep": "fetch-pack 12 on here\n", "objects/pack/pack-3.keep": "mine\n"}
	for _, name := range slices.Concat(stale, stay) {
		path, at := filepath.Join(w.repo.Dir, name), old
		if strings.HasSuffix(name, "young") {
			at = time.Now()
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(texts[name]), 0o644), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := w.repo.RemoveParts(time.Now().Add(-24 * time.Hour))
	slices.Sort(removed)
	if err != nil || !slices.Equal(removed, stale) {
		t.Errorf("removed %v, %v; want %v", removed, err, stale)
	}
	for _, name := range stay {
		if _, err := os.Stat(filepath.Join(w.repo.Dir, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestMaintainIsCancelled(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	w.commit("one", map[string]string{"a": "1"})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrShutdown)
	if err := w.repo.Maintain(ctx); !errors.Is(err, slipway.ErrShutdown) {
		t.Errorf("%v does not tell why", err)
	}
}

package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func TestPushCloneForceDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.commit("a.txt", "1")
	out, err := w.push("HEAD:refs/heads/main", "-o", "ci=fast")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantText(t, out, "remote: received", "remote: run 7: http://127.0.0.1/runs/7", "[new branch]")
	if w.ref("refs/heads/main") != first {
		t.Error("main did not move")
	}
	p := w.received[0]
	if p.Project != "demo" || p.Actor != "ann" || p.Dir != w.bare || fmt.Sprint(p.Options) != "[ci=fast]" || len(p.Env) != 2 {
		t.Errorf("received %+v", p)
	}
	if c := p.Commands[0]; !c.Created() || c.New != first || c.Forced {
		t.Errorf("received %+v", c)
	}
	second := w.commit("a.txt", "2")
	w.must(w.copy, "push", "origin", "HEAD:main")
	w.must(w.copy, "reset", "--quiet", "--hard", first)
	third := w.commit("a.txt", "3")
	if out, err := w.push("--force", "HEAD:main"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if c := w.received[2].Commands[0]; !c.Forced || c.Old != second || c.New != third {
		t.Errorf("a forced push arrived as %+v", c)
	}
	w.must(w.copy, "push", "origin", "HEAD:refs/heads/topic", "HEAD:refs/tags/v1")
	w.must(w.copy, "push", "origin", ":refs/heads/topic")
	if w.ref("refs/heads/topic") != "" || w.ref("refs/tags/v1") != third {
		t.Error("topic is still there, or v1 is not")
	}
	if c := w.received[4].Commands[0]; !c.Deleted() || c.Old != third {
		t.Errorf("a deletion arrived as %+v", c)
	}
	w.wantTold("receive refs/heads/main, moved refs/heads/main, receive refs/heads/main, moved refs/heads/main, " +
		"receive refs/heads/main, moved refs/heads/main, receive refs/heads/topic, receive refs/tags/v1, " +
		"moved refs/heads/topic, moved refs/tags/v1, receive refs/heads/topic, moved refs/heads/topic")
	other := filepath.Join(t.TempDir(), "clone")
	w.must("", "clone", "--quiet", "--depth=1", w.url("reader"), other)
	if data, err := os.ReadFile(filepath.Join(other, "a.txt")); err != nil || string(data) != "3" {
		t.Errorf("cloned %q, %v", data, err)
	}
}

func TestReceiveSeesQuarantinedObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var content string
	var inside error
	w.receive = func(ctx context.Context, p Push) ([]string, error) {
		var err error
		content, err = cli{p.Dir, p.Env}.git(ctx, "show", p.Commands[0].New+":a.txt")
		_, inside = cli{p.Dir, nil}.git(ctx, "cat-file", "-e", p.Commands[0].New)
		if w.ref("refs/heads/main") != "" {
			t.Error("the ref moved before Receive was asked")
		}
		return nil, err
	}
	w.commit("a.txt", "hello")
	w.must(w.copy, "push", "origin", "HEAD:main")
	if content != "hello" || inside == nil {
		t.Errorf("saw %q; in the repository before the decision: %v", content, inside == nil)
	}
}

func TestRefusedPushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main", "HEAD:refs/tags/old")
	before := w.told()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"notes":       {[]string{"HEAD:refs/notes/x"}, "only branches (refs/heads/), tags (refs/tags/) and refs/for/<branch> can be pushed"},
		"pull":        {[]string{"HEAD:refs/pull/1/head"}, "opened and updated with git push origin HEAD:refs/for/<branch>"},
		"internal":    {[]string{"HEAD:refs/slipway/remote/heads/main"}, "can be pushed"},
		"dash":        {[]string{"HEAD:refs/heads/-x"}, `begin with -`},
		"deep dash":   {[]string{"HEAD:refs/heads/a/--upload-pack=x"}, `begin with -`},
		"shell":       {[]string{"HEAD:refs/heads/a;id"}, "not allowed in a ref"},
		"long":        {[]string{"HEAD:refs/heads/" + strings.Repeat("x", 220)}, "1 to 200"},
		"no base":     {[]string{"HEAD:refs/for/nowhere"}, `there is no branch "nowhere"`},
		"delete for":  {[]string{":refs/for/main"}, "cannot be deleted by a push"},
		"with others": {[]string{"HEAD:refs/heads/good", "HEAD:refs/notes/x"}, "pre-receive hook declined"},
		"dots":        {[]string{"HEAD:refs/heads/a..b"}, "invalid refspec"},
	} {
		out, err := w.push(c.args...)
		if err == nil {
			t.Errorf("%s: was accepted: %s", name, out)
		}
		wantText(t, out, c.want)
	}
	w.wantTold(before)
	if w.ref("refs/heads/good") != "" {
		t.Error("one of several refs moved although another was refused")
	}
	if refs, err := (cli{dir: w.bare}).Refs(t.Context()); err != nil || len(refs) != 2 {
		t.Errorf("refs %v, %v", refs, err)
	}
}

func TestReceiveErrorRefusesThePush(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	head := w.commit("a.txt", "1")
	w.receive = func(context.Context, Push) ([]string, error) {
		return nil, slipway.Errorf(slipway.Forbidden, "refs/heads/main: ann may not push-default\nrefs/heads/b: \x1b[31mred")
	}
	out, err := w.push("HEAD:main", "HEAD:b")
	if err == nil || strings.Contains(out, "\x1b") {
		t.Errorf("accepted, or a terminal sequence got through: %q", out)
	}
	wantText(t, out, "remote: refs/heads/main: ann may not push-default", "remote: refs/heads/b: [31mred", "pre-receive hook declined")
	w.receive = func(context.Context, Push) ([]string, error) { return nil, errors.New("disk image is malformed") }
	out, err = w.push("HEAD:main")
	if err == nil || strings.Contains(out, "malformed") {
		t.Errorf("accepted, or an internal error was shown: %q", out)
	}
	wantText(t, out, "internal error")
	if w.ref("refs/heads/main") != "" {
		t.Error("main moved")
	}
	if _, err := (cli{dir: w.bare}).git(t.Context(), "cat-file", "-e", head); err == nil {
		t.Error("a refused push left its objects in the repository")
	}
	wantText(t, w.log.String(), "disk image is malformed")
}

func TestMovedRefsThatLoseARace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	first := w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	second := w.commit("a.txt", "2")
	w.receive = func(ctx context.Context, p Push) ([]string, error) {
		return nil, cli{dir: w.bare}.UpdateRef(ctx, "refs/heads/main", first, first)
	}
	w.must(w.copy, "push", "origin", "HEAD:side")
	w.receive = func(ctx context.Context, p Push) ([]string, error) {
		_, err := cli{dir: w.bare}.git(ctx, "update-ref", "refs/heads/main", second, first)
		return nil, err
	}
	w.commit("a.txt", "3")
	out, err := w.push("HEAD:main", "HEAD:other")
	if err == nil {
		t.Errorf("main moved twice from one place: %s", out)
	}
	wantText(t, w.told(), "moved refs/heads/other", "refused refs/heads/main")
	if w.ref("refs/heads/main") != second {
		t.Error("main is elsewhere")
	}
	before := w.told()
	wantText(t, w.stale("refs/heads/side", first), "was moved by someone else in the meantime")
	w.wantTold(before)
}

// stale asks to delete a ref as a client does that saw it elsewhere, and returns the answer.
func (w *world) stale(ref, old string) string {
	w.t.Helper()
	var body bytes.Buffer
	if err := writePkt(&body, old+" "+slipway.ZeroHash+" "+ref+"\x00report-status side-band-64k\n"); err != nil {
		w.t.Fatal(err)
	}
	if err := writeFlush(&body); err != nil {
		w.t.Fatal(err)
	}
	status, text, _ := w.get("POST", "/git/demo.git/git-receive-pack", "ann", &body, "Content-Type", "application/x-git-receive-pack-request")
	if status != 200 {
		w.t.Errorf("status %d", status)
	}
	return text
}

// TestPushesComeOneAfterAnother holds one push in Receive while another one wants in.
func TestPushesComeOneAfterAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	first, second := make(chan struct{}), make(chan struct{})
	w.receive = func(_ context.Context, p Push) ([]string, error) {
		if p.Commands[0].Ref == "refs/heads/second" {
			close(second)
			return nil, nil
		}
		if group, err := filepath.Glob(filepath.Join(w.server.pushes, "*", "group")); err != nil || len(group) != 1 {
			t.Errorf("groups of processes: %v, %v", group, err)
		} else if pid, err := os.ReadFile(group[0]); err != nil {
			t.Error(err)
		} else if lock, err := os.Readlink("/proc/" + string(pid) + "/fd/3"); err != nil || filepath.Base(lock) != "lock" {
			t.Errorf("git does not hold the lock by which it is found after a crash: %q, %v", lock, err)
		}
		close(first)
		select {
		case <-second:
			t.Error("a second push was received before the refs of the first moved")
		case <-time.After(time.Second):
		}
		return nil, nil
	}
	done := make(chan error)
	go func() {
		_, err := w.push("HEAD:refs/heads/first")
		done <- err
	}()
	<-first
	if out, err := w.push("HEAD:refs/heads/second"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestConcurrentPushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		dir := filepath.Join(t.TempDir(), "c")
		w.must("", "clone", "--quiet", w.url("ann"), dir)
		w.must(dir, "commit", "--quiet", "--allow-empty", "-m", fmt.Sprint(i))
		wg.Go(func() {
			if out, err := w.git(dir, "push", "origin", fmt.Sprintf("HEAD:refs/heads/b%d", i)); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	refs, err := cli{dir: w.bare}.Refs(t.Context(), "refs/heads")
	if err != nil || len(refs) != n+1 {
		t.Errorf("refs %v, %v", refs, err)
	}
	if got := strings.Count(w.told(), "moved"); got != n+1 {
		t.Errorf("%d moves told, want %d", got, n+1)
	}
	var last string
	for i, call := range strings.Split(w.told(), ", ")[2:] {
		if i%2 == 1 && call != strings.Replace(last, "receive", "moved", 1) {
			t.Errorf("%q came between receive and moved of %q", call, last)
		}
		last = call
	}
}

func TestPropose(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main", "HEAD:refs/heads/rel/x")
	head := w.commit("b.txt", "1")
	out, err := w.push("HEAD:refs/for/main", "-o", "topic=fix", "-o", "title=Fix \x1bit", "-o", "description=why")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantText(t, out, "* [new reference]", "HEAD -> refs/pull/1/head", "remote: pull request refs/pull/1/head", "remote: run 7")
	p := w.proposals[0]
	if p.Base != "main" || p.Topic != "fix" || p.Title != "Fix it" || p.Description != "why" || p.Head != head || p.Actor != "ann" {
		t.Errorf("proposed %+v", p)
	}
	if w.ref("refs/pull/1/head") != head || w.ref("refs/for/main") != "" {
		t.Error("the proposal's ref is not at its head, or refs/for exists")
	}
	w.must(w.copy, "commit", "--quiet", "--amend", "-m", "better")
	amended := w.must(w.copy, "rev-parse", "HEAD")
	out, err = w.push("HEAD:refs/for/main/fix")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wantText(t, out, "HEAD -> refs/pull/1/head (forced update)")
	if w.ref("refs/pull/1/head") != amended {
		t.Error("the amended commit did not reach the pull request")
	}
	out, err = w.push("HEAD:refs/for/main/fix")
	if err != nil {
		t.Fatalf("the same again: %v\n%s", err, out)
	}
	out, err = w.push("HEAD:refs/for/rel/x/other/topic", "HEAD:refs/heads/beside")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if p := w.proposals[3]; p.Base != "rel/x" || p.Topic != "other/topic" {
		t.Errorf("proposed %+v", p)
	}
	want := "propose main, moved refs/pull/1/head, propose main, moved refs/pull/1/head, propose main, " +
		"receive refs/heads/beside, propose rel/x, moved refs/pull/2/head, moved refs/heads/beside"
	if got := w.told(); !strings.HasSuffix(got, want) && !strings.HasSuffix(got, strings.Replace(want,
		"moved refs/pull/2/head, moved refs/heads/beside", "moved refs/heads/beside, moved refs/pull/2/head", 1)) {
		t.Errorf("told %q", got)
	}
	w.must(w.copy, "fetch", "--quiet", "origin", "refs/pull/1/head")
	if _, text, _ := w.get("GET", "/git/demo.git/info/refs?service=git-receive-pack", "ann", nil); strings.Contains(text, "refs/pull") {
		t.Error("every push is told of every pull request")
	}
}

func TestProposeRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	head := w.commit("b.txt", "1")
	w.propose = func(context.Context, Proposal) (Proposed, error) {
		return Proposed{}, slipway.Errorf(slipway.Forbidden, "ann may not open pull requests\nask an admin")
	}
	out, err := w.push("HEAD:refs/for/main")
	if err == nil {
		t.Error("accepted")
	}
	wantText(t, out, "[remote rejected]", "ann may not open pull requests; ask an admin")
	w.propose = func(context.Context, Proposal) (Proposed, error) {
		return Proposed{Ref: "refs/pull/1/head", Old: head}, nil // it does not exist
	}
	w.must(w.copy, "commit", "--quiet", "--amend", "-m", "better")
	if out, err = w.push("HEAD:refs/for/main"); err == nil {
		t.Errorf("accepted: %s", out)
	}
	wantText(t, w.told(), "refused refs/pull/1/head")
	w.propose = func(context.Context, Proposal) (Proposed, error) { return Proposed{Ref: "refs/heads/main"}, nil }
	if out, err = w.push("HEAD:refs/for/main"); err == nil {
		t.Errorf("accepted: %s", out)
	}
	w.must(w.copy, "tag", "-a", "-m", "t", "v9")
	if out, err = w.push("v9:refs/for/main"); err == nil {
		t.Errorf("accepted: %s", out)
	}
	wantText(t, out, "a commit must be proposed")
	if out, err = w.push("HEAD:refs/for/main", "-o", "topic=../x"); err == nil {
		t.Errorf("accepted: %s", out)
	}
	wantText(t, out, "topic")
}

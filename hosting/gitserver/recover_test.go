package gitserver

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestServerStopsDuringReceive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	head := w.commit("a.txt", "1")
	asked := make(chan struct{})
	var cause error
	w.receive = func(ctx context.Context, _ Push) ([]string, error) {
		close(asked)
		<-ctx.Done()
		cause = context.Cause(ctx)
		return nil, cause
	}
	type result struct {
		out string
		err error
	}
	done := make(chan result)
	go func() {
		out, err := w.push("HEAD:main")
		done <- result{out, err}
	}()
	<-asked
	w.stop(slipway.ErrShutdown)
	r := <-done
	if r.err == nil {
		t.Error("accepted")
	}
	wantText(t, r.out, "Slipway is stopping; nothing was changed")
	w.server.Wait()
	if w.ref("refs/heads/main") != "" || !errors.Is(cause, slipway.ErrShutdown) {
		t.Errorf("main moved, or the cause was %v", cause)
	}
	if _, err := (cli{dir: w.bare}).git(t.Context(), "cat-file", "-e", head); err == nil {
		t.Error("objects of a refused push are in the repository")
	}
	if status, _, _ := w.get("GET", "/git/demo.git/info/refs?service=git-upload-pack", "ann", nil); status != 503 {
		t.Errorf("a server that stops answers %d", status)
	}
}

func TestClientHangsUpDuringReceive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	head := w.commit("a.txt", "1")
	ctx, hangUp := context.WithCancel(t.Context())
	w.receive = func(context.Context, Push) ([]string, error) { hangUp(); return nil, nil }
	cmd := exec.CommandContext(ctx, "git", "push", "origin", "HEAD:main")
	cmd.Dir, cmd.Env = w.copy, append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	_ = cmd.Run()
	// git's helper lives on and, cut off, sends the same request again.
	w.http.CloseClientConnections()
	w.server.Wait()
	w.http.Close()
	// Whether git still moves the ref depends on where it was; what is told must agree with it.
	switch got := w.told(); {
	case got == "receive refs/heads/main, moved refs/heads/main" && w.ref("refs/heads/main") == head:
	case got == "receive refs/heads/main, refused refs/heads/main" && w.ref("refs/heads/main") == "":
	default:
		t.Errorf("told %q, and main is at %q", got, w.ref("refs/heads/main"))
	}
}

// TestRecoverAfterKill leaves what a killed server leaves: a folder of pipes with processes that
// wait for it, locks on refs, received objects.
func TestRecoverAfterKill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	p, err := w.server.newPipes(w.bare)
	if err != nil {
		t.Fatal(err)
	}
	hook := orphan(t, p, filepath.Join(w.server.hooks, "pre-receive"))
	kept, err := syscall.Dup(int(p.lock.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	held := os.NewFile(uintptr(kept), "lock")
	stubborn := orphan(t, p, "/bin/sh", "-c", "trap '' HUP; echo ready; cat /dev/stdin; exit 7")
	if err := p.started(stubborn.Process.Pid); err != nil {
		t.Fatal(err)
	}
	p.close()
	late := exec.CommandContext(t.Context(), filepath.Join(w.server.hooks, "pre-receive"))
	late.Env = append(os.Environ(), "SLIPWAY_PUSH="+p.dir)
	late.ExtraFiles = []*os.File{held}
	if err := errors.Join(late.Start(), held.Close()); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(w.bare, "refs", "heads", "main.lock")
	incoming := filepath.Join(w.bare, "objects", "tmp_objdir-incoming-x1")
	for _, err := range []error{os.WriteFile(lock, nil, 0o600), os.WriteFile(filepath.Join(w.bare, "packed-refs.lock"), nil, 0o600), os.Mkdir(incoming, 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.server.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := hook.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("an orphaned hook ended with %v, want refusal", err)
	}
	if err := late.Wait(); !errors.As(err, &exit) { // in the middle of a word, perhaps
		t.Errorf("a hook that came when the server was gone ended with %v, want refusal", err)
	}
	if err := stubborn.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("an orphaned git ended with %v", err)
	}
	for _, name := range []string{lock, filepath.Join(w.bare, "packed-refs.lock"), incoming, p.dir} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	w.commit("a.txt", "2")
	w.must(w.copy, "push", "origin", "HEAD:main")
}

// orphan starts a process of a push and waits until it runs.
func orphan(t *testing.T, p *pipes, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_PUSH="+p.dir)
	cmd.ExtraFiles = p.inherited()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if name != "/bin/sh" {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It has said all it has to say, and waits for the answer.
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := readAsk(bufio.NewReader(p.pre.in), p.nonce); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

// TestHookOfADeadServer kills a whole server process in the middle of a push.
func TestHookOfADeadServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	w.must(w.copy, "push", "origin", "HEAD:main")
	head := w.commit("a.txt", "2")
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), "GITSERVER_BARE="+w.bare, "GITSERVER_STATE="+w.server.State)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	url := waitLine(t, lines, "url ")
	pushed := make(chan error)
	go func() {
		_, err := w.git(w.copy, "push", url, "HEAD:main")
		pushed <- err
	}()
	waitLine(t, lines, "receive ")
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	if err := <-pushed; err == nil {
		t.Error("the client believes that it pushed")
	}
	if err := w.server.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.ref("refs/heads/main") == head {
		t.Error("main moved without a decision")
	}
	w.must(w.copy, "push", "origin", "HEAD:main")
}

func waitLine(t *testing.T, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if text := lines.Text(); len(text) >= len(prefix) && text[:len(prefix)] == prefix {
			return text[len(prefix):]
		}
	}
	t.Fatalf("no line begins with %q: %v", prefix, lines.Err())
	return ""
}

// TestRecoverLeavesOthersAlone has a push that goes on, in this process.
func TestRecoverLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	p, err := w.server.newPipes(w.bare)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.started(0); err != nil { // no group to signal
		t.Fatal(err)
	}
	cancel(slipway.ErrShutdown)
	if err := w.server.Recover(ctx); !errors.Is(err, slipway.ErrShutdown) {
		t.Errorf("a push that goes on was recovered: %v", err)
	}
	if _, err := os.Stat(p.dir); err != nil {
		t.Error(err)
	}
	p.close()
	if err := p.remove(); err != nil {
		t.Error(err)
	}
}

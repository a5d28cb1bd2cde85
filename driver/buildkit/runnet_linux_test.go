package buildkit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-cd/slipway"
)

// A thread that was in another network is there afterwards, and at home: with it would end what it has started, as git in
// the middle of a push.
func TestThreadsComeHome(t *testing.T) {
	e2e(t)
	home, err := os.Readlink(ownNetwork)
	if err != nil {
		t.Fatal(err)
	}
	enter := func() error { return unix.Unshare(unix.CLONE_NEWNET) }
	failed := errors.New("went wrong")
	threads := map[int]bool{}
	for i := range 40 {
		err := elsewhere(enter, func() error {
			threads[unix.Gettid()] = true
			if there, err := os.Readlink(ownNetwork); err != nil || there == home {
				return fmt.Errorf("at home: %s, %v", there, err)
			}
			if i%2 == 0 {
				return failed
			}
			return nil
		})
		if i%2 == 0 != errors.Is(err, failed) {
			t.Fatal(err)
		}
	}
	for id := range threads {
		at, err := os.Readlink(fmt.Sprintf("/proc/self/task/%d/ns/net", id))
		if err != nil || at != home {
			t.Errorf("thread %d of %d is in %q, not in %q: %v", id, len(threads), at, home, err)
		}
	}
	if err := elsewhere(func() error { return failed }, func() error { t.Error("it was not entered"); return nil }); !errors.Is(err, failed) {
		t.Error(err)
	}
}

// Between a container being set up and running there is nothing to check, nothing is said of that, and it does not count
// for how long the service has.
func TestChecksWaitForTheContainer(t *testing.T) {
	dir := t.TempDir()
	l := layout{dir: dir, runc: filepath.Join(dir, "runc")}
	bundle, status := filepath.Join(l.state(), "runc-overlayfs", "executor", "c1"), filepath.Join(dir, "status")
	for _, folder := range []string{bundle, l.join("db.1")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	asked := filepath.Join(dir, "asked")
	write(l.runc, `#!/bin/sh
echo "$3" >> `+asked+`
test -e `+status+` || { echo "exec failed: container does not exist"; exit 1; }
case "$3" in
state) cat `+status+` ;;
*) echo "not yet"; exit 2 ;;
esac
`, 0o700)
	t.Parallel() // a program that is being written while another test starts one cannot be run
	log := &logged{}
	b := &beside{net: &runNet{layout: l}, log: log, now: time.Now}
	const limit = 5 * time.Second
	s := &service{spec: slipway.TestService{Name: "db", Health: []string{"ready"}, Timeout: slipway.Duration(limit)}, host: "db.1", group: "[service] db", out: &lastLines{log: log}}
	if b.net.runs(t.Context(), s.host) {
		t.Error("it runs before it is set up")
	}
	write(filepath.Join(bundle, "config.json"), `{"hostname": "db.1", "process": {"user": {}}}`, 0o600)
	ended := make(chan error, 1)
	go func() { ended <- b.await(t.Context(), s) }()
	asks := func() int { return len(strings.Fields(read(t, asked))) }
	awaitAsks := func(more int) {
		t.Helper()
		before := asks()
		if !poll(t.Context(), patience, func() bool { return asks() >= before+more || len(ended) > 0 }) || len(ended) > 0 {
			t.Fatalf("it was asked %d times, and ended: %v", asks(), <-ended)
		}
	}
	awaitAsks(2) // runc does not know it
	write(status, `{"status": "created"}`, 0o600)
	awaitAsks(2)
	began := time.Now()
	write(status+".new", `{"status": "running"}`, 0o600)
	if err := os.Rename(status+".new", status); err != nil {
		t.Fatal(err)
	}
	var down *downError
	if err := <-ended; !errors.As(err, &down) || !strings.HasPrefix(down.Message, "was not healthy after 5s: ready") || time.Since(began) < limit {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if len(log.lines) != 1 || log.lines[0].Text != "health: not yet" {
		t.Errorf("%+v", log.lines)
	}
}

// read is what a file holds, nothing while there is none.
func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

// logged keeps the lines of a log.
type logged struct{ lines []slipway.LogLine }

func (l *logged) Line(line slipway.LogLine) { l.lines = append(l.lines, line) }

func (l *logged) Printf(string, ...any) {}

package buildkit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// Between a container being set up and running there is nothing to check, and nothing is said of that.
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
	write(l.runc, `#!/bin/sh
test -e `+status+` || { echo "exec failed: container does not exist"; exit 1; }
case "$3" in
state) cat `+status+` ;;
*) echo "not yet"; exit 2 ;;
esac
`, 0o700)
	t.Parallel() // a program that is being written while another test starts one cannot be run
	log := &logged{}
	b := &beside{net: &runNet{layout: l}, log: log, now: time.Now}
	s := &service{spec: slipway.TestService{Name: "db", Health: []string{"ready"}}, host: "db.1", group: "[service] db"}
	var c check
	ask := func(wantLacks string, wantLines int) {
		t.Helper()
		if b.check(t.Context(), s, &c) || c.lacks != wantLacks || len(log.lines) != wantLines {
			t.Errorf("lacks %q, said %+v", c.lacks, log.lines)
		}
	}
	ask("its container does not run", 0) // it is not set up
	write(filepath.Join(bundle, "config.json"), `{"hostname": "db.1", "process": {"user": {}}}`, 0o600)
	ask("its container does not run", 0) // runc does not know it
	write(status, `{"status": "created"}`, 0o600)
	ask("its container does not run", 0)
	write(status, `{"status": "running"}`, 0o600)
	ask("ready: not yet", 1)
	if log.lines[0].Text != "health: not yet" {
		t.Errorf("%+v", log.lines)
	}
}

// logged keeps the lines of a log.
type logged struct{ lines []slipway.LogLine }

func (l *logged) Line(line slipway.LogLine) { l.lines = append(l.lines, line) }

func (l *logged) Printf(string, ...any) {}

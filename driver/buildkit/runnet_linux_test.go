package buildkit

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
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

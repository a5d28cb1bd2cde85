package e2e_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// TestDiskFull pushes to a server whose disk is full: the push is refused, the ref stays, and when
// there is room again the same push works.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk := filepath.Join(place, "sites", "full", "disk")
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=96m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "full", siteOptions{data: filepath.Join(disk, "data")})
	r := s.project(t, "full", tree{"README": "no service\n"})
	s.until(t, r.push("main").ID, slipway.RunSucceeded)

	large := make([]byte, 4<<20)
	rand.Read(large) //nolint:errcheck // it cannot fail
	commit := r.commit("Four megabytes that cannot be compressed", tree{"large": string(large)})
	for _, room := range []int64{1 << 20, 560 << 10, 64 << 10, 0} {
		ballast := fill(t, disk, room)
		r.refused("ada", "HEAD:refs/heads/feature/large", "")
		out, err := r.pushAs(t.Context(), "ada", "HEAD:refs/heads/feature/large")
		if err == nil || !mentions(out, "No space left on device", "disk is full") {
			t.Errorf("with %d bytes of room the push says: %s", room, out)
		}
		if runs := runsOf(t, r, "refs/heads/feature/large"); len(runs) != 0 {
			t.Errorf("a refused push made runs: %+v", runs)
		}
		if !slipwaytest.Answers(t.Context(), s.url()+"/healthz") {
			t.Error("the server does not answer any more")
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	run := r.push("HEAD:refs/heads/feature/large")
	s.until(t, run.ID, slipway.RunSucceeded)
	if got := r.remote("refs/heads/feature/large"); got != commit {
		t.Errorf("the ref is %s, not %s", got, commit)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	wantChain(t, s)
}

// fill writes a file that leaves only that much room.
func fill(t *testing.T, disk string, room int64) string {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	size := int64(0)
	for err == nil {
		var n int
		n, err = f.Write(block)
		size += int64(n)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Truncate(size - room); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/slipway-cd/slipway/slipwaytest"
)

// startRun starts `slipway run` in a process of its own, and waits until it asks for BuildKit, which never answers.
func startRun(t *testing.T, dir, temp string) (kill func()) {
	t.Helper()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	cmd := slipwayIn(t, dir, temp, "run", "--buildkit", "tcp://"+silent.Addr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	kill = func() { cmd.Process.Kill(); <-ended }
	t.Cleanup(kill)
	go func() { cmd.Wait(); silent.Close(); close(ended) }()
	asked, err := silent.Accept()
	if err != nil {
		t.Fatal("the run ended before it asked for BuildKit")
	}
	t.Cleanup(func() { asked.Close() })
	return kill
}

func slipwayIn(t *testing.T, dir, temp string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Args[0] = "slipway" // see TestMain
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1")
	return cmd
}

// What a killed run left is removed by the next command, and nothing that is somebody's.
func TestFoldersOfKilledRunsAreRemoved(t *testing.T) {
	t.Parallel()
	dir, _ := slipwaytest.Repository(t)
	slipwaytest.Write(t, dir, "Dockerfile", "FROM scratch\n")
	temp := t.TempDir()
	folders := func() []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(temp, "slipway-*"))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(found)
		return found
	}
	var kept []string
	for _, name := range []string{"slipway-run-notes", "slipway-run-1"} { // a person's own; one that is no run's
		kept = append(kept, filepath.Join(temp, name))
		if err := os.Mkdir(filepath.Join(temp, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	slipwaytest.Write(t, kept[0], "lock", "")
	slipwaytest.Write(t, kept[1], "kept", "")
	kill := startRun(t, dir, temp)
	left := slices.DeleteFunc(folders(), func(f string) bool { return slices.Contains(kept, f) })
	if len(left) != 1 {
		t.Fatalf("a run has %q", left)
	}
	kill()
	startRun(t, dir, temp)
	during := slices.DeleteFunc(folders(), func(f string) bool { return slices.Contains(kept, f) })
	if len(during) != 1 || during[0] == left[0] {
		t.Fatalf("after a run that was killed and left %q, the next one has %q", left, during)
	}
	want := append(slices.Clone(kept), during...)
	slices.Sort(want)
	for _, args := range [][]string{{"plan"}, {"init", "--dry-run"}, {"validate"}} {
		if out, err := slipwayIn(t, dir, temp, args...).CombinedOutput(); err != nil {
			t.Fatalf("slipway %s: %v\n%s", args[0], err, out)
		}
		if got := folders(); !slices.Equal(got, want) {
			t.Errorf("slipway %s beside a run leaves %q, want %q", args[0], got, want)
		}
	}
}

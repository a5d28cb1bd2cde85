package gitserver

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// By default git syncs neither objects in files of their own nor refs: an accepted push would be lost to a power cut.
func TestAPushIsSynced(t *testing.T) {
	base := t.TempDir()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	// git tells at its end how often it synced; a server's git sees no other variable of this process than PATH.
	trace := filepath.Join(base, "trace")
	script := fmt.Sprintf("#!/bin/sh\nGIT_TRACE2_EVENT=%s exec %s \"$@\"\n", trace, git)
	if err := os.WriteFile(filepath.Join(base, "git"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, nil)
	w.commit("a.txt", "1")
	t.Setenv("PATH", base+":"+os.Getenv("PATH"))
	w.must(w.copy, "push", "origin", "HEAD:main")
	flushed := flushes(t, trace)
	for _, name := range []string{"unpack-objects", "receive-pack"} {
		if flushed[name] == 0 {
			t.Errorf("git %s synced nothing: %v", name, flushed)
		}
	}
}

// flushes is how often each git command waited for the disk.
func flushes(t *testing.T, trace string) map[string]int {
	t.Helper()
	told, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	names, counts := map[string]string{}, map[string]int{}
	for line := range strings.Lines(string(told)) {
		var e struct{ Event, SID, Name, Key, Value string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // other events have values of other kinds
		}
		switch {
		case e.Event == "cmd_name":
			names[e.SID] = e.Name
		case e.Event == "data" && e.Key == "fsync/hardware-flush":
			n, err := strconv.Atoi(e.Value)
			if err != nil {
				t.Fatal(err)
			}
			counts[names[e.SID]] += n
		}
	}
	return counts
}

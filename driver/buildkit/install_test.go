//go:build unix

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

// fakeGo puts a program named go first in PATH that "downloads" a folder and "builds" by the script.
func fakeGo(t *testing.T, build string) (calls func() string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "calls")
	script := fmt.Sprintf("#!/bin/sh\necho \"$1 $PWD $GOFLAGS\" >> %s\nif [ \"$1\" = mod ]; then echo '{\"Dir\": \"%s\"}'; exit; fi\n"+
		"while [ \"$1\" != -o ]; do shift; done; out=$2\n%s\n", log, dir, build)
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("GOFLAGS", "-mod=vendor")
	return func() string {
		raw, err := os.ReadFile(log)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(raw)
	}
}

func TestInstall(t *testing.T) {
	calls := fakeGo(t, `echo github.com/a/b >&2; printf '#!/bin/sh\n' > "$out"; chmod +x "$out"`)
	opts := Options{Dir: "/x", Tools: filepath.Join(t.TempDir(), "tools")}
	var told []string
	var mu sync.Mutex
	opts.Progress = func(l string) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, l)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			got, err := Install(t.Context(), opts)
			if err != nil || got != filepath.Join(opts.Tools, "buildkitd-"+Version) {
				t.Errorf("%s %v", got, err)
			}
		})
	}
	all.Wait()
	if got := strings.Count(calls(), "build"); got != 1 {
		t.Errorf("built %d times:\n%s", got, calls())
	}
	if strings.Contains(calls(), "vendor") {
		t.Errorf("the caller's flags are used:\n%s", calls())
	}
	if len(told) != 2 || !strings.Contains(told[1], "is built") {
		t.Errorf("told %q", told)
	}
}

func TestInstallFails(t *testing.T) {
	fakeGo(t, `echo 'x.go:1: no space left' >&2; exit 1`)
	opts := Options{Dir: "/x", Tools: t.TempDir()}
	_, err := Install(t.Context(), opts)
	if !slipway.Temporary(err) || !strings.Contains(err.Error(), "x.go:1: no space left") {
		t.Errorf("got %v", err)
	}
	for _, f := range entriesOf(t, opts.Tools) {
		if !strings.HasSuffix(f, ".lock") {
			t.Errorf("left %s", f)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrShutdown)
	if _, err := Install(ctx, opts); err == nil {
		t.Error("installed although cancelled")
	}
}

func entriesOf(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

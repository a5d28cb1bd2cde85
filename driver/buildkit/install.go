package buildkit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const module = "github.com/moby/buildkit"

// Install builds buildkitd from the Go module proxy unless it is there already, and returns its path.
// It takes some minutes the first time; opts.Progress is told how far it is. It may be called before a
// server is started, or left to the first build.
func Install(ctx context.Context, opts Options) (string, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return "", err
	}
	return install(ctx, opts)
}

func install(ctx context.Context, opts Options) (string, error) {
	binary := filepath.Join(opts.Tools, "buildkitd-"+Version)
	if isProgram(binary) {
		return binary, nil
	}
	if err := os.MkdirAll(opts.Tools, 0o755); err != nil {
		return "", fmt.Errorf("folder for tools: %w", err)
	}
	unlock, err := waitLock(ctx, binary+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isProgram(binary) { // built by another process while we waited
		return binary, nil
	}
	goTool, err := lookGo()
	if err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "buildkitd %s is not installed and Go, to build it, neither: install Go, or put the program at %s", Version, binary)
	}
	begin := opts.Now()
	opts.Progress("buildkitd " + Version + " is built from source, once: some minutes")
	dir, err := download(ctx, goTool, opts)
	if err != nil {
		return "", err
	}
	if err := compile(ctx, goTool, dir, binary, opts); err != nil {
		return "", err
	}
	opts.Progress(fmt.Sprintf("buildkitd %s is built (%s)", Version, opts.Now().Sub(begin).Round(time.Second)))
	return binary, nil
}

// download fetches the module's source, checked against the checksum database as any module.
func download(ctx context.Context, goTool string, opts Options) (string, error) {
	cmd := exec.CommandContext(ctx, goTool, "mod", "download", "-json", module+"@"+Version)
	cmd.Dir = opts.Tools
	cmd.Env = goEnv()
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	var got struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &got); err == nil {
		err = jsonErr
	}
	if got.Error != "" {
		err = errors.New(got.Error)
	}
	if err != nil {
		return "", slipway.Errorf(slipway.Unavailable, "download BuildKit %s: %w %s", Version, err, bytes.TrimSpace(errOut.Bytes()))
	}
	return got.Dir, nil
}

// compile builds in the module's own folder, so that its own go.sum and exclusions hold.
func compile(ctx context.Context, goTool, dir, binary string, opts Options) error {
	tmp := binary + ".tmp"
	defer os.Remove(tmp)
	cmd := exec.CommandContext(ctx, goTool, "build", "-v", "-trimpath",
		"-ldflags", "-s -w -X "+module+"/version.Version="+Version, "-o", tmp, "./cmd/buildkitd")
	cmd.Dir = dir
	cmd.Env = append(goEnv(), "CGO_ENABLED=0")
	cmd.WaitDelay = time.Second
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build buildkitd: %w", err)
	}
	last := countPackages(stderr, opts)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return slipway.Errorf(slipway.Unavailable, "build buildkitd: %w: %s", err, last)
	}
	if err := synced(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, binary)
}

// synced makes sure that a file is whole under the name that it gets, also after a power cut: what has the name
// is never made again.
func synced(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// countPackages tells every few seconds how many packages are compiled, and returns the last lines.
func countPackages(r io.Reader, opts Options) string {
	var tail []string
	n, told := 0, opts.Now()
	for s := bufio.NewScanner(r); s.Scan(); {
		n++
		if tail = append(tail, s.Text()); len(tail) > 5 {
			tail = tail[1:]
		}
		if now := opts.Now(); now.Sub(told) > 3*time.Second {
			told = now
			opts.Progress(fmt.Sprintf("buildkitd %s: %d packages compiled of about 1,200", Version, n))
		}
	}
	return strings.Join(tail, "; ")
}

// goEnv is the environment without what would make the build depend on the caller's module.
func goEnv() []string {
	return append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GO111MODULE=on")
}

// lookGo finds Go in PATH or where its own installation puts it.
func lookGo() (string, error) {
	if path, err := exec.LookPath("go"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/local/go/bin/go")
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// Package tool builds the binaries a local cluster executes but does not link
// (Kubernetes, CoreDNS, the pause program) with `go build`, once for every
// version of their sources, into a cache folder.
//
// It does not download anything itself, and it never removes a cached binary.
package tool

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"syscall"
	"time"
)

// Tool is a Go main package that is built on this machine.
type Tool struct {
	// Name is the first part of the binary's file name.
	Name string
	// Dir is the folder of the main package.
	Dir string
	// Module, when set, is a requirement of Dir's go.mod whose version names
	// the binary and replaces VERSION in LinkerFlags.
	Module string
	// LinkerFlags are passed to the Go linker next to "-s -w".
	LinkerFlags string
}

// Cache is a folder of built tools.
type Cache struct {
	// Dir holds one file for each tool and version of its sources.
	Dir string
	// Progress receives a line now and then while a build runs.
	Progress io.Writer
}

// DefaultDir returns $SLIPWAY_TOOLS, or else slipway/tools in the user's cache
// folder.
func DefaultDir() (string, error) {
	if dir := os.Getenv("SLIPWAY_TOOLS"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (SLIPWAY_TOOLS names one): %w", err)
	}
	return filepath.Join(base, "slipway", "tools"), nil
}

// Path returns where the binary of t is kept, whether it is built or not.
func (c Cache) Path(t Tool) (string, error) {
	version, err := t.version()
	if err != nil {
		return "", err
	}
	hash, err := t.hash()
	if err != nil {
		return "", err
	}
	return filepath.Join(c.Dir, t.Name+"-"+version+"-"+hash), nil
}

// Get returns the path of t's binary and builds it first if it is missing.
// Concurrent calls, also of several processes, build it once. A build that is
// cut short leaves no binary.
func (c Cache) Get(ctx context.Context, t Tool) (string, error) {
	path, err := c.Path(t)
	if err != nil {
		return "", err
	}
	if executable(path) {
		return path, nil
	}
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return "", fmt.Errorf("make the tool cache: %w", err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return "", fmt.Errorf("lock %s: %w", path, err)
	}
	defer unlock()
	if executable(path) {
		return path, nil
	}
	if err := c.build(ctx, t, path); err != nil {
		return "", fmt.Errorf("build %s: %w", t.Name, err)
	}
	return path, nil
}

func (c Cache) build(ctx context.Context, t Tool, path string) error {
	part := fmt.Sprintf("%s.%d.part", path, os.Getpid())
	defer os.Remove(part)
	flags, err := t.linkerFlags()
	if err != nil {
		return err
	}
	total := packages(ctx, t.Dir)
	fmt.Fprintf(c.Progress, "compiling %s (%d packages; once, then cached in %s)\n", t.Name, total, c.Dir)

	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-trimpath", "-ldflags", flags, "-o", part, ".")
	cmd.Dir = t.Dir
	cmd.Env = environment()
	output, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start go build: %w", err)
	}
	// The compiler is not in a hurry; whatever else this machine does is.
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, 5)
	rest := c.follow(t.Name, total, output)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("go build in %s: %w\n%s", t.Dir, err, strings.Join(rest, "\n"))
	}
	if err := synced(part); err != nil {
		return err
	}
	return os.Rename(part, path)
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

// follow reads the output of `go build -v` to its end, reports how many
// packages it named every ten seconds and returns the lines that are not
// package names.
func (c Cache) follow(name string, total int, output io.Reader) []string {
	lines := make(chan string)
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(output)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	start := time.Now()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	var rest []string
	done := 0
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return rest
			}
			if packageName(line) {
				done++
			} else {
				rest = append(rest, line)
			}
		case <-tick.C:
			fmt.Fprintf(c.Progress, "compiling %s: %d of at most %d packages, %s\n",
				name, done, total, time.Since(start).Round(time.Second))
		}
	}
}

// packageName tells a line of `go build -v` from a message of the compiler.
func packageName(line string) bool {
	return line != "" && !strings.ContainsAny(line, " :#")
}

func packages(ctx context.Context, dir string) int {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", ".")
	cmd.Dir, cmd.Env = dir, environment()
	out, err := cmd.Output()
	if err != nil {
		return 0
	}
	return strings.Count(string(out), "\n")
}

// environment is the caller's without settings that would change the result:
// the tools are static, and each is a module of its own.
func environment() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
}

func (t Tool) linkerFlags() (string, error) {
	version, err := t.version()
	if err != nil {
		return "", err
	}
	return strings.TrimSpace("-s -w " + strings.ReplaceAll(t.LinkerFlags, "VERSION", version)), nil
}

// version is that of t.Module in t's go.mod, or "local" when t names none.
func (t Tool) version() (string, error) {
	if t.Module == "" {
		return "local", nil
	}
	file := filepath.Join(t.Dir, "go.mod")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the version of %s: %w", t.Name, err)
	}
	required := regexp.MustCompile(`(?m)^(?:require)?\s*` + regexp.QuoteMeta(t.Module) + `\s+(v\S+)`)
	match := required.FindSubmatch(data)
	if match == nil {
		return "", fmt.Errorf("%s does not require %s", file, t.Module)
	}
	return string(match[1]), nil
}

// hash covers everything that decides what the binary does: go.mod, go.sum,
// the Go files and the linker flags.
func (t Tool) hash() (string, error) {
	files, err := filepath.Glob(filepath.Join(t.Dir, "*.go"))
	if err != nil {
		return "", err
	}
	if len(files) == 0 {
		return "", fmt.Errorf("no sources of %s in %s", t.Name, t.Dir)
	}
	files = append(files, filepath.Join(t.Dir, "go.mod"), filepath.Join(t.Dir, "go.sum"))
	sort.Strings(files)
	sum := sha256.New()
	fmt.Fprintln(sum, t.LinkerFlags)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read the sources of %s: %w", t.Name, err)
		}
		fmt.Fprintf(sum, "%s %d\n", filepath.Base(file), len(data))
		sum.Write(data)
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// lock takes an exclusive lock and waits for it.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		file.Close()
		return nil, err
	}
	return func() {
		os.Remove(path)
		file.Close()
	}, nil
}

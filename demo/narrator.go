package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// narrator tells a person what happens and how long each step takes.
type narrator struct {
	w      io.Writer
	began  time.Time
	colour bool

	mu    sync.Mutex
	open  string
	since time.Time
}

func colour(f *os.File) bool {
	return term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""
}

func (n *narrator) paint(code, s string) string {
	if !n.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// step ends the step before with its time and begins another.
func (n *narrator) step(format string, args ...any) {
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open, n.since = fmt.Sprintf(format, args...), time.Now()
	fmt.Fprintf(n.w, "\n%s %s\n", n.paint("1;34", "▸"), n.paint("1", n.open))
}

func (n *narrator) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open != "" {
		fmt.Fprintf(n.w, "%s\n", n.paint("2", fmt.Sprintf("  %.1f s", time.Since(n.since).Seconds())))
	}
	n.open = ""
}

// detail says more about the step.
func (n *narrator) detail(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.w, "  %s\n", n.paint("2", fmt.Sprintf(format, args...)))
}

// shown is a command as a person would type it.
func shown(name string, args []string) string {
	words := []string{filepath.Base(name)}
	for _, a := range args {
		if strings.ContainsAny(a, " \"'") {
			a = "'" + a + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// command runs a program, showing the command and what it prints.
func (n *narrator) command(ctx context.Context, env []string, name string, args ...string) error {
	_, err := n.output(ctx, "", env, name, args...)
	return err
}

// output is command that also returns what was printed.
func (n *narrator) output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	n.mu.Lock()
	fmt.Fprintf(n.w, "  %s %s\n", n.paint("32", "$"), shown(name, args))
	n.mu.Unlock()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return "", err
	}
	var all bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(pipe, &all))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		n.mu.Lock()
		fmt.Fprintf(n.w, "    %s\n", lines.Text())
		n.mu.Unlock()
	}
	if err := cmd.Wait(); err != nil {
		return all.String(), fmt.Errorf("%s: %w", shown(name, args), err)
	}
	return all.String(), nil
}

// quiet runs a program and shows it only when it does not succeed.
func quiet(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", shown(name, args), err, out)
	}
	return string(out), nil
}

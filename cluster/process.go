package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running program this package started, or found again by its
// pid file.
type process struct {
	pid int
	// gone is closed when the process ended; it is nil for a process of an
	// earlier run.
	gone chan struct{}
}

// start runs a program in a session of its own, so that it outlives this
// process, writes its output to the component's log and its number to the pid
// file. A component that runs must not be started again.
func (c *Cluster) start(name string, args []string, env []string) (process, error) {
	log, err := os.OpenFile(c.LogFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return process{}, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(c.path("bin", name), args...)
	cmd.Dir = c.Dir
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + c.path("run"),
	}, env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start %s: %w", name, err)
	}
	p := process{pid: cmd.Process.Pid, gone: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the log tells why it ended
		close(p.gone)
	}()
	if err := writeFile(c.pidFile(name), []byte(strconv.Itoa(p.pid)+"\n"), 0o644); err != nil {
		return p, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (c *Cluster) pidFile(name string) string { return c.path("run", name+".pid") }

// find returns the process of a component, or pid 0 if it does not run. A pid
// file whose number meanwhile belongs to another program does not count, and a
// process whose file is gone is found too.
func (c *Cluster) find(name string) process {
	is := func(pid int) bool {
		args := commandLine(pid)
		return len(args) > 0 && args[0] == c.path("bin", name)
	}
	data, err := os.ReadFile(c.pidFile(name))
	if err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && is(pid) {
			return process{pid: pid}
		}
	}
	for _, pid := range allProcesses() {
		if is(pid) {
			return process{pid: pid}
		}
	}
	return process{}
}

// allProcesses lists the processes of this machine.
func allProcesses() []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processes finds every process of the cluster, whether a pid file names it or
// not: components by the path they were started under, shims by containerd's
// address, and everything in the pods' control groups.
func (c *Cluster) processes() []int {
	found := map[int]bool{}
	for _, pid := range allProcesses() {
		if c.owns(commandLine(pid)) {
			found[pid] = true
		}
	}
	for _, pid := range groupProcesses(c.groups()) {
		found[pid] = true
	}
	delete(found, os.Getpid())
	var pids []int
	for pid := range found {
		pids = append(pids, pid)
	}
	return pids
}

// owns tells whether a command line is that of a component or a shim of c.
func (c *Cluster) owns(args []string) bool {
	if len(args) == 0 {
		return false
	}
	if filepath.Dir(args[0]) == c.path("bin") {
		return true
	}
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") {
		return false
	}
	for _, arg := range args {
		if arg == c.containerdSocket() {
			return true
		}
	}
	return false
}

// killAll kills every process of the cluster and returns when none is left.
func (c *Cluster) killAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return until(ctx, 20*time.Millisecond, func(context.Context) error {
		pids := c.processes()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return fmt.Errorf("processes %v are still there", pids)
	})
}

// commandLine returns a process's arguments, or nothing for one that ended,
// also if its parent has not noticed yet.
func commandLine(pid int) []string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || len(data) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
}

// memory is a process's share of the machine's memory in bytes: what it has
// alone, and its part of what it shares, so that a sum counts nothing twice.
// Five components share one binary of 139 MB.
func memory(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(data), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Pss:" {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}

// command runs a program and returns its output; the error contains what it
// wrote to its standard error.
func command(ctx context.Context, name string, args ...string) (string, error) {
	return commandInput(ctx, "", name, args...)
}

func commandInput(ctx context.Context, input, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// until calls done at once and then at every interval, until it returns nil or
// ctx ends; then the error says what was still missing.
func until(ctx context.Context, interval time.Duration, done func(context.Context) error) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var last error
	for {
		err := done(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", last, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// untilAlive is until for something a component does: it also ends when that
// component does, and the error then ends with the component's last words.
func (c *Cluster) untilAlive(ctx context.Context, name string, p process, done func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-p.gone:
			cancel(errors.New(name + " ended"))
		case <-stop:
		}
	}()
	err := until(ctx, 50*time.Millisecond, done)
	if err != nil {
		return fmt.Errorf("%w; the end of %s:\n%s", err, c.LogFile(name), lastLines(c.LogFile(name), 12))
	}
	return nil
}

// lastLines returns the end of a file, each line cut to a readable length.
func lastLines(file string, count int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	lines = lines[max(0, len(lines)-count):]
	for i, line := range lines {
		if len(line) > 400 {
			lines[i] = line[:400] + "..."
		}
	}
	return strings.Join(lines, "\n")
}

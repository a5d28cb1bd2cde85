package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
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

// process is a daemon's process as its record names it: the number alone may be another's by now.
type process struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`  // clock ticks after boot
	Config string `json:"config"` // hash of what it was started with
}

// startTime reads when a process started; false when there is none, or only its corpse.
func startTime(pid int) (uint64, bool) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The name in parentheses may hold anything; the fields after it are numbers.
	_, rest, ok := bytes.Cut(raw[bytes.LastIndexByte(raw, ')'):], []byte(" "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return start, err == nil
}

func (p process) alive() bool {
	start, ok := startTime(p.PID)
	return p.PID > 1 && ok && start == p.Start
}

// signal sends a signal unless the process is gone.
func (p process) signal(sig syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(p.PID, sig) // it may end right now
	}
}

const pollInterval = 20 * time.Millisecond

// waitGone waits until the process has ended.
func (p process) waitGone(ctx context.Context, limit time.Duration) bool {
	return poll(ctx, limit, func() bool { return !p.alive() })
}

// poll asks until the answer is yes, the limit has passed or ctx is done.
func poll(ctx context.Context, limit time.Duration, ask func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if ask() {
			return true
		}
		select {
		case <-ctx.Done():
			return ask()
		case <-tick.C:
		}
	}
}

func readProcess(file string) (process, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return process{}, false
	}
	var p process
	if json.Unmarshal(raw, &p) != nil {
		return process{}, false
	}
	return p, true
}

// spawn starts the daemon in a session of its own, so that it outlives this process, and records it.
func spawn(l layout, config string, groups []uint32, getenv func(string) string) (process, error) {
	if info, err := os.Stat(l.log()); err == nil && info.Size() > 10<<20 {
		if err := os.Rename(l.log(), l.log()+".1"); err != nil {
			return process{}, err
		}
	}
	logFile, err := os.OpenFile(l.log(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return process{}, err
	}
	defer logFile.Close()
	cmd := exec.Command(l.binary, "--config", l.config())
	cmd.Dir = l.dir
	cmd.Env = daemonEnv(l, getenv)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if len(groups) > 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Groups: groups} // root, and its group, as before
	}
	if err := cmd.Start(); err != nil {
		return process{}, fmt.Errorf("start buildkitd: %w", err)
	}
	start, _ := startTime(cmd.Process.Pid)
	p := process{PID: cmd.Process.Pid, Start: start, Config: config}
	go func() { _ = cmd.Wait() }() // only to bury it: the supervisor sees by itself that it is gone
	raw, err := json.Marshal(p)
	if err == nil {
		err = writeFile(l.record(), raw)
	}
	if err != nil {
		p.signal(syscall.SIGKILL)
		return process{}, fmt.Errorf("record buildkitd: %w", err)
	}
	return p, nil
}

// daemonEnv holds what the daemon needs, and none of Slipway's own variables.
func daemonEnv(l layout, getenv func(string) string) []string {
	env := []string{
		"PATH=" + filepath.Dir(l.runc) + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + l.dir, "TMPDIR=" + l.tmp(),
		// BuildKit cuts the output of a step at 2 MiB, and at 200 kB a second.
		"BUILDKIT_STEP_LOG_MAX_SIZE=16777216", "BUILDKIT_STEP_LOG_MAX_SPEED=-1",
	}
	for _, k := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
	} {
		if v := getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// writeFile replaces a file as a whole.
func writeFile(name string, data []byte) error {
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// logTail is the last of what the daemon said, for the error of a start that does not work.
func logTail(file string, limit int64) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		if _, err := f.Seek(-limit, 2); err != nil {
			return ""
		}
	}
	buf := make([]byte, limit)
	n, err := f.Read(buf)
	if err != nil && !errors.Is(err, os.ErrClosed) && n == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(buf[:n])), "\n")
	return lines[len(lines)-1]
}

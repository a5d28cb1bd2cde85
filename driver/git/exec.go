package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	maxOutput = 256 << 20 // of one git command, in bytes
	maxStderr = 8 << 10
	grace     = 5 * time.Second // between SIGTERM and SIGKILL
)

// call is one git command.
type call struct {
	args  []string
	env   []string
	stdin io.Reader
	max   int64 // bytes of standard output; 0: maxOutput
	low   bool  // behind everything else that wants the processor
}

// exitError is git saying no.
type exitError struct {
	command string
	code    int
	stderr  string
}

func (e *exitError) Error() string {
	if e.stderr == "" {
		return fmt.Sprintf("git %s: exit status %d", e.command, e.code)
	}
	return fmt.Sprintf("git %s: %s", e.command, e.stderr)
}

func exitStatus(err error) (int, bool) {
	var e *exitError
	if errors.As(err, &e) {
		return e.code, true
	}
	return 0, false
}

// full reports whether err, of this process or of git, says that a disk has no room: git tells by
// its words alone, in the C locale that environment gives it.
func full(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	var e *exitError
	return errors.As(err, &e) && (strings.Contains(e.stderr, "No space left on device") || strings.Contains(e.stderr, "Disk quota exceeded"))
}

// settings is configuration that every command gets and that nothing on the machine overrides.
func settings() []string {
	return []string{
		"core.hooksPath=/dev/null", "core.fsmonitor=false", "core.untrackedCache=false",
		"core.quotePath=false", "core.filesRefLockTimeout=3000", "core.packedRefsTimeout=3000",
		"safe.directory=*", "gc.auto=0", "maintenance.auto=false", "i18n.logOutputEncoding=UTF-8",
		"log.showSignature=false", "merge.renameLimit=5000", "advice.objectNameWarning=false",
		"http.lowSpeedLimit=1000", "http.lowSpeedTime=60", "submodule.recurse=false", "fetch.recurseSubmodules=false",
	}
}

// environment is all that git sees of the process's environment.
func environment(config, extra []string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C", "XDG_CONFIG_HOME=/dev/null",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "GIT_SSH_COMMAND=ssh -oBatchMode=yes",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_PROTOCOL_FROM_USER=0", "GIT_ALLOW_PROTOCOL=none",
		"GIT_OPTIONAL_LOCKS=0", "GIT_PAGER=cat",
	}
	for _, key := range []string{"TMPDIR", "SSH_AUTH_SOCK", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(key); ok {
			env = append(env, key+"="+v)
		}
	}
	env = append(env, fmt.Sprintf("GIT_CONFIG_COUNT=%d", len(config)))
	for i, kv := range config {
		key, value, _ := strings.Cut(kv, "=")
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, value))
	}
	return append(env, extra...)
}

// command prepares git in a process group of its own, ended with ctx.
func (r Repo) command(ctx context.Context, config, env, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.Dir
	cmd.Env = append(environment(append(settings(), config...), r.Env), "GIT_DIR="+r.Dir)
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	return cmd
}

// output runs git and returns what it printed.
func (r Repo) output(ctx context.Context, args ...string) ([]byte, error) {
	return r.run(ctx, call{args: args})
}

func (r Repo) run(ctx context.Context, c call) ([]byte, error) {
	return r.runWith(ctx, nil, c)
}

func (r Repo) runWith(ctx context.Context, config []string, c call) ([]byte, error) {
	if c.max == 0 {
		c.max = maxOutput
	}
	cmd := r.command(ctx, config, c.env, c.args)
	stdout := &bounded{max: c.max}
	stderr := &bounded{max: maxStderr, drop: true}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.stdin, stdout, stderr
	err := cmd.Start()
	if err == nil {
		if c.low {
			lower(cmd.Process.Pid)
		}
		err = cmd.Wait()
	}
	if ctx.Err() != nil {
		killGroup(cmd)
	}
	if stdout.over {
		return nil, slipway.Errorf(slipway.Invalid, "git %s: more than %d bytes of output", verb(c.args), c.max)
	}
	return stdout.Bytes(), commandError(ctx, c.args, stderr.String(), err)
}

// killGroup ends what a cancelled command may have left running.
func killGroup(cmd *exec.Cmd) {
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
}

// commandError says what err, from a finished command, means.
func commandError(ctx context.Context, args []string, stderr string, err error) error {
	if err == nil {
		return nil
	}
	name := verb(args)
	if ctx.Err() != nil {
		return fmt.Errorf("git %s: %w", name, context.Cause(ctx))
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{command: name, code: exit.ExitCode(), stderr: strings.TrimSpace(strings.ToValidUTF8(stderr, "?"))}
	}
	if errors.Is(err, exec.ErrNotFound) {
		return slipway.Errorf(slipway.Unavailable, "git is not installed on this machine: install it (apt install git)")
	}
	return fmt.Errorf("git %s: %w", name, err)
}

// verb is the git command in args, behind options such as -c key=value.
func verb(args []string) string {
	for len(args) > 2 && args[0] == "-c" {
		args = args[2:]
	}
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// bounded is a buffer that takes up to max bytes. Beyond, it refuses (and over is set) or, with
// drop, forgets them.
type bounded struct {
	bytes.Buffer
	max  int64
	drop bool
	over bool
}

var errTooLarge = errors.New("too much output")

// Write keeps p as far as it fits.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - int64(b.Len()); int64(len(p)) > room {
		b.over = !b.drop
		if !b.drop {
			return 0, errTooLarge
		}
		b.Buffer.Write(p[:max(room, 0)])
		return len(p), nil
	}
	return b.Buffer.Write(p)
}

// ReadFrom hides the buffer's own, which knows no bound.
func (b *bounded) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{b}, r)
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slipway-cd/slipway"
)

// Sessions of the real command line, each against a server of its own where it asks for one.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:         filepath.Join("testdata", "script"),
		WorkdirRoot: t.TempDir(), // which is cleared away, whichever scripts are run
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("SLIPWAY_CONFIG", filepath.Join(env.WorkDir, "config.json"))
			env.Setenv("GIT_CONFIG_GLOBAL", filepath.Join(env.WorkDir, ".gitconfig"))
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			env.Setenv("GIT_TERMINAL_PROMPT", "0")
			env.Setenv("LATER", time.Now().AddDate(0, 3, 0).Format(time.DateOnly)) // a day on which what is waived is waived still
			return os.WriteFile(filepath.Join(env.WorkDir, ".gitconfig"), []byte("[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"server": cmdServer, "stop": cmdStop, "seed": cmdSeed, "serverlog": cmdServerLog, "grab": cmdGrab, "status": cmdStatus, "signed": cmdSigned,
			"sshgit": cmdSSHGit, "sshallow": cmdSSHAllow,
		},
		UpdateScripts:       *update,
		RequireExplicitExec: true,
	})
}

// running is a server in this process.
type running struct {
	out  *lockedBuffer
	stop func() error
	url  string
}

// lockedBuffer is a buffer that is read while it is written, and tells when it is.
type lockedBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	grown chan struct{}
}

func newLockedBuffer() *lockedBuffer { return &lockedBuffer{grown: make(chan struct{})} }

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.grown)
	l.grown = make(chan struct{})
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// await returns the first match of a pattern in what is written, now or later.
func (l *lockedBuffer) await(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	for {
		l.mu.Lock()
		m, grown := pattern.FindStringSubmatch(l.b.String()), l.grown
		l.mu.Unlock()
		if m != nil {
			return m[len(m)-1], nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return "", fmt.Errorf("%q is never written: %w\n%s", pattern, context.Cause(ctx), l)
		}
	}
}

var (
	readyExpr = regexp.MustCompile(`Slipway is ready at (\S+)`)
	linkExpr  = regexp.MustCompile(`(\S+/signin/\S+)`)
)

// serveIn runs a server on a data folder until stop is called.
func serveIn(ctx context.Context, o serveOptions) (*running, error) {
	if o.listen == "" {
		o.listen = "127.0.0.1:0"
	}
	if o.buildkit == "" {
		o.buildkit = "unix://" + filepath.Join(o.data, "no-buildkit.sock")
	}
	if o.poll == 0 {
		o.poll = time.Hour
	}
	if o.logFormat == "" {
		o.logFormat = "text"
	}
	o.registryHost = slipway.EmbeddedRegistry
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &running{out: newLockedBuffer()}
	ended := make(chan error, 1)
	go func() { ended <- runServer(ctx, o, r.out) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	wait, done := context.WithTimeout(ctx, 5*time.Minute)
	defer done()
	broken := make(chan struct{})
	go func() {
		select {
		case err := <-ended:
			ended <- errors.Join(err, errors.New("the server ended"))
			close(broken)
			done()
		case <-wait.Done():
		}
	}()
	var err error
	if r.url, err = r.out.await(wait, readyExpr); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

// server starts a server on $WORK/data. It sets SERVER, its address BUSY, and LINK when a sign-in link was printed.
func cmdServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: server")
	}
	r, err := serveIn(context.Background(), serveOptions{data: ts.MkAbs("data")})
	ts.Check(err)
	ts.Defer(func() { ts.Check(r.stop()) })
	servers.Store(ts, r)
	ts.Setenv("SERVER", r.url)
	ts.Setenv("BUSY", strings.TrimPrefix(r.url, "http://"))
	ts.Setenv("LINK", "")
	if m := linkExpr.FindString(r.out.String()); m != "" {
		ts.Setenv("LINK", m)
	}
}

// servers and hosts are those of the scripts that run.
var servers, hosts sync.Map

func serverOf(ts *testscript.TestScript) *running {
	r, ok := servers.Load(ts)
	if !ok {
		ts.Fatalf("no server runs")
	}
	return r.(*running)
}

// stop stops the server; what it wrote stays for serverlog.
func cmdStop(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(serverOf(ts).stop()) }

func cmdSeed(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(seed(context.Background(), ts.MkAbs("data")))
}

// serverlog prints what the server wrote, for stdout to look at.
func cmdServerLog(ts *testscript.TestScript, _ bool, _ []string) {
	fmt.Fprint(ts.Stdout(), serverOf(ts).out.String())
}

// grab NAME [PATTERN] keeps what the last command printed, or the first group of a pattern in it.
func cmdGrab(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: grab NAME [PATTERN]")
	}
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		m := regexp.MustCompile(args[1]).FindStringSubmatch(text)
		if m == nil {
			ts.Fatalf("%q is not in %q", args[1], text)
		}
		text = m[len(m)-1]
	}
	ts.Setenv(args[0], text)
}

// status N COMMAND... runs a command and wants its exit status to be N.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

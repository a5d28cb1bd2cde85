package gitserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
)

const grace = 5 * time.Second // between SIGTERM and SIGKILL

// process is one run of git http-backend, a CGI program.
type process struct {
	dir     string
	env     []string
	files   []*os.File // inherited from descriptor 3 on
	stdin   *patientReader
	out     *patientWriter
	started func(pid int) error
}

// run starts git, carries request and response, and waits for it. The process group is ended with
// ctx. That git refuses something is no error: it said so in its response.
func (p process) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "git", "http-backend")
	cmd.Dir, cmd.Env, cmd.ExtraFiles = p.dir, p.env, p.files
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	stderr := &head{max: 4 << 10}
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return slipway.Errorf(slipway.Unavailable, "git is not installed on this machine: install it (apt install git)")
		}
		return err
	}
	if p.started != nil {
		if err := p.started(cmd.Process.Pid); err != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
			_, _ = io.Copy(io.Discard, p.stdin) // who still sends does not see the answer
			return err
		}
	}
	sent := make(chan struct{})
	go func() { defer close(sent); p.send(stdin) }()
	err = p.receive(stdout)
	werr := cmd.Wait()
	if ctx.Err() != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		// Whatever the client still sends has no reader.
		p.stdin.stop()
	}
	<-sent
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%w (git: %s)", err, stderr)
	case werr != nil:
		// http-backend ends like the program it ran: not at all well after any refusal.
		var exit *exec.ExitError
		if !errors.As(werr, &exit) {
			return werr
		}
	}
	return nil
}

// send gives the request to git, and reads on when git has stopped listening: a client that cannot
// send does not listen either.
func (p process) send(stdin io.WriteCloser) {
	w := &listener{w: stdin}
	_, _ = io.Copy(w, p.stdin)
	_ = stdin.Close()
}

// listener is a writer that forgets all once a write went wrong.
type listener struct {
	w    io.Writer
	deaf bool
}

func (l *listener) Write(b []byte) (int, error) {
	if !l.deaf {
		_, err := l.w.Write(b)
		l.deaf = err != nil
	}
	return len(b), nil
}

// receive passes git's response on. When the client is gone, git may still finish.
func (p process) receive(stdout io.Reader) error {
	r := bufio.NewReaderSize(stdout, 64<<10)
	header, err := textproto.NewReader(r).ReadMIMEHeader()
	if err != nil {
		_, _ = io.Copy(io.Discard, r)
		return fmt.Errorf("read git's response: %w", err)
	}
	status := http.StatusOK
	if v := header.Get("Status"); v != "" {
		code, _, _ := strings.Cut(v, " ")
		if status, err = strconv.Atoi(code); err != nil || status < 200 || status > 599 {
			status = http.StatusInternalServerError
		}
		header.Del("Status")
	}
	p.out.begin(http.Header(header), status)
	_, err = io.Copy(struct{ io.Writer }{p.out}, r)
	if err != nil {
		_, _ = io.Copy(io.Discard, r)
	}
	return err
}

// environment is all that git sees: nothing of the machine's or the user's configuration.
func (s *Server) environment(r *http.Request, q request) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent", "LC_ALL=C", "XDG_CONFIG_HOME=/dev/null",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=none", "GIT_NO_REPLACE_OBJECTS=1",
		"GIT_HTTP_EXPORT_ALL=1", "GIT_PROJECT_ROOT=" + q.dir, "PATH_INFO=" + q.path,
		"REQUEST_METHOD=" + r.Method, "REMOTE_USER=" + q.actor, "REMOTE_ADDR=slipway",
		"SERVER_PROTOCOL=HTTP/1.1", "GATEWAY_INTERFACE=CGI/1.1",
	}
	if q.path == "/info/refs" {
		env = append(env, "QUERY_STRING=service="+q.service)
	} else {
		env = append(env, "QUERY_STRING=", "CONTENT_TYPE=application/x-"+q.service+"-request")
	}
	if r.ContentLength > 0 {
		env = append(env, "CONTENT_LENGTH="+strconv.FormatInt(r.ContentLength, 10))
	}
	if enc := r.Header.Get("Content-Encoding"); enc == "gzip" || enc == "x-gzip" {
		env = append(env, "HTTP_CONTENT_ENCODING=gzip")
	}
	if v := r.Header.Get("Git-Protocol"); protocolExpr.MatchString(v) {
		env = append(env, "GIT_PROTOCOL="+v)
	}
	if v, ok := os.LookupEnv("TMPDIR"); ok {
		env = append(env, "TMPDIR="+v)
	}
	config := s.settings()
	env = append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(config)))
	for i, kv := range config {
		key, value, _ := strings.Cut(kv, "=")
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, value))
	}
	return env
}

// settings is the configuration of every served repository. By core.fsync a push that was accepted outlives a power
// cut: by default git syncs neither objects in files of their own nor refs.
func (s *Server) settings() []string {
	config := []string{
		"core.fsync=objects,derived-metadata,reference", "core.fsyncMethod=batch",
		"core.hooksPath=" + s.hooks, "safe.directory=*", "http.receivepack=true", "http.uploadpack=true", "http.getanyfile=false",
		"uploadpack.allowFilter=true", "uploadpack.hideRefs=refs/slipway",
		"receive.advertisePushOptions=true", "receive.procReceiveRefs=refs/for/",
		// Hidden from pushes: not advertised to them, and refused by git even if a hook did not.
		"receive.hideRefs=refs/slipway", "receive.hideRefs=refs/pull",
		"receive.maxInputSize=" + strconv.FormatInt(s.MaxPack, 10), "receive.fsckObjects=true",
		"receive.autogc=false", "gc.auto=0", "maintenance.auto=false", "receive.denyDeletes=false", "receive.denyNonFastForwards=false",
		"core.filesRefLockTimeout=3000", "core.packedRefsTimeout=3000", "core.fsmonitor=false", "receive.keepAlive=5",
	}
	// Flaws that old history is full of and that harm nobody.
	for _, flaw := range []string{"zeroPaddedFilemode", "missingSpaceBeforeDate", "missingSpaceBeforeEmail", "badTimezone", "badDate",
		"missingEmail", "missingNameBeforeEmail", "badName", "zeroPaddedDate", "multipleAuthors", "missingTaggerEntry", "badTagName"} {
		config = append(config, "receive.fsck."+flaw+"=ignore")
	}
	return config
}

// head keeps the first bytes of what is written to it.
type head struct {
	b   []byte
	max int
}

func (t *head) Write(p []byte) (int, error) {
	t.b = append(t.b, p[:min(len(p), t.max-len(t.b))]...)
	return len(p), nil
}

// String is the text, in one line.
func (t *head) String() string { return strings.Join(strings.Fields(string(t.b)), " ") }

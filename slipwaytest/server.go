package slipwaytest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// endsWithin is how long a server may take to end, as service managers give it a while.
const endsWithin = 3 * time.Minute

// Server is a `slipway serve` process.
type Server struct {
	Address string // host:port
	Data    string
	Link    string // one-time sign-in link; only printed at the first start of a data folder

	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  *os.File
}

// ServerOptions say how to start one; the zero value listens on a free port.
type ServerOptions struct {
	Address string
	Args    []string // further arguments of serve
	Env     []string // added to the environment
	Detach  bool     // outlives this process
}

var signInLink = regexp.MustCompile(`https?://\S+/signin/\S+`)

// StartServer starts serve on a data folder and returns when it is ready. Its output goes to
// <data>.log.
func StartServer(ctx context.Context, binary, data string, o ServerOptions) (*Server, error) {
	if o.Address == "" {
		var err error
		if o.Address, err = FreeAddress(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(data+".log", os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	s := &Server{Address: o.Address, Data: data, done: make(chan struct{}), log: log}
	s.cmd = exec.Command(binary, append([]string{"serve", "--data", data, "--listen", o.Address}, o.Args...)...)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = append(os.Environ(), o.Env...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: o.Detach}
	if !o.Detach {
		s.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start slipway serve: %w", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	if err := s.awaitReady(ctx, from); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; its log %s ends with:\n%s", err, log.Name(), s.LogTail(30)), s.Kill())
	}
	s.Link = s.findLink(from)
	return s, nil
}

// FreeAddress is a loopback address whose port was free a moment ago. The port is below those that the
// kernel gives to who asks for any, beside those of Kubernetes, and no other caller on this machine gets it while this
// process lives, so that it is still free when a server takes it, or takes it again.
func FreeAddress() (string, error) {
	for tries := 0; ; tries++ {
		port := 11000 + rand.IntN(9000)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if claimPort(port) && Free(address) {
			return address, nil
		}
		if tries == 1000 {
			return "", errors.New("find a free port: all are taken")
		}
	}
}

// claimPort reports whether this is the first process that wants a port: the first has a name without a file, which
// goes with it.
func claimPort(port int) bool {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: fmt.Sprintf("@slipway-test-port-%d", port)}); err != nil {
		syscall.Close(fd) //nolint:errcheck // it was not written to
		return false
	}
	return true
}

// Free reports whether a loopback address can be listened on now.
func Free(address string) bool {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// URL is the server's address as a URL.
func (s *Server) URL() string { return "http://" + s.Address }

// PID is the process's id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// awaitReady returns when the server answers and has printed its greeting.
func (s *Server) awaitReady(ctx context.Context, from int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute) // the first start may build buildkitd
	defer cancel()
	return Await(ctx, 20*time.Millisecond, func() (bool, error) {
		select {
		case <-s.done:
			return false, fmt.Errorf("slipway serve ended: %w", errors.Join(s.err, errors.New("before it was ready")))
		default:
		}
		return s.greeted(from) && Answers(ctx, s.URL()+"/readyz"), nil
	})
}

func (s *Server) greeted(from int64) bool {
	b, err := io.ReadAll(io.NewSectionReader(s.log, from, 1<<20))
	return err == nil && bytes.Contains(b, []byte("\nSlipway is ready at "))
}

func (s *Server) findLink(from int64) string {
	scan := bufio.NewScanner(io.NewSectionReader(s.log, from, 1<<20))
	for scan.Scan() {
		if link := signInLink.FindString(scan.Text()); link != "" {
			return strings.TrimRight(link, ".,")
		}
	}
	return ""
}

// LogTail is the end of the server's output.
func (s *Server) LogTail(lines int) string {
	b, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	return tail(b, lines)
}

// Kill ends the process as kill -9 does and waits until it is gone.
func (s *Server) Kill() error { return s.signal(syscall.SIGKILL) }

// Stop asks the process to end and waits until it has. One that does not end is killed, which is an error.
func (s *Server) Stop() error { return s.signal(syscall.SIGTERM) }

func (s *Server) signal(sig syscall.Signal) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal slipway serve: %w", err)
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(endsWithin):
	}
	err := s.cmd.Process.Kill()
	<-s.done
	return errors.Join(fmt.Errorf("slipway serve was told %s and did not end within %s", sig, endsWithin), err)
}

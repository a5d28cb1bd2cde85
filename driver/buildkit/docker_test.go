package buildkit

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	apitypes "github.com/moby/buildkit/api/types"
	"google.golang.org/grpc"
)

// dockerd stands in for the Engine API: it upgrades /grpc to a control socket with one worker.
type dockerd struct {
	controlapi.UnimplementedControlServer
	status int
	conns  chan net.Conn
}

func (d *dockerd) ListWorkers(context.Context, *controlapi.ListWorkersRequest) (*controlapi.ListWorkersResponse, error) {
	return &controlapi.ListWorkersResponse{Record: []*apitypes.WorkerRecord{{ID: "w", BuildkitVersion: &apitypes.BuildkitVersion{Version: "v0.29.0"}}}}, nil
}

// Accept, Close and Addr make it the listener of the gRPC server.
func (d *dockerd) Accept() (net.Conn, error) {
	c, ok := <-d.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (d *dockerd) Close() error   { return nil }
func (d *dockerd) Addr() net.Addr { return &net.UnixAddr{} }

func (d *dockerd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/grpc" || r.Header.Get("Upgrade") != "h2c" || d.status != http.StatusSwitchingProtocols {
		http.Error(w, "no", d.status)
		return
	}
	conn, rw, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if _, err := conn.Write([]byte("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")); err != nil {
		return
	}
	d.conns <- &bufferedConn{Conn: conn, r: bufio.NewReader(rw)}
}

func startDockerd(t *testing.T, status int) string {
	t.Helper()
	d := &dockerd{status: status, conns: make(chan net.Conn)}
	g := grpc.NewServer()
	controlapi.RegisterControlServer(g, d)
	go g.Serve(d)
	t.Cleanup(func() { close(d.conns); g.Stop() })
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return socket
}

func TestDialDocker(t *testing.T) {
	t.Parallel()
	ln, err := dialDocker(t.Context(), startDockerd(t, http.StatusSwitchingProtocols))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.detach()
	if got := ln.describe(); got != "Docker's BuildKit, v0.29.0" {
		t.Error(got)
	}
}

func TestDockerWithoutBuildKit(t *testing.T) {
	t.Parallel()
	socket := startDockerd(t, http.StatusNotFound)
	if _, err := hijack(t.Context(), socket, "/grpc", "h2c", nil); err == nil || !strings.Contains(err.Error(), "404 Not Found") {
		t.Errorf("got %v", err)
	}
	getenv := func(string) string { return "unix://" + socket }
	if got := dockerSocket(getenv); got != socket {
		t.Errorf("socket %q", got)
	}
	if got := dockerSocket(func(string) string { return "tcp://192.0.2.1:2375" }); got != "" {
		t.Errorf("socket %q", got)
	}
}

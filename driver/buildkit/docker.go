package buildkit

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/moby/buildkit/client"
)

// dialDocker connects to the BuildKit inside Docker: two endpoints of the Engine API are upgraded to
// the protocols of BuildKit's control socket and of its sessions.
func dialDocker(ctx context.Context, socket string) (*link, error) {
	c, err := client.New(ctx, "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return hijack(ctx, socket, "/grpc", "h2c", nil)
		}),
		client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return hijack(ctx, socket, "/session", proto, meta)
		}))
	if err != nil {
		return nil, err
	}
	return greet(ctx, "Docker's BuildKit", c)
}

// hijack asks the Engine API at the socket to upgrade a request's connection and returns it.
func hijack(ctx context.Context, socket, path, proto string, meta map[string][]string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	up, err := upgrade(ctx, conn, path, proto, meta)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return up, nil
}

func upgrade(ctx context.Context, conn net.Conn, path, proto string, meta map[string][]string) (net.Conn, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker"+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	for k, v := range meta {
		req.Header[http.CanonicalHeaderKey(k)] = v
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", proto)
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("ask Docker for %s: %w", path, err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, fmt.Errorf("ask Docker for %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body.Close()
		return nil, fmt.Errorf("ask Docker for %s: answered %s instead of a connection", path, resp.Status)
	}
	return &bufferedConn{Conn: conn, r: r}, nil
}

// bufferedConn is a connection of which some bytes have been read ahead.
type bufferedConn struct {
	net.Conn
	r *bufio.Reader
}

// Read reads what was read ahead first.
func (c *bufferedConn) Read(b []byte) (int, error) { return c.r.Read(b) }

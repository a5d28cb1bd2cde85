package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/slipway-cd/slipway"
)

// link is a connection to one BuildKit.
type link struct {
	client  *client.Client
	name    string // for people
	version string
	daemon  *daemon // the own one; nil for a foreign BuildKit
	fenced  bool    // what the daemon itself fetches is kept away from this machine
}

func (l *link) describe() string {
	if l.version == "" {
		return l.name
	}
	return l.name + ", " + l.version
}

// allow has the own daemon reach a registry, wherever it is.
func (l *link) allow(ctx context.Context, r slipway.Registry) error {
	if l.daemon == nil {
		return nil
	}
	insecure, host := registryHost(r)
	if insecure {
		return l.daemon.allow(ctx, "http://"+host)
	}
	return l.daemon.allow(ctx, "https://"+host)
}

// close ends the connection and the own daemon.
func (l *link) close(ctx context.Context) error {
	err := l.client.Close()
	if l.daemon != nil {
		err = errors.Join(err, l.daemon.close(ctx))
	}
	return err
}

// detach ends the connection and lets the own daemon live.
func (l *link) detach() {
	_ = l.client.Close() // nothing was asked of it that could be lost
	if l.daemon != nil {
		l.daemon.detach()
	}
}

// connect finds a BuildKit: the address given, BUILDKIT_HOST, Docker's, else Slipway's own. A foreign
// one is used only when a probe shows that it can do what is needed (D20).
func connect(ctx context.Context, opts Options) (*link, error) {
	if opts.Address != "" {
		return connectGiven(ctx, opts)
	}
	if !opts.Own {
		for _, c := range discovered(opts) {
			ln, err := c.open(ctx)
			if err == nil {
				if err = suitable(ctx, ln, opts); err == nil {
					return ln, nil
				}
				ln.detach()
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			opts.Progress(fmt.Sprintf("%s is not used: %v", c.name, err))
		}
	}
	return connectOwn(ctx, opts)
}

func connectGiven(ctx context.Context, opts Options) (*link, error) {
	ln, err := dial(ctx, "BuildKit at "+opts.Address, opts.Address, opts.TLS)
	if err != nil {
		return nil, err
	}
	if err := suitable(ctx, ln, opts); err != nil {
		ln.detach()
		return nil, err
	}
	return ln, nil
}

type candidate struct {
	name string
	open func(context.Context) (*link, error)
}

func discovered(opts Options) []candidate {
	var all []candidate
	if host := opts.Getenv("BUILDKIT_HOST"); host != "" {
		all = append(all, candidate{"BuildKit of BUILDKIT_HOST", func(ctx context.Context) (*link, error) {
			return dial(ctx, "BuildKit of BUILDKIT_HOST", host, opts.TLS)
		}})
	}
	if socket := dockerSocket(opts.Getenv); socket != "" {
		all = append(all, candidate{"Docker's BuildKit", func(ctx context.Context) (*link, error) {
			return dialDocker(ctx, socket)
		}})
	}
	return all
}

// dockerSocket is the Engine API's socket if there is one.
func dockerSocket(getenv func(string) string) string {
	socket := "/var/run/docker.sock"
	if host := getenv("DOCKER_HOST"); host != "" {
		path, ok := strings.CutPrefix(host, "unix://")
		if !ok {
			return ""
		}
		socket = path
	}
	if info, err := os.Stat(socket); err != nil || info.Mode()&fs.ModeSocket == 0 {
		return ""
	}
	return socket
}

const dialTimeout = 5 * time.Second

func dial(ctx context.Context, name, address string, files TLS) (*link, error) {
	var opts []client.ClientOpt
	if files != (TLS{}) {
		server := files.ServerName
		if u, err := url.Parse(address); server == "" && err == nil {
			server = u.Hostname()
		}
		opts = append(opts, client.WithServerConfig(server, files.CA), client.WithCredentials(files.Cert, files.Key))
	}
	c, err := client.New(ctx, address, opts...)
	if err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "%s: %w", name, err)
	}
	return greet(ctx, name, c)
}

// greet makes a link of a client that answers.
func greet(ctx context.Context, name string, c *client.Client) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	workers, err := c.ListWorkers(ctx)
	if err != nil {
		_ = c.Close() // never used
		return nil, slipway.Errorf(slipway.Unavailable, "%s does not answer: %w", name, err)
	}
	if len(workers) == 0 {
		_ = c.Close() // never used
		return nil, slipway.Errorf(slipway.Unavailable, "%s has no worker", name)
	}
	return &link{client: c, name: name, version: workers[0].BuildkitVersion.Version}, nil
}

func suitable(ctx context.Context, ln *link, opts Options) error {
	for _, f := range probe(ctx, ln, opts) {
		if !f.OK && f.Needed {
			return slipway.Errorf(slipway.Unavailable, "%s: %s: %s; %s", ln.describe(), f.Name, f.Detail, f.Do)
		}
	}
	return nil
}

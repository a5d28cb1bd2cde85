// Package buildkit builds images and runs tests with BuildKit: one that is given, Docker's own, or a
// daemon that this package installs, starts, supervises and cleans up after. It speaks the requests
// of stage/build and stage/test and translates BuildKit's answers, progress and errors into their
// terms; it decides nothing about deliveries, keeps no secrets, and does not tag images.
//
// Untrusted code (D20): what a Dockerfile runs is on a bridge from which no address of this machine
// can be reached; its cache mounts belong to a project and a degree of trust; a source that would
// make the daemon itself fetch from this machine is refused, and what a source leads to is refused by a fence
// of firewall rules around Slipway's own daemon. Layers are shared between all builds of
// one daemon, which is safe because a layer's key holds the whole of what made it: the instruction,
// the content of every input, and the name of every cache mount with its project and trust. A pull
// request can therefore only leave a layer under a key that names its own content.
package buildkit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// Version is the BuildKit release that Slipway installs.
const Version = "v0.33.1"

// Options say where BuildKit is and what it may do. The zero value, but for Dir, is usable.
type Options struct {
	// Dir is the absolute folder of Slipway's own daemon: its state, socket and log.
	Dir string
	// Address of a BuildKit (unix://, tcp://). Empty: BUILDKIT_HOST, else Docker's, else Slipway's own.
	// It is used or refused with a reason, never silently replaced.
	Address string
	// TLS authenticates both sides of a tcp:// address.
	TLS TLS
	// Own makes Slipway's own daemon the only choice when Address is empty.
	Own bool
	// AllowShared accepts a BuildKit whose builds can reach this machine's addresses, and lets builds of branches
	// fetch with one that has no fence.
	AllowShared bool
	// Tools is where installed programs are kept, by version; default <user cache>/slipway/tools.
	Tools string
	// Credentials for a registry (host:port), for the builds of one project; "" for none. They should
	// reach no further than what the project's builds may read and write. For a build of a fork project
	// ends with OfFork: it may read no more than what everybody may.
	Credentials func(ctx context.Context, project, host string) (user, password string)
	// Mirrors are asked before the registries they stand for.
	Mirrors []Mirror
	// Nameservers for builds; default: the machine's.
	Nameservers []string
	// Deny lists networks (CIDR) that builds, and BuildKit on their behalf, must not reach besides the machine
	// itself and what is forwarded into containers on it: a cluster's pods and nodes. Mirrors and
	// registries that are given are reached wherever they are.
	Deny []string
	// MaxSpace bounds the own daemon's cache in bytes; default 20 GB. It is collected, least used first.
	MaxSpace int64
	// Parallelism is how many build steps run at once; default 4.
	Parallelism int
	// Progress is told what installing and starting does; default: the log.
	Progress func(line string)
	Log      *slog.Logger
	Getenv   func(string) string
	Now      func() time.Time
}

// TLS are the files of a connection by mutual TLS.
type TLS struct {
	CA, Cert, Key string // PEM files
	ServerName    string // default: the host of the address
}

// Mirror is a place to take another registry's images from.
type Mirror struct {
	Registry string // as references name it: docker.io, gcr.io, or a stable name without an address
	Address  string // URL of the registry that has them: http://127.0.0.1:8080
	Prefix   string // put before the repository: mirror/docker.io
	Only     bool   // the registry itself is never asked
}

func (o Options) withDefaults() (Options, error) {
	if !filepath.IsAbs(o.Dir) {
		return o, slipway.Errorf(slipway.Invalid, "BuildKit folder %q: must be an absolute path", o.Dir)
	}
	if o.Tools == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return o, fmt.Errorf("find the folder for tools: %w", err)
		}
		o.Tools = filepath.Join(cache, "slipway", "tools")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Progress == nil {
		log := o.Log
		o.Progress = func(line string) { log.Info("buildkit: " + line) }
	}
	if o.Credentials == nil {
		o.Credentials = func(context.Context, string, string) (string, string) { return "", "" }
	}
	if o.MaxSpace == 0 {
		o.MaxSpace = 20e9
	}
	if o.Parallelism == 0 {
		o.Parallelism = 4
	}
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, nil
}

// Engine is a connection to BuildKit that finds, starts and restarts it as needed. It is safe for
// concurrent use.
type Engine struct {
	opts  Options
	finds finds

	mu      sync.Mutex
	closed  bool
	link    *link
	attempt *attempt // running now
}

// attempt is one try to connect, shared by all who wait for it.
type attempt struct {
	done   chan struct{}
	cancel context.CancelFunc
	link   *link
	err    error
}

// Open checks the options and begins to connect in the background: a server need not wait for
// BuildKit to be installed. Use Ready to wait. What builds while there is no BuildKit gets an
// Unavailable error, and the next one tries again. The context bounds only this call.
func Open(ctx context.Context, opts Options) (*Engine, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{opts: opts, finds: finds{now: opts.Now}}
	e.begin(ctx)
	return e, nil
}

// Close disconnects and stops the own daemon, if there is one, removing its network, mounts and
// firewall rules; its cache stays. Builds in flight fail.
func (e *Engine) Close(ctx context.Context) error {
	if ln := e.end(); ln != nil {
		return ln.close(ctx)
	}
	return nil
}

// Detach disconnects and leaves the own daemon running for the next Open to adopt.
func (e *Engine) Detach() {
	if ln := e.end(); ln != nil {
		ln.detach()
	}
}

// end lets nothing connect any more and gives up the connection, nil if there is none.
func (e *Engine) end() *link {
	e.mu.Lock()
	e.closed = true
	at, ln := e.attempt, e.link
	e.link = nil
	e.mu.Unlock()
	if at != nil {
		at.cancel()
		<-at.done
		if ln == nil {
			ln = at.link
		}
	}
	return ln
}

var errClosed = errors.New("closed")

// begin starts an attempt to connect unless there is a connection or one under way.
func (e *Engine) begin(ctx context.Context) *attempt {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.attempt != nil {
		return e.attempt
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	at := &attempt{done: make(chan struct{}), cancel: cancel}
	switch {
	case e.closed:
		at.err = errClosed
	case e.link != nil:
		at.link = e.link
	default:
		e.attempt = at
		go e.run(ctx, at)
		return at
	}
	cancel()
	close(at.done)
	return at
}

func (e *Engine) run(ctx context.Context, at *attempt) {
	defer at.cancel()
	at.link, at.err = connect(ctx, e.opts)
	e.mu.Lock()
	e.attempt = nil
	if at.err == nil && !e.closed {
		e.link = at.link
	}
	e.mu.Unlock()
	close(at.done)
}

// connection returns the connection, waiting for an attempt when there is none.
func (e *Engine) connection(ctx context.Context) (*link, error) {
	at := e.begin(ctx)
	select {
	case <-at.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if at.err != nil {
		if slipway.ErrorCode(at.err) != slipway.Internal {
			return nil, at.err
		}
		return nil, slipway.Errorf(slipway.Unavailable, "BuildKit: %w", at.err)
	}
	if at.link.daemon != nil {
		if err := at.link.daemon.wait(ctx); err != nil {
			return nil, err
		}
	}
	return at.link, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	data         string
	listen       string
	url          string
	logFormat    string
	registryHost string
	mirrors      []string
	buildkit     string
	tools        string
	deny         []string
	poll         time.Duration
	pause        time.Duration // before a forge is told of events; for tests
	keepBuildkit bool
	production   string
	candidates   string
	scanner      string
	scanDatabase string
}

func (c *cli) serve() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server: API, UI, git, registry and engine in one process",
		Long: "Runs everything on one address and one data folder. The first start needs no configuration: it prints\nthe URL and a one-time sign-in link. It stops gracefully: steps that run are put back, not failed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServer(cmd.Context(), o, cmd.ErrOrStderr()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "slipway-data", "data folder")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "address to listen on; put a TLS proxy in front of any other than loopback")
	f.StringVar(&o.url, "url", "", "URL under which people reach the server (default: from --listen)")
	f.StringVar(&o.logFormat, "log-format", "text", "log format: text or json")
	f.StringVar(&o.registryHost, "registry-host", slipway.EmbeddedRegistry, "stable host name of the embedded registry in image references; clusters must resolve it")
	f.StringArrayVar(&o.mirrors, "registry-mirror", nil, "take base images of a registry from elsewhere: docker.io=mirror/docker.io (in the embedded registry) or docker.io=https://mirror.example/path")
	f.StringVar(&o.candidates, "candidates", "", "outside registry for candidates: host[/prefix] (default: the embedded one)")
	f.StringVar(&o.production, "production", "", "outside registry for production: host[/prefix] (default: prod/ of the embedded one)")
	f.StringVar(&o.buildkit, "buildkit", "", "address of a BuildKit (default: $BUILDKIT_HOST, else Docker's, else one of Slipway's own)")
	f.StringVar(&o.tools, "tools", "", "folder for installed tools, by version (default: the user's cache folder)")
	f.StringArrayVar(&o.deny, "build-deny", nil, "network (CIDR) that builds and tests must not reach, besides this machine")
	f.StringVar(&o.scanner, "scanner", "", "program that scans images (default: slipway-scanner beside this one, else in PATH)")
	f.StringVar(&o.scanDatabase, "scan-database", "", "where the vulnerability database is brought up to date from: URL or folder of a mirror, or a file (default: what slipway scan db import put there)")
	f.BoolVar(&o.keepBuildkit, "keep-buildkit", false, "leave Slipway's own BuildKit running at the end, for a quicker next start")
	f.DurationVar(&o.poll, "poll", 30*time.Second, "how often mirrored repositories are fetched, and forges asked for what their webhooks missed")
	return cmd
}

// check refuses settings that would do harm only later, when a loop or a build begins.
func (o serveOptions) check() error {
	if o.poll <= 0 {
		return slipway.Errorf(slipway.Invalid, "--poll %s: must be more than nothing, such as 30s", o.poll)
	}
	if o.url != "" {
		u, err := url.Parse(o.url)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return slipway.Errorf(slipway.Invalid, "--url %q: expected http or https, a host and nothing behind it, such as https://slipway.example.com", o.url)
		}
	}
	for _, network := range o.deny {
		if _, err := netip.ParsePrefix(network); err != nil {
			return slipway.Errorf(slipway.Invalid, "--build-deny %q: expected a network such as 10.0.0.0/8", network)
		}
	}
	return nil
}

// runServer opens everything, serves until ctx ends, and closes everything in reverse.
func runServer(ctx context.Context, o serveOptions, out io.Writer) (err error) {
	log, err := newLogger(out, o.logFormat)
	if err != nil {
		return err
	}
	if err := o.check(); err != nil {
		return err
	}
	if o.data, err = filepath.Abs(o.data); err != nil {
		return err
	}
	unlock, err := lockData(o.data)
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "listen on %s: %w (choose another address with --listen)", o.listen, err)
	}
	defer listener.Close()
	if o.url == "" {
		o.url = "http://" + listener.Addr().String()
	}
	o.url = strings.TrimSuffix(o.url, "/")
	inside, err := insideListener(listener)
	if err != nil {
		return err
	}
	defer inside.Close()
	s, err := openServer(ctx, o, inside.Addr().String(), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.recover(ctx); err != nil {
		return err
	}
	return s.serve(ctx, out, listener, inside)
}

// serve answers on both listeners, which may be one, until ctx ends, and starts what the server does by itself.
func (s *server) serve(ctx context.Context, out io.Writer, listener, inside net.Listener) (err error) {
	log := s.log
	// Requests end when the server stops; Shutdown alone would wait for every event stream.
	requests, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	server := &http.Server{
		Handler: s.handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 2)
	go func() { failed <- server.Serve(listener) }()
	if inside != listener {
		go func() { failed <- server.Serve(inside) }()
	}
	if err := s.start(ctx); err != nil {
		cancel(slipway.ErrShutdown)
		return errors.Join(err, server.Close())
	}
	if err := s.greet(ctx, out); err != nil {
		log.Error("make the sign-in link", "error", err)
	}
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping: running steps are put back")
	}
	s.ready.Store(false)
	err = errors.Join(err, s.stopEngine()) // while the registry still answers
	cancel(slipway.ErrShutdown)
	grace, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer done()
	if serr := server.Shutdown(grace); serr != nil {
		log.Warn("requests that did not end are cut off", "error", serr)
		err = errors.Join(err, server.Close())
	}
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}

// insideListener is where the server, its builds and a cluster on this machine reach it by plain HTTP:
// the public listener when that is on loopback, else one more of its own.
func insideListener(public net.Listener) (net.Listener, error) {
	if a, ok := public.Addr().(*net.TCPAddr); ok && a.IP.IsLoopback() {
		return public, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen on loopback: %w", err)
	}
	return l, nil
}

func newLogger(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, slipway.Errorf(slipway.Invalid, "--log-format %q: expected text or json", format)
}

// greet prints where the server is and, until somebody has signed in, a one-time link. It prints all at
// once: programs that start a server read the link when they see the first line.
func (s *server) greet(ctx context.Context, out io.Writer) error {
	hello := fmt.Sprintf("\nSlipway is ready at %s\n", s.opts.url)
	first, err := s.firstStart(ctx)
	if err == nil && first {
		var code string
		if code, err = s.store.CreateLink(ctx, adminName, linkTTL); err == nil {
			hello = fmt.Sprintf("%s\nSign in once, in a browser or with `slipway login`, within 24 hours:\n  %s/signin/%s\n\n", hello, s.opts.url, code)
		}
	}
	_, werr := io.WriteString(out, hello)
	return errors.Join(err, werr)
}

// firstStart makes the admin, and reports whether nobody has signed in yet.
func (s *server) firstStart(ctx context.Context) (bool, error) {
	users, err := s.store.Users(ctx)
	if err != nil {
		return false, err
	}
	if len(users) == 0 {
		_, err := s.store.CreateUser(ctx, adminName, true, "slipway")
		return true, err
	}
	signedIn, err := s.store.Events(ctx, 0, slipway.EventFilter{Kind: "user.signed-in", Limit: 1})
	return len(signedIn) == 0, err
}

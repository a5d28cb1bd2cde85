package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// site is a server that may be killed and started again on the same data and address, with the people
// who use it: the admin, and in each project ada (developer), bob (approver) and eve (viewer).
type site struct {
	name    string
	data    string
	host    string // of its registry, in references
	address string
	options siteOptions

	mu     sync.Mutex
	server *slipwaytest.Server
	tokens map[string]string // by user
	feed   *feed
}

// siteOptions is what is particular to a site; the zero value will do.
type siteOptions struct {
	args  []string // further arguments of serve
	bases []string // base images in its mirror; default: busybox
	data  string   // default: below place
}

// sites are all that were started, so that the end of the run stops them.
var sites struct {
	sync.Mutex
	all []*site
}

const mirrorArg = "--registry-mirror"

// newSite starts a server, maps its registry on the cluster, and makes people and base images.
func newSite(t *testing.T, name string, o siteOptions) *site {
	t.Helper()
	s, err := startSite(t.Context(), name, o)
	if err != nil {
		t.Fatalf("start server %s: %v", name, err)
	}
	return s
}

func startSite(ctx context.Context, name string, o siteOptions) (*site, error) {
	began := time.Now()
	address, err := slipwaytest.FreeAddress()
	if err != nil {
		return nil, err
	}
	if o.data == "" {
		o.data = filepath.Join(place, "sites", name, "data")
	}
	s := &site{name: name, data: o.data, host: name + ".e2e.slipway.internal", address: address, options: o, tokens: map[string]string{}}
	s.feed = newFeed(s)
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	sites.Lock()
	sites.all = append(sites.all, s)
	sites.Unlock()
	if err := s.people(ctx); err != nil {
		return nil, err
	}
	_, err = command(ctx, "", world.Binaries.Cluster, "--name", clusterName, "--dir", clusterDir, "registry", s.host+"="+s.url())
	if err != nil {
		return nil, err
	}
	if len(o.bases) == 0 {
		o.bases = []string{slipwaytest.Busybox}
	}
	err = slipwaytest.Bases(ctx, slipwaytest.BaseOptions{Address: s.url(), User: "admin", Password: s.tokens["admin"], Only: o.bases,
		Progress: func(line string) { progress("  [%s] %s", name, line) }})
	if err != nil {
		return nil, err
	}
	go s.feed.follow()
	progress("server %s is ready after %s", name, seconds(time.Since(began)))
	return s, nil
}

func (s *site) url() string { return "http://" + s.address }

// start starts the process, again when it has ended.
func (s *site) start(ctx context.Context) error {
	args := append([]string{"--registry-host", s.host, "--poll", "1s",
		mirrorArg, "docker.io=mirror/docker.io", mirrorArg, "gcr.io=mirror/gcr.io"}, s.options.args...)
	srv, err := slipwaytest.StartServer(ctx, world.Binaries.Slipway, s.data, slipwaytest.ServerOptions{Address: s.address, Args: args})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.server = srv
	s.mu.Unlock()
	s.feed.wake()
	return nil
}

// process is the running server, or the one that ran last.
func (s *site) process() *slipwaytest.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.server
}

// restart starts the killed server again and returns how long it took to be ready.
func (s *site) restart(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	if err := s.start(t.Context()); err != nil {
		t.Fatalf("start server %s again: %v", s.name, err)
	}
	return time.Since(began)
}

// stop stops the server as a service manager does, and wants a clean end.
func (s *site) stop() error {
	srv := s.process()
	if srv == nil {
		return nil
	}
	return srv.Stop()
}

// stopSites stops every server; the supervisor removes what they leave.
func stopSites() error {
	sites.Lock()
	defer sites.Unlock()
	problems := make([]error, len(sites.all))
	var wait sync.WaitGroup
	for i, s := range sites.all {
		wait.Go(func() {
			s.feed.stop()
			problems[i] = s.stop()
		})
	}
	wait.Wait()
	return errors.Join(problems...)
}

// people signs in as the admin and makes the others.
func (s *site) people(ctx context.Context) error {
	_, code, ok := strings.Cut(s.process().Link, "/signin/")
	if !ok {
		return fmt.Errorf("the first start printed no sign-in link: %q\n%s", s.process().Link, s.process().LogTail(20))
	}
	anyone, err := client.New(s.url(), "")
	if err != nil {
		return err
	}
	_, token, err := anyone.Login(ctx, code, "e2e")
	if err != nil {
		return fmt.Errorf("sign in as admin: %w", err)
	}
	s.tokens["admin"] = token
	admin := s.as("admin")
	for _, name := range []string{"ada", "bob", "eve"} {
		if _, err := admin.CreateUser(ctx, name, false); err != nil {
			return err
		}
		if s.tokens[name], err = admin.CreateToken(ctx, name, "e2e"); err != nil {
			return err
		}
	}
	kubeconfig, err := os.ReadFile(world.Kubeconfig)
	if err != nil {
		return err
	}
	_, err = admin.AddCluster(ctx, "default", "", kubeconfig)
	return err
}

// as is a client of the API for one of the people.
func (s *site) as(user string) *client.Client {
	c, err := client.New(s.url(), s.tokens[user])
	if err != nil {
		panic(err) // the address is ours
	}
	return c
}

// project makes a project, gives people their roles, and returns ada's clone with these files in it.
func (s *site) project(t *testing.T, name string, files tree) *repo {
	t.Helper()
	admin := s.as("admin")
	if _, err := admin.CreateProject(t.Context(), slipway.Project{Name: name}); err != nil {
		t.Fatal(err)
	}
	s.roles(t, name)
	return newRepo(t, s, name, files)
}

func (s *site) roles(t *testing.T, project string) {
	t.Helper()
	for user, role := range map[string]slipway.Role{"ada": slipway.Developer, "bob": slipway.Approver, "eve": slipway.Viewer} {
		if _, err := s.as("admin").SetRole(t.Context(), user, project, role); err != nil {
			t.Fatal(err)
		}
	}
}

// mainSite is the server that most scenarios share; it is never killed.
func mainSite(t *testing.T) *site {
	t.Helper()
	shared := sharedSite()
	if shared.err != nil {
		t.Fatalf("start the shared server: %v", shared.err)
	}
	return shared.site
}

type siteOrError struct {
	site *site
	err  error
}

var sharedSite = sync.OnceValue(func() siteOrError {
	s, err := startSite(context.Background(), "shared", siteOptions{bases: []string{slipwaytest.Busybox, slipwaytest.Golang, slipwaytest.Distroless}})
	return siteOrError{s, err}
})

// feed keeps every event of a site, over restarts of its server, and wakes who waits for them. It is
// what scenarios wait with: no scenario sleeps.
type feed struct {
	site   *site
	ctx    context.Context //nolint:containedctx // ends the loop
	stop   context.CancelFunc
	change chan struct{}

	mu     sync.Mutex
	events []slipway.Event
	traps  []func(slipway.Event)
}

func newFeed(s *site) *feed {
	f := &feed{site: s, change: make(chan struct{})}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// follow reads the stream of events, and reads on from the last one when the server is back.
func (f *feed) follow() {
	after := int64(0)
	for f.ctx.Err() == nil {
		srv := f.site.process()
		changed := f.changed()
		//nolint:errcheck // it ends with the server
		f.site.as("admin").Events(f.ctx, "", after, func(e slipway.Event) error {
			after = e.ID
			f.take(e)
			return nil
		})
		if f.site.process() != srv {
			continue
		}
		select {
		case <-f.ctx.Done():
		case <-changed: // the server is back, perhaps
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (f *feed) take(e slipway.Event) {
	f.mu.Lock()
	f.events = append(f.events, e)
	traps := slices.Clone(f.traps)
	f.mu.Unlock()
	for _, trap := range traps {
		trap(e)
	}
	f.wake()
}

// trap calls each for every event from now on, in the stream's goroutine, until the returned function
// is called.
func (f *feed) trap(each func(slipway.Event)) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.traps = append(f.traps, each)
	at := len(f.traps) - 1
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.traps[at] = func(slipway.Event) {}
	}
}

func (f *feed) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.change)
	f.change = make(chan struct{})
}

func (f *feed) changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.change
}

// of returns the events of a run so far, in their order.
func (f *feed) of(run int64) []slipway.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []slipway.Event
	for _, e := range f.events {
		if e.RunID == run {
			out = append(out, e)
		}
	}
	return out
}

// told waits until the feed has all events of a run that has ended.
func (s *site) told(t *testing.T, d slipway.RunDetail) {
	t.Helper()
	if !s.await(t.Context(), patience, func() bool { return len(s.feed.of(d.Run.ID)) >= len(d.Events) }) {
		t.Errorf("of %d events of run #%d the stream told %d", len(d.Events), d.Run.ID, len(s.feed.of(d.Run.ID)))
	}
}

// patience is how long a scenario waits for what may take a while on a busy machine: the first builds of
// three Go services, for example.
const patience = 12 * time.Minute

// await waits until cond holds; it is asked again after each event. It reports whether it did.
func (s *site) await(ctx context.Context, limit time.Duration, cond func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		changed := s.feed.changed()
		if cond() {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return cond()
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/api"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/driver/grype"
	"github.com/slipway-cd/slipway/driver/helm"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kube"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/engine"
	"github.com/slipway-cd/slipway/hosting/gitserver"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/mirror"
	"github.com/slipway-cd/slipway/react"
	"github.com/slipway-cd/slipway/repos"
	"github.com/slipway-cd/slipway/retention"
	"github.com/slipway-cd/slipway/see"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
	"github.com/slipway-cd/slipway/stage/scan"
	"github.com/slipway-cd/slipway/stage/source"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/web"
)

const (
	adminName = "admin"
	linkTTL   = act.LinkTTL
)

// server is a running Slipway: every part, opened in the order in which they need each other.
type server struct {
	opts    serveOptions
	address string // loopback host:port at which it reaches itself
	begun   time.Time
	log     *slog.Logger

	store      *store.Store
	queue      *engine.Queue
	engine     *engine.Engine
	registry   *registry.Registry
	git        *gitserver.Server
	repos      repos.Folder
	workspaces *source.Workspaces
	forkTrees  *source.Workspaces // the same folders, for runs of forks
	oci        *oci.Client
	buildkit   *buildkit.Engine
	kube       *kube.Client
	charts     *helmchart.Helm
	helm       *helm.Client
	scanner    *grype.Grype
	bases      *oci.Bases
	baseTurns  scan.Turns // of base images
	verifier   *attest.Verifier
	builders   []string // identities that its provenance has

	planner  *act.Planner
	observer *act.Observer
	actions  *act.Actions
	people   *act.People
	clusters *act.Clusters
	identity *identity
	forges   *act.Forges
	clients  clients
	sshDir   string
	reactor  *react.Reactor
	mirrors  *mirror.Mirrors

	handler http.Handler
	ready   atomic.Bool
	stopped bool // the engine
	loops   sync.WaitGroup
	stop    context.CancelFunc
	closers []func() error
}

// lockData makes sure that one process at a time uses a data folder.
func lockData(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "make the data folder %s: %w (choose another one with --data)", dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, slipway.Errorf(slipway.Invalid, "lock the data folder: %w (choose one that can be written with --data)", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, slipway.Errorf(slipway.Conflict, "the data folder %s is in use by another slipway: stop that one, or choose another folder with --data", dir)
	}
	return func() { f.Close() }, nil
}

// openServer opens every part. What it opened is closed again when one of them does not open.
func openServer(ctx context.Context, o serveOptions, address string, log *slog.Logger) (s *server, err error) {
	s = &server{opts: o, address: address, begun: time.Now(), log: log, repos: repos.In(filepath.Join(o.data, "repos"))}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.repos.Readers = git.NewReaders(background)
	s.closers = append(s.closers, func() error { s.repos.Readers.Close(); return nil })
	if s.queue, err = engine.NewQueue(); err != nil {
		return s, err
	}
	if s.store, err = store.Open(ctx, filepath.Join(o.data, "slipway.db"), store.Options{Queue: s.queue}); err != nil {
		return s, err
	}
	s.closers = append(s.closers, s.store.Close)
	if s.builders, err = s.openKeys(ctx); err != nil {
		return s, err
	}
	s.identity = newIdentity(s.store)
	if s.registry, err = registry.Open(filepath.Join(o.data, "registry"), s.identity.authorizeRegistry, registry.Options{Log: log}); err != nil {
		return s, err
	}
	s.closers = append(s.closers, func() error { return closing(s.registry.Close) })
	s.oci = oci.New(s.identity.registryCredentials(o), oci.Options{Addresses: o.addresses(address)})
	if err := s.openSupply(); err != nil {
		return s, err
	}
	if err := s.openBuildkit(background); err != nil {
		return s, err
	}
	temp, err := emptied(filepath.Join(o.data, "charts"))
	if err != nil {
		return s, err
	}
	s.charts = helmchart.New(helmchart.Options{Process: renderProcess(), Temp: temp})
	s.closers = append(s.closers, func() error { s.charts.Close(); return nil })
	if err := s.openSSH(); err != nil {
		return s, err
	}
	s.kube, s.helm = kube.New(s.store), helm.New(s.store, s.charts.Rehearse)
	s.workspaces = source.NewWorkspaces(s.workDir(), func(codebase string) (source.Exporter, error) { return s.open(codebase), nil })
	s.forkTrees = source.NewWorkspaces(s.workDir(), func(codebase string) (source.Exporter, error) { return s.repos.Open(codebase), nil })
	s.observer = act.NewObserver(background, s.helm, time.Now)
	s.closers = append(s.closers, func() error { s.observer.Close(); return nil })
	s.openActions()
	if err := s.openEngine(); err != nil {
		return s, err
	}
	if s.git, err = s.openGit(background); err != nil {
		return s, err
	}
	s.handler, err = s.routes()
	return s, err
}

// openSSH makes the folder for agents of SSH, without what a killed server left in it.
func (s *server) openSSH() error {
	dir, remove, err := sshDir(s.opts.data)
	if err != nil {
		return fmt.Errorf("make the folder for SSH: %w", err)
	}
	s.sshDir = dir
	s.closers = append(s.closers, remove)
	return nil
}

// emptied makes a folder without what a killed server left in it.
func emptied(dir string) (string, error) {
	return dir, errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700))
}

func (s *server) workDir() string { return filepath.Join(s.opts.data, "work") }

func (s *server) openActions() {
	candidates, production := s.registries()
	planner := func(open func(codebase string) repos.Repo) *act.Planner {
		return &act.Planner{Repo: func(c string) act.PlanRepo { return open(c) }, Projects: s.store, Codebases: s.store, History: s.store, Namespaces: s.store,
			Candidates: candidates, Production: production, URL: s.opts.url, Foreign: s.submodules().Foreign}
	}
	s.planner = planner(s.open)
	s.planner.Forks = planner(s.repos.Open) // strangers see nothing of other codebases
	s.actions = act.New(act.Options{Runs: s.store, Approvals: s.store, Deployments: s.store, Quarantines: s.store, Pushes: s.store, Pulls: s.store, PullEnds: s.store, Projects: s.store, Codebases: s.store, Waivers: s.store, Member: s.store.User, Held: s.store,
		Planner: s.planner, Repo: func(p string) act.Repo { return s.open(p) }, Create: s.create, Discard: s.repos.Discard, Kept: kept, Observer: s.observer, URL: s.opts.url, Log: s.log})
	s.people = &act.People{Store: s.store, Credentials: s.store, Keys: s.store, URL: s.opts.url}
	s.clusters = &act.Clusters{Store: s.store, Read: kube.ReadConfig, Now: time.Now}
	s.openForges()
}

// create makes the repository of a codebase; the mirrors are made of the actions, and so are there only later.
func (s *server) create(ctx context.Context, c slipway.Codebase) (slipway.Codebase, func() error, error) {
	return s.mirrors.Create(ctx, c)
}

// registries are where candidates and production images go: the embedded registry, unless flags name
// outside ones.
func (s *server) registries() (candidates, production slipway.Registry) {
	embedded := slipway.Registry{Host: s.opts.registryHost} // reached at s.address, which a plan may outlive
	candidates, production = embedded, embedded
	production.Prefix = "prod"
	if s.opts.candidates != "" {
		candidates = outside(s.opts.candidates)
	}
	if s.opts.production != "" {
		production = outside(s.opts.production)
	}
	return candidates, production
}

func outside(s string) slipway.Registry {
	host, prefix, _ := strings.Cut(s, "/")
	return slipway.Registry{Host: host, Prefix: prefix}
}

func (s *server) openEngine() (err error) {
	s.engine, err = engine.New(engine.Options{
		Queue: s.queue, DB: s.store.DB(), Store: s.store, Runners: s.runners(),
		Logs: func(run, step int64, attempt int) (io.WriteCloser, error) {
			return s.store.Logs().OpenLog(run, step, attempt)
		},
		Workspace: func(run slipway.Run, _ slipway.Step) stage.Workspace {
			if run.Fork {
				return s.forkTrees.For(run.Project, run.ID)
			}
			return s.workspaces.For(run.Project, run.ID)
		},
		Log: s.log,
	})
	return err
}

// recover compares what was recorded with what is, after a crash. Nothing else uses the repositories
// and the queue yet.
func (s *server) recover(ctx context.Context) error {
	removed, err := s.repos.Unlock(s.begun)
	for _, name := range removed {
		s.log.Warn("removed what a dead git left", "file", name)
	}
	if err != nil {
		return err
	}
	if err := s.git.Recover(ctx); err != nil {
		return err
	}
	codebases, err := s.codebases(ctx)
	if err != nil {
		return err
	}
	if err := s.repos.Recover(codebases); err != nil {
		return err
	}
	if err := s.actions.Recover(ctx); err != nil {
		return err
	}
	if err := s.cleaner().Recover(ctx); err != nil {
		s.log.Warn("remove old workspaces", "error", err)
	}
	return nil
}

// retention is what removes old candidates.
func (s *server) retention() *retention.Cleaner {
	return &retention.Cleaner{Registry: s.registry, Records: s.store, Policy: s.planner.Policy, Log: s.log, Now: time.Now}
}

// start starts the engine and the loops, and then answers that it is ready.
func (s *server) start(ctx context.Context) error {
	if err := s.engine.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	loops, stop := context.WithCancel(context.WithoutCancel(ctx))
	before := s.stop
	s.stop = func() { stop(); before() }
	s.loops.Go(func() { s.mirrors.Poll(loops) })
	s.loops.Go(func() { s.mirrors.Follow(loops) })
	s.loops.Go(func() { s.startLate(loops) })
	s.loops.Go(func() { s.cleaner().Run(loops) })
	s.loops.Go(func() { s.retention().Daily(loops) })
	s.loops.Go(func() {
		m := repos.Maintenance{Repos: s.repos, Codebases: s.codebases, Log: s.log}
		m.Run(loops)
	})
	s.loops.Go(func() { s.watch().Run(loops) })
	s.ready.Store(true)
	return nil
}

// stopEngine puts back what runs. A second call does nothing.
func (s *server) stopEngine() error {
	if s.engine == nil || s.stopped {
		return nil
	}
	s.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
	defer cancel()
	return s.engine.Stop(ctx)
}

// close stops what runs and closes what is open, last first.
func (s *server) close() error {
	var problems []error
	problems = append(problems, s.stopEngine())
	s.stop()
	s.loops.Wait()
	if s.git != nil {
		s.git.Wait()
	}
	for i := len(s.closers) - 1; i >= 0; i-- {
		problems = append(problems, s.closers[i]())
	}
	return errors.Join(problems...)
}

func (s *server) routes() (http.Handler, error) {
	sees := see.New(s.actions, s.store)
	ui, err := web.New(web.Options{Reads: sees, Evidence: sees, Images: sees, Waivers: s.actions, Codebases: s.forges, Tests: sees, Lists: s.actions, Deliveries: s.actions, Pulls: s.actions, Streams: sees, Identity: s.identity.with(s.people), Log: s.log,
		May: func(by slipway.User, action, project string) bool {
			return auth.Check(by, auth.Action(action), project) == nil
		},
		Secure: strings.HasPrefix(s.opts.url, "https://")})
	if err != nil {
		return nil, fmt.Errorf("open the UI: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", api.New(api.Options{Reads: sees, Tests: sees, Streams: sees, Deliveries: s.actions, Pulls: s.actions, Reviews: s.actions, Forges: s.forges,
		Settings: settings{s.actions, s.clusters}, Codebases: s.forges, People: s.people, Credentials: s.people, Identity: s.identity.with(s.people),
		Gates: sees, Waivers: s.actions, Retention: s.retention(), Log: s.log,
		Keys: &act.Keys{Store: s.store, Builders: s.builders, Registry: s.opts.registryHost, Now: time.Now}}))
	mux.Handle("/v2/", s.registry)
	mux.Handle("/git/", s.git)
	hooks := api.Hooks(s.forges, time.Now, s.log)
	mux.Handle("POST /hooks/{project}", hooks)
	mux.Handle("POST /hooks/{project}/{codebase}", hooks)
	mux.Handle("/metrics", s.metrics())
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", s.readyz)
	mux.Handle("/", ui)
	// A browser that is signed in sends its cookie along: what other sites make it send is refused,
	// here for the API too.
	return http.NewCrossOriginProtection().Handler(mux), nil
}

// settings is what an admin keeps.
type settings struct {
	*act.Actions
	*clusters
}

// clusters are act.Clusters under a name that does not hide their method Clusters.
type clusters = act.Clusters

func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	if !s.ready.Load() {
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if err := s.store.Ping(r.Context()); err != nil {
		s.log.Error("readyz", "error", err)
		http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// closing bounds how long a part may take to close.
func closing(part func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return part(ctx)
}

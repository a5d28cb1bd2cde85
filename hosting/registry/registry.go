// Package registry is the embedded OCI registry: an http.Handler for /v2/ over one folder of OCI
// layouts, with Slipway's users, namespaces and immutable version tags. It accepts and serves images,
// charts and their referrers, copies between repositories with hard links, removes candidates and frees
// their bytes when asked, and promises that what it answered with success survives a crash and a power cut.
//
// Manifests, tags and referrers are kept by olareg, which this package wraps and alone may talk to;
// uploads, mounts and everything that must be durable or refused are done here. It does not know
// users or roles (Options.Authorize of the caller decides), does not scan or sign, and speaks to no
// other registry.
package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/olareg/olareg"
	"github.com/olareg/olareg/config"
)

// Action is what a request wants to do with a repository.
type Action string

const (
	Pull   Action = "pull"
	Push   Action = "push"
	Delete Action = "delete" // of tags and manifests, for those who may clean up
)

// Authorize decides whether whoever has this user name and secret (both empty: no credentials) may do
// action in repository, and returns the name under which it is recorded. The repository is empty for
// "may you talk to this registry at all", with action Pull. It answers with a slipway.Error:
// Unauthorized for unknown or missing credentials, Forbidden for known ones that may not. Parse tells
// project and namespace of a repository. It is called concurrently.
type Authorize func(ctx context.Context, user, secret string, action Action, repository string) (actor string, err error)

// Pushed is a manifest that was accepted and is durable.
type Pushed struct {
	Repository string
	Tag        string // empty: by digest only
	Digest     string
	MediaType  string
	Actor      string // as Authorize named it; "promotion" for Retag
}

// Options are what may be left out.
type Options struct {
	Log *slog.Logger     // default: discarded
	Now func() time.Time // default: time.Now
	// OnPush is called after each accepted manifest, also when the tag was there already. It delays
	// the answer to the client, so it should be short.
	OnPush func(context.Context, Pushed)
	// UploadIdle is how long an unfinished upload is kept without new bytes; default one hour.
	UploadIdle time.Duration
	// MaxBlob bounds one blob in bytes; default 32 GiB.
	MaxBlob int64
	// Grace is how long blobs that no manifest needs are kept, as their manifest may be on its way;
	// default one hour.
	Grace time.Duration
	// MinFree is how many bytes of the disk pushes must leave free; default 64 MiB.
	MinFree int64
}

const (
	maxManifest   = 4 << 20
	maxReferrers  = 4 << 20
	statsAge      = time.Minute
	promotion     = "promotion" // actor of Retag
	maxUploads    = 1000        // open at once
	uploadsFolder = "_uploads"  // no repository can have this name
)

// Registry is the embedded registry. It is safe for concurrent use; one folder belongs to one Registry
// of one process.
type Registry struct {
	authorize Authorize
	opts      Options
	log       *slog.Logger
	disk      *disk
	uploads   *uploads
	inner     *olareg.Server
	readOnly  *bool // shared with inner: keeps its Close from collecting anything

	asked recently

	writes sync.Map // repository -> *sync.Mutex, held while its index changes

	gate     sync.Mutex
	closed   bool
	inflight sync.WaitGroup

	statsMu sync.Mutex
	stats   Stats
	statsAt time.Time
}

// Open opens the registry in dir, makes it if need be, and cleans up what a crash left behind: unfinished
// uploads and half-written indexes. It fails when a repository's index cannot be read, rather than
// lose its tags.
func Open(dir string, authorize Authorize, opts Options) (*Registry, error) {
	opts = opts.withDefaults()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("registry folder: %w", err)
	}
	d := &disk{root: dir, minFree: opts.MinFree}
	if err := d.recover(); err != nil {
		return nil, fmt.Errorf("open registry %s: %w", dir, err)
	}
	readOnly := new(bool)
	inner := olareg.New(innerConfig(dir, readOnly, opts.Log))
	return &Registry{
		authorize: authorize,
		opts:      opts,
		log:       opts.Log,
		disk:      d,
		uploads:   newUploads(d.uploadsDir(), opts.UploadIdle),
		inner:     inner,
		readOnly:  readOnly,
	}, nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.UploadIdle <= 0 {
		o.UploadIdle = time.Hour
	}
	if o.MaxBlob <= 0 {
		o.MaxBlob = 32 << 30
	}
	if o.Grace <= 0 {
		o.Grace = time.Hour
	}
	if o.MinFree <= 0 {
		o.MinFree = 64 << 20
	}
	return o
}

// innerConfig switches off olareg's own garbage collection: it judges blobs by their age, and a hard
// link is as old as the file it links to.
func innerConfig(dir string, readOnly *bool, log *slog.Logger) config.Config {
	yes, no := true, false
	return config.Config{
		Storage: config.ConfigStorage{
			StoreType: config.StoreDir,
			RootDir:   dir,
			ReadOnly:  readOnly,
			GC: config.ConfigGC{
				Frequency:         -1,
				GracePeriod:       -1,
				RepoUploadMax:     -1,
				EmptyRepo:         &no,
				Untagged:          &no,
				ReferrersWithSubj: &no,
			},
		},
		API: config.ConfigAPI{
			DeleteEnabled: &yes,
			Manifest:      config.ConfigAPIManifest{Limit: maxManifest},
			Referrer:      config.ConfigAPIReferrer{Limit: maxReferrers},
		},
		Log: log,
	}
}

// Close refuses new requests, waits for those under way until ctx is done, and drops unfinished
// uploads. Everything acknowledged is durable before it is answered, so nothing is lost without it.
func (r *Registry) Close(ctx context.Context) error {
	r.gate.Lock()
	if r.closed {
		r.gate.Unlock()
		return nil
	}
	r.closed = true
	r.gate.Unlock()

	done := make(chan struct{})
	go func() {
		defer close(done)
		r.inflight.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return fmt.Errorf("close registry: requests still under way: %w", context.Cause(ctx))
	}
	r.uploads.dropAll()
	*r.readOnly = true
	if err := r.inner.Close(); err != nil {
		return fmt.Errorf("close registry: %w", err)
	}
	return nil
}

// enter reports whether work may begin; then leave must follow.
func (r *Registry) enter() bool {
	r.gate.Lock()
	defer r.gate.Unlock()
	if r.closed {
		return false
	}
	r.inflight.Add(1)
	return true
}

func (r *Registry) leave() { r.inflight.Done() }

// lock takes the lock under which the tags and manifests of a repository change.
func (r *Registry) lock(repository string) (unlock func()) {
	v, _ := r.writes.LoadOrStore(repository, new(sync.Mutex))
	mu := v.(*sync.Mutex)
	mu.Lock()
	return mu.Unlock
}

// Stats is how much a registry holds.
type Stats struct {
	Repositories int
	Bytes        int64 // on disk; a blob linked into several repositories counts once
}

// Stats counts repositories and bytes. It walks the folder at most once a minute and otherwise answers
// from memory.
func (r *Registry) Stats() (Stats, error) {
	r.statsMu.Lock()
	defer r.statsMu.Unlock()
	now := r.opts.Now()
	if !r.statsAt.IsZero() && now.Sub(r.statsAt) < statsAge {
		return r.stats, nil
	}
	s, err := r.disk.measure()
	if err != nil {
		return Stats{}, fmt.Errorf("measure registry: %w", err)
	}
	r.stats, r.statsAt = s, now
	return s, nil
}

// ServeHTTP serves the OCI distribution API under /v2/.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !r.enter() {
		respondFault(w, req, &fault{status: http.StatusServiceUnavailable, code: "UNAVAILABLE", message: "the registry is stopping; try again"})
		return
	}
	defer r.leave()
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	if err := r.serve(w, req); err != nil {
		var f *fault
		if !errors.As(err, &f) {
			f = diskFault(err)
		}
		if f.status >= http.StatusInternalServerError {
			r.log.Error("registry request", "method", req.Method, "path", req.URL.Path, "err", err)
		}
		respondFault(w, req, f)
	}
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) error {
	rt, err := parseRoute(req.URL.Path)
	if err != nil {
		return err
	}
	action, ok := rt.action(req.Method)
	if !ok {
		return &fault{status: http.StatusMethodNotAllowed, code: "UNSUPPORTED", message: req.Method + " is not supported here"}
	}
	actor, err := r.admit(req, action, rt.repository)
	if err != nil {
		return err
	}
	switch rt.kind {
	case routePing:
		return r.ping(w, req)
	case routeUploads:
		return r.startUpload(w, req, rt.repository)
	case routeUpload:
		return r.continueUpload(w, req, rt.repository, rt.arg)
	case routeManifest:
		switch req.Method {
		case http.MethodPut:
			return r.pushManifest(w, req, rt, actor)
		case http.MethodDelete:
			return r.deleteManifest(w, req, rt)
		}
	}
	return r.read(w, req, rt)
}

func (r *Registry) ping(w http.ResponseWriter, req *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if req.Method != http.MethodHead {
		_, _ = io.WriteString(w, "{}")
	}
	return nil
}

// admit authenticates the request and decides whether it may go on. Writes into the production namespace
// are refused to everyone.
func (r *Registry) admit(req *http.Request, action Action, repository string) (string, error) {
	user, secret, _ := req.BasicAuth()
	ask := action
	closed := repository != "" && action != Pull && Parse(repository).Namespace == Production
	if closed {
		ask = Pull
	}
	actor, err := r.authorize(req.Context(), user, secret, ask, repository)
	if err != nil {
		return "", accessFault(err, user != "" || secret != "", repository)
	}
	if closed {
		return "", &fault{status: http.StatusForbidden, code: "DENIED",
			message: fmt.Sprintf("%s: nothing but a promotion writes to the production namespace; push to %s and let a release be approved", repository, candidateOf(repository))}
	}
	return actor, nil
}

// read lets olareg answer, once it is sure that the repository exists: olareg remembers every name it is
// asked for.
func (r *Registry) read(w http.ResponseWriter, req *http.Request, rt route) error {
	if !r.disk.has(rt.repository) {
		return unknownRepository(rt.repository)
	}
	in := req.Clone(req.Context())
	in.URL.RawPath = ""
	if rt.kind == routeManifest && acceptsAnything(in.Header.Values("Accept")) {
		in.Header["Accept"] = manifestTypes()
	}
	if rt.kind == routeBlob {
		r.tell(rt.repository, rt.arg) // olareg says what is there
	}
	if rt.kind == routeTags {
		if err := checkPageSize(in.URL.Query().Get("n")); err != nil {
			return err
		}
	}
	r.inner.ServeHTTP(w, in)
	return nil
}

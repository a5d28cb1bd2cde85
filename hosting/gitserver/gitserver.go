// Package gitserver serves bare repositories over smart HTTP with git's own http-backend, at
// /git/<project>.git, and further codebases of a project at /git/<project>/<codebase>.git. What a push
// may do is asked of its caller before any ref moves, and told to it after; git push origin
// HEAD:refs/for/<branch> proposes a change to be merged (AGit flow).
//
// Its hooks are a few lines of shell without secrets; they talk to this process through named pipes
// in a folder that lives as long as the push. The package keeps no users, no roles and no runs, and
// it does not read what is pushed.
package gitserver

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// Repository is what the server needs to know of a repository, and the one ref it moves itself.
type Repository interface {
	// IsAncestor reports whether moving a ref from ancestor to commit is a fast-forward.
	IsAncestor(ctx context.Context, ancestor, commit string) (bool, error)
	// Refs returns the refs below the prefixes (whole path parts) with the hashes they hold.
	Refs(ctx context.Context, prefixes ...string) (map[string]string, error)
	// Resolve returns the commit that a ref or a hash stands for, slipway.NotFound if there is none.
	Resolve(ctx context.Context, ref string) (string, error)
	// UpdateRef moves a ref if it still is at old, slipway.ZeroHash if it must not exist yet.
	UpdateRef(ctx context.Context, ref, new, old string) error
}

// Pushes is told of every push and decides about it. The calls for one repository come one after
// another: from Receive until Moved or Refused no other push moves refs in it. Contexts end when the
// server stops (cause slipway.ErrShutdown) or a call takes too long, not when the client hangs up.
type Pushes interface {
	// Receive is called before any ref moves, without the commands of Propose. An error refuses the
	// whole push; its text is shown to who pushes, line by line, unless its code is
	// slipway.Internal. What it records as received is later reported to Moved or Refused, command
	// by command, unless the server is killed: then compare with Refs at the next start.
	Receive(ctx context.Context, p Push) (messages []string, err error)
	// Propose opens or updates a pull request, before its ref moves; its error refuses the proposal.
	Propose(ctx context.Context, p Proposal) (Proposed, error)
	// Moved is called after refs moved; its messages are shown to who pushed.
	Moved(ctx context.Context, p Push) (messages []string)
	// Refused is called for commands that Receive or Propose let pass and whose refs did not move.
	Refused(ctx context.Context, p Push)
}

// Push is refs that shall move or have moved together.
type Push struct {
	Project  string
	Codebase string // "": the project's main one
	Actor    string // as Authorize returned it
	Commands []Command
	Options  []string // as given with git push -o
	Dir      string   // the bare repository
	// Env lets git see the pushed objects before they are part of the repository:
	// GIT_OBJECT_DIRECTORY and GIT_ALTERNATE_OBJECT_DIRECTORIES; empty once the refs moved.
	Env []string
}

// Command moves one ref; the zero hash stands for "does not exist".
type Command struct {
	Ref, Old, New string
	// Forced is set if commits of a branch would be lost: the move is no fast-forward.
	Forced bool
}

// Created reports whether the ref does not exist yet.
func (c Command) Created() bool { return c.Old == slipway.ZeroHash }

// Deleted reports whether the ref goes away.
func (c Command) Deleted() bool { return c.New == slipway.ZeroHash }

// Proposal is a push to refs/for/<branch>[/<topic>].
type Proposal struct {
	Project     string
	Codebase    string // "": the project's main one
	Actor       string
	Base        string // existing branch to merge into
	Topic       string // from the ref, or -o topic=...; may be empty
	Title       string // from -o title=...; may be empty
	Description string // from -o description=...; may be empty
	Head        string // commit, part of the repository already
	Options     []string
	Dir         string
}

// Proposed says which ref holds the proposal's head. The server moves it from Old to the head.
type Proposed struct {
	Ref      string // refs/pull/<n>/head
	Old      string // where it is now; "" or the zero hash for a new one
	Messages []string
}

// Options is what the server needs; the first five are required.
type Options struct {
	// Dir returns the absolute path of the bare repository of a project's codebase, "" for its main one;
	// slipway.NotFound if there is none.
	Dir func(ctx context.Context, project, codebase string) (string, error)
	// Open returns a view of a bare repository with additions to git's environment.
	Open func(dir string, env []string) Repository
	// Authorize says who asks and whether they may read, or with write, push. The same error must
	// come for projects that do not exist and those whose existence is none of the asker's business.
	Authorize func(ctx context.Context, r *http.Request, project string, write bool) (actor string, err error)
	Pushes    Pushes
	// State is a folder of this server alone, for hooks and pipes.
	State string

	Prefix      string        // of URLs; "" means /git/
	MaxPack     int64         // bytes of one push; 0 means 2 GiB
	CallTimeout time.Duration // of one call of Pushes; 0 means two minutes
	Concurrent  int           // git processes that serve at once, reads and pushes each; 0 means 16
	Log         *slog.Logger
}

// Server is an http.Handler. Make it with New.
type Server struct {
	Options
	ctx    context.Context //nolint:containedctx // of the server: bounds what outlives a request
	hooks  string
	pushes string
	path   *regexp.Regexp
	reads  chan struct{}
	writes chan struct{}
	busy   sync.WaitGroup

	mu    sync.Mutex
	locks map[string]chan struct{} // by repository: held from pre-receive to the end of a push
}

//go:embed hooks
var hookFiles embed.FS

// New makes a server and writes its hooks. Call Recover before it answers requests. When ctx ends,
// pushes that have not been decided are refused, and the others are given a few seconds.
func New(ctx context.Context, o Options) (*Server, error) {
	if o.Prefix == "" {
		o.Prefix = "/git/"
	}
	if o.MaxPack == 0 {
		o.MaxPack = 2 << 30
	}
	if o.CallTimeout == 0 {
		o.CallTimeout = 2 * time.Minute
	}
	if o.Concurrent == 0 {
		o.Concurrent = 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	state, err := filepath.Abs(o.State)
	if err != nil {
		return nil, fmt.Errorf("git hosting: %w", err)
	}
	o.State = state
	s := &Server{
		Options: o, ctx: ctx,
		hooks: filepath.Join(o.State, "hooks"), pushes: filepath.Join(o.State, "pushes"),
		path:  regexp.MustCompile(`^` + regexp.QuoteMeta(o.Prefix) + `([a-z0-9-]{1,40})(?:/([a-z0-9-]{1,40}))?(?:\.git)?/(info/refs|git-upload-pack|git-receive-pack)$`),
		reads: make(chan struct{}, o.Concurrent), writes: make(chan struct{}, o.Concurrent),
		locks: map[string]chan struct{}{},
	}
	if err := s.writeHooks(); err != nil {
		return nil, fmt.Errorf("write git hooks: %w", err)
	}
	return s, nil
}

func (s *Server) writeHooks() error {
	if err := errors.Join(os.MkdirAll(s.hooks, 0o755), os.MkdirAll(s.pushes, 0o700)); err != nil {
		return err
	}
	return fs.WalkDir(hookFiles, "hooks", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := hookFiles.ReadFile(name)
		if err != nil {
			return err
		}
		file := filepath.Join(s.hooks, d.Name())
		if err := os.WriteFile(file+".new", data, 0o755); err != nil {
			return err
		}
		return os.Rename(file+".new", file)
	})
}

// Wait returns when no request is being served any more. Call it after the context of New ended and
// the HTTP server stopped taking requests.
func (s *Server) Wait() { s.busy.Wait() }

// lock waits for the repository to be free of other pushes.
func (s *Server) lock(ctx context.Context, dir string) (release func(), err error) {
	s.mu.Lock()
	l := s.locks[dir]
	if l == nil {
		l = make(chan struct{}, 1)
		s.locks[dir] = l
	}
	s.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

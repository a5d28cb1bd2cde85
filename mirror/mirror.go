// Package mirror brings here what codebases have elsewhere: it fetches their repositories when webhooks say that
// something moved and every so often besides, and takes each ref that moved as a push. What was fetched counts only for
// the repository that is connected, before and after (decision 27).
//
// What follows from a push, and what a webhook says, is act's; how git fetches, and with which credential, comes in.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/repos"
)

// Options is what Mirrors is made of; all of it is needed but Now.
type Options struct {
	Repos   repos.Folder
	Actions *act.Actions
	Records Records
	Events  Events
	// Codebases lists those of all projects; Codebase is one of them, by its key.
	Codebases func(ctx context.Context) ([]slipway.Codebase, error)
	Codebase  func(ctx context.Context, key string) (slipway.Codebase, error)
	// Remote is where a codebase is fetched from, and with what.
	Remote func(ctx context.Context, c slipway.Codebase) (git.Remote, error)
	// React tells the forge of a codebase what became of its commits, until ctx ends; wake has it try again at once.
	React func(ctx context.Context, codebase string, wake <-chan struct{})
	// Every is how often all is fetched, and forges are asked, whatever webhooks say.
	Every time.Duration
	Log   *slog.Logger
	Now   func() time.Time // default time.Now
}

// Records is what is on record about how codebases are connected.
type Records interface {
	Connections(ctx context.Context) ([]slipway.Connection, error)
	// Connection is that of a codebase; NotFound when it is on no forge.
	Connection(ctx context.Context, codebase string) (slipway.Connection, error)
	// SetDeployKeyProblem keeps why a codebase is not fetched, "" for nothing.
	SetDeployKeyProblem(ctx context.Context, codebase, problem string) error
}

// Events is what happened.
type Events interface {
	LastEvent(ctx context.Context) (int64, error)
	Events(ctx context.Context, after int64, f slipway.EventFilter) ([]slipway.Event, error)
	// Watch returns a channel that is closed when something has happened since.
	Watch() <-chan struct{}
}

// Mirrors are the codebases that are kept elsewhere. Its methods are safe for concurrent use.
type Mirrors struct {
	o      Options
	forges *act.Forges // set by Use
	begun  time.Time

	fetching locks
	wakes    wakes // deliveries came
	again    wakes // connections changed
	polls    polls
}

// New returns Mirrors that fetch nothing before Use.
func New(o Options) *Mirrors {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Mirrors{o: o, begun: o.Now()}
}

// Use says which forges tell whose a name is. It is called once, before anything is fetched: they need Mirrors to be
// made themselves.
func (m *Mirrors) Use(f *act.Forges) { m.forges = f }

// timeout bounds one fetch: a remote that hangs must not keep the others from being fetched.
const timeout = 10 * time.Minute

// Fetch fetches what a codebase mirrors and takes every ref that moved there as a push: recorded,
// then moved, then accepted, so that a crash at any point loses none and makes none twice. What was
// there before the codebase was added is taken as it is, but for the default branch. actors says who moved
// a ref, by ref and commit with a blank between; nil: nobody knows. What was fetched before the codebase was
// connected anew is dropped: the error is act.ErrConnectedAnew then.
func (m *Mirrors) Fetch(ctx context.Context, codebase string, actors map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer m.fetching.lock(codebase)()
	src, err := m.forges.Source(ctx, codebase)
	if err != nil {
		return err
	}
	ctx, done := m.forges.During(ctx, src)
	defer done()
	err = m.fetch(ctx, src, actors)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, act.ErrConnectedAnew) {
		return cause
	}
	return err
}

// Create makes the repository of a codebase aside, and keep puts it into its place once the codebase is recorded
// (repos.Folder.Create): from then on it is fetched.
func (m *Mirrors) Create(ctx context.Context, c slipway.Codebase) (slipway.Codebase, func() error, error) {
	made, keep, err := m.o.Repos.Create(ctx, c)
	if err != nil {
		return made, nil, err
	}
	return made, func() error {
		defer m.wakes.wake(everyMirror)
		return keep()
	}, nil
}

// FetchPull fetches the ref of a pull request and returns its commit; nothing else moves.
func (m *Mirrors) FetchPull(ctx context.Context, codebase string, number int64, ref string) (string, error) {
	defer m.fetching.lock(codebase)()
	c, err := m.o.Codebase(ctx, codebase)
	if err != nil {
		return "", err
	}
	remote, err := m.o.Remote(ctx, c)
	if err != nil {
		return "", err
	}
	return m.o.Repos.Open(codebase).FetchPull(ctx, remote, number, ref)
}

// fetch fetches what is connected now, and takes it if that is so still.
func (m *Mirrors) fetch(ctx context.Context, src act.Source, actors map[string]string) error {
	c, r := src.Codebase, m.o.Repos.Open(src.Codebase.Key())
	changes, err := m.changes(ctx, r, src)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", c.Key(), err)
	}
	if len(changes) == 0 {
		return nil
	}
	release, err := m.forges.Acting(ctx, src)
	if err != nil {
		return err
	}
	defer release()
	have, err := r.Refs(ctx)
	if err != nil {
		return err
	}
	if len(have) == 0 {
		main := slices.IndexFunc(changes, func(ch git.RefChange) bool { return ch.Ref == "refs/heads/"+c.DefaultBranch })
		if main < 0 {
			return r.Apply(ctx, changes)
		}
		if err := r.Apply(ctx, slices.Delete(slices.Clone(changes), main, main+1)); err != nil {
			return err
		}
		changes = changes[main : main+1]
	}
	return m.take(ctx, c, r, changes, actors)
}

// take records refs that moved as pushes, moves them here and has what follows from them begin.
func (m *Mirrors) take(ctx context.Context, c slipway.Codebase, r repos.Repo, changes []git.RefChange, actors map[string]string) error {
	commands := make([]act.Command, len(changes))
	for i, ch := range changes {
		commands[i] = act.Command{Ref: ch.Ref, Old: ch.Old, New: ch.New, Actor: actors[ch.Ref+" "+ch.New]}
	}
	pushes, err := m.o.Actions.Seen(ctx, c.Key(), commands)
	if err != nil {
		return err
	}
	if err := r.Apply(ctx, changes); err != nil {
		m.o.Actions.Settle(context.WithoutCancel(ctx), pushes)
		return fmt.Errorf("move the refs of %s: %w", c.Key(), err)
	}
	m.o.Actions.Moved(context.WithoutCancel(ctx), pushes)
	return nil
}

// changes fetches and returns what is new in the repository that is connected. A first fetch says whether something
// is; what is taken is that of a second one, before and after which the forge says whose the name is. Until then what
// came is where nothing looks but the next fetch.
func (m *Mirrors) changes(ctx context.Context, r repos.Repo, src act.Source) ([]git.RefChange, error) {
	remote, err := m.o.Remote(ctx, src.Codebase)
	if err != nil {
		return nil, err
	}
	changes, err := r.Fetch(ctx, remote)
	if err != nil || !src.Asked() || len(changes) == 0 && m.forges.Taken(src.Codebase.Key()) == nil {
		return changes, err
	}
	if err := m.forges.Confirm(ctx, src); err != nil || len(changes) == 0 {
		return nil, err
	}
	if changes, err = r.Fetch(ctx, remote); err != nil {
		return nil, err
	}
	return changes, m.forges.Confirm(ctx, src)
}

// Polled is the last poll of a codebase since the server started.
func (m *Mirrors) Polled(codebase string) *slipway.Poll {
	last := m.polls.of(codebase)
	last.Since = m.begun
	return &last
}

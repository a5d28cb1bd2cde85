// Package react does what follows from events, outside of a run: it tells forges what became of commits
// and pull requests. For each codebase on a forge it reads the events of the project after a durable cursor,
// works out what that forge should show now of this codebase, and sends what is new of that, so that an event
// that is read twice sends nothing twice.
// It changes no run and holds none up; a forge that does not answer is asked again later.
package react

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// Forge is what is told to a codebase's forge.
type Forge interface {
	SetStatus(ctx context.Context, s slipway.CommitStatus) error
	// Comment makes the comment or updates it in place, and returns its id.
	Comment(ctx context.Context, c slipway.PullComment) (string, error)
}

// Events are what happened, and how far the forge of a codebase, given by its key, was told of it.
type Events interface {
	Events(ctx context.Context, after int64, f slipway.EventFilter) ([]slipway.Event, error)
	Reacted(ctx context.Context, codebase string) (int64, error)
	SetReacted(ctx context.Context, codebase string, event int64) error
	// Sent is what the forge was told last under a name, "" for nothing.
	Sent(ctx context.Context, codebase, name string) (string, error)
	SetSent(ctx context.Context, codebase, name, sent string) error
}

// Runs are what is told.
type Runs interface {
	Runs(ctx context.Context, f slipway.RunFilter) ([]slipway.Run, error)
	Run(ctx context.Context, id int64) (slipway.RunDetail, error)
	Report(ctx context.Context, stepID int64) (slipway.TestReport, error)
	// Pull is the pull request that has a number in a codebase, given by its key.
	Pull(ctx context.Context, codebase string, number int64) (slipway.PullRequest, error)
	// LastCommand is the newest comment on a pull request that was obeyed.
	LastCommand(ctx context.Context, codebase string, pull int64) (slipway.ForgeCommand, bool, error)
}

// Options is what reactions are made with.
type Options struct {
	Events Events
	Runs   Runs
	Gates  Gates // nil: comments say nothing of them
	// Connect speaks with the forge of a codebase, given by its key; nil for one that is not told anything.
	Connect func(ctx context.Context, codebase string) (Forge, error)
	// Problem keeps what the forge refuses, "" when it takes what it is told.
	Problem func(ctx context.Context, codebase, problem string) error
	// Watch returns a channel that is closed when there may be new events.
	Watch func() <-chan struct{}
	URL   string // of this server, for links
	Log   *slog.Logger
	// Pause is how long events are gathered before the forge is told of them; 2 s if 0.
	Pause time.Duration
	Now   func() time.Time // time.Now if nil
}

// Reactor tells the forges. Its methods are safe for concurrent use, for one codebase each.
type Reactor struct {
	Options
	mu       sync.Mutex
	backlogs map[string]*backlog // by codebase
}

const (
	firstWait = time.Second
	mostWait  = 5 * time.Minute
	// mostRefusals is how often one thing that the forge does not find or does not take is tried, for
	// about an hour, before it is given up.
	mostRefusals = 12
	// mostRefused is how many things that the forge refuses are tried again beside each other, about; with more, as when
	// the token may do nothing at all, the rest waits in the store.
	mostRefused = 2000
	// mostForbidden is after how long that is given up which the token may not do, while it may do other
	// things, such as a comment on a pull request that is locked.
	mostForbidden = 24 * time.Hour
)

// New returns a Reactor.
func New(o Options) *Reactor {
	if o.Pause == 0 {
		o.Pause = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reactor{Options: o, backlogs: map[string]*backlog{}}
}

// touched are the runs and the pull requests of a codebase that events tell of; of the runs, some may be of
// other codebases.
func touched(events []slipway.Event, name string) (runs, pulls []int64) {
	r, p := map[int64]bool{}, map[int64]bool{}
	for _, e := range events {
		if e.RunID != 0 {
			r[e.RunID] = true
		}
		var data struct {
			Pull     int64  `json:"pull"`
			Codebase string `json:"codebase"`
		}
		if len(e.Data) > 0 && json.Unmarshal(e.Data, &data) == nil && data.Pull != 0 && data.Codebase == name {
			p[data.Pull] = true
		}
	}
	return slices.Sorted(maps.Keys(r)), slices.Sorted(maps.Keys(p))
}

// subjects are the commits and pull requests of which the forge of a codebase is told; with a commit comes
// the pull request whose head waits at it, if it is a fork's.
func (r *Reactor) subjects(ctx context.Context, codebase string, runs, pulls []int64) (map[string]slipway.PullRequest, []int64, error) {
	commits := map[string]slipway.PullRequest{}
	commented := map[int64]bool{}
	for _, number := range pulls {
		p, err := r.Runs.Pull(ctx, codebase, number)
		if slipway.ErrorCode(err) == slipway.NotFound || (err == nil && !p.Forge) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		commented[number] = true
		if p.State == slipway.PullOpen && p.Held != "" {
			commits[p.Held] = p
		}
	}
	for _, id := range runs {
		d, err := r.Runs.Run(ctx, id)
		if slipway.ErrorCode(err) == slipway.NotFound { // there is nothing to tell any more
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if d.Run.Event == slipway.RollbackCall || slipway.CodebaseKey(d.Run.Project, d.Run.Codebase) != codebase {
			continue // of an environment, not of a commit; or of another codebase, which is told by itself
		}
		if _, ok := commits[d.Run.Commit]; !ok {
			commits[d.Run.Commit] = slipway.PullRequest{}
		}
		if d.Run.Pull != 0 {
			commented[d.Run.Pull] = true
		}
	}
	return commits, slices.Sorted(maps.Keys(commented)), nil
}

// teller sends to the forge of a codebase. It connects when there is something to send.
type teller struct {
	*Reactor
	*backlog
	codebase  string
	forge     Forge
	forbidden error // what the forge said of the first status that the token may not set: it may set no other
}

func (t *teller) connect(ctx context.Context) (forge Forge, err error) {
	if t.forge == nil {
		t.forge, err = t.Connect(ctx, t.codebase)
	}
	return t.forge, err
}

func (t *teller) status(ctx context.Context, s slipway.CommitStatus) (time.Duration, error) {
	name := "status " + s.Commit + " " + s.Context
	b, err := json.Marshal(s)
	if err != nil {
		return firstWait, fmt.Errorf("encode status: %w", err)
	}
	had, err := t.Events.Sent(ctx, t.codebase, name)
	if err != nil || had == string(b) {
		return firstWait, err
	}
	about := refusal{commit: s.Commit, pull: s.Pull, want: string(b)}
	return t.send(ctx, name, about, func(forge Forge) (string, error) {
		if t.forbidden != nil {
			return "", t.forbidden
		}
		err := forge.SetStatus(ctx, s)
		if slipway.ErrorCode(err) == slipway.Forbidden {
			t.forbidden = err
		}
		return string(b), err
	})
}

// said is what is kept of a comment.
type said struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func (t *teller) comment(ctx context.Context, number int64) (time.Duration, error) {
	name := "comment " + strconv.FormatInt(number, 10)
	text, err := t.commentText(ctx, t.codebase, number)
	if err != nil && t.later(ctx, "text "+name, refusal{pull: number}, err) {
		return 0, nil
	}
	if err != nil || text == "" {
		return firstWait, err
	}
	had, err := t.Events.Sent(ctx, t.codebase, name)
	if err != nil {
		return firstWait, err
	}
	var before said
	if had != "" {
		if err := json.Unmarshal([]byte(had), &before); err != nil { // the comment is found by its marker
			t.Log.WarnContext(ctx, "what was said on a pull request cannot be read; it is said again", "codebase", t.codebase, "pull", number, "error", err)
		}
	}
	if before.Text == text {
		return 0, nil
	}
	project, _ := slipway.SplitCodebase(t.codebase)
	return t.send(ctx, name, refusal{pull: number, want: text}, func(forge Forge) (string, error) {
		id, err := forge.Comment(ctx, slipway.PullComment{Pull: number, Marker: project, Text: text, ID: before.ID})
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(said{ID: id, Text: text})
		return string(b), err
	})
}

// send sends one thing and keeps that it was sent. What the forge refuses is noted and no error; an error is
// one that holds up everything, and says how long to wait.
func (t *teller) send(ctx context.Context, name string, about refusal, send func(Forge) (string, error)) (time.Duration, error) {
	if t.skips(name, about.want, t.Now()) {
		return 0, nil
	}
	forge, err := t.connect(ctx)
	if err == nil && forge == nil {
		return 0, nil
	}
	if err != nil {
		return t.failed(ctx, err)
	}
	sent, err := send(forge)
	if err == nil {
		return t.took(ctx, name, sent)
	}
	if context.Cause(ctx) != nil || !refuses(err) {
		return t.failed(ctx, err)
	}
	t.tries = 0
	if t.refuse(name, about, err, t.Now()) {
		t.Log.WarnContext(ctx, "the forge does not take this; gone on without it", "codebase", t.codebase, "what", name, "error", err)
	}
	return firstWait, t.Problem(ctx, t.codebase, slipway.CleanLine(err.Error(), 600))
}

// took keeps what the forge took. A problem is shown until nothing is refused any more.
func (t *teller) took(ctx context.Context, name, sent string) (time.Duration, error) {
	t.tries, t.taken = 0, t.Now()
	delete(t.refused, name)
	if err := t.Events.SetSent(ctx, t.codebase, name, sent); err != nil {
		return firstWait, err
	}
	if len(t.refused) > 0 {
		return 0, nil
	}
	return firstWait, t.Problem(ctx, t.codebase, "")
}

func (t *teller) failed(ctx context.Context, err error) (time.Duration, error) {
	if cause := context.Cause(ctx); cause != nil {
		return firstWait, cause
	}
	wait := t.trouble(err)
	if code := slipway.ErrorCode(err); code != slipway.Unavailable && code != slipway.Internal {
		if perr := t.Problem(ctx, t.codebase, slipway.CleanLine(err.Error(), 600)); perr != nil {
			return wait, perr
		}
	}
	return wait, err
}

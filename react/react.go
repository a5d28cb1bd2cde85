// Package react does what follows from events, outside of a run: it tells forges what became of commits
// and pull requests. For each codebase on a forge it reads the events of the project after a durable cursor,
// works out what that forge should show now of this codebase, and sends what is new of that, so that an event
// that is read twice sends nothing twice.
// It changes no run and holds none up; a forge that does not answer is asked again later. It also says which
// candidates of the registry are old (Retain), and removes none itself.
package react

import (
	"context"
	"encoding/json"
	"errors"
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
}

// Reactor tells the forges. Its methods are safe for concurrent use, for one codebase each.
type Reactor struct {
	Options
	mu       sync.Mutex
	failures map[string]*failure // by codebase
}

// failure is what a codebase's forge did not take.
type failure struct {
	name    string // of it
	tries   int
	refused int // tries that the forge understood and did not take
}

const (
	firstWait = time.Second
	mostWait  = 5 * time.Minute
	// mostRefusals is how often one thing that the forge does not find or does not take is tried, for
	// about an hour, before the rest goes on without it.
	mostRefusals = 12
)

// New returns a Reactor.
func New(o Options) *Reactor {
	if o.Pause == 0 {
		o.Pause = 2 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reactor{Options: o, failures: map[string]*failure{}}
}

// Follow tells the forge of a codebase, given by its key, what happens, until ctx ends. A value from again has it try at
// once what it waits with.
func (r *Reactor) Follow(ctx context.Context, codebase string, again <-chan struct{}) {
	for ctx.Err() == nil {
		changed := r.Watch()
		wait, err := r.Round(ctx, codebase)
		if err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "tell the forge; tried again later", "codebase", codebase, "in", wait, "error", err)
		}
		if wait == 0 {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-again:
			}
			wait = r.Pause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Round tells the forge of a codebase what happened since the last round. It returns how long to wait
// before the next one because the forge did not take something, with what it said; 0 if all is told.
func (r *Reactor) Round(ctx context.Context, codebase string) (time.Duration, error) {
	project, _ := slipway.SplitCodebase(codebase)
	for {
		after, err := r.Events.Reacted(ctx, codebase)
		if err != nil {
			return mostWait, err
		}
		events, err := r.Events.Events(ctx, after, slipway.EventFilter{Project: project, Limit: 1000})
		if err != nil {
			return mostWait, err
		}
		if len(events) == 0 {
			return 0, nil
		}
		if wait, err := r.tell(ctx, codebase, events); err != nil {
			return wait, err
		}
		if err := r.Events.SetReacted(ctx, codebase, events[len(events)-1].ID); err != nil {
			return firstWait, err
		}
	}
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

// tell works out what the forge of a codebase should show and sends what it was not told yet.
func (r *Reactor) tell(ctx context.Context, codebase string, events []slipway.Event) (time.Duration, error) {
	_, name := slipway.SplitCodebase(codebase)
	runs, pulls := touched(events, name)
	commits, pulls, err := r.subjects(ctx, codebase, runs, pulls)
	if err != nil {
		return firstWait, err
	}
	t := &teller{Reactor: r, codebase: codebase}
	for _, hash := range slices.Sorted(maps.Keys(commits)) {
		statuses, err := r.statuses(ctx, codebase, hash, commits[hash])
		if err != nil {
			return firstWait, err
		}
		for _, s := range statuses {
			if wait, err := t.status(ctx, s); err != nil {
				return wait, err
			}
		}
	}
	for _, number := range pulls {
		if wait, err := t.comment(ctx, number); err != nil {
			return wait, err
		}
	}
	return 0, nil
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
	codebase string
	forge    Forge
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
	return t.send(ctx, name, func(forge Forge) (string, error) { return string(b), forge.SetStatus(ctx, s) })
}

// said is what is kept of a comment.
type said struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func (t *teller) comment(ctx context.Context, number int64) (time.Duration, error) {
	name := "comment " + strconv.FormatInt(number, 10)
	text, err := t.commentText(ctx, t.codebase, number)
	if err != nil || text == "" {
		return firstWait, err
	}
	had, err := t.Events.Sent(ctx, t.codebase, name)
	if err != nil {
		return firstWait, err
	}
	var before said
	if had != "" {
		if err := json.Unmarshal([]byte(had), &before); err != nil {
			return firstWait, fmt.Errorf("decode what was said on pull request %d: %w", number, err)
		}
	}
	if before.Text == text {
		return 0, nil
	}
	project, _ := slipway.SplitCodebase(t.codebase)
	return t.send(ctx, name, func(forge Forge) (string, error) {
		id, err := forge.Comment(ctx, slipway.PullComment{Pull: number, Marker: project, Text: text, ID: before.ID})
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(said{ID: id, Text: text})
		return string(b), err
	})
}

// send sends one thing and keeps that it was sent. Its error says how long to wait.
func (t *teller) send(ctx context.Context, name string, send func(Forge) (string, error)) (time.Duration, error) {
	forge, err := t.connect(ctx)
	if err == nil && forge == nil {
		return 0, nil
	}
	var sent string
	if err == nil {
		sent, err = send(forge)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return firstWait, cause
	}
	if err == nil {
		t.took()
		return firstWait, errors.Join(t.Problem(ctx, t.codebase, ""), t.Events.SetSent(ctx, t.codebase, name, sent))
	}
	wait, skip := t.failed(name, err)
	if slipway.ErrorCode(err) != slipway.Unavailable && slipway.ErrorCode(err) != slipway.Internal {
		if perr := t.Problem(ctx, t.codebase, slipway.CleanLine(err.Error(), 600)); perr != nil {
			return wait, perr
		}
	}
	if skip {
		t.Log.WarnContext(ctx, "the forge does not take this; gone on without it", "codebase", t.codebase, "what", name, "error", err)
		return 0, nil
	}
	return wait, err
}

func (t *teller) took() {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failures, t.codebase)
}

// failed says how long to wait after an error, or that the rest goes on without what failed.
func (t *teller) failed(name string, err error) (wait time.Duration, skip bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failures[t.codebase]
	if f == nil || f.name != name {
		f = &failure{name: name}
		t.failures[t.codebase] = f
	}
	f.tries++
	switch slipway.ErrorCode(err) {
	case slipway.Forbidden, slipway.Unauthorized: // until there is a token that may
		return mostWait, false
	case slipway.NotFound, slipway.Conflict, slipway.Invalid:
		if f.refused++; f.refused >= mostRefusals {
			delete(t.failures, t.codebase)
			return 0, true
		}
		return mostWait, false
	}
	return max(min(firstWait<<min(f.tries-1, 10), mostWait), slipway.RetryAfter(err)), false
}

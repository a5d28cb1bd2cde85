// Package react does what follows from events, outside of a run: it tells forges what became of commits
// and pull requests. It reads the events of a project after a durable cursor, works out what the forge
// should show now, and sends what is new of that, so that an event that is read twice sends nothing twice.
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

// Forge is what is told to a project's forge.
type Forge interface {
	SetStatus(ctx context.Context, s slipway.CommitStatus) error
	// Comment makes the comment or updates it in place, and returns its id.
	Comment(ctx context.Context, c slipway.PullComment) (string, error)
}

// Events are what happened, and how far the forge was told of it.
type Events interface {
	Events(ctx context.Context, after int64, f slipway.EventFilter) ([]slipway.Event, error)
	Reacted(ctx context.Context, project string) (int64, error)
	SetReacted(ctx context.Context, project string, event int64) error
	// Sent is what the forge was told last under a name, "" for nothing.
	Sent(ctx context.Context, project, name string) (string, error)
	SetSent(ctx context.Context, project, name, sent string) error
}

// Runs are what is told.
type Runs interface {
	Runs(ctx context.Context, f slipway.RunFilter) ([]slipway.Run, error)
	Run(ctx context.Context, id int64) (slipway.RunDetail, error)
	Report(ctx context.Context, stepID int64) (slipway.TestReport, error)
	Pull(ctx context.Context, project string, number int64) (slipway.PullRequest, error)
	// LastCommand is the newest comment on a pull request that was obeyed.
	LastCommand(ctx context.Context, project string, pull int64) (slipway.ForgeCommand, bool, error)
}

// Options is what reactions are made with.
type Options struct {
	Events Events
	Runs   Runs
	// Connect speaks with the forge of a project about its main codebase, "", or about a further one; nil
	// for one that is not on that forge.
	Connect func(ctx context.Context, project, codebase string) (Forge, error)
	// Problem keeps what the forge refuses, "" when it takes what it is told.
	Problem func(ctx context.Context, project, problem string) error
	// Watch returns a channel that is closed when there may be new events.
	Watch func() <-chan struct{}
	URL   string // of this server, for links
	Log   *slog.Logger
	// Pause is how long events are gathered before the forge is told of them; 2 s if 0.
	Pause time.Duration
}

// Reactor tells the forges. Its methods are safe for concurrent use, for one project each.
type Reactor struct {
	Options
	mu       sync.Mutex
	failures map[string]*failure // by project
}

// failure is what a project's forge did not take.
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

// Follow tells the forge of a project what happens, until ctx ends. A value from again has it try at
// once what it waits with.
func (r *Reactor) Follow(ctx context.Context, project string, again <-chan struct{}) {
	for ctx.Err() == nil {
		changed := r.Watch()
		wait, err := r.Round(ctx, project)
		if err != nil && ctx.Err() == nil {
			r.Log.WarnContext(ctx, "tell the forge; tried again later", "project", project, "in", wait, "error", err)
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

// Round tells the forge of a project what happened since the last round. It returns how long to wait
// before the next one because the forge did not take something, with what it said; 0 if all is told.
func (r *Reactor) Round(ctx context.Context, project string) (time.Duration, error) {
	for {
		after, err := r.Events.Reacted(ctx, project)
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
		if wait, err := r.tell(ctx, project, events); err != nil {
			return wait, err
		}
		if err := r.Events.SetReacted(ctx, project, events[len(events)-1].ID); err != nil {
			return firstWait, err
		}
	}
}

// touched are the runs and pull requests that events tell of.
func touched(events []slipway.Event) (runs, pulls []int64) {
	r, p := map[int64]bool{}, map[int64]bool{}
	for _, e := range events {
		if e.RunID != 0 {
			r[e.RunID] = true
		}
		var data struct {
			Pull int64 `json:"pull"`
		}
		if len(e.Data) > 0 && json.Unmarshal(e.Data, &data) == nil && data.Pull != 0 {
			p[data.Pull] = true
		}
	}
	return slices.Sorted(maps.Keys(r)), slices.Sorted(maps.Keys(p))
}

// tell works out what the forge should show and sends what it was not told yet.
func (r *Reactor) tell(ctx context.Context, project string, events []slipway.Event) (time.Duration, error) {
	runs, pulls := touched(events)
	commits, pulls, err := r.subjects(ctx, project, runs, pulls)
	if err != nil {
		return firstWait, err
	}
	if len(commits) == 0 && len(pulls) == 0 {
		return 0, nil
	}
	t := &teller{Reactor: r, project: project, forges: map[string]Forge{}}
	for _, commit := range commits {
		statuses, err := r.statuses(ctx, project, commit.codebase, commit.hash, commit.pull)
		if err != nil {
			return firstWait, err
		}
		for _, s := range statuses {
			if wait, err := t.status(ctx, commit.codebase, s); err != nil {
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

// commit is one whose statuses may have changed; pull is set if a fork's head waits at it.
type commit struct {
	codebase string // "": the main one
	hash     string
	pull     slipway.PullRequest
}

// subjects are the commits and pull requests of which the forge is told.
func (r *Reactor) subjects(ctx context.Context, project string, runs, pulls []int64) ([]commit, []int64, error) {
	held := map[string]slipway.PullRequest{}
	commented := map[int64]bool{}
	var further []commit
	for _, number := range pulls {
		p, err := r.Runs.Pull(ctx, project, number)
		if slipway.ErrorCode(err) == slipway.NotFound || (err == nil && !p.Forge) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		commented[number] = true
		if p.State == slipway.PullOpen && p.Held != "" {
			held[p.Held] = p
		}
	}
	for _, id := range runs {
		d, err := r.Runs.Run(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if d.Run.Event == slipway.RollbackCall {
			continue // of an environment, not of a commit
		}
		if c := (commit{codebase: d.Run.Codebase, hash: d.Run.Commit}); c.codebase != "" {
			if !slices.ContainsFunc(further, func(o commit) bool { return o.codebase == c.codebase && o.hash == c.hash }) {
				further = append(further, c)
			}
			continue // its pull requests are not on the forge
		}
		if _, ok := held[d.Run.Commit]; !ok {
			held[d.Run.Commit] = slipway.PullRequest{}
		}
		if d.Run.Pull != 0 {
			commented[d.Run.Pull] = true
		}
	}
	var commits []commit
	for _, hash := range slices.Sorted(maps.Keys(held)) {
		commits = append(commits, commit{hash: hash, pull: held[hash]})
	}
	return append(commits, further...), slices.Sorted(maps.Keys(commented)), nil
}

// teller sends to the forge of a project. It connects when there is something to send.
type teller struct {
	*Reactor
	project string
	forges  map[string]Forge // by codebase
}

func (t *teller) connect(ctx context.Context, codebase string) (Forge, error) {
	if forge, ok := t.forges[codebase]; ok {
		return forge, nil
	}
	forge, err := t.Connect(ctx, t.project, codebase)
	if err == nil {
		t.forges[codebase] = forge
	}
	return forge, err
}

func (t *teller) status(ctx context.Context, codebase string, s slipway.CommitStatus) (time.Duration, error) {
	name := "status " + s.Commit + " " + s.Context
	if codebase != "" {
		name = "status " + codebase + " " + s.Commit + " " + s.Context
	}
	b, err := json.Marshal(s)
	if err != nil {
		return firstWait, fmt.Errorf("encode status: %w", err)
	}
	had, err := t.Events.Sent(ctx, t.project, name)
	if err != nil || had == string(b) {
		return firstWait, err
	}
	return t.send(ctx, codebase, name, func(forge Forge) (string, error) { return string(b), forge.SetStatus(ctx, s) })
}

// said is what is kept of a comment.
type said struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func (t *teller) comment(ctx context.Context, number int64) (time.Duration, error) {
	name := "comment " + strconv.FormatInt(number, 10)
	text, err := t.commentText(ctx, t.project, number)
	if err != nil || text == "" {
		return firstWait, err
	}
	had, err := t.Events.Sent(ctx, t.project, name)
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
	return t.send(ctx, "", name, func(forge Forge) (string, error) {
		id, err := forge.Comment(ctx, slipway.PullComment{Pull: number, Marker: t.project, Text: text, ID: before.ID})
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(said{ID: id, Text: text})
		return string(b), err
	})
}

// send sends one thing and keeps that it was sent. Its error says how long to wait. What is refused about a
// further codebase holds nothing else up: perhaps the project's credential is not for that one.
func (t *teller) send(ctx context.Context, codebase, name string, send func(Forge) (string, error)) (time.Duration, error) {
	forge, err := t.connect(ctx, codebase)
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
		return firstWait, errors.Join(t.Problem(ctx, t.project, ""), t.Events.SetSent(ctx, t.project, name, sent))
	}
	if codebase != "" && slipway.ErrorCode(err) != slipway.Unavailable {
		t.Log.WarnContext(ctx, "the forge does not take this of a further codebase", "project", t.project, "codebase", codebase, "what", name, "error", err)
		return 0, nil
	}
	wait, skip := t.failed(name, err)
	if slipway.ErrorCode(err) != slipway.Unavailable && slipway.ErrorCode(err) != slipway.Internal {
		if perr := t.Problem(ctx, t.project, slipway.CleanLine(err.Error(), 600)); perr != nil {
			return wait, perr
		}
	}
	if skip {
		t.Log.WarnContext(ctx, "the forge does not take this; gone on without it", "project", t.project, "what", name, "error", err)
		return 0, nil
	}
	return wait, err
}

func (t *teller) took() {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failures, t.project)
}

// failed says how long to wait after an error, or that the rest goes on without what failed.
func (t *teller) failed(name string, err error) (wait time.Duration, skip bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failures[t.project]
	if f == nil || f.name != name {
		f = &failure{name: name}
		t.failures[t.project] = f
	}
	f.tries++
	switch slipway.ErrorCode(err) {
	case slipway.Forbidden, slipway.Unauthorized: // until there is a token that may
		return mostWait, false
	case slipway.NotFound, slipway.Conflict, slipway.Invalid:
		if f.refused++; f.refused >= mostRefusals {
			delete(t.failures, t.project)
			return 0, true
		}
		return mostWait, false
	}
	return max(min(firstWait<<min(f.tries-1, 10), mostWait), slipway.RetryAfter(err)), false
}

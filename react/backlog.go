package react

import (
	"context"
	"errors"
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

// backlog is how far a codebase's forge was told, beyond the durable cursor: what it understood and did not
// take is tried again without holding up the rest, and the cursor waits for it. It is in memory; who reads the
// events again after a restart tries again too.
type backlog struct {
	told    int64 // newest event of which everything but what is refused was told
	refused map[string]*refusal
	last    error     // that the forge refused last
	fresh   bool      // in this round
	tries   int       // in trouble that holds up everything, in a row
	taken   time.Time // when the forge took something last
}

// refusal is one thing that the forge did not take.
type refusal struct {
	commit string // of a status
	pull   int64  // of a comment, and of a status the pull request, 0 for none
	after  int64  // newest event that was told of before it was first refused
	want   string // what was sent
	tries  int    // that no new token would help
	first  time.Time
	next   time.Time
	given  bool // up, as long as want is the same
}

// refusedError says what is tried again while the rest goes on.
type refusedError struct {
	error
	fresh bool // refused in this round
}

// Unwrap returns what the forge said.
func (e *refusedError) Unwrap() error { return e.error }

// backlog is that of a codebase. Each is used by one goroutine at a time.
func (r *Reactor) backlog(codebase string) *backlog {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.backlogs[codebase]
	if b == nil {
		b = &backlog{refused: map[string]*refusal{}}
		r.backlogs[codebase] = b
	}
	return b
}

func (r *Reactor) forget(codebase string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.backlogs, codebase)
}

// soon has everything that was refused be tried in the next round.
func (b *backlog) soon() {
	for _, f := range b.refused {
		f.next = time.Time{}
	}
}

// due are the commits and pull requests of which something is to be tried again now.
func (b *backlog) due(now time.Time) (commits map[string]bool, pulls []int64) {
	commits = map[string]bool{}
	for _, f := range b.refused {
		if f.given || f.next.After(now) {
			continue
		}
		if f.commit != "" {
			commits[f.commit] = true
		}
		if f.pull != 0 {
			pulls = append(pulls, f.pull)
		}
	}
	slices.Sort(pulls)
	return commits, slices.Compact(pulls)
}

// drop forgets what was due and is not to be told any more.
func (b *backlog) drop(now time.Time) {
	maps.DeleteFunc(b.refused, func(_ string, f *refusal) bool { return !f.given && !f.next.After(now) })
}

// wait is how long it is until something is to be tried again, 0 if nothing is.
func (b *backlog) wait(now time.Time) time.Duration {
	wait := time.Duration(0)
	for _, f := range b.refused {
		if left := max(f.next.Sub(now), time.Millisecond); !f.given && (wait == 0 || left < wait) {
			wait = left
		}
	}
	return wait
}

// skips reports whether a thing is not to be sent in this round: it was refused a moment ago, or for good.
func (b *backlog) skips(name, want string, now time.Time) bool {
	f := b.refused[name]
	return f != nil && (f.given && f.want == want || !f.given && f.next.After(now))
}

// refuse notes that the forge did not take a thing, and reports whether it is given up.
func (b *backlog) refuse(name string, about refusal, err error, now time.Time) bool {
	f := b.refused[name]
	if f == nil || f.given {
		f = &refusal{first: now, after: b.told}
		b.refused[name] = f
	}
	f.commit, f.pull, f.want, f.next = about.commit, about.pull, about.want, now.Add(mostWait)
	b.last, b.fresh = err, true
	if slipway.ErrorCode(err) != slipway.Forbidden { // that is for a token that may
		f.tries++
	}
	f.given = f.tries >= mostRefusals || now.Sub(f.first) >= mostForbidden && !b.taken.Before(f.first)
	return f.given
}

// settle returns the newest event of which nothing is to be tried again, which is where to go on after a restart,
// and forgets what was given up before it.
func (b *backlog) settle() int64 {
	at := b.told
	for _, f := range b.refused {
		if !f.given {
			at = min(at, f.after)
		}
	}
	maps.DeleteFunc(b.refused, func(_ string, f *refusal) bool { return f.given && f.after < at })
	return at
}

// refuses reports whether a forge understood what it was told and does not take it: other things may be.
func refuses(err error) bool {
	switch slipway.ErrorCode(err) {
	case slipway.Forbidden, slipway.NotFound, slipway.Conflict, slipway.Invalid:
		return true
	}
	return false
}

// trouble is how long to wait with everything after an error that is of no one thing.
func (b *backlog) trouble(err error) time.Duration {
	b.tries++
	if refuses(err) || slipway.ErrorCode(err) == slipway.Unauthorized { // until there is another token
		return mostWait
	}
	return max(min(firstWait<<min(b.tries-1, 10), mostWait), slipway.RetryAfter(err))
}

// Round tells the forge of a codebase what happened since the last round. It returns how long to wait
// before the next one because the forge did not take something, with what it said; 0 if all is told.
func (r *Reactor) Round(ctx context.Context, codebase string) (time.Duration, error) {
	project, name := slipway.SplitCodebase(codebase)
	b := r.backlog(codebase)
	b.fresh = false
	durable, err := r.Events.Reacted(ctx, codebase)
	if err != nil {
		return mostWait, err
	}
	b.told = max(b.told, durable)
	for {
		var events []slipway.Event
		if len(b.refused) < mostRefused {
			if events, err = r.Events.Events(ctx, b.told, slipway.EventFilter{Project: project, Limit: 1000}); err != nil {
				return mostWait, err
			}
		}
		runs, pulls := touched(events, name)
		now := r.Now()
		again, more := b.due(now)
		if len(events) == 0 && len(again) == 0 && len(more) == 0 {
			break
		}
		if wait, err := r.tell(ctx, codebase, b, runs, slices.Compact(slices.Sorted(slices.Values(append(pulls, more...)))), again); err != nil {
			return wait, err
		}
		b.drop(now)
		if len(events) > 0 {
			b.told = events[len(events)-1].ID
		}
		if at := b.settle(); at > durable {
			if err := r.Events.SetReacted(ctx, codebase, at); err != nil {
				return firstWait, err
			}
			durable = at
		}
	}
	if wait := b.wait(r.Now()); wait != 0 {
		return wait, &refusedError{b.last, b.fresh}
	}
	return 0, nil
}

// tell works out what the forge of a codebase should show of runs, pull requests and commits, and sends what
// it was not told yet. A panic is an error: a server that died of an event would die of it again, once it is back.
func (r *Reactor) tell(ctx context.Context, codebase string, b *backlog, runs, pulls []int64, again map[string]bool) (wait time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			r.Log.ErrorContext(ctx, "panic in what a forge is told", "codebase", codebase, "panic", p, "stack", string(debug.Stack()))
			wait, err = mostWait, slipway.Errorf(slipway.Internal, "panic: %v", p)
		}
	}()
	commits, pulls, err := r.subjects(ctx, codebase, runs, pulls)
	if err != nil {
		return firstWait, err
	}
	for hash := range again {
		if _, ok := commits[hash]; !ok {
			commits[hash] = slipway.PullRequest{}
		}
	}
	t := &teller{Reactor: r, codebase: codebase, backlog: b}
	for _, hash := range slices.Sorted(maps.Keys(commits)) {
		statuses, err := r.statuses(ctx, codebase, hash, commits[hash])
		if err != nil {
			if t.later(ctx, "commit "+hash, refusal{commit: hash}, err) {
				continue
			}
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

// later notes what cannot be worked out, as of something that cannot be read, to be tried again without the rest, and
// reports whether it is that: trouble that may pass is of everything.
func (t *teller) later(ctx context.Context, name string, about refusal, err error) bool {
	if context.Cause(ctx) != nil || slipway.Temporary(err) {
		return false
	}
	if t.skips(name, about.want, t.Now()) {
		return true
	}
	given := t.refuse(name, about, err, t.Now())
	t.Log.ErrorContext(ctx, "work out what the forge is told; gone on without it", "codebase", t.codebase, "what", name, "given up", given, "error", err)
	return true
}

// Follow tells the forge of a codebase, given by its key, what happens, until ctx ends. A value from again has it try at
// once what it waits with.
func (r *Reactor) Follow(ctx context.Context, codebase string, again <-chan struct{}) {
	defer r.forget(codebase)
	for ctx.Err() == nil {
		changed := r.Watch()
		wait, err := r.Round(ctx, codebase)
		var refused *refusedError
		held := errors.As(err, &refused)
		if err != nil && ctx.Err() == nil && (!held || refused.fresh) {
			r.Log.WarnContext(ctx, "tell the forge; tried again later", "codebase", codebase, "in", wait, "error", err)
		}
		if err != nil && !held {
			changed = nil
		}
		if r.sleep(ctx, codebase, wait, changed, again) {
			r.sleep(ctx, codebase, r.Pause, nil, again)
		}
	}
}

// sleep waits, for ever if wait is 0, and reports whether it ended because something changed.
func (r *Reactor) sleep(ctx context.Context, codebase string, wait time.Duration, changed, again <-chan struct{}) bool {
	var due <-chan time.Time
	if wait != 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-again:
		r.backlog(codebase).soon()
	case <-changed:
		return true
	}
	return false
}

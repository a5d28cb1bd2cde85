package mirror

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// Poll fetches the mirrored codebases that are on no forge every so often, one after another, until ctx ends.
func (m *Mirrors) Poll(ctx context.Context) {
	tick := time.NewTicker(m.o.Every)
	defer tick.Stop()
	for {
		changed := m.o.Events.Watch()
		after, err := m.o.Events.LastEvent(ctx)
		codebases, cerr := m.o.Codebases(ctx)
		if err = errors.Join(err, cerr); err != nil && ctx.Err() == nil {
			m.o.Log.Error("poll mirrors", "error", err)
		}
		for _, c := range codebases {
			if c.GitURL != "" && ctx.Err() == nil && !m.onForge(ctx, c.Key()) {
				m.pollAlone(ctx, c)
			}
		}
		if !m.due(ctx, tick.C, changed, after, codebases) {
			return
		}
	}
}

// due waits until the mirrors are to be polled again: when it is time, when one was connected anew, or when there is
// one that is not known and was added after an event. It is false when ctx ends.
func (m *Mirrors) due(ctx context.Context, tick <-chan time.Time, changed <-chan struct{}, after int64, known []slipway.Codebase) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick:
			return true
		case <-m.wakes.of(everyMirror):
			return true
		case <-changed:
			changed = m.o.Events.Watch()
			var added bool
			if after, added = m.added(ctx, after); added && m.newMirror(ctx, known) {
				return true
			}
		}
	}
}

// pollAlone polls a mirrored codebase that is on no forge, and keeps how that ended. One that is recorded, and whose
// repository is not in its place yet, is left until Create wakes this.
func (m *Mirrors) pollAlone(ctx context.Context, c slipway.Codebase) {
	if !m.o.Repos.Has(c.Key()) {
		return
	}
	err := m.Fetch(ctx, c.Key(), nil)
	if ctx.Err() != nil || errors.Is(err, act.ErrConnectedAnew) || slipway.ErrorCode(err) == slipway.NotFound { // this is woken, or it is gone
		return
	}
	m.polls.note(ctx, c.Key(), m.o.Now(), err)
	problem := ""
	if err != nil {
		m.o.Log.Warn("poll mirror", "codebase", c.Key(), "error", err)
		problem = slipway.CleanLine(err.Error(), maxProblem)
	}
	if err := m.o.Records.SetDeployKeyProblem(ctx, c.Key(), problem); err != nil {
		m.o.Log.Error("keep why a codebase is not fetched", "codebase", c.Key(), "error", err)
	}
}

// onForge reports whether a codebase has a loop of its own (follow).
func (m *Mirrors) onForge(ctx context.Context, codebase string) bool {
	_, err := m.o.Records.Connection(ctx, codebase)
	return err == nil
}

// added reports whether an event after one says that there is a codebase or a connection more, and returns the
// last event. Where events cannot be read there may be.
func (m *Mirrors) added(ctx context.Context, after int64) (int64, bool) {
	for found := false; ; {
		events, err := m.o.Events.Events(ctx, after, slipway.EventFilter{})
		if err != nil || len(events) == 0 {
			return after, found || err != nil
		}
		for _, e := range events {
			after = e.ID
			switch e.Kind {
			case "project.created", "codebase.created", "forge.connected":
				found = true
			}
		}
	}
}

// newMirror reports whether a mirrored codebase was added since.
func (m *Mirrors) newMirror(ctx context.Context, known []slipway.Codebase) bool {
	now, err := m.o.Codebases(ctx)
	return err == nil && slices.ContainsFunc(now, func(c slipway.Codebase) bool {
		return c.GitURL != "" && !slices.ContainsFunc(known, func(k slipway.Codebase) bool { return k.Key() == c.Key() && k.ID == c.ID })
	})
}

// Follow has two loops for each codebase on a forge, until ctx ends: one works off what webhooks sent and polls,
// one tells the forge what became of it. A forge that does not answer holds up its own codebase alone. The
// loops of a codebase that was removed end.
func (m *Mirrors) Follow(ctx context.Context) {
	var loops sync.WaitGroup
	defer loops.Wait()
	known := map[string]context.CancelFunc{}
	for {
		changed := m.o.Events.Watch()
		connections, err := m.o.Records.Connections(ctx)
		if err != nil && ctx.Err() == nil {
			m.o.Log.Error("list the connections with forges", "error", err)
		}
		now := map[string]bool{}
		for _, c := range connections {
			key := c.Key()
			if now[key] = true; known[key] != nil {
				continue
			}
			one, end := context.WithCancel(ctx)
			known[key] = end
			loops.Go(func() { m.follow(one, key) })
			loops.Go(func() { m.o.React(one, key, m.again.of(key)) })
		}
		for key, end := range known {
			if err == nil && !now[key] {
				end()
				delete(known, key)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// rest is how long the deliveries of a codebase rest at least after some were worked off; they rest as
// long as that took, so that a storm leaves the server half of its time, and mostRest at most.
const (
	rest     = 250 * time.Millisecond
	mostRest = 5 * time.Second
)

// workAgain is how long it rests after deliveries could not be worked off.
const workAgain = 5 * time.Second

// follow works off the deliveries of a codebase when they come, and polls every so often. What was
// kept before the server stopped is worked off first.
func (m *Mirrors) follow(ctx context.Context, codebase string) {
	poll := time.NewTicker(m.o.Every)
	defer poll.Stop()
	m.pollForge(ctx, codebase)
	for ctx.Err() == nil {
		began := m.o.Now()
		next, err := m.forges.Work(ctx, codebase)
		took := m.o.Now().Sub(began)
		if err != nil && ctx.Err() == nil {
			m.o.Log.Error("work off deliveries", "codebase", codebase, "error", err)
			next = m.o.Now().Add(workAgain)
		}
		var due <-chan time.Time
		timer := time.NewTimer(next.Sub(m.o.Now()))
		if !next.IsZero() {
			due = timer.C
		}
		select { // what comes in a storm is worked off together
		case <-ctx.Done():
		case <-time.After(min(max(rest, took), mostRest)):
		}
		select {
		case <-ctx.Done():
		case <-m.wakes.of(codebase):
		case <-due:
		case <-poll.C:
			m.pollForge(ctx, codebase)
		}
		timer.Stop()
	}
}

// pollForge finds what webhooks missed. When the codebase is connected anew meanwhile it begins again.
func (m *Mirrors) pollForge(ctx context.Context, codebase string) {
	again := true
	for again && ctx.Err() == nil {
		c, err := m.o.Records.Connection(ctx, codebase)
		if err == nil {
			err = m.forges.Poll(ctx, c, nil)
		}
		if err == nil {
			err = m.forges.SyncPulls(ctx, codebase)
		}
		if again = errors.Is(err, act.ErrConnectedAnew); again {
			continue
		}
		m.polls.note(ctx, codebase, m.o.Now(), err)
		if err != nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
			m.o.Log.Warn("poll forge", "codebase", codebase, "error", err)
		}
	}
}

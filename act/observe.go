package act

import (
	"context"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// Releases looks at what Helm runs.
type Releases interface {
	// Observe returns what is deployed in a target, whoever made it; Number 0 for nothing.
	Observe(ctx context.Context, t slipway.Target) (slipway.ObservedRevision, error)
}

const (
	observedFor   = 10 * time.Second // how long what was seen is shown without looking again
	observeWait   = time.Second      // how long somebody who asks waits for it
	observeTime   = 5 * time.Second  // how long one look may take
	observeAtOnce = 4
	maxObserved   = 5000 // targets
)

// Observer looks at clusters in the background and remembers what it saw for some seconds. Its methods
// are safe for concurrent use.
type Observer struct {
	releases Releases
	now      func() time.Time
	ctx      context.Context // of the looks, which outlive who asked
	stop     context.CancelFunc
	slots    chan struct{}
	looks    sync.WaitGroup

	mu   sync.Mutex
	seen map[string]*sight
}

// sight is what was seen in a target.
type sight struct {
	at    time.Time // zero: not yet
	rev   slipway.ObservedRevision
	known bool
	done  chan struct{} // closed at the end of the look that goes on; nil: none does
}

// NewObserver returns an observer that looks until Close.
func NewObserver(ctx context.Context, releases Releases, now func() time.Time) *Observer {
	ctx, stop := context.WithCancel(ctx)
	return &Observer{releases: releases, now: now, ctx: ctx, stop: stop, slots: make(chan struct{}, observeAtOnce), seen: map[string]*sight{}}
}

// Close ends the looks that go on.
func (o *Observer) Close() {
	o.stop()
	o.looks.Wait()
}

// Observe returns what was seen in each target in the last seconds, by the target's lock. It waits for a
// moment for looks that it begins; what a cluster does not answer in time is left out, and is there the
// next time.
func (o *Observer) Observe(ctx context.Context, targets []slipway.Target) map[string]slipway.ObservedRevision {
	wait := time.NewTimer(observeWait)
	defer wait.Stop()
	for _, done := range o.look(targets) {
		select {
		case <-done:
			continue
		case <-wait.C:
		case <-ctx.Done():
		}
		break
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]slipway.ObservedRevision{}
	for _, t := range targets {
		if s := o.seen[place(t)]; s != nil && s.known {
			out[t.Lock()] = s.rev
		}
	}
	return out
}

// place is where a target is, which its configuration may change.
func place(t slipway.Target) string {
	return t.Lock() + " " + t.Cluster + "/" + t.Namespace + "/" + t.Release
}

// look begins to look at what was not seen for a while, and returns what closes as the looks end.
func (o *Observer) look(targets []slipway.Target) []<-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen)+len(targets) > maxObserved {
		clear(o.seen)
	}
	now := o.now()
	var going []<-chan struct{}
	for _, t := range targets {
		s := o.seen[place(t)]
		if s == nil {
			s = &sight{}
			o.seen[place(t)] = s
		}
		if s.done == nil && !s.at.IsZero() && now.Sub(s.at) < observedFor {
			continue
		}
		if s.done == nil && o.ctx.Err() == nil {
			done := make(chan struct{})
			s.done = done
			o.looks.Go(func() { o.lookAt(t, s, done) })
		}
		if s.done != nil {
			going = append(going, s.done)
		}
	}
	return going
}

func (o *Observer) lookAt(t slipway.Target, s *sight, done chan struct{}) {
	defer close(done)
	var rev slipway.ObservedRevision
	var err error
	select {
	case o.slots <- struct{}{}:
		ctx, cancel := context.WithTimeout(o.ctx, observeTime)
		rev, err = o.releases.Observe(ctx, t)
		cancel()
		<-o.slots
	case <-o.ctx.Done():
		err = context.Cause(o.ctx)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.at, s.rev, s.known, s.done = o.now(), rev, err == nil, nil // a cluster that does not answer says nothing
}

// observe adds to a board what runs without Slipway having deployed it.
func (x *Actions) observe(ctx context.Context, b slipway.Board) {
	if x.o.Observer == nil {
		return
	}
	var targets []slipway.Target
	for _, row := range b.Rows {
		for _, cell := range row.Cells {
			if cell.Current != nil && cell.Pending == nil {
				targets = append(targets, cell.Current.Target)
			}
		}
	}
	seen := x.o.Observer.Observe(ctx, targets)
	for _, row := range b.Rows {
		for i, cell := range row.Cells {
			if cell.Current == nil || cell.Pending != nil {
				continue
			}
			if rev, ok := seen[cell.Current.Target.Lock()]; ok && outside(*cell.Current, rev) {
				row.Cells[i].Outside = &rev
			}
		}
	}
}

// outside reports whether what is deployed was not made by Slipway. An unhealthy first deployment is one
// that Helm may not count as deployed.
func outside(d slipway.Deployment, rev slipway.ObservedRevision) bool {
	if rev.Number == 0 {
		return d.State == slipway.Verified
	}
	return !rev.Own
}

package act_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// cluster answers what is deployed in it.
type cluster struct {
	mu      sync.Mutex
	rev     slipway.ObservedRevision
	err     error
	hold    chan struct{} // not nil: nothing is answered before it is closed
	asked   atomic.Int32
	at, top atomic.Int32 // how many look now, and looked at most
}

func (c *cluster) Observe(ctx context.Context, _ slipway.Target) (slipway.ObservedRevision, error) {
	c.asked.Add(1)
	c.top.Store(max(c.top.Load(), c.at.Add(1)))
	defer c.at.Add(-1)
	c.mu.Lock()
	rev, err, hold := c.rev, c.err, c.hold
	c.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return rev, context.Cause(ctx)
		}
	}
	return rev, err
}

func (c *cluster) set(rev slipway.ObservedRevision, err error, hold chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rev, c.err, c.hold = rev, err, hold
}

// later is a clock that a test moves on.
type later struct{ by atomic.Int64 }

func (l *later) now() time.Time        { return time.Unix(1_700_000_000, l.by.Load()) }
func (l *later) pass(by time.Duration) { l.by.Add(int64(by)) }

// outside is what the board says of cart in qa.
func (w *world) outside() *slipway.ObservedRevision {
	w.t.Helper()
	b, err := w.Board(w.ctx, w.viewer, "shop")
	w.ok(err)
	for _, row := range b.Rows {
		for _, cell := range row.Cells {
			if row.Service == "cart" && cell.Environment == "qa" {
				return cell.Outside
			}
		}
	}
	w.t.Fatal("cart in qa is not on the board")
	return nil
}

func (w *world) observed() (*cluster, *later) {
	c, clock := &cluster{}, &later{}
	w.observer = act.NewObserver(w.ctx, c, clock.now)
	w.t.Cleanup(w.observer.Close)
	w.restart()
	return c, clock
}

func TestWhatWasChangedOutsideIsOnTheBoard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.main()
	c, clock := w.observed()
	w.deployed("v1.0.0", slipway.Verified)
	foreign := slipway.ObservedRevision{Number: 7, AppVersion: "0.9.0", Chart: "cart-0.9.0"}
	for _, step := range []struct {
		name string
		rev  slipway.ObservedRevision
		err  error
		want *slipway.ObservedRevision
	}{
		{"Slipway's own", slipway.ObservedRevision{Number: 1, Own: true}, nil, nil},
		{"a helm rollback", foreign, nil, &foreign},
		{"a cluster that does not answer", foreign, slipway.Errorf(slipway.Unavailable, "no"), nil},
		{"an uninstall", slipway.ObservedRevision{}, nil, &slipway.ObservedRevision{}},
		{"deployed again", slipway.ObservedRevision{Number: 8, Own: true}, nil, nil},
	} {
		c.set(step.rev, step.err, nil)
		clock.pass(time.Minute)
		got := w.outside()
		if (got == nil) != (step.want == nil) || (got != nil && *got != *step.want) {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
	asked := c.asked.Load()
	c.set(foreign, nil, nil)
	clock.pass(5 * time.Second)
	if got := w.outside(); got != nil || c.asked.Load() != asked {
		t.Errorf("after five seconds the cluster was asked again: %+v", got)
	}
	clock.pass(6 * time.Second)
	if got := w.outside(); got == nil || c.asked.Load() != asked+1 {
		t.Errorf("after eleven seconds: %+v", got)
	}
}

// A cluster that hangs holds nobody up, is asked once, and by few at a time.
func TestAClusterThatHangs(t *testing.T) {
	t.Parallel()
	c, clock := &cluster{}, &later{}
	hold := make(chan struct{})
	c.set(slipway.ObservedRevision{Number: 3}, nil, hold)
	o := act.NewObserver(t.Context(), c, clock.now)
	defer o.Close()
	var targets []slipway.Target
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		targets = append(targets, slipway.Target{Project: "shop", Environment: "qa", Service: name, Cluster: "default", Namespace: "shop-qa", Release: name})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // whoever asks has gone
	if got := o.Observe(ctx, targets); len(got) != 0 {
		t.Errorf("seen: %v", got)
	}
	if got := o.Observe(t.Context(), targets); len(got) != 0 { // while all of them hang
		t.Errorf("seen: %v", got)
	}
	close(hold)
	if got := o.Observe(t.Context(), targets); len(got) != len(targets) || got[targets[0].Lock()].Number != 3 {
		t.Errorf("seen: %v", got)
	}
	if n := c.asked.Load(); n != int32(len(targets)) {
		t.Errorf("asked %d times for %d targets", n, len(targets))
	}
	if top := c.top.Load(); top > 4 {
		t.Errorf("%d looks at once", top)
	}
}

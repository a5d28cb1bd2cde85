package act

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/slipway-cd/slipway"
)

// planID says which plan is made.
type planID struct {
	run    int64
	commit string
}

// plannings are the plans that are being made. Its zero value is ready.
type plannings struct {
	mu  sync.Mutex
	now map[planID]*planning
}

type planning struct {
	waiting int // how many wait for it; 0: it is given up
	cancel  context.CancelFunc
	done    chan struct{}
	plan    slipway.Plan
	err     error
}

// share makes a plan, or waits for the one that is being made. It is given up when the last one who waits
// for it does, who then returns after it has ended.
func (s *plannings) share(ctx context.Context, id planID, plan func(context.Context) (slipway.Plan, error)) (slipway.Plan, error) {
	p := s.join(ctx, id, plan)
	select {
	case <-p.done:
		return p.plan, p.err
	case <-ctx.Done():
	}
	if s.leave(id, p) {
		p.cancel()
		<-p.done
	}
	return slipway.Plan{}, context.Cause(ctx)
}

func (s *plannings) join(ctx context.Context, id planID, plan func(context.Context) (slipway.Plan, error)) *planning {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.now[id]; p != nil {
		p.waiting++
		return p
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &planning{waiting: 1, cancel: cancel, done: make(chan struct{})}
	if s.now == nil {
		s.now = map[planID]*planning{}
	}
	s.now[id] = p
	go func() {
		defer cancel()
		defer close(p.done)
		defer s.forget(id, p)
		defer func() {
			if r := recover(); r != nil { // those who wait would survive it, so this does
				p.err = fmt.Errorf("planning panicked: %v\n%s", r, debug.Stack())
			}
		}()
		p.plan, p.err = plan(ctx)
	}()
	return p
}

// leave reports whether nobody waits any more.
func (s *plannings) leave(id planID, p *planning) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.waiting--
	if p.waiting == 0 && s.now[id] == p {
		delete(s.now, id)
	}
	return p.waiting == 0
}

func (s *plannings) forget(id planID, p *planning) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now[id] == p {
		delete(s.now, id)
	}
}

// ahead is the run that is to be planned before a run, 0 for none.
func (p *Planner) ahead(ctx context.Context, run slipway.Run) (int64, error) {
	if run.Event != slipway.BranchPush && run.Event != slipway.DefaultPush {
		return 0, nil
	}
	return p.History.Ahead(ctx, run.Project, run.Codebase, run.Ref, run.ID)
}

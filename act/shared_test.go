package act

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestPlansAreShared(t *testing.T) {
	t.Parallel()
	var s plannings
	id := planID{run: 1, commit: "c"}
	begun, goOn := make(chan struct{}), make(chan struct{})
	made := 0
	plan := func(context.Context) (slipway.Plan, error) {
		made++
		close(begun)
		<-goOn
		return slipway.Plan{ConfigCommit: "x"}, nil
	}
	var all sync.WaitGroup
	ask := func(ctx context.Context) {
		got, err := s.share(ctx, id, plan)
		if ctx.Err() == nil && (err != nil || got.ConfigCommit != "x") {
			t.Errorf("%+v %v", got, err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	all.Go(func() { ask(gone) })
	<-begun
	all.Go(func() { ask(t.Context()) })
	for s.waiting(id) < 2 {
		runtime.Gosched()
	}
	leave() // the other one still waits
	for s.waiting(id) > 1 {
		runtime.Gosched()
	}
	close(goOn)
	all.Wait()
	if made != 1 || len(s.now) != 0 {
		t.Errorf("made %d times, %d left", made, len(s.now))
	}
}

func (s *plannings) waiting(id planID) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.now[id]; p != nil {
		return p.waiting
	}
	return 0
}

func TestPlanThatNobodyWaitsForEnds(t *testing.T) {
	t.Parallel()
	var s plannings
	ended := false
	why := errors.New("stopping")
	ctx, cancel := context.WithCancelCause(t.Context())
	_, err := s.share(ctx, planID{}, func(ctx context.Context) (slipway.Plan, error) {
		cancel(why)
		<-ctx.Done()
		ended = true
		return slipway.Plan{}, ctx.Err()
	})
	if !errors.Is(err, why) || !ended || len(s.now) != 0 {
		t.Errorf("%v, ended: %t, %d left", err, ended, len(s.now))
	}
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	var s plannings
	_, err := s.share(t.Context(), planID{}, func(context.Context) (slipway.Plan, error) { panic("a slip of ours") })
	if err == nil || !strings.Contains(err.Error(), "a slip of ours") || len(s.now) != 0 {
		t.Errorf("%v, %d left", err, len(s.now))
	}
}

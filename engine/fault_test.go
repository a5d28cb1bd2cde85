package engine_test

import (
	"context"
	"database/sql"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/engine"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/store"
)

// failing is a store whose database does not answer a few times.
type failing struct {
	*store.Store
	starts, ends atomic.Int32          // how often each still fails
	started      func(st slipway.Step) // called when a step was started, before the engine knows
}

var down = slipway.Errorf(slipway.Unavailable, "the disk of the data folder is full; free some space")

func (f *failing) StartStep(ctx context.Context, id int64, job int, node string) (slipway.Step, slipway.RunDetail, error) {
	if f.starts.Add(-1) >= 0 {
		return slipway.Step{}, slipway.RunDetail{}, down
	}
	st, d, err := f.Store.StartStep(ctx, id, job, node)
	if err == nil && f.started != nil {
		f.started(st)
	}
	return st, d, err
}

func (f *failing) FinishStep(ctx context.Context, id int64, attempt int, res slipway.Result, done func(*sql.Tx) error) error {
	if f.ends.Add(-1) >= 0 {
		return down
	}
	return f.Store.FinishStep(ctx, id, attempt, res, done)
}

func TestTheDatabaseMayBeAwayForAWhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Log = nil
	f := &failing{}
	f.starts.Store(2)
	f.ends.Store(3)
	w.wrap = func(s *store.Store) engine.Store { f.Store = s; return f }
	w.start()
	r := w.newRun(p("build/a"), p("test/a", "build/a"))
	w.untilRun(r.ID, slipway.RunSucceeded)
	if n := w.stand.count(r.ID, "build/a"); n != 1 {
		t.Errorf("the build ran %d times because its end could not be recorded", n)
	}
	w.once(r.ID)
}

func TestAResultThatCannotBeRecordedIsAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Log = nil
	w.start()
	w.stand.on("plan", ends(slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{p("plan")}}}))
	r := w.newRun()
	d := w.untilRun(r.ID, slipway.RunErrored)
	if got := d.Steps[0].Reason; !strings.Contains(got, "has a step plan already") {
		t.Errorf("reason: %s", got)
	}
}

// TestACancelIsNotMissed cancels a run in the moment between the start of its step in the store and
// the engine's knowing of it.
func TestACancelIsNotMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := &failing{}
	f.started = func(st slipway.Step) {
		if err := f.CancelRun(context.Background(), st.RunID, "bob", ""); err != nil {
			t.Error(err)
		}
	}
	w.wrap = func(s *store.Store) engine.Store { f.Store = s; return f }
	w.start()
	w.stand.on("deploy/a", hang)
	r := w.newRun(p("deploy/a"))
	w.untilRun(r.ID, slipway.RunCancelled)
}

// TestOldJobsHaveNoEffect queues jobs of a step again and again: one of them runs it.
func TestOldJobsHaveNoEffect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.prepare(3, p("deploy/a"))
	q, err := engine.NewQueue()
	w.ok(err)
	s, err := store.Open(w.ctx, w.path, store.Options{Queue: q})
	w.ok(err)
	for range 5 { // as five servers that died at once after their start would
		_, err := s.RecoverSteps(w.ctx, "here")
		w.ok(err)
	}
	w.ok(s.Close())
	w.start()
	for _, id := range ids {
		w.untilRun(id, slipway.RunSucceeded)
	}
	w.until("all jobs are done", func() bool {
		var n int
		w.ok(w.store.DB().QueryRow(`SELECT count(*) FROM river_job WHERE state NOT IN ('completed', 'cancelled')`).Scan(&n))
		if n > 0 { // their completion is no event
			w.ok(w.store.Audit(w.ctx, slipway.Event{Kind: "test.tick"}))
		}
		return n == 0
	})
	for _, id := range ids {
		if n := w.stand.count(id, "deploy/a"); n != 1 {
			t.Errorf("run #%d deployed %d times", id, n)
		}
		w.once(id)
	}
}

// TestCancelsRace cancels runs at every moment of their lives.
func TestCancelsRace(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	w.stand.on("deploy/a", func(ctx context.Context, env stage.Env, s slipway.PlanStep) (slipway.Result, error) {
		if env.Run.ID%3 == 0 {
			return hang(ctx, env, s)
		}
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	var ids []int64
	for i := range 30 {
		r := w.newRun(p("build/a"), p("deploy/a", "build/a"), p("verify/a", "deploy/a"))
		ids = append(ids, r.ID)
		if i%3 == 1 {
			w.ok(w.store.CancelRun(w.ctx, r.ID, "bob", ""))
		}
	}
	for _, id := range ids {
		if err := w.store.CancelRun(w.ctx, id, "bob", ""); err != nil && slipway.ErrorCode(err) != slipway.Conflict {
			t.Error(err)
		}
	}
	for _, id := range ids {
		w.until("over", func() bool {
			d, err := w.store.Run(w.ctx, id)
			w.ok(err)
			return d.Run.State == slipway.RunCancelled || d.Run.State == slipway.RunSucceeded
		})
	}
	if _, err := w.store.VerifyEvents(w.ctx); err != nil {
		t.Error(err)
	}
}

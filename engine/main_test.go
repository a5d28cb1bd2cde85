package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/engine"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

// stand is a stand-in runner: what it does is set by the step itself, by its service's name.
type stand struct {
	mu     sync.Mutex
	does   map[string]stage.Func // by key of the step
	begun  map[string]int        // by run and key
	starts chan string           // run/key, as they start
}

func newStand() *stand {
	return &stand{does: map[string]stage.Func{}, begun: map[string]int{}, starts: make(chan string, 10000)}
}

// on sets what the step of that key does, in every run.
func (s *stand) on(key string, f stage.Func) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.does[key] = f
}

func name(run int64, key string) string { return fmt.Sprintf("#%d %s", run, key) }

// Run does what was set, or succeeds.
func (s *stand) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	s.mu.Lock()
	f := s.does[step.Key]
	s.begun[name(env.Run.ID, step.Key)]++
	s.mu.Unlock()
	s.starts <- name(env.Run.ID, step.Key)
	if f == nil {
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	}
	return f(ctx, env, step)
}

func (s *stand) count(run int64, key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun[name(run, key)]
}

// hang waits for its context's end, as a well-behaved runner does.
func hang(ctx context.Context, _ stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
	<-ctx.Done()
	return slipway.Result{}, fmt.Errorf("wait: %w", context.Cause(ctx))
}

func ends(res slipway.Result) stage.Func {
	return func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) { return res, nil }
}

// world is a store and an engine.
type world struct {
	t      testing.TB
	ctx    context.Context
	path   string
	stand  *stand
	opts   engine.Options // what a test changes before start
	wrap   func(*store.Store) engine.Store
	store  *store.Store
	engine *engine.Engine
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, ctx: context.Background(), path: filepath.Join(t.TempDir(), "slipway.db"), stand: newStand()}
	w.opts.Log = slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelError}))
	w.ok(storetest.Fresh(w.ctx, w.path))
	return w
}

type testLog struct{ t testing.TB }

func (l testLog) Write(p []byte) (int, error) { l.t.Log(string(p)); return len(p), nil }

// start opens the store and starts an engine; the test's end stops both.
func (w *world) start() *world {
	w.t.Helper()
	q, err := engine.NewQueue()
	w.ok(err)
	s, err := store.Open(w.ctx, w.path, store.Options{Queue: q})
	w.ok(err)
	o := w.opts
	o.Queue, o.DB, o.Store, o.Logs = q, s.DB(), s, s.Logs().OpenLog
	if w.wrap != nil {
		o.Store = w.wrap(s)
	}
	o.Runners = map[slipway.StepKind]stage.Runner{}
	for _, kind := range stage.Order() {
		o.Runners[kind] = w.stand
	}
	e, err := engine.New(o)
	w.ok(err)
	if _, err := s.Project(w.ctx, "shop"); err != nil {
		_, err := s.CreateProject(w.ctx, slipway.Project{Name: "shop"}, "ada")
		w.ok(err)
	}
	w.ok(e.Start(w.ctx))
	w.store, w.engine = s, e
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(e.Stop(ctx), s.Close()); err != nil {
			w.t.Log(err)
		}
	})
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func p(key string, needs ...string) slipway.PlanStep {
	kind := key
	for i, r := range key {
		if r == '/' {
			kind = key[:i]
			break
		}
	}
	return slipway.PlanStep{Key: key, Kind: slipway.StepKind(kind), Service: "a", Needs: needs}
}

func (w *world) newRun(steps ...slipway.PlanStep) slipway.Run {
	w.t.Helper()
	r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: "1a2b3c4d5e6f", Actor: "ada"}, slipway.Plan{Steps: steps})
	w.ok(err)
	return r
}

// patience is how long a slow disk may take for anything: every move of a step waits for it.
const patience = 10 * time.Minute

// until waits until cond holds, looking after each change in the store.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		changed := w.store.Watch()
		if cond() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			w.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// untilIdle waits until the engine runs nothing. A worker is free a moment after what it did is in the store.
func (w *world) untilIdle() {
	w.t.Helper()
	deadline, look := time.After(patience), time.NewTicker(time.Millisecond)
	defer look.Stop()
	for w.engine.Running() > 0 {
		select {
		case <-look.C:
		case <-deadline:
			w.t.Fatalf("%d steps run still after %s", w.engine.Running(), patience)
		}
	}
}

func (w *world) untilRun(id int64, want slipway.RunState) slipway.RunDetail {
	w.t.Helper()
	var d slipway.RunDetail
	w.until(fmt.Sprintf("run #%d %s", id, want), func() bool {
		var err error
		d, err = w.store.Run(w.ctx, id)
		w.ok(err)
		if d.Run.State.Final() && d.Run.State != want {
			w.t.Fatalf("run #%d is %s (%s), want %s", id, d.Run.State, d.Run.Reason, want)
		}
		return d.Run.State == want
	})
	return d
}

func (w *world) untilStep(id int64, key string, want slipway.StepState) slipway.Step {
	w.t.Helper()
	var st slipway.Step
	w.until(fmt.Sprintf("%s %s", name(id, key), want), func() bool {
		st = w.step(id, key)
		return st.State == want
	})
	return st
}

func (w *world) step(id int64, key string) slipway.Step {
	w.t.Helper()
	all, err := w.store.Steps(w.ctx, id)
	w.ok(err)
	for _, st := range all {
		if st.Spec.Key == key {
			return st
		}
	}
	w.t.Fatalf("run #%d has no step %s", id, key)
	return slipway.Step{}
}

// untilStarted waits until the stand-in has begun a step.
func (w *world) untilStarted(id int64, key string) {
	w.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-w.stand.starts:
			if got == name(id, key) {
				return
			}
		case <-deadline:
			w.t.Fatalf("%s did not start within %s", name(id, key), patience)
		}
	}
}

// once fails the test unless every event of a run is there once, and the chain holds.
func (w *world) once(id int64) {
	w.t.Helper()
	es, err := w.store.Events(w.ctx, 0, slipway.EventFilter{RunID: id, Limit: 1000})
	w.ok(err)
	ended := map[string]int{}
	for _, e := range es {
		switch e.Kind {
		case "run.succeeded", "run.created", "step.succeeded":
			ended[e.Kind+" "+e.Step]++
		}
	}
	for what, n := range ended {
		if n != 1 {
			w.t.Errorf("%s happened %d times", what, n)
		}
	}
	if _, err := w.store.VerifyEvents(w.ctx); err != nil {
		w.t.Error(err)
	}
}

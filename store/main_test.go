package store

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
)

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "40"); err != nil { // the command line may ask for more
		panic(err)
	}
	goleak.VerifyTestMain(recorded{m})
}

// clock is a clock that moves a millisecond whenever it is looked at, and when it is told to.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time { return c.add(time.Millisecond) }

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
	return c.t
}

// queued is a job as the store queued it.
type queued struct {
	step   int64
	number int
	kind   slipway.StepKind
	at     time.Time
}

// queue keeps what the store queues. Jobs of a transaction that is undone are kept too, as real
// queues forget them: tests that care look at the step's row.
type queue struct {
	mu      sync.Mutex
	jobs    []queued
	wakes   int
	cancels []cancelled
}

func (q *queue) Enqueue(_ context.Context, _ *sql.Tx, step int64, number int, kind slipway.StepKind, at time.Time) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.jobs = append(q.jobs, queued{step, number, kind, at})
	return nil
}

func (q *queue) Wake(time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wakes++
}

func (q *queue) Cancel(run int64, cause error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancels = append(q.cancels, cancelled{run, cause})
}

// newest is the newest job of a step, 0 for none.
func (q *queue) newest(step int64) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for _, j := range q.jobs {
		if j.step == step {
			n = max(n, j.number)
		}
	}
	return n
}

// world is a store with what a test needs around it.
type world struct {
	*Store
	t     testing.TB
	ctx   context.Context
	clock *clock
	queue *queue
	path  string
}

// fresh is the file of a database in which nothing is yet. Tests begin with a copy: to migrate one takes longer than
// most of them.
var fresh = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "slipway-fresh-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "slipway.db")
	s, err := Open(context.Background(), path, Options{})
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	if left, _ := filepath.Glob(path + "-*"); len(left) > 0 {
		return nil, fmt.Errorf("the database has %v beside it", left)
	}
	return os.ReadFile(path)
})

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, ctx: context.Background(), clock: newClock(), queue: &queue{}, path: filepath.Join(t.TempDir(), "slipway.db")}
	data, err := fresh()
	w.ok(err)
	w.ok(os.WriteFile(w.path, data, 0o600))
	w.open()
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "shop"}, "ada"))
	return w
}

func (w *world) open() {
	w.t.Helper()
	s, err := Open(w.ctx, w.path, Options{Now: w.clock.now, Queue: w.queue})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, ok := w.t.(*testing.T); ok { // benchmarks measure the driver alone
		w.ok(asked.record(s, w.path))
	}
	w.Store = s
	w.t.Cleanup(func() {
		w.totals(s)
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

// totals fails the test unless what metrics say of the store is what is in its tables.
func (w *world) totals(s *Store) {
	w.t.Helper()
	got, err := s.Metrics(w.ctx)
	if errors.Is(err, sql.ErrConnDone) || s.reader.Ping() != nil { // the test closed it
		return
	}
	w.ok(err)
	for _, table := range []string{"runs", "approvals", "deployments", "pulls"} {
		type count struct {
			state string
			n     int64
		}
		rows, err := list(w.ctx, s.reader, func(r scanner) (c count, err error) { return c, r.Scan(&c.state, &c.n) },
			`SELECT state, count(*) FROM `+table+` GROUP BY state`)
		w.ok(err)
		want := map[string]int64{}
		for _, r := range rows {
			want[r.state] = r.n
		}
		if have := got[table]; len(have)+len(want) > 0 && !maps.Equal(have, want) {
			w.t.Errorf("metrics of %s: %v, the table has %v", table, have, want)
		}
	}
}

// do fails the test on an error; the value before it is dropped.
func (w *world) do(_ any, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// ok fails the test on an error.
func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// code fails the test unless err has the code.
func (w *world) code(err error, want slipway.Code) {
	w.t.Helper()
	if got := slipway.ErrorCode(err); got != want {
		w.t.Fatalf("error %v has code %q, want %q", err, got, want)
	}
}

// p is a planned step: kind and name from the key, and what it needs.
func p(key string, needs ...string) slipway.PlanStep {
	kind, service, env := key, "", ""
	for i, r := range key {
		if r == '/' && service == "" {
			kind, service = key[:i], key[i+1:]
		}
	}
	for i, r := range service {
		if r == '@' {
			service, env = service[:i], service[i+1:]
			break
		}
	}
	return slipway.PlanStep{Key: key, Kind: slipway.StepKind(kind), Service: service, Environment: env, Needs: needs}
}

func steps(s ...slipway.PlanStep) slipway.Plan { return slipway.Plan{Steps: s} }

const (
	commitA = "1a2b3c4d5e6f708192a3b4c5d6e7f80910111213"
	commitB = "9f8e7d6c5b4a39281706f5e4d3c2b1a009080706"
)

// newRun makes a run; ref names what kind it is of.
func (w *world) newRun(ref, commit string, plan slipway.Plan) slipway.Run {
	w.t.Helper()
	r := slipway.Run{Project: "shop", Event: slipway.BranchPush, Ref: ref, Commit: commit, Title: "a change", Actor: "ada"}
	if b, ok, _ := slipway.ParseReleaseRef(ref); ok {
		r.Event, r.Service, r.Version = slipway.ReleasePush, b.Service, b.Version.Leaf
	}
	if ref == "refs/heads/main" {
		r.Event = slipway.DefaultPush
	}
	out, err := w.CreateRun(w.ctx, r, plan)
	w.ok(err)
	return out
}

func (w *world) stepOf(run int64, key string) slipway.Step {
	w.t.Helper()
	all, err := w.Steps(w.ctx, run)
	w.ok(err)
	for _, s := range all {
		if s.Spec.Key == key {
			return s
		}
	}
	w.t.Fatalf("run #%d has no step %s", run, key)
	return slipway.Step{}
}

// start starts the newest job of a step.
func (w *world) start(run int64, key string) slipway.Step {
	w.t.Helper()
	st := w.stepOf(run, key)
	out, _, err := w.StartStep(w.ctx, st.ID, w.queue.newest(st.ID), "here")
	w.ok(err)
	return out
}

// finish starts a step and ends it.
func (w *world) finish(run int64, key string, res slipway.Result) slipway.Step {
	w.t.Helper()
	st := w.start(run, key)
	w.ok(w.FinishStep(w.ctx, st.ID, st.Attempt, res, nil))
	return st
}

var (
	succeeded = slipway.Result{Outcome: slipway.Succeeded}
	failed    = slipway.Result{Outcome: slipway.Failed, Reason: "red"}
)

// states fails the test unless the steps of a run are in these states, given as key, state, ...
func (w *world) states(run int64, want ...string) {
	w.t.Helper()
	for i := 0; i < len(want); i += 2 {
		if st := w.stepOf(run, want[i]); string(st.State) != want[i+1] {
			w.t.Errorf("step %s is %s (%s), want %s", want[i], st.State, st.Reason, want[i+1])
		}
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
}

func (w *world) runState(run int64, want slipway.RunState) slipway.Run {
	w.t.Helper()
	d, err := w.Run(w.ctx, run)
	w.ok(err)
	if d.Run.State != want {
		w.t.Fatalf("run #%d is %s (%s), want %s", run, d.Run.State, d.Run.Reason, want)
	}
	return d.Run
}

// kinds are the kinds of a run's events, oldest first.
func (w *world) kinds(run int64) []string {
	w.t.Helper()
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{RunID: run, Limit: 1000})
	w.ok(err)
	var out []string
	for _, e := range es {
		out = append(out, e.Kind)
	}
	return out
}

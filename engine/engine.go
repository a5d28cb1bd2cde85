// Package engine runs plans on a durable queue: it takes the job of a ready step, calls the step's
// runner, and has the outcome and what follows recorded in one transaction. It retries errors of the
// surroundings, cancels, and goes on after a crash.
//
// It knows no stage, no driver and no store: runners come in by kind of step, and what it needs of
// the store is a few small interfaces. What a step's outcome means for others is the store's affair.
package engine

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Steps is what the engine asks of the store for a step that runs. done is called inside the
// transaction and completes the step's job. Each is a Conflict, and does nothing, when the step is not
// where it is expected.
type Steps interface {
	StartStep(ctx context.Context, stepID int64, job int, node string) (slipway.Step, slipway.RunDetail, error)
	FinishStep(ctx context.Context, stepID int64, attempt int, res slipway.Result, done func(*sql.Tx) error) error
	RetryStep(ctx context.Context, stepID int64, attempt int, reason string, at time.Time, done func(*sql.Tx) error) error
	ErrorStep(ctx context.Context, stepID int64, attempt int, reason string, done func(*sql.Tx) error) error
	ReleaseStep(ctx context.Context, stepID int64, attempt int, done func(*sql.Tx) error) error
}

// Recovery is what the engine asks of the store besides: ending a step whose run was cancelled, and
// putting the steps of a dead process back.
type Recovery interface {
	CancelStep(ctx context.Context, stepID int64, attempt int, done func(*sql.Tx) error) error
	RecoverSteps(ctx context.Context, node string) (int, error)
}

// Journals keeps what steps intend.
type Journals interface {
	PutJournal(ctx context.Context, stepID int64, key string, value []byte) error
	Journal(ctx context.Context, stepID int64, key string) ([]byte, bool, error)
}

// Store is what *store.Store has.
type Store interface {
	Steps
	Recovery
	Journals
}

// Options are what an engine is made of. Queue, DB, Store and Runners are required.
type Options struct {
	Queue   *Queue  // the one that the store was opened with
	DB      *sql.DB // the store's connection that writes
	Store   Store
	Runners map[slipway.StepKind]stage.Runner

	// Logs opens the log of an attempt; each Write is a line of JSON. Default: logs are dropped.
	Logs func(runID, stepID int64, attempt int) (io.WriteCloser, error)
	// Workspace gives a step its folders. Default: none, for runners that need none.
	Workspace func(run slipway.Run, step slipway.Step) stage.Workspace
	// Secrets returns the values of the secrets of those names. Default: a step that declares secrets
	// is an error.
	Secrets func(ctx context.Context, run slipway.Run, names []string) (map[string]string, error)

	Node         string       // name of this process, for people; default "server"
	Workers      int          // steps at once, builds and tests apart; default 16
	BuildWorkers int          // builds and tests at once; default the number of CPUs
	Log          *slog.Logger // default none
	Now          func() time.Time
	Timeout      time.Duration // of steps that name none; default 1 h
	Grace        time.Duration // how long a runner may take to return once it is cancelled; default 30 s
	Backoff      time.Duration // before the first further attempt, doubled for each; default 1 s, at most 1 min
	PollInterval time.Duration // fallback, should a wake-up be missed; default 1 s
}

// Engine runs the steps of plans. It is safe for concurrent use.
type Engine struct {
	opts    Options
	client  *river.Client[*sql.Tx]
	runners map[slipway.StepKind]stage.Runner

	mu       sync.Mutex
	stopping bool
	running  map[*running]bool
	loops    sync.WaitGroup
	stop     context.CancelFunc
	due      chan time.Time
}

// running is a job in this process.
type running struct {
	cancel context.CancelCauseFunc
	runID  int64           // 0: the step is being started
	missed map[int64]error // runs that were cancelled meanwhile
}

// New makes an engine; Start starts it.
func New(o Options) (*Engine, error) {
	if o.Queue == nil || o.DB == nil || o.Store == nil {
		return nil, errors.New("engine: Queue, DB and Store are required")
	}
	setDefaults(&o)
	e := &Engine{opts: o, running: map[*running]bool{}, due: make(chan time.Time, 64)}
	e.runners = make(map[slipway.StepKind]stage.Runner, len(o.Runners))
	for kind, r := range o.Runners {
		e.runners[kind] = e.wrap(r)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{engine: e})
	client, err := river.NewClient(newDriver(o.DB, o.Queue), &river.Config{
		ID:      o.Node,
		Logger:  quiet(o.Log),
		Workers: workers,
		Queues: map[string]river.QueueConfig{
			queueDefault: {MaxWorkers: o.Workers},
			queueBuild:   {MaxWorkers: o.BuildWorkers},
		},
		FetchCooldown:               time.Millisecond,
		FetchPollInterval:           o.PollInterval,
		JobTimeout:                  -1, // steps have their own; the engine puts the steps of a dead process back
		MaxAttempts:                 1,  // a further attempt is a job of its own
		CompletedJobRetentionPeriod: time.Hour,
		CancelledJobRetentionPeriod: time.Hour,
		DiscardedJobRetentionPeriod: 24 * time.Hour,
	})
	if err != nil {
		return nil, fmt.Errorf("make queue client: %w", err)
	}
	e.client = client
	return e, nil
}

func setDefaults(o *Options) {
	if o.Node == "" {
		o.Node = "server"
	}
	if o.Workers <= 0 {
		o.Workers = 16
	}
	if o.BuildWorkers <= 0 {
		o.BuildWorkers = runtime.NumCPU()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&o.Timeout, time.Hour}, {&o.Grace, 30 * time.Second}, {&o.Backoff, time.Second}, {&o.PollInterval, time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
}

// Start puts the steps that a dead process left running back and begins to take jobs. ctx is for
// starting only; Stop ends the engine.
func (e *Engine) Start(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if err := e.forgetJobs(ctx); err != nil {
		return err
	}
	var loop context.Context
	loop, e.stop = context.WithCancel(ctx)
	e.loops.Go(func() { e.promote(loop) })
	e.opts.Queue.attach(e)
	n, err := e.opts.Store.RecoverSteps(ctx, e.opts.Node)
	if err != nil {
		return errors.Join(fmt.Errorf("recover steps: %w", err), e.Stop(ctx))
	}
	if n > 0 {
		e.opts.Log.Info("steps that were running when the server stopped go on", "steps", n)
	}
	if err := e.client.Start(ctx); err != nil {
		return errors.Join(fmt.Errorf("start queue: %w", err), e.Stop(ctx))
	}
	return nil
}

// Stop ends the engine gracefully: no step is started any more, those that run are told that the
// server stops and are put back, so that the next start goes on with them. When ctx is done before
// they have returned, it gives up on them; the next start recovers them.
func (e *Engine) Stop(ctx context.Context) error {
	e.opts.Queue.detach(e)
	e.mu.Lock()
	e.stopping = true
	for r := range e.running {
		r.cancel(slipway.ErrShutdown)
	}
	e.mu.Unlock()
	if e.stop != nil {
		e.stop()
	}
	e.loops.Wait()
	if err := e.client.Stop(ctx); err != nil {
		hard, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return errors.Join(fmt.Errorf("stop queue: %w", err), e.client.StopAndCancel(hard))
	}
	return nil
}

// Cancel tells the steps of a run that run in this process to stop, at once. The store has recorded
// why before.
func (e *Engine) Cancel(runID int64, cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for r := range e.running {
		switch r.runID {
		case runID:
			r.cancel(cause)
		case 0:
			if r.missed == nil {
				r.missed = map[int64]error{}
			}
			r.missed[runID] = cause
		}
	}
}

func (e *Engine) isStopping() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stopping
}

// Running returns how many steps run in this process now.
func (e *Engine) Running() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for r := range e.running {
		if r.runID != 0 {
			n++
		}
	}
	return n
}

// enter registers a job; false means that the engine is stopping.
func (e *Engine) enter(r *running) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.running[r] = true
	return true
}

// started says of which run the job's step is. A cancel that came while it was being started reaches
// it here.
func (e *Engine) started(r *running, runID int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.runID = runID
	if cause, ok := r.missed[runID]; ok {
		r.cancel(cause)
	}
	r.missed = nil
}

func (e *Engine) leave(r *running) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, r)
}

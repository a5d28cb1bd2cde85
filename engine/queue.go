package engine

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"

	"github.com/slipway-cd/slipway"
)

// Queues of the job queue: what burns a CPU does not keep deployments waiting.
const (
	queueDefault = "default"
	queueBuild   = "build"
)

// job is the message that a step is ready. An older Number than the step's newest has no effect.
type job struct {
	Step   int64 `json:"step"`
	Number int   `json:"number"`
}

// Kind names the job to the queue.
func (job) Kind() string { return "step" }

// Queue puts the jobs of steps into the database, inside the store's transactions, and wakes the
// engine after the commit. It is the hook that the store is opened with; it works, and keeps jobs for
// later, before an engine has started. It is safe for concurrent use.
type Queue struct {
	insert *river.Client[*sql.Tx]
	wake   chan struct{} // one slot: a wake-up that nobody took yet is enough

	mu     sync.Mutex
	engine *Engine
}

// NewQueue makes a queue.
func NewQueue() (*Queue, error) {
	client, err := river.NewClient(riversqlite.New(nil), &river.Config{MaxAttempts: 1, Logger: quiet(nil)})
	if err != nil {
		return nil, fmt.Errorf("make queue: %w", err)
	}
	return &Queue{insert: client, wake: make(chan struct{}, 1)}, nil
}

// Enqueue inserts the job of a step with tx, due at at; the zero time is at once.
func (q *Queue) Enqueue(ctx context.Context, tx *sql.Tx, stepID int64, number int, kind slipway.StepKind, at time.Time) error {
	opts := &river.InsertOpts{Queue: queueDefault}
	if kind == slipway.KindBuild || kind == slipway.KindTest {
		opts.Queue = queueBuild
	}
	if at.After(time.Now()) {
		opts.ScheduledAt = at
	}
	_, err := q.insert.InsertTx(ctx, tx, job{Step: stepID, Number: number}, opts)
	return err
}

// Wake tells the engine that a job is due at at; the zero time is now.
func (q *Queue) Wake(at time.Time) {
	q.mu.Lock()
	e := q.engine
	q.mu.Unlock()
	if e == nil || at.IsZero() {
		q.signal()
		return
	}
	e.later(at)
}

// signal wakes the fetchers.
func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Cancel tells the engine that a run is to stop.
func (q *Queue) Cancel(runID int64, cause error) {
	q.mu.Lock()
	e := q.engine
	q.mu.Unlock()
	if e != nil {
		e.Cancel(runID, cause)
	}
}

func (q *Queue) attach(e *Engine) {
	q.mu.Lock()
	q.engine = e
	q.mu.Unlock()
	q.signal()
}

func (q *Queue) detach(e *Engine) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.engine == e {
		q.engine = nil
	}
}

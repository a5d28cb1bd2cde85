package engine

import (
	"context"
	"database/sql"
	"sync"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riversqlite"
)

// driver is River's driver for SQLite with its wake-ups in process: the stock one writes them to a
// table and polls it every 50 ms, which costs a write for each job and time for each step.
type driver struct {
	*riversqlite.Driver
	queue *Queue
}

func newDriver(db *sql.DB, q *Queue) *driver {
	return &driver{Driver: riversqlite.New(db), queue: q}
}

// GetListener returns the listener that the queue wakes.
func (d *driver) GetListener(*riverdriver.GetListenenerParams) riverdriver.Listener {
	return &listener{queue: d.queue}
}

// SupportsListenNotify is false: nothing is to be written to the table of notifications.
func (d *driver) SupportsListenNotify() bool { return false }

// listener hands each wake-up of the queue to the fetchers of both queues.
type listener struct {
	queue *Queue

	mu      sync.Mutex
	pending []string
}

const insertTopic = "river_insert"

// WaitForNotification returns the next wake-up.
func (l *listener) WaitForNotification(ctx context.Context) (*riverdriver.Notification, error) {
	if n := l.pop(); n != nil {
		return n, nil
	}
	select {
	case <-l.queue.wake:
		l.mu.Lock()
		l.pending = []string{queueDefault, queueBuild}
		l.mu.Unlock()
		return l.pop(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) pop() *riverdriver.Notification {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return nil
	}
	name := l.pending[0]
	l.pending = l.pending[1:]
	return &riverdriver.Notification{Topic: insertTopic, Payload: `{"queue": "` + name + `"}`}
}

// The rest of a listener has nothing to do in process.

func (l *listener) Close(context.Context) error            { return nil }
func (l *listener) Connect(context.Context) error          { return nil }
func (l *listener) Listen(context.Context, string) error   { return nil }
func (l *listener) Unlisten(context.Context, string) error { return nil }
func (l *listener) Ping(context.Context) error             { return nil }
func (l *listener) Schema() string                         { return "" }
func (l *listener) SetAfterConnectExec(string)             {}

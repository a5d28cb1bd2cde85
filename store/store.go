// Package store keeps what Slipway knows: SQL on SQLite, written so that PostgreSQL can follow, and the
// logs of steps as files beside it. Every change of state is a named, conditional transition that
// writes its event in the same transaction.
//
// It decides nothing about a delivery and runs nothing: plans come in, the engine calls the
// transitions, and who may do what is asked elsewhere.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/slipway-cd/slipway"
)

// Queue is told of the jobs that make steps run. Enqueue is called inside the transaction that makes
// a step ready and must insert the job with tx; Wake and Cancel are called after the commit and must
// not block.
type Queue interface {
	// Enqueue inserts the job-th job of a step, to run at or after at; the zero time is at once.
	Enqueue(ctx context.Context, tx *sql.Tx, stepID int64, job int, kind slipway.StepKind, at time.Time) error
	// Wake tells that jobs were inserted; at is when one of them is due, zero: now.
	Wake(at time.Time)
	// Cancel tells that a run is to stop. cause is slipway.ErrCancelled or slipway.ErrSuperseded.
	Cancel(runID int64, cause error)
}

// Options are the choices that Open leaves open; the zero value works.
type Options struct {
	Now   func() time.Time // default time.Now
	Queue Queue            // default none: steps become ready, and nobody is told
	// LogLimit bounds the log of one attempt of a step in bytes; default 64 MiB.
	LogLimit int64
}

// Store is the database and the logs. It is safe for concurrent use.
type Store struct {
	writer *sql.DB // one connection: SQLite has one writer
	reader *sql.DB
	now    func() time.Time
	queue  Queue
	key    []byte // of sealed credentials
	dir    string // the data folder
	logs   *Logs
	turn   chan struct{} // held by whoever writes and can wait
	inbox  inbox

	mu      sync.Mutex
	changed chan struct{}
}

// Open opens the database file at path, makes or migrates its tables (River's among them), and keeps
// logs and the key file in the folder that path is in. Only one process may have it open for writing
// at a time; that is for the caller to see to.
func Open(ctx context.Context, path string, opts Options) (*Store, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data folder: %w", err)
	}
	key, err := readKey(filepath.Join(dir, "store.key"))
	if err != nil {
		return nil, err
	}
	if err := touch(path); err != nil {
		return nil, err
	}
	writer, err := sql.Open("sqlite", dsn(path, 2048, "_txlock=immediate"))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	writer.SetMaxOpenConns(1)
	if err := migrate(ctx, writer); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), writer.Close())
	}
	reader, err := sql.Open("sqlite", dsn(path, 1024, "_pragma=query_only(1)"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), writer.Close())
	}
	reader.SetMaxOpenConns(max(4, runtime.NumCPU()))
	reader.SetMaxIdleConns(2)
	reader.SetConnMaxIdleTime(time.Minute)
	return &Store{
		writer: writer, reader: reader, now: opts.Now, queue: opts.Queue, key: key, dir: dir,
		logs:    newLogs(filepath.Join(dir, "logs"), opts.LogLimit, opts.Now),
		changed: make(chan struct{}), turn: make(chan struct{}, 1),
	}, nil
}

// dsn opens path with cache KiB of page cache per connection.
func dsn(path string, cache int, more ...string) string {
	u := url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath()}
	u.RawQuery = "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(1)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-" + strconv.Itoa(cache) + ")"
	for _, m := range more {
		u.RawQuery += "&" + m
	}
	return u.String()
}

// touch makes the database file readable by its owner only.
func touch(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return f.Close()
}

// Close waits for logs being compressed and closes the database.
func (s *Store) Close() error {
	return errors.Join(s.logs.close(), s.reader.Close(), s.writer.Close())
}

// DB is the connection that writes, for the engine's queue, which lives in the same database.
func (s *Store) DB() *sql.DB { return s.writer }

// Logs are the logs of steps.
func (s *Store) Logs() *Logs { return s.logs }

// Ping reports whether the database answers to reads and to writes.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.reader.PingContext(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return s.write(ctx, func(t *tx) error { return nil })
}

// Watch returns a channel that is closed after the next commit that wrote events. Call it before
// reading, so that nothing between is missed.
func (s *Store) Watch() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *Store) broadcast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// tx is a transaction that writes, with what is to happen once it is committed.
type tx struct {
	*sql.Tx
	ctx     context.Context
	s       *Store
	now     time.Time
	events  int
	wake    []time.Time
	cancels []cancelled
	ended   []attempt       // attempts whose log ends with the commit
	freed   map[string]bool // locks whose next in line is to be woken
}

type cancelled struct {
	runID int64
	cause error
}

// write runs fn in a transaction. What fn queued is done after the commit, in order: watchers are
// woken, logs ended, the queue told. Writers take turns, so that who calls writeNow waits for one of them
// at most.
func (s *Store) write(ctx context.Context, fn func(*tx) error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return s.writeNow(ctx, fn)
}

// writeNow is write for what somebody waits for who hangs up soon.
func (s *Store) writeNow(ctx context.Context, fn func(*tx) error) error {
	sqlTx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return dbError(err)
	}
	defer sqlTx.Rollback() //nolint:errcheck // after a commit it does nothing
	t := &tx{Tx: sqlTx, ctx: ctx, s: s, now: s.now()}
	if err := fn(t); err != nil {
		return dbError(err)
	}
	if err := t.wakeLocks(); err != nil {
		return dbError(err)
	}
	if err := sqlTx.Commit(); err != nil {
		return dbError(fmt.Errorf("commit: %w", err))
	}
	for _, a := range t.ended {
		s.logs.end(a)
	}
	if t.events > 0 {
		s.broadcast()
	}
	if s.queue == nil {
		return nil
	}
	for _, at := range t.wake {
		s.queue.Wake(at)
	}
	for _, c := range t.cancels {
		s.queue.Cancel(c.runID, c.cause)
	}
	return nil
}

// dbError gives trouble of the database that may pass its code.
func dbError(err error) error {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return err
	}
	switch se.Code() & 0xff {
	case lib.SQLITE_FULL:
		return slipway.Errorf(slipway.Unavailable, "the disk of the data folder is full; free some space: %w", err)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_IOERR, lib.SQLITE_CANTOPEN:
		return slipway.Errorf(slipway.Unavailable, "the database does not answer: %w", err)
	}
	return err
}

// unique reports whether err is a violated UNIQUE or PRIMARY KEY constraint.
func unique(err error) bool {
	var se *sqlite.Error
	if !errors.As(err, &se) {
		return false
	}
	return se.Code() == lib.SQLITE_CONSTRAINT_UNIQUE || se.Code() == lib.SQLITE_CONSTRAINT_PRIMARYKEY
}

// exec runs a statement that changes rows and returns how many.
func (t *tx) exec(query string, args ...any) (int64, error) {
	res, err := t.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// querier is what reads: the reader pool or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// list collects the rows of a query; never nil.
func list[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, dbError(err)
	}
	defer rows.Close()
	out := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, dbError(rows.Err())
}

// one returns the row of a query, and false when there is none.
func one[T any](ctx context.Context, q querier, scan func(scanner) (T, error), query string, args ...any) (T, bool, error) {
	v, err := scan(q.QueryRowContext(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		var zero T
		return zero, false, nil
	}
	return v, err == nil, dbError(err)
}

func scanString(r scanner) (v string, err error) { return v, r.Scan(&v) }
func scanInt(r scanner) (v int64, err error)     { return v, r.Scan(&v) }

// ms is t as it is stored.
func ms(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// stamp scans stored times.
type stamp struct{ t *time.Time }

// Scan reads Unix milliseconds; 0 is the zero time.
func (s stamp) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("time is a %T", v)
	}
	*s.t = time.Time{}
	if n != 0 {
		*s.t = time.UnixMilli(n).UTC()
	}
	return nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"runtime"
	"strings"
	"sync"
)

// queries are the statements that were sent to databases, each once. They are safe for concurrent use.
type queries struct {
	mu   sync.Mutex
	seen map[string]bool
}

// add keeps a statement of the store; those that tests send themselves are not its.
func (q *queries) add(text string) {
	if !fromStore() {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.seen == nil {
		q.seen = map[string]bool{}
	}
	q.seen[text] = true
}

// fromStore reports whether a function of the store asks, be it through those that run any query.
func fromStore() bool {
	var pcs [40]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		name, ours := strings.CutPrefix(f.Function, "github.com/slipway-cd/slipway/store.")
		if !ours || strings.HasSuffix(f.File, "recorded_test.go") || name == "one[...]" || name == "list[...]" || name == "(*tx).exec" {
			continue
		}
		return !strings.HasSuffix(f.File, "_test.go")
	}
	return false
}

// asked is what this package's tests made their stores ask.
var asked queries

// record sends what the store asks from now on through a driver that keeps the statements.
func (q *queries) record(s *Store, path string) error {
	return errors.Join(
		q.through(&s.writer, 1, dsn(path, 2048, "_txlock=immediate")),
		q.through(&s.reader, 4, dsn(path, 1024, "_pragma=query_only(1)")),
	)
}

func (q *queries) through(db **sql.DB, most int, dsn string) error {
	if err := (*db).Close(); err != nil {
		return err
	}
	*db = sql.OpenDB(recordedDriver{(*db).Driver(), dsn, q})
	(*db).SetMaxOpenConns(most)
	return nil
}

type recordedDriver struct {
	base driver.Driver
	dsn  string
	seen *queries
}

// Connect implements driver.Connector.
func (d recordedDriver) Connect(context.Context) (driver.Conn, error) {
	c, err := d.base.Open(d.dsn)
	if err != nil {
		return nil, err
	}
	return recordedConn{c.(sqliteConn), d.seen}, nil
}

// Driver implements driver.Connector.
func (d recordedDriver) Driver() driver.Driver { return d.base }

// sqliteConn is what the driver's connections can.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
	driver.Pinger
}

type recordedConn struct {
	sqliteConn
	seen *queries
}

// ExecContext implements driver.ExecerContext.
func (c recordedConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.seen.add(query)
	return c.sqliteConn.ExecContext(ctx, query, args)
}

// QueryContext implements driver.QueryerContext.
func (c recordedConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.seen.add(query)
	return c.sqliteConn.QueryContext(ctx, query, args)
}

// PrepareContext implements driver.ConnPrepareContext.
func (c recordedConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.seen.add(query)
	return c.sqliteConn.PrepareContext(ctx, query)
}

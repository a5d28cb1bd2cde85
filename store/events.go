package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// event writes an event. key says which event it is: writing the same one twice is an error, and with
// it the transition is undone.
func (t *tx) event(key string, e slipway.Event) error {
	prev, _, err := one(t.ctx, t, scanString, `SELECT hash FROM events ORDER BY id DESC LIMIT 1`)
	if err != nil {
		return fmt.Errorf("read last event: %w", err)
	}
	e.Time = t.now
	hash := chain(prev, key, e)
	_, err = t.exec(`INSERT INTO events (key, time, kind, project, run_id, step, actor, message, data, hash)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		key, ms(e.Time), e.Kind, e.Project, e.RunID, e.Step, e.Actor, e.Message, string(e.Data), hash)
	if err != nil {
		return fmt.Errorf("write event %s: %w", key, err)
	}
	t.events++
	return nil
}

// chain is the hash of an event that follows the one with hash prev.
func chain(prev, key string, e slipway.Event) string {
	body, err := json.Marshal([]any{key, ms(e.Time), e.Kind, e.Project, e.RunID, e.Step, e.Actor, e.Message, string(e.Data)})
	if err != nil { // strings and numbers always encode
		body = nil
	}
	sum := sha256.Sum256(append([]byte(prev), body...))
	return hex.EncodeToString(sum[:])
}

const eventColumns = `id, time, kind, project, run_id, step, actor, message, data`

func scanEvent(r scanner) (e slipway.Event, err error) {
	var data string
	err = r.Scan(&e.ID, stamp{&e.Time}, &e.Kind, &e.Project, &e.RunID, &e.Step, &e.Actor, &e.Message, &data)
	if data != "" {
		e.Data = json.RawMessage(data)
	}
	return e, err
}

// Events returns the events after a cursor, oldest first.
func (s *Store) Events(ctx context.Context, after int64, f slipway.EventFilter) ([]slipway.Event, error) {
	q := newQuery(`SELECT ` + eventColumns + ` FROM events`)
	q.where(`id > ?`, after)
	if f.Project != "" {
		q.where(`project = ?`, f.Project)
	}
	if f.RunID != 0 {
		q.where(`run_id = ?`, f.RunID)
	}
	switch {
	case strings.HasSuffix(f.Kind, "."):
		q.where(`kind >= ?`, f.Kind)
		q.where(`kind < ?`, strings.TrimSuffix(f.Kind, ".")+"/")
	case f.Kind != "":
		q.where(`kind = ?`, f.Kind)
	}
	order := `ORDER BY id`
	if f.Newest {
		order = `ORDER BY id DESC`
	}
	q.end(order, limit(f.Limit, 100, 1000))
	out, err := list(ctx, s.reader, scanEvent, q.text(), q.args...)
	if f.Newest {
		for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	return out, err
}

// LastEvent is the ID of the newest event, 0 for none: where a stream that wants only what comes
// next begins.
func (s *Store) LastEvent(ctx context.Context) (int64, error) {
	id, _, err := one(ctx, s.reader, scanInt, `SELECT coalesce(max(id), 0) FROM events`)
	return id, err
}

// VerifyEvents reads the whole chain of events and returns how many there are; the error names the
// first one that was tampered with.
func (s *Store) VerifyEvents(ctx context.Context) (int64, error) {
	rows, err := s.reader.QueryContext(ctx, `SELECT `+eventColumns+`, key, hash FROM events ORDER BY id`)
	if err != nil {
		return 0, dbError(err)
	}
	defer rows.Close()
	var n int64
	prev := ""
	for rows.Next() {
		var e slipway.Event
		var data, key, hash string
		if err := rows.Scan(&e.ID, stamp{&e.Time}, &e.Kind, &e.Project, &e.RunID, &e.Step, &e.Actor, &e.Message, &data, &key, &hash); err != nil {
			return n, err
		}
		e.Data = json.RawMessage(data)
		if chain(prev, key, e) != hash {
			return n, slipway.Errorf(slipway.Conflict, "event %d (%s) is not what was written, or one before it is missing", e.ID, e.Kind)
		}
		prev = hash
		n++
	}
	return n, dbError(rows.Err())
}

// data is JSON for an event.
func data(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return b
}

// Audit writes an event for something that is not a change of state: a role given, a token made.
func (s *Store) Audit(ctx context.Context, e slipway.Event) error {
	return s.write(ctx, func(t *tx) error { return t.audit(e) })
}

// audit writes an event that is one by its place in the chain.
func (t *tx) audit(e slipway.Event) error {
	last, _, err := one(t.ctx, t, scanInt, `SELECT coalesce(max(id), 0) FROM events`)
	if err != nil {
		return err
	}
	return t.event(fmt.Sprintf("audit/%d", last+1), e)
}

// query puts a statement together from conditions with ? placeholders, which become $1, $2, ...
type query struct {
	b     strings.Builder
	conds int
	args  []any
}

func newQuery(head string) *query {
	q := &query{}
	q.b.WriteString(head)
	return q
}

func (q *query) where(cond string, args ...any) {
	if q.conds == 0 {
		q.b.WriteString(` WHERE `)
	} else {
		q.b.WriteString(` AND `)
	}
	q.conds++
	q.add(cond, args...)
}

func (q *query) add(text string, args ...any) {
	i := 0
	for _, r := range text {
		if r == '?' {
			q.args = append(q.args, args[i])
			i++
			fmt.Fprintf(&q.b, "$%d", len(q.args))
			continue
		}
		q.b.WriteRune(r)
	}
}

func (q *query) end(order string, limit int) {
	q.add(" "+order+` LIMIT ?`, limit)
}

func (q *query) text() string { return q.b.String() }

// limit is n within 1 and most, def for 0.
func limit(n, def, most int) int {
	if n <= 0 {
		return def
	}
	return min(n, most)
}

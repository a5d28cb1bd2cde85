package store

import (
	"database/sql"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// Busy says who holds the lock that a step needs, or goes before it.
type Busy struct {
	Lock  string
	RunID int64
	Step  string
}

// Error names the holder.
func (b *Busy) Error() string {
	return fmt.Sprintf("waits for %s of run #%d, which has %s", b.Step, b.RunID, b.Lock)
}

// holdsLock reports whether a step has its lock: it was interrupted, and goes on.
func (t *tx) holdsLock(st *stepRow) (bool, error) {
	id, _, err := one(t.ctx, t, scanInt, `SELECT step_id FROM locks WHERE name = $1 AND step_id = $2`, st.lock, st.ID)
	return id != 0, err
}

// lockStep takes the lock of a step that starts. When another step holds it or goes first, that one
// is returned.
func (t *tx) lockStep(st *stepRow) (*Busy, error) {
	if st.lock == "" {
		return nil, nil
	}
	ahead, err := t.ahead(st)
	if err != nil || ahead != nil {
		return ahead, err
	}
	_, err = t.exec(`INSERT INTO locks (name, step_id, run_id) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET step_id = excluded.step_id, run_id = excluded.run_id`, st.lock, st.ID, st.RunID)
	if err != nil {
		return nil, fmt.Errorf("take lock %s: %w", st.lock, err)
	}
	return nil, nil
}

// ahead is who keeps a step from its lock: the holder, else the first in line if it is another one.
func (t *tx) ahead(st *stepRow) (*Busy, error) {
	holder, held, err := one(t.ctx, t, func(r scanner) (v sql.NullInt64, err error) { return v, r.Scan(&v) },
		`SELECT step_id FROM locks WHERE name = $1`, st.lock)
	if err != nil {
		return nil, err
	}
	id := holder.Int64
	if !held || !holder.Valid {
		if id, _, err = t.firstInLine(st.lock); err != nil {
			return nil, err
		}
	}
	if id == st.ID || id == 0 {
		return nil, nil
	}
	b, _, err := one(t.ctx, t, func(r scanner) (*Busy, error) {
		v := &Busy{Lock: st.lock}
		return v, r.Scan(&v.RunID, &v.Step)
	}, `SELECT run_id, key FROM steps WHERE id = $1`, id)
	return b, err
}

// nextForLock asks who gets a free lock; the terms that follow from the others are how SQLite knows the partial index.
const nextForLock = `SELECT s.id FROM steps s LEFT JOIN locks l ON l.name = s.lock
	WHERE s.lock = $1 AND s.lock <> '' AND s.state IN ('ready', 'running', 'retrying') AND s.state <> 'running'
	ORDER BY CASE WHEN s.run_id = l.run_id THEN 0 ELSE 1 END, s.run_id, s.id LIMIT 1`

// firstInLine is the step that gets a free lock: one of the run that had it last, so that what follows
// a deployment comes before another run's, else one of the oldest run.
func (t *tx) firstInLine(lock string) (int64, bool, error) {
	return one(t.ctx, t, scanInt, nextForLock, lock)
}

// unlock frees the lock of a step that is done with it; the next in line is woken before the commit.
func (t *tx) unlock(st *stepRow) error {
	if _, err := t.exec(`UPDATE locks SET step_id = NULL WHERE name = $1 AND step_id = $2`, st.lock, st.ID); err != nil {
		return fmt.Errorf("free lock %s: %w", st.lock, err)
	}
	t.free(st.lock)
	return nil
}

func (t *tx) free(lock string) {
	if t.freed == nil {
		t.freed = map[string]bool{}
	}
	t.freed[lock] = true
}

// wakeLocks makes the first in line of each freed lock ready.
func (t *tx) wakeLocks() error {
	for lock := range t.freed {
		delete(t.freed, lock)
		holder, _, err := one(t.ctx, t, func(r scanner) (v sql.NullInt64, err error) { return v, r.Scan(&v) },
			`SELECT step_id FROM locks WHERE name = $1`, lock)
		if err != nil {
			return err
		}
		if holder.Valid {
			continue
		}
		id, ok, err := t.firstInLine(lock)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r, st, err := t.loadStep(id)
		if err != nil {
			return err
		}
		if !st.lockWait {
			continue // it has a job
		}
		if err := t.move(r, st, change{to: slipway.StepReady}); err != nil {
			return err
		}
		if err := t.settle(r); err != nil {
			return err
		}
	}
	return nil
}

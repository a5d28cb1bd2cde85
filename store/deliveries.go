package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
)

func scanReceived(r scanner) (v slipway.Received, err error) {
	var content string
	if err := r.Scan(&v.ID, &v.Project, &content, &v.Attempts, stamp{&v.Time}); err != nil {
		return v, err
	}
	if err := json.Unmarshal([]byte(content), &v.Delivery); err != nil {
		return v, fmt.Errorf("decode delivery %d: %w", v.ID, err)
	}
	return v, nil
}

// DueDeliveries returns the deliveries of a project that are to be processed now, oldest first, and when
// the next one is due, the zero time if none is.
func (s *Store) DueDeliveries(ctx context.Context, project string, limit int) ([]slipway.Received, time.Time, error) {
	now := ms(s.now())
	due, err := list(ctx, s.reader, scanReceived, `SELECT id, project, content, attempts, created_at FROM deliveries
		WHERE project = $1 AND state = 'received' AND due_at <= $2 ORDER BY id LIMIT $3`, project, now, limit)
	if err != nil {
		return nil, time.Time{}, err
	}
	next, _, err := one(ctx, s.reader, func(r scanner) (v time.Time, err error) { return v, r.Scan(stamp{&v}) },
		`SELECT coalesce(min(due_at), 0) FROM deliveries WHERE project = $1 AND state = 'received' AND due_at > $2`, project, now)
	return due, next, err
}

// FinishDeliveries says that deliveries are processed, and what followed.
func (s *Store) FinishDeliveries(ctx context.Context, ids []int64, reason string) error {
	return s.write(ctx, func(t *tx) error {
		for _, id := range ids {
			if _, err := t.exec(`UPDATE deliveries SET state = 'processed', reason = $1 WHERE id = $2`, reason, id); err != nil {
				return fmt.Errorf("finish delivery %d: %w", id, err)
			}
		}
		return nil
	})
}

// DelayDeliveries says that deliveries could not be processed, and when to try again.
func (s *Store) DelayDeliveries(ctx context.Context, ids []int64, until time.Time, reason string) error {
	return s.write(ctx, func(t *tx) error {
		for _, id := range ids {
			if _, err := t.exec(`UPDATE deliveries SET attempts = attempts + 1, due_at = $1, reason = $2 WHERE id = $3 AND state = 'received'`, ms(until), reason, id); err != nil {
				return fmt.Errorf("delay delivery %d: %w", id, err)
			}
		}
		return nil
	})
}

// PruneForges forgets processed deliveries and what forges were told that are older than a time.
func (s *Store) PruneForges(ctx context.Context, before time.Time) error {
	return s.write(ctx, func(t *tx) error {
		if _, err := t.exec(`DELETE FROM deliveries WHERE state = 'processed' AND created_at < $1`, ms(before)); err != nil {
			return fmt.Errorf("prune deliveries: %w", err)
		}
		if _, err := t.exec(`DELETE FROM reactions WHERE updated_at < $1`, ms(before)); err != nil {
			return fmt.Errorf("prune reactions: %w", err)
		}
		return nil
	})
}

const commandColumns = `project, comment, pull, text, author, allowed, answer, created_at`

func scanCommand(r scanner) (c slipway.ForgeCommand, err error) {
	return c, r.Scan(&c.Project, &c.Comment, &c.Pull, &c.Text, &c.Author, &c.Allowed, &c.Answer, stamp{&c.Time})
}

// Command returns what a comment asked for and was answered, and false if it was not obeyed yet.
func (s *Store) Command(ctx context.Context, project, comment string) (slipway.ForgeCommand, bool, error) {
	return one(ctx, s.reader, scanCommand, `SELECT `+commandColumns+` FROM commands WHERE project = $1 AND comment = $2`, project, comment)
}

// SaveCommand keeps what a comment asked for and what was answered. Keeping it again changes nothing.
func (s *Store) SaveCommand(ctx context.Context, c slipway.ForgeCommand) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO commands (`+commandColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			c.Project, c.Comment, c.Pull, c.Text, c.Author, bit(c.Allowed), c.Answer, ms(t.now))
		if err != nil || n == 0 || !c.Allowed { // strangers do not write into the events
			return err
		}
		return t.audit(slipway.Event{
			Kind: "pull.commanded", Project: c.Project, Actor: c.Author, Message: fmt.Sprintf("/slipway %s on pull request #%d: %s", c.Text, c.Pull, c.Answer),
			Data: data(map[string]any{"pull": c.Pull}),
		})
	})
}

// LastCommand is the newest command on a pull request that was allowed, and false if there is none.
func (s *Store) LastCommand(ctx context.Context, project string, pull int64) (slipway.ForgeCommand, bool, error) {
	return one(ctx, s.reader, scanCommand, `SELECT `+commandColumns+` FROM commands WHERE project = $1 AND pull = $2 AND allowed = 1 ORDER BY created_at DESC, comment DESC LIMIT 1`, project, pull)
}

// Reacted is the last event of a project that the forge was told of.
func (s *Store) Reacted(ctx context.Context, project string) (int64, error) {
	n, _, err := one(ctx, s.reader, scanInt, `SELECT reacted FROM connections WHERE project = $1`, project)
	return n, err
}

// SetReacted moves that on.
func (s *Store) SetReacted(ctx context.Context, project string, event int64) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE connections SET reacted = $1 WHERE project = $2 AND reacted < $3`, event, project, event)
		return err
	})
}

// Sent is what the forge was told last under a name, "" for nothing.
func (s *Store) Sent(ctx context.Context, project, name string) (string, error) {
	v, _, err := one(ctx, s.reader, scanString, `SELECT sent FROM reactions WHERE project = $1 AND name = $2`, project, name)
	return v, err
}

// SetSent keeps what the forge was told.
func (s *Store) SetSent(ctx context.Context, project, name, sent string) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO reactions (project, name, sent, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (project, name) DO UPDATE SET sent = excluded.sent, updated_at = excluded.updated_at`, project, name, sent, ms(t.now))
		return err
	})
}

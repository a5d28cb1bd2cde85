package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

func scanReceived(r scanner) (v slipway.Received, err error) {
	var project, name, content string
	if err := r.Scan(&v.ID, &project, &name, &content, &v.Attempts, stamp{&v.Time}); err != nil {
		return v, err
	}
	v.Codebase = slipway.CodebaseKey(project, name)
	if err := json.Unmarshal([]byte(content), &v.Delivery); err != nil { // of another version; it must not hold up the rest
		v.Delivery = slipway.Delivery{Kind: slipway.DeliveryIgnored, Reason: fmt.Sprintf("cannot be read: %v", err)}
	}
	return v, nil
}

const receivedColumns = `id, project, codebase, content, attempts, created_at`

// DueDeliveries returns the deliveries of a codebase that are to be processed now, oldest first, and when
// the next one is due, the zero time if none is. With one of a pull request comes what waits of it for another try,
// so that a pull request is never opened after it was closed.
func (s *Store) DueDeliveries(ctx context.Context, codebase string, limit int) ([]slipway.Received, time.Time, error) {
	project, name := slipway.SplitCodebase(codebase)
	now := ms(s.now())
	due, err := list(ctx, s.reader, scanReceived, `SELECT `+receivedColumns+` FROM deliveries
		WHERE project = $1 AND codebase = $2 AND state = 'received' AND due_at <= $3 ORDER BY id LIMIT $4`, project, name, now, limit)
	if err != nil {
		return nil, time.Time{}, err
	}
	next, _, err := one(ctx, s.reader, func(r scanner) (v time.Time, err error) { return v, r.Scan(stamp{&v}) },
		`SELECT coalesce(min(due_at), 0) FROM deliveries WHERE project = $1 AND codebase = $2 AND state = 'received' AND due_at > $3`, project, name, now)
	if err != nil || next.IsZero() {
		return due, next, err
	}
	var pulls []int64
	for _, r := range due {
		if r.Delivery.Pull != nil {
			pulls = append(pulls, r.Delivery.Pull.Number)
		}
	}
	if len(pulls) == 0 {
		return due, next, nil
	}
	numbers, err := json.Marshal(pulls)
	if err != nil {
		return nil, next, fmt.Errorf("encode the numbers of pull requests: %w", err)
	}
	wait, err := list(ctx, s.reader, scanReceived, `SELECT `+receivedColumns+` FROM deliveries WHERE project = $1 AND codebase = $2 AND state = 'received' AND due_at > $3
		AND CASE WHEN json_valid(content) THEN json_extract(content, '$.pull.number') IN (SELECT value FROM json_each($4)) ELSE 0 END ORDER BY id LIMIT $5`, project, name, now, string(numbers), limit)
	due = append(due, wait...)
	slices.SortFunc(due, func(a, b slipway.Received) int { return cmp.Compare(a.ID, b.ID) })
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

const commandColumns = `project, codebase, comment, pull, text, author, allowed, answer, created_at`

func scanCommand(r scanner) (c slipway.ForgeCommand, err error) {
	return c, r.Scan(&c.Project, &c.Codebase, &c.Comment, &c.Pull, &c.Text, &c.Author, &c.Allowed, &c.Answer, stamp{&c.Time})
}

// Command returns what a comment on the forge of a codebase asked for and was answered, and false if it was not obeyed yet.
func (s *Store) Command(ctx context.Context, codebase, comment string) (slipway.ForgeCommand, bool, error) {
	project, name := slipway.SplitCodebase(codebase)
	return one(ctx, s.reader, scanCommand, `SELECT `+commandColumns+` FROM commands WHERE project = $1 AND codebase = $2 AND comment = $3`, project, name, comment)
}

// SaveCommand keeps what a comment asked for and what was answered. Keeping it again changes nothing.
func (s *Store) SaveCommand(ctx context.Context, c slipway.ForgeCommand) error {
	return s.write(ctx, func(t *tx) error {
		n, err := t.exec(`INSERT INTO commands (`+commandColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,
			c.Project, c.Codebase, c.Comment, c.Pull, c.Text, c.Author, bit(c.Allowed), c.Answer, ms(t.now))
		if err != nil || n == 0 || !c.Allowed { // strangers do not write into the events
			return err
		}
		on := slipway.PullRequest{Project: c.Project, Codebase: c.Codebase, Number: c.Pull}
		return t.audit(slipway.Event{
			Kind: "pull.commanded", Project: c.Project, Actor: c.Author, Message: fmt.Sprintf("/slipway %s on %s: %s", c.Text, pullTitle(on), c.Answer), Data: pullData(on),
		})
	})
}

// LastCommand is the newest command on a pull request that was allowed, and false if there is none.
func (s *Store) LastCommand(ctx context.Context, codebase string, pull int64) (slipway.ForgeCommand, bool, error) {
	project, name := slipway.SplitCodebase(codebase)
	return one(ctx, s.reader, scanCommand, `SELECT `+commandColumns+` FROM commands WHERE project = $1 AND codebase = $2 AND pull = $3 AND allowed = 1 ORDER BY created_at DESC, comment DESC LIMIT 1`, project, name, pull)
}

// Reacted is the last event of a project that the forge of a codebase was told of.
func (s *Store) Reacted(ctx context.Context, codebase string) (int64, error) {
	project, name := slipway.SplitCodebase(codebase)
	n, _, err := one(ctx, s.reader, scanInt, `SELECT reacted FROM connections WHERE project = $1 AND codebase = $2`, project, name)
	return n, err
}

// SetReacted moves that on.
func (s *Store) SetReacted(ctx context.Context, codebase string, event int64) error {
	project, name := slipway.SplitCodebase(codebase)
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE connections SET reacted = $1 WHERE project = $2 AND codebase = $3 AND reacted < $4`, event, project, name, event)
		return err
	})
}

// Sent is what the forge of a codebase was told last under a name, "" for nothing.
func (s *Store) Sent(ctx context.Context, codebase, what string) (string, error) {
	project, name := slipway.SplitCodebase(codebase)
	v, _, err := one(ctx, s.reader, scanString, `SELECT sent FROM reactions WHERE project = $1 AND codebase = $2 AND name = $3`, project, name, what)
	return v, err
}

// SetSent keeps what the forge was told.
func (s *Store) SetSent(ctx context.Context, codebase, what, sent string) error {
	project, name := slipway.SplitCodebase(codebase)
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO reactions (project, codebase, name, sent, updated_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (project, codebase, name) DO UPDATE SET sent = excluded.sent, updated_at = excluded.updated_at`, project, name, what, sent, ms(t.now))
		return err
	})
}

package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

const waiverColumns = `id, project, gate, subject, service, environment, reason, author, expires_at, created_at, withdrawn_at`

func scanWaiver(r scanner) (w slipway.Waiver, err error) {
	return w, r.Scan(&w.ID, &w.Project, &w.Gate, &w.Subject, &w.Service, &w.Environment, &w.Reason, &w.Author,
		stamp{&w.Expires}, stamp{&w.CreatedAt}, stamp{&w.Withdrawn})
}

// Waivers returns waivers that people gave, newest first: all of those that hold, then of those that do not hold any
// more as many as the filter wants.
func (s *Store) Waivers(ctx context.Context, f slipway.WaiverFilter) ([]slipway.Waiver, error) {
	now, out := ms(s.now()), []slipway.Waiver{}
	var err error
	if f.Before == 0 {
		out, err = list(ctx, s.reader, scanWaiver, `SELECT `+waiverColumns+` FROM waivers
			WHERE project = $1 AND withdrawn_at = 0 AND expires_at > $2 ORDER BY id DESC`, f.Project, now)
	}
	if err != nil || f.Holding {
		return out, err
	}
	over, err := list(ctx, s.reader, scanWaiver, `SELECT `+waiverColumns+` FROM waivers
		WHERE project = $1 AND (withdrawn_at <> 0 OR expires_at <= $2) AND ($3 = 0 OR id < $3) ORDER BY id DESC LIMIT $4`,
		f.Project, now, f.Before, limit(f.Limit, 100, slipway.MostWaivers))
	return append(out, over...), err
}

// Waiver returns one.
func (s *Store) Waiver(ctx context.Context, id int64) (slipway.Waiver, error) {
	w, ok, err := one(ctx, s.reader, scanWaiver, `SELECT `+waiverColumns+` FROM waivers WHERE id = $1`, id)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "waiver %d does not exist", id)
	}
	return w, err
}

// GiveWaiver keeps a waiver that a person gave; its author is whoever gave it.
func (s *Store) GiveWaiver(ctx context.Context, w slipway.Waiver) (slipway.Waiver, error) {
	err := s.write(ctx, func(t *tx) error {
		w.CreatedAt = t.now
		if err := t.QueryRowContext(ctx, `INSERT INTO waivers (project, gate, subject, service, environment, reason, author, expires_at, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id`,
			w.Project, w.Gate, w.Subject, w.Service, w.Environment, w.Reason, w.Author, ms(w.Expires), ms(t.now)).Scan(&w.ID); err != nil {
			return fmt.Errorf("record waiver of %s: %w", w.Subject, err)
		}
		return t.event(fmt.Sprintf("waiver/%d/given", w.ID), slipway.Event{Kind: "waiver.given", Project: w.Project, Actor: w.Author,
			Message: fmt.Sprintf("%s waived %s of gate %s until %s: %s", w.Author, w.Subject, w.Gate, w.Expires.UTC().Format("2006-01-02"), w.Reason),
			Data:    data(w)})
	})
	return w, err
}

// WithdrawWaiver takes a waiver back; one that does not hold any more is a Conflict.
func (s *Store) WithdrawWaiver(ctx context.Context, id int64, actor string) (slipway.Waiver, error) {
	err := s.write(ctx, func(t *tx) error {
		var w slipway.Waiver
		n, err := t.exec(`UPDATE waivers SET withdrawn_at = $1, withdrawn_by = $2 WHERE id = $3 AND withdrawn_at = 0 AND expires_at > $4`,
			ms(t.now), actor, id, ms(t.now))
		if err != nil {
			return err
		}
		if n == 0 {
			return slipway.Errorf(slipway.Conflict, "waiver %d does not hold any more, or does not exist", id)
		}
		if w, _, err = one(ctx, t, scanWaiver, `SELECT `+waiverColumns+` FROM waivers WHERE id = $1`, id); err != nil {
			return err
		}
		return t.event(fmt.Sprintf("waiver/%d/withdrawn", w.ID), slipway.Event{Kind: "waiver.withdrawn", Project: w.Project, Actor: actor,
			Message: fmt.Sprintf("%s withdrew the waiver of %s for gate %s", actor, w.Subject, w.Gate)})
	})
	if err != nil {
		return slipway.Waiver{}, err
	}
	return s.Waiver(ctx, id)
}

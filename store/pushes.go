package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

const pushColumns = `id, project, ref, old, new, actor, state, coalesce(run_id, 0), created_at, codebase`

func scanPush(r scanner) (p slipway.Push, err error) {
	return p, r.Scan(&p.ID, &p.Project, &p.Ref, &p.Old, &p.New, &p.Actor, &p.State, &p.RunID, stamp{&p.Time}, &p.Codebase)
}

// RecordPush writes a push down before its ref moves, in state received. The same push recorded again
// while it is open is returned, not doubled.
func (s *Store) RecordPush(ctx context.Context, p slipway.Push) (slipway.Push, error) {
	err := s.write(ctx, func(t *tx) error {
		old, ok, err := one(ctx, t, scanPush, `SELECT `+pushColumns+` FROM pushes
			WHERE project = $1 AND ref = $2 AND old = $3 AND new = $4 AND codebase = $5 AND state = 'received'`, p.Project, p.Ref, p.Old, p.New, p.Codebase)
		if err != nil || ok {
			p = old
			return err
		}
		p.State, p.Time, p.RunID = slipway.PushReceived, t.now, 0
		err = t.QueryRowContext(ctx, `INSERT INTO pushes (project, ref, old, new, actor, state, created_at, codebase) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id`,
			p.Project, p.Ref, p.Old, p.New, p.Actor, p.State, ms(t.now), p.Codebase).Scan(&p.ID)
		if err != nil {
			return fmt.Errorf("record push of %s: %w", p.Ref, err)
		}
		return t.event(pushKey(p.ID, p.State), slipway.Event{
			Kind: "push.received", Project: p.Project, Actor: p.Actor, Message: describePush(p),
			Data: data(map[string]any{"push": p.ID, "ref": p.Ref, "old": p.Old, "new": p.New}),
		})
	})
	return p, err
}

func pushKey(id int64, state slipway.PushState) string { return fmt.Sprintf("push/%d/%s", id, state) }

func describePush(p slipway.Push) string {
	at := inCodebase(p.Codebase)
	switch {
	case p.New == slipway.ZeroHash:
		return p.Ref + at + " is to be deleted"
	case p.Old == slipway.ZeroHash:
		return fmt.Sprintf("%s%s is to be created at %s", p.Ref, at, slipway.ShortHash(p.New))
	}
	return fmt.Sprintf("%s%s is to move from %s to %s", p.Ref, at, slipway.ShortHash(p.Old), slipway.ShortHash(p.New))
}

// AcceptPush says that the ref of a push has moved and, when run is set, makes its run with the steps
// of plan (a plan without steps gets one step that plans) in the same transaction. Accepting a push
// again returns the run it has. message says what follows, for the event.
func (s *Store) AcceptPush(ctx context.Context, pushID int64, run *slipway.Run, plan slipway.Plan, message string) (slipway.Run, error) {
	var out slipway.Run
	err := s.write(ctx, func(t *tx) error {
		p, err := t.push(pushID)
		if err != nil {
			return err
		}
		if p.State == slipway.PushAccepted {
			if p.RunID != 0 {
				out, err = t.run(p.RunID)
			}
			return err
		}
		if err := t.movePush(p, slipway.PushAccepted, ""); err != nil {
			return err
		}
		e := slipway.Event{
			Kind: "push.accepted", Project: p.Project, Actor: p.Actor, Message: message,
			Data: data(map[string]any{"push": p.ID, "ref": p.Ref, "old": p.Old, "new": p.New}),
		}
		if run != nil {
			r := *run
			r.Codebase = p.Codebase
			if r.Project == "" {
				r.Project = p.Project
			}
			if out, err = t.createRun(r, plan); err != nil {
				return err
			}
			if _, err := t.exec(`UPDATE pushes SET run_id = $1 WHERE id = $2`, out.ID, p.ID); err != nil {
				return err
			}
			e.RunID = out.ID
		}
		passed, err := passed(ctx, t, p)
		if err != nil {
			return err
		}
		if !passed {
			if err := t.setSeen(p.Project, p.Codebase, p.Ref, p.New); err != nil {
				return err
			}
		}
		return t.event(pushKey(p.ID, slipway.PushAccepted), e)
	})
	return out, err
}

// PushPassed reports whether a push of the same ref that was recorded later is accepted.
func (s *Store) PushPassed(ctx context.Context, p slipway.Push) (bool, error) {
	return passed(ctx, s.reader, p)
}

func passed(ctx context.Context, q querier, p slipway.Push) (bool, error) {
	_, is, err := one(ctx, q, scanInt, `SELECT id FROM pushes WHERE project = $1 AND codebase = $2 AND ref = $3 AND id > $4 AND state = 'accepted' LIMIT 1`, p.Project, p.Codebase, p.Ref, p.ID)
	return is, err
}

// RefusePush says that the ref of a push did not move, and why. Refusing it again does nothing.
func (s *Store) RefusePush(ctx context.Context, pushID int64, reason string) error {
	return s.write(ctx, func(t *tx) error {
		p, err := t.push(pushID)
		if err != nil || p.State == slipway.PushRefused {
			return err
		}
		if err := t.movePush(p, slipway.PushRefused, reason); err != nil {
			return err
		}
		return t.event(pushKey(p.ID, slipway.PushRefused), slipway.Event{
			Kind: "push.refused", Project: p.Project, Actor: p.Actor, Message: reason,
			Data: data(map[string]any{"push": p.ID, "ref": p.Ref, "old": p.Old, "new": p.New}),
		})
	})
}

func (t *tx) movePush(p slipway.Push, to slipway.PushState, reason string) error {
	n, err := t.exec(`UPDATE pushes SET state = $1, reason = $2 WHERE id = $3 AND state = 'received'`, to, reason, p.ID)
	if err != nil {
		return fmt.Errorf("move push %d: %w", p.ID, err)
	}
	if n == 0 {
		return slipway.Errorf(slipway.Conflict, "push %d of %s is %s already", p.ID, p.Ref, p.State)
	}
	return nil
}

func (t *tx) push(id int64) (slipway.Push, error) {
	p, ok, err := one(t.ctx, t, scanPush, `SELECT `+pushColumns+` FROM pushes WHERE id = $1`, id)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "push %d does not exist", id)
	}
	return p, err
}

// Push returns a push.
func (s *Store) Push(ctx context.Context, id int64) (slipway.Push, error) {
	p, ok, err := one(ctx, s.reader, scanPush, `SELECT `+pushColumns+` FROM pushes WHERE id = $1`, id)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "push %d does not exist", id)
	}
	return p, err
}

// OpenPushes returns the pushes of which it is not known whether their refs moved, oldest first: what
// is compared with the refs at start.
func (s *Store) OpenPushes(ctx context.Context) ([]slipway.Push, error) {
	return list(ctx, s.reader, scanPush, `SELECT `+pushColumns+` FROM pushes
		WHERE project IN (SELECT name FROM projects) AND state = 'received' ORDER BY id`)
}

// SeenRefs returns the last commit of each ref of a codebase that made a push or was looked at.
func (s *Store) SeenRefs(ctx context.Context, project, codebase string) (map[string]string, error) {
	type seen struct{ ref, commit string }
	rows, err := list(ctx, s.reader, func(r scanner) (v seen, err error) { return v, r.Scan(&v.ref, &v.commit) },
		`SELECT ref, commit_hash FROM refs_seen WHERE project = $1 AND codebase = $2`, project, codebase)
	out := make(map[string]string, len(rows))
	for _, v := range rows {
		out[v.ref] = v.commit
	}
	return out, err
}

// setSeen keeps where a ref of a codebase is; the zero hash or "" forgets the ref.
func (t *tx) setSeen(project, codebase, ref, commit string) error {
	if commit == "" || commit == slipway.ZeroHash {
		_, err := t.exec(`DELETE FROM refs_seen WHERE project = $1 AND codebase = $2 AND ref = $3`, project, codebase, ref)
		return err
	}
	_, err := t.exec(`INSERT INTO refs_seen (project, codebase, ref, commit_hash) VALUES ($1, $2, $3, $4)
		ON CONFLICT (project, codebase, ref) DO UPDATE SET commit_hash = excluded.commit_hash`, project, codebase, ref, commit)
	return err
}

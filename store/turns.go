package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// Plans of one branch are stored in the order of its runs, each made from what the one before left: as if they were
// made one after the other. A plan that another one came before is made again, and nobody holds a lock meanwhile.

// Ahead is the newest run of a codebase's ref before a run that is still to be planned; 0 for none. One that
// could not be planned at once holds nothing up: its turn is over when a later one is planned.
func (s *Store) Ahead(ctx context.Context, project, codebase, ref string, before int64) (int64, error) {
	return ahead(ctx, s.reader, project, codebase, ref, before)
}

func ahead(ctx context.Context, q querier, project, codebase, ref string, before int64) (int64, error) {
	id, _, err := one(ctx, q, scanInt, `SELECT r.id FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.project = $1 AND r.ref = $2 AND r.id < $3 AND r.codebase = $4 AND r.state IN ('queued', 'running') AND r.cancel = '' AND r.event IN ('push', 'merge')
		AND s.kind = 'plan' AND s.errors = 0 AND s.state IN ('blocked', 'ready', 'running', 'retrying') ORDER BY r.id DESC LIMIT 1`, project, ref, before, codebase)
	if err != nil {
		return 0, fmt.Errorf("look for runs of %s to be planned before run #%d: %w", ref, before, err)
	}
	return id, nil
}

// unplanned reports whether the plan of a run is still awaited.
func (r *runRow) unplanned() bool {
	for _, st := range r.steps {
		if st.Spec.Kind == slipway.KindPlan {
			return r.cancel == "" && st.Errors == 0 && !st.State.Final()
		}
	}
	return false
}

// turn is how many plans and retries of a ref there were, from 1 on.
func turn(ctx context.Context, q querier, project, codebase, ref string) (int64, error) {
	n, _, err := one(ctx, q, scanInt, `SELECT coalesce(max(turn), 0) + 1 FROM turns WHERE project = $1 AND codebase = $2 AND ref = $3`, project, codebase, ref)
	if err != nil {
		return 0, fmt.Errorf("count the plans of %s: %w", ref, err)
	}
	return n, nil
}

// takeTurn has every plan of the run's branch made again that is not stored yet.
func (t *tx) takeTurn(r *runRow) error {
	if !builds(r) {
		return nil
	}
	if _, err := t.exec(`INSERT INTO turns (project, codebase, ref, turn) VALUES ($1, $2, $3, 1)
		ON CONFLICT DO UPDATE SET turn = turn + 1`, r.Project, r.Codebase, r.Ref); err != nil {
		return fmt.Errorf("count the plans of %s: %w", r.Ref, err)
	}
	return nil
}

// outOfTurn is called with a plan that is about to be stored. It puts the step back, or ends its run, and reports so
// when the plan is not what it would be if the runs of the branch were planned one after the other.
func (t *tx) outOfTurn(r *runRow, st *stepRow, p slipway.Plan) (bool, error) {
	if st.Spec.Kind != slipway.KindPlan || !builds(r) || r.cancel != "" || p.Turn == 0 {
		return false, nil
	}
	newer, err := t.plannedAfter(r)
	if err != nil {
		return false, err
	}
	if newer != 0 {
		return true, t.stepAside(r, st, fmt.Sprintf("superseded by run #%d, which came later, was planned first and has its changes", newer))
	}
	first, err := ahead(t.ctx, t, r.Project, r.Codebase, r.Ref, r.ID)
	if err != nil {
		return false, err
	}
	if first != 0 {
		return true, t.move(r, st, change{to: slipway.StepRetrying, reason: waitsForPlan(first), behind: first})
	}
	now, err := turn(t.ctx, t, r.Project, r.Codebase, r.Ref)
	if err != nil {
		return false, err
	}
	why := "planned again: another run of the branch was planned or retried meanwhile"
	if now == p.Turn {
		why, err = t.stale(r, p)
	}
	if err != nil || why == "" {
		return false, err
	}
	return true, t.move(r, st, change{to: slipway.StepReady, reason: why})
}

func waitsForPlan(run int64) string {
	return fmt.Sprintf("waits for the plan of run #%d, which was pushed before", run)
}

// plannedAfter is a later run of the default branch that is planned and not cancelled, 0 for none. Other branches
// deliver nothing, so that it does no harm there to plan an older commit again.
func (t *tx) plannedAfter(r *runRow) (int64, error) {
	if r.Event != slipway.DefaultPush {
		return 0, nil
	}
	id, _, err := one(t.ctx, t, scanInt, `SELECT r.id FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.project = $1 AND r.ref = $2 AND r.id > $3 AND r.codebase = $4 AND r.event = 'merge' AND r.cancel = '' AND s.kind = 'plan' AND s.state = 'succeeded'
		ORDER BY r.id DESC LIMIT 1`, r.Project, r.Ref, r.ID, r.Codebase)
	if err != nil {
		return 0, fmt.Errorf("look for runs of %s planned after run #%d: %w", r.Ref, r.ID, err)
	}
	return id, nil
}

// stepAside cancels a run whose running step is the one that plans it.
func (t *tx) stepAside(r *runRow, st *stepRow, why string) error {
	if err := t.cancelRun(r, "", why, slipway.ErrSuperseded); err != nil {
		return err
	}
	return t.move(r, st, change{to: slipway.StepCancelled, reason: why})
}

// nextTurn wakes the runs that waited for this one's plan.
func (t *tx) nextTurn(r *runRow, st *stepRow) error {
	if st.Spec.Kind != slipway.KindPlan || !(st.State.Final() || st.State == slipway.StepRetrying && st.Errors > 0) {
		return nil
	}
	return t.wakeBehind(r)
}

// takenOver is the newest run of the default branch after a run that is done with a service, or left it as it was, or
// began to deploy it to the same environment; 0 for none. To go on there in the earlier run would put an older commit
// over a newer one.
func (t *tx) takenOver(r *runRow, at place) (int64, error) {
	if r.Event != slipway.DefaultPush || at.service == "" {
		return 0, nil
	}
	id, _, err := one(t.ctx, t, scanInt, `SELECT coalesce(max(run_id), 0) FROM (
		SELECT run_id FROM built WHERE project = $1 AND codebase = $2 AND ref = $3 AND service = $4 AND run_id > $5
		UNION ALL SELECT s.run_id FROM steps s JOIN runs n ON n.id = s.run_id WHERE s.project = $1 AND s.service = $4 AND s.run_id > $5
		AND s.environment = $6 AND s.kind = 'deploy' AND s.attempt > 0 AND n.codebase = $2 AND n.ref = $3 AND n.event = 'merge')`,
		r.Project, r.Codebase, r.Ref, at.service, r.ID, at.environment)
	if err != nil {
		return 0, fmt.Errorf("look for what took %s over from run #%d: %w", at.service, r.ID, err)
	}
	return id, nil
}

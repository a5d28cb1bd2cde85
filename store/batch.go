package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// ActiveRun is the newest run of a codebase's ref before a run that is at work, not one that waits for another or for
// a person, and not one that is being cancelled; 0 for none.
func (s *Store) ActiveRun(ctx context.Context, project, codebase, ref string, before int64) (int64, error) {
	id, _, err := one(ctx, s.reader, scanInt, `SELECT r.id FROM runs r WHERE r.project = $1 AND r.codebase = $2 AND r.ref = $3 AND r.id < $4
		AND r.state IN ('queued', 'running') AND r.cancel = '' AND NOT EXISTS (SELECT 1 FROM steps s WHERE s.run_id = r.id AND s.behind <> 0)
		ORDER BY r.id DESC LIMIT 1`, project, codebase, ref, before)
	return id, err
}

// postpone puts a step behind a run, or behind its plan; one that is not at work any more holds nothing up. A run
// that is to begin later has no reason to begin at all when there is a newer one of its branch.
func (t *tx) postpone(r *runRow, st *stepRow, res slipway.Result) error {
	other, err := t.loadRun(res.After)
	if err != nil {
		return err
	}
	if !atWork(other.State) || res.UntilPlanned && !other.unplanned() {
		return t.move(r, st, change{to: slipway.StepReady})
	}
	if other.ID >= r.ID {
		return slipway.Errorf(slipway.Invalid, "step %s of run #%d cannot wait for the later run #%d", st.Spec.Key, r.ID, other.ID)
	}
	if !res.UntilPlanned {
		newer, err := t.openAfter(r)
		if err != nil {
			return err
		}
		if newer != 0 {
			return t.stepAside(r, st, fmt.Sprintf("batched into run #%d", newer))
		}
	}
	return t.move(r, st, change{to: slipway.StepRetrying, reason: res.Reason, behind: other.ID})
}

// openAfter is the newest run of the same ref after a run that is to be planned; 0 for none.
func (t *tx) openAfter(r *runRow) (int64, error) {
	id, _, err := one(t.ctx, t, scanInt, `SELECT r.id FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.project = $1 AND r.ref = $2 AND r.event = $3 AND r.id > $4 AND r.codebase = $5 AND r.cancel = ''
		AND s.kind = 'plan' AND s.state IN ('ready', 'running', 'retrying') ORDER BY r.id DESC LIMIT 1`, r.Project, r.Ref, r.Event, r.ID, r.Codebase)
	return id, err
}

// planned is called when a run knows what it does: one of a branch that gathers nothing takes the place of
// the older ones at once, also of those that gather.
func (t *tx) planned(r *runRow, st *stepRow, p slipway.Plan) error {
	if st.Spec.Kind != slipway.KindPlan || r.Event != slipway.BranchPush || p.Batch || r.cancel != "" {
		return nil
	}
	return t.supersede(r, false)
}

func atWork(s slipway.RunState) bool { return s == slipway.RunQueued || s == slipway.RunRunning }

// stepsBehind asks for the steps that wait for a run; what it says twice is how SQLite knows the partial index.
const stepsBehind = `SELECT id FROM steps WHERE behind = $1 AND behind <> 0 ORDER BY id`

// wakeBehind makes the steps ready that waited for a run.
func (t *tx) wakeBehind(r *runRow) error {
	ids, err := list(t.ctx, t, scanInt, stepsBehind, r.ID)
	if err != nil {
		return err
	}
	for _, id := range ids {
		other, st, err := t.loadStep(id)
		if err != nil {
			return err
		}
		if err := t.move(other, st, change{to: slipway.StepReady}); err != nil {
			return err
		}
		if err := t.settle(other); err != nil {
			return err
		}
	}
	return nil
}

// gather cancels the runs of the same ref that still wait for another one to end: the new one, which
// compares with what was built last, has their changes too (S38).
func (t *tx) gather(r *runRow) error {
	ids, err := list(t.ctx, t, scanInt, `SELECT DISTINCT r.id FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.project = $1 AND r.ref = $2 AND r.event = $3 AND r.id < $4 AND r.codebase = $5 AND s.behind <> 0 ORDER BY r.id`, r.Project, r.Ref, r.Event, r.ID, r.Codebase)
	if err != nil {
		return err
	}
	for _, id := range ids {
		old, err := t.loadRun(id)
		if err != nil {
			return err
		}
		if old.cancel != "" {
			continue
		}
		if err := t.cancelRun(old, "", fmt.Sprintf("batched into run #%d", r.ID), slipway.ErrSuperseded); err != nil {
			return err
		}
	}
	return nil
}

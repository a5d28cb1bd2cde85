package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// RetryRun gives the steps of a run that did not succeed another chance: those whose needs are met
// become ready, the others blocked. An approval whose dependents failed is asked for again, because
// what it was bound to may have changed (D11). A run that is still at work, that succeeded, or that
// was rolled back is a Conflict.
func (s *Store) RetryRun(ctx context.Context, id int64, actor string) error {
	return s.write(ctx, func(t *tx) error {
		r, err := t.loadRun(id)
		if err != nil {
			return err
		}
		if !r.State.Final() {
			return slipway.Errorf(slipway.Conflict, "run #%d is %s; only a run that is over can be retried", id, r.State)
		}
		again, err := retryable(r)
		if err != nil {
			return err
		}
		r.moves++
		r.cancel = ""
		if _, err := t.exec(`UPDATE runs SET cancel = '', moves = $1 WHERE id = $2`, r.moves, id); err != nil {
			return fmt.Errorf("retry run #%d: %w", id, err)
		}
		if err := t.event(fmt.Sprintf("run/%d/%d", id, r.moves), slipway.Event{
			Kind: "run.retried", Project: r.Project, RunID: id, Actor: actor, Message: fmt.Sprintf("run #%d retried by %s", id, actor),
		}); err != nil {
			return err
		}
		for _, st := range again {
			if err := t.move(r, st, change{to: slipway.StepBlocked, actor: actor, fresh: true}); err != nil {
				return err
			}
		}
		return t.settle(r)
	})
}

// retryable returns the steps that a retry does again, or why there is nothing to retry.
func retryable(r *runRow) ([]*stepRow, error) {
	rollbacks, rolledBack := 0, true
	for _, st := range r.steps {
		if st.Spec.Kind == slipway.KindRollback && r.Event != slipway.RollbackCall {
			rollbacks++
			rolledBack = rolledBack && st.fulfilled
		}
	}
	if rollbacks > 0 && rolledBack {
		return nil, slipway.Errorf(slipway.Conflict, "run #%d was rolled back: push a fix, or lift the quarantine and deploy the version again", r.ID)
	}
	again := map[*stepRow]bool{}
	for _, st := range r.steps {
		onlyRollback := rollbacks > 0 && st.Spec.Kind != slipway.KindRollback // the way back first, and only that
		if st.State != slipway.StepSucceeded && !st.fulfilled && !onlyRollback {
			again[st] = true
		}
	}
	for _, st := range r.steps {
		if st.Spec.Kind == slipway.KindApprove && st.State == slipway.StepSucceeded && rollbacks == 0 && failedAfter(r, st) {
			again[st] = true
		}
	}
	var out []*stepRow
	for _, st := range r.steps {
		if again[st] {
			out = append(out, st)
		}
	}
	if len(out) == 0 {
		return nil, slipway.Errorf(slipway.Conflict, "run #%d succeeded; there is nothing to retry", r.ID)
	}
	return out, nil
}

// failedAfter reports whether a step that follows st, directly or not, failed.
func failedAfter(r *runRow, st *stepRow) bool {
	for _, d := range r.dependents(st) {
		if d.State == slipway.StepFailed {
			return true
		}
	}
	return false
}

// dependents are the steps that need st, directly or through others.
func (r *runRow) dependents(st *stepRow) []*stepRow {
	seen := map[string]bool{st.Spec.Key: true}
	var out []*stepRow
	for moved := true; moved; {
		moved = false
		for _, d := range r.steps {
			if seen[d.Spec.Key] {
				continue
			}
			for _, key := range d.Spec.Needs {
				if seen[key] {
					seen[d.Spec.Key], moved = true, true
					out = append(out, d)
					break
				}
			}
		}
	}
	return out
}

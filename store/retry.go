package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// RetryRun gives the steps of a run that did not succeed another chance: those whose needs are met
// become ready, the others blocked. Where a service went back to an earlier version, only the way back
// is tried again, if it was not found to the end; other services and environments go on. An approval
// whose deployment failed is asked for again, because what it was bound to may have changed (D11).
//
// lost are the keys of steps whose results are not kept any more: they are done again when a step that
// is done again needs them. A run that is still at work, that succeeded, or of which all that did not
// succeed was rolled back is a Conflict.
func (s *Store) RetryRun(ctx context.Context, id int64, actor string, lost ...string) error {
	return s.write(ctx, func(t *tx) error {
		r, err := t.loadRun(id)
		if err != nil {
			return err
		}
		if !r.State.Final() {
			return slipway.Errorf(slipway.Conflict, "run #%d is %s; only a run that is over can be retried", id, r.State)
		}
		again, repeated, err := retryable(r, lost)
		if err != nil {
			return err
		}
		if again, repeated, err = t.inTurn(r, again, repeated); err != nil {
			return err
		}
		if err := t.takeTurn(r); err != nil {
			return err
		}
		r.moves++
		r.cancel = ""
		if _, err := t.exec(`UPDATE runs SET cancel = '', moves = $1 WHERE id = $2`, r.moves, id); err != nil {
			return fmt.Errorf("retry run #%d: %w", id, err)
		}
		message := fmt.Sprintf("run #%d retried by %s", id, actor)
		if len(repeated) > 0 {
			message += "; what was made before is not kept any more, so this runs again: " + strings.Join(repeated, ", ")
		}
		if err := t.event(fmt.Sprintf("run/%d/%d", id, r.moves), slipway.Event{
			Kind: "run.retried", Project: r.Project, RunID: id, Actor: actor, Message: message,
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

// inTurn leaves of the steps that a retry does again those of services that no later run of the default branch has
// taken over.
func (t *tx) inTurn(r *runRow, again []*stepRow, repeated []string) (left []*stepRow, more []string, err error) {
	newest, taken := int64(0), map[place]int64{}
	for _, st := range again {
		if st.Spec.Kind == slipway.KindPlan {
			if newer, err := t.plannedAfter(r); err != nil || newer != 0 {
				return nil, nil, cmp.Or(err, slipway.Errorf(slipway.Conflict, "run #%d was never planned, and run #%d of the same branch came later and has its changes: retry that one", r.ID, newer))
			}
		}
		by, known := taken[st.place()]
		if !known {
			if by, err = t.takenOver(r, st.place()); err != nil {
				return nil, nil, err
			}
			taken[st.place()] = by
		}
		if newest = max(newest, by); by == 0 {
			left = append(left, st)
		}
	}
	if len(left) == 0 {
		return nil, nil, slipway.Errorf(slipway.Conflict, "nothing of run #%d is left to retry: run #%d of the same branch came later and took over what it would deliver; retry that one, or push", r.ID, newest)
	}
	return left, slices.DeleteFunc(repeated, func(key string) bool { return taken[r.step(key).place()] != 0 }), nil
}

// place is where a service runs.
type place struct{ service, environment string }

func (st *stepRow) place() place { return place{st.Spec.Service, st.Spec.Environment} }

// retryable returns the steps that a retry does again, and which of them had succeeded but are lost; or
// why there is nothing to retry.
func retryable(r *runRow, lost []string) (again []*stepRow, repeated []string, err error) {
	back := r.wentBack()
	chosen := map[*stepRow]bool{}
	for _, st := range r.steps {
		if st.State != slipway.StepSucceeded && !st.fulfilled && (r.onWayBack(st) || !r.behind(st, back)) {
			chosen[st] = true
		}
	}
	for _, st := range r.steps {
		if st.Spec.Kind == slipway.KindApprove && st.State == slipway.StepSucceeded && failedThere(chosen, st.place()) && !r.behind(st, back) {
			chosen[st] = true
		}
	}
	repeated = r.repeat(chosen, lost)
	for _, st := range r.steps {
		if chosen[st] {
			again = append(again, st)
		}
	}
	switch {
	case len(again) > 0:
		return again, repeated, nil
	case len(back) > 0:
		return nil, nil, slipway.Errorf(slipway.Conflict, "run #%d was rolled back, and there is nothing else to retry: push a fix, or lift the quarantine and deploy the version again", r.ID)
	}
	return nil, nil, slipway.Errorf(slipway.Conflict, "run #%d succeeded; there is nothing to retry", r.ID)
}

// wentBack are the places in which the run began a way back by itself.
func (r *runRow) wentBack() map[place]bool {
	back := map[place]bool{}
	for _, st := range r.steps {
		if st.Spec.Kind == slipway.KindRollback && r.Event != slipway.RollbackCall {
			back[st.place()] = true
		}
	}
	return back
}

// onWayBack reports whether a step is a rollback or what comes after one.
func (r *runRow) onWayBack(st *stepRow) bool {
	return slices.ContainsFunc(append(r.needs(st), st), func(s *stepRow) bool { return s.Spec.Kind == slipway.KindRollback })
}

// behind reports whether a step, or one that it needs, is about a place that went back.
func (r *runRow) behind(st *stepRow, back map[place]bool) bool {
	return slices.ContainsFunc(append(r.needs(st), st), func(s *stepRow) bool { return back[s.place()] })
}

// failedThere reports whether a step that is done again had failed in a place.
func failedThere(again map[*stepRow]bool, there place) bool {
	for st := range again {
		if st.State == slipway.StepFailed && st.place() == there {
			return true
		}
	}
	return false
}

// repeat adds to the steps that are done again the lost ones that those need, and returns their keys in
// the order of the plan.
func (r *runRow) repeat(again map[*stepRow]bool, lost []string) []string {
	wanted := func(st *stepRow) bool {
		return slices.ContainsFunc(r.steps, func(s *stepRow) bool { return again[s] && slices.Contains(s.Spec.Needs, st.Spec.Key) })
	}
	var keys []string
	for i := len(r.steps) - 1; i >= 0; i-- { // what needs a step comes after it
		if st := r.steps[i]; !again[st] && st.State.Final() && slices.Contains(lost, st.Spec.Key) && wanted(st) {
			again[st] = true
			keys = append(keys, st.Spec.Key)
		}
	}
	slices.Reverse(keys)
	return keys
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

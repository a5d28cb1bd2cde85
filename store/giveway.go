package store

import (
	"fmt"

	"github.com/slipway-cd/slipway"
)

// waitingForLock asks for the other runs' steps that wait for a lock and have not begun; the terms that follow
// from the others are how SQLite knows the partial index.
const waitingForLock = `SELECT id FROM steps WHERE lock = $1 AND lock <> '' AND state IN ('ready', 'running', 'retrying')
	AND id <> $2 AND run_id <> $3 AND state = 'retrying' AND attempt = 0 ORDER BY id`

// giveWay is called when a step begins to wait for the lock of its target: of the deployments in that
// line, an older one that has not begun is cancelled with what follows from it, as the newer one would
// replace it at once. Older is what D1 says for releases, and the order of the runs for commits of the
// default branch.
func (t *tx) giveWay(r *runRow, st *stepRow) error {
	if !gives(st) {
		return nil
	}
	ids, err := list(t.ctx, t, scanInt, waitingForLock, st.lock, st.ID, st.RunID)
	if err != nil {
		return err
	}
	for _, id := range ids {
		other, waiting, err := t.loadStep(id)
		if err != nil {
			return err
		}
		if !gives(waiting) {
			continue
		}
		switch {
		case replaces(st, waiting):
			err = t.giveWayTo(other, waiting, st)
		case replaces(waiting, st):
			return t.giveWayTo(r, st, waiting) // the caller settles its run
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gives reports whether a step is a deployment that waits for its lock and has done nothing yet.
func gives(st *stepRow) bool {
	return st.lockWait && st.Attempt == 0 && st.Spec.Deploy != nil
}

// replaces reports whether a newer deployment makes an older one needless.
func replaces(newer, old *stepRow) bool {
	a, b := old.Spec.Deploy.Version, newer.Spec.Deploy.Version
	if comparable(a, b) {
		return older(a, b)
	}
	_, errA := slipway.ParseVersion(a)
	_, errB := slipway.ParseVersion(b)
	return errA != nil && errB != nil && old.RunID < newer.RunID
}

// overtaken cancels a deployment of a commit that is not under way when the target has one of a later
// run already, or when a later run of the branch is done with the service or began to deploy it there. Releases are
// compared by version where they are deployed (D1).
func (t *tx) overtaken(r *runRow, st *stepRow) (bool, error) {
	d := st.Spec.Deploy
	if d == nil {
		return false, nil
	}
	if _, err := slipway.ParseVersion(d.Version); err == nil {
		return false, nil
	}
	if held, err := t.holdsLock(st); err != nil || held {
		return false, err
	}
	if st.Attempt == 0 {
		if done, err := t.replaced(r, st); err != nil || done {
			return done, err
		}
	}
	by, err := t.takenOver(r, st.place())
	if err != nil || by == 0 {
		return false, err
	}
	if err := t.cancelFrom(r, st, fmt.Sprintf("superseded: run #%d came later and has %s as it is to be", by, st.Spec.Service)); err != nil {
		return false, err
	}
	return true, t.settle(r)
}

// replaced cancels a deployment that has done nothing yet when its target has one of a later run.
func (t *tx) replaced(r *runRow, st *stepRow) (bool, error) {
	current, ok, err := current(t.ctx, t, r.Project, st.Spec.Environment, st.Spec.Service)
	if err != nil || !ok || current.RunID <= r.ID {
		return false, err
	}
	if _, err := slipway.ParseVersion(current.Version); err == nil {
		return false, nil
	}
	if err := t.cancelFrom(r, st, fmt.Sprintf("superseded: run #%d deployed %s to %s", current.RunID, current.Version, st.Spec.Environment)); err != nil {
		return false, err
	}
	return true, t.settle(r)
}

func (t *tx) giveWayTo(r *runRow, st, newer *stepRow) error {
	d := newer.Spec.Deploy
	if err := t.cancelFrom(r, st, fmt.Sprintf("superseded: run #%d waits to deploy %s to %s", newer.RunID, d.Version, newer.Spec.Environment)); err != nil {
		return err
	}
	return t.settle(r)
}

package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

const stepColumns = `id, run_id, project, spec, lock, state, reason, fulfilled, lock_wait, behind, attempt, errors, errors_since, job, moves, node, reused_from, ready_at, started_at, finished_at`

// stepRow is a step with what only the store knows of it.
type stepRow struct {
	slipway.Step
	project   string
	lock      string
	fulfilled bool  // what needs it may start
	lockWait  bool  // retrying because its lock is taken
	behind    int64 // retrying until that run has ended
	job       int   // number of its newest job
	moves     int
	node      string
	report    *preparedReport // of the result that ends it
}

func scanStepRow(r scanner) (*stepRow, error) {
	v := &stepRow{}
	var spec string
	err := r.Scan(&v.ID, &v.RunID, &v.project, &spec, &v.lock, &v.State, &v.Reason, &v.fulfilled, &v.lockWait, &v.behind, &v.Attempt,
		&v.Errors, stamp{&v.ErrorsSince}, &v.job, &v.moves, &v.node, &v.ReusedFrom, stamp{&v.ReadyAt}, stamp{&v.StartedAt}, stamp{&v.FinishedAt})
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(spec), &v.Spec); err != nil {
		return nil, fmt.Errorf("decode step %d: %w", v.ID, err)
	}
	return v, nil
}

// addSteps adds planned steps to a run, blocked; settle makes those ready that can start.
func (t *tx) addSteps(r *runRow, steps []slipway.PlanStep) error {
	if err := checkSteps(r, steps); err != nil {
		return err
	}
	for _, spec := range steps {
		b, err := json.Marshal(spec)
		if err != nil {
			return fmt.Errorf("encode step %s: %w", spec.Key, err)
		}
		st := &stepRow{Step: slipway.Step{RunID: r.ID, Spec: spec, State: slipway.StepBlocked}, project: r.Project, lock: spec.Lock}
		err = t.QueryRowContext(t.ctx, `INSERT INTO steps (run_id, project, key, kind, service, environment, spec, lock, state)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id`,
			r.ID, r.Project, spec.Key, spec.Kind, spec.Service, spec.Environment, string(b), spec.Lock, st.State).Scan(&st.ID)
		if err != nil {
			return fmt.Errorf("add step %s: %w", spec.Key, err)
		}
		r.steps = append(r.steps, st)
	}
	return nil
}

// checkSteps refuses steps that could never run: taken keys, needs that nobody meets, circles.
func checkSteps(r *runRow, steps []slipway.PlanStep) error {
	known := map[string]bool{}
	for _, st := range r.steps {
		known[st.Spec.Key] = true
	}
	added := map[string]slipway.PlanStep{}
	for _, p := range steps {
		if p.Key == "" || p.Kind == "" {
			return slipway.Errorf(slipway.Invalid, "a step of the plan has no key or no kind: %q %q", p.Key, p.Kind)
		}
		if known[p.Key] {
			return slipway.Errorf(slipway.Invalid, "run #%d has a step %s already; keys are unique in a run", r.ID, p.Key)
		}
		known[p.Key], added[p.Key] = true, p
	}
	done := map[string]int{} // 1: on the way, 2: fine
	var visit func(key string) error
	visit = func(key string) error {
		p, ok := added[key]
		if !ok || done[key] == 2 {
			return nil
		}
		if done[key] == 1 {
			return slipway.Errorf(slipway.Invalid, "step %s needs itself through others", key)
		}
		done[key] = 1
		for _, need := range p.Needs {
			if !known[need] {
				return slipway.Errorf(slipway.Invalid, "step %s needs %s, which is not a step of the run", key, need)
			}
			if err := visit(need); err != nil {
				return err
			}
		}
		done[key] = 2
		return nil
	}
	for _, p := range steps {
		if err := visit(p.Key); err != nil {
			return err
		}
	}
	return nil
}

// change is a transition of a step.
type change struct {
	to        slipway.StepState
	reason    string
	actor     string
	node      string    // with running
	at        time.Time // with ready and retrying: when its job is due; zero: now
	lockWait  bool      // with retrying: no job; whoever frees the lock makes it ready
	behind    int64     // with retrying: no job; the end of that run makes it ready
	failed    bool      // with retrying and errored: the attempt ended in an error
	fulfilled bool      // with succeeded and skipped: what needs it may start
	fresh     bool      // forget earlier errors
}

// move makes a transition: it changes the row if it is still where it was read, writes the event,
// queues the job that the new state wants, and frees the lock when the step has done with it.
func (t *tx) move(r *runRow, st *stepRow, c change) error {
	if !slipway.MayMove(st.State, c.to) {
		return slipway.Errorf(slipway.Conflict, "step %s of run #%d is %s and cannot become %s", st.Spec.Key, r.ID, st.State, c.to)
	}
	from, moves := st.State, st.moves
	if from == slipway.StepRunning {
		t.ended = append(t.ended, attempt{runID: r.ID, stepID: st.ID, attempt: st.Attempt})
	}
	t.apply(st, c)
	if st.fulfilled && st.Spec.Service != "" && !slices.Contains(r.ended, st.Spec.Service) {
		r.ended = append(r.ended, st.Spec.Service)
	}
	n, err := t.exec(`UPDATE steps SET state = $1, reason = $2, fulfilled = $3, lock_wait = $4, behind = $5, attempt = $6, errors = $7, errors_since = $8,
		job = $9, moves = $10, node = $11, ready_at = $12, started_at = $13, finished_at = $14 WHERE id = $15 AND state = $16 AND moves = $17`,
		st.State, st.Reason, bit(st.fulfilled), bit(st.lockWait), st.behind, st.Attempt, st.Errors, ms(st.ErrorsSince),
		st.job, st.moves, st.node, ms(st.ReadyAt), ms(st.StartedAt), ms(st.FinishedAt), st.ID, from, moves)
	if err != nil {
		return fmt.Errorf("move step %s to %s: %w", st.Spec.Key, c.to, err)
	}
	if n == 0 {
		return slipway.Errorf(slipway.Conflict, "step %s of run #%d is not %s any more", st.Spec.Key, r.ID, from)
	}
	if err := t.stepEvent(r, st, c.actor); err != nil {
		return err
	}
	if err := t.enqueue(st, c); err != nil {
		return err
	}
	if from == slipway.StepWaiting {
		if err := t.endApproval(st, c.reason); err != nil {
			return err
		}
	}
	if st.lock != "" && !holds(c.to) {
		return t.unlock(st)
	}
	return nil
}

// apply changes the row in memory as a transition does.
func (t *tx) apply(st *stepRow, c change) {
	st.State, st.Reason, st.fulfilled, st.lockWait, st.behind = c.to, c.reason, c.fulfilled, c.lockWait, c.behind
	st.moves++
	if c.fresh {
		st.Errors, st.ErrorsSince = 0, time.Time{}
	}
	if c.failed {
		st.Errors++
		if st.ErrorsSince.IsZero() {
			st.ErrorsSince = t.now
		}
	}
	if c.at.IsZero() {
		c.at = t.now
	}
	switch {
	case c.to == slipway.StepRunning:
		st.Attempt++
		st.node, st.StartedAt, st.FinishedAt = c.node, t.now, time.Time{}
	case c.to == slipway.StepReady || c.to == slipway.StepRetrying:
		st.job++
		st.ReadyAt, st.FinishedAt = c.at, time.Time{}
	case c.to == slipway.StepBlocked:
		st.ReadyAt, st.StartedAt, st.FinishedAt = time.Time{}, time.Time{}, time.Time{}
	case c.to.Final():
		st.FinishedAt = t.now
	}
}

func (t *tx) stepEvent(r *runRow, st *stepRow, actor string) error {
	message := fmt.Sprintf("%s %s", st.Spec.Key, st.State)
	if st.Reason != "" {
		message += ": " + st.Reason
	}
	return t.event(fmt.Sprintf("step/%d/%d", st.ID, st.moves), slipway.Event{
		Kind: "step." + string(st.State), Project: r.Project, RunID: r.ID, Step: st.Spec.Key, Actor: actor, Message: message,
		Data: data(map[string]any{"id": st.ID, "attempt": st.Attempt}),
	})
}

// enqueue inserts the job of a step that became ready or waits for its next attempt.
func (t *tx) enqueue(st *stepRow, c change) error {
	if st.lockWait || st.behind != 0 || (c.to != slipway.StepReady && c.to != slipway.StepRetrying) {
		return nil
	}
	return t.job(st)
}

func (t *tx) job(st *stepRow) error {
	if t.s.queue == nil {
		return nil
	}
	at := st.ReadyAt
	if !at.After(t.now) {
		at = time.Time{}
	}
	if err := t.s.queue.Enqueue(t.ctx, t.Tx, st.ID, st.job, st.Spec.Kind, at); err != nil {
		return fmt.Errorf("queue step %s: %w", st.Spec.Key, err)
	}
	t.wake = append(t.wake, at)
	return nil
}

// holds reports whether a step in that state keeps the lock it has, or is in line for it.
func holds(s slipway.StepState) bool {
	return s == slipway.StepReady || s == slipway.StepRunning || s == slipway.StepRetrying
}

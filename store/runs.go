package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
)

const runColumns = `id, project, event, ref, base, commit_hash, title, actor, pull, fork, service, version, state, reason, created_at, started_at, finished_at, codebase`

func scanRun(r scanner) (v slipway.Run, err error) {
	return v, r.Scan(runDest(&v)...)
}

func runDest(v *slipway.Run) []any {
	return []any{&v.ID, &v.Project, &v.Event, &v.Ref, &v.Base, &v.Commit, &v.Title, &v.Actor, &v.Pull, &v.Fork, &v.Service, &v.Version,
		&v.State, &v.Reason, stamp{&v.CreatedAt}, stamp{&v.StartedAt}, stamp{&v.FinishedAt}, &v.Codebase}
}

// runRow is a run with its steps inside a transaction. What is changed is changed here too, so that
// settle sees it.
type runRow struct {
	slipway.Run
	cancel string
	moves  int
	steps  []*stepRow // in the order of the plan
	ended  []string   // services of which a step has ended since done was asked
}

func (r *runRow) step(key string) *stepRow {
	for _, st := range r.steps {
		if st.Spec.Key == key {
			return st
		}
	}
	return nil
}

func (t *tx) run(id int64) (slipway.Run, error) { return getRun(t.ctx, t, id) }

func getRun(ctx context.Context, q querier, id int64) (slipway.Run, error) {
	r, ok, err := one(ctx, q, scanRun, `SELECT `+runColumns+` FROM runs WHERE id = $1`, id)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "run #%d does not exist", id)
	}
	return r, err
}

func (t *tx) loadRun(id int64) (*runRow, error) {
	r, ok, err := one(t.ctx, t, func(row scanner) (*runRow, error) {
		v := &runRow{}
		return v, row.Scan(append(runDest(&v.Run), &v.cancel, &v.moves)...)
	}, `SELECT `+runColumns+`, cancel, moves FROM runs WHERE id = $1`, id)
	if err != nil {
		return nil, fmt.Errorf("read run #%d: %w", id, err)
	}
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "run #%d does not exist", id)
	}
	r.steps, err = list(t.ctx, t, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE run_id = $1 ORDER BY id`, id)
	return r, err
}

// CreateRun makes a run with its plan and steps and queues the steps that can start; a plan without
// steps gets one step of kind plan. Older unfinished runs of the same feature branch, pull request or
// release branch that have not begun to publish or deploy are superseded; one of a branch whose plan gathers
// pushes (Batch) is left until the new run's plan is known.
func (s *Store) CreateRun(ctx context.Context, r slipway.Run, plan slipway.Plan) (slipway.Run, error) {
	var out slipway.Run
	err := s.write(ctx, func(t *tx) (err error) {
		out, err = t.createRun(r, plan)
		return err
	})
	return out, err
}

func (t *tx) createRun(r slipway.Run, plan slipway.Plan) (slipway.Run, error) {
	if len(plan.Steps) == 0 {
		plan.Steps = []slipway.PlanStep{{Key: slipway.StepKey(slipway.KindPlan, "", ""), Kind: slipway.KindPlan}}
	}
	if _, ok, err := one(t.ctx, t, scanInt, `SELECT id FROM projects WHERE name = $1`, r.Project); err != nil {
		return r, err
	} else if !ok {
		return r, slipway.Errorf(slipway.NotFound, "project %q does not exist", r.Project)
	}
	row := &runRow{Run: r}
	row.State, row.Reason, row.CreatedAt, row.StartedAt, row.FinishedAt = slipway.RunQueued, "", t.now, time.Time{}, time.Time{}
	err := t.QueryRowContext(t.ctx, `INSERT INTO runs (project, event, ref, base, commit_hash, title, actor, pull, fork, service, version, state, created_at, codebase)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING id`,
		r.Project, r.Event, r.Ref, r.Base, r.Commit, r.Title, r.Actor, r.Pull, bit(r.Fork), r.Service, r.Version, row.State, ms(t.now), r.Codebase).Scan(&row.ID)
	if err != nil {
		return r, fmt.Errorf("create run: %w", err)
	}
	if err := t.savePlan(row, plan); err != nil {
		return r, err
	}
	if err := t.decided(row, plan); err != nil {
		return r, err
	}
	if err := t.addSteps(row, plan.Steps); err != nil {
		return r, err
	}
	if err := t.event(fmt.Sprintf("run/%d/0", row.ID), slipway.Event{
		Kind: "run.created", Project: r.Project, RunID: row.ID, Actor: r.Actor,
		Message: fmt.Sprintf("run #%d created for %s of %s at %s%s", row.ID, r.Event, r.Ref, slipway.ShortHash(r.Commit), inCodebase(r.Codebase)),
	}); err != nil {
		return r, err
	}
	if err := t.gather(row); err != nil {
		return r, err
	}
	if err := t.supersede(row, true); err != nil {
		return r, err
	}
	return row.Run, t.settle(row)
}

// savePlan keeps what a plan says besides its steps; what was said before is added to.
func (t *tx) savePlan(r *runRow, p slipway.Plan) error {
	old, err := plan(t.ctx, t, r.ID)
	if err != nil {
		return err
	}
	old.Batch = old.Batch || p.Batch
	old.Decisions = append(old.Decisions, p.Decisions...)
	old.Notes = append(old.Notes, p.Notes...)
	if p.Because != nil {
		old.Because = p.Because
	}
	if p.ConfigCommit != "" {
		old.ConfigCommit = p.ConfigCommit
	}
	if p.Gates != nil {
		old.Gates = p.Gates
	}
	b, err := json.Marshal(old)
	if err != nil {
		return fmt.Errorf("encode plan: %w", err)
	}
	_, err = t.exec(`INSERT INTO plans (run_id, plan) VALUES ($1, $2) ON CONFLICT (run_id) DO UPDATE SET plan = excluded.plan`, r.ID, string(b))
	return err
}

// plan is a run's plan without its steps.
func plan(ctx context.Context, q querier, runID int64) (slipway.Plan, error) {
	text, ok, err := one(ctx, q, scanString, `SELECT plan FROM plans WHERE run_id = $1`, runID)
	p := slipway.Plan{Steps: []slipway.PlanStep{}}
	if err != nil || !ok {
		return p, err
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("decode plan of run #%d: %w", runID, err)
	}
	p.Steps = []slipway.PlanStep{}
	return p, nil
}

// supersede cancels the older unfinished runs of the same ref that have changed nothing yet. Runs of
// the default branch are left: each merge is delivered. With but, those of a branch are left whose services
// gather pushes: whether the new run waits for them is known when it is planned (S38).
func (t *tx) supersede(r *runRow, but bool) error {
	switch r.Event {
	case slipway.BranchPush, slipway.PullUpdate, slipway.ReleasePush:
	default:
		return nil
	}
	ids, err := list(t.ctx, t, scanInt, `SELECT id FROM runs WHERE project = $1 AND ref = $2 AND event = $3 AND id < $4 AND codebase = $5
		AND state IN ('queued', 'running', 'waiting') ORDER BY id`, r.Project, r.Ref, r.Event, r.ID, r.Codebase)
	if err != nil {
		return err
	}
	for _, id := range ids {
		old, err := t.loadRun(id)
		if err != nil {
			return err
		}
		if old.cancel != "" || old.delivers() {
			continue
		}
		if but && r.Event == slipway.BranchPush {
			said, err := plan(t.ctx, t, id)
			if err != nil {
				return err
			}
			if said.Batch {
				continue
			}
		}
		cause := fmt.Sprintf("superseded by run #%d", r.ID)
		if err := t.cancelRun(old, "", cause, slipway.ErrSuperseded); err != nil {
			return err
		}
	}
	return nil
}

// delivers reports whether a step that changes a registry or a cluster has been started.
func (r *runRow) delivers() bool {
	for _, st := range r.steps {
		switch st.Spec.Kind {
		case slipway.KindPublish, slipway.KindDeploy, slipway.KindRetag, slipway.KindRollback:
			if st.Attempt > 0 {
				return true
			}
		}
	}
	return false
}

// CancelRun stops a run: what has not started is cancelled at once, what runs is told to stop and ends
// in its own time. A run that is over is a Conflict; cancelling twice is not.
func (s *Store) CancelRun(ctx context.Context, id int64, actor, cause string) error {
	return s.write(ctx, func(t *tx) error {
		r, err := t.loadRun(id)
		if err != nil {
			return err
		}
		if r.State.Final() {
			return slipway.Errorf(slipway.Conflict, "run #%d is over: %s", id, r.State)
		}
		if r.cancel != "" {
			return nil
		}
		if cause == "" {
			cause = "cancelled by " + actor
		}
		return t.cancelRun(r, actor, cause, slipway.ErrCancelled)
	})
}

func (t *tx) cancelRun(r *runRow, actor, cause string, why error) error {
	r.moves++
	r.cancel = cause
	if _, err := t.exec(`UPDATE runs SET cancel = $1, moves = $2 WHERE id = $3`, cause, r.moves, r.ID); err != nil {
		return fmt.Errorf("cancel run #%d: %w", r.ID, err)
	}
	if err := t.event(fmt.Sprintf("run/%d/%d", r.ID, r.moves), slipway.Event{
		Kind: "run.cancelling", Project: r.Project, RunID: r.ID, Actor: actor, Message: fmt.Sprintf("run #%d: %s", r.ID, cause),
	}); err != nil {
		return err
	}
	t.cancels = append(t.cancels, cancelled{runID: r.ID, cause: why})
	return t.settle(r)
}

// settle moves what follows from the steps' states: dependents become ready or are skipped, a
// cancelled run's open steps are cancelled, and the run gets the state that its steps give it.
func (t *tx) settle(r *runRow) error {
	for moved := true; moved; {
		moved = false
		for _, st := range r.steps {
			c, ok := next(r, st)
			if !ok {
				continue
			}
			if err := t.move(r, st, c); err != nil {
				return err
			}
			moved = true
		}
	}
	if err := t.done(r); err != nil {
		return err
	}
	return t.settleRun(r)
}

// next is what a step must do because of the others, if anything.
func next(r *runRow, st *stepRow) (change, bool) {
	if r.cancel != "" {
		if st.State.Final() || st.State == slipway.StepRunning {
			return change{}, false
		}
		return change{to: slipway.StepCancelled, reason: r.cancel}, true
	}
	if st.State != slipway.StepBlocked {
		return change{}, false
	}
	for _, need := range r.needs(st) {
		if !need.State.Final() {
			return change{}, false
		}
		if !need.fulfilled {
			return change{to: slipway.StepSkipped, reason: fmt.Sprintf("needs %s, which %s", need.Spec.Key, ended(need.State))}, true
		}
	}
	return change{to: slipway.StepReady}, true
}

// needs are the steps that st needs, its own first, then those that they need: an approval that is
// asked for again also holds back what comes long after it.
func (r *runRow) needs(st *stepRow) []*stepRow {
	seen := map[string]bool{}
	var out []*stepRow
	for keys := st.Spec.Needs; len(keys) > 0; {
		var more []string
		for _, key := range keys {
			if need := r.step(key); need != nil && !seen[key] {
				seen[key] = true
				out = append(out, need)
				more = append(more, need.Spec.Needs...)
			}
		}
		keys = more
	}
	return out
}

func ended(s slipway.StepState) string {
	switch s {
	case slipway.StepSkipped, slipway.StepCancelled:
		return "was " + string(s)
	}
	return string(s)
}

// settleRun writes the state that the steps give their run, with an event when it changes.
func (t *tx) settleRun(r *runRow) error {
	state, reason := derive(r.steps, r.cancel)
	if state == r.State && reason == r.Reason {
		return nil
	}
	from := r.State
	if state != from {
		r.moves++
	}
	if r.StartedAt.IsZero() && state != slipway.RunQueued {
		r.StartedAt = t.now
	}
	r.FinishedAt = time.Time{}
	if state.Final() {
		r.FinishedAt = t.now
	}
	n, err := t.exec(`UPDATE runs SET state = $1, reason = $2, moves = $3, started_at = $4, finished_at = $5 WHERE id = $6 AND state = $7`,
		state, reason, r.moves, ms(r.StartedAt), ms(r.FinishedAt), r.ID, from)
	if err != nil {
		return fmt.Errorf("move run #%d to %s: %w", r.ID, state, err)
	}
	if n == 0 {
		return slipway.Errorf(slipway.Conflict, "run #%d is not %s any more", r.ID, from)
	}
	r.State, r.Reason = state, reason
	if state == from {
		return nil
	}
	message := fmt.Sprintf("run #%d %s", r.ID, state)
	if reason != "" {
		message += ": " + reason
	}
	if err := t.event(fmt.Sprintf("run/%d/%d", r.ID, r.moves), slipway.Event{
		Kind: "run." + string(state), Project: r.Project, RunID: r.ID, Message: message,
	}); err != nil || atWork(state) {
		return err
	}
	return t.wakeBehind(r)
}

// derive is the state of a run that has these steps, with the reason for people.
func derive(steps []*stepRow, cancel string) (slipway.RunState, string) {
	first := map[slipway.StepState]*stepRow{}
	started := false
	for _, st := range steps {
		if first[st.State] == nil {
			first[st.State] = st
		}
		started = started || st.Attempt > 0
	}
	has := func(s slipway.StepState) bool { return first[s] != nil }
	why := func(s slipway.StepState) string {
		if first[s].Reason == "" {
			return first[s].Spec.Key
		}
		return first[s].Spec.Key + ": " + first[s].Reason
	}
	switch {
	case has(slipway.StepReady), has(slipway.StepRunning), has(slipway.StepRetrying):
		switch {
		case cancel != "":
			return slipway.RunRunning, "stopping: " + cancel
		case !started:
			return slipway.RunQueued, ""
		case has(slipway.StepRetrying) && !has(slipway.StepRunning) && !has(slipway.StepReady):
			return slipway.RunRunning, why(slipway.StepRetrying)
		}
		return slipway.RunRunning, ""
	case has(slipway.StepWaiting):
		return slipway.RunWaiting, why(slipway.StepWaiting)
	case has(slipway.StepBlocked):
		return slipway.RunRunning, "" // until settle has moved them
	case has(slipway.StepCancelled) && cancel != "":
		return slipway.RunCancelled, cancel
	case has(slipway.StepFailed):
		return slipway.RunFailed, why(slipway.StepFailed)
	case has(slipway.StepErrored):
		return slipway.RunErrored, why(slipway.StepErrored)
	case has(slipway.StepCancelled):
		return slipway.RunCancelled, first[slipway.StepCancelled].Reason
	}
	return slipway.RunSucceeded, ""
}

// inCodebase ends a sentence about something in a codebase; nothing is said of the main one.
func inCodebase(name string) string {
	if name == "" {
		return ""
	}
	return " in codebase " + name
}

// Tried reports whether there is a run of a codebase's ref before a run, whatever came of it.
func (s *Store) Tried(ctx context.Context, project, codebase, ref string, before int64) (bool, error) {
	_, found, err := one(ctx, s.reader, scanString, `SELECT ref FROM runs
		WHERE project = $1 AND codebase = $2 AND ref = $3 AND id < $4 AND event IN ('push', 'pull-request', 'merge') ORDER BY id DESC LIMIT 1`, project, codebase, ref, before)
	return found, err
}

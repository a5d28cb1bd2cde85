package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/slipway-cd/slipway"
)

const approvalColumns = `id, project, run_id, step, service, environment, version, state, required, not_requester, requester,
	image_digest, chart_digest, values_digest, base_revision, diff, notes, created_at, decided_at, reason, step_id`

// approvalRow is an approval with what only the store knows of it.
type approvalRow struct {
	slipway.Approval
	reason string
	stepID int64
}

func scanApproval(r scanner) (v approvalRow, err error) {
	var notes string
	a := &v.Approval
	err = r.Scan(&a.ID, &a.Project, &a.RunID, &a.Step, &a.Service, &a.Environment, &a.Version, &a.State, &a.Required, &a.NotRequester, &a.Requester,
		&a.ImageDigest, &a.ChartDigest, &a.ValuesDigest, &a.BaseRevision, &a.Diff, &notes, stamp{&a.CreatedAt}, stamp{&a.DecidedAt}, &v.reason, &v.stepID)
	if err != nil {
		return v, err
	}
	return v, json.Unmarshal([]byte(notes), &a.Notes)
}

func scanVote(r scanner) (v slipway.Vote, err error) {
	return v, r.Scan(&v.User, &v.Approve, &v.Reason, stamp{&v.Time})
}

// approvals returns those that meet a condition, which includes their order, with their votes.
func approvals(ctx context.Context, q querier, cond string, args ...any) ([]slipway.Approval, error) {
	rows, err := list(ctx, q, scanApproval, `SELECT `+approvalColumns+` FROM approvals WHERE `+cond, args...)
	if err != nil {
		return nil, err
	}
	out := make([]slipway.Approval, len(rows))
	for i, row := range rows {
		out[i] = row.Approval
		if out[i].Votes, err = votes(ctx, q, row.ID); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func votes(ctx context.Context, q querier, approval int64) ([]slipway.Vote, error) {
	return list(ctx, q, scanVote, `SELECT voter, approve, reason, created_at FROM votes WHERE approval_id = $1 ORDER BY created_at, voter`, approval)
}

// ask makes the approval of a step that waits for people, and supersedes the older ones of its target.
func (t *tx) ask(r *runRow, st *stepRow, res slipway.Result) error {
	if res.Approval == nil {
		return slipway.Errorf(slipway.Invalid, "step %s waits, but its result has no approval", st.Spec.Key)
	}
	a := *res.Approval
	a.Project, a.RunID, a.Step, a.State = r.Project, r.ID, st.Spec.Key, slipway.ApprovalWaiting
	if a.Service == "" {
		a.Service = st.Spec.Service
	}
	if a.Environment == "" {
		a.Environment = st.Spec.Environment
	}
	if a.Requester == "" {
		a.Requester = r.Actor
	}
	a.Required = max(1, a.Required)
	if newer, err := t.newerDeployed(r, a); err != nil {
		return err
	} else if newer != "" {
		return t.cancelFrom(r, st, newer)
	}
	if a.Notes == nil {
		a.Notes = []string{}
	}
	err := t.QueryRowContext(t.ctx, `INSERT INTO approvals (project, run_id, step_id, step, service, environment, version, state, required, not_requester, requester,
		image_digest, chart_digest, values_digest, base_revision, diff, notes, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) RETURNING id`,
		a.Project, a.RunID, st.ID, a.Step, a.Service, a.Environment, a.Version, a.State, a.Required, bit(a.NotRequester), a.Requester,
		a.ImageDigest, a.ChartDigest, a.ValuesDigest, a.BaseRevision, a.Diff, string(data(a.Notes)), ms(t.now)).Scan(&a.ID)
	if err != nil {
		return fmt.Errorf("ask for approval: %w", err)
	}
	reason := res.Reason
	if reason == "" {
		reason = fmt.Sprintf("waits for approval of %s %s in %s", a.Service, a.Version, a.Environment)
	}
	if err := t.move(r, st, change{to: slipway.StepWaiting, reason: reason}); err != nil {
		return err
	}
	if err := t.approvalEvent(a, "waiting", "", "", reason); err != nil {
		return err
	}
	target := slipway.Target{Project: a.Project, Environment: a.Environment, Service: a.Service}
	return t.supersedeApprovals(target, a.Version, a.ID, r.ID, fmt.Sprintf("%s of run #%d waits for the same approval", a.Version, r.ID))
}

// approvalEvent writes an event of an approval; each verb happens once, votes once per voter.
func (t *tx) approvalEvent(a slipway.Approval, verb, voter, actor, message string) error {
	key := fmt.Sprintf("approval/%d/%s", a.ID, verb)
	if voter != "" {
		key += "/" + voter
	}
	return t.event(key, slipway.Event{
		Kind: "approval." + verb, Project: a.Project, RunID: a.RunID, Step: a.Step, Actor: actor, Message: message,
		Data: data(map[string]any{
			"id": a.ID, "service": a.Service, "environment": a.Environment, "version": a.Version,
			"imageDigest": a.ImageDigest, "chartDigest": a.ChartDigest, "valuesDigest": a.ValuesDigest, "baseRevision": a.BaseRevision,
		}),
	})
}

// newerDeployed says why an approval is pointless: a newer version runs in its target. Going back is
// what a rollback is for (D1).
func (t *tx) newerDeployed(r *runRow, a slipway.Approval) (string, error) {
	if r.Event == slipway.RollbackCall {
		return "", nil
	}
	running, ok, err := one(t.ctx, t, scanString, `SELECT version FROM deployments WHERE project = $1 AND environment = $2 AND service = $3
		AND state IN ('deployed', 'verified') ORDER BY id DESC LIMIT 1`, a.Project, a.Environment, a.Service)
	if err != nil || !ok || !older(a.Version, running) {
		return "", err
	}
	return fmt.Sprintf("%s has the newer %s; `slipway rollback %s --env %s --to %s` goes back", a.Environment, running, a.Service, a.Environment, a.Version), nil
}

// older reports whether version a is older than b; versions that are not SemVer are not compared.
func older(a, b string) bool {
	va, errA := slipway.ParseVersion(a)
	vb, errB := slipway.ParseVersion(b)
	return errA == nil && errB == nil && va.Compare(vb) < 0
}

func comparable(a, b string) bool {
	_, errA := slipway.ParseVersion(a)
	_, errB := slipway.ParseVersion(b)
	return errA == nil && errB == nil
}

// supersedeApprovals ends the waiting approvals of a target for versions before version (or, where
// versions cannot be compared, of runs before runID), except the one of ID but.
func (t *tx) supersedeApprovals(target slipway.Target, version string, but, runID int64, why string) error {
	waiting, err := list(t.ctx, t, scanApproval, `SELECT `+approvalColumns+` FROM approvals
		WHERE project = $1 AND environment = $2 AND service = $3 AND state = 'waiting' AND id <> $4 ORDER BY id`,
		target.Project, target.Environment, target.Service, but)
	if err != nil {
		return err
	}
	for _, a := range waiting {
		before := older(a.Version, version)
		if !comparable(a.Version, version) || (but != 0 && a.Version == version) {
			before = a.RunID < runID
		}
		if !before {
			continue
		}
		if err := t.supersedeApproval(a, why); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) supersedeApproval(a approvalRow, why string) error {
	r, err := t.loadRun(a.RunID)
	if err != nil {
		return err
	}
	st := r.step(a.Step)
	if st == nil {
		return slipway.Errorf(slipway.Internal, "approval %d has no step", a.ID)
	}
	if err := t.cancelFrom(r, st, "superseded: "+why); err != nil {
		return err
	}
	return t.settle(r)
}

// cancelFrom cancels a step and everything that needs it.
func (t *tx) cancelFrom(r *runRow, st *stepRow, reason string) error {
	for _, d := range append([]*stepRow{st}, r.dependents(st)...) {
		if d.State.Final() {
			continue
		}
		if err := t.move(r, d, change{to: slipway.StepCancelled, reason: reason}); err != nil {
			return err
		}
	}
	return nil
}

// endApproval is called when a waiting step is cancelled: nobody is asked any more.
func (t *tx) endApproval(st *stepRow, reason string) error {
	row, ok, err := one(t.ctx, t, scanApproval, `UPDATE approvals SET state = 'superseded', reason = $1, decided_at = $2
		WHERE step_id = $3 AND state = 'waiting' RETURNING `+approvalColumns, reason, ms(t.now), st.ID)
	if err != nil || !ok {
		return err
	}
	return t.approvalEvent(row.Approval, "superseded", "", "", fmt.Sprintf("approval of %s %s in %s: %s", row.Service, row.Version, row.Environment, reason))
}

// Vote records a person's word on a waiting approval. now is the policy of today's configuration: the
// stricter of it and the recorded one holds (D14); the zero value changes nothing. When enough have
// approved, the step succeeds; one rejection fails it. Voting twice, or on an approval that is decided
// or superseded, is a Conflict that says so; a requester who may not approve is Forbidden.
func (s *Store) Vote(ctx context.Context, approvalID int64, v slipway.Vote, now slipway.Approvals) (slipway.Approval, error) {
	if v.User == "" {
		return slipway.Approval{}, slipway.Errorf(slipway.Invalid, "a vote needs a user")
	}
	err := s.write(ctx, func(t *tx) error {
		a, err := t.waitingApproval(approvalID)
		if err != nil {
			return err
		}
		a.Required, a.NotRequester = max(a.Required, now.Required), a.NotRequester || now.NotRequester
		if v.Approve && a.NotRequester && v.User == a.Requester {
			return slipway.Errorf(slipway.Forbidden, "%s started run #%d and may not approve it in %s; somebody else must", v.User, a.RunID, a.Environment)
		}
		_, err = t.exec(`INSERT INTO votes (approval_id, voter, approve, reason, created_at) VALUES ($1, $2, $3, $4, $5)`,
			a.ID, v.User, bit(v.Approve), v.Reason, ms(t.now))
		if unique(err) {
			return slipway.Errorf(slipway.Conflict, "%s has voted on this approval already", v.User)
		}
		if err != nil {
			return fmt.Errorf("record vote: %w", err)
		}
		return t.count(a, v)
	})
	if err != nil {
		return slipway.Approval{}, err
	}
	return s.Approval(ctx, approvalID)
}

func (t *tx) waitingApproval(id int64) (approvalRow, error) {
	a, ok, err := one(t.ctx, t, scanApproval, `SELECT `+approvalColumns+` FROM approvals WHERE id = $1`, id)
	if err != nil {
		return a, err
	}
	switch {
	case !ok:
		return a, slipway.Errorf(slipway.NotFound, "approval %d does not exist", id)
	case a.State == slipway.ApprovalSuperseded:
		return a, slipway.Errorf(slipway.Conflict, "the approval of %s %s in %s is not open any more: %s", a.Service, a.Version, a.Environment, a.reason)
	case a.State != slipway.ApprovalWaiting:
		return a, slipway.Errorf(slipway.Conflict, "%s %s in %s is %s already", a.Service, a.Version, a.Environment, a.State)
	}
	return a, nil
}

// count decides an approval if the vote that came decides it.
func (t *tx) count(a approvalRow, v slipway.Vote) error {
	word := "approved"
	if !v.Approve {
		word = "rejected"
	}
	message := fmt.Sprintf("%s %s %s %s for %s", v.User, word, a.Service, a.Version, a.Environment)
	if v.Reason != "" {
		message += ": " + v.Reason
	}
	if err := t.approvalEvent(a.Approval, "voted", v.User, v.User, message); err != nil {
		return err
	}
	agreed, _, err := one(t.ctx, t, scanInt, `SELECT count(*) FROM votes WHERE approval_id = $1 AND approve = 1`, a.ID)
	if err != nil {
		return err
	}
	c := change{to: slipway.StepSucceeded, reason: message, actor: v.User, fulfilled: true}
	to := slipway.ApprovalApproved
	switch {
	case !v.Approve:
		c, to = change{to: slipway.StepFailed, reason: message, actor: v.User}, slipway.ApprovalRejected
	case int(agreed) < a.Required:
		return nil
	}
	n, err := t.exec(`UPDATE approvals SET state = $1, required = $2, not_requester = $3, decided_at = $4 WHERE id = $5 AND state = 'waiting'`,
		to, a.Required, bit(a.NotRequester), ms(t.now), a.ID)
	if err != nil {
		return fmt.Errorf("decide approval %d: %w", a.ID, err)
	}
	if n == 0 {
		return slipway.Errorf(slipway.Conflict, "approval %d is decided already", a.ID)
	}
	if err := t.approvalEvent(a.Approval, string(to), "", v.User, message); err != nil {
		return err
	}
	r, st, err := t.loadStep(a.stepID)
	if err != nil {
		return err
	}
	if err := t.move(r, st, c); err != nil {
		return err
	}
	return t.settle(r)
}

// Approval returns an approval with its votes.
func (s *Store) Approval(ctx context.Context, id int64) (slipway.Approval, error) {
	all, err := approvals(ctx, s.reader, `id = $1`, id)
	if err != nil {
		return slipway.Approval{}, err
	}
	if len(all) == 0 {
		return slipway.Approval{}, slipway.Errorf(slipway.NotFound, "approval %d does not exist", id)
	}
	return all[0], nil
}

// Approvals returns the approvals of a project in a state, newest first; the empty state is any, the
// empty project every one.
func (s *Store) Approvals(ctx context.Context, project string, state slipway.ApprovalState) ([]slipway.Approval, error) {
	cond, args := `id > 0`, []any{}
	if project != "" {
		args = append(args, project)
		cond += fmt.Sprintf(` AND project = $%d`, len(args))
	}
	if state != "" {
		args = append(args, state)
		cond += fmt.Sprintf(` AND state = $%d`, len(args))
	}
	return approvals(ctx, s.reader, cond+` ORDER BY id DESC`, args...)
}

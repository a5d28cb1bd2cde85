package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/slipway-cd/slipway"
)

const deploymentColumns = `id, target, version, commit_hash, run_id, step, image, tag, image_digest, chart, chart_digest, chart_version,
	values_digest, revision, state, reason, verified_at, created_at, updated_at`

func scanDeployment(r scanner) (d slipway.Deployment, err error) {
	var target string
	err = r.Scan(&d.ID, &target, &d.Version, &d.Commit, &d.RunID, &d.Step, &d.Image, &d.Tag, &d.ImageDigest, &d.Chart, &d.ChartDigest, &d.ChartVersion,
		&d.ValuesDigest, &d.Revision, &d.State, &d.Reason, stamp{&d.VerifiedAt}, stamp{&d.CreatedAt}, stamp{&d.UpdatedAt})
	if err != nil {
		return d, err
	}
	if err := json.Unmarshal([]byte(target), &d.Target); err != nil {
		return d, fmt.Errorf("decode target of deployment %d: %w", d.ID, err)
	}
	return d, nil
}

// deployments returns those that meet a condition, which includes their order.
func deployments(ctx context.Context, q querier, cond string, args ...any) ([]slipway.Deployment, error) {
	return list(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM deployments WHERE `+cond, args...)
}

// SaveDeployment records how far a deployment is while its step runs, before and after the act (D21).
// One with ID 0 is that of its run and step, so that a repeated step finds its own row; the ID is
// returned. RunID, Step and Target must be set.
func (s *Store) SaveDeployment(ctx context.Context, d slipway.Deployment) (slipway.Deployment, error) {
	err := s.write(ctx, func(t *tx) error {
		r, err := t.run(d.RunID)
		if err != nil {
			return err
		}
		kind, _, err := one(ctx, t, scanString, `SELECT kind FROM steps WHERE run_id = $1 AND key = $2`, d.RunID, d.Step)
		if err != nil {
			return err
		}
		d, err = t.saveDeployment(r, slipway.StepKind(kind), d)
		return err
	})
	return d, err
}

func (t *tx) saveDeployment(r slipway.Run, kind slipway.StepKind, d slipway.Deployment) (slipway.Deployment, error) {
	if d.Target.Project == "" {
		d.Target.Project = r.Project
	}
	if d.Target.Environment == "" || d.Target.Service == "" || d.State == "" {
		return d, slipway.Errorf(slipway.Invalid, "a deployment of run #%d names no environment, service or state", r.ID)
	}
	old, known, err := t.findDeployment(d)
	if err != nil {
		return d, err
	}
	moves := int64(0)
	if known {
		d.ID, d.RunID, d.Step, d.CreatedAt = old.ID, old.RunID, old.Step, old.CreatedAt
		moves, err = t.updateDeployment(d, old.State != d.State)
	} else if err = t.ownNamespace(d.Target); err == nil {
		d.CreatedAt = t.now
		err = t.insertDeployment(&d)
	}
	if err != nil {
		return d, fmt.Errorf("record deployment of %s to %s: %w", d.Target.Service, d.Target.Environment, err)
	}
	d.UpdatedAt = t.now
	if known && old.State == d.State {
		return d, nil
	}
	if err := t.deploymentEvent(d, moves); err != nil {
		return d, err
	}
	return d, t.deployed(r, kind, d)
}

// NamespaceOwner is the project that deployed to a namespace of a cluster: the one that asks, when it
// did; else the first one that did; "" for none.
func (s *Store) NamespaceOwner(ctx context.Context, project, cluster, namespace string) (string, error) {
	return namespaceOwner(ctx, s.reader, project, cluster, namespace)
}

func namespaceOwner(ctx context.Context, q querier, project, cluster, namespace string) (string, error) {
	if namespace == "" {
		return "", nil
	}
	const there = `SELECT project FROM deployments WHERE json_extract(target, '$.cluster') = $1 AND json_extract(target, '$.namespace') = $2`
	owner, ok, err := one(ctx, q, scanString, there+` AND project = $3 LIMIT 1`, cluster, namespace, project)
	if err != nil || ok {
		return owner, err
	}
	owner, _, err = one(ctx, q, scanString, there+` ORDER BY id LIMIT 1`, cluster, namespace)
	return owner, err
}

// ownNamespace refuses a target in a namespace that another project deploys to: two default names may be
// one (shop + web-production, shop-web + production).
func (t *tx) ownNamespace(g slipway.Target) error {
	owner, err := namespaceOwner(t.ctx, t, g.Project, g.Cluster, g.Namespace)
	if err == nil && owner != "" && owner != g.Project {
		err = slipway.ForeignNamespace(g.Environment, g.Namespace, g.Cluster, owner)
	}
	return err
}

func (t *tx) findDeployment(d slipway.Deployment) (slipway.Deployment, bool, error) {
	if d.ID != 0 {
		old, ok, err := one(t.ctx, t, scanDeployment, `SELECT `+deploymentColumns+` FROM deployments WHERE id = $1`, d.ID)
		if err == nil && !ok {
			err = slipway.Errorf(slipway.NotFound, "deployment %d does not exist", d.ID)
		}
		return old, ok, err
	}
	return one(t.ctx, t, scanDeployment, `SELECT `+deploymentColumns+` FROM deployments WHERE run_id = $1 AND step = $2 AND environment = $3 AND service = $4`,
		d.RunID, d.Step, d.Target.Environment, d.Target.Service)
}

func (t *tx) insertDeployment(d *slipway.Deployment) error {
	verified := int64(0)
	if d.State == slipway.Verified {
		verified = ms(t.now)
	}
	return t.QueryRowContext(t.ctx, `INSERT INTO deployments (project, environment, service, target, helm_release, version, commit_hash, run_id, step,
		image, tag, image_digest, chart, chart_digest, chart_version, values_digest, revision, state, reason, verified_at, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) RETURNING id`,
		d.Target.Project, d.Target.Environment, d.Target.Service, string(data(d.Target)), d.Target.Release, d.Version, d.Commit, d.RunID, d.Step,
		d.Image, d.Tag, d.ImageDigest, d.Chart, d.ChartDigest, d.ChartVersion, d.ValuesDigest, d.Revision, d.State, d.Reason, verified,
		ms(d.CreatedAt), ms(t.now)).Scan(&d.ID)
}

func (t *tx) updateDeployment(d slipway.Deployment, moved bool) (int64, error) {
	verified := int64(0)
	if d.State == slipway.Verified {
		verified = ms(t.now)
	}
	moves, _, err := one(t.ctx, t, scanInt, `UPDATE deployments SET target = $1, helm_release = $2, version = $3, commit_hash = $4, image = $5, tag = $6,
		image_digest = $7, chart = $8, chart_digest = $9, chart_version = $10, values_digest = $11, revision = $12, state = $13, reason = $14,
		verified_at = CASE WHEN verified_at = 0 THEN $15 ELSE verified_at END, moves = moves + $16, updated_at = $17 WHERE id = $18 RETURNING moves`,
		string(data(d.Target)), d.Target.Release, d.Version, d.Commit, d.Image, d.Tag, d.ImageDigest, d.Chart, d.ChartDigest, d.ChartVersion,
		d.ValuesDigest, d.Revision, d.State, d.Reason, verified, bit(moved), ms(t.now), d.ID)
	return moves, err
}

func (t *tx) deploymentEvent(d slipway.Deployment, moves int64) error {
	message := fmt.Sprintf("%s %s %s in %s", d.Target.Service, d.Version, d.State, d.Target.Environment)
	if d.Reason != "" {
		message += ": " + d.Reason
	}
	return t.event(fmt.Sprintf("deployment/%d/%d", d.ID, moves), slipway.Event{
		Kind: "deployment." + string(d.State), Project: d.Target.Project, RunID: d.RunID, Step: d.Step, Message: message,
		Data: data(map[string]any{"id": d.ID, "service": d.Target.Service, "environment": d.Target.Environment, "version": d.Version, "revision": d.Revision}),
	})
}

// deployed does what follows from a deployment's new state: a verified one replaces the older ones of
// its target, and a newer version supersedes waiting approvals of older ones (D1).
func (t *tx) deployed(r slipway.Run, kind slipway.StepKind, d slipway.Deployment) error {
	if d.State != slipway.Verified && d.State != slipway.Deployed {
		return nil
	}
	if d.State == slipway.Verified {
		older, err := deployments(t.ctx, t, `project = $1 AND environment = $2 AND service = $3 AND id < $4 AND state IN ('deployed', 'verified') ORDER BY id`,
			d.Target.Project, d.Target.Environment, d.Target.Service, d.ID)
		if err != nil {
			return err
		}
		for _, o := range older {
			if err := t.moveDeployment(o, slipway.Replaced, "replaced by "+d.Version); err != nil {
				return err
			}
		}
	}
	if kind == slipway.KindRollback || r.Event == slipway.RollbackCall {
		return nil
	}
	return t.supersedeApprovals(d.Target, d.Version, 0, r.ID, fmt.Sprintf("%s was deployed to %s by run #%d", d.Version, d.Target.Environment, r.ID))
}

func (t *tx) moveDeployment(d slipway.Deployment, to slipway.DeploymentState, reason string) error {
	moves, ok, err := one(t.ctx, t, scanInt, `UPDATE deployments SET state = $1, reason = $2, moves = moves + 1, updated_at = $3
		WHERE id = $4 AND state = $5 RETURNING moves`, to, reason, ms(t.now), d.ID, d.State)
	if err != nil {
		return fmt.Errorf("move deployment %d to %s: %w", d.ID, to, err)
	}
	if !ok {
		return slipway.Errorf(slipway.Conflict, "deployment %d is not %s any more", d.ID, d.State)
	}
	d.State, d.Reason = to, reason
	return t.deploymentEvent(d, moves)
}

// closeDeployments moves what a step was deploying when it ended without saying how it is.
func (t *tx) closeDeployments(r *runRow, st *stepRow, to slipway.DeploymentState, reason string) error {
	open, err := deployments(t.ctx, t, `run_id = $1 AND step = $2 AND state = 'deploying' ORDER BY id`, r.ID, st.Spec.Key)
	if err != nil {
		return err
	}
	for _, d := range open {
		if err := t.moveDeployment(d, to, reason); err != nil {
			return err
		}
	}
	return nil
}

// Deployment returns a deployment.
func (s *Store) Deployment(ctx context.Context, id int64) (slipway.Deployment, error) {
	d, ok, err := one(ctx, s.reader, scanDeployment, `SELECT `+deploymentColumns+` FROM deployments WHERE id = $1`, id)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "deployment %d does not exist", id)
	}
	return d, err
}

// CurrentDeployment returns what runs in a target: the newest deployment that Helm deployed and that
// nothing replaced. It is NotFound when nothing was deployed yet.
func (s *Store) CurrentDeployment(ctx context.Context, project, environment, service string) (slipway.Deployment, error) {
	d, ok, err := current(ctx, s.reader, project, environment, service)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "%s was never deployed to %s", service, environment)
	}
	return d, err
}

func current(ctx context.Context, q querier, project, environment, service string) (slipway.Deployment, bool, error) {
	return one(ctx, q, scanDeployment, `SELECT `+deploymentColumns+` FROM deployments
		WHERE project = $1 AND environment = $2 AND service = $3 AND state IN ('deployed', 'verified', 'unhealthy') ORDER BY id DESC LIMIT 1`,
		project, environment, service)
}

// Deployments returns deployments, newest first.
func (s *Store) Deployments(ctx context.Context, f slipway.DeploymentFilter) ([]slipway.Deployment, error) {
	q := newQuery(`SELECT ` + deploymentColumns + ` FROM deployments`)
	q.where(`id > ?`, 0)
	if f.Project != "" {
		q.where(`project = ?`, f.Project)
	}
	if f.Environment != "" {
		q.where(`environment = ?`, f.Environment)
	}
	if f.Service != "" {
		q.where(`service = ?`, f.Service)
	}
	if f.RunID != 0 {
		q.where(`run_id = ?`, f.RunID)
	}
	if f.State != "" {
		q.where(`state = ?`, f.State)
	}
	q.end(`ORDER BY id DESC`, limit(f.Limit, 50, 500))
	return list(ctx, s.reader, scanDeployment, q.text(), q.args...)
}

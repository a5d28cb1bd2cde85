package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// errTaken is in the chain of the error for a version that another commit has.
var errTaken = errors.New("version taken")

// takenError is a user's problem, not an error of the surroundings: it fails the step.
type takenError struct{ message string }

func (e *takenError) Error() string { return e.message }
func (e *takenError) Unwrap() error { return errTaken }

const artifactColumns = `id, project, run_id, step, service, kind, repository, tag, digest, subject, size, path, commit_hash, created_at`

func scanArtifact(r scanner) (a slipway.Artifact, err error) {
	return a, r.Scan(&a.ID, &a.Project, &a.RunID, &a.Step, &a.Service, &a.Kind, &a.Repository, &a.Tag, &a.Digest, &a.Subject,
		&a.Size, &a.Path, &a.Commit, stamp{&a.CreatedAt})
}

// artifacts returns all that meet a condition, oldest first.
func artifacts(ctx context.Context, q querier, cond string, args ...any) ([]slipway.Artifact, error) {
	return list(ctx, q, scanArtifact, `SELECT `+artifactColumns+` FROM artifacts WHERE `+cond+` ORDER BY id`, args...)
}

// record keeps what a result carries besides the outcome.
func (t *tx) record(r *runRow, st *stepRow, res slipway.Result) error {
	if res.Release != nil {
		if err := t.saveRelease(r, st, *res.Release); err != nil {
			return err
		}
	}
	st.ReusedFrom = res.ReusedFrom
	if _, err := t.exec(`UPDATE steps SET inputs = $1, reused_from = $2 WHERE id = $3`, res.Inputs, res.ReusedFrom, st.ID); err != nil {
		return fmt.Errorf("record the inputs of step %s: %w", st.Spec.Key, err)
	}
	for _, a := range res.Artifacts {
		if err := t.saveArtifact(r, st, a); err != nil {
			return err
		}
	}
	if err := t.saveReport(r, st, res); err != nil {
		return err
	}
	if err := t.saveGates(r, st, res.Gates); err != nil {
		return err
	}
	if err := t.saveManifests(st, res.Manifests); err != nil {
		return err
	}
	if err := t.saveScan(st, res.Scan); err != nil {
		return err
	}
	for _, d := range res.Deployments {
		if d.RunID == 0 && d.ID == 0 {
			d.RunID, d.Step = r.ID, st.Spec.Key
		}
		if _, err := t.saveDeployment(r.Run, st.Spec.Kind, d); err != nil {
			return err
		}
	}
	if res.Quarantine != "" {
		service, version, ok := strings.Cut(res.Quarantine, "/")
		if !ok {
			return slipway.Errorf(slipway.Invalid, "quarantine %q: expected service/version", res.Quarantine)
		}
		return t.quarantine(r.Project, service, version, res.Reason, r.ID, "")
	}
	return nil
}

func (t *tx) saveArtifact(r *runRow, st *stepRow, a slipway.Artifact) error {
	a.Project, a.RunID, a.Step = r.Project, r.ID, st.Spec.Key
	if a.Service == "" {
		a.Service = st.Spec.Service
	}
	if a.Commit == "" {
		a.Commit = r.Commit
	}
	known, _, err := one(t.ctx, t, scanInt, `SELECT count(*) FROM artifacts WHERE run_id = $1 AND step = $2 AND kind = $3 AND repository = $4 AND tag = $5 AND digest = $6`,
		a.RunID, a.Step, a.Kind, a.Repository, a.Tag, a.Digest)
	if err != nil {
		return err
	}
	err = t.QueryRowContext(t.ctx, `INSERT INTO artifacts (project, run_id, step, service, kind, repository, tag, digest, subject, size, path, commit_hash, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (run_id, step, kind, repository, tag, digest) DO UPDATE SET size = excluded.size, path = excluded.path, subject = excluded.subject
		RETURNING id`,
		a.Project, a.RunID, a.Step, a.Service, a.Kind, a.Repository, a.Tag, a.Digest, a.Subject, a.Size, a.Path, a.Commit, ms(t.now)).Scan(&a.ID)
	if err != nil {
		return fmt.Errorf("record artifact %s: %w", a.Digest, err)
	}
	if known > 0 {
		return nil
	}
	return t.event(fmt.Sprintf("artifact/%d", a.ID), slipway.Event{
		Kind: "artifact.made", Project: a.Project, RunID: a.RunID, Step: a.Step,
		Message: fmt.Sprintf("%s of %s: %s", a.Kind, a.Service, a.Digest),
		Data:    data(map[string]any{"repository": a.Repository, "tag": a.Tag, "digest": a.Digest}),
	})
}

const releaseColumns = `l.id, l.project, l.service, l.version, l.commit_hash, l.run_id, l.image_digest, l.chart_digest,
	coalesce((SELECT q.reason FROM quarantines q WHERE q.project = l.project AND q.service = l.service AND q.semver = l.semver AND q.lifted_at = 0), ''), l.created_at`

func scanRelease(r scanner) (v slipway.Release, err error) {
	return v, r.Scan(&v.ID, &v.Project, &v.Service, &v.Version, &v.Commit, &v.RunID, &v.ImageDigest, &v.ChartDigest, &v.Quarantined, stamp{&v.CreatedAt})
}

// semver is the version without a leading v, when it is one; v1.0.2 and 1.0.2 are the same.
func semver(version string) string { return slipway.OneSpelling(version) }

// saveRelease records the release that a step published. Its version belongs to the commit that had
// it first; publishing the same digests again changes nothing.
func (t *tx) saveRelease(r *runRow, st *stepRow, v slipway.Release) error {
	v.Project, v.RunID = r.Project, r.ID
	if v.Service == "" {
		v.Service = st.Spec.Service
	}
	if v.Commit == "" {
		v.Commit = r.Commit
	}
	old, ok, err := t.release(v)
	if err != nil {
		return err
	}
	if ok {
		if old.ImageDigest == v.ImageDigest && old.ChartDigest == v.ChartDigest && old.Commit == v.Commit {
			return nil
		}
		return taken(old)
	}
	err = t.QueryRowContext(t.ctx, `INSERT INTO releases (project, service, version, semver, commit_hash, run_id, image_digest, chart_digest, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id`,
		v.Project, v.Service, v.Version, semver(v.Version), v.Commit, v.RunID, v.ImageDigest, v.ChartDigest, ms(t.now)).Scan(&v.ID)
	if err != nil {
		return fmt.Errorf("record release %s of %s: %w", v.Version, v.Service, err)
	}
	return t.event(fmt.Sprintf("release/%d", v.ID), slipway.Event{
		Kind: "release.created", Project: v.Project, RunID: r.ID, Step: st.Spec.Key,
		Message: fmt.Sprintf("%s %s released", v.Service, v.Version),
		Data:    data(map[string]any{"image": v.ImageDigest, "chart": v.ChartDigest}),
	})
}

// release is the one that has the version already.
func (t *tx) release(v slipway.Release) (slipway.Release, bool, error) {
	return one(t.ctx, t, scanRelease, `SELECT `+releaseColumns+` FROM releases l WHERE l.project = $1 AND l.service = $2 AND l.semver = $3`,
		v.Project, v.Service, semver(v.Version))
}

func taken(old slipway.Release) *takenError {
	return &takenError{fmt.Sprintf("version %s of %s was released by run #%d from commit %s; a version is never changed: choose another",
		old.Version, old.Service, old.RunID, slipway.ShortHash(old.Commit))}
}

// Release returns a version of a service; v1.0.2 and 1.0.2 name the same one.
func (s *Store) Release(ctx context.Context, project, service, version string) (slipway.Release, error) {
	v, ok, err := one(ctx, s.reader, scanRelease, `SELECT `+releaseColumns+` FROM releases l WHERE l.project = $1 AND l.service = $2 AND l.semver = $3`,
		project, service, semver(version))
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "%s has no release %s", service, version)
	}
	return v, err
}

// Releases returns releases, newest first.
func (s *Store) Releases(ctx context.Context, f slipway.ReleaseFilter) ([]slipway.Release, error) {
	q := newQuery(`SELECT ` + releaseColumns + ` FROM releases l`)
	q.where(`l.project = ?`, f.Project)
	if f.Service != "" {
		q.where(`l.service = ?`, f.Service)
	}
	if f.Named != "" {
		q.where(`instr(l.service, ?) > 0`, f.Named)
	}
	if f.Version != "" {
		q.where(`l.semver = ?`, semver(f.Version))
	}
	if f.Before != 0 {
		q.where(`l.id < ?`, f.Before)
	}
	if f.Quarantined {
		q.where(`EXISTS (SELECT 1 FROM quarantines q WHERE q.project = l.project AND q.service = l.service AND q.semver = l.semver AND q.lifted_at = 0)`)
		q.add(` ORDER BY l.id DESC`)
	} else {
		q.end(`ORDER BY l.id DESC`, limit(f.Limit, 100, slipway.MostReleases))
	}
	return list(ctx, s.reader, scanRelease, q.text(), q.args...)
}

// newestOfReleases finds by its image the newest deployment of each release to each environment.
const newestOfReleases = `SELECT max(d.id) FROM releases l CROSS JOIN deployments d
	WHERE l.project = $1 AND l.id BETWEEN $2 AND $3 AND d.image_digest = l.image_digest
	AND d.project = l.project AND d.service = l.service AND d.version = l.version GROUP BY d.service, d.version, d.environment`

// Released returns where releases of a project were brought: the newest deployment of each to each environment,
// newest first. It is of all releases whose ID is within first and last.
func (s *Store) Released(ctx context.Context, project string, first, last int64) ([]slipway.Deployment, error) {
	return deployments(ctx, s.reader, `id IN (`+newestOfReleases+`) ORDER BY id DESC`, project, first, last)
}

// Claim returns the commit that has a version of a service: the released one, or that of a run whose
// publishing has begun (D1). It is "" when the version is free.
func (s *Store) Claim(ctx context.Context, project, service, version string) (string, error) {
	v, err := s.Release(ctx, project, service, version)
	if err == nil {
		return v.Commit, nil
	}
	if slipway.ErrorCode(err) != slipway.NotFound {
		return "", err
	}
	plain := semver(version)
	commit, _, err := one(ctx, s.reader, scanString, `SELECT r.commit_hash FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.project = $1 AND r.event = 'release' AND r.service = $2 AND r.version IN ($3, $4) AND s.kind = 'publish'
		AND (s.state IN ('running', 'succeeded') OR (s.state = 'retrying' AND s.lock_wait = 0)) ORDER BY r.id LIMIT 1`,
		project, service, plain, "v"+plain)
	return commit, err
}

func (t *tx) quarantine(project, service, version, reason string, runID int64, actor string) error {
	moves, _, err := one(t.ctx, t, scanInt, `INSERT INTO quarantines (project, service, semver, reason, created_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (project, service, semver) DO UPDATE SET reason = excluded.reason, lifted_at = 0, moves = quarantines.moves + 1 RETURNING moves`,
		project, service, semver(version), reason, ms(t.now))
	if err != nil {
		return fmt.Errorf("quarantine %s %s: %w", service, version, err)
	}
	return t.event(fmt.Sprintf("quarantine/%s/%s/%s/%d", project, service, semver(version), moves), slipway.Event{
		Kind: "release.quarantined", Project: project, RunID: runID, Actor: actor, Message: fmt.Sprintf("%s %s quarantined: %s", service, version, reason),
	})
}

// Quarantine keeps a version from being deployed until LiftQuarantine.
func (s *Store) Quarantine(ctx context.Context, project, service, version, reason, actor string) error {
	return s.write(ctx, func(t *tx) error { return t.quarantine(project, service, version, reason, 0, actor) })
}

// LiftQuarantine lets a version be deployed again. A version that is not quarantined is a Conflict.
func (s *Store) LiftQuarantine(ctx context.Context, project, service, version, actor string) error {
	return s.write(ctx, func(t *tx) error {
		moves, ok, err := one(ctx, t, scanInt, `UPDATE quarantines SET lifted_at = $1, moves = moves + 1
			WHERE project = $2 AND service = $3 AND semver = $4 AND lifted_at = 0 RETURNING moves`, ms(t.now), project, service, semver(version))
		if err != nil {
			return fmt.Errorf("lift quarantine: %w", err)
		}
		if !ok {
			return slipway.Errorf(slipway.Conflict, "%s %s is not quarantined", service, version)
		}
		return t.event(fmt.Sprintf("quarantine/%s/%s/%s/%d", project, service, semver(version), moves), slipway.Event{
			Kind: "release.lifted", Project: project, Actor: actor, Message: fmt.Sprintf("quarantine of %s %s lifted by %s", service, version, actor),
		})
	})
}

// Quarantined returns why a version must not be deployed, "" when it may.
func (s *Store) Quarantined(ctx context.Context, project, service, version string) (string, error) {
	v, _, err := one(ctx, s.reader, scanString, `SELECT reason FROM quarantines WHERE project = $1 AND service = $2 AND semver = $3 AND lifted_at = 0`,
		project, service, semver(version))
	return v, err
}

// Quarantines are all that hold of a service, or with "" of all services of a project, versions of the default
// branch among them.
func (s *Store) Quarantines(ctx context.Context, project, service string) (slipway.Quarantines, error) {
	q := newQuery(`SELECT service || '/' || semver, reason FROM quarantines`)
	q.where(`project = ?`, project)
	q.where(`lifted_at = ?`, 0)
	if service != "" {
		q.where(`service = ?`, service)
	}
	found, err := list(ctx, s.reader, func(r scanner) (v [2]string, err error) { return v, r.Scan(&v[0], &v[1]) }, q.text(), q.args...)
	out := slipway.Quarantines{}
	for _, v := range found {
		out[v[0]] = v[1]
	}
	return out, err
}

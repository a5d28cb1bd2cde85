package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/slipway-cd/slipway"
)

const gateColumns = `id, project, run_id, step, gate, service, environment, verdict, summary, reasons, created_at`

func scanGate(r scanner) (g slipway.GateResult, err error) {
	var reasons string
	err = r.Scan(&g.ID, &g.Project, &g.RunID, &g.Step, &g.Gate, &g.Service, &g.Environment, &g.Verdict, &g.Summary, &reasons, stamp{&g.Time})
	if err != nil {
		return g, err
	}
	return g, json.Unmarshal([]byte(reasons), &g.Reasons)
}

// Gates returns what gates said, in the order in which they did; with a run its, else the newest of a
// service.
func (s *Store) Gates(ctx context.Context, f slipway.GateFilter) ([]slipway.GateResult, error) {
	q := newQuery(`SELECT ` + gateColumns + ` FROM gates`)
	q.where(`project = ?`, f.Project)
	run := f.RunID
	if run == 0 {
		last, _, err := one(ctx, s.reader, scanInt, `SELECT coalesce(max(run_id), 0) FROM gates WHERE project = $1 AND service = $2`, f.Project, f.Service)
		if err != nil {
			return nil, err
		}
		run = last
	}
	q.where(`run_id = ?`, run)
	if f.Service != "" {
		q.where(`service = ?`, f.Service)
	}
	if f.Environment != "" {
		q.where(`environment IN (?, '')`, f.Environment)
	}
	q.end(`ORDER BY id`, 5000)
	return list(ctx, s.reader, scanGate, q.text(), q.args...)
}

// GatesOf is what the gates of a run demand, by environment, "" for the project's; nil for a run that was
// planned without any.
func (s *Store) GatesOf(ctx context.Context, runID int64) (map[string]slipway.Gates, error) {
	p, err := plan(ctx, s.reader, runID)
	return p.Gates, err
}

// saveGates keeps what the gates of a step said, in place of what they said of an earlier attempt: of a step that
// succeeds in the end, nothing stays that failed it.
func (t *tx) saveGates(r *runRow, st *stepRow, gates []slipway.GateResult) error {
	if _, err := t.exec(`DELETE FROM gates WHERE step_id = $1`, st.ID); err != nil {
		return fmt.Errorf("record gates of step %s: %w", st.Spec.Key, err)
	}
	for _, g := range gates {
		if g.Service == "" {
			g.Service = st.Spec.Service
		}
		if g.Reasons == nil {
			g.Reasons = []slipway.GateReason{}
		}
		if _, err := t.exec(`INSERT INTO gates (project, run_id, step_id, step, gate, service, environment, verdict, summary, reasons, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
			r.Project, r.ID, st.ID, st.Spec.Key, g.Gate, g.Service, g.Environment, g.Verdict, g.Summary, string(data(g.Reasons)), ms(t.now)); err != nil {
			return fmt.Errorf("record gate %s of step %s: %w", g.Gate, st.Spec.Key, err)
		}
		if g.Verdict != slipway.Fail {
			continue
		}
		key := fmt.Sprintf("gate/%d/%d/%s/%s", st.ID, st.Attempt, g.Gate, g.Environment)
		if err := t.event(key, slipway.Event{Kind: "gate.failed", Project: r.Project, RunID: r.ID, Step: st.Spec.Key,
			Message: fmt.Sprintf("gate %s of %s: %s", g.Gate, g.Service, g.Summary),
			Data:    data(map[string]any{"gate": g.Gate, "service": g.Service, "environment": g.Environment})}); err != nil {
			return err
		}
	}
	return nil
}

// saveManifests keeps what a chart step rendered, in place of what an earlier attempt did.
func (t *tx) saveManifests(st *stepRow, m []slipway.ManifestReport) error {
	if len(m) == 0 {
		if _, err := t.exec(`DELETE FROM manifests WHERE step_id = $1`, st.ID); err != nil {
			return fmt.Errorf("forget manifests of step %s: %w", st.Spec.Key, err)
		}
		return nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(z).Encode(m), z.Close()); err != nil {
		return fmt.Errorf("encode manifests of step %s: %w", st.Spec.Key, err)
	}
	if _, err := t.exec(`INSERT INTO manifests (step_id, report) VALUES ($1, $2) ON CONFLICT (step_id) DO UPDATE SET report = excluded.report`, st.ID, b.Bytes()); err != nil {
		return fmt.Errorf("record manifests of step %s: %w", st.Spec.Key, err)
	}
	return nil
}

// Manifests returns what the chart step of a service rendered in a run, one report for each
// environment; NotFound when it rendered nothing.
func (s *Store) Manifests(ctx context.Context, runID int64, service string) ([]slipway.ManifestReport, error) {
	packed, ok, err := one(ctx, s.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) },
		`SELECT m.report FROM manifests m JOIN steps s ON s.id = m.step_id WHERE s.run_id = $1 AND s.key = $2`,
		runID, slipway.StepKey(slipway.KindChart, service, ""))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "run #%d rendered no chart of %s", runID, service)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("read manifests of run %d: %w", runID, err)
	}
	body, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("read manifests of run %d: %w", runID, err)
	}
	var m []slipway.ManifestReport
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, fmt.Errorf("decode manifests of run %d: %w", runID, err)
	}
	return m, nil
}

// TestsOf is the report of the tests that a service's code in a run has passed or not: of the run, or when
// it tested nothing, as only the chart changed, of the newest run of the default branch or a release that made
// its image. What anybody may push says nothing here: tests can be changed, and the image stays the same.
// NotFound when there is none.
func (s *Store) TestsOf(ctx context.Context, runID int64, service, image string) (slipway.TestReport, error) {
	step, err := s.tested(ctx, runID, service, image)
	if err != nil {
		return slipway.TestReport{}, err
	}
	return s.Report(ctx, step)
}

// TestedBy is the step that really ran the tests which TestsOf reports: where a step took its result of an earlier run,
// that run's. NotFound when there is none.
func (s *Store) TestedBy(ctx context.Context, runID int64, service, image string) (slipway.Step, error) {
	id, err := s.tested(ctx, runID, service, image)
	if err != nil {
		return slipway.Step{}, err
	}
	st, ok, err := one(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE id = $1`, id)
	if err == nil && ok && st.ReusedFrom != 0 {
		st, ok, err = one(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE run_id = $1 AND key = $2`, st.ReusedFrom, st.Spec.Key)
	}
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "the step that tested %s is not on record any more", service)
	}
	return st.Step, err
}

// tested is the id of the step whose report TestsOf gives.
func (s *Store) tested(ctx context.Context, runID int64, service, image string) (int64, error) {
	key := slipway.StepKey(slipway.KindTest, service, "")
	step, ok, err := one(ctx, s.reader, scanInt, `SELECT s.id FROM steps s JOIN reports r ON r.step_id = s.id
		WHERE s.run_id = $1 AND s.key = $2`, runID, key)
	if err == nil && !ok && image != "" {
		step, ok, err = one(ctx, s.reader, scanInt, `SELECT s.id FROM steps s JOIN reports r ON r.step_id = s.id
			WHERE s.key = $1 AND s.run_id IN (SELECT a.run_id FROM artifacts a JOIN runs u ON u.id = a.run_id
				WHERE a.service = $2 AND a.digest = $3 AND a.kind = 'image' AND u.event IN ('merge', 'release')
				AND a.project = (SELECT project FROM runs WHERE id = $4))
			ORDER BY s.id DESC LIMIT 1`, key, service, image, runID)
	}
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, slipway.Errorf(slipway.NotFound, "no tests of %s are on record in run #%d", service, runID)
	}
	return step, nil
}

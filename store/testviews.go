package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// Report returns the test report of a step; NotFound when it has none.
func (s *Store) Report(ctx context.Context, stepID int64) (slipway.TestReport, error) {
	var rep slipway.TestReport
	packed, ok, err := one(ctx, s.reader, scanText, `SELECT report FROM reports WHERE step_id = $1`, stepID)
	if err != nil {
		return rep, err
	}
	if !ok {
		return rep, slipway.Errorf(slipway.NotFound, "step %d has no test report", stepID)
	}
	text, err := unpackText(packed)
	if err == nil {
		err = json.Unmarshal(text, &rep)
	}
	if err != nil {
		return rep, fmt.Errorf("decode report of step %d: %w", stepID, err)
	}
	return rep, nil
}

// scanText reads bytes that may be stored as text.
func scanText(r scanner) ([]byte, error) {
	var v any
	if err := r.Scan(&v); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("a report is stored as %T", v)
}

// BaseTests returns the numbers of the report that a run's test step is compared with, without reading a report;
// nil when there is none.
func (s *Store) BaseTests(ctx context.Context, runID int64, step string) (*slipway.TestTotals, error) {
	run, err := getRun(ctx, s.reader, runID)
	if err != nil {
		return nil, err
	}
	rows, err := list(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE run_id = $1 AND key = $2`, runID, step)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return s.baseTests(ctx, run, rows[0].Step)
}

func (s *Store) baseTests(ctx context.Context, run slipway.Run, st slipway.Step) (*slipway.TestTotals, error) {
	own, _, err := one(ctx, s.reader, scanInt, `SELECT coalesce(max(id), 0) FROM test_totals WHERE step_id = $1`, st.ID)
	if err != nil || own == 0 {
		return nil, err
	}
	row, ok, err := testsBefore(ctx, s.reader, run, st.ID, st.Spec.Service, own, "")
	if err != nil || !ok {
		return nil, err
	}
	return &row.TestTotals, nil
}

// RunTests returns the reports of a run's test steps, with what each is compared with.
func (s *Store) RunTests(ctx context.Context, runID int64) (slipway.RunTests, error) {
	run, err := getRun(ctx, s.reader, runID)
	out := slipway.RunTests{Run: run, Steps: []slipway.StepTests{}}
	if err != nil {
		return out, err
	}
	steps, err := list(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE run_id = $1 AND id IN (SELECT step_id FROM reports) ORDER BY id`, runID)
	if err != nil {
		return out, err
	}
	for _, st := range steps {
		v, err := s.stepTests(ctx, run, st.Step)
		if err != nil {
			return out, err
		}
		out.Steps = append(out.Steps, v)
	}
	return out, nil
}

func (s *Store) stepTests(ctx context.Context, run slipway.Run, st slipway.Step) (slipway.StepTests, error) {
	v := slipway.StepTests{RunID: run.ID, Step: st.Spec.Key, Service: st.Spec.Service, State: st.State, Reason: st.Reason, ReusedFrom: st.ReusedFrom}
	var err error
	if v.Report, err = s.Report(ctx, st.ID); err != nil {
		return v, err
	}
	v.Base, err = s.baseTests(ctx, run, st)
	return v, err
}

// ServiceTests returns the newest report of a service, of one ref or with "" of any but forks', and the
// numbers of at most n before it. NotFound for a service without a report.
func (s *Store) ServiceTests(ctx context.Context, project, service, ref string, n int) (slipway.ServiceTests, error) {
	out := slipway.ServiceTests{Project: project, Service: service, Past: []slipway.TestTotals{}}
	rows, err := s.testRows(ctx, project, service, ref, limit(n, 20, keptMain))
	if err != nil {
		return out, err
	}
	if len(rows) == 0 {
		return out, noTests(project, service, ref)
	}
	for _, row := range rows {
		out.Past = append(out.Past, row.TestTotals)
	}
	latest, err := s.latestTests(ctx, rows[0])
	out.Latest = &latest
	return out, err
}

func (s *Store) latestTests(ctx context.Context, row testTotals) (slipway.StepTests, error) {
	run, err := getRun(ctx, s.reader, row.RunID)
	if err != nil {
		return slipway.StepTests{}, err
	}
	st, err := s.Step(ctx, row.stepID)
	if err != nil {
		return slipway.StepTests{}, err
	}
	return s.stepTests(ctx, run, st)
}

func (s *Store) testRows(ctx context.Context, project, service, ref string, n int) ([]testTotals, error) {
	return list(ctx, s.reader, scanTests, `SELECT `+testColumns+` FROM test_totals
		WHERE project = $1 AND service = $2 AND (($3 = '' AND fork = 0) OR ref = $3) ORDER BY id DESC LIMIT $4`, project, service, ref, n)
}

func noTests(project, service, ref string) error {
	if ref != "" {
		return slipway.Errorf(slipway.NotFound, "service %s of project %s has no test report of %s", service, project, ref)
	}
	return slipway.Errorf(slipway.NotFound, "service %s of project %s has no test report", service, project)
}

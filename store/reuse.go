package store

import (
	"context"
	"slices"

	"github.com/slipway-cd/slipway"
)

// maxEarlier bounds how many results of the same inputs are looked at.
const maxEarlier = 20

// Earlier is the newest step of a project that succeeded with these inputs and that fits, with what it made;
// false when there is none. Inputs that are empty are never the same.
func (s *Store) Earlier(ctx context.Context, project, inputs string, fits func(slipway.PlanStep) bool) (slipway.Earlier, bool, error) {
	if inputs == "" {
		return slipway.Earlier{}, false, nil
	}
	rows, err := list(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps
		WHERE project = $1 AND inputs = $2 AND state = 'succeeded' ORDER BY id DESC LIMIT $3`, project, inputs, maxEarlier)
	if err != nil {
		return slipway.Earlier{}, false, err
	}
	i := slices.IndexFunc(rows, func(st *stepRow) bool { return fits(st.Spec) })
	if i < 0 {
		return slipway.Earlier{}, false, nil
	}
	found := slipway.Earlier{Step: rows[i].Step}
	if found.Artifacts, err = artifacts(ctx, s.reader, `run_id = $1 AND step = $2`, found.Step.RunID, found.Step.Spec.Key); err != nil {
		return found, false, err
	}
	if found.Step.Spec.Chart != nil {
		found.Manifests, err = s.Manifests(ctx, found.Step.RunID, found.Step.Spec.Service)
		if slipway.ErrorCode(err) != slipway.NotFound && err != nil {
			return found, false, err
		}
	}
	report, err := s.Report(ctx, found.Step.ID)
	switch {
	case err == nil:
		found.Report = &report
	case slipway.ErrorCode(err) != slipway.NotFound:
		return found, false, err
	}
	return found, true, nil
}

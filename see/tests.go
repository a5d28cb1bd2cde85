package see

import (
	"context"
	"io"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// RunTests returns the reports of a run's test steps.
func (s *Reader) RunTests(ctx context.Context, by slipway.User, run int64) (slipway.RunTests, error) {
	if _, err := s.Actions.Run(ctx, by, run); err != nil {
		return slipway.RunTests{}, err
	}
	return s.store.RunTests(ctx, run)
}

// ServiceTests returns the newest report of a service and the numbers of those before it.
func (s *Reader) ServiceTests(ctx context.Context, by slipway.User, project, service, ref string, limit int) (slipway.ServiceTests, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.ServiceTests{}, err
	}
	return s.store.ServiceTests(ctx, project, service, ref, limit)
}

// BaseTests returns the numbers of the report that a run's test step is compared with; nil when there is none.
func (s *Reader) BaseTests(ctx context.Context, by slipway.User, run int64, step string) (*slipway.TestTotals, error) {
	if _, err := s.Actions.Run(ctx, by, run); err != nil {
		return nil, err
	}
	return s.store.BaseTests(ctx, run, step)
}

// CaseHistory returns how the tests that a filter selects ended over the runs of a service.
func (s *Reader) CaseHistory(ctx context.Context, by slipway.User, f slipway.CaseFilter) ([]slipway.CaseHistory, error) {
	if err := auth.Check(by, auth.View, f.Project); err != nil {
		return nil, err
	}
	return s.store.CaseHistory(ctx, f)
}

// OpenAttachment opens a file that the tests of a run left.
func (s *Reader) OpenAttachment(ctx context.Context, by slipway.User, run int64, digest string) (slipway.Attachment, io.ReadSeekCloser, error) {
	if _, err := s.Actions.Run(ctx, by, run); err != nil {
		return slipway.Attachment{}, nil, err
	}
	return s.store.OpenAttachment(ctx, run, digest)
}

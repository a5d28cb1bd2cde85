package see

import (
	"context"
	"slices"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// Gates returns what the gates of a run said, or those of a service's newest run that has any. A service or an environment
// that the project does not have is refused.
func (s *Reader) Gates(ctx context.Context, by slipway.User, f slipway.GateFilter) ([]slipway.GateResult, error) {
	if f.RunID != 0 {
		d, err := s.Actions.Run(ctx, by, f.RunID)
		if err != nil {
			return nil, err
		}
		f.Project = d.Run.Project
	} else if err := auth.Check(by, auth.View, f.Project); err != nil {
		return nil, err
	}
	said, err := s.store.Gates(ctx, f)
	if err == nil && len(said) == 0 && f.RunID == 0 {
		err = s.KnowsService(ctx, f.Project, f.Service)
	}
	if err != nil || f.Environment == "" || slices.ContainsFunc(said, func(g slipway.GateResult) bool { return g.Environment == f.Environment }) {
		return said, err
	}
	return said, s.KnowsEnvironment(ctx, f.Project, f.Environment)
}

// Manifests returns what the chart of a service rendered in a run.
func (s *Reader) Manifests(ctx context.Context, by slipway.User, run int64, service string) ([]slipway.ManifestReport, error) {
	if _, err := s.Actions.Run(ctx, by, run); err != nil {
		return nil, err
	}
	return s.store.Manifests(ctx, run, service)
}

// Scan returns what the scan of a service found in a run.
func (s *Reader) Scan(ctx context.Context, by slipway.User, run int64, service string) (slipway.Scan, error) {
	if _, err := s.Actions.Run(ctx, by, run); err != nil {
		return slipway.Scan{}, err
	}
	return s.store.ScanOf(ctx, run, service)
}

// SBOM returns an SPDX document of a project by its digest.
func (s *Reader) SBOM(ctx context.Context, by slipway.User, project, digest string) ([]byte, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return nil, err
	}
	return s.store.SBOM(ctx, project, digest)
}

// Deployed returns what runs of a project, each with the newest scan of its image.
func (s *Reader) Deployed(ctx context.Context, by slipway.User, project string) ([]slipway.DeployedScan, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return nil, err
	}
	return s.store.DeployedScans(ctx, project)
}

// DeployedScan returns what of a service runs in an environment, with the newest scan of its image.
func (s *Reader) DeployedScan(ctx context.Context, by slipway.User, project, service, environment string) (slipway.DeployedScan, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return slipway.DeployedScan{}, err
	}
	return s.store.DeployedScan(ctx, project, service, environment)
}

// DeployedCounts returns how many findings the images have that run in a project.
func (s *Reader) DeployedCounts(ctx context.Context, by slipway.User, project string) ([]slipway.ImageCounts, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return nil, err
	}
	return s.store.DeployedCounts(ctx, project)
}

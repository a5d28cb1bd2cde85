package store

import (
	"context"

	"github.com/slipway-cd/slipway"
)

// Images returns the images of a service that runs of the default branch published last, newest first:
// at most five.
func (s *Store) Images(ctx context.Context, project, service string) ([]slipway.Artifact, error) {
	return list(ctx, s.reader, scanArtifact, `SELECT `+artifactColumns+` FROM artifacts
		WHERE project = $1 AND service = $2 AND kind = 'image' AND tag <> ''
		AND run_id IN (SELECT id FROM runs WHERE project = $3 AND event = 'merge') ORDER BY id DESC LIMIT 5`, project, service, project)
}

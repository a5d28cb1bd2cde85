package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// RecordFound writes down that vulnerabilities became known of an image that runs in environments.
func (s *Store) RecordFound(ctx context.Context, project, service, version, digest string, environments []string, found []slipway.Finding) error {
	return s.write(ctx, func(t *tx) error {
		ids := make([]string, 0, len(found))
		for _, f := range found {
			ids = append(ids, strings.TrimSpace(f.ID+" "+f.Package))
		}
		shown := strings.Join(ids[:min(5, len(ids))], ", ")
		if more := len(ids) - 5; more > 0 {
			shown += fmt.Sprintf(" and %d more", more)
		}
		return t.event(fmt.Sprintf("scan/%s/%s/%s/%d", project, service, digest, ms(t.now)), slipway.Event{Kind: "scan.found", Project: project,
			Message: fmt.Sprintf("%s %s, which runs in %s, has new critical vulnerabilities: %s", service, version, strings.Join(environments, ", "), shown),
			Data:    data(map[string]any{"service": service, "version": version, "digest": digest, "environments": environments, "findings": ids})})
	})
}

// Document returns the SPDX document of that digest, of whatever project.
func (s *Store) Document(ctx context.Context, digest string) ([]byte, error) {
	project, ok, err := one(ctx, s.reader, scanString, `SELECT project FROM sboms WHERE project IN (SELECT name FROM projects) AND digest = $1 LIMIT 1`, digest)
	if err == nil && !ok {
		err = slipway.Errorf(slipway.NotFound, "there is no SBOM %s", digest)
	}
	if err != nil {
		return nil, err
	}
	return s.SBOM(ctx, project, digest)
}

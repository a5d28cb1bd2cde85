package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// ClaimVersion records that a run (v.RunID) is about to publish a version, in whichever spelling, with an image of a
// commit. Call it before anything has the version's name. A version that was released with another image or from
// another commit is a Conflict; one that another run is about to publish is Unavailable, until that run has published
// it or cannot any more. A run that claims again what it has, as after a crash, succeeds.
func (s *Store) ClaimVersion(ctx context.Context, v slipway.Release) error {
	return s.write(ctx, func(t *tx) error {
		old, ok, err := t.release(v)
		if err != nil {
			return err
		}
		if ok && (old.ImageDigest != v.ImageDigest || old.Commit != v.Commit) {
			return slipway.Errorf(slipway.Conflict, "%w", taken(old))
		}
		holder, ok, err := one(ctx, t, scanInt, `SELECT c.run_id FROM claims c JOIN runs r ON r.id = c.run_id
			WHERE c.project = $1 AND c.service = $2 AND c.semver = $3 AND c.run_id <> $4
			AND r.state NOT IN ('succeeded', 'failed', 'errored', 'cancelled') AND EXISTS (SELECT 1 FROM steps s WHERE s.run_id = c.run_id AND s.kind = 'publish'
				AND s.service = c.service AND s.state NOT IN ('succeeded', 'failed', 'errored', 'skipped', 'cancelled'))`,
			v.Project, v.Service, semver(v.Version), v.RunID)
		if err != nil {
			return fmt.Errorf("look who publishes %s of %s: %w", v.Version, v.Service, err)
		}
		if ok {
			return slipway.Errorf(slipway.Unavailable, "version %s of %s is being published by run #%d: this run goes on when that one has ended", v.Version, v.Service, holder)
		}
		if _, err := t.exec(`INSERT INTO claims (project, service, semver, run_id, claimed_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (project, service, semver) DO UPDATE SET run_id = excluded.run_id, claimed_at = excluded.claimed_at WHERE claims.run_id <> excluded.run_id`,
			v.Project, v.Service, semver(v.Version), v.RunID, ms(t.now)); err != nil {
			return fmt.Errorf("claim %s of %s: %w", v.Version, v.Service, err)
		}
		return nil
	})
}

package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// keptScans is how many scans of one digest are kept, by database and scanner.
const keptScans = 3

// shrink is compression for what is read more often than written.
func shrink(text []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(text)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func expand(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

func scanBlob(r scanner) (b []byte, err error) { return b, r.Scan(&b) }

func readScan(packed []byte) (slipway.Scan, error) {
	var out slipway.Scan
	text, err := expand(packed)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		return out, fmt.Errorf("decode a scan: %w", err)
	}
	return out, nil
}

// scan reads the first scan that a condition with its order finds.
func (s *Store) scan(ctx context.Context, cond string, args ...any) (slipway.Scan, bool, error) {
	packed, ok, err := one(ctx, s.reader, scanBlob, `SELECT report FROM scans WHERE `+cond+` LIMIT 1`, args...)
	if err != nil || !ok {
		return slipway.Scan{}, false, err
	}
	out, err := readScan(packed)
	return out, err == nil, err
}

// Scan is that of a digest with this database and scanner; false when there is none, or its SBOM is not kept.
func (s *Store) Scan(ctx context.Context, project, digest, database, scanner string) (slipway.Scan, bool, error) {
	return s.scan(ctx, `project = $1 AND digest = $2 AND database = $3 AND scanner = $4
		AND (sbom = '' OR EXISTS (SELECT 1 FROM sboms b WHERE b.project = scans.project AND b.digest = scans.sbom))`, project, digest, database, scanner)
}

// AnyScan is that of a digest with this database and scanner in whatever project; false when there is none.
func (s *Store) AnyScan(ctx context.Context, digest, database, scanner string) (slipway.Scan, bool, error) {
	return s.scan(ctx, `digest = $1 AND database = $2 AND scanner = $3`, digest, database, scanner)
}

// LastScan is the newest scan of a digest, with any database; false when there is none.
func (s *Store) LastScan(ctx context.Context, project, digest string) (slipway.Scan, bool, error) {
	return s.scan(ctx, `project = $1 AND digest = $2 ORDER BY scanned_at DESC, id DESC`, project, digest)
}

// NewerScan is the newest scan of a digest, with any database, that was made after a time; false when there is none.
func (s *Store) NewerScan(ctx context.Context, project, digest string, after time.Time) (slipway.Scan, bool, error) {
	return s.scan(ctx, `project = $1 AND digest = $2 AND scanned_at > $3 ORDER BY scanned_at DESC, id DESC`, project, digest, ms(after))
}

// SeenScan is the newest scan of a digest that people know of; false when there is none.
func (s *Store) SeenScan(ctx context.Context, project, digest string) (slipway.Scan, bool, error) {
	return s.scan(ctx, `project = $1 AND digest = $2 AND seen = 1 ORDER BY scanned_at DESC, id DESC`, project, digest)
}

// SBOM returns the SPDX document of that digest.
func (s *Store) SBOM(ctx context.Context, project, digest string) ([]byte, error) {
	packed, ok, err := one(ctx, s.reader, scanBlob, `SELECT document FROM sboms WHERE project = $1 AND digest = $2`, project, digest)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "project %s has no SBOM %s", project, digest)
	}
	text, err := expand(packed)
	if err != nil {
		return nil, fmt.Errorf("read SBOM %s: %w", digest, err)
	}
	return text, nil
}

// KeepScan keeps a scan under its digest, database and scanner, in place of one that is there, and its SBOM. seen:
// people saw it, as it belongs to a run. Of one digest the newest three are kept, and the newest seen.
func (s *Store) KeepScan(ctx context.Context, project string, scan slipway.Scan, sbom []byte, seen bool) error {
	report, err := shrink(data(scan))
	if err != nil {
		return fmt.Errorf("encode the scan of %s: %w", scan.Digest, err)
	}
	document, err := shrink(sbom)
	if err != nil {
		return fmt.Errorf("encode the SBOM of %s: %w", scan.Digest, err)
	}
	return s.write(ctx, func(t *tx) error {
		if scan.SBOM != "" && sbom != nil {
			if _, err := t.exec(`INSERT INTO sboms (project, digest, document) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, project, scan.SBOM, document); err != nil {
				return fmt.Errorf("keep the SBOM of %s: %w", scan.Digest, err)
			}
		}
		before, known, err := one(ctx, t, scanCounts, countsOf, project, scan.Digest)
		if err != nil {
			return fmt.Errorf("read what is known of %s: %w", scan.Digest, err)
		}
		n := scan.Count()
		if _, err := t.exec(`INSERT INTO scans (project, digest, database, scanner, image, scanned_at, seen, sbom, report, critical, high, medium, low, negligible)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
			ON CONFLICT (project, digest, database, scanner) DO UPDATE SET image = excluded.image, scanned_at = excluded.scanned_at,
			seen = max(seen, excluded.seen), sbom = excluded.sbom, report = excluded.report,
			critical = excluded.critical, high = excluded.high, medium = excluded.medium, low = excluded.low, negligible = excluded.negligible`,
			project, scan.Digest, scan.Database.Checksum, scan.Scanner, scan.Image, ms(scan.ScannedAt), bit(seen), scan.SBOM, report,
			n.Critical, n.High, n.Medium, n.Low, n.Negligible); err != nil {
			return fmt.Errorf("keep the scan of %s: %w", scan.Digest, err)
		}
		if err := t.forgetScans(project, scan.Digest); err != nil {
			return err
		}
		return t.tellCounts(project, scan.Digest, before, known)
	})
}

// countsOf reads how many findings the newest scan of a digest has.
const countsOf = `SELECT digest, scanned_at, critical, high, medium, low, negligible FROM scans
	WHERE project = $1 AND digest = $2 ORDER BY scanned_at DESC, id DESC LIMIT 1`

func scanCounts(r scanner) (c slipway.ImageCounts, err error) {
	return c, r.Scan(&c.Digest, stamp{&c.ScannedAt}, &c.Critical, &c.High, &c.Medium, &c.Low, &c.Negligible)
}

// tellCounts records that the newest scan of an image that runs has other numbers than the one before it.
func (t *tx) tellCounts(project, digest string, before slipway.ImageCounts, known bool) error {
	now, _, err := one(t.ctx, t, scanCounts, countsOf, project, digest)
	if err != nil || (known && now.FindingCounts == before.FindingCounts) {
		return err
	}
	runs, err := list(t.ctx, t, scanString, `SELECT DISTINCT service FROM deployments WHERE project = $1 AND image_digest = $2 AND id IN
		(SELECT max(id) FROM deployments WHERE project = $1 AND state IN ('deployed', 'verified', 'unhealthy') GROUP BY environment, service) ORDER BY service`, project, digest)
	if err != nil || len(runs) == 0 {
		return err
	}
	text := fmt.Sprintf("the newest scan of %s, which runs, finds %d critical and %d high", strings.Join(runs, ", "), now.Critical, now.High)
	if known {
		text += fmt.Sprintf("; before it were %d and %d", before.Critical, before.High)
	}
	return t.event(fmt.Sprintf("scan/%s/%s/%d/counts", project, digest, ms(t.now)), slipway.Event{Kind: "scan.changed", Project: project, Message: text, Data: data(now)})
}

// forgetScans removes the oldest scans of a digest.
func (t *tx) forgetScans(project, digest string) error {
	if _, err := t.exec(`DELETE FROM scans WHERE project = $1 AND digest = $2
		AND id NOT IN (SELECT id FROM scans WHERE project = $1 AND digest = $2 ORDER BY scanned_at DESC, id DESC LIMIT $3)
		AND id NOT IN (SELECT id FROM scans WHERE project = $1 AND digest = $2 AND seen = 1 ORDER BY scanned_at DESC, id DESC LIMIT 1)`,
		project, digest, keptScans); err != nil {
		return fmt.Errorf("forget scans of %s: %w", digest, err)
	}
	return nil
}

// ForgetSBOMs removes SBOMs of a project that neither a scan nor an artifact names, and returns how many there
// were.
func (s *Store) ForgetSBOMs(ctx context.Context, project string) (n int64, err error) {
	err = s.write(ctx, func(t *tx) error {
		n, err = t.exec(`DELETE FROM sboms WHERE project = $1 AND digest NOT IN (SELECT sbom FROM scans WHERE project = $1)
			AND digest NOT IN (SELECT digest FROM artifacts WHERE project = $1 AND kind = 'sbom')`, project)
		return err
	})
	return n, err
}

// SawScan marks a scan as one that people know of.
func (s *Store) SawScan(ctx context.Context, project, digest, database, scanner string) error {
	return s.write(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE scans SET seen = 1 WHERE project = $1 AND digest = $2 AND database = $3 AND scanner = $4`, project, digest, database, scanner)
		return err
	})
}

// InUse are the deployments that run now, of all projects.
func (s *Store) InUse(ctx context.Context) ([]slipway.Deployment, error) {
	return deployments(ctx, s.reader, `id IN (SELECT max(id) FROM deployments WHERE state IN ('deployed', 'verified', 'unhealthy')
		GROUP BY project, environment, service) ORDER BY id`)
}

// deployed selects the deployments of a project that run now.
const deployed = `id IN (SELECT max(id) FROM deployments WHERE project = $1 AND state IN ('deployed', 'verified', 'unhealthy') GROUP BY environment, service)`

// DeployedScans are the deployments of a project that run now, each with the newest scan of its image.
func (s *Store) DeployedScans(ctx context.Context, project string) ([]slipway.DeployedScan, error) {
	list, err := deployments(ctx, s.reader, deployed+` ORDER BY environment, service`, project)
	if err != nil {
		return nil, err
	}
	return s.withScans(ctx, project, list)
}

// DeployedScan is what of a service runs in an environment now, with the newest scan of its image; NotFound when
// nothing does.
func (s *Store) DeployedScan(ctx context.Context, project, service, environment string) (slipway.DeployedScan, error) {
	list, err := deployments(ctx, s.reader, deployed+` AND service = $2 AND environment = $3`, project, service, environment)
	if err != nil {
		return slipway.DeployedScan{}, err
	}
	if len(list) == 0 {
		return slipway.DeployedScan{}, slipway.Errorf(slipway.NotFound, "nothing of service %q runs in environment %q", service, environment)
	}
	out, err := s.withScans(ctx, project, list[:1])
	if err != nil {
		return slipway.DeployedScan{}, err
	}
	return out[0], nil
}

func (s *Store) withScans(ctx context.Context, project string, list []slipway.Deployment) ([]slipway.DeployedScan, error) {
	known := map[string]*slipway.Scan{}
	out := make([]slipway.DeployedScan, 0, len(list))
	for _, d := range list {
		scan, done := known[d.ImageDigest]
		if !done {
			found, ok, err := s.LastScan(ctx, project, d.ImageDigest)
			if err != nil {
				return nil, err
			}
			if ok {
				scan = &found
			}
			known[d.ImageDigest] = scan
		}
		out = append(out, slipway.DeployedScan{Deployment: d, Scan: scan})
	}
	return out, nil
}

// DeployedCounts is how many findings the newest scans of the images have that run in a project, in the order of
// digests; images without a scan are left out. It reads no scan.
func (s *Store) DeployedCounts(ctx context.Context, project string) ([]slipway.ImageCounts, error) {
	return list(ctx, s.reader, scanCounts, `SELECT digest, scanned_at, critical, high, medium, low, negligible FROM (
		SELECT *, row_number() OVER (PARTITION BY digest ORDER BY scanned_at DESC, id DESC) AS n FROM scans
		WHERE project = $1 AND digest IN (SELECT image_digest FROM deployments WHERE `+deployed+`)) WHERE n = 1 ORDER BY digest`, project)
}

// saveScan keeps what the scan of a step found.
func (t *tx) saveScan(st *stepRow, scan *slipway.Scan) error {
	if scan == nil {
		return nil
	}
	report, err := shrink(data(scan))
	if err != nil {
		return fmt.Errorf("encode the scan of step %s: %w", st.Spec.Key, err)
	}
	if _, err := t.exec(`INSERT INTO step_scans (step_id, report) VALUES ($1, $2) ON CONFLICT (step_id) DO UPDATE SET report = excluded.report`, st.ID, report); err != nil {
		return fmt.Errorf("record the scan of step %s: %w", st.Spec.Key, err)
	}
	return nil
}

// ScanOf returns what the scan step of a service found in a run; NotFound when there is none.
func (s *Store) ScanOf(ctx context.Context, runID int64, service string) (slipway.Scan, error) {
	packed, ok, err := one(ctx, s.reader, scanBlob, `SELECT c.report FROM step_scans c JOIN steps s ON s.id = c.step_id WHERE s.run_id = $1 AND s.key = $2`,
		runID, slipway.StepKey(slipway.KindScan, service, ""))
	if err != nil {
		return slipway.Scan{}, err
	}
	if !ok {
		return slipway.Scan{}, slipway.Errorf(slipway.NotFound, "run #%d scanned no image of %s", runID, service)
	}
	return readScan(packed)
}

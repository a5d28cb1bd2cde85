package store

import (
	"context"
	"database/sql"

	"github.com/pressly/goose/v3"
)

// counts is the migration that keeps the numbers of each scan beside it, and with a report how long each of its tests
// took. It reads the scans that are there, and removes one that cannot be read; of older reports the durations stay
// unknown.
func counts() *goose.Migration {
	return goose.NewGoMigration(12, &goose.GoFunc{RunTx: addCounts}, nil)
}

func addCounts(ctx context.Context, tx *sql.Tx) error {
	for _, column := range []string{"critical", "high", "medium", "low", "negligible"} {
		if _, err := tx.ExecContext(ctx, `ALTER TABLE scans ADD COLUMN `+column+` INTEGER NOT NULL DEFAULT 0`); err != nil {
			return err
		}
	}
	// of each test, in the order of its names: packTook; NULL: not known
	if _, err := tx.ExecContext(ctx, `ALTER TABLE test_totals ADD COLUMN took BLOB`); err != nil {
		return err
	}
	ids, err := list(ctx, tx, scanInt, `SELECT id FROM scans ORDER BY id`)
	if err != nil {
		return err
	}
	for _, id := range ids {
		packed, _, err := one(ctx, tx, scanBlob, `SELECT report FROM scans WHERE id = $1`, id)
		if err != nil {
			return err
		}
		scan, err := readScan(packed)
		if err != nil { // nobody could read it; the image is scanned again
			if _, err := tx.ExecContext(ctx, `DELETE FROM scans WHERE id = $1`, id); err != nil {
				return err
			}
			continue
		}
		n := scan.Count()
		if _, err := tx.ExecContext(ctx, `UPDATE scans SET critical = $1, high = $2, medium = $3, low = $4, negligible = $5 WHERE id = $6`,
			n.Critical, n.High, n.Medium, n.Low, n.Negligible, id); err != nil {
			return err
		}
	}
	return nil
}

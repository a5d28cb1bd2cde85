package scan

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// rememberRefused is how long an image that was refused is not tried again with the same database and scanner.
// What refused it may have been the machine rather than the image.
const rememberRefused = 24 * time.Hour

// refusedKey is what the refusal of an image is kept under: it is not a scan of the image.
func refusedKey(digest string) string { return "refused:" + digest }

// refusal is the scan of an image that was refused a short while ago, and says so. A further attempt of a step
// scans again.
func (r Runner) refusal(ctx context.Context, env stage.Env, s subject, state State) (slipway.Scan, bool, error) {
	if r.Past == nil || env.Attempt > 1 {
		return slipway.Scan{}, false, nil
	}
	scan, ok, err := r.Past.Scan(ctx, s.project, refusedKey(s.digest), state.Database.Checksum, state.Scanner)
	if err != nil || !ok || len(scan.Problems) == 0 || now(env).Sub(scan.ScannedAt) >= rememberRefused {
		return slipway.Scan{}, false, err
	}
	scan.Image, scan.Digest, scan.Database = s.repo.Ref(), s.digest, state.Database
	scan.Problems = slices.Clone(scan.Problems)
	scan.Problems[0] += fmt.Sprintf("; that was on %s, and it is scanned again a day later, with another database, or when the step is retried",
		scan.ScannedAt.UTC().Format("2006-01-02 15:04"))
	return scan, true, nil
}

// keepRefusal remembers that the scanner refused an image.
func (r Runner) keepRefusal(ctx context.Context, s subject, scan slipway.Scan) error {
	if r.Past == nil || !scan.Refused {
		return nil
	}
	scan.Digest = refusedKey(s.digest)
	return r.Past.KeepScan(ctx, s.project, scan, nil, false)
}

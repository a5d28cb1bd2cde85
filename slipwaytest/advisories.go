package slipwaytest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// VulnerabilityDatabase writes an archive that `slipway scan db import` takes, with slipway-scanner. It knows the
// advisories alone, each an object of JSON as `slipway-scanner db build` reads it, and says that it was built at a
// time: no feed is asked.
func VulnerabilityDatabase(ctx context.Context, scanner, archive string, built time.Time, advisories ...string) error {
	list := archive + ".json"
	if err := os.WriteFile(list, fmt.Appendf(nil, `{"built": %q, "vulnerabilities": [%s]}`, built.UTC().Format(time.RFC3339), strings.Join(advisories, ", ")), 0o600); err != nil {
		return err
	}
	defer os.Remove(list)
	if out, err := exec.CommandContext(ctx, scanner, "db", "build", list, archive).CombinedOutput(); err != nil {
		return fmt.Errorf("build a vulnerability database: %w: %s", err, out)
	}
	return nil
}

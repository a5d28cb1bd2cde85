package plan

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// naming is what an event calls its artifacts, and how far it takes them (the table of D16).
type naming struct {
	tag     string // image tag
	chart   string // chart version, SemVer
	kept    bool   // the image goes there by its digest, and is scanned
	publish bool   // image and chart go to the candidates' namespace
	charted bool   // the chart is linted, rendered, validated and packaged
	release bool
	trust   slipway.Trust
}

// name applies the table of D16 to an event that runs changed services.
func name(in Input) naming {
	run, short := in.Run, slipway.ShortHash(in.Run.Commit)
	switch run.Event {
	case slipway.PullUpdate:
		return naming{
			tag: fmt.Sprintf("pr-%d-%s", run.Pull, short), chart: fmt.Sprintf("0.0.0-pr.%d.g%s", run.Pull, short),
			charted: true, kept: !run.Fork, trust: slipway.TrustBranch,
		}
	case slipway.DefaultPush:
		branch := strings.TrimPrefix(run.Ref, "refs/heads/")
		return naming{
			tag: slipway.BranchTag(branch, run.Commit), chart: ChartVersion(branch, in.CommitTime, run.Commit),
			kept: true, publish: true, trust: slipway.TrustReviewed,
		}
	}
	// A chart that changed alone is checked, though nothing of a branch is published.
	return naming{chart: ChartVersion(strings.TrimPrefix(run.Ref, "refs/heads/"), in.CommitTime, run.Commit), trust: slipway.TrustBranch}
}

var identUnsafe = regexp.MustCompile(`[^0-9A-Za-z-]+`)

// ChartVersion is the version of a chart from the default branch:
// 0.0.0-<branch>.<commit time>.g<short hash>, which is SemVer and sorts by commit time. The time is
// UTC as yyyymmddhhmmss.
func ChartVersion(branch string, commitTime time.Time, commit string) string {
	ident := strings.Trim(identUnsafe.ReplaceAllString(branch, "-"), "-")
	ident = ident[:min(len(ident), 60)]
	if strings.Trim(ident, "0123456789") == "" {
		ident = "b" + ident // a SemVer identifier of digits alone must not begin with 0 or be empty
	}
	t := commitTime.UTC()
	if t.Year() < 1970 || t.Year() > 9999 {
		t = time.Unix(0, 0).UTC()
	}
	return fmt.Sprintf("0.0.0-%s.%s.g%s", ident, t.Format("20060102150405"), slipway.ShortHash(commit))
}

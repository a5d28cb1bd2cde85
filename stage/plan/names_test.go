package plan_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway/stage/plan"
)

var ociTag = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

func TestChartVersion(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 11, 21, 6, 0, 0, 0, time.FixedZone("CET", 3600))
	for branch, want := range map[string]string{
		"main":          "0.0.0-main.20261121050000.g1a2b3c4",
		"release-train": "0.0.0-release-train.20261121050000.g1a2b3c4",
		"feature/a_b":   "0.0.0-feature-a-b.20261121050000.g1a2b3c4",
		"007":           "0.0.0-b007.20261121050000.g1a2b3c4",
		"__":            "0.0.0-b.20261121050000.g1a2b3c4",
	} {
		if got := plan.ChartVersion(branch, when, "1a2b3c4d5e6f"); got != want {
			t.Errorf("branch %s: got %s, want %s", branch, got, want)
		}
	}
	if got, want := plan.ChartVersion("main", time.Time{}, "1a2b3c4d5e6f"), "0.0.0-main.19700101000000.g1a2b3c4"; got != want {
		t.Errorf("without a time: got %s, want %s", got, want)
	}
}

// A chart version is SemVer and an OCI tag whatever the branch is called, and later commits have
// greater versions.
func TestChartVersionAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		branch := rapid.String().Draw(t, "branch")
		seconds := rapid.Int64Range(0, 1<<36).Draw(t, "seconds")
		commit := rapid.StringMatching(`[0-9a-f]{40}`).Draw(t, "commit")
		version := plan.ChartVersion(branch, time.Unix(seconds, 0), commit)
		v, err := semver.StrictNewVersion(version)
		if err != nil {
			t.Fatalf("%q is not SemVer: %v", version, err)
		}
		if !ociTag.MatchString(version) {
			t.Fatalf("%q is no tag", version)
		}
		later, err := semver.StrictNewVersion(plan.ChartVersion(branch, time.Unix(seconds+1, 0), commit))
		if err != nil || !later.GreaterThan(v) {
			t.Fatalf("a second later: %v is not greater than %v (%v)", later, v, err)
		}
	})
}

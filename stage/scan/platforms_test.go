package scan

import (
	"slices"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestPlatforms(t *testing.T) {
	t.Parallel()
	both, arm, two := vuln("CVE-1", slipway.SeverityHigh), vuln("CVE-2", slipway.SeverityCritical), vuln("CVE-1", slipway.SeverityHigh)
	two.Layer, two.Version = "sha256:other", both.Version
	other := vuln("CVE-1", slipway.SeverityHigh)
	other.Version = "3.0.9"
	scans := []slipway.Scan{
		{Packages: 3, Findings: []slipway.Finding{both, both}, SBOM: "sha256:a"},
		{Packages: 4, Findings: []slipway.Finding{arm, two, other}, Problems: []string{"a layer is too large"}},
	}
	got := Platforms([]string{"linux/amd64", "linux/arm64"}, scans)
	want := [][]string{{"linux/arm64"}, {"linux/amd64", "linux/arm64"}, {"linux/arm64"}}
	for i, f := range got.Findings {
		if i >= len(want) || !slices.Equal(f.Platforms, want[i]) {
			t.Errorf("%+v", f)
		}
	}
	if len(got.Findings) != len(want) || got.Packages != 7 || got.SBOM != "" || !slices.Equal(got.Problems, []string{"linux/arm64: a layer is too large"}) || len(got.Platforms) != 2 {
		t.Errorf("%+v", got)
	}
	if one := Platforms([]string{"linux/amd64"}, scans[:1]); one.Platforms != nil || one.Findings[0].Platforms != nil || one.SBOM == "" {
		t.Errorf("%+v", one)
	}
}

package scan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// What waits to be deployed is scanned again with each database, once, and kept without that people have seen it.
func TestWhatWaitsIsScannedAgain(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.images["sha256:web"] = []slipway.Finding{vuln("CVE-1", slipway.SeverityHigh)}
	run(t, f.runner())
	r := Rescan{Runner: f.runner(), Deployed: f, Log: &logLines{}, Dir: t.TempDir()}
	list := []Candidate{{"shop", repo, "sha256:web"}}
	scans := func() int {
		asked := len(f.asked)
		if err := r.Waiting(t.Context(), list); err != nil {
			t.Error(err)
		}
		return len(slices.DeleteFunc(slices.Clone(f.asked[asked:]), func(s string) bool { return s != "scan sha256:web" }))
	}
	if n := scans(); n != 0 {
		t.Errorf("the same database: %d scans", n)
	}
	f.state.Database.Checksum = "db2"
	f.images["sha256:web"] = append(f.images["sha256:web"], vuln("CVE-9", slipway.SeverityCritical))
	if first, second := scans(), scans(); first != 1 || second != 0 {
		t.Errorf("another database: %d scans, then %d", first, second)
	}
	k := key("shop", "sha256:web", "db2", f.state.Scanner)
	if kept := f.kept[k]; len(kept.Findings) != 2 || f.seen[k] {
		t.Errorf("kept %+v, seen %v", kept, f.seen[k])
	}
	f.state.Database = slipway.ScanDatabase{Missing: "none"}
	if n := scans(); n != 0 {
		t.Errorf("without a database: %d scans", n)
	}
	f.state.Database = slipway.ScanDatabase{Checksum: "db3"}
	f.refused = "too large"
	list = append(list, Candidate{"shop", repo, "sha256:other"})
	if err := r.Waiting(t.Context(), list); err == nil || strings.Count(err.Error(), "which waits: ") != 2 || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
}

func TestNewer(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return time.Date(2026, 11, n, 9, 0, 0, 0, time.UTC) }
	secret := slipway.Finding{Kind: slipway.FindingSecret, ID: "aws-access-token", Severity: slipway.SeverityHigh, Path: "src/config.py", Line: 3}
	ran := slipway.Scan{Digest: "sha256:web", Database: slipway.ScanDatabase{Checksum: "db1", Built: day(1)}, ScannedAt: day(1), Problems: []string{"a link was not searched"},
		Findings: []slipway.Finding{vuln("CVE-1", slipway.SeverityCritical), secret}}
	last := slipway.Scan{Digest: "sha256:web", Database: slipway.ScanDatabase{Checksum: "db2", Built: day(2)}, ScannedAt: day(2), Findings: []slipway.Finding{vuln("CVE-2", slipway.SeverityCritical)}}
	for name, c := range map[string]struct {
		ran, last func(*slipway.Scan)
		want      string
	}{
		"later":             {nil, nil, "CVE-2, aws-access-token; a link was not searched"},
		"the very same":     {nil, func(s *slipway.Scan) { *s = ran }, "CVE-1, aws-access-token; a link was not searched"},
		"before":            {nil, func(s *slipway.Scan) { s.ScannedAt = day(1) }, "CVE-1, aws-access-token; a link was not searched"},
		"an older database": {nil, func(s *slipway.Scan) { s.Database.Built = day(1).Add(-time.Hour) }, "CVE-1, aws-access-token; a link was not searched"},
		"without one":       {nil, func(s *slipway.Scan) { s.Database = slipway.ScanDatabase{Missing: "gone"} }, "CVE-1, aws-access-token; a link was not searched"},
		"refused":           {nil, func(s *slipway.Scan) { s.Refused = true }, "CVE-1, aws-access-token; a link was not searched"},
		"a report's":        {func(s *slipway.Scan) { s.Database = slipway.ScanDatabase{} }, nil, "CVE-1, aws-access-token; a link was not searched"},
		"of another image":  {nil, func(s *slipway.Scan) { s.Digest = "sha256:other" }, "CVE-1, aws-access-token; a link was not searched"},
		"there was none":    {func(s *slipway.Scan) { s.Database = slipway.ScanDatabase{Missing: "not yet"} }, nil, "CVE-2, aws-access-token; a link was not searched"},
		"the run's refused": {func(s *slipway.Scan) { s.Refused = true }, nil, "CVE-2, aws-access-token; "},
		"the secret twice":  {nil, func(s *slipway.Scan) { s.Findings = append(slices.Clone(s.Findings), secret) }, "CVE-2, aws-access-token; a link was not searched"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ran, last := ran, last
			if c.ran != nil {
				c.ran(&ran)
			}
			if c.last != nil {
				c.last(&last)
			}
			got, newer := Newer(ran, last)
			var ids []string
			for _, f := range got.Findings {
				ids = append(ids, f.ID)
			}
			if s := strings.Join(ids, ", ") + "; " + strings.Join(got.Problems, ", "); s != c.want || newer != strings.HasPrefix(c.want, "CVE-2") {
				t.Errorf("newer %v: %s, want %s", newer, s, c.want)
			}
		})
	}
}

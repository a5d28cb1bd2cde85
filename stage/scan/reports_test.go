package scan

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

func lines(list []slipway.Finding) []string {
	var out []string
	for _, f := range list {
		out = append(out, fmt.Sprintf("%s %s %s %q %q %q -> %q %s:%d %q %s", f.Kind, f.ID, f.Severity, f.Package, f.Version, f.Type, f.FixedIn, f.Path, f.Line, f.Title, f.Link))
	}
	return out
}

func TestReportsOfOthers(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		scanner  string
		packages int
		want     []string
	}{
		"trivy.sarif": {"Trivy 0.58.1", 0, []string{
			`vulnerability CVE-2024-0001 critical "openssl" "3.0.10-1" "" -> "3.0.11-1" library/web:1 "openssl: overflow" https://avd.aquasec.com/nvd/cve-2024-0001`,
			`secret aws-access-key-id high "" "" "" -> "" app/.env:2 "AWS Access Key ID" `,
		}},
		"snyk.sarif": {"Snyk Container 1.1295.0", 0, []string{
			`vulnerability SNYK-DEBIAN12-OPENSSL-6190223 high "openssl" "" "" -> "" src/web/Dockerfile:1 "High severity - Out-of-bounds Write vulnerability in openssl" `,
			`vulnerability SNYK-OTHER low "zlib" "" "" -> "" :0 "This file introduces a vulnerable zlib package with a low severity vulnerability." `,
		}},
		"trivy.cdx.json": {"trivy 0.58.1", 2, []string{
			`vulnerability CVE-2024-0001 critical "openssl" "3.0.10-1" "deb" -> "3.0.11-1" :0 "overflow in openssl" https://salsa.debian.org/security-tracker`,
			`vulnerability GHSA-1 medium "left-pad" "1.2.0" "npm" -> "1.3.0" :0 "" `,
			`vulnerability GHSA-2 high "left-pad" "1.2.0" "npm" -> "" :0 "" `,
		}},
	}
	for name, c := range cases {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseReport(data)
		if err != nil {
			t.Fatal(err)
		}
		if got.Scanner != c.scanner || got.Packages != c.packages || !slices.Equal(lines(got.Findings), c.want) {
			t.Errorf("%s: %s, %d packages\n  %s\nwant\n  %s", name, got.Scanner, got.Packages, strings.Join(lines(got.Findings), "\n  "), strings.Join(c.want, "\n  "))
		}
	}
}

func TestBadReports(t *testing.T) {
	t.Parallel()
	many := `{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[` + strings.Repeat(`{"ruleId":"a"},`, maxFindings) + `{"ruleId":"a"}]}]}`
	for text, want := range map[string]string{
		"":                                   "is not JSON",
		"<xml/>":                             "is not JSON",
		"[]":                                 "is not JSON",
		"{}":                                 "is neither SARIF 2.1.0 nor CycloneDX JSON",
		`{"version":"2.0.0","runs":[]}`:      "is neither SARIF 2.1.0 nor CycloneDX JSON",
		`{"version":"2.1.0","runs":[]}`:      "holds no run of a scanner",
		`{"version":"2.1.0","runs":{"a":1}}`: "is not SARIF 2.1.0",
		`{"version":"2.1.0","runs":[{}]}`:    "does not name the scanner",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}}}]}`:                                                            "x has not looked",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":null}]}`:                                             "x has not looked",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[],"invocations":[{"executionSuccessful":false}]}]}`: "says that x failed",
		`{"bomFormat":"CycloneDX","version":1}`:                                                                                    "is an SBOM that lists no vulnerabilities",
		`{"bomFormat":"CycloneDX","vulnerabilities":"no"}`:                                                                         "is not CycloneDX",
		many: "holds more than 50000 findings",
	} {
		if _, err := ParseReport([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

func TestReportFiles(t *testing.T) {
	t.Parallel()
	tree, results, outside := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "report.sarif")
	write(t, filepath.Join(results, "report.sarif"), "results")
	write(t, outside, "outside")
	if err := os.Symlink(outside, filepath.Join(tree, "link.sarif")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(tree, "dir.sarif"), 0o755); err != nil {
		t.Fatal(err)
	}
	large, err := os.Create(filepath.Join(tree, "large.sarif"))
	if err != nil {
		t.Fatal(err)
	}
	if err := large.Truncate(2 << 30); err != nil {
		t.Fatal(err)
	}
	large.Close()
	folders := []string{tree, results}
	if data, err := readReport(folders, "report.sarif"); err != nil || string(data) != "results" {
		t.Errorf("%s %v", data, err)
	}
	for name, want := range map[string]string{
		"../report.sarif": "is outside of the service's folder",
		"/etc/passwd":     "is outside of the service's folder",
		"link.sarif":      "escapes",
		"dir.sarif":       "is not a regular file",
		"large.sarif":     "is larger than 64 MiB",
		"none.sarif":      "is neither in the service's folder nor among the results of its tests",
	} {
		if _, err := readReport(folders, name); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A score that is no number says nothing: the level holds.
func TestScoreThatIsNoNumber(t *testing.T) {
	t.Parallel()
	got, err := ParseReport([]byte(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x","rules":[{"id":"a","properties":{"security-severity":"NaN"}}]}},"results":[{"ruleId":"a","level":"error"}],"invocations":[{"executionSuccessful":true}]}]}`))
	if err != nil || len(got.Findings) != 1 || got.Findings[0].Severity != slipway.SeverityHigh {
		t.Errorf("%+v %v", got.Findings, err)
	}
}

// What a report dismisses is a finding all the same, with its justification.
func TestDismissedByTheReport(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1","analysis":{"state":"not_affected","justification":"code_not_reachable","detail":"only in\ntests"}}]}`:   "not_affected, code_not_reachable: only in tests",
		`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1","analysis":{"state":"false_positive"}}]}`:                                                                "false_positive",
		`{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1","analysis":{"state":"exploitable"}}]}`:                                                                   "",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[{"ruleId":"CVE-1","suppressions":[{"kind":"external","justification":"accepted risk"}]}]}]}`: "suppressed, external: accepted risk",
		`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x"}},"results":[{"ruleId":"CVE-1","suppressions":[{"kind":"external","status":"rejected"}]}]}]}`:             "",
	} {
		got, err := ParseReport([]byte(text))
		if err != nil || len(got.Findings) != 1 || got.Findings[0].Dismissed != want {
			t.Errorf("%s: %+v, %v, want %q", text, got.Findings, err, want)
		}
	}
}

// What a tool could not decide counts, what it found in order or gone does not; a rule of an extension says how bad it is.
func TestWhatCountsOfSARIF(t *testing.T) {
	t.Parallel()
	for result, want := range map[string]string{
		`{"ruleId":"CVE-1","kind":"fail"}`:                              "CVE-1 critical",
		`{"ruleId":"CVE-1","kind":"review","level":"none"}`:             "CVE-1 critical",
		`{"ruleId":"CVE-1","kind":"open"}`:                              "CVE-1 critical",
		`{"rule":{"id":"CVE-1","index":0,"toolComponent":{"index":0}}}`: "CVE-1 critical",
		`{"ruleId":"CVE-2","baselineState":"unchanged"}`:                "CVE-2 medium",
		`{"ruleId":"CVE-1","kind":"pass"}`:                              "",
		`{"ruleId":"CVE-1","kind":"notApplicable"}`:                     "",
		`{"ruleId":"CVE-1","kind":"informational"}`:                     "",
		`{"ruleId":"CVE-1","baselineState":"absent"}`:                   "",
	} {
		rep, err := ParseReport([]byte(`{"version":"2.1.0","runs":[{"tool":{"driver":{"name":"x","rules":[{"id":"CVE-2","properties":{"security-severity":"5"}}]},
			"extensions":[{"rules":[{"id":"CVE-1","properties":{"security-severity":"9.8"}},{"id":"CVE-2","properties":{"security-severity":"9.8"}}]}]},"results":[` + result + `]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range rep.Findings {
			got += f.ID + " " + string(f.Severity)
		}
		if got != want {
			t.Errorf("%s: %q, want %q", result, got, want)
		}
	}
}

// A component may be part of another one, or be what the document is about.
func TestComponentsInComponents(t *testing.T) {
	t.Parallel()
	rep, err := ParseReport([]byte(`{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,"metadata":{"component":{"bom-ref":"app","name":"shop","version":"1"}},
		"components":[{"bom-ref":"jar","name":"app.jar","components":[{"bom-ref":"log","name":"log4j-core","group":"org.apache","version":"2.14","purl":"pkg:maven/org.apache/log4j-core@2.14"}]}],
		"vulnerabilities":[{"id":"CVE-1","ratings":[{"severity":"critical"}],"affects":[{"ref":"log"},{"ref":"app"},{"ref":"nowhere"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range rep.Findings {
		got = append(got, strings.TrimSpace(f.Package+" "+f.Version+" "+f.Type))
	}
	if s := strings.Join(got, ", "); s != "org.apache/log4j-core 2.14 maven, shop 1, nowhere" || rep.Packages != 2 {
		t.Errorf("%s of %d packages", s, rep.Packages)
	}
}

package attest

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// maxNames bounds how many tests are named; how many there were is always told.
const maxNames = 2000

// testResult is the predicate of a test result, with its summary.
type testResult struct {
	Result        string      `json:"result"` // PASSED, WARNED, FAILED
	Configuration []resource  `json:"configuration"`
	URL           string      `json:"url,omitempty"`
	PassedTests   []string    `json:"passedTests,omitempty"`
	WarnedTests   []string    `json:"warnedTests,omitempty"`
	FailedTests   []string    `json:"failedTests,omitempty"`
	Summary       testSummary `json:"summary"`
}

type testSummary struct {
	Passed   int      `json:"passed"`
	Failed   int      `json:"failed"`
	Skipped  int      `json:"skipped"`
	Flaky    int      `json:"flaky,omitempty"`
	Coverage *float64 `json:"coverage,omitempty"` // percent of lines
	Problems []string `json:"problems,omitempty"` // result files that could not be read
}

// testsOf says in-toto's words for a report. Flaky tests passed with a warning.
func testsOf(r slipway.TestReport, configuration resource, url string) testResult {
	out := testResult{Result: "PASSED", Configuration: []resource{configuration}, URL: url,
		Summary: testSummary{Passed: r.Passed, Failed: r.Failed, Skipped: r.Skipped, Problems: r.Problems}}
	if r.Coverage != nil {
		percent := r.Coverage.Percent()
		out.Summary.Coverage = &percent
	}
	name := func(list *[]string, s slipway.TestSuite, c slipway.TestCase) {
		if len(*list) < maxNames {
			*list = append(*list, s.Name+"/"+c.Name)
		}
	}
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			switch {
			case c.State == slipway.TestFailed:
				name(&out.FailedTests, s, c)
			case c.State == slipway.TestPassed && (c.Flaky || c.Reruns > 0):
				name(&out.WarnedTests, s, c)
				out.Summary.Flaky++
			case c.State == slipway.TestPassed:
				name(&out.PassedTests, s, c)
			}
		}
	}
	switch {
	case r.Failed > 0:
		out.Result = "FAILED"
	case out.Summary.Flaky > 0:
		out.Result = "WARNED"
	}
	return out
}

// vulnerabilities is the predicate of a scan.
type vulnerabilities struct {
	Scanner  scanner  `json:"scanner"`
	Metadata scanTime `json:"metadata"`
}

type scanner struct {
	URI     string        `json:"uri"`
	Version string        `json:"version,omitempty"`
	DB      *database     `json:"db,omitempty"` // absent: there was none, and nothing could be found
	Result  []scanFinding `json:"result"`
}

type database struct {
	URI        string    `json:"uri,omitempty"`
	Version    string    `json:"version,omitempty"`
	LastUpdate time.Time `json:"lastUpdate,omitzero"`
}

type scanFinding struct {
	ID          string              `json:"id"`
	Severity    []severity          `json:"severity"`
	Annotations []map[string]string `json:"annotations,omitempty"`
}

type severity struct {
	Method string `json:"method"`
	Score  string `json:"score"`
}

type scanTime struct {
	StartedOn  time.Time `json:"scanStartedOn"`
	FinishedOn time.Time `json:"scanFinishedOn"`
}

// scanOf says in-toto's words for a scan. Of a secret it tells the pattern only: who may pull the image need not
// know where else to look.
func scanOf(s slipway.Scan) vulnerabilities {
	name, version, _ := strings.Cut(s.Scanner, " ")
	out := vulnerabilities{
		Scanner:  scanner{URI: "pkg:generic/" + name, Version: version, Result: []scanFinding{}},
		Metadata: scanTime{s.ScannedAt.UTC(), s.ScannedAt.UTC()},
	}
	if s.Database.Missing == "" {
		out.Scanner.DB = &database{URI: s.Database.Source, Version: s.Database.Checksum, LastUpdate: s.Database.Built.UTC()}
	}
	for _, f := range s.Findings {
		v := scanFinding{ID: f.ID, Severity: []severity{{"slipway", string(f.Severity)}}}
		note := map[string]string{"kind": string(f.Kind)}
		if f.Kind == slipway.FindingSecret {
			f = slipway.Finding{ID: f.ID, Severity: f.Severity}
		}
		for key, value := range map[string]string{"package": f.Package, "version": f.Version, "type": f.Type, "fixedIn": f.FixedIn, "path": f.Path, "layer": f.Layer} {
			if value != "" {
				note[key] = value
			}
		}
		v.Annotations = []map[string]string{note}
		out.Scanner.Result = append(out.Scanner.Result, v)
	}
	return out
}

// counts says how many findings of each severity there are, worst first.
func counts(severities map[slipway.Severity]int) string {
	var out []string
	for _, s := range slipway.Severities() {
		if n := severities[s]; n > 0 {
			out = append(out, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(out) == 0 {
		return "nothing found"
	}
	return strings.Join(out, ", ")
}

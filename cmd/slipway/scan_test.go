package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/scan"
)

// Who asks to fail on something is not told that all is well by a scan that could find nothing.
func TestFailOnNeedsADatabase(t *testing.T) {
	t.Parallel()
	missing := slipway.Scan{Image: "x", Database: slipway.ScanDatabase{Missing: "none was imported"}}
	found := slipway.Scan{Image: "x", Findings: []slipway.Finding{{ID: "CVE-1", Severity: slipway.SeverityHigh}}}
	for _, c := range []struct {
		name   string
		scan   slipway.Scan
		failOn slipway.Severity
		fails  bool
	}{
		{"no database, nothing asked", missing, slipway.SeverityNone, false},
		{"no database, critical", missing, slipway.SeverityCritical, true},
		{"high, high", found, slipway.SeverityHigh, true},
		{"high, critical", found, slipway.SeverityCritical, false},
		{"high, nothing asked", found, slipway.SeverityNone, false},
	} {
		cmd := &cli{out: newPrinter(&bytes.Buffer{}, false)}
		err := cmd.showScan(scan.Report{Scan: c.scan}, scanFlags{output: "text", failOn: string(c.failOn)})
		if errors.Is(err, errQuiet) != c.fails || err != nil && !c.fails {
			t.Errorf("%s: %v, want failure %v", c.name, err, c.fails)
		}
	}
}

func TestAFailureIsToldOnce(t *testing.T) {
	t.Parallel()
	for want, failed := range map[string]slipway.TestCase{
		"boom|at x.go:3":      {State: slipway.TestFailed, Message: "boom\n", Output: "boom\nat x.go:3"},
		"want 1|boom":         {State: slipway.TestFailed, Message: "want 1", Output: "boom"},
		"it has no outcome":   {State: slipway.TestFailed, Message: "it has no outcome"},
		"passed after a try":  {State: slipway.TestPassed, Flaky: true, Message: "passed after a try", Output: "passed after a try"},
		"boom and more, here": {State: slipway.TestFailed, Message: "boom", Output: "boom and more, here"},
	} {
		var out bytes.Buffer
		cmd := &cli{out: newPrinter(&out, false)}
		cmd.notableCase(slipway.SuiteCase{TestCase: failed}, false)
		var lines []string
		for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n")[1:] {
			lines = append(lines, strings.TrimSpace(l))
		}
		if got := strings.Join(lines, "|"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

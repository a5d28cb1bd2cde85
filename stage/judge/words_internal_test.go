package judge

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// Who is asked to approve reads who let what through, until when and why.
func TestApprovalsAreNotedWithWaivers(t *testing.T) {
	t.Parallel()
	waiver := &slipway.Waiver{Author: "bob", Reason: "not reachable", Expires: time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)}
	g := slipway.GateResult{Reasons: []slipway.GateReason{{Subject: "CVE-1 a"}, {Subject: "CVE-2 b", Waiver: waiver}}}
	if got := letThroughBy(g); got != "; CVE-2 b waived by bob until 2027-02-01: not reachable" {
		t.Error(got)
	}
	for range 7 {
		g.Reasons = append(g.Reasons, g.Reasons[1])
	}
	if got := letThroughBy(g); strings.Count(got, "CVE-2 b waived") != 5 || !strings.HasSuffix(got, "; and 3 more") {
		t.Error(got)
	}
	if got := letThroughBy(slipway.GateResult{Reasons: g.Reasons[:1]}); got != "" {
		t.Error(got)
	}
}

func TestSummaryCountsGates(t *testing.T) {
	t.Parallel()
	pass, warn := slipway.GateResult{Gate: "secrets", Verdict: slipway.Pass}, slipway.GateResult{Gate: "tests", Verdict: slipway.Warn}
	for want, gates := range map[string][]slipway.GateResult{
		"1 gate passed":                   {pass},
		"1 gate passed, 1 warned: tests":  {pass, warn},
		"2 gates passed, 1 warned: tests": {pass, warn, pass},
	} {
		if got := summary(gates); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

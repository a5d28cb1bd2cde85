package gate

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const noScan = "no scan"

// severities from the worst, as summaries count them.
func severities() []slipway.Severity {
	return []slipway.Severity{slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow,
		slipway.SeverityUnknown, slipway.SeverityNegligible}
}

// vulnerabilities wants none of the severities that are too much. Without a scan there is nothing that could
// be said of the image, which counts as the worst that the gate may say.
func (j *judge) vulnerabilities() []slipway.GateResult {
	p, s := j.policy.Vulnerabilities, j.e.Scan
	worst := slipway.Fail
	if p.FailOn == slipway.SeverityNone {
		worst = slipway.Warn
		if p.WarnOn == slipway.SeverityNone {
			return nil
		}
	}
	if s == nil {
		return []slipway.GateResult{j.unscanned(slipway.GateVulnerabilities, worst)}
	}
	var reasons []found
	if why := s.Database.Missing; why != "" {
		reasons = append(reasons, found{rank: -2, GateReason: slipway.GateReason{Verdict: slipway.Warn, Subject: "no database",
			Message: "no vulnerability can be found without a database: " + why}})
	}
	for _, problem := range s.Problems {
		reasons = append(reasons, found{rank: -1, GateReason: slipway.GateReason{Verdict: slipway.Warn, Subject: "not looked at", Message: "not looked at: " + problem}})
	}
	counts, others := j.counting(), 0
	for _, f := range s.Findings {
		if f.Kind == slipway.FindingSecret {
			continue
		}
		v := slipway.Pass
		if counts(f) {
			v = p.verdict(f)
		}
		if v == slipway.Pass {
			others++
			continue
		}
		reasons = append(reasons, vulnerability(f, v))
	}
	w := j.weigh(slipway.GateVulnerabilities, j.e.Environment, reasons)
	return []slipway.GateResult{j.result(slipway.GateVulnerabilities, j.e.Environment, w, j.vulnerabilitySummary(w, others)...)}
}

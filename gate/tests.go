package gate

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

const (
	noReport = "no report"
	flaky    = "flaky"
	failed   = "failed"
	newly    = "new"
)

// tests wants no test to be red and every result file to be read. A service without tests, and a report in
// which there is none, is a warning: they are on record, and a rule may ask for more.
func (j *judge) tests() []slipway.GateResult {
	if j.policy.Tests == slipway.LevelOff {
		return nil
	}
	bad, r := verdict(j.policy.Tests), j.e.Tests
	if r == nil {
		v, message := atMostWarn(bad), "no tests were run for this service; give its Dockerfile a test stage"
		if j.e.Stage == slipway.KindTest {
			v, message = bad, "the tests were to run and gave no report"
		}
		w := j.weigh(slipway.GateTests, j.e.Environment, []found{{GateReason: slipway.GateReason{Verdict: v, Subject: noReport, Message: message}}})
		return []slipway.GateResult{j.result(slipway.GateTests, j.e.Environment, w, "no report of tests")}
	}
	reasons, listed := cases(*r, bad)
	if more := r.Failed - listed; more > 0 {
		reasons = append(reasons, found{rank: 1, GateReason: slipway.GateReason{Verdict: bad, Subject: "tests that are not listed",
			Message: counted(more, "more test failed, and is", "more tests failed, and are") + " not listed in the report"}})
	}
	if r.Passed+r.Failed+r.Skipped == 0 {
		reasons = append(reasons, found{rank: 3, GateReason: slipway.GateReason{Verdict: atMostWarn(bad), Subject: noReport,
			Message: "the result files hold no test; look whether the tests write them where they are expected"}})
	}
	for _, p := range r.Problems {
		file, what, _ := strings.Cut(p, ": ")
		reasons = append(reasons, found{rank: 2, GateReason: slipway.GateReason{Verdict: bad, Subject: file, Message: "result file was not read in full: " + cmp.Or(what, p), Place: file}})
	}
	w := j.weigh(slipway.GateTests, j.e.Environment, reasons)
	return []slipway.GateResult{j.result(slipway.GateTests, j.e.Environment, w, testSummary(*r, w)...)}
}

// cases are the red and the flaky tests of a report, and how many are red.
func cases(r slipway.TestReport, bad slipway.Verdict) (out []found, red int) {
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			switch {
			case c.State == slipway.TestFailed:
				red++
				f := found{rank: 1, kind: failed, GateReason: slipway.GateReason{Verdict: bad, Subject: caseName(s, c), Message: "failed" + after(c.Message), Place: c.Class}}
				if c.New {
					f.rank, f.kind, f.Message = 0, newly, "failed, and did not before"+after(c.Message)
				}
				out = append(out, f)
			case c.Flaky:
				out = append(out, found{rank: 4, kind: flaky, GateReason: slipway.GateReason{Verdict: atMostWarn(bad), Subject: caseName(s, c),
					Message: "flaky: it passed after it had failed on the same inputs", Place: c.Class}})
			}
		}
	}
	return out, red
}

// caseName is suite/case, with the class where the suite does not say it, and the case alone of a suite without a
// name.
func caseName(s slipway.TestSuite, c slipway.TestCase) string {
	name := c.Name
	if c.Class != "" && c.Class != s.Name {
		name = c.Class + "." + name
	}
	if s.Name == "" {
		return cmp.Or(name, "a test without a name")
	}
	return s.Name + "/" + name
}

func after(message string) string {
	if message == "" {
		return ""
	}
	return ": " + message
}

func testSummary(r slipway.TestReport, w weighed) []string {
	out := []string{thousands(r.Passed) + " passed"}
	if r.Failed > 0 {
		s := thousands(r.Failed) + " failed"
		if n, _ := w.count(newly); n > 0 {
			s += fmt.Sprintf(" (%s new)", thousands(n))
		}
		out = append(out, s)
	}
	if n, _ := w.count(flaky); n > 0 {
		out = append(out, thousands(n)+" flaky")
	}
	if r.Skipped > 0 {
		out = append(out, thousands(r.Skipped)+" skipped")
	}
	if n := len(r.Problems); n > 0 {
		out = append(out, counted(n, "result file", "result files")+" not read")
	}
	return out
}

// coverage wants a least part of the code covered, and not much less than the base branch has.
func (j *judge) coverage() []slipway.GateResult {
	policy := j.policy.Coverage
	if policy.Level == slipway.LevelOff || (policy.Minimum <= 0 && policy.MaxDrop < 0) {
		return nil
	}
	bad := verdict(policy.Level)
	var c *slipway.Coverage
	if j.e.Tests != nil {
		c = j.e.Tests.Coverage
	}
	if c == nil || c.Total <= 0 {
		w := j.weigh(slipway.GateCoverage, j.e.Environment, []found{{GateReason: slipway.GateReason{Verdict: bad, Subject: noReport,
			Message: "no coverage report was found; let the tests write Cobertura, LCOV or a Go profile into the results folder"}}})
		return []slipway.GateResult{j.result(slipway.GateCoverage, j.e.Environment, w, "no coverage report")}
	}
	var reasons []found
	is, parts := c.Percent(), []string{percent(c.Percent()) + " covered"}
	if policy.Minimum > 0 {
		parts = append(parts, percent(policy.Minimum)+" wanted")
		if is < policy.Minimum {
			reasons = append(reasons, found{GateReason: slipway.GateReason{Verdict: bad, Subject: "minimum", Place: leastCovered(*c),
				Message: fmt.Sprintf("%s of %s lines are covered, %s wanted", percent(is), thousands(c.Total), percent(policy.Minimum))}})
		}
	}
	drop, compared := 0.0, j.e.BaseCoverage != nil && j.e.BaseCoverage.Total > 0
	if compared {
		drop = j.e.BaseCoverage.Percent() - is
		parts = append(parts, fmt.Sprintf("%+.1f points against the base branch", -drop+0)) // +0: no -0.0
	}
	if compared && policy.MaxDrop >= 0 && drop > policy.MaxDrop {
		reasons = append(reasons, found{GateReason: slipway.GateReason{Verdict: bad, Subject: "drop", Place: leastCovered(*c),
			Message: fmt.Sprintf("%.1f points less than the base branch, which has %s; %.1f are allowed", drop, percent(j.e.BaseCoverage.Percent()), policy.MaxDrop)}})
	}
	w := j.weigh(slipway.GateCoverage, j.e.Environment, reasons)
	return []slipway.GateResult{j.result(slipway.GateCoverage, j.e.Environment, w, parts...)}
}

// leastCovered points at the file where there is most to gain.
func leastCovered(c slipway.Coverage) string {
	if len(c.Files) == 0 {
		return ""
	}
	f := c.Files[0]
	return fmt.Sprintf("%s (%d of %d)", f.Path, f.Covered, f.Total)
}

func percent(f float64) string { return fmt.Sprintf("%.1f %%", f) }

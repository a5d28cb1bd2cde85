package judge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage"
)

func TestAFailedGateFailsItsStep(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	run := c.plans(map[string]slipway.Gates{"": lenient(func(g *slipway.Gates) {
		g.Tests, g.Coverage = slipway.LevelFail, slipway.CoverageGate{Level: slipway.LevelFail, Minimum: 80, MaxDrop: -1}
	})}, "test/cart", "build/cart")
	report := &slipway.TestReport{Passed: 3, Suites: []slipway.TestSuite{{Name: "unit"}}, Coverage: &slipway.Coverage{Covered: 1, Total: 2}}
	res, err := c.step(run, "test/cart", c.judge.Judged(gives(slipway.Result{Outcome: slipway.Succeeded, Report: report, Inputs: "same", Reason: "3 passed"})))
	c.want("uncovered", res, err, slipway.Failed, "tests pass, coverage fail", "gate coverage: 50.0 % covered, 80.0 % wanted")
	if res.Inputs != "same" {
		t.Errorf("the inputs are %q: a flaky test is told by them", res.Inputs)
	}
	on, err := c.Gates(c.ctx, slipway.GateFilter{Project: "shop", RunID: run.ID})
	c.ok(err)
	if verdicts(on) != "tests pass, coverage fail" || on[1].Step != "test/cart" || on[1].Service != "cart" {
		t.Errorf("on record: %+v", on)
	}
	if text := c.log.text(); !strings.Contains(text, "fail coverage: 50.0 % covered") || !strings.Contains(text, "  fail minimum: 50.0 % of 2 lines are covered") {
		t.Errorf("log:\n%s", text)
	}
}

// A step that failed by itself says why it did; its gates are on record all the same.
func TestAFailedStepKeepsItsReason(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	run := c.plans(map[string]slipway.Gates{"": lenient(func(g *slipway.Gates) { g.Tests = slipway.LevelFail })}, "test/cart")
	res, err := c.step(run, "test/cart", c.judge.Judged(gives(slipway.Result{Outcome: slipway.Failed, Reason: "2 of 14 tests failed", Report: &slipway.TestReport{Passed: 12, Failed: 2, Files: []string{"r.xml"}, Suites: []slipway.TestSuite{{Name: "unit", Cases: []slipway.TestCase{
		{Name: "TestSend", State: slipway.TestFailed}, {Name: "TestReceive", State: slipway.TestFailed}}}}}})))
	c.want("red", res, err, slipway.Failed, "tests fail", "2 of 14 tests failed")
	if strings.Contains(res.Reason, "gate") || len(res.Gates[0].Reasons) == 0 {
		t.Errorf("%q %+v", res.Reason, res.Gates)
	}
}

// Red tests that are waived, or of which the gate only warns, do not fail their step; an exit code without a red test
// does, and so does a test that nobody waived.
func TestWaivedTestsAreLetThrough(t *testing.T) {
	t.Parallel()
	report := &slipway.TestReport{Passed: 1, Failed: 1, Files: []string{"a.xml"}, Suites: []slipway.TestSuite{{Name: "unit", Cases: []slipway.TestCase{
		{Name: "TestA", State: slipway.TestPassed}, {Name: "TestB", State: slipway.TestFailed, Message: "no"}}}}}
	waived := func(subject string, expires time.Time) func(*slipway.Gates) {
		return func(g *slipway.Gates) {
			g.Tests = slipway.LevelFail
			g.Waivers = []slipway.Waiver{{Gate: slipway.GateTests, Subject: subject, Reason: "known", Author: "ada", Expires: expires}}
		}
	}
	now := time.Now()
	red := slipway.Result{Outcome: slipway.Failed, Reason: "tests failed: 1 of 2: TestB", Report: report}
	crashed := slipway.Result{Outcome: slipway.Failed, Reason: "tests failed: exit code 139", Report: &slipway.TestReport{Passed: 1, Files: []string{"a.xml"}, Suites: report.Suites[:1]}}
	crashed.Report.Suites = []slipway.TestSuite{{Name: "unit", Cases: report.Suites[0].Cases[:1]}}
	killed := red
	killed.Report = new(slipway.TestReport)
	*killed.Report = *report
	killed.Report.ExitCode = 137
	for name, c := range map[string]struct {
		change func(*slipway.Gates)
		res    slipway.Result
		want   slipway.Outcome
	}{
		"waived":         {waived("unit/TestB", now.Add(time.Hour)), red, slipway.Succeeded},
		"ended":          {waived("unit/TestB", now.Add(-time.Hour)), red, slipway.Failed},
		"another":        {waived("unit/TestA", now.Add(time.Hour)), red, slipway.Failed},
		"only warned of": {func(g *slipway.Gates) { g.Tests = slipway.LevelWarn }, red, slipway.Succeeded},
		"off":            {func(g *slipway.Gates) { g.Tests = slipway.LevelOff }, red, slipway.Failed},
		"another gate": {func(g *slipway.Gates) {
			g.Tests, g.Coverage = slipway.LevelWarn, slipway.CoverageGate{Level: slipway.LevelFail, Minimum: 80}
		}, red, slipway.Failed},
		"no red test": {waived("*B", now.Add(time.Hour)), crashed, slipway.Failed},
		"killed":      {waived("unit/TestB", now.Add(time.Hour)), killed, slipway.Failed},
	} {
		court := newCourt(t)
		res, err := court.step(court.plans(map[string]slipway.Gates{"": lenient(c.change)}, "test/cart"), "test/cart", court.judge.Judged(gives(c.res)))
		if err != nil || res.Outcome != c.want || (c.want == slipway.Succeeded && res.Reason != "let through by gate tests: "+red.Reason) {
			t.Errorf("%s: %s %q %v", name, res.Outcome, res.Reason, err)
		}
	}
}

func TestWhatGatesDoNotJudge(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	strict := map[string]slipway.Gates{"": config.StandardGates(true)}
	for outcome, want := range map[slipway.Outcome]string{slipway.Succeeded: "vulnerabilities fail, secrets fail", slipway.Skipped: "", slipway.Postponed: "", slipway.Waiting: ""} {
		run := c.plans(strict, "scan/cart")
		d, err := c.Run(c.ctx, run.ID)
		c.ok(err)
		env := stage.Env{Run: d.Run, StepID: d.Steps[0].ID, Log: c.log, Now: time.Now}
		res, err := c.judge.Judged(gives(slipway.Result{Outcome: outcome, Reason: "so"})).Run(c.ctx, env, d.Steps[0].Spec)
		if outcome == slipway.Succeeded {
			outcome = slipway.Failed
		}
		c.want(string(outcome), res, err, outcome, want)
	}
	broken := errors.New("no BuildKit")
	run := c.plans(strict, "test/cart")
	res, err := c.step(run, "test/cart", c.judge.Judged(stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
		return slipway.Result{}, broken
	})))
	if !errors.Is(err, broken) || len(res.Gates) != 0 {
		t.Errorf("%+v %v", res, err)
	}
}

// A run that was planned before there were gates goes on as it was planned.
func TestARunPlannedBeforeGates(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.governs("environments: [{name: qa, gates: {signatures: {level: fail}}}]\n")
	run := c.plans(nil, "scan/cart", "deploy/cart@qa")
	res, err := c.step(run, "scan/cart", c.judge.Judged(gives(slipway.Result{Outcome: slipway.Succeeded, Scan: scanned(critical("CVE-1"))})))
	c.want("scan", res, err, slipway.Succeeded, "")
	n := 0
	res, err = c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
	c.want("deploy", res, err, slipway.Succeeded, "", "deployed")
	if n != 1 {
		t.Errorf("deployed %d times", n)
	}
}

// A chart is judged for each environment by what that demands, and the reason says which.
func TestChartsAreJudgedForEachEnvironment(t *testing.T) {
	t.Parallel()
	probes := func(l slipway.Level) slipway.Gates {
		return lenient(func(g *slipway.Gates) { g.Manifests.Policies = map[string]slipway.Level{"probes": l} })
	}
	policies := map[string]slipway.Gates{"": probes(slipway.LevelFail), "qa": probes(slipway.LevelWarn), "eu": probes(slipway.LevelFail)}
	rendered := func(envs ...string) (out []slipway.ManifestReport) {
		for _, env := range envs {
			out = append(out, slipway.ManifestReport{Environment: env, Live: true, Objects: []slipway.ManifestObject{{Name: "Deployment/cart"}},
				Problems: []slipway.ManifestProblem{{Policy: "probes", Object: "Deployment/cart", Message: "has none"}}})
		}
		return out
	}
	c := newCourt(t)
	for name, x := range map[string]struct {
		in      slipway.Result
		outcome slipway.Outcome
		gates   string
		reason  string
	}{
		"lenient":          {slipway.Result{Manifests: rendered("qa")}, slipway.Succeeded, "manifests qa warn", ""},
		"strict":           {slipway.Result{Manifests: rendered("qa", "eu")}, slipway.Failed, "manifests qa warn, manifests eu fail", "eu: gate manifests: 1 object, 1 failure (probes)"},
		"two":              {slipway.Result{Manifests: rendered("eu", "us")}, slipway.Failed, "manifests eu fail, manifests us fail", "eu: gate manifests: 1 object, 1 failure (probes); us: gate manifests"},
		"failed by itself": {slipway.Result{Outcome: slipway.Failed, Reason: "lint", Manifests: rendered("eu")}, slipway.Failed, "manifests eu fail", "lint"},
		"not rendered":     {slipway.Result{Outcome: slipway.Failed, Reason: "lint"}, slipway.Failed, "", "lint"},
		"for none":         {slipway.Result{}, slipway.Succeeded, "manifests warn", ""},
	} {
		if x.in.Outcome == "" {
			x.in.Outcome = slipway.Succeeded
		}
		run := c.plans(policies, "chart/cart")
		res, err := c.step(run, "chart/cart", c.judge.Judged(gives(x.in)))
		c.want(name, res, err, x.outcome, x.gates, x.reason)
	}
}

// candidate is a run with an image and what is known of it, up to its gates.
func (c *court) candidate(gates map[string]slipway.Gates, findings ...slipway.Finding) slipway.Run {
	c.t.Helper()
	run := c.plans(gates, "publish/cart", "scan/cart", "test/cart", "chart/cart", "gate/cart@qa", "approve/cart@qa", "deploy/cart@qa")
	c.finish(run, "publish/cart", slipway.Result{Artifacts: published(imageDigest)})
	c.finish(run, "scan/cart", slipway.Result{Scan: scanned(findings...)})
	c.finish(run, "test/cart", slipway.Result{Report: &slipway.TestReport{Passed: 3, Suites: []slipway.TestSuite{{Name: "unit"}}}})
	c.finish(run, "chart/cart", slipway.Result{Manifests: []slipway.ManifestReport{{Environment: "qa", Live: true, Objects: []slipway.ManifestObject{{Name: "Deployment/cart"}}}}})
	return run
}

func failOn(s slipway.Severity) slipway.Gates {
	return lenient(func(g *slipway.Gates) { g.Tests, g.Vulnerabilities.FailOn = slipway.LevelFail, s })
}

func TestTheGateOfAnEnvironment(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	gates := map[string]slipway.Gates{"": lenient(nil), "qa": failOn(slipway.SeverityCritical)}
	res, err := c.step(c.candidate(gates), "gate/cart@qa", c.judge)
	c.want("clean", res, err, slipway.Succeeded, "tests qa pass, vulnerabilities qa pass", "2 gates passed")
	gates["qa"] = lenient(func(g *slipway.Gates) { g.Vulnerabilities.WarnOn = slipway.SeverityCritical })
	res, err = c.step(c.candidate(gates, critical("CVE-1")), "gate/cart@qa", c.judge)
	c.want("warned", res, err, slipway.Succeeded, "vulnerabilities qa warn", "0 gates passed, 1 warned: vulnerabilities")
	gates["qa"] = failOn(slipway.SeverityCritical)
	res, err = c.step(c.candidate(gates, critical("CVE-1")), "gate/cart@qa", c.judge)
	c.want("vulnerable", res, err, slipway.Failed, "tests qa pass, vulnerabilities qa fail", "gate vulnerabilities: 1 critical (1 fixable)")
	_, err = c.GiveWaiver(c.ctx, slipway.Waiver{Project: "shop", Gate: "vulnerabilities", Subject: "CVE-1 *", Environment: "qa", Reason: "r", Author: "ada", Expires: c.now.Add(time.Hour)})
	c.ok(err)
	res, err = c.step(c.candidate(gates, critical("CVE-1")), "gate/cart@qa", c.judge)
	c.want("waived", res, err, slipway.Succeeded, "tests qa pass, vulnerabilities qa pass", "2 gates passed")
	// What was demanded of an environment is not known: the strictest holds.
	delete(gates, "qa")
	res, err = c.step(c.candidate(gates), "gate/cart@qa", c.judge)
	if err != nil || res.Outcome != slipway.Failed || !strings.Contains(verdicts(res.Gates), "tests qa pass") {
		t.Errorf("%+v %v", res, err)
	}
	// Nothing passes for want of evidence.
	gates["qa"] = failOn(slipway.SeverityCritical)
	bare := c.plans(gates, "publish/cart", "gate/cart@qa")
	c.finish(bare, "publish/cart", slipway.Result{Artifacts: published("sha256:" + strings.Repeat("6", 64))})
	res, err = c.step(bare, "gate/cart@qa", c.judge)
	c.want("not scanned", res, err, slipway.Failed, "tests qa warn, vulnerabilities qa fail", "the image was not scanned")
	if _, err = c.step(c.plans(gates, "gate/cart@qa"), "gate/cart@qa", c.judge); slipway.ErrorCode(err) != slipway.Internal {
		t.Errorf("without an image: %v", err)
	}
}

// People may have taken days to approve.
func TestWhatEndedBetweenGateAndDeployment(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.governs("environments: [{name: dev}]\n") // qa was taken out: what was planned holds
	given, err := c.GiveWaiver(c.ctx, slipway.Waiver{Project: "shop", Gate: "vulnerabilities", Subject: "CVE-1 openssl", Reason: "r", Author: "ada", Expires: c.now.Add(24 * time.Hour)})
	c.ok(err)
	gates := map[string]slipway.Gates{"": lenient(nil), "qa": failOn(slipway.SeverityCritical)}
	deploy := func(name string, outcome slipway.Outcome, said string, times int, reasons ...string) {
		t.Helper()
		run, n := c.candidate(gates, critical("CVE-1")), 0
		res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
		c.want(name, res, err, outcome, said, reasons...)
		if n != times {
			t.Errorf("%s: deployed %d times, want %d", name, n, times)
		}
	}
	deploy("it holds", slipway.Succeeded, "", 1, "deployed")
	c.now = c.now.Add(25 * time.Hour)
	deploy("it has ended", slipway.Failed, "vulnerabilities qa fail", 0, "not deployed, as the gates do not let it through any more: gate vulnerabilities: 1 critical")
	if text := c.log.text(); !strings.Contains(text, "the waiver of ada expired on") {
		t.Errorf("log:\n%s", text)
	}
	c.now = c.now.Add(-25 * time.Hour)
	_, err = c.WithdrawWaiver(c.ctx, given.ID, "bob")
	c.ok(err)
	deploy("it was withdrawn", slipway.Failed, "vulnerabilities qa fail", 0, "gates do not let it through")
}

// What is demanded when it is deployed counts when it is stricter than what was planned, and only then.
func TestWhatIsDemandedNow(t *testing.T) {
	t.Parallel()
	medium := critical("CVE-1")
	medium.Severity = slipway.SeverityMedium
	off := "signatures: {level: off}, secrets: off, database: {missing: off, old: off}"
	for name, x := range map[string]struct {
		now     string
		planned slipway.Severity
		outcome slipway.Outcome
		said    string
	}{
		"stricter":       {"environments: [{name: qa, gates: {" + off + ", vulnerabilities: {failOn: medium}}}]\n", slipway.SeverityCritical, slipway.Failed, "vulnerabilities qa fail"},
		"the same":       {"environments: [{name: qa, gates: {" + off + ", vulnerabilities: {failOn: critical}}}]\n", slipway.SeverityCritical, slipway.Succeeded, ""},
		"more lenient":   {"environments: [{name: qa, gates: {" + off + ", vulnerabilities: {failOn: none}}}]\n", slipway.SeverityMedium, slipway.Failed, "vulnerabilities qa fail"},
		"broken":         {"environments: [{name: qa, gates: {tests: perhaps}}]\n", slipway.SeverityCritical, slipway.Succeeded, ""},
		"broken, strict": {"environments: [{name: qa, gates: {tests: perhaps}}]\n", slipway.SeverityMedium, slipway.Failed, "vulnerabilities qa fail"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCourt(t)
			c.governs(x.now)
			run, n := c.candidate(map[string]slipway.Gates{"": lenient(nil), "qa": failOn(x.planned)}, medium), 0
			res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
			c.want(name, res, err, x.outcome, x.said)
			if (n == 1) != (x.outcome == slipway.Succeeded) {
				t.Errorf("deployed %d times", n)
			}
		})
	}
}

// A rule that was changed since the plan is two of one name: both must hold, and they are one gate.
func TestARuleThatWasChanged(t *testing.T) {
	t.Parallel()
	rule := func(expression string) slipway.Gates {
		return lenient(func(g *slipway.Gates) {
			g.Rules = []slipway.Rule{{Name: "small", Stage: slipway.KindGate, Expression: expression, Message: "not " + expression, Level: slipway.LevelFail}}
		})
	}
	for name, x := range map[string]struct{ then, now, said string }{
		"both fail": {"evidence.image.size < 1", "evidence.image.size < 2", "not evidence.image.size < 1"},
		"the old":   {"evidence.image.size < 1", "evidence.image.size > 2", "not evidence.image.size < 1"},
		"the new":   {"evidence.image.size > 1", "evidence.image.size < 2", "now it is too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCourt(t)
			c.governs("environments:\n  - name: qa\n    gates:\n      signatures: {level: off}\n      secrets: off\n      rules: [{name: small, expression: " + x.now + ", message: now it is too large}]\n")
			run, n := c.candidate(map[string]slipway.Gates{"": lenient(nil), "qa": rule(x.then)}), 0
			res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
			c.want(name, res, err, slipway.Failed, "small qa fail", x.said)
			on, err := c.Gates(c.ctx, slipway.GateFilter{Project: "shop", RunID: run.ID, Environment: "qa", Service: "cart"})
			c.ok(err)
			if n != 0 || verdicts(on) != "small qa fail" || (name == "both fail") != (len(on[0].Reasons) == 2) {
				t.Errorf("deployed %d times, on record %+v", n, on)
			}
		})
	}
}

func TestSignaturesBeforeADeployment(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	for level, want := range map[slipway.Level]struct {
		outcome slipway.Outcome
		said    string
		reason  string
		times   int
	}{
		slipway.LevelFail: {slipway.Failed, "signatures qa fail", "not deployed: gate signatures: 0 of 2 signed, provenance required", 0},
		slipway.LevelWarn: {slipway.Succeeded, "signatures qa warn", "deployed", 1},
		slipway.LevelOff:  {slipway.Succeeded, "", "deployed", 1},
	} {
		c.governs("environments: [{name: other}]\n")
		run, n := c.candidate(map[string]slipway.Gates{"qa": lenient(func(g *slipway.Gates) {
			g.Signatures = slipway.SignatureGate{Level: level, Attestations: []string{"provenance"}}
		})}), 0
		res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
		c.want(string(level), res, err, want.outcome, want.said, want.reason)
		if n != want.times {
			t.Errorf("%s: deployed %d times", level, n)
		}
	}
	if text := c.log.text(); !strings.Contains(text, "fail unsigned registry.test/shop/cart@"+imageDigest) {
		t.Errorf("log:\n%s", text)
	}
	// A registry that does not answer is no verdict: it is asked again.
	c.judge.Verify = c.verifies(away{})
	run, n := c.candidate(map[string]slipway.Gates{"qa": lenient(func(g *slipway.Gates) { g.Signatures = slipway.SignatureGate{Level: slipway.LevelWarn} })}), 0
	if _, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n)))); !slipway.Temporary(err) || n != 0 {
		t.Errorf("deployed %d times: %v", n, err)
	}
}

// A rollback is never held up by what cannot prove where it comes from, and says so.
func TestSignaturesBeforeARollback(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	back := func(verify verification, level slipway.Level) (slipway.Result, error) {
		c.governs(fmt.Sprintf("environments: [{name: qa, gates: {signatures: {level: %s, attestations: [provenance]}}}]\n", level))
		c.judge.Verify = verify
		n := 0
		res, err := c.step(c.plans(nil, "rollback/cart@qa"), "rollback/cart@qa", c.judge.Remarked(deploys(&n)))
		if n != 1 {
			t.Errorf("%s: it went back %d times", level, n)
		}
		return res, err
	}
	nothing := c.judge.Verify
	res, err := back(nothing, slipway.LevelFail)
	c.want("stripped", res, err, slipway.Succeeded, "signatures qa fail", "deployed; look at what runs now: gate signatures: 0 of 2 signed, provenance required")
	if text := c.log.text(); !strings.Contains(text, "fail unsigned registry.test/shop/cart@"+imageDigest) {
		t.Errorf("log:\n%s", text)
	}
	res, err = back(nothing, slipway.LevelOff)
	c.want("nobody asks for them", res, err, slipway.Succeeded, "")
	res, err = back(c.verifies(away{}), slipway.LevelFail)
	c.want("no answer", res, err, slipway.Succeeded, "signatures qa warn", "the signatures of v1.0.0 could not be verified: ", "the registry does not answer")
	res, err = back(nothing, slipway.LevelWarn)
	c.want("warn", res, err, slipway.Succeeded, "signatures qa warn")
}

// Who is asked to approve reads what the gate of that environment said.
func TestApprovalsAreNotedWithGates(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	run := c.candidate(map[string]slipway.Gates{"": failOn(slipway.SeverityCritical), "qa": failOn(slipway.SeverityCritical)})
	res, err := c.step(run, "gate/cart@qa", c.judge)
	c.want("gate", res, err, slipway.Succeeded, "tests qa pass, vulnerabilities qa pass")
	res, err = c.step(run, "approve/cart@qa", c.judge.Noted(gives(slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Notes: []string{"first install"}}})))
	c.want("approve", res, err, slipway.Waiting, "")
	if got := strings.Join(res.Approval.Notes, "\n"); got != "first install\ngate tests: pass: 3 passed\ngate vulnerabilities: pass: none that count in 7 packages" {
		t.Errorf("notes:\n%s", got)
	}
	waives := failOn(slipway.SeverityCritical)
	waives.Waivers = []slipway.Waiver{{Gate: "vulnerabilities", Subject: "CVE-1 *", Reason: "not reachable", Author: "ada", Expires: c.now.Add(time.Hour)}}
	run = c.candidate(map[string]slipway.Gates{"": waives, "qa": waives}, critical("CVE-1"))
	_, err = c.step(run, "gate/cart@qa", c.judge)
	c.ok(err)
	res, err = c.step(run, "approve/cart@qa", c.judge.Noted(gives(slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{}})))
	c.want("waived", res, err, slipway.Waiting, "")
	if got := strings.Join(res.Approval.Notes, "\n"); !strings.HasSuffix(got, " waived by ada until "+c.now.Add(time.Hour).UTC().Format(time.DateOnly)+": not reachable") {
		t.Errorf("notes:\n%s", got)
	}
	run = c.candidate(nil)
	res, err = c.step(run, "approve/cart@qa", c.judge.Noted(gives(slipway.Result{Outcome: slipway.Succeeded, Reason: "approved before"})))
	c.want("approved before", res, err, slipway.Succeeded, "", "approved before")
}

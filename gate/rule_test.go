package gate_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate"
)

func now() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// whole is evidence with something of everything.
func whole() slipway.Evidence {
	return slipway.Evidence{
		Stage: slipway.KindGate, Project: "shop", Service: "web", Environment: "production", Production: true,
		Event: slipway.ReleasePush, Ref: "refs/heads/release/web/v1.2.0", Version: "v1.2.0", Commit: strings.Repeat("a", 40), Now: now(),
		Tests: &slipway.TestReport{
			Passed: 2, Duration: 90 * time.Second,
			Suites:   []slipway.TestSuite{{Name: "cart", Cases: []slipway.TestCase{{Name: "adds", State: slipway.TestPassed}, {Name: "pays", State: slipway.TestPassed}}}},
			Coverage: &slipway.Coverage{Covered: 81, Total: 100, Files: []slipway.FileCoverage{{Path: "pay.go", Covered: 1, Total: 10}}},
		},
		BaseCoverage: &slipway.Coverage{Covered: 80, Total: 100},
		Scan: &slipway.Scan{
			Image: "registry.test/shop/web", Digest: "sha256:1", Scanner: "grype", Packages: 143, Base: "sha256:0",
			Database: slipway.ScanDatabase{Built: now().Add(-24 * time.Hour)},
			Findings: []slipway.Finding{
				{Kind: slipway.FindingVulnerability, ID: "CVE-2026-2", Severity: slipway.SeverityHigh, Package: "zlib", Version: "1.2", Layer: "sha256:0123456789abcdef0123", Path: "/usr/lib/libz.so", InBase: true},
				{Kind: slipway.FindingVulnerability, ID: "CVE-2026-3", Severity: slipway.SeverityMedium, Package: "curl", Version: "8.0", FixedIn: "8.1"},
			},
		},
		PreviousScan: &slipway.Scan{Findings: []slipway.Finding{{ID: "CVE-2026-2", Package: "zlib", Severity: slipway.SeverityHigh}}},
		Manifests: []slipway.ManifestReport{{Environment: "production", KubeVersion: "1.34", Objects: []slipway.ManifestObject{
			{Name: "Deployment/web", Template: "templates/deployment.yaml", YAML: "kind: Deployment\nreplicas: 3\n"}}}},
		Signatures: &slipway.SignatureReport{Subjects: []slipway.SignedSubject{
			{Name: "registry.test/shop/web@sha256:1", Kind: slipway.ArtifactImage, Signed: true, Builder: "https://slipway.test", Attestations: []string{"provenance", "sbom"}}}},
		Image:       &slipway.Artifact{Kind: slipway.ArtifactImage, Repository: "registry.test/shop/web", Digest: "sha256:1", Size: 40 << 20},
		Deployments: []slipway.Deployment{{Target: slipway.Target{Environment: "qa", Timeout: slipway.Duration(time.Minute)}, State: slipway.Verified, VerifiedAt: now().Add(-3 * time.Hour)}},
	}
}

func holds(t *testing.T, expression string, e slipway.Evidence) (bool, error) {
	t.Helper()
	p, err := gate.Compile(slipway.Rule{Name: "r", Expression: expression})
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return p.Holds(t.Context(), e)
}

// Rules see the evidence under its JSON names, with its types.
func TestRulesHold(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]bool{
		`true`:                                     true,
		`evidence.production`:                      true,
		`evidence.version == "v1.2.0"`:             true,
		`evidence.event == "release"`:              true,
		`evidence.tests.passed > 2`:                false,
		`evidence.tests.passed + 1 == 3`:           true,
		`evidence.tests.duration < duration("2m")`: true,
		`evidence.tests.suites.exists(s, s.cases.exists(c, c.state == "failed"))`:                                                               false,
		`evidence.tests.suites.all(s, s.cases.size() > 1 && s.name.startsWith("ca"))`:                                                           true,
		`evidence.tests.coverage.covered * 100 >= evidence.tests.coverage.total * 81`:                                                           true,
		`evidence.tests.coverage.covered >= evidence.baseCoverage.covered`:                                                                      true,
		`evidence.scan.findings.exists(f, f.severity == "critical" && f.fixedIn != "")`:                                                         false,
		`evidence.scan.findings.filter(f, f.severity in ["critical", "high"]).size() == 1`:                                                      true,
		`evidence.scan.findings.exists_one(f, has(f.fixedIn))`:                                                                                  true,
		`evidence.scan.findings.exists(f, f.line > 0)`:                                                                                          false,
		`evidence.scan.findings.all(f, f.inBase || f.package.matches("^cu.l$"))`:                                                                true,
		`evidence.scan.findings[0].id == evidence.previousScan.findings[0].id`:                                                                  true,
		`evidence.scan.findings[0] in evidence.previousScan.findings`:                                                                           false,
		`evidence.scan.findings[0] in evidence.scan.findings`:                                                                                   true,
		`evidence.scan.findings.map(f, f.package) == ["zlib", "curl"]`:                                                                          true,
		`evidence.now - evidence.scan.database.built < duration("48h")`:                                                                         true,
		`evidence.now.getDayOfWeek("Europe/Berlin") == 5`:                                                                                       true,
		`evidence.manifests[0].objects.all(o, !o.yaml.contains("hostNetwork"))`:                                                                 true,
		`evidence.now.getHours("+02:00") == 14 && evidence.now.getHours("America/New_York") == 7`:                                               true,
		`evidence.scan.findings.all(f, f.severity in ["high", "medium"] && f.severity != "")`:                                                   true,
		`evidence.image.size < 50 * 1024 * 1024`:                                                                                                true,
		`has(evidence.chart)`:                                                                                                                   false,
		`has(evidence.image) && has(evidence.scan.findings)`:                                                                                    true,
		`evidence.deployments.exists(d, d.target.environment == "qa" && d.state == "verified" && evidence.now - d.verifiedAt > duration("1h"))`: true,
		`evidence.deployments[0].target.timeout == duration("60s")`:                                                                             true,
		`dyn(evidence).tests.passed == 2`:                                                                                                       true,
		`has(dyn(evidence).tests.coverage) && !has(dyn(evidence).chart)`:                                                                        true,
	} {
		got, err := holds(t, expression, whole())
		if err != nil || got != want {
			t.Errorf("%s: %v, %v", expression, got, err)
		}
	}
}

// What is misspelt, of the wrong type, too dear or no rule at all is refused with its place.
func TestRulesRefused(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		``:     "the expression is empty",
		" \n ": "the expression is empty",
		`evidence.scan.findings.all(f, f.serverity != "high")`:                                        `1:32: there is no field "serverity"; did you mean severity?`,
		"evidence.production &&\n  evidence.tests.pased > 1":                                          `2:17: there is no field "pased"; did you mean passed?`,
		`evidence.scan.findings.all(f, f.severity != "CRITICAL")`:                                     `1:45: severity is never "CRITICAL": it is critical, high, medium, low, negligible, unknown or none`,
		`evidence.scan.findings.exists(f, "crit" == f.severity)`:                                      `1:34: severity is never "crit"`,
		`evidence.scan.findings[0].severity in ["low", "Medium"]`:                                     `1:47: severity is never "Medium"`,
		`evidence.scan.findings.all(f, f.severity < "high")`:                                          `1:32: severity is a word, and words have no order: name those that you mean, as in severity in ["critical", "high"]`,
		`evidence.scan.findings.all(f, f.kind != "secrets")`:                                          `kind is never "secrets": it is vulnerability or secret`,
		"evidence.production ||\n  evidence.tests.suites.all(s, s.cases.all(c, c.state == \"pass\"))": `2:58: state is never "pass": it is passed, failed or skipped`,
		`evidence.deployments.exists(d, d.state == "Verified")`:                                       `state is never "Verified": it is deploying, deployed`,
		`evidence.event == "pull_request"`:                                                            `1:19: event is never "pull_request": it is push, pull-request`,
		`evidence.now.getHours("Europe/Berln") < 12`:                                                  `1:23: there is no time zone "Europe/Berln"`,
		`evidence.now.getHours("../../etc/passwd") < 12`:                                              `1:23: there is no time zone`,
		`evidence.coverage.covered > 1`:                                                               `1:9: there is no field "coverage" here: it is read as evidence.tests.coverage`,
		`evidence.signatures.subjects.size() > 0`:                                                     `1:9: there is no field "signatures"`,
		`evidence.tests.digest == ""`:                                                                 `1:15: there is no field "digest"`,
		`evidence.frobnication`:                                                                       `1:9: there is no field "frobnication"`,
		`evidense.scan`:                                                                               `1:1: there is no evidense: a rule reads evidence`,
		`evidence.tests.passed`:                                                                       `1:1: the expression gives int, and a rule must be true or false`,
		`evidence.foo == 1`:                                                                           `1:9: there is no field "foo"`,
		`"x" in evidence.tests.suites`:                                                                `1:5: in does not take (string, list(TestSuite))`,
		`evidence.tests.passed > "1"`:                                                                 `1:23: > does not take (int, string)`,
		`evidence.scan.findings`:                                                                      `1:1: the expression gives list(Finding), and a rule must be`,
		`dyn(1)`:                                                                                      `1:1: the expression gives dyn, and a rule must be`,
		`evidence.`:                                                                                   `1:10: after a dot comes the name of a field`,
		`true) || (true`:                                                                              `1:5: this ) closes nothing`,
		`evidence.production &&`:                                                                      `1:23: the expression ends too early: expected a value`,
		"evidence.production &&\n  (true":                                                             `2:8: the expression ends too early: expected )`,
		`[1, 2`:                                                                                       `1:6: the expression ends too early: expected ] or ,`,
		`evidence.tests.passed => 3`:                                                                  `1:23: => is written >=`,
		`evidence.tests.passed = 3`:                                                                   `1:23: = is written ==`,
		`evidence.production and true`:                                                                `1:21: and is written &&`,
		`not evidence.production`:                                                                     `1:5: not is written !`,
		`evidence.branch == 'main`:                                                                    `1:20: the text that begins here has no closing quote`,
		`evidence.production evidence.production`:                                                     `1:21: evidence cannot stand here: the expression is whole before it`,
		`1 == == 2`:                            `1:6: == cannot stand here: expected a value`,
		`[1].exists(y z)`:                      `1:14: z cannot stand here: expected )`,
		`if evidence.production`:               `1:1: if is a word that CEL keeps for itself`,
		`@`:                                    `1:1: @ means nothing in an expression`,
		`"a".matches(1)`:                       `1:12: matches of string does not take (int)`,
		`"a".matches("(")`:                     `invalid matches argument`,
		`evidence.now > timestamp("tomorrow")`: `invalid timestamp argument`,
		`Finding{id: "x"}.id == "x"`:           `1:8: a rule makes no Finding: it reads what evidence holds`,
		`google.protobuf.Struct{} == {}`:       `a rule makes no`,
		`evidence.ID == 1`:                     `1:9: there is no field "ID"; did you mean`,
		`evidence.scan.findings.all(a, evidence.scan.findings.all(b, evidence.scan.findings.all(c, a.id != b.id || b.id != c.id)))`: "could cost too much",
		strings.Repeat("(", 200) + "true" + strings.Repeat(")", 200):                                                                "1:",
		`true` + strings.Repeat(` || true`, 2000):                                                                                   "",
		`"` + strings.Repeat("é", 5000) + `" == ""`:                                                                                 "",
		`"` + strings.Repeat("x", 20000) + `" == ""`:                                                                                "longer than",
	} {
		_, err := gate.Compile(slipway.Rule{Expression: expression})
		var refused *gate.RuleError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.100s: got %v, want %q", expression, err, want)
		}
	}
}

// A rule that reads what is not there, or costs too much, is not answered: it is never true by accident.
func TestRulesUnanswered(t *testing.T) {
	t.Parallel()
	large := whole()
	large.Tests.Suites = make([]slipway.TestSuite, 3000)
	for _, c := range []struct {
		expression string
		e          slipway.Evidence
		want       string
	}{
		{`evidence.scan.findings.size() == 0`, slipway.Evidence{}, "it reads evidence.scan, which there is not at this step: ask has(evidence.scan) first"},
		{`evidence.scan.findings.all(f, f.severity != "critical")`, slipway.Evidence{}, "it reads evidence.scan"},
		{`evidence.manifests.all(m, m.objects.size() > 0)`, slipway.Evidence{}, "it reads evidence.manifests"},
		{`evidence.tests.coverage.covered > 1`, slipway.Evidence{Tests: &slipway.TestReport{}}, "it reads evidence.tests.coverage, which there is not at this step: ask has(evidence.tests.coverage) first"},
		{`dyn(evidence).scan.findings.size() == 0`, slipway.Evidence{}, "it reads evidence.scan"},
		{`evidence.scan.findings[7].id == ""`, whole(), "could not be answered: index out of bounds: 7"},
		{`1 / evidence.tests.failed == 0`, whole(), "division by zero"},
		{`evidence.now.getDayOfWeek(evidence.project) == 1`, whole(), "could not be answered"},
		{`evidence.service.matches(evidence.service + "(")`, whole(), "could not be answered"},
		{`dyn(evidence).nothing == 1`, whole(), "Evidence has no field"},
		{`evidence.tests.suites.all(a, evidence.tests.suites.all(b, a.name == b.name))`, large, "costs too much"},
	} {
		ok, err := holds(t, c.expression, c.e)
		var unanswered *gate.RuleError
		if ok || !errors.As(err, &unanswered) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v; want %q", c.expression, ok, err, c.want)
		}
		e := c.e
		e.Stage, e.Now = slipway.KindScan, now()
		results, err := gate.Judge(t.Context(), slipway.Gates{
			Vulnerabilities: slipway.VulnerabilityGate{FailOn: slipway.SeverityNone, WarnOn: slipway.SeverityNone}, Secrets: slipway.LevelOff,
			Rules: []slipway.Rule{{Name: "mine", Stage: slipway.KindScan, Expression: c.expression, Level: slipway.LevelWarn, Place: "slipway.yaml:7"}},
		}, e, nil)
		if err != nil || len(results) != 1 || results[0].Verdict != slipway.Fail || results[0].Reasons[0].Place != "slipway.yaml:7" {
			t.Errorf("%s: a rule that is not answered must fail: %+v %v", c.expression, results, err)
		}
	}
}

// A rule that its own step can never answer is refused when it is checked; one that asks first is not.
func TestRulesOfAnotherStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		stage            slipway.StepKind
		expression, want string
	}{
		{slipway.KindTest, `evidence.tests.passed > 0 && evidence.scan.findings.size() == 0`, "1:38: the step test has no evidence.scan: give the rule the stage scan or gate, or ask has(evidence.scan) first"},
		{slipway.KindScan, `evidence.tests.passed > 0`, "the step scan has no evidence.tests: give the rule the stage test or gate"},
		{slipway.KindScan, `evidence.manifests.all(m, m.problems.size() == 0)`, "the step scan has no evidence.manifests: give the rule the stage chart or gate"},
		{slipway.KindTest, `!has(evidence.scan) || evidence.scan.findings.size() == 0`, ""},
		{slipway.KindGate, `evidence.tests.passed > 0 && evidence.scan.findings.size() == 0 && evidence.manifests.size() > 0`, ""},
		{slipway.KindScan, `evidence.scan.findings.size() <= evidence.previousScan.findings.size()`, ""},
		{slipway.KindChart, `evidence.manifests.all(m, m.objects.size() > 0)`, ""},
		{"", `evidence.scan.findings.size() == 0`, ""},
	} {
		_, err := gate.Compile(slipway.Rule{Stage: c.stage, Expression: c.expression})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %s: got %v, want %q", c.stage, c.expression, err, c.want)
		}
	}
}

// The words of a field are all those that the root package has of its type: a rule may name each.
func TestRulesKnowTheWords(t *testing.T) {
	t.Parallel()
	reads := map[string]string{
		"Severity": `evidence.scan.findings[0].severity`, "FindingKind": `evidence.scan.findings[0].kind`, "TestState": `evidence.tests.suites[0].cases[0].state`,
		"EventKind": `evidence.event`, "DeploymentState": `evidence.deployments[0].state`, "ArtifactKind": `evidence.image.kind`,
	}
	files, err := filepath.Glob("../*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	constant := regexp.MustCompile(`(?m)^\t\w+ +(\w+) *= "([^"]+)"`)
	seen := map[string]int{}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range constant.FindAllStringSubmatch(string(data), -1) {
			read, of := reads[m[1]]
			if !of {
				continue
			}
			seen[m[1]]++
			if _, err := gate.Compile(slipway.Rule{Expression: read + ` == "` + m[2] + `"`}); err != nil {
				t.Errorf("%s is a word of %s: %v", m[2], m[1], err)
			}
		}
	}
	for name := range reads {
		if seen[name] < 2 {
			t.Errorf("%d words of %s were found", seen[name], name)
		}
	}
}

// Rules know time zones on machines that have none: the binary has them.
func TestTimeZonesAreLinked(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").CombinedOutput()
	if err != nil || !strings.Contains("\n"+string(out), "\ntime/tzdata\n") {
		t.Errorf("package gate does not link time/tzdata: %v", err)
	}
}

// Asking first makes what is absent an answer.
func TestRulesAskFirst(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]bool{
		`has(evidence.scan)`: false,
		`has(evidence.scan) && evidence.scan.findings.size() == 0`:  false,
		`!has(evidence.scan) || evidence.scan.findings.size() == 0`: true,
		`has(evidence.manifests)`:                                   false,
		`evidence.deployments.size() == 0`:                          true,
		`has(evidence.environment)`:                                 false,
		`evidence.environment == ""`:                                true,
	} {
		if got, err := holds(t, expression, slipway.Evidence{}); err != nil || got != want {
			t.Errorf("%s: %v, %v", expression, got, err)
		}
	}
}

// A program is used by many at once, and a cancelled context is no verdict.
func TestProgram(t *testing.T) {
	t.Parallel()
	p, err := gate.Compile(slipway.Rule{Expression: `evidence.scan.findings.all(f, f.id != evidence.ref)`})
	if err != nil {
		t.Fatal(err)
	}
	if p.Cost == 0 || p.Cost > gate.MaxCost {
		t.Errorf("cost %d", p.Cost)
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				if ok, err := p.Holds(context.Background(), whole()); !ok || err != nil {
					t.Errorf("%v %v", ok, err)
				}
			}
		})
	}
	wait.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrCancelled)
	if ok, err := p.Holds(ctx, whole()); ok || !errors.Is(err, slipway.ErrCancelled) {
		t.Errorf("a cancelled context: %v %v", ok, err)
	}
	policy := slipway.Gates{Rules: []slipway.Rule{{Name: "r", Stage: slipway.KindGate, Expression: "true"}}}
	if got, err := gate.Judge(ctx, policy, whole(), nil); got != nil || !errors.Is(err, slipway.ErrCancelled) {
		t.Errorf("a cancelled context: %v %v", got, err)
	}
}

// The examples of the reference page are checked, and say what the page says.
func TestReferenceRules(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../docs/reference/gates.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```cel\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(blocks) < 5 {
		t.Fatalf("only %d examples", len(blocks))
	}
	for _, b := range blocks {
		for _, expression := range strings.Split(strings.TrimSpace(b[1]), "\n\n") {
			if _, err := gate.Compile(slipway.Rule{Expression: expression}); err != nil {
				t.Errorf("%s\n%v", expression, err)
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`evidence.scan.findings.all(f, f.severity != "high")`, `has(evidence.tests)`, `[1,2].map(x, x*2)[0] == 2`, `"a".matches("(a+)+$")`,
		`{"a": dyn(evidence)}.a.scan == null`, `evidence.now.getHours("../../etc/passwd") > 1`, "\xff", "((((((", "r'''", `evidence == evidence`, `[[[[1]]]] == [[[[1]]]]`} {
		f.Add(s)
	}
	e := whole()
	f.Fuzz(func(t *testing.T, expression string) {
		p, err := gate.Compile(slipway.Rule{Expression: expression})
		if err != nil {
			var refused *gate.RuleError
			if !errors.As(err, &refused) {
				t.Errorf("%q: %v", expression, err)
			}
			return
		}
		for _, e := range []slipway.Evidence{e, {}} {
			start := time.Now()
			ok, err := p.Holds(t.Context(), e)
			if ok && err != nil {
				t.Errorf("%q is true and an error: %v", expression, err)
			}
			if d := time.Since(start); d > 8*time.Second {
				t.Errorf("%q took %s", expression, d)
			}
		}
		_ = fmt.Sprint(err)
	})
}

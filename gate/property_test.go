package gate_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/gate"
)

func drawLevel(t *rapid.T, name string) slipway.Level {
	return rapid.SampledFrom([]slipway.Level{slipway.LevelFail, slipway.LevelWarn, slipway.LevelOff, "strange"}).Draw(t, name)
}

func drawSeverity(t *rapid.T, name string) slipway.Severity {
	return rapid.SampledFrom([]slipway.Severity{slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow,
		slipway.SeverityNegligible, slipway.SeverityUnknown, slipway.SeverityNone, "strange", ""}).Draw(t, name)
}

var subjects = []string{"CVE-1 a", "CVE-2 b", "*", "CVE-*", "probes *", "aws *", "s/*", "mine", "no scan", "missing", "drop", "unsigned *"}

func drawWaiver(t *rapid.T) slipway.Waiver {
	w := slipway.Waiver{
		Gate:        rapid.SampledFrom(append(slipway.GateNames(), "mine")).Draw(t, "waiver's gate"),
		Subject:     rapid.SampledFrom(subjects).Draw(t, "waiver's subject"),
		Service:     rapid.SampledFrom([]string{"", "web", "api"}).Draw(t, "waiver's service"),
		Environment: rapid.SampledFrom([]string{"", "production", "qa"}).Draw(t, "waiver's environment"),
		Reason:      rapid.SampledFrom([]string{"r", "r", ""}).Draw(t, "waiver's reason"),
		Author:      rapid.SampledFrom([]string{"ada", "bob"}).Draw(t, "waiver's author"),
		Expires:     now().Add(time.Duration(rapid.IntRange(-2, 4).Draw(t, "waiver's end")) * time.Hour),
	}
	if rapid.IntRange(0, 4).Draw(t, "withdrawn") == 0 {
		w.Withdrawn = now().Add(-time.Hour)
	}
	return w
}

func drawGates(t *rapid.T) slipway.Gates {
	g := slipway.Gates{
		Tests:    drawLevel(t, "tests"),
		Coverage: slipway.CoverageGate{Level: drawLevel(t, "coverage"), Minimum: float64(rapid.IntRange(0, 100).Draw(t, "minimum")), MaxDrop: float64(rapid.IntRange(-1, 5).Draw(t, "maxDrop"))},
		Vulnerabilities: slipway.VulnerabilityGate{FailOn: drawSeverity(t, "failOn"), WarnOn: drawSeverity(t, "warnOn"), FixableOnly: rapid.Bool().Draw(t, "fixableOnly"),
			NewSince: rapid.SampledFrom([]string{"", "base", "release"}).Draw(t, "newSince")},
		Database: slipway.DatabaseGate{Missing: drawLevel(t, "missing"), Old: drawLevel(t, "old"), MaxAge: slipway.Duration(rapid.IntRange(-1, 4).Draw(t, "maxAge")) * slipway.Duration(time.Hour)},
		Secrets:  drawLevel(t, "secrets"),
		Signatures: slipway.SignatureGate{Level: drawLevel(t, "signatures"),
			Attestations: rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"provenance", "sbom", "scan"}), 0, 3, rapid.ID[string]).Draw(t, "attestations")},
		Waivers: rapid.SliceOfN(rapid.Custom(drawWaiver), 0, 6).Draw(t, "waivers"),
	}
	for _, p := range []string{"probes", "latest-tag"} {
		if l := drawLevel(t, p); l != "strange" {
			if g.Manifests.Policies == nil {
				g.Manifests.Policies = map[string]slipway.Level{}
			}
			g.Manifests.Policies[p] = l
		}
	}
	for _, expression := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"true", "false", "evidence.production", "evidence.image.size == 0", "evidence.nothing"}), 0, 2, rapid.ID[string]).Draw(t, "rules") {
		g.Rules = append(g.Rules, slipway.Rule{Name: "mine", Stage: rapid.SampledFrom([]slipway.StepKind{slipway.KindGate, slipway.KindScan}).Draw(t, "stage"), Expression: expression, Level: drawLevel(t, "rule's level"), Message: "m"})
	}
	return g
}

func drawFinding(t *rapid.T) slipway.Finding {
	return slipway.Finding{
		Kind: rapid.SampledFrom([]slipway.FindingKind{slipway.FindingVulnerability, slipway.FindingVulnerability, slipway.FindingSecret}).Draw(t, "kind"),
		ID:   rapid.SampledFrom([]string{"CVE-1", "CVE-2", "CVE-3", "aws"}).Draw(t, "id"), Package: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "package"),
		Severity: drawSeverity(t, "severity"), FixedIn: rapid.SampledFrom([]string{"", "2"}).Draw(t, "fixedIn"), InBase: rapid.Bool().Draw(t, "inBase"),
		Path: rapid.SampledFrom([]string{"", "/x", "/y"}).Draw(t, "path"),
	}
}

func drawEvidence(t *rapid.T) slipway.Evidence {
	e := slipway.Evidence{
		Stage:   rapid.SampledFrom([]slipway.StepKind{slipway.KindTest, slipway.KindScan, slipway.KindChart, slipway.KindGate, slipway.KindDeploy}).Draw(t, "stage"),
		Project: "shop", Service: "web", Environment: rapid.SampledFrom([]string{"", "production"}).Draw(t, "environment"), Now: now(), Production: rapid.Bool().Draw(t, "production"),
	}
	if rapid.Bool().Draw(t, "has tests") {
		e.Tests = &slipway.TestReport{Passed: rapid.IntRange(0, 2).Draw(t, "passed"), Failed: rapid.IntRange(0, 2).Draw(t, "failed"), Problems: rapid.SliceOfN(rapid.Just("s/x: broken"), 0, 1).Draw(t, "problems"),
			Suites: []slipway.TestSuite{{Name: "s", Cases: []slipway.TestCase{{Name: "c", State: slipway.TestFailed}, {Name: "f", State: slipway.TestPassed, Flaky: true}}[:rapid.IntRange(0, 2).Draw(t, "cases")]}}}
		if rapid.Bool().Draw(t, "has coverage") {
			e.Tests.Coverage = &slipway.Coverage{Covered: rapid.IntRange(0, 100).Draw(t, "covered"), Total: 100}
			e.BaseCoverage = &slipway.Coverage{Covered: rapid.IntRange(0, 100).Draw(t, "covered before"), Total: 100}
		}
	}
	if rapid.Bool().Draw(t, "has scan") {
		e.Scan = &slipway.Scan{Base: rapid.SampledFrom([]string{"", "sha256:0"}).Draw(t, "base"), Findings: rapid.SliceOfN(rapid.Custom(drawFinding), 0, 6).Draw(t, "findings"),
			Database: slipway.ScanDatabase{Built: now().Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "age")) * time.Hour), Missing: rapid.SampledFrom([]string{"", "", "none"}).Draw(t, "missing database")}}
	}
	if rapid.Bool().Draw(t, "has previous") {
		e.PreviousScan = &slipway.Scan{Findings: rapid.SliceOfN(rapid.Custom(drawFinding), 0, 3).Draw(t, "previous findings")}
	}
	for _, name := range rapid.SampledFrom([][]string{nil, {"production"}, {"qa", "production"}}).Draw(t, "environments") {
		e.Manifests = append(e.Manifests, slipway.ManifestReport{Environment: name, Problems: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) slipway.ManifestProblem {
			return slipway.ManifestProblem{Policy: rapid.SampledFrom([]string{"probes", "latest-tag", "other"}).Draw(t, "policy"), Object: "Deployment/web", Message: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "message")}
		}), 0, 3).Draw(t, "manifest problems")})
	}
	if rapid.Bool().Draw(t, "has signatures") {
		e.Signatures = &slipway.SignatureReport{Subjects: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) slipway.SignedSubject {
			return slipway.SignedSubject{Name: "r@sha256:" + rapid.SampledFrom([]string{"1", "2"}).Draw(t, "digest"), Signed: rapid.Bool().Draw(t, "signed"), Builder: rapid.SampledFrom([]string{"", "b"}).Draw(t, "builder"),
				Attestations: rapid.SliceOfN(rapid.SampledFrom([]string{"provenance", "sbom"}), 0, 2).Draw(t, "attested")}
		}), 0, 2).Draw(t, "subjects")}
	}
	return e
}

func worse(v slipway.Verdict) int {
	return map[slipway.Verdict]int{slipway.Pass: 0, slipway.Warn: 1, slipway.Fail: 2}[v]
}

// What fails or warns under either gates does at least so under the stricter of both, gate by gate; and
// Stricter does not care about order, nor about being done twice.
func TestStricter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b, e := drawGates(t), drawGates(t), drawEvidence(t)
		given := rapid.SliceOfN(rapid.Custom(drawWaiver), 0, 2).Draw(t, "given")
		strict := verdicts(t, gate.Stricter(a, b), e, given)
		for name, one := range map[string]slipway.Gates{"then": a, "now": b} {
			for key, v := range verdicts(t, one, e, given) {
				if worse(strict[key]) < worse(v) {
					t.Fatalf("%s says %s under %s, and %q under the stricter of both:\n%+v\n%+v\n%+v", key, v, name, strict[key], a, b, gate.Stricter(a, b))
				}
			}
		}
		other := verdicts(t, gate.Stricter(b, a), e, given)
		for key, v := range strict {
			if other[key] != v {
				t.Fatalf("%s is %s one way round and %s the other", key, v, other[key])
			}
		}
		once := gate.Stricter(a, b)
		twice := verdicts(t, gate.Stricter(once, once), e, given)
		for key, v := range strict {
			if twice[key] != v {
				t.Fatalf("%s is %s once and %s twice", key, v, twice[key])
			}
		}
	})
}

// verdicts are the worst of each gate and environment.
func verdicts(t *rapid.T, g slipway.Gates, e slipway.Evidence, given []slipway.Waiver) map[string]slipway.Verdict {
	results, err := gate.Judge(t.Context(), g, e, given)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]slipway.Verdict{}
	for _, r := range results {
		key := r.Gate + "@" + r.Environment
		if out[key] == "" {
			out[key] = slipway.Pass
		}
		out[key] = out[key].Worse(r.Verdict)
	}
	return out
}

// Gates that are their own are as strict as themselves.
func TestStricterOfStandard(t *testing.T) {
	t.Parallel()
	for _, production := range []bool{false, true} {
		g := config.StandardGates(production)
		if got := gate.Stricter(g, g); !reflect.DeepEqual(got, g) {
			t.Errorf("got %+v\nwant %+v", got, g)
		}
	}
	a, b := config.StandardGates(false), config.StandardGates(true)
	if got := gate.Stricter(a, b); !reflect.DeepEqual(got, b) {
		t.Errorf("got %+v\nwant %+v", got, b)
	}
}

// Registries that only one side allows are not allowed, and nothing is where the two have nothing in common.
func TestStricterRegistries(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]string{
		{"", "", ""}, {"a", "", "a"}, {"a b", "b c", "b"}, {"ghcr.io", "ghcr.io/team", "ghcr.io/team"}, {"ghcr.io/team", "ghcr.io/tea", "registry.invalid"}, {"a", "b", "registry.invalid"},
	} {
		of := func(s string) slipway.Gates {
			return slipway.Gates{Manifests: slipway.ManifestGate{Registries: strings.Fields(s)}}
		}
		for _, got := range []slipway.Gates{gate.Stricter(of(c[0]), of(c[1])), gate.Stricter(of(c[1]), of(c[0]))} {
			if s := strings.Join(got.Manifests.Registries, " "); s != c[2] {
				t.Errorf("%q and %q: %q, want %q", c[0], c[1], s, c[2])
			}
		}
	}
}

// The order of findings, problems, cases and waivers, and from where a waiver comes, changes nothing.
func TestJudgeOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g, e := drawGates(t), drawEvidence(t)
		want, err := gate.Judge(t.Context(), g, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		if e.Scan != nil {
			s := *e.Scan
			s.Findings = shuffled(r, s.Findings)
			e.Scan = &s
		}
		for i := range e.Manifests {
			e.Manifests[i].Problems = shuffled(r, e.Manifests[i].Problems)
		}
		if e.Signatures != nil {
			e.Signatures = &slipway.SignatureReport{Subjects: shuffled(r, e.Signatures.Subjects)}
		}
		all := shuffled(r, g.Waivers)
		half := len(all) / 2
		g.Waivers = all[:half]
		got, err := gate.Judge(t.Context(), g, e, all[half:])
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got:\n%s\nwant:\n%s", written(got), written(want))
		}
	})
}

func shuffled[T any](r *rand.Rand, list []T) []T {
	out := append([]T(nil), list...)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// A waiver never makes a verdict worse, one that does not hold changes none, and each reason that is let through
// names one that holds and fits.
func TestWaivers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		g, e, w := drawGates(t), drawEvidence(t), drawWaiver(t)
		before := verdicts(t, g, e, nil)
		results, err := gate.Judge(t.Context(), g, e, []slipway.Waiver{w})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			key, worst := r.Gate+"@"+r.Environment, slipway.Pass
			for _, reason := range r.Reasons {
				worst = worst.Worse(reason.Verdict)
				given := reason.Waiver
				if (given != nil) != (reason.Verdict == slipway.Pass) {
					t.Fatalf("%s: %+v", key, reason)
				}
				if given == nil {
					continue
				}
				if !given.Holds(e.Now) || !given.Covers(reason.Subject) || given.Gate != r.Gate ||
					(given.Service != "" && given.Service != r.Service) || (given.Environment != "" && given.Environment != r.Environment) {
					t.Fatalf("%s: %q was let through by %+v", key, reason.Subject, given)
				}
			}
			if worst != r.Verdict {
				t.Fatalf("%s is %s, and its worst reason %s", key, r.Verdict, worst)
			}
		}
		after := verdicts(t, g, e, []slipway.Waiver{w})
		for key, v := range after {
			if worse(v) > worse(before[key]) || (!w.Holds(e.Now) && v != before[key]) {
				t.Fatalf("%s was %s and is %s with %+v", key, before[key], v, w)
			}
		}
	})
}

// Patterns mean what a regular expression with .* would, and take time in proportion to what they are
// compared with.
func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{{"CVE-* openssl", "CVE-2026-1 openssl"}, {"*", ""}, {"", ""}, {"a*a", "a"}, {"*ab*ba*", "abba"}, {"**", "x"}, {"a", "a*"}, {"\xff*", "\xffx"}, {strings.Repeat("*a", 20), strings.Repeat("a", 50)}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, subject string) {
		if strings.Count(pattern, "*") > 30 || len(pattern)+len(subject) > 500 {
			return
		}
		want := reference(pattern, subject)
		if got := (slipway.Waiver{Subject: pattern}).Covers(subject); got != want {
			t.Errorf("%q and %q: %v", pattern, subject, got)
		}
	})
}

// reference says the same by another way: byte by byte, as a regular expression of hexadecimal digits.
func reference(pattern, subject string) bool {
	var b strings.Builder
	for i, part := range strings.Split(pattern, "*") {
		if i > 0 {
			b.WriteString("(?:..)*")
		}
		fmt.Fprintf(&b, "%x", part)
	}
	return regexp.MustCompile("^" + b.String() + "$").MatchString(fmt.Sprintf("%x", subject))
}

// What would take a naive matcher for ever is done at once.
func TestMatchIsLinear(t *testing.T) {
	t.Parallel()
	pattern, subject := strings.Repeat("a*", 2000)+"b", strings.Repeat("a", 1<<20)
	done := make(chan bool, 1)
	go func() { done <- (slipway.Waiver{Subject: pattern}).Covers(subject) }()
	select {
	case got := <-done:
		if got {
			t.Error("it does not fit")
		}
	case <-time.After(2 * time.Minute):
		t.Error("it takes more than two minutes")
	}
}

// A line is one line, bounded, and stays as it is when it is made again.
func TestLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~\n]{0,400}`), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
		e := slipway.Evidence{Stage: slipway.KindTest, Tests: &slipway.TestReport{Failed: 1, Suites: []slipway.TestSuite{{Cases: []slipway.TestCase{{Name: s, State: slipway.TestFailed, Message: s}}}}}}
		results, err := gate.Judge(t.Context(), slipway.Gates{Coverage: slipway.CoverageGate{Level: slipway.LevelOff}}, e, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, reason := range results[0].Reasons {
			for _, text := range []string{reason.Subject, reason.Message} {
				if strings.Join(strings.Fields(text), " ") != text || !utf8.ValidString(text) || utf8.RuneCountInString(text) > 500 || strings.ContainsFunc(text, unicode.IsControl) {
					t.Fatalf("%q became %q", s, text)
				}
			}
		}
	})
}

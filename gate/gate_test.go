package gate_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/gate"
)

var update = flag.Bool("update", false, "rewrite what is expected in testdata")

// Each file of testdata/judge is a case: what differs from the standard gates (of production, if the first line
// says so), the evidence, perhaps waivers that were given, and what the gates say.
func TestJudge(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/judge/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("found %d cases: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			policy := config.StandardGates(strings.HasPrefix(string(archive.Comment), "production"))
			e := slipway.Evidence{Project: "shop", Service: "web", Now: now()}
			var given []slipway.Waiver
			into := map[string]any{"policy.json": &policy, "evidence.json": &e, "given.json": &given}
			kept, want := archive.Files[:0:0], ""
			for _, f := range archive.Files {
				if f.Name == "results" {
					want = string(f.Data)
					continue
				}
				kept = append(kept, f)
				d := json.NewDecoder(bytes.NewReader(f.Data))
				d.DisallowUnknownFields()
				if err := d.Decode(into[f.Name]); err != nil {
					t.Fatalf("%s: %v", f.Name, err)
				}
			}
			results, err := gate.Judge(t.Context(), policy, e, given)
			if err != nil {
				t.Fatal(err)
			}
			got := written(results)
			if *update {
				archive.Files = append(kept, txtar.File{Name: "results", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			for _, r := range results {
				if r.Project != e.Project || r.Service != e.Service || !r.Time.Equal(e.Now) {
					t.Errorf("%s: of project %q, service %q at %s", r.Gate, r.Project, r.Service, r.Time)
				}
			}
		})
	}
}

// written is what gates said, for people.
func written(results []slipway.GateResult) string {
	var b strings.Builder
	for _, r := range results {
		fmt.Fprintf(&b, "%s %s@%s: %s\n", r.Verdict, r.Gate, r.Environment, r.Summary)
		for _, reason := range r.Reasons {
			fmt.Fprintf(&b, "  %s [%s] %s\n", reason.Verdict, reason.Subject, reason.Message)
			if reason.Place != "" {
				fmt.Fprintf(&b, "       at %s\n", reason.Place)
			}
			if reason.Link != "" {
				fmt.Fprintf(&b, "       see %s\n", reason.Link)
			}
			if w := reason.Waiver; w != nil {
				fmt.Fprintf(&b, "       waived by %s until %s: %s\n", w.Author, w.Expires.Format(time.DateOnly), w.Reason)
			}
		}
	}
	return b.String()
}

// A stage that no gate belongs to is judged by none.
func TestJudgeOtherStages(t *testing.T) {
	t.Parallel()
	for _, stage := range []slipway.StepKind{slipway.KindPlan, slipway.KindBuild, slipway.KindPublish, slipway.KindApprove, slipway.KindVerify, ""} {
		if got, err := gate.Judge(t.Context(), slipway.Gates{}, slipway.Evidence{Stage: stage}, nil); len(got) != 0 || err != nil {
			t.Errorf("%s: %v %v", stage, got, err)
		}
	}
}

// Gates that nobody filled in let nothing through.
func TestJudgeZeroPolicy(t *testing.T) {
	t.Parallel()
	e := whole()
	e.Tests.Failed, e.Signatures, e.BaseCoverage = 1, &slipway.SignatureReport{}, &slipway.Coverage{Covered: 99, Total: 100}
	e.Scan.Findings = append(e.Scan.Findings, slipway.Finding{Kind: slipway.FindingSecret, ID: "aws", Path: "x"})
	e.Scan.Database.Missing = "never fetched"
	e.Manifests[0].Problems = []slipway.ManifestProblem{{Policy: "new-one", Object: "Deployment/web", Message: "x"}}
	got, err := gate.Judge(t.Context(), slipway.Gates{}, e, nil)
	if err != nil || len(got) != len(slipway.GateNames()) {
		t.Fatalf("%d results, %v", len(got), err)
	}
	for i, r := range got {
		if r.Verdict != slipway.Fail || r.Gate != slipway.GateNames()[i] {
			t.Errorf("%s: %s %s", r.Gate, r.Verdict, r.Summary)
		}
	}
}

// Reasons are bounded, the worst stay, and the summary counts the rest.
func TestJudgeBounds(t *testing.T) {
	t.Parallel()
	e := whole()
	e.Stage, e.Environment = slipway.KindScan, ""
	e.Scan.Findings = many(1734)
	e.Scan.Findings[1733] = slipway.Finding{Kind: slipway.FindingVulnerability, ID: "CVE-9", Severity: slipway.SeverityCritical, Package: "bash", FixedIn: "6", Link: "javascript:alert(1)",
		Title: "one\nline \x1b[31m \u202ered" + strings.Repeat("x", 10_000)}
	got, err := gate.Judge(t.Context(), config.StandardGates(false), e, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := got[0]
	if len(r.Reasons) != gate.MaxReasons || r.Verdict != slipway.Fail || !strings.HasSuffix(r.Summary, "and 1,234 more reasons than are kept") {
		t.Errorf("%d reasons, %s: %s", len(r.Reasons), r.Verdict, r.Summary)
	}
	worst := r.Reasons[0]
	if worst.Subject != "CVE-9 bash" || worst.Link != "" || strings.ContainsAny(worst.Message, "\n\x1b\u202e") || len(worst.Message) > 2000 || !strings.Contains(worst.Message, "one line redxxx") {
		t.Errorf("%+v", worst)
	}
}

// However many reasons there are, those that are waived are not lost from sight.
func TestJudgeBoundsKeepWaived(t *testing.T) {
	t.Parallel()
	e := whole()
	e.Stage, e.Environment = slipway.KindScan, ""
	e.Scan.Findings = append(many(1000), slipway.Finding{Kind: slipway.FindingVulnerability, ID: "CVE-9", Severity: slipway.SeverityCritical, Package: "bash"})
	given := []slipway.Waiver{{ID: 1, Gate: slipway.GateVulnerabilities, Subject: "CVE-9 bash", Reason: "not reachable", Author: "ada", Expires: now().Add(time.Hour)}}
	got, err := gate.Judge(t.Context(), config.StandardGates(false), e, given)
	if err != nil {
		t.Fatal(err)
	}
	r := got[0]
	last := r.Reasons[len(r.Reasons)-1]
	if len(r.Reasons) != gate.MaxReasons+1 || last.Waiver == nil || last.Subject != "CVE-9 bash" || !strings.HasSuffix(r.Summary, "and 500 more reasons than are kept") {
		t.Errorf("%d reasons, the last %+v: %s", len(r.Reasons), last, r.Summary)
	}
}

func many(n int) []slipway.Finding {
	out := make([]slipway.Finding, n)
	for i := range out {
		out[i] = slipway.Finding{Kind: slipway.FindingVulnerability, ID: fmt.Sprintf("CVE-2026-%05d", i), Severity: slipway.SeverityHigh, Package: fmt.Sprintf("lib%d", i%400),
			Version: "1.2.3", FixedIn: "1.2.4", Layer: "sha256:0123456789abcdef0123456789", Path: "/usr/lib/x.so", Title: "a buffer is too small for what is put into it"}
	}
	return out
}

func BenchmarkJudge(b *testing.B) {
	e := whole()
	e.Scan.Findings = many(10_000)
	policy := config.StandardGates(true)
	for i := range 100 {
		policy.Waivers = append(policy.Waivers, slipway.Waiver{Gate: slipway.GateVulnerabilities, Subject: fmt.Sprintf("CVE-2026-0%d* lib*", i), Reason: "r", Author: "a", Expires: now().AddDate(0, 1, 0)})
	}
	policy.Rules = []slipway.Rule{{Name: "mine", Stage: slipway.KindGate, Expression: `evidence.scan.findings.all(f, f.severity != "critical")`, Level: slipway.LevelFail}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := gate.Judge(b.Context(), policy, e, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := gate.Compile(slipway.Rule{Expression: `evidence.scan.findings.all(f, f.severity != "critical")`}); err != nil {
			b.Fatal(err)
		}
	}
}

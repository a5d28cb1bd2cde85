package web_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// BenchmarkRuns renders a page of 50 of 1,000 runs.
func BenchmarkRuns(b *testing.B) {
	s := newSite(b)
	s.runs = nil
	for i := range 1000 {
		s.run(slipway.Run{ID: int64(i + 1), Event: slipway.BranchPush, Ref: fmt.Sprint("refs/heads/feature/", i), Title: "A change of something that has a title", State: slipway.RunSucceeded}, 0, plan())
	}
	measure(b, s, "/projects/shop/runs", 50)
}

// BenchmarkBoard renders a board of 200 services in three environments.
func BenchmarkBoard(b *testing.B) { measure(b, newSite(b), "/projects/big", 200) }

// BenchmarkRun renders a run with a log of 2,000 lines.
func BenchmarkRun(b *testing.B) {
	s := newSite(b)
	for i := range 2000 {
		s.logs[key(14, "test/web")] = append(s.logs[key(14, "test/web")], slipway.LogLine{Time: noon, Group: "tests of web", Text: fmt.Sprint("line ", i, " of what the tests say")})
	}
	measure(b, s, "/runs/14", 1)
}

func measure(b *testing.B, s *site, target string, rows int) {
	b.ReportAllocs()
	for b.Loop() {
		w := s.ask("GET", target, "")
		if w.Code != http.StatusOK || w.Body.Len() < rows*100 {
			b.Fatalf("status %d, %d bytes", w.Code, w.Body.Len())
		}
		b.ReportMetric(float64(w.Body.Len()), "page-bytes")
	}
}

// BenchmarkFindings renders a page of 10,000 findings.
func BenchmarkFindings(b *testing.B) {
	s := newSite(b)
	scan := s.scans[key(17, "orders")]
	for i := range 10_000 {
		scan.Findings = append(scan.Findings, finding(i))
	}
	s.scans[key(17, "orders")] = scan
	measure(b, s, "/runs/17/findings", 500)
}

// BenchmarkManifests renders a chart of 2 MB with 1,000 remarks.
func BenchmarkManifests(b *testing.B) {
	s := newSite(b)
	var m slipway.ManifestReport
	for i := range 40 {
		name := fmt.Sprint("Deployment/", i)
		m.Objects = append(m.Objects, slipway.ManifestObject{Name: name, YAML: strings.Repeat(deploymentYAML, 60)})
		for range 25 {
			m.Problems = append(m.Problems, slipway.ManifestProblem{Policy: "latest-tag", Object: name, Path: "spec.template.spec.containers[web].image", Message: "the tag moves"})
		}
	}
	s.supply.manifests[key(18, "orders")] = []slipway.ManifestReport{m}
	measure(b, s, "/runs/18/manifests", 1000)
}

// BenchmarkSBOM renders a page of an SBOM of 20,000 packages.
func BenchmarkSBOM(b *testing.B) {
	s := newSite(b)
	var doc strings.Builder
	doc.WriteString(`{"packages":[{"name":"first"}`)
	for i := range 20_000 {
		fmt.Fprintf(&doc, `,{"name":"package-%d","versionInfo":"1.%d","licenseDeclared":"MIT","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:npm/package-%d@1.0"}]}`, i, i, i)
	}
	s.sboms[sha("sbom17")] = []byte(doc.String() + "]}")
	measure(b, s, "/runs/17/sbom", 1000)
}

// BenchmarkGates renders a run of twenty services whose gates have 500 reasons each in three environments.
func BenchmarkGates(b *testing.B) {
	s := newSite(b)
	var reasons []slipway.GateReason
	for i := range 500 {
		reasons = append(reasons, slipway.GateReason{Verdict: slipway.Fail, Subject: fmt.Sprintf("CVE-2025-%04d openssl", i), Message: "critical, fixed in 1.2.4", Place: "/var/lib/dpkg/status"})
	}
	for i := range 20 {
		for _, env := range []string{"development", "qa", "production"} {
			for _, gate := range slipway.GateNames() {
				s.supply.said[17] = append(s.supply.said[17], said(17, slipway.KindGate, fmt.Sprint("service-", i), env, gate, slipway.Fail, "many", reasons...))
			}
		}
	}
	measure(b, s, "/runs/17", 1000)
}

package web_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/slipway-cd/slipway"
)

// BenchmarkRuns renders a list of 1,000 runs, twenty times what a page asks for.
func BenchmarkRuns(b *testing.B) {
	s := newSite(b)
	s.runs = nil
	for i := range 1000 {
		s.run(slipway.Run{ID: int64(i + 1), Event: slipway.BranchPush, Ref: fmt.Sprint("refs/heads/feature/", i), Title: "A change of something that has a title", State: slipway.RunSucceeded}, 0, plan())
	}
	b.Run("one page", func(b *testing.B) { measure(b, s, "/projects/shop/runs", 50) })
	s.limit = 1000
	b.Run("all of them", func(b *testing.B) { measure(b, s, "/projects/shop/runs", 1000) })
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

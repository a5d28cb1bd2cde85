package web

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// report is a test report as the page shows it: new failures first.
type report struct {
	slipway.TestReport
	Bad     []reportCase // new failures, failures, failures of flaky tests
	Flaky   []reportCase // that did not fail
	Slowest []reportCase
	Rest    []reportCase // not failed, in the order of the report
	Passing int          // tests that did not fail
	MoreBad int          // failures that are not shown
	Silent  int          // failures that are shown without what they wrote
	More    int          // others that are not
	Base    *slipway.TestTotals
	Change  string             // of coverage against that of Base; "" when it is not known
	Drop    bool               // it is less
	Files   []savedFile        // that no shown failure names
	of      slipway.CaseFilter // project and service
	run     int64
	saved   bool // files can be opened
}

type reportCase struct {
	slipway.SuiteCase
	Files   []savedFile
	History string // the page of the test over runs; "" where there is none
}

// row is a test of the report.
func (out *report) row(c slipway.SuiteCase) reportCase {
	row := reportCase{SuiteCase: c}
	if out.saved {
		f := out.of
		f.Suite, f.Class, f.Name = c.Suite, c.Class, c.Name
		row.History = caseHref(f)
	}
	return row
}

// savedFile is a file that tests left.
type savedFile struct {
	slipway.Attachment
	Href string // "" where files cannot be opened
}

const (
	mostCases = 200 // of each kind
	mostBad   = 50  // failures with what they wrote
	mostSlow  = 5
)

// arrange picks what a page shows of a report.
func arrange(r slipway.TestReport, run int64, of slipway.CaseFilter, saved bool) *report {
	out := &report{TestReport: r, run: run, of: of, saved: saved}
	named := map[string][]slipway.Attachment{}
	for _, a := range r.Attachments {
		named[a.Case] = append(named[a.Case], a)
	}
	listed := 0
	for _, c := range r.Notable(0) {
		switch {
		case c.State != slipway.TestFailed && len(out.Flaky) < mostCases:
			out.Flaky = append(out.Flaky, out.row(c))
		case c.State != slipway.TestFailed:
		default:
			if listed++; len(out.Bad) == mostCases {
				continue
			}
			row := out.row(c)
			if len(out.Bad) >= mostBad && row.Output != "" {
				row.Output, out.Silent = "", out.Silent+1
			}
			for _, name := range []string{c.Name, c.Class} {
				if name != "" {
					row.Files = append(row.Files, out.files(named[name])...)
					delete(named, name)
				}
			}
			out.Bad = append(out.Bad, row)
		}
	}
	out.MoreBad = max(r.Failed, listed) - len(out.Bad)
	for _, c := range r.Slowest(mostSlow) {
		out.Slowest = append(out.Slowest, out.row(c))
	}
	out.rest()
	for _, a := range r.Attachments {
		if slices.ContainsFunc(named[a.Case], func(o slipway.Attachment) bool { return o == a }) {
			out.Files = append(out.Files, out.files([]slipway.Attachment{a})...)
		}
	}
	return out
}

func (out *report) rest() {
	for _, suite := range out.Suites {
		for _, c := range suite.Cases {
			if c.State == slipway.TestFailed {
				continue
			}
			if out.Passing++; len(out.Rest) < mostCases {
				out.Rest = append(out.Rest, out.row(slipway.SuiteCase{Suite: suite.Name, TestCase: c}))
			} else {
				out.More++
			}
		}
	}
}

func (out *report) files(all []slipway.Attachment) (rows []savedFile) {
	for _, a := range all {
		f := savedFile{Attachment: a}
		if out.saved && strings.HasPrefix(a.Digest, "sha256:") {
			f.Href = fmt.Sprintf("/runs/%d/attachments/%s", out.run, a.Digest)
		}
		rows = append(rows, f)
	}
	return rows
}

// report reads that of a step; nil when it has none. Coverage is compared with that of the base.
func (s *server) report(ctx context.Context, by slipway.User, r slipway.Run, spec slipway.PlanStep) (*report, error) {
	run, key := r.ID, spec.Key
	got, err := s.Reads.Report(ctx, by, run, key)
	if err != nil {
		return nil, unlessMissing(err)
	}
	out := arrange(got, run, casesOf(r, spec.Service), s.Tests != nil)
	if s.Tests == nil || got.Coverage == nil {
		return out, nil
	}
	if out.Base, err = s.Tests.BaseTests(ctx, by, run, key); err != nil || out.Base == nil {
		return out, err
	}
	if points, ok := slipway.CoverageChange(got.Coverage, out.Base.Coverage); ok {
		out.Change, out.Drop = fmt.Sprintf("%+.1f", points), points <= -0.05
		if out.Change == "-0.0" {
			out.Change = "+0.0"
		}
	}
	return out, nil
}

// bytesOf writes a size as people read it.
func bytesOf(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("%d B", n)
	case n < 1000*1000:
		return fmt.Sprintf("%.0f kB", float64(n)/1000)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

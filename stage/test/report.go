package test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// Bounds of a report.
const (
	maxCases   = 100_000
	maxSuites  = 10_000
	maxName    = 500     // bytes of a name
	maxMessage = 4 << 10 // bytes of a message
	maxOutput  = 16 << 10
	maxOutputs = 4 << 20 // bytes of all outputs together
	// leastOutput is how much room there must be to show something more.
	leastOutput = 256
)

// errFull ends the reading of a file when the report has no room for more.
var errFull = errors.New("the report is full")

// reportBuilder sums up what files say, within the bounds.
type reportBuilder struct {
	report   slipway.TestReport
	coverage *coverage
	suites   []*suite
	cases    int
	outputs  int
	full     bool
	tests    bool // the current file is of tests, not of coverage
	took     bool // it had a case
	failures int  // cases and suites of JUnit files that have a failure, also one before they passed

	current string // the file that is read
	names   []string
	read    int64 // bytes of result files
	results []other
	others  []other // files that are no results
	wanted  []wanted
}

// other is a file of the folder.
type other struct {
	name string
	size int64
}

// wanted is a file that a test names.
type wanted struct {
	name, from, testCase string // from: the result file that names it
}

func newReport() *reportBuilder { return &reportBuilder{coverage: newCoverage()} }

// suite is a suite of the report; one without cases is left out.
type suite struct {
	slipway.TestSuite
	b      *reportBuilder
	listed bool
}

func (b *reportBuilder) suite(name string) *suite {
	return &suite{TestSuite: slipway.TestSuite{Name: clip(name, maxName)}, b: b}
}

// add takes a case over; errFull when there is no room.
func (s *suite) add(c slipway.TestCase) error {
	b := s.b
	if b.cases == maxCases || (!s.listed && len(b.suites) == maxSuites) {
		return b.overflow()
	}
	if !s.listed {
		s.listed = true
		b.suites = append(b.suites, s)
	}
	b.cases++
	b.took = true
	b.bound(&c)
	if b.outputs += len(c.Output); b.outputs > maxOutputs {
		c.Output = ""
	}
	c.Flaky = c.Reruns > 0 && c.State == slipway.TestPassed
	s.Cases = append(s.Cases, c)
	return nil
}

// wrote is what a suite wrote as a whole, with no word of which test did: it is shown with the first that failed.
func (s *suite) wrote(output ...printed) {
	at := slices.IndexFunc(s.Cases, func(c slipway.TestCase) bool { return c.State == slipway.TestFailed })
	if at < 0 {
		return
	}
	c := &s.Cases[at]
	room := maxOutput - len(c.Output) - len("\n")
	if room < leastOutput {
		return
	}
	more := together(room, output...)
	if s.b.outputs += len(more); s.b.outputs <= maxOutputs {
		c.Output = join(c.Output, more)
	}
}

// overflow says once that tests are left out.
func (b *reportBuilder) overflow() error {
	if !b.full {
		b.full = true
		b.problem("%s: the report has %d tests in %d suites, what exceeds that is left out", b.current, b.cases, len(b.suites))
	}
	return errFull
}

// bound cuts the texts of a case.
func (b *reportBuilder) bound(c *slipway.TestCase) {
	c.Name = clip(cmp.Or(c.Name, c.Class, "(unnamed)"), maxName)
	c.Class = clip(c.Class, maxName)
	c.Message = clip(strings.TrimSpace(c.Message), maxMessage)
	c.Output = whole(c.Output).String()
}

func (b *reportBuilder) finish() slipway.TestReport {
	r := &b.report
	for _, s := range b.suites {
		for _, c := range s.Cases {
			r.Duration += c.Duration
			switch {
			case c.State == slipway.TestFailed:
				r.Failed++
			case c.State == slipway.TestSkipped:
				r.Skipped++
			default:
				r.Passed++
			}
			if c.Flaky {
				r.Flaky++
			}
		}
		r.Suites = append(r.Suites, s.TestSuite)
	}
	r.Coverage = b.coverage.sum()
	for _, n := range b.coverage.notes {
		b.note("%s", n)
	}
	b.attachments()
	return b.report
}

// problem says of a result file that it was not read, or not to its end.
func (b *reportBuilder) problem(format string, args ...any) {
	tell(&b.report.Problems, format, args...)
}

// note says what else is worth knowing of a file.
func (b *reportBuilder) note(format string, args ...any) {
	tell(&b.report.Notes, format, args...)
}

func tell(to *[]string, format string, args ...any) {
	switch n := len(*to); {
	case n < maxProblems:
		*to = append(*to, clip(fmt.Sprintf(format, args...), maxMessage))
	case n == maxProblems:
		*to = append(*to, "there is more to say than is listed")
	}
}

// clip cuts at a character, and says that it did.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "..."
	cut := limit - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

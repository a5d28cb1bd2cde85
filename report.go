package slipway

import (
	"fmt"
	"time"
)

// TestReport is what the result files of a test run say together.
type TestReport struct {
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	New      int           `json:"new,omitempty"`   // failures that are new, counted among Failed
	Flaky    int           `json:"flaky,omitempty"` // flaky tests, whatever their state
	Duration time.Duration `json:"duration"`        // nanoseconds in JSON
	Suites   []TestSuite   `json:"suites"`
	Files    []string      `json:"files"` // result files read, relative to the results folder
	// Problems are result files that could not be read, or not to their end, with the reason.
	Problems []string `json:"problems,omitempty"`
	// Notes are what else is worth knowing of the files: what was not kept, replaced or left out, although the
	// results were read.
	Notes []string `json:"notes,omitempty"`
	// ExitCode is that of what ran the tests; more than 128: it crashed, or was killed.
	ExitCode    int          `json:"exitCode,omitempty"`
	Coverage    *Coverage    `json:"coverage,omitempty"` // nil: no coverage report was found
	Attachments []Attachment `json:"attachments,omitempty"`
}

// Crashed reports whether the tests were ended by a signal, as when there is no memory left, rather than by
// themselves: containers count such exit codes from 128. Red tests do not explain that.
func (r TestReport) Crashed() bool { return r.ExitCode > 128 }

// LeftOut is the line that stands in an output for the bytes that were left out of its middle.
func LeftOut(n int64) string {
	switch {
	case n < 1000:
		return fmt.Sprintf("… %d B left out …", n)
	case n < 1000*1000:
		return fmt.Sprintf("… %.0f kB left out …", float64(n)/1000)
	}
	return fmt.Sprintf("… %.1f MB left out …", float64(n)/1e6)
}

// Coverage is how much of the code the tests ran through.
type Coverage struct {
	Covered int            `json:"covered"` // lines, or statements for Go
	Total   int            `json:"total"`
	Files   []FileCoverage `json:"files,omitempty"` // least covered first, bounded
}

// Percent is the covered part; 100 for no lines at all.
func (c Coverage) Percent() float64 {
	if c.Total <= 0 {
		return 100
	}
	return 100 * float64(c.Covered) / float64(c.Total)
}

// FileCoverage is that of one file.
type FileCoverage struct {
	Path    string `json:"path"`
	Covered int    `json:"covered"`
	Total   int    `json:"total"`
}

// Attachment is a file that the tests left beside their results (S58), kept with the run.
type Attachment struct {
	Name   string `json:"name"` // path in the results folder
	Size   int64  `json:"size"`
	Digest string `json:"digest"`         // sha256:...
	Case   string `json:"case,omitempty"` // the test that named it
}

// TestSuite is a named group of cases.
type TestSuite struct {
	Name  string     `json:"name"`
	Cases []TestCase `json:"cases"`
}

// TestCase is one test.
type TestCase struct {
	Name     string        `json:"name"`
	Class    string        `json:"class,omitempty"`
	State    TestState     `json:"state"`
	Duration time.Duration `json:"duration"`
	Message  string        `json:"message,omitempty"` // of a failure or a skip, bounded
	Output   string        `json:"output,omitempty"`  // bounded
	Reruns   int           `json:"reruns,omitempty"`  // times it failed before the state that it has
	// Flaky: it passed after failing, in this run or on the same inputs in earlier ones.
	Flaky bool `json:"flaky,omitempty"`
	// New: it fails, and did not in the report that this one is compared with (Annotate).
	New bool `json:"new,omitempty"`
}

// TestState is the result of a test.
type TestState string

const (
	TestPassed  TestState = "passed"
	TestFailed  TestState = "failed"
	TestSkipped TestState = "skipped"
)

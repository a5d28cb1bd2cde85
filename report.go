package slipway

import "time"

// TestReport is what the result files of a test run say together.
type TestReport struct {
	Passed   int           `json:"passed"`
	Failed   int           `json:"failed"`
	Skipped  int           `json:"skipped"`
	Duration time.Duration `json:"duration"` // nanoseconds in JSON
	Suites   []TestSuite   `json:"suites"`
	Files    []string      `json:"files"` // result files read, relative to the results folder
	// Problems are result files that could not be read, with the reason.
	Problems []string `json:"problems,omitempty"`
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
}

// TestState is the result of a test.
type TestState string

const (
	TestPassed  TestState = "passed"
	TestFailed  TestState = "failed"
	TestSkipped TestState = "skipped"
)

package slipway

import (
	"fmt"
	"time"
)

// CaseFilter selects a test of a service over its reports.
type CaseFilter struct {
	Project string
	Service string
	Ref     string // of the reports; empty: any but forks'
	// Name is that of the test. Without Suite and Class it may be its class, or suite where it has none, and its
	// name with a dot, slash or blank between them, and several tests may have it.
	Name string
	// Suite and Class are where the test is; one of them is enough to mean that test and no other.
	Suite string
	Class string
}

// CaseHistory is one test over the runs of its service.
type CaseHistory struct {
	Suite string `json:"suite"`
	Class string `json:"class,omitempty"`
	Case  string `json:"case"`
	Flaky bool   `json:"flaky"`
	Why   string `json:"why,omitempty"` // it is flaky, in words
	// FailingSince is the first of the failures that the newest result of its ref ends; nil: it did not fail there.
	FailingSince *CaseResult `json:"failingSince,omitempty"`
	// PassedBefore is the result that passed before those; nil: none is kept.
	PassedBefore *CaseResult  `json:"passedBefore,omitempty"`
	Results      []CaseResult `json:"results"` // newest first; reports without the test are left out
}

// CaseResult is how a test ended in a run.
type CaseResult struct {
	RunID  int64     `json:"runID"`
	Ref    string    `json:"ref"`
	Commit string    `json:"commit"`
	State  TestState `json:"state"`
	Reran  bool      `json:"reran,omitempty"` // it passed after it had failed in the run
	// Duration is nanoseconds in JSON, rounded to milliseconds; nil: it was not kept.
	Duration *time.Duration `json:"duration,omitempty"`
	// ReusedFrom is the run that the report is from; 0: this one.
	ReusedFrom int64     `json:"reusedFrom,omitempty"`
	CreatedAt  time.Time `json:"createdAt"`
}

// Failed is how many of the results are failures.
func (h CaseHistory) Failed() (n int) {
	for _, r := range h.Results {
		if r.State == TestFailed {
			n++
		}
	}
	return n
}

// Trace fills FailingSince and PassedBefore from the results. Skipped and reused results say nothing.
func (h *CaseHistory) Trace() {
	h.FailingSince, h.PassedBefore = nil, nil
	ref := ""
	for i := range h.Results {
		r := &h.Results[i]
		if r.State == TestSkipped || r.ReusedFrom != 0 || (ref != "" && r.Ref != ref) {
			continue
		}
		ref = r.Ref
		if r.State == TestFailed {
			h.FailingSince = r
			continue
		}
		if h.FailingSince != nil {
			h.PassedBefore = r
		}
		return
	}
}

// Flaky says in words why the test of a key is flaky by its history, as Annotate has it; "" when it is not. The
// report that is looked at is one of Past, and runs are the numbers of their runs.
func (h TestHistory) Flaky(key uint64, runs []int64) string {
	past := make([][]byte, len(h.Past))
	for i, p := range h.Past {
		past[i] = align([]uint64{key}, p.Tests)
	}
	h.Inputs = ""
	for i := range past {
		if past[i][0] == ShortFlaky && h.Past[i].Inputs != "" {
			return fmt.Sprintf("it passed after it had failed in run #%d", runs[i])
		}
	}
	for _, g := range inputGroups(h) {
		if disagree([]inputGroup{g}, past, 0, 0) {
			return "it both passed and failed on the same inputs, in " + differing(g, past, runs)
		}
	}
	if n := flips(h, past, 0, 0); n >= minFlips {
		return fmt.Sprintf("it changed %d times between passed and failed in the last %d reports of its branch and the default branch", n, lines(h))
	}
	return ""
}

// differing names the newest two reports of a group that do not agree.
func differing(g inputGroup, past [][]byte, runs []int64) string {
	first := -1
	for _, i := range g.past {
		v := verdict(past[i][0])
		switch {
		case v == 0:
		case first < 0:
			first = i
		case v != verdict(past[first][0]) && runs[i] == runs[first]:
			return fmt.Sprintf("attempts of run #%d", runs[i])
		case v != verdict(past[first][0]):
			return fmt.Sprintf("runs #%d and #%d", runs[first], runs[i])
		}
	}
	return "earlier runs"
}

func lines(h TestHistory) (n int) {
	for _, p := range h.Past {
		if p.Line {
			n++
		}
	}
	return n
}

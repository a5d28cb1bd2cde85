package slipway

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"
	"time"
)

// TestStates are the tests of one report in short: a key for each test and how it ended. Keys are sorted
// and occur once.
type TestStates struct {
	Keys   []uint64
	States []byte          // of the key at the same place: one of the Short constants
	Took   []time.Duration // of the key at the same place; nil: not known
}

// Short forms of the state of a test.
const (
	ShortPassed  = 'p'
	ShortFailed  = 'f'
	ShortSkipped = 's'
	ShortFlaky   = 'k' // passed after it had failed in the same run
)

// TestKey names a test over runs: by its class, or its suite where it has none, and its name.
func TestKey(suite string, c TestCase) uint64 {
	h := fnv.New64a()
	h.Write([]byte(cmp.Or(c.Class, suite))) //nolint:errcheck // of a hash
	h.Write([]byte{0})                      //nolint:errcheck // of a hash
	h.Write([]byte(c.Name))                 //nolint:errcheck // of a hash
	return h.Sum64()
}

// StatesOf is a report in short. Of tests with the same name the worst counts.
func StatesOf(r TestReport) TestStates {
	type entry struct {
		key   uint64
		state byte
		took  time.Duration
	}
	var all []entry
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			all = append(all, entry{TestKey(s.Name, c), short(c), c.Duration})
		}
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(severity(b.state), severity(a.state)))
	})
	var out TestStates
	for i, e := range all {
		if i == 0 || e.key != all[i-1].key {
			out.Keys, out.States, out.Took = append(out.Keys, e.key), append(out.States, e.state), append(out.Took, e.took)
		}
	}
	return out
}

// Of is how a test ended; false when the report does not have it.
func (t TestStates) Of(key uint64) (TestState, bool) {
	i, ok := slices.BinarySearch(t.Keys, key)
	if !ok || i >= len(t.States) {
		return "", false
	}
	switch t.States[i] {
	case ShortFailed:
		return TestFailed, true
	case ShortSkipped:
		return TestSkipped, true
	}
	return TestPassed, true
}

// Reran reports whether a test passed after it had failed in the same run.
func (t TestStates) Reran(key uint64) bool {
	i, ok := slices.BinarySearch(t.Keys, key)
	return ok && i < len(t.States) && t.States[i] == ShortFlaky
}

func short(c TestCase) byte {
	switch {
	case c.State == TestFailed:
		return ShortFailed
	case c.State == TestSkipped:
		return ShortSkipped
	case c.Reruns > 0:
		return ShortFlaky
	}
	return ShortPassed
}

func severity(state byte) int {
	switch state {
	case ShortFailed:
		return 3
	case ShortFlaky:
		return 2
	case ShortPassed:
		return 1
	}
	return 0
}

// PastTests is an earlier report of the tests of a service.
type PastTests struct {
	Tests TestStates
	// Inputs is what the tests depended on: two reports with the same should say the same. Empty: not known.
	Inputs string
	// Line: it is of the same branch as the report that is looked at, or of the default branch.
	Line bool
	// Before: it is what the report is compared with; a failure that both have is not new. At most one is.
	Before bool
}

// TestHistory is what earlier reports of a service said, newest first. Inputs are those of the report that
// is looked at.
type TestHistory struct {
	Inputs string
	// Reused: the report is that of an earlier run, which is in Past, and says nothing new of a test.
	Reused bool
	Past   []PastTests
}

// minFlips is how often a test changes between passed and failed on one line, within the history, before it
// is called flaky. What is broken and mended once changes twice.
const minFlips = 4

// Annotate marks which failures are new and which tests are flaky, and puts what people look for first to
// the front: new failures, failures, flaky tests, the rest; suites by the first of their tests. A failure is
// new when it did not fail in the report that this one is compared with, or is not in it; without one, none
// is. A test is flaky when it passed after it had failed, in the run itself or on the same inputs
// in another, or when it went back and forth at least four times. Annotating again changes nothing.
func Annotate(r *TestReport, h TestHistory) {
	now := StatesOf(*r)
	past := make([][]byte, len(h.Past)) // states in the order of now.Keys, 0 where it has none
	before := -1
	for i, p := range h.Past {
		past[i] = align(now.Keys, p.Tests)
		if p.Before {
			before = i
		}
	}
	if h.Reused {
		h.Inputs = ""
	}
	groups := inputGroups(h)
	r.New, r.Flaky = 0, 0
	for i := range r.Suites {
		s := &r.Suites[i]
		for j := range s.Cases {
			c := &s.Cases[j]
			at, _ := slices.BinarySearch(now.Keys, TestKey(s.Name, *c))
			c.New = c.State == TestFailed && before >= 0 && past[before][at] != ShortFailed
			state := now.States[at]
			if h.Reused {
				state = 0
			}
			c.Flaky = (c.Reruns > 0 && c.State == TestPassed) || disagree(groups, past, state, at) || flips(h, past, state, at) >= minFlips
			if c.New {
				r.New++
			}
			if c.Flaky {
				r.Flaky++
			}
		}
	}
	r.order()
}

// align gives the states of a report for other keys.
func align(keys []uint64, t TestStates) []byte {
	if slices.Equal(keys, t.Keys) {
		return t.States
	}
	out := make([]byte, len(keys))
	j := 0
	for i, k := range keys {
		for j < len(t.Keys) && t.Keys[j] < k {
			j++
		}
		if j < len(t.Keys) && t.Keys[j] == k && j < len(t.States) {
			out[i] = t.States[j]
		}
	}
	return out
}

// inputGroup are the reports of the same inputs.
type inputGroup struct {
	now  bool // the report that is looked at is one of them
	past []int
}

func inputGroups(h TestHistory) []inputGroup {
	by := map[string]int{}
	var all []inputGroup
	if h.Inputs != "" {
		by[h.Inputs] = 0
		all = append(all, inputGroup{now: true})
	}
	for i, p := range h.Past {
		if p.Inputs == "" {
			continue
		}
		g, ok := by[p.Inputs]
		if !ok {
			g = len(all)
			by[p.Inputs] = g
			all = append(all, inputGroup{})
		}
		all[g].past = append(all[g].past, i)
	}
	return all
}

// disagree reports whether a test both passed and failed on the same inputs.
func disagree(groups []inputGroup, past [][]byte, now byte, at int) bool {
	for _, g := range groups {
		var passed, failed bool
		look := func(state byte) {
			passed = passed || state == ShortPassed || state == ShortFlaky
			failed = failed || state == ShortFailed || state == ShortFlaky
		}
		if g.now {
			look(now)
		}
		for _, i := range g.past {
			look(past[i][at])
		}
		if passed && failed {
			return true
		}
	}
	return false
}

// flips counts how often a test changed between passed and failed on its line. Skipped and missing results
// say nothing.
func flips(h TestHistory, past [][]byte, now byte, at int) int {
	n, last := 0, verdict(now)
	for i := range past {
		v := verdict(past[i][at])
		if !h.Past[i].Line || v == 0 {
			continue
		}
		if last != 0 && v != last {
			n++
		}
		last = v
	}
	return n
}

// verdict is the state without the difference that an earlier try makes; 0: none.
func verdict(state byte) byte {
	switch state {
	case ShortFailed:
		return ShortFailed
	case ShortPassed, ShortFlaky:
		return ShortPassed
	}
	return 0
}

// order puts what people look for to the front and leaves the rest in its order.
func (r *TestReport) order() {
	first := func(s TestSuite) int {
		if len(s.Cases) == 0 {
			return lastRank
		}
		return s.Cases[0].rank()
	}
	for i := range r.Suites {
		slices.SortStableFunc(r.Suites[i].Cases, func(a, b TestCase) int { return cmp.Compare(a.rank(), b.rank()) })
	}
	slices.SortStableFunc(r.Suites, func(a, b TestSuite) int { return cmp.Compare(first(a), first(b)) })
}

// rank is how early a test is shown; a failure of a flaky test says less than one of another.
func (c TestCase) rank() int {
	switch {
	case c.State == TestFailed && c.New && !c.Flaky:
		return 0
	case c.State == TestFailed && !c.Flaky:
		return 1
	case c.State == TestFailed:
		return 2
	case c.Flaky:
		return 3
	}
	return lastRank
}

const lastRank = 4

// SuiteCase is a test with the suite that it is in.
type SuiteCase struct {
	Suite string `json:"suite"`
	TestCase
}

// Notable are the tests that people look for: new failures, failures, failures of flaky tests, flaky tests
// that passed; at most limit of them, 0: all.
func (r TestReport) Notable(limit int) []SuiteCase {
	out := r.cases(func(c TestCase) bool { return c.rank() < lastRank })
	slices.SortStableFunc(out, func(a, b SuiteCase) int { return cmp.Compare(a.rank(), b.rank()) })
	return atMost(out, limit)
}

// Slowest are the tests that took longest, longest first; at most limit of them.
func (r TestReport) Slowest(limit int) []SuiteCase {
	out := r.cases(func(c TestCase) bool { return c.Duration > 0 })
	slices.SortStableFunc(out, func(a, b SuiteCase) int { return cmp.Compare(b.Duration, a.Duration) })
	return atMost(out, limit)
}

func (r TestReport) cases(which func(TestCase) bool) []SuiteCase {
	var out []SuiteCase
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			if which(c) {
				out = append(out, SuiteCase{Suite: s.Name, TestCase: c})
			}
		}
	}
	return out
}

func atMost(all []SuiteCase, limit int) []SuiteCase {
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all
}

// StepTests is the report of a test step, with what it is compared with.
type StepTests struct {
	RunID      int64      `json:"runID"`
	Step       string     `json:"step"`
	Service    string     `json:"service"`
	State      StepState  `json:"state"`
	Reason     string     `json:"reason,omitempty"`
	ReusedFrom int64      `json:"reusedFrom,omitempty"` // the run that the report is from
	Report     TestReport `json:"report"`
	// Base is the last report of the branch that the run is measured against; nil: there is none.
	Base *TestTotals `json:"base,omitempty"`
}

// RunTests are the reports of a run, in the order of its plan.
type RunTests struct {
	Run   Run         `json:"run"`
	Steps []StepTests `json:"steps"`
}

// ServiceTests are the tests of a service over its runs.
type ServiceTests struct {
	Project string       `json:"project"`
	Service string       `json:"service"`
	Latest  *StepTests   `json:"latest"` // nil: no run has a report
	Past    []TestTotals `json:"past"`   // newest first, the latest among them
}

// TestTotals are the numbers of a report.
type TestTotals struct {
	RunID      int64         `json:"runID"`
	Ref        string        `json:"ref"`
	Commit     string        `json:"commit"`
	Passed     int           `json:"passed"`
	Failed     int           `json:"failed"`
	Skipped    int           `json:"skipped"`
	New        int           `json:"new"`
	Flaky      int           `json:"flaky"`
	Duration   time.Duration `json:"duration"` // nanoseconds in JSON
	Coverage   *Coverage     `json:"coverage,omitempty"`
	ReusedFrom int64         `json:"reusedFrom,omitempty"`
	CreatedAt  time.Time     `json:"createdAt"`
}

// CoverageChange says how coverage differs from that of a base, in points of percent; false when one of
// them is not known.
func CoverageChange(now, base *Coverage) (float64, bool) {
	if now == nil || base == nil || now.Total == 0 || base.Total == 0 {
		return 0, false
	}
	return now.Percent() - base.Percent(), true
}

// Counts is the report in words: 12 passed, 1 failed (1 new), 2 skipped, 1 flaky.
func (r TestReport) Counts() string {
	text := strconv.Itoa(r.Passed) + " passed"
	if r.Failed > 0 {
		text += ", " + strconv.Itoa(r.Failed) + " failed"
	}
	if r.New > 0 {
		text += " (" + strconv.Itoa(r.New) + " new)"
	}
	if r.Skipped > 0 {
		text += ", " + strconv.Itoa(r.Skipped) + " skipped"
	}
	if r.Flaky > 0 {
		text += ", " + strconv.Itoa(r.Flaky) + " flaky"
	}
	return text
}

package slipway_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

// reportOf makes a report of words such as "a:failed" or "b:passed+1", which ran again once.
func reportOf(words ...string) slipway.TestReport {
	s := slipway.TestSuite{Name: "s"}
	for _, w := range words {
		name, state, _ := strings.Cut(w, ":")
		state, again, _ := strings.Cut(state, "+")
		s.Cases = append(s.Cases, slipway.TestCase{Name: name, Class: "C", State: slipway.TestState(state), Reruns: len(again)})
	}
	return slipway.TestReport{Suites: []slipway.TestSuite{s}}
}

func marks(r slipway.TestReport) string {
	var out []string
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			w := c.Name
			if c.New {
				w += " new"
			}
			if c.Flaky {
				w += " flaky"
			}
			out = append(out, w)
		}
	}
	return strings.Join(out, ", ")
}

func TestAnnotate(t *testing.T) {
	t.Parallel()
	past := func(inputs string, words ...string) slipway.PastTests {
		return slipway.PastTests{Tests: slipway.StatesOf(reportOf(words...)), Inputs: inputs, Line: true}
	}
	before := func(p slipway.PastTests) slipway.PastTests { p.Before = true; return p }
	for name, c := range map[string]struct {
		now  []string
		past []slipway.PastTests
		want string
	}{
		"nothing before":           {[]string{"a:passed", "b:failed", "c:skipped"}, nil, "b, a, c"},
		"new":                      {[]string{"a:passed", "b:failed", "c:failed", "d:failed", "e:failed"}, []slipway.PastTests{before(past("1", "a:failed", "b:failed", "c:passed", "e:skipped"))}, "c new, d new, e new, b, a"},
		"ran again":                {[]string{"a:passed", "b:passed+1", "c:failed+1"}, nil, "c, b flaky, a"},
		"same inputs, then failed": {[]string{"a:failed", "b:failed"}, []slipway.PastTests{before(past("now", "a:passed", "b:failed"))}, "b, a new flaky"},
		"same inputs, then passed": {[]string{"a:passed", "b:passed"}, []slipway.PastTests{past("now", "a:failed", "b:passed")}, "a flaky, b"},
		"other inputs":             {[]string{"a:passed"}, []slipway.PastTests{past("1", "a:failed")}, "a"},
		"no inputs":                {[]string{"a:passed"}, []slipway.PastTests{past("", "a:failed")}, "a"},
		"earlier, same inputs":     {[]string{"a:passed", "b:passed"}, []slipway.PastTests{past("1", "a:passed", "b:skipped"), past("1", "a:failed", "b:failed")}, "a flaky, b"},
		"ran again earlier":        {[]string{"a:passed"}, []slipway.PastTests{past("1", "a:passed+1")}, "a flaky"},
		"broken and mended":        {[]string{"a:passed"}, []slipway.PastTests{past("1", "a:failed"), past("2", "a:failed"), past("3", "a:passed")}, "a"},
		"back and forth":           {[]string{"a:passed"}, []slipway.PastTests{past("1", "a:failed"), past("2", "a:passed"), past("3", "a:skipped"), past("4", "a:failed"), past("5"), past("6", "a:passed")}, "a flaky"},
		"new comes before flaky":   {[]string{"a:failed", "b:failed"}, []slipway.PastTests{before(past("now", "a:passed")), past("2", "b:passed")}, "b new, a new flaky"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := reportOf(c.now...)
			slipway.Annotate(&r, slipway.TestHistory{Inputs: "now", Past: c.past})
			if got := marks(r); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if n := strings.Count(c.want, "new"); r.New != n || r.Flaky != strings.Count(c.want, "flaky") {
				t.Errorf("%d new, %d flaky", r.New, r.Flaky)
			}
		})
	}
	r := slipway.TestReport{Suites: []slipway.TestSuite{
		{Name: "green", Cases: []slipway.TestCase{{Name: "a", State: slipway.TestPassed, Duration: 3}}}, {Name: "empty"},
		{Name: "red", Cases: []slipway.TestCase{{Name: "a", State: slipway.TestPassed, Duration: 5}, {Name: "b", State: slipway.TestFailed}}},
	}, Passed: 2, Failed: 1, Skipped: 3}
	slipway.Annotate(&r, slipway.TestHistory{Past: []slipway.PastTests{{Before: true, Tests: slipway.StatesOf(reportOf("x:passed"))}}})
	if r.Suites[0].Name != "red" || r.Suites[0].Cases[0].Name != "b" || r.Counts() != "2 passed, 1 failed (1 new), 3 skipped" {
		t.Errorf("%+v %s", r.Suites, r.Counts())
	}
	if n := r.Notable(5); len(n) != 1 || n[0].Suite != "red" || n[0].Name != "b" {
		t.Errorf("notable %+v", n)
	}
	if s := r.Slowest(1); len(s) != 1 || s[0].Suite != "red" || s[0].Duration != 5 {
		t.Errorf("slowest %+v", s)
	}
}

func drawReport(t *rapid.T, label string) slipway.TestReport {
	state := rapid.SampledFrom([]slipway.TestState{slipway.TestPassed, slipway.TestFailed, slipway.TestSkipped})
	var r slipway.TestReport
	for i := range rapid.IntRange(0, 3).Draw(t, label+" suites") {
		s := slipway.TestSuite{Name: fmt.Sprint("suite", i)}
		for range rapid.IntRange(0, 6).Draw(t, label+" cases") {
			s.Cases = append(s.Cases, slipway.TestCase{Name: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name"),
				Class: rapid.SampledFrom([]string{"", "C"}).Draw(t, "class"), State: state.Draw(t, "state"), Reruns: rapid.IntRange(0, 1).Draw(t, "reruns")})
		}
		r.Suites = append(r.Suites, s)
	}
	return r
}

func copyOf(t *rapid.T, r slipway.TestReport) (out slipway.TestReport) {
	b, err := json.Marshal(r)
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// caseKeys are the tests of a report with their states, in an order of their own.
func caseKeys(r slipway.TestReport) []string {
	var out []string
	for _, s := range r.Suites {
		for _, c := range s.Cases {
			out = append(out, fmt.Sprint(s.Name, "/", c.Class, "/", c.Name, "/", c.State, "/", c.Reruns))
		}
	}
	slices.Sort(out)
	return out
}

// Whatever is known of earlier runs: no test is lost or changes its state, marks mean what they say, what
// people look for comes first, and annotating again changes nothing.
func TestAnnotateProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawReport(t, "now")
		h := slipway.TestHistory{Inputs: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "inputs")}
		n := rapid.IntRange(0, 5).Draw(t, "past")
		before := rapid.IntRange(-1, n-1).Draw(t, "before")
		var base slipway.TestStates
		for i := range n {
			p := slipway.PastTests{Tests: slipway.StatesOf(drawReport(t, "past")), Inputs: rapid.SampledFrom([]string{"", "1", "2"}).Draw(t, "past inputs"),
				Line: rapid.Bool().Draw(t, "line"), Before: i == before}
			if p.Before {
				base = p.Tests
			}
			h.Past = append(h.Past, p)
		}
		given := caseKeys(r)
		slipway.Annotate(&r, h)
		if !slices.Equal(given, caseKeys(r)) {
			t.Fatalf("tests changed: %v, were %v", caseKeys(r), given)
		}
		fresh, flaky := 0, 0
		for _, s := range r.Suites {
			rank := 0
			for _, c := range s.Cases {
				was, known := base.Of(slipway.TestKey(s.Name, c))
				if want := before >= 0 && c.State == slipway.TestFailed && (!known || was != slipway.TestFailed); c.New != want {
					t.Fatalf("%+v: before it was %q", c, was)
				}
				if c.State == slipway.TestPassed && c.Reruns > 0 && !c.Flaky {
					t.Fatalf("%+v passed after a failure", c)
				}
				if c.Flaky && n == 0 && c.Reruns == 0 && strings.Count(fmt.Sprint(given), "/"+c.Name+"/") < 2 {
					t.Fatalf("%+v is flaky without a history", c)
				}
				if place := place(c); place < rank {
					t.Fatalf("%+v comes too late in %+v", c, s.Cases)
				} else {
					rank = place
				}
				if c.New {
					fresh++
				}
				if c.Flaky {
					flaky++
				}
			}
		}
		if fresh != r.New || flaky != r.Flaky {
			t.Fatalf("%d new and %d flaky, counted %d and %d", fresh, flaky, r.New, r.Flaky)
		}
		again := copyOf(t, r)
		slipway.Annotate(&again, h)
		if once := copyOf(t, r); !reflect.DeepEqual(once, copyOf(t, again)) {
			t.Fatalf("annotated again:\n%+v\nonce:\n%+v", again, once)
		}
	})
}

func place(c slipway.TestCase) int {
	switch {
	case c.State == slipway.TestFailed && !c.Flaky && c.New:
		return 0
	case c.State == slipway.TestFailed && !c.Flaky:
		return 1
	case c.State == slipway.TestFailed:
		return 2
	case c.Flaky:
		return 3
	}
	return 4
}

func TestStates(t *testing.T) {
	t.Parallel()
	s := slipway.StatesOf(reportOf("a:passed", "b:failed", "b:passed", "c:skipped", "d:passed+1", "d:passed"))
	for name, want := range map[string]slipway.TestState{"a": slipway.TestPassed, "b": slipway.TestFailed, "c": slipway.TestSkipped, "d": slipway.TestPassed} {
		key := slipway.TestKey("s", slipway.TestCase{Class: "C", Name: name})
		if got, ok := s.Of(key); !ok || got != want || s.Reran(key) != (name == "d") {
			t.Errorf("%s is %q (ran again: %t)", name, got, s.Reran(key))
		}
	}
	if _, ok := s.Of(1); ok || len(s.Keys) != 4 {
		t.Errorf("%+v", s)
	}
	if slipway.TestKey("s", slipway.TestCase{Name: "a"}) == slipway.TestKey("t", slipway.TestCase{Name: "a"}) {
		t.Error("tests of two suites without classes are one")
	}
}

// BenchmarkAnnotate marks a report of 50,000 tests by fifty earlier ones.
func BenchmarkAnnotate(b *testing.B) {
	r := slipway.TestReport{}
	for i := range 100 {
		s := slipway.TestSuite{Name: fmt.Sprint("suite", i)}
		for j := range 500 {
			s.Cases = append(s.Cases, slipway.TestCase{Class: s.Name, Name: fmt.Sprint("test number ", j), State: slipway.TestPassed})
		}
		r.Suites = append(r.Suites, s)
	}
	var h slipway.TestHistory
	for i := range 50 {
		h.Past = append(h.Past, slipway.PastTests{Tests: slipway.StatesOf(r), Inputs: fmt.Sprint(i), Line: true, Before: i == 0})
	}
	for b.Loop() {
		slipway.Annotate(&r, h)
	}
}

// A report that was reused does not count a second time: with it, the test would have changed four times.
func TestReusedReportsSayNothingNew(t *testing.T) {
	t.Parallel()
	h := slipway.TestHistory{Inputs: "5"}
	for i, word := range []string{"a:failed", "a:passed", "a:failed", "a:passed"} {
		h.Past = append(h.Past, slipway.PastTests{Tests: slipway.StatesOf(reportOf(word)), Inputs: string(rune('4' - i)), Line: true})
	}
	for _, reused := range []bool{false, true} {
		h.Reused = reused
		r := reportOf("a:passed")
		slipway.Annotate(&r, h)
		if (r.Flaky == 0) != reused {
			t.Errorf("reused %v: %d are flaky", reused, r.Flaky)
		}
	}
	same := slipway.TestHistory{Inputs: "1", Reused: true, Past: []slipway.PastTests{{Tests: slipway.StatesOf(reportOf("a:failed")), Inputs: "1"}}}
	r := reportOf("a:passed")
	if slipway.Annotate(&r, same); r.Flaky != 0 {
		t.Error("flaky by a report that was reused")
	}
}

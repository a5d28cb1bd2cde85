package test

import (
	"cmp"
	"encoding/xml"
	"strings"

	"github.com/slipway-cd/slipway"
)

// junit reads the format of JUnit's Ant task and what other tools made of it. Suites nest or not, counts are
// there or not and may be wrong, so the cases themselves are counted.
type junit struct {
	*document
	out *reportBuilder
}

// junitSuite is a testsuite, or the testsuites around them, while it is read.
type junitSuite struct {
	suite  *suite
	name   string
	counts bool // it counts failures or errors
	held   int  // suites and cases in it
	// A suite that fails as a whole: its set-up, or the file it is in does not compile.
	whole    *junitFailure
	out, err printed
}

type junitFailure struct {
	message, kind string
	text          printed
}

// String is the message; of a failure that has none, the first line of its text.
func (f junitFailure) String() string {
	first, _, _ := strings.Cut(strings.TrimSpace(string(f.text.head)), "\n")
	return cmp.Or(strings.TrimSpace(f.message), strings.ToValidUTF8(strings.TrimSpace(first), ""), f.kind)
}

// output is the text, unless the message says all of it.
func (f junitFailure) output() printed {
	if f.text.String() == f.String() {
		return printed{}
	}
	return f.text
}

// suites reads the element that began last, and those in it.
func (j junit) suites(start xml.StartElement, parent string) error {
	s := junitSuite{name: attr(start, "name"), counts: positive(attr(start, "failures")) || positive(attr(start, "errors"))}
	full := s.name
	if parent != "" && !strings.HasPrefix(full, parent) {
		full = strings.Trim(parent+" / "+full, " /")
	}
	s.suite = j.out.suite(full)
	failures := j.out.failures
	err := j.each(func(e xml.StartElement) (err error) {
		switch e.Name.Local {
		case "testsuite", "testsuites":
			s.held++
			return j.suites(e, clip(full, maxName))
		case "testcase":
			s.held++
			return j.testCase(e, s.suite)
		case "failure", "error":
			var f junitFailure
			f, err = j.failure(e)
			if s.whole == nil {
				s.whole = &f
			}
		case "system-out":
			s.out, err = j.output()
			j.out.attachAll(s.out, "")
		case "system-err":
			s.err, err = j.output()
		default:
			err = j.skip()
		}
		return err
	})
	if err != nil {
		return err
	}
	if s.whole == nil {
		s.suite.wrote(s.out, s.err)
	}
	j.retried(s.suite)
	c := slipway.TestCase{Name: cmp.Or(s.name, "(suite)"), State: slipway.TestFailed}
	switch {
	case s.whole != nil:
		j.out.failures++
		c.Message, c.Output = s.whole.String(), together(maxOutput, s.whole.output(), s.out, s.err)
		return s.suite.add(c)
	case s.held == 0 && s.counts:
		j.out.failures++
		c.Message, c.Output = "the suite counts failures and lists no tests", together(maxOutput, s.out, s.err)
		return s.suite.add(c)
	case s.counts && j.out.failures == failures && parent == "":
		j.out.note("%s: %s counts failures, and no test in it has one", j.out.current, cmp.Or(s.name, start.Name.Local))
	}
	return nil
}

// retried notes a test that failed and then passed under one name. That may be a retry, or the next row of
// a test with parameters: the file does not say, so that the failure stands.
func (j junit) retried(s *suite) {
	type key struct{ class, name string }
	red := map[key]bool{}
	for _, c := range s.Cases {
		switch k := (key{c.Class, c.Name}); {
		case c.State == slipway.TestFailed:
			red[k] = true
		case c.State == slipway.TestPassed && red[k]:
			j.out.note("%s: %s failed and then passed under the same name, which counts as failed; if it was a retry, have it written as one test (Gradle: mergeReruns = true)", j.out.current, c.Name)
			return
		}
	}
}

// tries are how often a case was tried, as far as its element says.
type tries struct {
	bad      *junitFailure // it failed in the end
	skipped  *junitFailure
	earlier  *junitFailure // the first failure of one that passed in the end
	failures int           // before the last try
	out, err printed
}

func (j junit) testCase(start xml.StartElement, s *suite) error {
	c := slipway.TestCase{Name: attr(start, "name"), Class: attr(start, "classname"), State: slipway.TestPassed, Duration: seconds(attr(start, "time"))}
	var t tries
	err := j.each(func(e xml.StartElement) error { return j.element(e, &t) })
	if err != nil {
		return err
	}
	c.Reruns = t.failures
	if t.bad != nil || t.failures > 0 || failedStatus(strings.ToLower(attr(start, "status"))) {
		j.out.failures++
	}
	switch status := strings.ToLower(attr(start, "status")); {
	case t.bad != nil && (t.skipped == nil || t.skipped.kind != "todo"): // Node.js: what is yet to be done may fail
		c.State, c.Message = slipway.TestFailed, t.bad.String()
		c.Output = together(maxOutput, t.bad.output(), t.out, t.err)
	case t.skipped != nil:
		c.State, c.Message = slipway.TestSkipped, t.skipped.String()
		if t.skipped.message == "" {
			c.Output = t.skipped.output().String()
		}
	case skippedStatus(status), skippedStatus(attr(start, "result")): // of googletest, for one
		c.State = slipway.TestSkipped
	case failedStatus(status):
		c.State, c.Message, c.Output = slipway.TestFailed, "its status is "+status, together(maxOutput, t.out, t.err)
	case t.earlier != nil:
		c.Message = "passed after a failure: " + t.earlier.String()
	}
	j.out.attachAll(t.out, cmp.Or(c.Name, c.Class))
	return s.add(c)
}

func skippedStatus(s string) bool {
	switch s {
	case "notrun", "skipped", "disabled", "ignored", "pending", "suppressed":
		return true
	}
	return false
}

func failedStatus(s string) bool {
	switch s {
	case "failed", "fail", "failure", "error":
		return true
	}
	return false
}

// element reads one element of a case.
func (j junit) element(e xml.StartElement, t *tries) error {
	to := &t.bad
	switch e.Name.Local {
	case "failure", "error":
	case "skipped", "ignored": // the other of TestNG
		to = &t.skipped
	case "flakyFailure", "flakyError": // Surefire: a try of a test that passed in the end
		t.failures++
		to = &t.earlier
	case "rerunFailure", "rerunError": // Surefire: a try of one that never did
		t.failures++
		return j.skip()
	case "system-out":
		text, err := j.output()
		t.out.append(text)
		return err
	case "system-err":
		text, err := j.output()
		t.err.append(text)
		return err
	default:
		return j.skip()
	}
	f, err := j.failure(e)
	if *to == nil {
		*to = &f
	}
	return err
}

func (j junit) failure(e xml.StartElement) (junitFailure, error) {
	text, err := j.output()
	return junitFailure{message: attr(e, "message"), kind: attr(e, "type"), text: text}, err
}

func positive(count string) bool {
	count = strings.TrimSpace(count)
	return count != "" && strings.Trim(count, "0") != "" && !strings.HasPrefix(count, "-")
}

func join(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, "\n")
}

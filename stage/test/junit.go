package test

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
)

// junitSuite is a testsuite or the testsuites around them. Tools differ: suites nest or not, counts
// are there or not and may be wrong, so the cases themselves are counted.
type junitSuite struct {
	Name     string       `xml:"name,attr"`
	Failures string       `xml:"failures,attr"`
	Errors   string       `xml:"errors,attr"`
	Suites   []junitSuite `xml:"testsuite"`
	Cases    []junitCase  `xml:"testcase"`
	// A suite that fails as a whole: its set-up, or the file it is in does not compile.
	Failure []junitFailure `xml:"failure"`
	Error   []junitFailure `xml:"error"`
	Out     string         `xml:"system-out"`
	Err     string         `xml:"system-err"`
}

type junitCase struct {
	Name    string         `xml:"name,attr"`
	Class   string         `xml:"classname,attr"`
	Time    string         `xml:"time,attr"`
	Status  string         `xml:"status,attr"` // googletest: run, notrun
	Result  string         `xml:"result,attr"` // googletest: completed, skipped, suppressed
	Failure []junitFailure `xml:"failure"`
	Error   []junitFailure `xml:"error"`
	Skipped []junitFailure `xml:"skipped"`
	// Surefire: earlier tries of a test that passed in the end (flaky) or never did (rerun).
	Flaky      []junitFailure `xml:"flakyFailure"`
	FlakyError []junitFailure `xml:"flakyError"`
	Out        string         `xml:"system-out"`
	Err        string         `xml:"system-err"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

func parseJUnit(dec *xml.Decoder, start xml.StartElement) ([]slipway.TestSuite, error) {
	var root junitSuite
	if err := dec.DecodeElement(&root, &start); err != nil {
		return nil, err
	}
	var out []slipway.TestSuite
	err := root.flatten("", 0, &out)
	return out, err
}

// flatten lists the suites that have cases, with the names of those around them.
func (s junitSuite) flatten(parent string, level int, out *[]slipway.TestSuite) error {
	if level > maxNesting {
		return fmt.Errorf("suites are nested deeper than %d", maxNesting)
	}
	name := s.Name
	if parent != "" && !strings.HasPrefix(name, parent) {
		name = strings.Trim(parent+" / "+name, " /")
	}
	flat := slipway.TestSuite{Name: name}
	for _, c := range s.Cases {
		flat.Cases = append(flat.Cases, c.testCase())
	}
	if whole := append(s.Failure, s.Error...); len(whole) > 0 {
		flat.Cases = append(flat.Cases, slipway.TestCase{
			Name: cmp.Or(s.Name, "(suite)"), State: slipway.TestFailed, Message: whole[0].message(), Output: join(s.Out, s.Err),
		})
	} else if len(s.Cases)+len(s.Suites) == 0 && (positive(s.Failures) || positive(s.Errors)) {
		flat.Cases = append(flat.Cases, slipway.TestCase{
			Name: cmp.Or(s.Name, "(suite)"), State: slipway.TestFailed, Message: "the suite counts failures and lists no tests", Output: join(s.Out, s.Err),
		})
	}
	if len(flat.Cases) > 0 {
		*out = append(*out, flat)
	}
	var errs []error
	for _, sub := range s.Suites {
		errs = append(errs, sub.flatten(name, level+1, out))
	}
	return errors.Join(errs...)
}

func (c junitCase) testCase() slipway.TestCase {
	t := slipway.TestCase{Name: c.Name, Class: c.Class, State: slipway.TestPassed, Duration: seconds(c.Time)}
	switch bad := append(c.Failure, c.Error...); {
	case len(bad) > 0:
		t.State, t.Message = slipway.TestFailed, bad[0].message()
		text := bad[0].Text
		if bad[0].Message == "" { // it is the message already
			text = ""
		}
		t.Output = join(text, c.Out, c.Err)
	case len(c.Skipped) > 0:
		t.State, t.Message = slipway.TestSkipped, c.Skipped[0].message()
	case c.Status == "notrun", c.Status == "skipped", c.Status == "disabled", c.Result == "skipped", c.Result == "suppressed":
		t.State = slipway.TestSkipped
	case len(c.Flaky)+len(c.FlakyError) > 0:
		t.Message = "passed after a failure: " + append(c.Flaky, c.FlakyError...)[0].message()
	}
	return t
}

func (f junitFailure) message() string {
	return cmp.Or(strings.TrimSpace(f.Message), strings.TrimSpace(f.Text), f.Type)
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

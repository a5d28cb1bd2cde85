package test

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// trxRun is the file that .NET's test runner writes.
type trxRun struct {
	Name        string      `xml:"name,attr"`
	Results     []trxResult `xml:"Results>UnitTestResult"`
	Definitions []trxTest   `xml:"TestDefinitions>UnitTest"`
	Summary     struct {
		Outcome string   `xml:"outcome,attr"`
		Infos   []string `xml:"RunInfos>RunInfo>Text"`
	} `xml:"ResultSummary"`
}

type trxTest struct {
	ID     string `xml:"id,attr"`
	Method struct {
		Class string `xml:"className,attr"`
	} `xml:"TestMethod"`
}

type trxResult struct {
	TestID   string `xml:"testId,attr"`
	Name     string `xml:"testName,attr"`
	Outcome  string `xml:"outcome,attr"`
	Duration string `xml:"duration,attr"`
	Output   struct {
		Out     string `xml:"StdOut"`
		Err     string `xml:"StdErr"`
		Message string `xml:"ErrorInfo>Message"`
		Trace   string `xml:"ErrorInfo>StackTrace"`
	} `xml:"Output"`
	Inner []trxResult `xml:"InnerResults>UnitTestResult"`
}

func parseTRX(dec *xml.Decoder, start xml.StartElement) ([]slipway.TestSuite, error) {
	var run trxRun
	if err := dec.DecodeElement(&run, &start); err != nil {
		return nil, err
	}
	classes := map[string]string{}
	for _, t := range run.Definitions {
		classes[t.ID] = t.Method.Class
	}
	suite := slipway.TestSuite{Name: run.Name}
	for _, r := range run.Results {
		if err := r.cases(classes, 0, &suite.Cases); err != nil {
			return nil, err
		}
	}
	failed := false
	for _, c := range suite.Cases {
		failed = failed || c.State == slipway.TestFailed
	}
	if !failed && badRun(run.Summary.Outcome) { // the test host crashed, for one
		suite.Cases = append(suite.Cases, slipway.TestCase{
			Name: "(run)", State: slipway.TestFailed,
			Message: cmp.Or(strings.Join(run.Summary.Infos, "\n"), "the run is reported as "+run.Summary.Outcome),
		})
	}
	return []slipway.TestSuite{suite}, nil
}

// cases lists a result, or in its place the results of its data rows.
func (r trxResult) cases(classes map[string]string, level int, out *[]slipway.TestCase) error {
	if level > maxNesting {
		return fmt.Errorf("results are nested deeper than %d", maxNesting)
	}
	if len(r.Inner) > 0 {
		for _, inner := range r.Inner {
			inner.TestID = cmp.Or(inner.TestID, r.TestID)
			if err := inner.cases(classes, level+1, out); err != nil {
				return err
			}
		}
		return nil
	}
	c := slipway.TestCase{Name: r.Name, Class: classes[r.TestID], State: trxState(r.Outcome), Duration: clock(r.Duration)}
	switch c.State {
	case slipway.TestFailed:
		c.Message = cmp.Or(strings.TrimSpace(r.Output.Message), r.Outcome)
		c.Output = join(r.Output.Trace, r.Output.Out, r.Output.Err)
	case slipway.TestSkipped:
		c.Message = r.Output.Message
	}
	*out = append(*out, c)
	return nil
}

// trxState reads an outcome. One that is missing means failed, as the format defines.
func trxState(outcome string) slipway.TestState {
	switch outcome {
	case "Passed", "PassedButRunAborted", "Warning", "Completed":
		return slipway.TestPassed
	case "NotExecuted", "NotRunnable", "Inconclusive", "Pending":
		return slipway.TestSkipped
	}
	return slipway.TestFailed
}

func badRun(outcome string) bool {
	switch outcome {
	case "Failed", "Error", "Timeout", "Aborted", "Disconnected":
		return true
	}
	return false
}

// clock reads 00:01:02.5.
func clock(s string) time.Duration {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return 0
	}
	h, err1 := strconv.ParseUint(parts[0], 10, 12)
	m, err2 := strconv.ParseUint(parts[1], 10, 12)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + seconds(parts[2])
}

package test

import (
	"cmp"
	"encoding/xml"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// trx reads the file that .NET's test runner writes. Results come before the definitions that say which
// class each is of, so they are held until the end of the file.
type trx struct {
	*document
	out     *reportBuilder
	name    string
	deploy  string // folder of the files that the run left, relative to the result file's
	classes map[string]string
	held    []trxResult
	outcome string // of the run
	infos   []string
}

// trxResult is a result with what is needed to place it.
type trxResult struct {
	slipway.TestCase
	testID string
}

func (x *trx) run(start xml.StartElement) error {
	x.name, x.classes = attr(start, "name"), map[string]string{}
	err := x.each(x.section)
	if ferr := x.flush(); err == nil {
		err = ferr
	}
	return err
}

func (x *trx) section(e xml.StartElement) error {
	switch e.Name.Local {
	case "TestSettings", "Results", "TestDefinitions":
		return x.each(x.section)
	case "Deployment":
		x.deploy = attr(e, "runDeploymentRoot")
		return x.skip()
	case "UnitTestResult", "GenericTestResult", "TestResult", "WebTestResult", "ManualTestResult":
		_, err := x.result(e, "")
		return err
	case "UnitTest":
		return x.definition(e)
	case "ResultSummary":
		x.outcome = attr(e, "outcome")
		return x.each(x.summary)
	}
	return x.skip()
}

func (x *trx) definition(e xml.StartElement) error {
	id := attr(e, "id")
	return x.each(func(e xml.StartElement) error {
		if e.Name.Local == "TestMethod" && len(x.classes) < maxCases {
			class, _, _ := strings.Cut(attr(e, "className"), ",") // an assembly may follow
			x.classes[id] = clip(class, maxName)
		}
		return x.skip()
	})
}

func (x *trx) summary(e xml.StartElement) error {
	switch e.Name.Local {
	case "RunInfos", "RunInfo", "CollectorDataEntries", "Collector", "UriAttachments", "UriAttachment", "ResultFiles":
		return x.each(x.summary)
	case "Text":
		text, err := x.text(maxMessage)
		if len(x.infos) < 10 && strings.TrimSpace(text) != "" {
			x.infos = append(x.infos, strings.TrimSpace(text))
		}
		return err
	case "A":
		x.attach(attr(e, "href"), "", "")
	case "ResultFile":
		x.attach(attr(e, "path"), "", "")
	}
	return x.skip()
}

// result reads a result, or in its place those of its data rows, and reports how many it held.
func (x *trx) result(e xml.StartElement, parentID string) (int, error) {
	r := trxResult{testID: cmp.Or(attr(e, "testId"), parentID)}
	r.Name, r.Duration = attr(e, "testName"), clock(attr(e, "duration"))
	outcome, folder := attr(e, "outcome"), cmp.Or(attr(e, "relativeResultsDirectory"), attr(e, "executionId"))
	r.State = trxState(outcome)
	var o trxOutput
	rows := 0
	err := x.each(func(e xml.StartElement) error {
		switch e.Name.Local {
		case "Output":
			return x.outputs(&o)
		case "InnerResults":
			return x.each(func(e xml.StartElement) error {
				n, err := x.result(e, r.testID)
				rows += n
				return err
			})
		case "ResultFiles":
			return x.each(func(e xml.StartElement) error {
				x.attach(attr(e, "path"), folder, r.Name)
				return x.skip()
			})
		}
		return x.skip()
	})
	if err != nil || rows > 0 {
		return rows, err
	}
	switch r.State {
	case slipway.TestFailed:
		r.Message = cmp.Or(strings.TrimSpace(o.message), outcome, "it has no outcome, which means failed")
		r.Output = together(maxOutput, o.trace, o.out, o.err)
	case slipway.TestSkipped:
		r.Message = cmp.Or(strings.TrimSpace(o.message), strings.TrimSpace(string(o.out.head)))
	}
	x.out.attachAll(o.out, r.Name)
	x.out.bound(&r.TestCase)
	if len(x.held) < maxCases {
		x.held = append(x.held, r)
	} else {
		x.out.overflow() //nolint:errcheck // it is only said
	}
	return 1, nil
}

type trxOutput struct {
	out, err, trace printed
	message         string
}

func (x *trx) outputs(o *trxOutput) error {
	return x.each(func(e xml.StartElement) (err error) {
		switch e.Name.Local {
		case "StdOut":
			o.out, err = x.output()
		case "StdErr":
			o.err, err = x.output()
		case "ErrorInfo":
			return x.outputs(o)
		case "Message":
			o.message, err = x.text(maxMessage)
		case "StackTrace":
			o.trace, err = x.output()
		default:
			err = x.skip()
		}
		return err
	})
}

// attach notes a file that the run left, where the runner puts it: <deployment>/In/<folder of the result>.
func (x *trx) attach(name, folder, testCase string) {
	if name == "" {
		return
	}
	name = strings.ReplaceAll(name, `\`, "/")
	x.out.attach(path.Join(strings.ReplaceAll(x.deploy, `\`, "/"), "In", folder, name), testCase)
}

// flush hands over what was read, now with its classes.
func (x *trx) flush() error {
	s := x.out.suite(x.name)
	failed := false
	for _, r := range x.held {
		failed = failed || r.State == slipway.TestFailed
		r.Class = x.classes[r.testID]
		if err := s.add(r.TestCase); err != nil {
			return err
		}
	}
	if !failed && badRun(x.outcome) { // the test host crashed, for one
		return s.add(slipway.TestCase{Name: "(run)", State: slipway.TestFailed,
			Message: cmp.Or(strings.Join(x.infos, "\n"), "the run is reported as "+x.outcome)})
	}
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

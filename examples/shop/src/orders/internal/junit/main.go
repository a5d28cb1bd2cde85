// Command junit runs a test binary, passes its output on, writes TestResults/junit.xml and exits as
// the tests did.
package main

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

type testcase struct {
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *failure `xml:"failure,omitempty"`
}

type failure struct {
	Message string `xml:"message,attr"`
	Output  string `xml:",chardata"`
}

type testsuite struct {
	XMLName  xml.Name   `xml:"testsuite"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Cases    []testcase `xml:"testcase"`
}

var verdict = regexp.MustCompile(`^--- (PASS|FAIL): (\S+) \(([\d.]+)s\)`)

func main() {
	suite := testsuite{Name: os.Args[1]}
	cmd := exec.Command(os.Args[2], "-test.v")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(err)
	check(cmd.Start())
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Println(lines.Text())
		if strings.HasPrefix(lines.Text(), "=== RUN") {
			said.Reset()
			continue
		}
		m := verdict.FindStringSubmatch(lines.Text())
		if m == nil {
			said.WriteString(lines.Text() + "\n")
			continue
		}
		c := testcase{Name: m[2], Time: m[3]}
		if m[1] == "FAIL" {
			suite.Failures++
			c.Failure = &failure{Message: "failed", Output: said.String()}
		}
		suite.Tests++
		suite.Cases = append(suite.Cases, c)
	}
	result := cmd.Wait()
	dir := os.Getenv("SLIPWAY_TEST_RESULTS")
	if dir == "" {
		dir = "TestResults"
	}
	check(os.MkdirAll(dir, 0o777))
	b, err := xml.MarshalIndent(suite, "", "  ")
	check(err)
	check(os.WriteFile(dir+"/junit.xml", append([]byte(xml.Header), b...), 0o666))
	if exit := (*exec.ExitError)(nil); errors.As(result, &exit) {
		os.Exit(exit.ExitCode())
	}
	check(result)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "junit:", err)
		os.Exit(2)
	}
}

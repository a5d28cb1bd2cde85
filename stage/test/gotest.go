package test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// goEvent is a line of `go test -json`, see `go doc test2json`.
type goEvent struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string // import path of what did not compile
}

// isGoTest reports whether a file begins like one of `go test -json`.
func isGoTest(head []byte) bool {
	for line := range bytes.Lines(head) {
		line = bytes.TrimSpace(line)
		if !bytes.HasPrefix(line, []byte("{")) {
			continue // of the go command, where both outputs were written to the file
		}
		var e goEvent
		if json.Unmarshal(line, &e) != nil {
			return false
		}
		switch e.Action {
		case "start", "run", "output", "pass", "fail", "skip", "build-output", "build-fail", "pause", "cont", "bench", "attr":
			return e.Package != "" || e.ImportPath != ""
		}
		return false
	}
	return false
}

// goTests reads the events of packages.
type goTests struct {
	out      *reportBuilder
	packages map[string]*goPackage
	order    []*goPackage
	builds   map[string]*printed // output of compilers, by import path
	cases    int
	full     bool
}

// goPackage is a package; its tests may run more than once (-count, or again after a failure).
type goPackage struct {
	name   string
	tests  map[string]*goTest
	order  []*goTest
	output printed // that is no test's
	state  string  // its last final event; "" while it runs
	build  string
	runs   int // final events
}

type goTest struct {
	name    string
	parent  *goTest
	subs    bool
	subFail bool // one of its subtests failed
	state   slipway.TestState
	open    bool
	run     int // of the package
	reruns  int
	elapsed time.Duration
	output  printed
}

const maxLine = 1 << 20

func (b *reportBuilder) parseGoTest(r io.Reader) error {
	g := &goTests{out: b, packages: map[string]*goPackage{}, builds: map[string]*printed{}}
	in := bufio.NewReaderSize(r, 64<<10)
	for line := 1; ; line++ {
		text, long, err := readLine(in)
		if long {
			b.note("%s: line %d: has more than %d KiB and is left out", b.current, line, maxLine>>10)
		} else if perr := g.line(text); perr != nil {
			b.problem("%s: line %d: is not a whole event; the file ends there", b.current, line)
		}
		if errors.Is(err, io.EOF) {
			return g.finish()
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
}

// readLine reads a line of bounded length; a longer one is dropped and reported.
func readLine(in *bufio.Reader) (text []byte, long bool, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(text)+len(part) > maxLine {
			long, text = true, nil
		}
		if !long {
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, long, err
		}
	}
}

// line takes one line. What is no event is of the go command or of a tool around it; an event that is not
// whole is an error.
func (g *goTests) line(text []byte) error {
	text = bytes.TrimSpace(text)
	if !bytes.HasPrefix(text, []byte("{")) {
		return nil
	}
	var e goEvent
	if err := json.Unmarshal(text, &e); err != nil {
		if bytes.HasSuffix(text, []byte("}")) {
			return nil // a test's own line
		}
		return err
	}
	switch e.Action {
	case "build-output":
		g.buildOutput(e)
		return nil
	case "start", "run", "pause", "cont", "output", "pass", "fail", "skip":
	default:
		return nil
	}
	if p := g.pkg(e.Package); p != nil {
		if e.Test != "" {
			g.test(p, e)
		} else {
			p.event(e)
		}
	}
	return nil
}

func (g *goTests) buildOutput(e goEvent) {
	b := g.builds[e.ImportPath]
	if b == nil {
		if len(g.builds) == maxSuites {
			return
		}
		b = &printed{}
		g.builds[e.ImportPath] = b
	}
	b.add([]byte(e.Output))
}

func (g *goTests) pkg(name string) *goPackage {
	p := g.packages[name]
	if p == nil && name != "" && len(g.order) < maxSuites {
		p = &goPackage{name: name, tests: map[string]*goTest{}}
		g.packages[name] = p
		g.order = append(g.order, p)
	}
	return p
}

func (p *goPackage) event(e goEvent) {
	switch e.Action {
	case "output":
		p.output.add([]byte(e.Output))
	case "start":
		p.state = ""
	case "pass", "fail", "skip":
		p.state, p.build = e.Action, e.FailedBuild
		p.runs++
	}
}

func (g *goTests) test(p *goPackage, e goEvent) {
	t := p.tests[e.Test]
	if t == nil {
		if g.cases == maxCases {
			g.full = true
			return
		}
		g.cases++
		t = &goTest{name: e.Test, run: p.runs}
		if t.parent = p.parent(e.Test); t.parent != nil {
			t.parent.subs = true
		}
		p.tests[e.Test] = t
		p.order = append(p.order, t)
	}
	switch e.Action {
	case "run":
		t.open = true
		if t.state != slipway.TestFailed || t.run < p.runs {
			t.output = printed{}
		}
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			t.output.add([]byte(e.Output))
		}
	case "pass", "fail", "skip":
		t.end(goState(e.Action), time.Duration(max(0, min(e.Elapsed, 1e7))*float64(time.Second)), p.runs)
	}
}

// parent is the test that a test is a subtest of; nil when it is none. The name that a subtest was given may have
// slashes itself.
func (p *goPackage) parent(name string) *goTest {
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if t := p.tests[name[:i]]; t != nil {
			return t
		}
	}
	return nil
}

// panicked is what a panic said that ended the test: the test framework says it in the name of a test above.
func (t *goTest) panicked() []byte {
	for up := t.parent; up != nil; up = up.parent {
		for _, part := range [][]byte{up.output.head, up.output.tail.b} {
			if at := bytes.Index(part, []byte("panic: ")); at >= 0 {
				return part[at:]
			}
		}
	}
	return nil
}

// end takes a result. Within one run of the package (-count=2) a failure stays; a later run of the package,
// which tools make of the tests that failed, replaces it.
func (t *goTest) end(state slipway.TestState, elapsed time.Duration, run int) {
	t.open = false
	switch {
	case run > t.run && t.state == slipway.TestFailed:
		t.reruns++
		t.state, t.run, t.subFail = state, run, false
	case t.state != slipway.TestFailed:
		t.state = state
	}
	t.elapsed += elapsed
	if t.state != slipway.TestFailed {
		t.output = printed{head: bytes.Clone(t.output.head[:min(len(t.output.head), maxMessage)])}
	}
	if t.state == slipway.TestPassed {
		t.output = printed{}
	}
	if state == slipway.TestFailed && t.parent != nil {
		t.parent.subFail = true
	}
}

func goState(action string) slipway.TestState {
	switch action {
	case "pass":
		return slipway.TestPassed
	case "skip":
		return slipway.TestSkipped
	}
	return slipway.TestFailed
}

func (g *goTests) finish() error {
	for _, p := range g.order {
		if err := g.add(p); err != nil {
			return nil //nolint:nilerr // the report is full, which it says
		}
	}
	if g.full {
		g.out.overflow() //nolint:errcheck // it is only said
	}
	return nil
}

func (g *goTests) add(p *goPackage) error {
	s := g.out.suite(p.name)
	failed := false
	for _, t := range p.order {
		c, ok := g.testCase(p, t)
		if !ok {
			continue
		}
		failed = failed || c.State == slipway.TestFailed
		if err := s.add(c); err != nil {
			return err
		}
	}
	if p.state == "" {
		g.out.problem("%s: package %s has no result: its tests were cut off", g.out.current, p.name)
	}
	if failed || p.state == "pass" || p.state == "skip" {
		return nil
	}
	c := slipway.TestCase{Name: "(package)", Class: p.name, State: slipway.TestFailed, Output: p.output.String()}
	c.Message = goMessage(p.output)
	switch {
	case p.state == "":
		c.Message = "its tests were cut off"
	case p.build != "":
		c.Message = "does not compile"
		if b := g.builds[p.build]; b != nil {
			c.Output = b.String()
			if said := compilerSays(c.Output); said != "" {
				c.Message += ": " + said
			}
		}
	}
	if c.Message == "" {
		c.Message = "the package failed, and none of its tests did"
	}
	return s.add(c)
}

// testCase is a test as the report has it. One with subtests stands for itself only when it failed and none
// of them did.
func (g *goTests) testCase(p *goPackage, t *goTest) (slipway.TestCase, bool) {
	c := slipway.TestCase{Name: t.name, Class: p.name, State: t.state, Duration: t.elapsed, Reruns: t.reruns}
	cut := t.open || t.state == ""
	if t.subs && !cut && (t.state != slipway.TestFailed || t.subFail) {
		return c, false
	}
	switch {
	case cut && t.subs && t.subFail:
		return c, false
	case cut:
		c.State, c.Output = slipway.TestFailed, t.output.String()
		if c.Message = goMessage(t.output); c.Message == "" {
			c.Message = "did not end"
		} else {
			c.Message = "did not end: " + c.Message
		}
	case c.State == slipway.TestFailed:
		c.Message, c.Output = goMessage(t.output), t.output.String()
		if c.Message == "" {
			panicked := whole(string(t.panicked()))
			c.Message, c.Output = cmp.Or(goMessage(panicked), "failed"), together(maxOutput, t.output, panicked)
		}
	case c.State == slipway.TestSkipped:
		c.Message = goMessage(t.output)
	case t.reruns > 0:
		c.Message = "passed after a failure"
	}
	return c, true
}

// compilerSays is the first line with which the compiler, or go vet, says what is wrong; those before it name packages.
func compilerSays(output string) string {
	for line := range strings.Lines(output) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return strings.ToValidUTF8(line, "\uFFFD")
		}
	}
	return ""
}

// goLine is how a test says where it fails.
var goLine = regexp.MustCompile(`^[\w./-]+\.go:[0-9]+: `)

// goMessage is the line that says why: of a panic, else the first of t.Error and the like, else the first.
func goMessage(output printed) string {
	first, said := "", ""
	for line := range strings.Lines(string(output.head) + string(output.tail.b)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "panic: "):
			return line
		case said == "" && goLine.MatchString(line):
			said = line
		case line == "", strings.HasPrefix(line, "--- "), strings.HasPrefix(line, "=== "), first != "", line == "FAIL", line == "PASS",
			strings.HasPrefix(line, "FAIL\t"), strings.HasPrefix(line, "exit status "), strings.HasPrefix(line, "coverage: "):
		default:
			first = line
		}
	}
	return strings.ToValidUTF8(cmp.Or(said, first), "\uFFFD")
}

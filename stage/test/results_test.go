package test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// summary writes a report so that a case compares all of it.
func summary(r slipway.TestReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped in %s\n", r.Passed, r.Failed, r.Skipped, r.Duration)
	for _, s := range r.Suites {
		fmt.Fprintf(&b, "%s\n", s.Name)
		for _, c := range s.Cases {
			fmt.Fprintf(&b, "  %s", strings.Join(strings.Fields(fmt.Sprintf("%s %s %s", c.State, c.Class, c.Name)), " "))
			if c.Duration > 0 {
				fmt.Fprintf(&b, " (%s)", c.Duration)
			}
			if c.Reruns > 0 {
				fmt.Fprintf(&b, " after %d failures", c.Reruns)
			}
			if c.Flaky {
				b.WriteString(" flaky")
			}
			if c.Message != "" {
				fmt.Fprintf(&b, ": %s", c.Message)
			}
			if c.Output != "" {
				fmt.Fprintf(&b, " [%s]", strings.ReplaceAll(c.Output, "\n", "; "))
			}
			b.WriteString("\n")
		}
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if r.Coverage != nil {
		fmt.Fprintf(&b, "coverage %d of %d\n", r.Coverage.Covered, r.Coverage.Total)
		for _, f := range r.Coverage.Files {
			fmt.Fprintf(&b, "  %s %d of %d\n", f.Path, f.Covered, f.Total)
		}
	}
	return b.String()
}

// Each case of testdata is a file and, beside it with .golden, the report that it gives.
func TestDialects(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range files {
		if strings.HasSuffix(file, ".golden") {
			continue
		}
		n++
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), data, 0o644); err != nil {
				t.Fatal(err)
			}
			got := summary(Read(dir))
			if os.Getenv("UPDATE") != "" {
				if err := os.WriteFile(file+".golden", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file + ".golden")
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	if n < 8 {
		t.Errorf("only %d cases", n)
	}
}

func read(t *testing.T, name, body string) slipway.TestReport {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o644); err != nil {
		t.Fatal(err)
	}
	return Read(dir)
}

// Files that were written one behind the other hold all their tests, and what else stands behind a report is told: a
// failure in it must not pass for want of reading.
func TestBehindTheEndOfAReport(t *testing.T) {
	t.Parallel()
	const green, red = `<testsuite name="s"><testcase name="a"/></testsuite>`, `<testsuite name="t"><testcase name="b"><failure message="m"/></testcase></testsuite>`
	const head = `<?xml version="1.0" encoding="UTF-8"?>`
	for name, c := range map[string]struct {
		body    string
		failed  int
		problem string
	}{
		"two roots":       {green + red, 1, ""},
		"two documents":   {head + "\n" + green + "\n\ufeff" + head + "\n<testsuites>" + red + "</testsuites>\n", 1, ""},
		"TRX behind":      {green + `<TestRun><Results><UnitTestResult testName="b" outcome="Failed"/></Results></TestRun>`, 1, ""},
		"space behind":    {green + "\n \x00\n<!-- done -->\n", 0, ""},
		"text behind":     {green + "\nsome text\n", 0, `line 3: "some text" stands behind the end of the report, and is not read`},
		"another element": {green + "<html/>", 0, "line 1: <html> stands behind the end of the report, and is not read"},
		"cut behind":      {green + "\n<testsui", 0, "line 2: the file ends within an element"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := read(t, "all.xml", c.body)
			if r.Passed != 1 || r.Failed != c.failed {
				t.Errorf("%d passed, %d failed", r.Passed, r.Failed)
			}
			if got := strings.Join(r.Problems, "\n"); got != strings.TrimSuffix("all.xml: "+c.problem, "all.xml: ") {
				t.Errorf("problems %q, want %q", got, c.problem)
			}
		})
	}
}

func TestLCOVWithComments(t *testing.T) {
	t.Parallel()
	r := read(t, "lcov.info", "# made by a tool\n# TN: of its own\nTN:\n#x\nSF:a.js\nDA:1,1\n# DA:2,0\nDA:3,0\nend_of_record\n")
	if r.Coverage == nil || r.Coverage.Covered != 1 || r.Coverage.Total != 2 || len(r.Problems) > 0 {
		t.Errorf("%+v", r)
	}
	if r := read(t, "notes.txt", "# TN:\n# SF:\n"); r.Coverage != nil || len(r.Problems) > 0 || len(r.Attachments) != 1 {
		t.Errorf("%+v", r)
	}
}

func TestTAPIsNoted(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"out.tap": "1..1\nnot ok 1 - a\n", "out.txt": "TAP version 13\n1..1\nok 1\n"} {
		if r := read(t, name, body); len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], name+": not read: it is a report in TAP") || len(r.Attachments) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	deep := func(n int) string {
		return strings.Repeat(`<testsuite name="s">`, n) + `<testcase name="x"/>` + strings.Repeat("</testsuite>", n)
	}
	entities := `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>` +
		`<testsuite><testcase name="x"><failure message="m">&b;&c;</failure></testcase></testsuite>`
	for name, c := range map[string]struct{ body, problem string }{
		"depth.xml":   {deep(200), "depth.xml: line 1: elements are nested deeper than 128"},
		"tag.xml":     {"<testsuite>\n<testcase " + strings.Repeat(`a="" `, 100_000) + "/></testsuite>", "tag.xml: line 2: has a tag of more than 256 KiB"},
		"comment.xml": {"<testsuite><!--" + strings.Repeat("-", 1000), "comment.xml: line 1: the file ends within an element"},
		"abyss.xml":   {deep(200_000), "abyss.xml: "},
		"cut.xml":     {`<testsuite><testcase name="x">`, "cut.xml: "},
		"empty.xml":   {"", "empty.xml: holds no XML element"},
		"text.trx":    {"hello", "text.trx: holds no XML element"},
		"charset.xml": {`<?xml version="1.0" encoding="EBCDIC"?><testsuite/>`, "charset.xml: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := read(t, name, c.body)
			if len(r.Problems) != 1 || !strings.HasPrefix(r.Problems[0], c.problem) || r.Passed+r.Failed > 0 {
				t.Errorf("%q %+v", r.Problems, r)
			}
		})
	}
	r := read(t, "entities.xml", entities)
	if s := summary(r); len(s) > 500 || strings.Contains(s, "root:") || r.Failed != 1 {
		t.Errorf("entities: %s", s)
	}
	many := "<testsuite>" + strings.Repeat(`<testcase name="x"/>`, maxCases+5) + "</testsuite>"
	if r := read(t, "many.xml", many); r.Passed != maxCases || len(r.Problems) != 1 {
		t.Errorf("%d %q", r.Passed, r.Problems)
	}
	loud := "<testsuite>" + strings.Repeat(`<testcase name="x"><failure message="`+strings.Repeat("m", 9000)+`">`+strings.Repeat("ä", 20_000)+`</failure></testcase>`, 300) + "</testsuite>"
	r = read(t, "loud.xml", loud)
	total := 0
	for _, c := range r.Suites[0].Cases {
		if len(c.Message) > maxMessage || len(c.Output) > maxOutput {
			t.Fatalf("message %d, output %d bytes", len(c.Message), len(c.Output))
		}
		total += len(c.Output)
	}
	if total > maxOutputs || r.Failed != 300 {
		t.Errorf("%d bytes of output, %d failed", total, r.Failed)
	}
}

func TestOtherFilesArePassedOver(t *testing.T) {
	t.Parallel()
	if r := read(t, "coverage.xml", `<?xml version="1.0"?><coverage line-rate="1"/>`); len(r.Files)+len(r.Problems) != 0 {
		t.Errorf("%+v", r)
	}
	if r := read(t, "notes.txt", green()); len(r.Files) != 0 {
		t.Errorf("%+v", r)
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.xml")); err != nil {
		t.Fatal(err)
	}
	if r := Read(dir); len(r.Files)+len(r.Attachments) != 0 || strings.Join(r.Problems, " ") != "link.xml: is a link, which is not followed or opened" {
		t.Errorf("%+v", r)
	}
	if r := Read(filepath.Join(dir, "nothere")); len(r.Problems) != 1 {
		t.Errorf("%+v", r)
	}
}

func green() string { return `<testsuite><testcase name="x"/></testsuite>` }

func TestSeconds(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]time.Duration{
		"1.5": 1500 * time.Millisecond, "1,234.5": 1234500 * time.Millisecond, "0,25": 250 * time.Millisecond, "1.234,5": 1234500 * time.Millisecond, "1,234,567.5": 1234567500 * time.Millisecond, "2s": 2 * time.Second,
		"": 0, "x": 0, "-1": 0, "NaN": 0, "Inf": 0, "1e300": 0,
	} {
		if got := seconds(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
	for s, want := range map[string]time.Duration{"00:01:02.5000000": 62500 * time.Millisecond, "1:0:0": time.Hour, "": 0, "a:b:c": 0, "-1:00:00": 0} {
		if got := clock(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
}

// Whatever a test tool writes, reading it ends, within the bounds, with counts that add up.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && !strings.HasSuffix(file, ".golden") {
			f.Add(data)
		}
	}
	f.Add([]byte("\xef\xbb\xbf<TestRun><Results><UnitTestResult outcome='x' duration='1:2:3'/></Results></TestRun>"))
	f.Add([]byte(`<?xml version="1.0" encoding="latin1"?><testsuite name="&#x1b;&#999999999;&undefined;"><testcase time="1e9"/></testsuite>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []format{formatXML, formatGoTest, formatLCOV, formatGoCover} {
			b := newReport()
			b.current = "file"
			b.parse(format, bytes.NewReader(data)) //nolint:errcheck // any is fine
			checkBounds(t, b.finish())
		}
	})
}

func checkBounds(t *testing.T, r slipway.TestReport) {
	t.Helper()
	n := 0
	for _, s := range r.Suites {
		n += len(s.Cases)
		if len(s.Cases) == 0 || len(s.Name) > maxName {
			t.Fatalf("suite %+v", s)
		}
		for _, c := range s.Cases {
			if c.Name == "" || len(c.Name) > maxName || len(c.Message) > maxMessage || len(c.Output) > maxOutput || c.Duration < 0 || c.Reruns < 0 {
				t.Fatalf("case %+v", c)
			}
			if !utf8.ValidString(c.Name + c.Class + c.Message + c.Output) {
				t.Fatalf("case %+v is not UTF-8", c)
			}
		}
	}
	if r.Passed+r.Failed+r.Skipped != n || r.Passed < 0 || r.Failed < 0 || r.Skipped < 0 {
		t.Fatalf("%d cases, report %+v", n, r)
	}
	if c := r.Coverage; c != nil && (c.Covered < 0 || c.Covered > c.Total || len(c.Files) > maxCoveredFiles) {
		t.Fatalf("coverage %+v", c)
	}
}

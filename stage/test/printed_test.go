package test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/slipway-cd/slipway"
)

// escaped is a text as XML has it.
func escaped(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// chatty is what a test writes that says in its last line why it fails.
func chatty(lines int) string {
	var b strings.Builder
	b.WriteString("the first line\n")
	for i := range lines {
		fmt.Fprintf(&b, "line %d of what is < normal & \"usual\", naïve\n", i)
	}
	return b.String() + "panic: the reason <why>"
}

// Of what a test wrote, the beginning and the end are kept, in every format, with a line that says how much is left
// out between.
func TestLongOutput(t *testing.T) {
	t.Parallel()
	long := chatty(30_000)
	plain, cdata := escaped(t, long), "<![CDATA["+long+"]]>"
	junit := func(inner string) string {
		return `<testsuite name="s"><testcase name="x">` + inner + `</testcase></testsuite>`
	}
	trx := func(inner string) string {
		return `<TestRun><Results><UnitTestResult testName="x" outcome="Failed"><Output>` + inner + `</Output></UnitTestResult></Results></TestRun>`
	}
	var events bytes.Buffer
	for line := range strings.Lines(long) {
		if err := json.NewEncoder(&events).Encode(goEvent{Action: "output", Package: "p", Test: "TestX", Output: line}); err != nil {
			t.Fatal(err)
		}
	}
	events.WriteString(`{"Action":"fail","Package":"p","Test":"TestX"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n")
	for name, body := range map[string]string{
		"failure.xml":    junit(`<failure message="m">` + plain + `</failure>`),
		"cdata.xml":      junit(`<failure message="m">` + cdata + `</failure>`),
		"out.xml":        junit(`<failure message="m"/><system-out>` + plain + `</system-out>`),
		"err.xml":        junit(`<failure message="m"/><system-err>` + cdata + `</system-err>`),
		"suite.xml":      `<testsuite name="s"><testcase name="x"><failure message="m"/></testcase><system-out>` + plain + `</system-out></testsuite>`,
		"whole.xml":      `<testsuite name="s"><error message="m">` + plain + `</error></testsuite>`,
		"out.trx":        trx("<StdOut>" + plain + "</StdOut>"),
		"err.trx":        trx("<StdErr>" + plain + "</StdErr>"),
		"trace.trx":      trx("<ErrorInfo><Message>m</Message><StackTrace>" + plain + "</StackTrace></ErrorInfo>"),
		"go.json":        `{"Action":"run","Package":"p","Test":"TestX"}` + "\n" + events.String(),
		"cut.json":       `{"Action":"run","Package":"p","Test":"TestX"}` + "\n" + events.String()[:strings.Index(events.String(), `{"Action":"fail"`)],
		"compiler.jsonl": strings.ReplaceAll(strings.ReplaceAll(events.String()[:strings.Index(events.String(), `{"Action":"fail"`)], `"Action":"output"`, `"Action":"build-output"`), `"ImportPath":""`, `"ImportPath":"p"`) + `{"Action":"fail","Package":"p","FailedBuild":"p"}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := read(t, name, body)
			if r.Failed != 1 {
				t.Fatalf("%d failed, %q", r.Failed, r.Problems)
			}
			checkCut(t, r.Suites[0].Cases[0].Output, long)
		})
	}
}

// checkCut wants an output to be the whole lines that a text begins and ends with, and the line between to be true.
func checkCut(t *testing.T, out, long string) {
	t.Helper()
	head, rest, found := strings.Cut(out, "\n… ")
	said, tail, _ := strings.Cut(rest, " left out …\n")
	left := int64(len(long) - len(head) - len(tail))
	if !found || !strings.HasPrefix(long, head+"\n") || !strings.HasSuffix(long, "\n"+tail) || "… "+said+" left out …" != slipway.LeftOut(left) {
		t.Errorf("left out %s, of %d: %.100q ... %q", said, left, out, out[max(0, len(out)-100):])
	}
	if len(out) > maxOutput || len(out) < maxOutput-4*lineReach || len(tail) < 2*len(head) {
		t.Errorf("%d bytes, %d of the beginning and %d of the end", len(out), len(head), len(tail))
	}
}

// What is short stays as it is, and several long texts have as much room each.
func TestTogether(t *testing.T) {
	t.Parallel()
	long := chatty(2000)
	out := together(maxOutput, whole("short"), printed{}, whole(long), whole(" \n"), whole(long))
	if len(out) > maxOutput || len(out) < maxOutput-8*lineReach || !strings.HasPrefix(out, "short\nthe first line\n") || strings.Count(out, " left out …") != 2 ||
		strings.Count(out, "the reason <why>") != 2 {
		t.Errorf("%d bytes: %.60q ... %q", len(out), out, out[len(out)-60:])
	}
	if got := together(maxOutput, whole(" a\n"), whole("b")); got != "a\nb" {
		t.Errorf("%q", got)
	}
}

// A place behind a long text has its true line.
func TestLineBehindLongText(t *testing.T) {
	t.Parallel()
	long := chatty(30_000)
	for _, text := range []string{escaped(t, long[:40_000]) + strings.Repeat("\n", 50_000), "<![CDATA[" + long + "]]>"} {
		body := `<testsuite name="s"><testcase name="x"><system-out>` + text + "</system-out></testcase>\n" + `<testcase ` + strings.Repeat("x='' ", maxTag) + "</testsuite>"
		want := fmt.Sprintf("r.xml: line %d: has a tag of more than 256 KiB", strings.Count(text, "\n")+2)
		if got := read(t, "r.xml", body); len(got.Problems) != 1 || got.Problems[0] != want || got.Passed != 1 {
			t.Errorf("%q, want %q", got.Problems, want)
		}
	}
}

// A file that a test names in the end of a long output is kept with it.
func TestLongOutputNamesFiles(t *testing.T) {
	t.Parallel()
	b := newReport()
	b.attachAll(whole(chatty(30_000)+"\n[[ATTACHMENT|shot.png]]\n"), "x")
	if len(b.wanted) != 1 || b.wanted[0].name != "shot.png" {
		t.Errorf("%+v", b.wanted)
	}
}

// However long a text is and however it is written, its beginning and its end arrive, whole, and what is left out
// between is counted to the byte.
func FuzzLongText(f *testing.F) {
	f.Add("a < b &amp; &#65; ä]]>\n", 5000, false)
	f.Add("🚢", 30_000, true)
	f.Add("]]>", 20_000, false)
	f.Add("]>", 40_000, true)
	f.Add("&", 9000, false)
	f.Add("x", 1, false)
	f.Fuzz(func(t *testing.T, unit string, n int, cdata bool) {
		if n < 0 || n > 100_000 || len(unit)*n > 1<<20 || !utf8.ValidString(unit) || strings.ContainsAny(unit, "\r\ufffd") {
			return
		}
		want := strings.Map(func(r rune) rune {
			if r < 0x20 && r != '\t' && r != '\n' {
				return ' '
			}
			if r == 0xfffe || r == 0xffff {
				return utf8.RuneError
			}
			return r
		}, strings.Repeat(unit, n))
		text := escaped(t, want)
		if cdata {
			want = strings.ReplaceAll(want, "]]>", "]] >")
			text = "<![CDATA[" + want + "]]>"
		}
		d, err := newDocument(strings.NewReader("<a>" + text + "</a>"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = d.root(); err != nil {
			t.Fatal(err)
		}
		p, err := d.output()
		if err != nil {
			t.Fatal(err)
		}
		end := string(p.tail.b)
		end = end[max(0, len(end)-maxOutput):]
		if !strings.HasPrefix(want, string(p.head)) || !strings.HasSuffix(want, end) || int64(p.size())+p.tail.left != int64(len(want)) {
			t.Fatalf("%d of %d bytes, %d left out: %.50q ... %.50q", p.size(), len(want), p.tail.left, p.head, end)
		}
		if got := p.String(); len(got) > maxOutput || !utf8.ValidString(got) || (len(want) <= maxOutput && got != strings.TrimSpace(want)) {
			t.Fatalf("%d bytes of %d: %.50q", len(got), len(want), got)
		}
	})
}

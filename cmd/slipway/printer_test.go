package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/laptop"
)

var timeZero time.Time

// What to do about a step stands at the end of its reason: a terminal shows all of it, however narrow.
func TestSummaryShowsWhatToDo(t *testing.T) {
	t.Parallel()
	for _, width := range []int{0, 60, 200} {
		var out bytes.Buffer
		c := &cli{out: &printer{w: &out, colour: width > 0, width: width}}
		c.summary([]laptop.Step{{Service: "cart", Kind: slipway.KindBuild, State: slipway.StepErrored,
			Reason: strings.Repeat("a cause that is told at length ", 12) + "mend-it-so"}}, time.Second)
		if !strings.Contains(out.String(), "mend-it-so") || strings.Contains(out.String(), "…") {
			t.Errorf("%d wide it is\n%s", width, out.String())
		}
	}
}

// When piped, a row is a line and columns stand under each other, whatever is in the cells.
func TestColumns(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := newPrinter(&b, false)
	p.table([]string{"NAME", "STATE", "TEXT"}, [][]string{
		{"cart", "v1 verified\nv2 waiting", "a"},
		{"日本語", "\x1b[32m✓ ok\x1b[0m", "b\tc"},
		{"x", "", ""},
		{"y", "ends\n", "z"},
	})
	want := `NAME    STATE                    TEXT
cart    v1 verified; v2 waiting  a
日本語  ` + "\x1b[32m✓ ok\x1b[0m" + `                     b c
x
y       ends                     z
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
	b.Reset()
	p.table(nil, [][]string{{"a", "b"}, {"ccc", "d"}})
	if b.String() != "a    b\nccc  d\n" {
		t.Errorf("without headings:\n%q", b.String())
	}
	b.Reset()
	p.table([]string{"A", "B"}, nil)
	if b.String() != "A  B\n" {
		t.Errorf("without rows:\n%q", b.String())
	}
}

// In a terminal no line is wider than it.
func TestTableFitsTheTerminal(t *testing.T) {
	t.Parallel()
	for _, width := range []int{72, 80, 200} {
		var b bytes.Buffer
		p := &printer{w: &b, colour: true, width: width}
		p.table([]string{"SERVICE", "DEVELOPMENT", "QA", "PRODUCTION", "LAST RUN"}, [][]string{
			{"delivery", "main-a1a1a1a " + p.state("verified"), "v1.1.0 " + p.state("verified"), "v1.0.0 " + p.state("verified") + "\nv1.1.0 " + p.state("waiting") + " for approval, run #3", "#3 " + p.state("waiting")},
			{"mail", "-", "-", "-", "#4 " + p.state("failed")},
		})
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		for _, line := range lines {
			if w := lipgloss.Width(line); w > width || strings.HasSuffix(line, " ") {
				t.Errorf("at %d: %d wide: %q", width, w, line)
			}
		}
		if !strings.Contains(lines[0], "SERVICE") || len(lines) < 4 || strings.TrimSpace(lines[len(lines)-1]) == "" {
			t.Errorf("at %d:\n%s", width, b.String())
		}
		b.Reset()
		p.table(nil, [][]string{{"a", "b"}})
		if got := strings.TrimSpace(b.String()); strings.Count(b.String(), "\n") != 1 || !strings.HasPrefix(got, "a") {
			t.Errorf("without headings: %q", b.String())
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		-time.Second: "0 ms", 3 * time.Millisecond: "3 ms", 1500 * time.Millisecond: "1.5 s", 70 * time.Second: "70 s", 5 * time.Minute: "5 min", 3 * time.Hour: "3 h", 72 * time.Hour: "3 days",
	} {
		if got := short(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
	if ago(timeZero) != "" || took(timeZero, timeZero) != "" {
		t.Error("what has not been is timed")
	}
	for in, want := range map[string]string{"sha256:" + strings.Repeat("a", 64): "aaaaaaaaaaaa", "sha256:ab": "ab", "other": "other", "": ""} {
		if got := shortDigest(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	if got := slipway.Clip("日本語日本語\nmore", 4); got != "日本語…" {
		t.Errorf("clipped to %q", got)
	}
}

// What somebody changed without Slipway stands beside what Slipway deployed.
func TestCellOfTheBoard(t *testing.T) {
	t.Parallel()
	c := &cli{out: newPrinter(&bytes.Buffer{}, false)}
	cell := slipway.BoardCell{Environment: "qa", Current: &slipway.Deployment{Version: "v1.0.0", State: slipway.Verified}}
	for want, o := range map[string]*slipway.ObservedRevision{
		"v1.0.0 verified": nil,
		"v1.0.0 verified\nwarning changed outside: revision 7, app version 0.9.0\\x1b": {Number: 7, AppVersion: "0.9.0\x1b"},
		"v1.0.0 verified\nwarning changed outside: revision 7":                         {Number: 7},
		"v1.0.0 verified\nwarning changed outside: not deployed any more":              {},
	} {
		cell.Outside = o
		if got := c.cell(cell); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// Of what a failed test wrote, the end shows, where the reason stands, below how it begins; with --all everything does.
func TestOutputShowsItsEnd(t *testing.T) {
	t.Parallel()
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("line %d", i))
	}
	shown := func(n int, all bool) string {
		var out bytes.Buffer
		(&cli{out: &printer{w: &out}}).wrote(strings.Join(lines[:n], "\n")+"\n", all)
		return strings.ReplaceAll(out.String(), "    ", "")
	}
	want := strings.Join(lines[:6], "\n") + "\n… 80 lines: --all shows them\n" + strings.Join(lines[86:], "\n") + "\n"
	if got := shown(100, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, n := range []int{1, 20, 21} {
		if got := shown(n, false); got != strings.Join(lines[:n], "\n")+"\n" {
			t.Errorf("of %d lines:\n%s", n, got)
		}
	}
	if got := shown(100, true); got != strings.Join(lines, "\n")+"\n" {
		t.Errorf("with --all:\n%s", got)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"golang.org/x/term"
)

// printer writes what a command found: tables and colours in a terminal, plain columns when piped,
// JSON when asked for.
type printer struct {
	w      io.Writer
	json   bool
	colour bool
	width  int
}

func newPrinter(w io.Writer, asJSON bool) *printer {
	p := &printer{w: w, json: asJSON}
	if f, ok := w.(*os.File); ok && !asJSON && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		p.colour = true
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = width
		}
	}
	return p
}

// value prints v as JSON when that was asked for, and reports whether it did.
func (p *printer) value(v any) (bool, error) {
	if !p.json {
		return false, nil
	}
	enc := json.NewEncoder(p.w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return true, enc.Encode(v)
}

// line prints a line. What users or repositories wrote goes through printable first.
func (p *printer) line(format string, args ...any) {
	fmt.Fprintln(p.w, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// table prints rows under headings; without headings the rows alone. Cells may hold several lines:
// below each other in a terminal, one after another when piped, where a row is always one line.
func (p *printer) table(headings []string, rows [][]string) {
	if !p.colour {
		p.columns(headings, rows)
		return
	}
	var widths []int
	if len(headings) > 0 {
		bold := make([]string, len(headings))
		for i, h := range headings {
			bold[i] = p.bold(h)
		}
		rows = append([][]string{bold}, rows...)
	}
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], lipgloss.Width(cell))
		}
	}
	p.fit(widths)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = lipgloss.NewStyle().Width(widths[i] + gap).PaddingRight(gap).Render(cell)
		}
		for line := range strings.Lines(lipgloss.JoinHorizontal(lipgloss.Top, cells...)) {
			fmt.Fprintln(p.w, strings.TrimRight(line, " \n"))
		}
	}
}

// narrow reports whether the terminal has no room for what is good to know but not asked first.
func (p *printer) narrow() bool { return p.width > 0 && p.width < 120 }

const (
	gap       = 2  // between columns
	leastWide = 12 // how narrow a column is made
)

// fit makes the widest columns narrower until all fit into the terminal.
func (p *printer) fit(widths []int) {
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for p.width > 0 && total > p.width {
		widest := 0
		for i, w := range widths {
			if w >= widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= leastWide {
			return
		}
		widths[widest]--
		total--
	}
}

func (p *printer) columns(headings []string, rows [][]string) {
	var widths []int
	if len(headings) > 0 {
		rows = append([][]string{headings}, rows...)
	}
	flat := make([][]string, len(rows))
	for i, row := range rows {
		flat[i] = make([]string, len(row))
		for j, cell := range row {
			cell = strings.ReplaceAll(strings.TrimRight(cell, "\n"), "\n", "; ")
			flat[i][j] = strings.ReplaceAll(cell, "\t", " ")
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], lipgloss.Width(flat[i][j]))
		}
	}
	for _, row := range flat {
		var b strings.Builder
		for j, cell := range row {
			b.WriteString(cell)
			if j < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[j]-lipgloss.Width(cell)+gap))
			}
		}
		fmt.Fprintln(p.w, strings.TrimRight(b.String(), " "))
	}
}

// state colours a state's word by what it means to people.
func (p *printer) state(s string) string {
	mark, colour := stateMark(s)
	if !p.colour {
		return s
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(colour)).Render(mark + " " + s)
}

func stateMark(s string) (mark, colour string) {
	switch s {
	case "succeeded", "verified", "approved", "passed", "pass", "done", "ok", "merged":
		return "✓", "2"
	case "failed", "unhealthy", "rejected", "deploy-failed", "errored", "missing", "fail":
		return "✗", "1"
	case "waiting", "retrying", "rolled-back", "warning", "warn", "flaky":
		return "!", "3"
	case "running", "deploying", "deployed", "started", "ready", "open":
		return "●", "6"
	case "cached":
		return "=", "4"
	}
	return "·", "8"
}

func (p *printer) dim(s string) string {
	if !p.colour || s == "" {
		return s
	}
	return lipgloss.NewStyle().Faint(true).Render(s)
}

func (p *printer) bold(s string) string {
	if !p.colour || s == "" {
		return s
	}
	return lipgloss.NewStyle().Bold(true).Render(s)
}

// ago says how long ago t was, "" for the zero time.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return short(time.Since(t)) + " ago"
}

// took says how long something lasted, up to now if it has not ended.
func took(from, to time.Time) string {
	switch {
	case from.IsZero():
		return ""
	case to.IsZero():
		return short(time.Since(from))
	}
	return short(to.Sub(from))
}

func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(0, d.Milliseconds()))
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func shortDigest(d string) string {
	if rest, ok := strings.CutPrefix(d, "sha256:"); ok {
		return rest[:min(12, len(rest))]
	}
	return d
}

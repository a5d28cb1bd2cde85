package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// sample is many measurements of one thing in one unit.
type sample struct {
	unit   string // ms, MiB, bytes, ...
	values []float64
}

// millis is a sample of durations.
func millis(times []time.Duration) sample {
	s := sample{unit: "ms"}
	for _, t := range times {
		s.values = append(s.values, float64(t.Microseconds())/1000)
	}
	return s
}

// percentile is the value that a part p of the sample does not exceed (nearest rank).
func (s sample) percentile(p float64) float64 {
	if len(s.values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s.values))
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

// p50 is the median.
func (s sample) p50() float64 { return s.percentile(0.5) }

// String is the median and the 95th percentile.
func (s sample) String() string {
	switch len(s.values) {
	case 0:
		return ""
	case 1:
		return number(s.values[0]) + " " + s.unit
	}
	return fmt.Sprintf("%s %s (p95 %s, n=%d)", number(s.p50()), s.unit, number(s.percentile(0.95)), len(s.values))
}

// minus is the sample of differences of two that were taken in turns.
func (s sample) minus(o sample) sample {
	d := sample{unit: s.unit}
	for i := range min(len(s.values), len(o.values)) {
		d.values = append(d.values, s.values[i]-o.values[i])
	}
	return d
}

func number(v float64) string {
	switch a := max(v, -v); {
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// verdict says what came of a row.
type verdict string

const (
	passed verdict = "pass"
	missed verdict = "MISS"
	noted  verdict = "" // a row without a budget
)

// row is a figure, what it is compared with in the same run, and the budget.
type row struct {
	what      string
	figure    string
	reference string
	result    string // ratio or difference
	budget    string
	verdict   verdict
}

// judge is pass when the value keeps to the limit.
func judge(value, limit float64) verdict {
	if value <= limit {
		return passed
	}
	return missed
}

// ratioRow compares the medians of two samples: at most limit times, 0: no budget.
func ratioRow(what string, figure, reference sample, limit float64) row {
	r := row{what: what, figure: figure.String(), reference: reference.String()}
	ratio := 0.0
	if ref := reference.p50(); ref > 0 {
		ratio = figure.p50() / ref
		r.result = fmt.Sprintf("%.2f×", ratio)
	}
	if limit > 0 {
		r.budget, r.verdict = fmt.Sprintf("≤ %.1f×", limit), judge(ratio, limit)
	}
	return r
}

// limitRow compares the median of a sample with a budget in its own unit, 0: no budget.
func limitRow(what string, figure, reference sample, limit float64) row {
	r := row{what: what, figure: figure.String(), reference: reference.String()}
	if limit > 0 {
		r.budget, r.verdict = fmt.Sprintf("≤ %s %s", strings.TrimSuffix(number(limit), ".0"), figure.unit), judge(figure.p50(), limit)
	}
	return r
}

// report is all of a run.
type report struct {
	machine machine
	began   time.Time
	took    time.Duration
	parts   []string // how long each measurement took
	missing []string // measurements that were not taken yet
	rows    []row
	notes   []note
}

// note is a text or a table that explains a figure.
type note struct {
	title string
	text  string // Markdown
}

func (r report) ok() bool {
	return !slices.ContainsFunc(r.rows, func(r row) bool { return r.verdict == missed })
}

func header() []string {
	return []string{"What", "Slipway", "Compared with, in the same run", "Result", "Budget", ""}
}

func (r row) cells() []string {
	return []string{r.what, r.figure, r.reference, r.result, r.budget, string(r.verdict)}
}

// print writes the table for a terminal.
func (r report) print(w io.Writer) {
	rows := [][]string{header()}
	for _, row := range r.rows {
		rows = append(rows, row.cells())
	}
	width := make([]int, len(rows[0]))
	for _, cells := range rows {
		for i, c := range cells {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	fmt.Fprintln(w)
	for _, cells := range rows {
		var b strings.Builder
		for i, c := range cells {
			b.WriteString(c + strings.Repeat(" ", width[i]-len([]rune(c))+2))
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	fmt.Fprintf(w, "\n%s, %.0f s in all\n", r.machine, r.took.Seconds())
}

// markdown is docs/benchmarks.md.
func (r report) markdown() string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n")
	b.WriteString("Written by `make bench`; do not edit. Each figure was taken in the same run as what it is compared with,\n")
	b.WriteString("in turns, so that the ratios hold on another machine although the times do not. Figures are medians, with\n")
	b.WriteString("the 95th percentile and the number of measurements in brackets.\n\n")
	fmt.Fprintf(&b, "- Command: `%s`\n- Machine: %s\n- Load when it began: %s\n- Date: %s, %.0f s in all\n- Of it: %s\n- Slipway: %s\n",
		"make bench", r.machine, r.machine.load, r.began.UTC().Format("2006-01-02 15:04 MST"), r.took.Seconds(), strings.Join(r.parts, ", "), r.machine.commit)
	if len(r.missing) > 0 {
		fmt.Fprintf(&b, "- Interrupted: not measured are %s\n", strings.Join(r.missing, ", "))
	}
	b.WriteString("\n")
	table(&b, header(), r.rows)
	for _, n := range r.notes {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", n.title, strings.TrimSpace(n.text))
	}
	return b.String()
}

func table(b *strings.Builder, head []string, rows []row) {
	b.WriteString("| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + strings.Join(r.cells(), " | ") + " |\n")
	}
}

// cells is a Markdown table.
func cells(head []string, rows [][]string) string {
	var b strings.Builder
	b.WriteString("| " + strings.Join(head, " | ") + " |\n|" + strings.Repeat("---|", len(head)) + "\n")
	for _, r := range rows {
		b.WriteString("| " + strings.Join(r, " | ") + " |\n")
	}
	return b.String()
}

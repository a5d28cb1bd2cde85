package chart

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate/manifest"
	"github.com/slipway-cd/slipway/stage"
)

// findings writes problems to the log as they come, grouped, and counts them.
type findings struct {
	log      stage.Log
	dir      string
	group    string
	first    string // first error
	errors   int
	counted  map[string]bool // errors and warnings by text: the same one of two environments counts once
	warnings int
	groupBad bool
	unstable bool
	objects  []string
	failures int // problems that the gate fails, unless they are waived
	reports  []slipway.ManifestReport
}

func newFindings(log stage.Log, dir string) *findings {
	return &findings{log: log, dir: dir, counted: map[string]bool{}}
}

// displayDir is the chart folder as people know it.
func displayDir(dir string) string {
	if dir == "" {
		return "standard chart"
	}
	return dir
}

func (f *findings) open(group string) {
	f.group, f.groupBad = group, false
	f.log.Line(slipway.LogLine{Group: group, State: "started"})
}

func (f *findings) close() {
	state := "done"
	if f.groupBad {
		state = "failed"
	}
	f.log.Line(slipway.LogLine{Group: f.group, State: state})
}

func (f *findings) add(problems ...Problem) {
	for _, p := range problems {
		text := p.Text(f.dir)
		f.groupBad = f.groupBad || p.Severity == Error
		if first := !f.counted[text]; first && p.Severity == Error {
			f.errors++
			f.first = cmp.Or(f.first, text)
		} else if first && p.Severity == Warning {
			f.warnings++
		}
		f.counted[text] = true
		f.log.Line(slipway.LogLine{Group: f.group, Text: string(p.Severity) + ": " + text})
	}
}

// manifests writes the problems of policies that are not off, and keeps the report.
func (f *findings) manifests(e environment, report slipway.ManifestReport) {
	f.reports = append(f.reports, report)
	for _, p := range report.Problems {
		level := e.level(p.Policy)
		if level == slipway.LevelOff {
			continue
		}
		text := problemText(p)
		if !f.counted[text] && level == slipway.LevelFail {
			f.failures++
		} else if !f.counted[text] {
			f.warnings++
		}
		f.counted[text] = true
		f.log.Line(slipway.LogLine{Group: f.group, Text: string(level) + " " + text})
	}
}

// problemText is a problem on one line: its subject, where it comes from, what it is.
func problemText(p slipway.ManifestProblem) string {
	text := p.Subject()
	switch {
	case p.Place != "" && p.Values != "":
		text += " " + p.Place + " (" + p.Values + ")"
	case p.Place != "" || p.Values != "":
		text += " " + p.Place + p.Values
	}
	if p.Policy == manifest.Schema && p.Path != "" {
		return text + ": " + p.Path + ": " + p.Message
	}
	return text + ": " + p.Message
}

func (f *findings) rendered(p slipway.ChartRender, objects int) {
	if f.groupBad {
		return
	}
	f.log.Line(slipway.LogLine{Group: f.group, Text: fmt.Sprintf("rendered %s for namespace %s, every one checked", slipway.Counted(objects, "object"), p.Namespace)})
	f.objects = append(f.objects, groupOf(p.Environment))
}

func (f *findings) failed() slipway.Result {
	reason := f.first
	if f.errors > 1 {
		reason += fmt.Sprintf(" (and %s, see the log)", slipway.Counted(f.errors-1, "more problem"))
	}
	return slipway.Result{Outcome: slipway.Failed, Reason: reason, Manifests: f.reports}
}

func (f *findings) summary() string {
	parts := []string{"checked for " + strings.Join(f.objects, ", ")}
	if f.failures > 0 {
		parts = append(parts, slipway.Counted(f.failures, "problem"))
	}
	if f.warnings > 0 {
		parts = append(parts, slipway.Counted(f.warnings, "warning"))
	}
	if f.unstable {
		parts = append(parts, "renders differently each time")
	}
	return strings.Join(parts, "; ")
}

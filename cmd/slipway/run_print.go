package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/laptop"
	"github.com/slipway-cd/slipway/stage"
)

// live prints the logs of steps as they come, each line behind the name of its step. It is safe for
// concurrent use.
type live struct {
	mu    sync.Mutex
	out   *printer
	quiet bool // steps alone: of a log only the end, and only where the step failed
	wide  int  // of the longest key
	order []string
	logs  map[string]*stepLog // by the step's key
}

func newLive(out *printer, quiet bool, steps []slipway.PlanStep) *live {
	l := &live{out: out, quiet: quiet, logs: map[string]*stepLog{}}
	for _, s := range steps {
		l.wide = max(l.wide, len(s.Key))
		l.order = append(l.order, s.Key)
	}
	return l
}

// line prints a line of a step.
func (l *live) line(key, text string) {
	prefix := key + strings.Repeat(" ", max(0, l.wide-len(key))) + " │"
	if l.out.colour {
		colours := []string{"6", "5", "4", "3", "14", "13", "12", "11"}
		colour := colours[max(0, slices.Index(l.order, key))%len(colours)]
		prefix = lipgloss.NewStyle().Foreground(lipgloss.Color(colour)).Render(prefix)
	}
	l.out.line("%s %s", prefix, text)
}

// moved tells that a step started or ended.
func (l *live) moved(s laptop.Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.out.state(string(s.State))
	if s.State.Final() && s.Took > 0 {
		text += " in " + short(s.Took)
	}
	if s.Reason != "" {
		text += ": " + slipway.Printable(slipway.FirstLine(s.Reason))
	}
	l.line(s.Key, text)
}

// mostWhy is how much of a reason the table at the end shows, in characters: what to do stands at its end.
const mostWhy = 2000

// tail is how many lines of a failed step's log a quiet run shows.
const tail = 40

// stepLog is the log of one step.
type stepLog struct {
	all   *live
	key   string
	group string   // the last line's
	kept  []string // the last lines, of a quiet run
}

// of returns the log of a step: the same one each time.
func (l *live) of(key string) *stepLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	log := l.logs[key]
	if log == nil {
		log = &stepLog{all: l, key: key}
		l.logs[key] = log
	}
	return log
}

var _ stage.Log = (*stepLog)(nil)

// Printf writes a line of Slipway's own.
func (s *stepLog) Printf(format string, args ...any) {
	s.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

// Line writes a line. BuildKit's bookkeeping is left out unless it fails.
func (s *stepLog) Line(in slipway.LogLine) {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	if in.State != "failed" && strings.HasPrefix(in.Group, "[internal]") {
		return
	}
	for _, text := range s.text(in) {
		if !s.all.quiet {
			s.all.line(s.key, text)
			continue
		}
		s.kept = append(s.kept, text)
		s.kept = s.kept[max(0, len(s.kept)-tail):]
	}
}

func (s *stepLog) text(in slipway.LogLine) []string {
	p, group := s.all.out, slipway.Printable(slipway.Clip(in.Group, 100))
	if in.State != "" {
		s.group = in.Group
		text := slipway.Printable(in.Text)
		if in.State == "started" || in.State == "cached" || text == "" {
			return []string{"  " + p.state(in.State) + " " + p.dim(group)}
		}
		return []string{"  " + p.state(in.State) + " " + p.dim(group) + " " + text}
	}
	var lines []string
	if in.Group != s.group {
		s.group = in.Group
		if group != "" {
			lines = append(lines, "  "+p.dim("· "+group))
		}
	}
	for text := range strings.Lines(in.Text + "\n") {
		text = "    " + slipway.Printable(strings.TrimSuffix(text, "\n"))
		if in.Stream == "" {
			text = p.dim(text)
		}
		lines = append(lines, text)
	}
	return lines
}

// showTail prints what a quiet run kept of the log of a step that did not succeed.
func (s *stepLog) showTail() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	for _, text := range s.kept {
		s.all.line(s.key, text)
	}
	s.kept = nil
}

// decisions says what runs and why.
func (c *cli) decisions(p laptop.Plan) {
	rows := make([][]string, 0, len(p.Decisions))
	for _, d := range p.Decisions {
		name := slipway.Printable(d.Service)
		if d.Runs {
			name = c.out.bold(name)
		}
		rows = append(rows, []string{"  " + name, slipway.Printable(d.Reason)})
	}
	c.out.table(nil, rows)
	if len(p.Left) > 0 {
		c.out.line("  %s", c.out.dim("not done here, as it needs a server: "+strings.Join(p.Left, ", ")))
	}
}

// summary is the table of the steps, and how the run ended.
func (c *cli) summary(steps []laptop.Step, took time.Duration) {
	var rows [][]string
	for _, s := range steps {
		took := ""
		if s.Took > 0 {
			took = short(s.Took)
		}
		why := ""
		if s.State != slipway.StepSucceeded || !s.Reused.IsZero() {
			why = slipway.Printable(slipway.Clip(s.Reason, mostWhy))
		}
		rows = append(rows, []string{c.out.bold(s.Service), string(s.Kind), c.out.state(string(s.State)), took, testCount(s.Report), why})
	}
	c.out.line("")
	c.out.table([]string{"SERVICE", "STEP", "OUTCOME", "TIME", "TESTS", "WHY"}, rows)
	state := laptop.State(steps)
	services := map[string]bool{}
	for _, s := range steps {
		services[s.Service] = true
	}
	c.out.line("\n%s: %s of %s in %s", c.out.state(string(state)), slipway.Counted(len(steps), "step"), slipway.Counted(len(services), "service"), short(took))
}

func testCount(r *slipway.TestReport) string {
	if r == nil {
		return ""
	}
	text := fmt.Sprintf("%d passed", r.Passed)
	if r.Failed > 0 {
		text += fmt.Sprintf(", %d failed", r.Failed)
	}
	if r.Skipped > 0 {
		text += fmt.Sprintf(", %d skipped", r.Skipped)
	}
	return text
}

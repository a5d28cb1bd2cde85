package web

import (
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

// mostLines bounds how many lines of a log a page holds; the whole is one click away.
const mostLines = 2000

// folded is a log with its lines under the groups they belong to, in the order in which the groups
// begin. Given the same lines it makes the same groups with the same ids, so that a page and the
// stream that continues it agree.
type folded struct {
	Groups []*logGroup
	Read   int // lines read
	Cut    int // lines that are not held any more

	open map[string]*logGroup // newest of a name
	ids  int
	held int
}

// logGroup is a group of lines; its Name is "" for lines that belong to none.
type logGroup struct {
	ID             int
	Name           string
	State          string // of the line that opened or closed it last
	Started, Ended time.Time
	Lines          []slipway.LogLine
}

// Open reports whether the group is shown unfolded: what is done or cached is not.
func (g *logGroup) Open() bool { return g.State != "done" && g.State != "cached" }

// Took is how long the group's work took, 0 while it goes on.
func (g *logGroup) Took() time.Duration {
	if g.Ended.IsZero() {
		return 0
	}
	return g.Ended.Sub(g.Started)
}

// add takes the next line. It returns the group of the line, whether the group's head changed, and
// whether the line is to be shown below it.
func (f *folded) add(l slipway.LogLine) (g *logGroup, head, show bool) {
	f.Read++
	g = f.group(l)
	head = g.State != l.State && l.State != ""
	if l.State != "" {
		g.State = l.State
	}
	switch l.State {
	case "done", "cached", "failed":
		g.Ended, head = l.Time, true
	}
	if show = says(l); show {
		g.Lines = append(g.Lines, l)
		f.held++
	}
	if f.held > 2*mostLines {
		f.trim()
	}
	return g, head, show
}

// group finds or begins the group of a line. A line that does no more than open a group begins it
// anew: it is another attempt.
func (f *folded) group(l slipway.LogLine) *logGroup {
	if l.Group == "" {
		if n := len(f.Groups); n > 0 && f.Groups[n-1].Name == "" {
			return f.Groups[n-1]
		}
		return f.begin(l)
	}
	if g := f.open[l.Group]; g != nil && (l.State != "started" || says(l)) {
		return g
	}
	return f.begin(l)
}

func (f *folded) begin(l slipway.LogLine) *logGroup {
	f.ids++
	g := &logGroup{ID: f.ids, Name: l.Group, Started: l.Time}
	if l.Group != "" {
		if f.open == nil {
			f.open = map[string]*logGroup{}
		}
		f.open[l.Group] = g
	}
	f.Groups = append(f.Groups, g)
	f.held++
	return g
}

// says reports whether a line says more than that its group began or ended.
func says(l slipway.LogLine) bool {
	if l.State == "" {
		return true
	}
	if l.Text == "" || l.Text == l.Group {
		return false
	}
	_, err := time.ParseDuration(l.Text)
	return err != nil
}

// trim lets go of the oldest lines beyond mostLines, and of groups with nothing left to show.
func (f *folded) trim() {
	drop := 0
	for _, g := range f.Groups {
		if f.held <= mostLines {
			break
		}
		n := min(f.held-mostLines, len(g.Lines))
		g.Lines = append([]slipway.LogLine(nil), g.Lines[n:]...)
		f.held -= n
		f.Cut += n
		if len(g.Lines) > 0 {
			break
		}
		if f.open[g.Name] == g {
			delete(f.open, g.Name)
		}
		f.held--
		drop++
	}
	f.Groups = append([]*logGroup(nil), f.Groups[drop:]...)
}

// tail is the last n lines of what most likely says why a step failed, but for known, which is said
// already: the newest group that failed and has something to say, else the end of the log.
func (f *folded) tail(n int, known string) []slipway.LogLine {
	said := func(l slipway.LogLine) bool { return l.Text == known }
	for _, g := range slices.Backward(f.Groups) {
		lines := slices.DeleteFunc(slices.Clone(g.Lines), said)
		if g.State == "failed" && len(lines) > 0 {
			return lines[max(0, len(lines)-n):]
		}
	}
	var all []slipway.LogLine
	for _, g := range slices.Backward(f.Groups) {
		if len(all) >= n {
			break
		}
		all = append(slices.DeleteFunc(slices.Clone(g.Lines), said), all...)
	}
	return all[max(0, len(all)-n):]
}

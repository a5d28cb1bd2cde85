package web

import (
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"
	"unicode"

	"github.com/slipway-cd/slipway"
)

func (s *server) funcs() template.FuncMap {
	return template.FuncMap{
		"ago":     func(t time.Time) string { return ago(s.Now(), t) },
		"took":    func(from, to time.Time) string { return took(s.Now(), from, to) },
		"lasted":  func(d time.Duration) string { return short(d) },
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":   clock,
		"hash":    slipway.ShortHash,
		"digest":  digest,
		"ref":     ref,
		"mark":    mark,
		"tone":    tone,
		"visible": visible,
		"path":    url.PathEscape,
		"query":   url.QueryEscape,
		"join":    strings.Join,
		"lines":   func(s string) []string { return strings.Split(strings.TrimRight(s, "\n"), "\n") },
		"diffTone": func(line string) string {
			switch {
			case strings.HasPrefix(line, "+"):
				return "add"
			case strings.HasPrefix(line, "-"):
				return "del"
			}
			return ""
		},
		"dict": dict,
	}
}

// dict makes a map of key, value, ... for templates that take several values.
func dict(pairs ...any) (map[string]any, error) {
	m := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("dict: key %v is not a string", pairs[i])
		}
		m[key] = pairs[i+1]
	}
	return m, nil
}

func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("15:04:05")
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return short(now.Sub(t)) + " ago"
}

func took(now, from, to time.Time) string {
	switch {
	case from.IsZero():
		return ""
	case to.IsZero():
		return short(now.Sub(from))
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

func digest(d string) string {
	if rest, ok := strings.CutPrefix(d, "sha256:"); ok {
		return rest[:min(12, len(rest))]
	}
	return d
}

func ref(r slipway.Run) string {
	if r.Pull > 0 {
		return fmt.Sprintf("pull/%d", r.Pull)
	}
	return strings.TrimPrefix(strings.TrimPrefix(r.Ref, "refs/heads/"), "refs/")
}

// tone is the colour class of a state: good, bad, wait, work or idle.
func tone(state any) string {
	switch fmt.Sprint(state) {
	case "succeeded", "verified", "approved", "passed", "merged", "done":
		return "good"
	case "failed", "errored", "unhealthy", "rejected", "deploy-failed":
		return "bad"
	case "waiting", "retrying", "rolled-back", "quarantined":
		return "wait"
	case "running", "deploying", "deployed", "ready", "queued", "open", "started":
		return "work"
	}
	return "idle"
}

// mark is a sign for a tone, so that colour is never the only one.
func mark(state any) string {
	switch tone(state) {
	case "good":
		return "✓"
	case "bad":
		return "✗"
	case "wait":
		return "!"
	case "work":
		return "●"
	}
	return "○"
}

// visible shows control characters instead of letting them act.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return r
		case r < 0x20:
			return '␀' + r // the Unicode picture of the control character
		case r == 0x7f:
			return '␡'
		case unicode.Is(unicode.Bidi_Control, r):
			return '�'
		}
		return r
	}, s)
}

// graph is a run's steps laid out in columns by what they need.
type graph struct {
	Width, Height int
	Nodes         []node
	Edges         []edge
}

type node struct {
	X, Y, W, H  int
	Step        slipway.Step
	Label, Sub  string
	Href        string
	Selected    bool
	LabelX, TxY int
}

type edge struct {
	Path string
	Tone string
}

const (
	nodeWidth, nodeHeight = 168, 46
	gapX, gapY            = 36, 14
)

// layOut puts each step one column right of the last step it needs, and the steps of a column below
// one another in the plan's order.
func layOut(steps []slipway.Step, run int64, selected string) graph {
	column, at := map[string]int{}, map[string]node{}
	rows := map[int]int{}
	var g graph
	for _, s := range steps {
		col := 0
		if s.Spec.Kind != slipway.KindPlan && len(s.Spec.Needs) == 0 {
			col = 1
		}
		for _, need := range s.Spec.Needs {
			col = max(col, column[need]+1)
		}
		column[s.Spec.Key] = col
		label, sub := string(s.Spec.Kind), s.Spec.Service
		if s.Spec.Environment != "" {
			sub += " → " + s.Spec.Environment
		}
		n := node{X: col * (nodeWidth + gapX), Y: rows[col] * (nodeHeight + gapY), W: nodeWidth, H: nodeHeight, Step: s, Label: label, Sub: sub,
			Href: fmt.Sprintf("/runs/%d?step=%s", run, url.QueryEscape(s.Spec.Key)), Selected: s.Spec.Key == selected}
		rows[col]++
		at[s.Spec.Key] = n
		g.Nodes = append(g.Nodes, n)
		g.Width, g.Height = max(g.Width, n.X+nodeWidth), max(g.Height, n.Y+nodeHeight)
	}
	for _, n := range g.Nodes {
		for _, need := range n.Step.Spec.Needs {
			from, ok := at[need]
			if !ok {
				continue
			}
			x1, y1, x2, y2 := from.X+nodeWidth, from.Y+nodeHeight/2, n.X, n.Y+nodeHeight/2
			g.Edges = append(g.Edges, edge{Tone: tone(from.Step.State),
				Path: fmt.Sprintf("M%d %d C%d %d %d %d %d %d", x1, y1, x1+gapX/2, y1, x2-gapX/2, y2, x2, y2)})
		}
	}
	return g
}

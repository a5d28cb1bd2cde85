package web

import (
	"fmt"
	"slices"

	"github.com/slipway-cd/slipway"
)

// graph is a run's steps laid out: a lane for each service, columns from left to right by what needs
// what, and the columns of an environment side by side in a band.
type graph struct {
	Width, Height int
	Head          int  // width of the column of names at the left; 0: there is one service, or none
	Wide          bool // wider than a page: it is scaled down a little, and scrolls where that is not enough
	Bands         []band
	Lanes         []label
	Nodes         []node
	Edges         []edge
}

type band struct {
	X, Width, Height int
	Label            string
}

type label struct {
	X, Y  int
	Text  string
	Whole string
}

type node struct {
	X, Y     int
	Step     slipway.Step
	Href     string
	Selected bool
}

type edge struct {
	Path string
	Tone string
}

const (
	nodeWidth, nodeHeight = 94, 42
	gapX, gapY            = 14, 10
	laneGap               = 12
	bandPad, bandHead     = 8, 24
	laneLabel             = 118
	pageWidth             = 1180
)

// place is where a step stands before it has coordinates.
type place struct{ band, column, lane, row int }

// Steps is the width of what is right of the names.
func (g graph) Steps() int { return g.Width - g.Head }

// Size is how wide a part of the graph is drawn: as it is, or its share of the page where the whole is scaled.
func (g graph) Size(part int) string {
	if !g.Wide {
		return fmt.Sprint(part)
	}
	return fmt.Sprintf("%.3f%%", 100*float64(part)/float64(g.Width))
}

// layOut puts each step right of the steps it needs, in the band of its environment and the lane of
// its service.
func layOut(steps []slipway.Step, run int64, selected string) graph {
	bands, lanes := order(steps)
	at := places(steps, bands, lanes)
	columns := map[int]int{} // column -> its band
	rows := make([]int, max(1, len(lanes)))
	for _, p := range at {
		columns[p.column] = p.band
		rows[p.lane] = max(rows[p.lane], p.row+1)
	}
	g := graph{}
	left, top := bandPad, bandPad
	if len(bands) > 1 {
		top += bandHead
	}
	if len(lanes) > 1 {
		g.Head = laneLabel
		left += laneLabel
	}
	x := g.bands(bands, columns, left)
	tops := make([]int, len(rows))
	y := top
	for i, n := range rows {
		tops[i] = y
		if len(lanes) > 1 {
			g.Lanes = append(g.Lanes, label{X: bandPad, Y: y + nodeHeight/2 + 4, Text: clip(lanes[i], 15), Whole: visible(lanes[i])})
		}
		y += n*(nodeHeight+gapY) - gapY + laneGap
	}
	g.Height = y - laneGap + bandPad
	for i := range g.Bands {
		g.Bands[i].Height = g.Height
	}
	for i, s := range steps {
		p := at[i]
		g.Nodes = append(g.Nodes, node{X: x[p.column], Y: tops[p.lane] + p.row*(nodeHeight+gapY), Step: s,
			Href: stepHref(run, s.Spec.Key), Selected: s.Spec.Key == selected})
	}
	g.connect()
	g.Wide = g.Width > pageWidth
	return g
}

// order lists the environments and the services in the order in which the steps name them; the first
// band, "", is for what belongs to no environment.
func order(steps []slipway.Step) (bands, lanes []string) {
	bands = []string{""}
	for _, s := range steps {
		if !slices.Contains(bands, s.Spec.Environment) {
			bands = append(bands, s.Spec.Environment)
		}
		if s.Spec.Service != "" && !slices.Contains(lanes, s.Spec.Service) {
			lanes = append(lanes, s.Spec.Service)
		}
	}
	return bands, lanes
}

func places(steps []slipway.Step, bands, lanes []string) []place {
	at := make([]place, len(steps))
	column := map[string]int{}
	taken := map[place]bool{}
	start := 0
	for b, name := range bands {
		next := start
		for i, s := range steps {
			if s.Spec.Environment != name {
				continue
			}
			p := place{band: b, column: start, lane: max(0, slices.Index(lanes, s.Spec.Service))}
			for _, need := range needs(steps, i) {
				if c, ok := column[need]; ok {
					p.column = max(p.column, c+1)
				}
			}
			for taken[p] {
				p.row++
			}
			taken[p] = true
			at[i], column[s.Spec.Key] = p, p.column
			next = max(next, p.column+1)
		}
		start = next
	}
	return at
}

// needs are the steps that a step follows. Those that need none follow the plan that named them; a
// rollback the last step before it in its service and environment, the one that failed.
func needs(steps []slipway.Step, i int) []string {
	s := steps[i].Spec
	if len(s.Needs) > 0 {
		return s.Needs
	}
	for j := i - 1; j >= 0 && s.Kind == slipway.KindRollback; j-- {
		if o := steps[j].Spec; o.Service == s.Service && o.Environment == s.Environment {
			return []string{o.Key}
		}
	}
	if first := steps[0].Spec; first.Kind == slipway.KindPlan && i > 0 {
		return []string{first.Key}
	}
	return nil
}

// bands places the columns, with a gap between bands, and returns where each column begins.
func (g *graph) bands(names []string, columns map[int]int, left int) []int {
	last := 0
	for c := range columns {
		last = max(last, c)
	}
	x := make([]int, last+1)
	for c := range x {
		b := columns[c]
		if c == 0 || columns[c-1] != b {
			if c > 0 {
				left += gapX
			}
			g.Bands = append(g.Bands, band{X: left - bandPad, Label: clip(names[b], 40)})
		}
		x[c] = left
		g.Bands[len(g.Bands)-1].Width = left + nodeWidth + bandPad - g.Bands[len(g.Bands)-1].X
		left += nodeWidth + gapX
	}
	g.Width = max(left-gapX+bandPad, nodeWidth)
	return x
}

func (g *graph) connect() {
	at, steps := map[string]node{}, make([]slipway.Step, len(g.Nodes))
	for i, n := range g.Nodes {
		at[n.Step.Spec.Key], steps[i] = n, n.Step
	}
	for i, n := range g.Nodes {
		for _, need := range needs(steps, i) {
			from, ok := at[need]
			if !ok {
				continue
			}
			x1, y1, x2, y2 := from.X+nodeWidth, from.Y+nodeHeight/2, n.X, n.Y+nodeHeight/2
			// The turn is made in the last gap, so that a line runs along its lane.
			turn := max(x1, x2-gapX)
			path := fmt.Sprintf("M%d %dH%dC%d %d %d %d %d %d", x1, y1, turn, turn+gapX/2, y1, x2-gapX/2, y2, x2, y2)
			switch {
			case y1 == y2:
				path = fmt.Sprintf("M%d %dH%d", x1, y1, x2)
			case max(y1-y2, y2-y1) > 2*nodeHeight: // to many lanes: they share one line down
				path = fmt.Sprintf("M%d %dH%dV%dH%d", x1, y1, turn+gapX/2, y2, x2)
			}
			g.Edges = append(g.Edges, edge{Path: path, Tone: tone(from.Step.State)})
		}
	}
}

// clip shortens a text for the graph; its whole is in the step's name.
func clip(s string, n int) string {
	r := []rune(visible(s))
	if len(r) <= n {
		return string(r)
	}
	return string(r[:n-1]) + "…"
}

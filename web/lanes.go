package web

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// pageLanes is how many services of a run its graph and its timings show at once.
const pageLanes = 20

// lanes are the services of a run, of which a page shows some: those first that need a look.
type lanes struct {
	Filter   string
	Services int // of the run
	Tally    []laneTally
	Page     paging
	Steps    []slipway.Step // of the services on the page, and those of no service
}

// laneTally is how many services stand in a state, by the worst of their steps.
type laneTally struct {
	State slipway.StepState
	N     int
}

// Many reports whether the run has more services than a page shows.
func (l lanes) Many() bool { return l.Services > pageLanes }

// leavesOut reports whether a service does not fit the filter: its gates are left out too.
func (l lanes) leavesOut(service string) bool {
	return l.Filter != "" && !strings.Contains(service, l.Filter)
}

// lanesOf picks the services that a request asks for. A run with few has all of them, in their own order.
func lanesOf(r *http.Request, steps []slipway.Step, selected string) lanes {
	names, worst := services(steps)
	l := lanes{Services: len(names), Steps: steps}
	if !l.Many() {
		return l
	}
	l.Filter = strings.ToLower(strings.TrimSpace(r.FormValue("service")))
	count := map[slipway.StepState]int{}
	for _, name := range names {
		count[worst[name]]++
	}
	for state, n := range count {
		l.Tally = append(l.Tally, laneTally{state, n})
	}
	slices.SortFunc(l.Tally, func(a, b laneTally) int { return cmp.Compare(urgency(a.State), urgency(b.State)) })
	first := func(name string) int {
		if name == selected && r.FormValue("step") != "" {
			return -1
		}
		return urgency(worst[name])
	}
	names = slices.DeleteFunc(names, l.leavesOut)
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(first(a), first(b)) })
	names, l.Page = paged(r, names, pageLanes)
	place := map[string]int{"": -1}
	for i, name := range names {
		place[name] = i
	}
	l.Steps = slices.DeleteFunc(slices.Clone(steps), func(st slipway.Step) bool { _, on := place[st.Spec.Service]; return !on })
	slices.SortStableFunc(l.Steps, func(a, b slipway.Step) int { return cmp.Compare(place[a.Spec.Service], place[b.Spec.Service]) })
	return l
}

// services lists those of a run's steps, each with the state of the step that needs a look most.
func services(steps []slipway.Step) (names []string, worst map[string]slipway.StepState) {
	worst = map[string]slipway.StepState{}
	for _, st := range steps {
		name := st.Spec.Service
		if name == "" {
			continue
		}
		had, known := worst[name]
		if !known {
			names = append(names, name)
		}
		if !known || urgency(st.State) < urgency(had) {
			worst[name] = st.State
		}
	}
	return names, worst
}

// urgency orders the states of steps: smaller ones want to be looked at first.
func urgency(s slipway.StepState) int {
	order := []slipway.StepState{slipway.StepFailed, slipway.StepErrored, slipway.StepWaiting, slipway.StepRetrying, slipway.StepRunning, slipway.StepReady,
		slipway.StepBlocked, slipway.StepCancelled, slipway.StepSkipped, slipway.StepSucceeded}
	if i := slices.Index(order, s); i >= 0 {
		return i
	}
	return len(order)
}

// Lead says in a sentence what a page shows of many services.
func (l lanes) Lead() string {
	if l.Page.Of == 0 {
		return fmt.Sprintf("None of the %d services has “%s” in its name.", l.Services, visible(l.Filter))
	}
	of := fmt.Sprint(l.Page.Of)
	if l.Filter != "" {
		of = fmt.Sprintf("%d with “%s” in the name, of %d", l.Page.Of, visible(l.Filter), l.Services)
	}
	return fmt.Sprintf("Services %d to %d of %s, those first that need a look.", l.Page.From, l.Page.To, of)
}

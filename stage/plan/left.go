package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/slipway-cd/slipway"
)

// Leave leaves services to the runs that wait for people with the same of them, and then takes the changes of the others
// to what depends on them, as Spread does. It removes from waiting those that run all the same:
//
//   - one that depends on a service which runs, by way of another codebase;
//   - one that a service which runs is deployed after: both are in one run, so that the order holds in every environment;
//   - one of which the steps that are left come after those of a service which runs, as these are superseded with that
//     one's approval; and one whose change made a service run that runs now.
//
// What does not run anyway, as its trigger leaves it out, is not left to anybody.
func Leave(in *Input, waiting map[string]slipway.WaitingRun) {
	all, elsewhere := in.Changes, make([]map[string]Change, len(in.Others))
	for i, o := range in.Others {
		elsewhere[i] = o.Changes
	}
	maps.DeleteFunc(waiting, func(service string, _ slipway.WaitingRun) bool { return !all[service].Changed })
	for {
		in.Changes = maps.Clone(all)
		for i := range in.Others {
			in.Others[i].Changes = maps.Clone(elsewhere[i])
		}
		for service, w := range waiting {
			in.Changes[service] = Change{Left: w.RunID, Why: leftTo(service, w)}
		}
		Spread(in)
		running := in.running()
		before := len(waiting)
		maps.DeleteFunc(waiting, func(service string, w slipway.WaitingRun) bool {
			_, runs := running[service]
			return runs || slices.ContainsFunc(w.With, func(s string) bool { _, runs := running[s]; return runs }) || precedes(service, running)
		})
		if len(waiting) == before {
			return
		}
	}
}

func leftTo(service string, w slipway.WaitingRun) string {
	whose := "its approval"
	if w.For != service {
		whose = "the approval of " + w.For
	}
	return fmt.Sprintf("run #%d of the same code and configuration waits for %s in %s", w.RunID, whose, show(w.Environment))
}

// running are the services that run, those of other codebases too.
func (in Input) running() map[string]slipway.Service {
	out := map[string]slipway.Service{}
	add := func(c slipway.Config, changes map[string]Change) {
		for _, s := range c.Services {
			if changes[s.Name].Changed {
				out[s.Name] = s
			}
		}
	}
	add(in.Config, in.Changes)
	for _, o := range in.Others {
		add(o.Config, o.Changes)
	}
	return out
}

// precedes reports whether one of some services is deployed after another service.
func precedes(service string, running map[string]slipway.Service) bool {
	for _, s := range running {
		if slices.Contains(s.DependsOn, service) || slices.Contains(s.After, service) {
			return true
		}
	}
	return false
}

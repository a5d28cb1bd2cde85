package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Other is another codebase of the run's project, as its default branch is.
type Other struct {
	Codebase   slipway.Codebase
	Commit     string
	CommitTime time.Time
	SourceURL  string         // as Input's
	Config     slipway.Config // as Input's
	Problem    string         // why none of its services can run now; "" when they can
	// Changes are those of the services that the run takes along. Spread fills it in.
	Changes map[string]Change
}

// member is a service of the project with where it is.
type member struct {
	slipway.Service
	other int // index of the codebase in the others; -1: the run's own
}

// span is the services of a project over its codebases.
type span struct {
	own    slipway.Codebase
	others []Other
	all    map[string]member
}

func newSpan(own slipway.Codebase, services []slipway.Service, others []Other) span {
	s := span{own: own, others: others, all: map[string]member{}}
	for i, o := range others {
		for _, svc := range o.Config.Services {
			s.all[svc.Name] = member{svc, i}
		}
	}
	for _, svc := range services {
		s.all[svc.Name] = member{svc, -1}
	}
	return s
}

func (s span) codebase(m member) slipway.Codebase {
	if m.other < 0 {
		return s.own
	}
	return s.others[m.other].Codebase
}

// CheckSpan refuses services of a codebase that do not fit those of the project's others: a name that two
// have, one in dependsOn or after that none has, and a cycle that leads through several codebases.
func CheckSpan(own slipway.Codebase, services []slipway.Service, others []Other) error {
	s := newSpan(own, services, others)
	var problems []string
	for _, svc := range services {
		for _, o := range others {
			if twin, ok := o.Config.Service(svc.Name); ok {
				problems = append(problems, fmt.Sprintf("two services of project %s are named %s: %s of %s, and %s of %s (give one of them another name in slipway.yaml: services: {another-name: {path: %s}})",
					own.Project, svc.Name, join(svc.Dir, svc.Dockerfile), own.Title(), join(twin.Dir, twin.Dockerfile), o.Codebase.Title(), svc.Dir))
			}
		}
		for _, e := range svc.Elsewhere {
			if _, ok := s.all[e.Service]; !ok {
				problems = append(problems, fmt.Sprintf("%s:%d: services.%s: no codebase of project %s has a service %s on its default branch (%s)", configFile, e.Line, svc.Name, own.Project, e.Service, s.known()))
			}
		}
	}
	if cycle := s.cycle(services); cycle != "" {
		problems = append(problems, cycle)
	}
	if len(problems) > 0 {
		return slipway.Errorf(slipway.Invalid, "%s", strings.Join(problems, "\n"))
	}
	return nil
}

// known lists what may be named, for people.
func (s span) known() string {
	var out []string
	for _, o := range s.others {
		for _, svc := range o.Config.Services {
			out = append(out, svc.Name)
		}
	}
	if len(out) == 0 {
		return "the others have none yet: push them first"
	}
	slices.Sort(out)
	return "the others have " + strings.Join(out, ", ")
}

// cycle finds services that come after themselves, by way of other codebases; "" for none.
func (s span) cycle(services []slipway.Service) string {
	done := map[string]bool{}
	var way []string
	var visit func(name string) string
	visit = func(name string) string {
		if at := slices.Index(way, name); at >= 0 {
			return s.describeCycle(append(slices.Clone(way[at:]), name))
		}
		m, ok := s.all[name]
		if done[name] || !ok {
			return ""
		}
		way = append(way, name)
		for _, next := range slices.Concat(m.DependsOn, m.After) {
			if found := visit(next); found != "" {
				return found
			}
		}
		way = way[:len(way)-1]
		done[name] = true
		return ""
	}
	for _, svc := range services {
		if found := visit(svc.Name); found != "" {
			return found
		}
	}
	return ""
}

func (s span) describeCycle(names []string) string {
	parts := make([]string, len(names))
	for i, n := range names {
		parts[i] = fmt.Sprintf("%s (%s)", n, s.codebase(s.all[n]).Title())
	}
	return fmt.Sprintf("a cycle over codebases: %s; take one of these out of dependsOn or after", strings.Join(parts, " -> "))
}

// reach is how a service is reached from one whose code changed.
type reach struct {
	name string
	via  string // what it depends on
	from string // what changed
}

// dependents are the services whose code is made of that of changed ones, nearest first.
func (s span) dependents(changed []string) []reach {
	users := map[string][]string{}
	for _, m := range s.all {
		for _, d := range m.DependsOn {
			users[d] = append(users[d], m.Name)
		}
	}
	seen := map[string]bool{}
	var queue, out []reach
	for _, name := range changed {
		seen[name] = true
		queue = append(queue, reach{name: name, from: name})
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		next := users[at.name]
		slices.Sort(next)
		for _, name := range next {
			if seen[name] {
				continue
			}
			seen[name] = true
			r := reach{name: name, via: at.name, from: at.from}
			queue, out = append(queue, r), append(out, r)
		}
	}
	return out
}

// because says of services which of the changed ones make them run by way of another codebase: their own
// comparison does not tell.
func (s span) because(changed []string) map[string][]string {
	near := span{own: s.own, all: map[string]member{}}
	for name, m := range s.all {
		if m.other < 0 {
			near.all[name] = m
		}
	}
	out := map[string][]string{}
	for _, name := range changed {
		told := map[string]bool{}
		for _, r := range near.dependents([]string{name}) {
			told[r.name] = true
		}
		for _, r := range s.dependents([]string{name}) {
			if !told[r.name] {
				out[r.name] = append(out[r.name], name)
			}
		}
	}
	return out
}

// why is the reason in words, to continue "runs: ".
func (s span) why(r reach) string {
	place := ""
	if via, ok := s.all[r.via]; ok && via.other != s.all[r.name].other {
		place = " of " + s.codebase(via).Title()
	}
	if r.via == r.from {
		return fmt.Sprintf("it depends on %s%s, which changed", r.via, place)
	}
	return fmt.Sprintf("it depends on %s%s, and through it on %s, which changed", r.via, place, r.from)
}

// codeChanged are the run's own services of which more than the chart changed.
func codeChanged(in Input) (out []string) {
	for _, svc := range in.Config.Services {
		if c := in.Changes[svc.Name]; c.Changed && !c.ChartOnly {
			out = append(out, svc.Name)
		}
	}
	return out
}

// Spread takes the changes of a merge to what depends on them over codebases: services of others are run
// from their default branch, and those of the run's own that depend on these are run too. Other events say
// so in their decisions, and run nothing elsewhere.
func Spread(in *Input) {
	if in.Run.Event != slipway.DefaultPush || len(in.Others) == 0 {
		return
	}
	s := newSpan(in.codebase(), in.Config.Services, in.Others)
	changed := codeChanged(*in)
	because := s.because(changed)
	for _, r := range s.dependents(changed) {
		m := s.all[r.name]
		q := Question{Event: in.Run.Event, Ref: in.Run.Ref}
		if m.other >= 0 {
			q.Ref = "refs/heads/" + in.Others[m.other].Codebase.DefaultBranch
		}
		if skipped, _ := triggered(q, m.Service, ""); skipped != "" {
			continue
		}
		if m.other < 0 {
			c := in.Changes[r.name]
			c.Because = because[r.name]
			if !c.Changed || c.ChartOnly {
				c.Changed, c.Unchanged, c.ChartOnly, c.Left, c.Why, c.Since = true, false, false, 0, s.why(r), ""
			}
			in.Changes[r.name] = c
			continue
		}
		o := &in.Others[m.other]
		if o.Changes == nil {
			o.Changes = map[string]Change{}
		}
		o.Changes[r.name] = Change{Changed: true, Why: s.why(r), Because: because[r.name]}
	}
}

// codebase is the one that the run is of.
func (in Input) codebase() slipway.Codebase {
	c := in.Project.Main()
	c.Name = in.Run.Codebase
	return c
}

// Of is the input for the services of another codebase that the run takes along.
func (in Input) Of(o Other) Input {
	in.Source = slipway.Source{Codebase: o.Codebase.Name, Commit: o.Commit}
	in.Run.Ref = "refs/heads/" + o.Codebase.DefaultBranch
	others := []Other{{Codebase: in.codebase(), Commit: in.Run.Commit, SourceURL: in.SourceURL, Config: in.Config}}
	for _, other := range in.Others {
		if other.Codebase.Name != o.Codebase.Name {
			others = append(others, other)
		}
	}
	in.Config, in.Changes, in.CommitTime, in.SourceURL = o.Config, o.Changes, o.CommitTime, o.SourceURL
	in.Others = others
	return in
}

// contexts are the services of other codebases that a service depends on and copies from. Strangers get
// none.
func contexts(in Input, svc slipway.Service) (out []slipway.NamedContext) {
	for _, e := range svc.Elsewhere {
		if !e.Copied || in.Run.Fork || !slices.Contains(svc.DependsOn, e.Service) {
			continue
		}
		for _, o := range in.Others {
			if from, ok := o.Config.Service(e.Service); ok {
				out = append(out, slipway.NamedContext{Name: e.Service, Source: slipway.Source{Codebase: o.Codebase.Name, Commit: o.Commit, Dir: from.Dir}, URL: o.SourceURL})
			}
		}
	}
	return slices.CompactFunc(out, func(a, b slipway.NamedContext) bool { return a.Name == b.Name })
}

// planOthers adds the services of other codebases that depend on what changed.
func planOthers(in Input, p slipway.Plan) slipway.Plan {
	for _, o := range in.Others {
		if len(o.Changes) == 0 {
			continue
		}
		n := name(in)
		n.tag = fmt.Sprintf("%s-%s", slipway.BranchTag(o.Codebase.DefaultBranch, o.Commit), slipway.ShortHash(in.Run.Commit))
		n.chart = fmt.Sprintf("%s.g%s", ChartVersion(o.Codebase.DefaultBranch, in.CommitTime, o.Commit), slipway.ShortHash(in.Run.Commit))
		for _, svc := range o.Config.Services {
			c, ok := o.Changes[svc.Name]
			if !ok {
				continue
			}
			at := fmt.Sprintf("%s of %s at %s", show(o.Codebase.DefaultBranch), o.Codebase.Title(), slipway.ShortHash(o.Commit))
			d := slipway.Decision{Service: svc.Name, Runs: o.Problem == "", Reason: fmt.Sprintf("runs: %s; it is built from %s", c.Why, at)}
			p = because(p, svc.Name, c)
			if d.Runs {
				p.Steps = append(p.Steps, steps(in.Of(o), svc, n)...)
			} else {
				d.Reason = fmt.Sprintf("skipped, although %s: %s is not valid (%s)", c.Why, at, o.Problem)
			}
			p.Decisions = append(p.Decisions, d)
		}
	}
	return p
}

// noteOthers says of services that run what depends on them in other codebases.
func noteOthers(in Input, p slipway.Plan) {
	if len(in.Others) == 0 || in.Run.Fork {
		return
	}
	s := newSpan(in.codebase(), in.Config.Services, in.Others)
	for i, d := range p.Decisions {
		if !d.Runs || d.ChartOnly {
			continue
		}
		var far []string
		for _, r := range s.dependents([]string{d.Service}) {
			if m := s.all[r.name]; m.other >= 0 {
				far = append(far, fmt.Sprintf("%s of %s", r.name, s.codebase(m).Title()))
			}
		}
		if len(far) > 0 {
			p.Decisions[i].Reason += fmt.Sprintf("; what depends on it runs after the merge: %s", strings.Join(far, ", "))
		}
	}
}

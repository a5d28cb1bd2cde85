// Package promote plans how a release reaches environments: gates judge it, people agree where they must, production
// gets its own names for the same digests, Helm deploys, the result is verified, and only then the
// next environment is tried. Nothing is rebuilt. It is pure: it plans, the engine runs.
package promote

import (
	"fmt"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

// Input is what a promotion follows from.
type Input struct {
	Project slipway.Project
	Run     slipway.Run
	Config  slipway.Config
	// Current is what runs now: the deployments of the project's targets that Helm deployed last,
	// in any order. A release is not planned over a newer version (D1).
	Current []slipway.Deployment
	// Quarantined says why a version must not be deployed (D10).
	Quarantined slipway.Quarantines
}

// Candidate is a published version of a service.
type Candidate struct {
	Service      slipway.Service
	Version      string // as people name it: v1.0.2, main-1a2b3c4
	Tag          string // of the image
	ChartVersion string
	Commit       string
	Needs        []string // steps of the same run that must have succeeded first
}

// Extend adds to a run's plan the way of everything it publishes through the environments that the
// run's event triggers, in their order. A service that may not go on says so in its decision, and is
// built and published all the same.
func Extend(p slipway.Plan, in Input) (slipway.Plan, error) {
	if _, ok := triggers()[in.Run.Event]; !ok {
		return p, nil
	}
	envs := in.environments()
	out := p
	out.Decisions = append([]slipway.Decision(nil), p.Decisions...)
	out.Steps = append([]slipway.PlanStep{}, p.Steps...)
	for _, c := range candidates(p, in.Config) {
		steps, stopped, err := chain(in, c, envs)
		if err != nil {
			return p, err
		}
		out.Steps = append(out.Steps, steps...)
		if stopped != "" {
			note(out.Decisions, c.Service.Name, stopped)
		}
	}
	order(out.Steps, in.Config)
	return out, nil
}

// Plan plans the way of candidates through the environments given, in their order: what a person
// asks for by hand. What Extend would note and leave out is an error here.
func Plan(in Input, candidates []Candidate, envs []slipway.Environment) (slipway.Plan, error) {
	p := slipway.Plan{Steps: []slipway.PlanStep{}}
	for _, c := range candidates {
		steps, stopped, err := chain(in, c, envs)
		if err != nil {
			return slipway.Plan{}, err
		}
		if stopped != "" {
			return slipway.Plan{}, slipway.Errorf(slipway.Conflict, "%s %s is %s", c.Service.Name, c.Version, stopped)
		}
		p.Steps = append(p.Steps, steps...)
		p.Decisions = append(p.Decisions, slipway.Decision{Service: c.Service.Name, Runs: true,
			Reason: fmt.Sprintf("runs: promotion of %s to %s", c.Version, names(envs))})
	}
	order(p.Steps, in.Config)
	return p, nil
}

// environments are those that the run's event triggers, in their order.
func (in Input) environments() (out []slipway.Environment) {
	trigger, ok := triggers()[in.Run.Event]
	for _, e := range in.Config.Environments {
		if ok && e.Trigger == trigger {
			out = append(out, e)
		}
	}
	return out
}

func triggers() map[slipway.EventKind]slipway.Trigger {
	return map[slipway.EventKind]slipway.Trigger{
		slipway.DefaultPush: slipway.OnDefaultBranch,
		slipway.ReleasePush: slipway.OnRelease,
	}
}

// candidates are what the plan publishes.
func candidates(p slipway.Plan, c slipway.Config) []Candidate {
	attested := map[string]bool{}
	for _, s := range p.Steps {
		attested[s.Service] = attested[s.Service] || s.Attest != nil
	}
	var out []Candidate
	for _, s := range p.Steps {
		svc, ok := c.Service(s.Service)
		if s.Publish == nil || !ok {
			continue
		}
		last := s.Key
		if attested[s.Service] {
			last = slipway.StepKey(slipway.KindAttest, s.Service, "")
		}
		out = append(out, Candidate{
			Service: svc, Version: s.Publish.Tag, Tag: s.Publish.Tag,
			ChartVersion: s.Publish.ChartVersion, Commit: s.Publish.Commit, Needs: []string{last},
		})
	}
	return out
}

// note adds to a service's decision why it goes no further.
func note(decisions []slipway.Decision, service, why string) {
	for i := range decisions {
		if decisions[i].Service == service {
			decisions[i].Reason += "; " + why
		}
	}
}

// stop says why a candidate may not be deployed to an environment, "" when it may.
func stop(in Input, c Candidate, env slipway.Environment) string {
	if why := in.Quarantined.Why(c.Service.Name, c.Version); why != "" {
		return fmt.Sprintf("not deployed to %s: %s is in quarantine (%s); lift that first", env.Name, c.Version, why)
	}
	v, err := slipway.ParseVersion(c.Version)
	if err != nil {
		return "" // a commit of the default branch: such versions have no order
	}
	for _, d := range in.Current {
		if d.Target.Service != c.Service.Name || d.Target.Environment != env.Name {
			continue
		}
		if now, err := slipway.ParseVersion(d.Version); err == nil && v.Compare(now) < 0 {
			return fmt.Sprintf("not deployed to %s: the newer %s runs there, and only a rollback goes back (slipway rollback %s --env %s --to %s)",
				env.Name, d.Version, c.Service.Name, env.Name, c.Version)
		}
	}
	return ""
}

// order makes a deployment wait until the services it depends on or comes after, deployed to the same environment
// by the same plan, are verified.
func order(steps []slipway.PlanStep, c slipway.Config) {
	planned := map[string]bool{}
	for _, s := range steps {
		planned[s.Key] = true
	}
	for i := range steps {
		if steps[i].Kind != slipway.KindDeploy {
			continue
		}
		svc, _ := c.Service(steps[i].Service)
		for _, dep := range append(slices.Clone(svc.DependsOn), svc.After...) {
			if key := slipway.StepKey(slipway.KindVerify, dep, steps[i].Environment); planned[key] {
				steps[i].Needs = append(steps[i].Needs, key)
			}
		}
	}
}

func names(envs []slipway.Environment) string {
	out := ""
	for i, e := range envs {
		if i > 0 {
			out += ", "
		}
		out += e.Name
	}
	return out
}

// slack is what a step is given beyond the time it waits by itself, so that its own verdict (the
// workloads are not ready) comes before the engine's timeout (an error of the surroundings).
const slack = slipway.Duration(time.Minute)

package promote

import (
	"cmp"
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
)

// maxRelease is the longest name of a Helm release: 63 of a label, less what Helm and charts append.
const maxRelease = 53

const gateTimeout = slipway.Duration(5 * time.Minute)

const retagTimeout = slipway.Duration(15 * time.Minute)

// chain is the way of one candidate through environments, each after the one before it is verified:
// gate, [approve], [retag], deploy, verify. It ends at the first environment that the candidate may not
// enter, with the reason.
func chain(in Input, c Candidate, envs []slipway.Environment) (steps []slipway.PlanStep, stopped string, err error) {
	needs, retagged := c.Needs, false
	for _, env := range envs {
		if why := stop(in, c, env); why != "" {
			return steps, why, nil
		}
		target, err := targetOf(in.Project.Name, c.Service, env)
		if err != nil {
			return nil, "", err
		}
		deploy := deploySpec(in, c, env, target)
		g := newStep(in, slipway.KindGate, target, gateTimeout, needs)
		g.Gate = &slipway.GateSpec{Environment: env.Name, Production: env.Production, Version: c.Version}
		steps, needs = append(steps, g), []string{g.Key}
		if env.Approvals.Required > 0 {
			s := newStep(in, slipway.KindApprove, target, 0, needs)
			s.Approve = &slipway.ApproveSpec{Deploy: deploy, Approvals: env.Approvals}
			steps, needs = append(steps, s), []string{s.Key}
		}
		if env.Production && !retagged {
			s := newStep(in, slipway.KindRetag, target, retagTimeout, needs)
			s.Retag = retagSpec(in, c)
			steps, needs, retagged = append(steps, s), []string{s.Key}, true
		}
		d := newStep(in, slipway.KindDeploy, target, max(in.Config.Limits.DeployTimeout, target.Timeout+slack), needs)
		d.Deploy, d.Lock = &deploy, target.Lock()
		v := newStep(in, slipway.KindVerify, target, 2*target.Timeout+slack, []string{d.Key})
		v.Verify, v.Lock = &slipway.VerifySpec{Target: target, Version: c.Version, Mode: deploy.Mode}, target.Lock()
		steps, needs = append(steps, d, v), []string{v.Key}
	}
	return steps, "", nil
}

func newStep(in Input, kind slipway.StepKind, t slipway.Target, timeout slipway.Duration, needs []string) slipway.PlanStep {
	return slipway.PlanStep{
		Key: slipway.StepKey(kind, t.Service, t.Environment), Kind: kind, Service: t.Service, Environment: t.Environment,
		Needs: append([]string(nil), needs...), Timeout: timeout, Retries: in.Config.Limits.Retries,
	}
}

// targetOf is where a service runs in an environment: one Helm release, named after the service
// (D3, D19).
func targetOf(project string, svc slipway.Service, env slipway.Environment) (slipway.Target, error) {
	if len(svc.Name) > maxRelease {
		return slipway.Target{}, slipway.Errorf(slipway.Invalid, "service %q: its Helm release would have that name, and those have at most %d characters; give it a shorter one with services.<name>.path in slipway.yaml", svc.Name, maxRelease)
	}
	return slipway.Target{
		Project: project, Environment: env.Name, Service: svc.Name,
		Cluster: env.Cluster, Namespace: env.Namespace, Release: svc.Name,
		Values: env.Values, HistoryMax: env.HistoryMax,
		Timeout: cmp.Or(slipway.Duration(svc.Verify.Timeout), env.Timeout), Tests: svc.Verify.Tests,
	}, nil
}

func deploySpec(in Input, c Candidate, env slipway.Environment, target slipway.Target) slipway.DeploySpec {
	registry := in.Config.Candidates
	if env.Production {
		registry = in.Config.Production
	}
	return slipway.DeploySpec{
		Target: target, Version: c.Version, Commit: c.Commit,
		Image: slipway.Repository{Registry: registry, Name: registry.Image(in.Project.Name, c.Service.Name)}, Tag: c.Tag,
		Chart:      slipway.Repository{Registry: registry, Name: registry.Chart(in.Project.Name, c.Service.Name)},
		Mode:       cmp.Or(c.Service.Rollback, slipway.RollbackAutomatic),
		Reason:     fmt.Sprintf("%s %s (%s) by run %d", c.Service.Name, c.Version, slipway.ShortHash(c.Commit), in.Run.ID),
		Production: env.Production,
	}
}

func retagSpec(in Input, c Candidate) *slipway.RetagSpec {
	repository := func(r slipway.Registry, name string) slipway.Repository {
		return slipway.Repository{Registry: r, Name: name}
	}
	from, to, project, service := in.Config.Candidates, in.Config.Production, in.Project.Name, c.Service.Name
	return &slipway.RetagSpec{
		FromImage: repository(from, from.Image(project, service)), ToImage: repository(to, to.Image(project, service)), Tag: c.Tag,
		FromChart: repository(from, from.Chart(project, service)), ToChart: repository(to, to.Chart(project, service)),
		ChartVersion: c.ChartVersion,
	}
}

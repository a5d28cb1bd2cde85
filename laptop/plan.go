package laptop

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/repos"
	"github.com/slipway-cd/slipway/stage"
)

// hereBranch is the default branch as the planner sees it on a laptop: what lies there governs. No branch
// has such a name.
const hereBranch = "the working tree"

// Request is what a run on the laptop is asked for.
type Request struct {
	Event    slipway.EventKind
	Base     string // commit; "" compares with nothing
	BaseName string // what people call it
	Services []string
	To       *Destination // nil: nothing is deployed
}

// Plan is what the server would plan for the working tree if it were pushed, cut down to what can
// be done without one.
type Plan struct {
	slipway.Plan
	Run  slipway.Run
	Left []string     // kinds of steps that were left out, in stage.Order
	To   *Destination // nil: nothing is deployed
}

// ask asks the server's planner.
func (x Checkouts) ask(ctx context.Context, req Request) (Plan, error) {
	w := x.here.w
	run := slipway.Run{ID: 1, Project: x.here.codebase.Project, Codebase: x.here.codebase.Name, Event: req.Event, Commit: w.Commit, Actor: "you", Title: "the working tree"}
	named := req.Services
	switch req.Event {
	case slipway.ReleasePush:
		branch, err := localRelease(w.Branch, named)
		if err != nil {
			return Plan{}, err
		}
		run.Ref, run.Service, run.Version = "refs/heads/release/"+branch.Service+"/"+branch.Version.Leaf, branch.Service, branch.Version.Leaf
		named = nil
	case slipway.PullUpdate:
		run.Ref, run.Base = "refs/pull/0/head", cmp.Or(req.BaseName, "nothing")
	default:
		run.Ref = "refs/heads/" + cmp.Or(w.Branch, "working-tree")
	}
	if len(named) > 0 {
		req.Base = "" // everything counts as changed
	}
	branches := map[string]string{run.Base: req.Base, hereBranch: w.Commit}
	if req.Event == slipway.BranchPush { // is compared with the default branch, which then governs
		branches[hereBranch] = req.Base
	}
	planner, of := x.planner(hereBranch, branches)
	planner.History = localHistory{req.Base}
	made, err := planner.Plan(ctx, of, run)
	if err != nil {
		return Plan{}, w.Lacking(x.explain(ctx, err))
	}
	p := Plan{Plan: made, Run: run}
	if len(named) > 0 {
		if err := p.only(named); err != nil {
			return Plan{}, err
		}
	}
	p.cut(req.To)
	return p, nil
}

// Plan plans for what lies here; c is what its configuration says. Of services that are deployed afterwards those of
// which nothing but the chart changed are built too, as no image of them is known here.
func (x Checkouts) Plan(ctx context.Context, req Request, c slipway.Config) (Plan, error) {
	p, err := x.ask(ctx, req)
	if err != nil || req.To == nil {
		return p, err
	}
	var run []string
	again := false
	for i, d := range p.Decisions {
		if d.Runs {
			run, again = append(run, d.Service), again || d.ChartOnly
		}
		if d.Runs && d.ChartOnly {
			p.Decisions[i].Reason += "; it is built too, to be deployed from here"
		}
	}
	if again {
		req.Services = run
		whole, err := x.ask(ctx, req)
		if err != nil {
			return p, err
		}
		p.Steps = whole.Steps
	}
	return p, p.deliver(req.To, c)
}

// localRelease is the release that is asked for: the branch's own, else the named service at 0.0.0.
func localRelease(branch string, services []string) (slipway.ReleaseBranch, error) {
	on, ok, err := slipway.ParseReleaseRef("refs/heads/" + branch)
	if ok && len(services) == 0 {
		return on, err
	}
	if len(services) != 1 {
		return slipway.ReleaseBranch{}, slipway.Errorf(slipway.Invalid, "--event release: name one SERVICE, or be on a branch release/<service>/<version>")
	}
	if ok && err == nil && on.Service == services[0] {
		return on, nil
	}
	on, _, err = slipway.ParseReleaseRef("refs/heads/release/" + services[0] + "/0.0.0")
	return on, err
}

// only keeps the named services, which run whatever changed.
func (p *Plan) only(named []string) error {
	var known []string
	p.Decisions = slices.DeleteFunc(p.Decisions, func(d slipway.Decision) bool { return d.Removed })
	for i := range p.Decisions {
		d := &p.Decisions[i]
		known = append(known, d.Service)
		switch {
		case slices.Contains(named, d.Service) && d.Runs:
			d.Reason = "runs: named on the command line, whatever files changed"
		case !slices.Contains(named, d.Service):
			d.Runs, d.Reason = false, "skipped, not named on the command line"
		}
	}
	for _, name := range named {
		if !slices.Contains(known, name) {
			return slipway.Errorf(slipway.NotFound, "there is no service %q here; there are: %s", name, cmp.Or(strings.Join(known, ", "), "none"))
		}
	}
	p.Steps = slices.DeleteFunc(p.Steps, func(s slipway.PlanStep) bool { return !slices.Contains(named, s.Service) })
	return nil
}

// cut leaves out the steps that need a server, a registry or a cluster. What is built stays in the
// cache of BuildKit and is pushed nowhere, unless it is to be deployed.
func (p *Plan) cut(to *Destination) {
	var kept []slipway.PlanStep
	left := map[slipway.StepKind]bool{}
	for _, s := range p.Steps {
		switch s.Kind {
		case slipway.KindBuild:
			build := *s.Build
			if build.Image = nil; to != nil {
				image := to.image(p.Run.Project, s.Service)
				build.Image = &image
			}
			s.Build = &build
			kept = append(kept, s)
		case slipway.KindTest, slipway.KindChart:
			kept = append(kept, s)
		default:
			left[s.Kind] = true
		}
	}
	for _, kind := range stage.Order() {
		if left[kind] {
			p.Left = append(p.Left, string(kind))
		}
	}
	p.Steps = kept
}

// localRepo is the repository as the planner may see it.
type localRepo struct {
	repos.Repo
	branches map[string]string // name -> commit, "" for one that is not there
}

// Resolve knows its own branches.
func (r localRepo) Resolve(_ context.Context, ref string) (string, error) {
	name, _ := strings.CutPrefix(ref, "refs/heads/")
	if commit := r.branches[name]; commit != "" {
		return commit, nil
	}
	return "", slipway.Errorf(slipway.NotFound, "%s is not looked at on a laptop", ref)
}

// localProject is the only project of a laptop.
type localProject struct{ p slipway.Project }

// CreateProject makes none.
func (l localProject) CreateProject(context.Context, slipway.Project, string) (slipway.Project, error) {
	return slipway.Project{}, slipway.Errorf(slipway.Invalid, "there is no server to make a project on")
}

// Project returns it.
func (l localProject) Project(context.Context, string) (slipway.Project, error) { return l.p, nil }

// Projects returns it.
func (l localProject) Projects(context.Context) ([]slipway.Project, error) {
	return []slipway.Project{l.p}, nil
}

// localHistory is that nothing was ever released or deployed; the ref was built at a commit.
type localHistory struct{ built string }

// Built is what the working tree is compared with.
func (h localHistory) Built(context.Context, string, string, string, int64) (slipway.Built, error) {
	return slipway.Built{Rest: slipway.Done{Commit: h.built}}, nil
}

// Images finds none: what is built here is pushed nowhere.
func (localHistory) Images(context.Context, string, string) ([]slipway.Artifact, error) {
	return nil, nil
}

// Tried finds that nothing was.
func (localHistory) Tried(context.Context, string, string, string, int64) (bool, error) {
	return false, nil
}

// ActiveRun finds none.
func (localHistory) ActiveRun(context.Context, string, string, string, int64) (int64, error) {
	return 0, nil
}

// Ahead finds none.
func (localHistory) Ahead(context.Context, string, string, string, int64) (int64, error) {
	return 0, nil
}

// Release finds none.
func (localHistory) Release(context.Context, string, string, string) (slipway.Release, error) {
	return slipway.Release{}, slipway.Errorf(slipway.NotFound, "nothing is released on a laptop")
}

// Quarantines finds none.
func (localHistory) Quarantines(context.Context, string, string) (slipway.Quarantines, error) {
	return nil, nil
}

// Board is empty.
func (localHistory) Board(context.Context, string, []string, []string) (slipway.Board, error) {
	return slipway.Board{}, nil
}

// Clusters are not known, and so not checked.
func (localHistory) Clusters(context.Context) ([]slipway.Cluster, error) { return nil, nil }

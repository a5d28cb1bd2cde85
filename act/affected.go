package act

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/source"
)

// affected finds which services a run's commit affects, and the revisions of those. It leaves alone what
// others fill in of the input meanwhile.
func (p *Planner) affected(ctx context.Context, repo *snapshot, in *plan.Input) error {
	run := in.Run
	q, err := p.question(ctx, repo, in)
	if err != nil {
		return err
	}
	in.Turn = q.Built.Turn
	for _, since := range q.Since {
		in.Since = append(in.Since, since.Commit)
	}
	if run.Event == slipway.ReleasePush { // whatever changed (D1)
		in.Changes = map[string]plan.Change{run.Service: {Changed: true}}
	} else {
		answer, err := affectedSince(ctx, repo, q, run.Commit)
		if err != nil {
			return err
		}
		in.Changes, in.Removed = answer.Changes, answer.Removed
		waiting, err := p.waiting(ctx, repo, q, in)
		if err != nil {
			return err
		}
		plan.Leave(in, waiting)
	}
	if err := p.built(ctx, repo, q, in); err != nil {
		return err
	}
	return p.revisions(ctx, repo, in)
}

// affectedSince answers the question of a commit, with what the repository knows of the folders that matter.
func affectedSince(ctx context.Context, repo *snapshot, q plan.Question, commit string) (plan.Answer, error) {
	a := plan.Affected(q)
	q.Since = slices.Clone(q.Since)
	again := false
	for i, folders := range a.Doubts {
		moved, err := repo.moved(ctx, q.Since[i].Commit, commit, folders)
		if err != nil {
			return a, err
		}
		q.Since[i].Folders = moved
		again = again || len(moved) > 0
	}
	if again {
		a = plan.Affected(q)
	}
	return a, nil
}

// question is what the run's event asks: what changed since what was built before.
func (p *Planner) question(ctx context.Context, repo *snapshot, in *plan.Input) (plan.Question, error) {
	run := in.Run
	q := plan.Question{Event: run.Event, Ref: run.Ref, DefaultBranch: in.Project.DefaultBranch, Config: in.Config, Ignores: &p.ignores}
	if run.Event == slipway.ReleasePush {
		return q, nil
	}
	ask := source.Input{Event: run.Event, Commit: run.Commit, DefaultTip: in.DefaultTip}
	var err error
	if q.Built, err = p.History.Built(ctx, in.Project.Name, run.Codebase, run.Ref, run.ID); err != nil {
		return q, err
	}
	if run.Event != slipway.DefaultPush { // nothing else delivers what it leaves behind
		q.Built.Unfinished, q.Built.Waiting = nil, nil
	}
	bases := plan.Bases(q.Built, in.Config.Services)
	for i, b := range bases {
		if i == 0 {
			ask.Before = b.Commit
		} else {
			ask.Earlier = append(ask.Earlier, b.Commit)
		}
	}
	base := in.Project.DefaultBranch
	if run.Event == slipway.PullUpdate {
		base = run.Base
		if ask.BaseTip, err = repo.branchTip(ctx, base); err != nil {
			return q, err
		}
	}
	found, err := source.Changes(ctx, repo, ask)
	if err != nil {
		return q, err
	}
	for _, d := range found {
		since := plan.Since{Files: d.Files, Commit: d.Base, Name: "the run before"}
		if i := slices.IndexFunc(bases, func(b plan.Since) bool { return b.Commit == d.Base }); i >= 0 && !d.Fork {
			since.Services = bases[i].Services
		}
		if d.Fork {
			since.Name, since.Fork = base, true
		}
		if since.Config, err = p.configAt(ctx, repo, in, d.Base); err != nil {
			return q, err
		}
		q.Since = append(q.Since, since)
	}
	if len(found) > 0 {
		return q, nil
	}
	tried, err := p.History.Tried(ctx, in.Project.Name, run.Codebase, run.Ref, run.ID)
	switch {
	case p.Shallow:
		q.Nothing = "this clone is shallow, and has nothing to compare with"
	case tried:
		q.Nothing = "no run of " + strings.TrimPrefix(run.Ref, "refs/heads/") + " has succeeded yet"
	case run.Event != slipway.DefaultPush && (ask.BaseTip != "" || ask.DefaultTip != ""):
		q.Nothing = fmt.Sprintf("its commit has none in common with %s, so there is nothing to compare with", base)
	}
	return q, err
}

// configAt is what an earlier commit said, nil when that was not valid. Environments matter where the
// default branch moved, as nothing else changes what is deployed.
func (p *Planner) configAt(ctx context.Context, repo *snapshot, in *plan.Input, commit string) (*slipway.Config, error) {
	own, problems, err := p.services(ctx, slipway.CodebaseKey(in.Project.Name, in.Run.Codebase), commit, repo.Tree)
	if err != nil || len(problems) > 0 {
		return nil, err
	}
	policy := in.Config
	if in.Run.Event == slipway.DefaultPush && in.Run.Codebase == "" {
		if policy, problems, err = p.policyAt(ctx, in.Project.Name, commit, repo.Tree); err != nil || len(problems) > 0 {
			return nil, err
		}
	}
	c := config.Combine(own, policy)
	return &c, nil
}

// built finds the images of services of which nothing but the chart changed (S23): the newest one that the
// default branch published of the same code.
func (p *Planner) built(ctx context.Context, repo *snapshot, q plan.Question, in *plan.Input) error {
	if in.Run.Event != slipway.DefaultPush {
		return nil
	}
	for name, c := range in.Changes {
		if !c.ChartOnly {
			continue
		}
		images, err := p.History.Images(ctx, in.Project.Name, name)
		if err != nil {
			return err
		}
		for _, image := range images {
			same, err := p.sameCode(ctx, repo, q, in, name, image)
			if err != nil {
				return err
			}
			if same {
				c.Built = &slipway.BuiltImage{Digest: image.Digest, Size: image.Size, Commit: image.Commit, RunID: image.RunID}
				in.Changes[name] = c
				break
			}
		}
	}
	return nil
}

// sameCode reports whether an image is of the code that the run's commit has of a service.
func (p *Planner) sameCode(ctx context.Context, repo *snapshot, q plan.Question, in *plan.Input, service string, image slipway.Artifact) (bool, error) {
	where := slipway.Repository{Registry: in.Config.Candidates, Name: in.Config.Candidates.Image(in.Project.Name, service)}
	if image.Repository != where.Ref() {
		return false, nil
	}
	changes, known, err := p.changedSince(ctx, repo, q, in, image.Commit)
	c := changes[service]
	return known && (!c.Changed || c.ChartOnly), err
}

// revisions finds the newest commits that touched the services that run, and the time of the run's own.
func (p *Planner) revisions(ctx context.Context, repo *snapshot, in *plan.Input) error {
	const chart = " chart" // no name of a service has a space
	sets := map[string][]source.Set{"": {{Include: []string{"."}}}}
	var run []string
	for name, c := range in.Changes {
		if c.Changed {
			run = append(run, name)
		}
	}
	for name, inputs := range plan.InputsOf(in.Config, run...) {
		sets[name] = sourceSets(inputs.Code)
		if len(inputs.Chart) > 0 && (in.Run.Event != slipway.BranchPush || in.Changes[name].ChartOnly) {
			sets[name+chart] = sourceSets(inputs.Chart)
		}
	}
	found, err := source.Revisions(ctx, repo, in.Run.Commit, sets)
	if err != nil {
		return err
	}
	in.CommitTime = found[""].Time
	for name, c := range in.Changes {
		c.Revision, c.RevisionTime = found[name].Commit, found[name].Time
		if later := found[name+chart]; later.Commit != "" {
			if later, err = source.Newer(ctx, repo, found[name], later); err != nil {
				return err
			}
			c.ChartRevision, c.ChartRevisionTime = later.Commit, later.Time
		}
		in.Changes[name] = c
	}
	return nil
}

func sourceSets(sets []plan.Set) (out []source.Set) {
	for _, s := range sets {
		out = append(out, source.Set(s))
	}
	return out
}

// differences remembers what differs between two commits, which never changes. Its zero value is ready, and
// it is safe for concurrent use.
type differences struct {
	mu    sync.Mutex
	known map[difference][]source.FileChange
	order []difference // oldest first
}

type difference struct{ codebase, base, head string }

const (
	maxDifferences = 32
	maxDiffering   = 10_000 // files of one that is remembered
)

func (d *differences) get(k difference) ([]source.FileChange, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	files, ok := d.known[k]
	return files, ok
}

func (d *differences) put(k difference, files []source.FileChange) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.known[k]; ok || len(files) > maxDiffering {
		return
	}
	if d.known == nil {
		d.known = map[difference][]source.FileChange{}
	}
	if len(d.order) == maxDifferences {
		delete(d.known, d.order[0])
		d.order = d.order[1:]
	}
	d.known[k] = files
	d.order = append(d.order, k)
}

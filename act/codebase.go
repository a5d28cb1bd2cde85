package act

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage/plan"
)

// Codebases is where the further codebases of projects are kept.
type Codebases interface {
	// Codebases lists those of a project by name, without the main one.
	Codebases(ctx context.Context, project string) ([]slipway.Codebase, error)
	CreateCodebase(ctx context.Context, c slipway.Codebase, actor string) (slipway.Codebase, error)
	RemoveCodebase(ctx context.Context, project, name, actor string) error
}

// all are the codebases of a project, the main one first.
func (p *Planner) all(ctx context.Context, project string) ([]slipway.Codebase, error) {
	pr, err := p.Projects.Project(ctx, project)
	if err != nil {
		return nil, err
	}
	out := []slipway.Codebase{pr.Main()}
	if p.Codebases == nil {
		return out, nil
	}
	further, err := p.Codebases.Codebases(ctx, project)
	return append(out, further...), err
}

// Codebase is the codebase of a key: of a project's name for its main one, of project/name for another.
func (p *Planner) Codebase(ctx context.Context, key string) (slipway.Codebase, error) {
	project, name := slipway.SplitCodebase(key)
	all, err := p.all(ctx, project)
	if err != nil {
		return slipway.Codebase{}, err
	}
	for _, c := range all {
		if c.Name == name {
			return c, nil
		}
	}
	return slipway.Codebase{}, slipway.Errorf(slipway.NotFound, "project %s has no codebase %q", project, name)
}

// serviceOptions are what the services of a codebase are read with: options, and the keys of the project's
// codebases that are delivered from where they are linked.
func (p *Planner) serviceOptions(ctx context.Context, key string) (o config.Options, linked []string, err error) {
	project, name := slipway.SplitCodebase(key)
	o = p.options(project, nil)
	if p.Codebases == nil {
		if o.Several = p.Lone != ""; p.Lone != slipway.MainCodebase {
			o.Further = p.Lone
		}
		return o, nil, nil
	}
	all, err := p.all(ctx, project)
	if err != nil || len(all) == 1 && name == "" {
		return o, nil, err
	}
	for _, c := range all {
		if c.Linked {
			linked = append(linked, c.Key())
		}
	}
	o.Several, o.Further = true, name
	if name == "" {
		return o, linked, nil
	}
	main := p.snapshot(project)
	tip, err := main.branchTip(ctx, all[0].DefaultBranch)
	if err != nil || tip == "" {
		return o, linked, err
	}
	own, _, err := p.services(ctx, project, tip, main.Tree)
	o.Pins = own.Pins
	return o, linked, err
}

// given tells what services were read with from what others were.
func given(o config.Options, linked []string) string {
	if !o.Several {
		return ""
	}
	var pins []string
	for image, digest := range o.Pins {
		pins = append(pins, image+"="+digest)
	}
	slices.Sort(pins)
	return fmt.Sprintf("several %q %q", linked, pins)
}

// readServices reads the services of a tree. Those in a submodule are services of the codebase that the
// submodule is of, unless that is delivered from where it is linked.
func readServices(files fs.FS, o config.Options, mounts map[string]string, linked []string) (slipway.Config, config.Problems) {
	c, problems := config.LoadServices(files, o)
	c.Services = slices.DeleteFunc(c.Services, func(s slipway.Service) bool {
		for at, key := range mounts {
			if (s.Dir == at || strings.HasPrefix(s.Dir, at+"/")) && !slices.Contains(linked, key) {
				return true
			}
		}
		return false
	})
	for i := range c.Services {
		c.Services[i].Codebase = o.Further
	}
	return c, problems
}

// others are the project's codebases beside one, as their default branches are; those that are linked have
// no services of their own. policy is what governs the project.
func (p *Planner) others(ctx context.Context, c slipway.Codebase, policy slipway.Config) ([]plan.Other, error) {
	all, err := p.all(ctx, c.Project)
	if err != nil || len(all) == 1 {
		return nil, err
	}
	found := make([]plan.Other, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, o := range all {
		if o.Name == c.Name || o.Linked {
			continue
		}
		group.Go(func() (err error) {
			found[i], err = p.other(ctx, o, policy)
			return err
		})
	}
	err = group.Wait()
	return slices.DeleteFunc(found, func(o plan.Other) bool { return o.Commit == "" }), err
}

// other is one codebase as its default branch is; without a commit where there is no such branch yet.
func (p *Planner) other(ctx context.Context, c slipway.Codebase, policy slipway.Config) (plan.Other, error) {
	repo := p.snapshot(c.Key())
	tip, err := repo.branchTip(ctx, c.DefaultBranch)
	if err != nil {
		return plan.Other{}, fmt.Errorf("read the default branch of %s: %w", c.Title(), err)
	}
	if tip == "" {
		return plan.Other{}, nil
	}
	own, problems, err := p.services(ctx, c.Key(), tip, repo.Tree)
	if err != nil {
		return plan.Other{}, err
	}
	o := plan.Other{Codebase: c, Commit: tip, SourceURL: p.sourceURL(c), Config: config.Combine(own, p.follows(c, policy, own))}
	if len(problems) > 0 {
		o.Problem = problems[0].String()
	}
	return o, nil
}

// home finds the codebase beside one that has a service on its default branch.
func (p *Planner) home(ctx context.Context, beside slipway.Codebase, service string) (slipway.Codebase, bool, error) {
	others, err := p.others(ctx, beside, slipway.Config{})
	for _, o := range others {
		if _, ok := o.Config.Service(service); ok {
			return o.Codebase, true, err
		}
	}
	return slipway.Codebase{}, false, err
}

// follows is a policy with what follows a deployment of a codebase's services: its own default branch says
// so, of which head are the services.
func (p *Planner) follows(c slipway.Codebase, policy, head slipway.Config) slipway.Config {
	if c.Name != "" {
		policy.Services = head.Services
	}
	return policy
}

func (p *Planner) sourceURL(c slipway.Codebase) string {
	return first(c.GitURL, p.URL+"/git/"+c.Key()+".git")
}

func elsewhere(own slipway.Config) bool {
	return slices.ContainsFunc(own.Services, func(s slipway.Service) bool { return len(s.Elsewhere) > 0 })
}

// changesFollows reports whether a head of a further codebase changes what follows a deployment of one of its
// services, or what counts as its scan.
func (p *Planner) changesFollows(ctx context.Context, c slipway.Codebase, repo PlanRepo, base, head string) (bool, error) {
	before, _, err := p.services(ctx, c.Key(), base, repo.Tree)
	if err != nil {
		return false, err
	}
	after, _, err := p.services(ctx, c.Key(), head, repo.Tree)
	if err != nil {
		return false, err
	}
	for _, s := range after.Services {
		was, ok := before.Service(s.Name)
		if !ok {
			was.Rollback, was.Verify.Tests = slipway.RollbackAutomatic, true
		}
		if was.Rollback != s.Rollback || was.Verify != s.Verify || !slices.Equal(was.Scan.Reports, s.Scan.Reports) {
			return true, nil
		}
	}
	return false, nil
}

// revisionsElsewhere finds the revisions of the services of other codebases that a run takes along.
func (p *Planner) revisionsElsewhere(ctx context.Context, in *plan.Input) error {
	for i := range in.Others {
		o := &in.Others[i]
		if len(o.Changes) == 0 {
			continue
		}
		at := in.Of(*o)
		at.Run.Commit = o.Commit
		if err := p.revisions(ctx, p.snapshot(o.Codebase.Key()), &at); err != nil {
			return fmt.Errorf("find the revisions of %s: %w", o.Codebase.Title(), err)
		}
		o.CommitTime = at.CommitTime
	}
	return nil
}

// Codebases lists the codebases of a project, the main one first.
func (x *Actions) Codebases(ctx context.Context, by slipway.User, project string) ([]slipway.Codebase, error) {
	if err := auth.Check(by, auth.View, project); err != nil {
		return nil, err
	}
	return x.o.Planner.all(ctx, project)
}

// CreateCodebase adds a further codebase to a project: its repository is hosted here, or mirrors GitURL.
// Without a default branch it is main, or the one of what is mirrored.
func (x *Actions) CreateCodebase(ctx context.Context, by slipway.User, c slipway.Codebase) (slipway.Codebase, error) {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return c, err
	}
	if err := slipway.CheckName("codebase", c.Name); err != nil {
		return c, err
	}
	if c.Name == slipway.MainCodebase {
		return c, slipway.Errorf(slipway.Invalid, "codebase name %q is that of the main one: choose another", c.Name)
	}
	if c.GitURL == "" {
		c.DefaultBranch = first(c.DefaultBranch, "main")
	}
	if err := checkDefault(c.DefaultBranch); err != nil {
		return c, err
	}
	if err := checkGitURL(c.GitURL); err != nil {
		return c, err
	}
	defer x.lock(c.Project)()
	all, err := x.o.Planner.all(ctx, c.Project)
	if err != nil {
		return c, err
	}
	if slices.ContainsFunc(all, func(o slipway.Codebase) bool { return o.Name == c.Name }) {
		return c, slipway.Errorf(slipway.Conflict, "project %s has a codebase %s already", c.Project, c.Name)
	}
	if len(all) > maxCodebases {
		return c, slipway.Errorf(slipway.Invalid, "project %s has %d codebases: that is as many as a project may have", c.Project, len(all))
	}
	made, keep, err := x.o.Create(ctx, c)
	if err != nil {
		return c, err
	}
	c.DefaultBranch, c.CreatedAt = made.DefaultBranch, x.o.Now()
	if c, err = x.o.Codebases.CreateCodebase(ctx, c, by.Name); err != nil {
		return c, err
	}
	if err := keep(); err != nil {
		return c, fmt.Errorf("keep the repository of %s: %w", c.Key(), err)
	}
	return c, nil
}

// deployed is where services of a codebase run.
func deployed(b slipway.Board, codebase string) (runs []string) {
	for _, row := range b.Rows {
		for _, cell := range row.Cells {
			gone := cell.Outside != nil && cell.Outside.Number == 0
			if row.Codebase == codebase && !gone && (cell.Current != nil || cell.Pending != nil) {
				runs = append(runs, row.Service+" in "+cell.Environment)
			}
		}
	}
	return runs
}

// unlinked refuses a codebase that another one has as a submodule on its default branch: the folder would be
// empty from then on.
func (p *Planner) unlinked(ctx context.Context, c slipway.Codebase) error {
	all, err := p.all(ctx, c.Project)
	if err != nil {
		return err
	}
	for _, o := range all {
		repo := p.snapshot(o.Key())
		tip, err := repo.branchTip(ctx, o.DefaultBranch)
		if err != nil {
			return err
		}
		if tip == "" || o.Name == c.Name {
			continue
		}
		mounts, err := mountsOf(ctx, repo, tip)
		if err != nil && slipway.ErrorCode(err) != slipway.Invalid { // what cannot be built needs nothing
			return err
		}
		for at, key := range mounts {
			if key == c.Key() {
				return slipway.Errorf(slipway.Conflict, "%s has codebase %s as a submodule at %s: take it out there first", o.Title(), c.Name, at)
			}
		}
	}
	return nil
}

func mountsOf(ctx context.Context, repo PlanRepo, commit string) (map[string]string, error) {
	t, err := repo.Tree(ctx, commit)
	if err != nil {
		return nil, err
	}
	m, ok := t.(interface{ Mounts() map[string]string })
	if !ok {
		return nil, t.Close()
	}
	return m.Mounts(), t.Close()
}

// maxCodebases bounds the further codebases of a project: the default branch of each is read for a plan.
const maxCodebases = 50

// RemoveCodebase takes a further codebase away from its project. It is refused while a service of it is
// deployed, or something of it is under way. Its repository stays on the disk, out of the way.
func (x *Actions) RemoveCodebase(ctx context.Context, by slipway.User, project, name string) error {
	if err := auth.Check(by, auth.ManageServer, ""); err != nil {
		return err
	}
	if name == "" || name == slipway.MainCodebase {
		return slipway.Errorf(slipway.Invalid, "the main codebase of a project cannot be removed")
	}
	defer x.lock(project)()
	c, err := x.o.Planner.Codebase(ctx, slipway.CodebaseKey(project, name))
	if err != nil {
		return err
	}
	board, err := x.o.Planner.Board(ctx, project)
	if err != nil {
		return err
	}
	x.observe(ctx, board)
	if runs := deployed(board, name); len(runs) > 0 {
		return slipway.Errorf(slipway.Conflict, "services of codebase %s are deployed: %s; uninstall them first (helm uninstall), or move them to another codebase", name, strings.Join(runs, ", "))
	}
	if err := x.o.Planner.unlinked(ctx, c); err != nil {
		return err
	}
	if err := x.o.Codebases.RemoveCodebase(ctx, project, name, by.Name); err != nil {
		return err
	}
	if x.o.Discard == nil {
		return nil
	}
	if err := x.o.Discard(c); err != nil {
		return fmt.Errorf("put the repository of %s out of the way: %w", c.Key(), err)
	}
	return nil
}

package act

import (
	"context"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/gate"
	"github.com/slipway-cd/slipway/ignore"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/promote"
	"github.com/slipway-cd/slipway/stage/source"
)

const (
	planTimeout    = 2 * time.Minute
	planRetries    = 65 // about an hour: no configuration was read yet
	backRetries    = 10 // at the least, of a way back
	explainTimeout = 20 * time.Second
)

// History is what earlier runs left that a plan depends on.
type History interface {
	Builds
	Release(ctx context.Context, project, service, version string) (slipway.Release, error)
	// Quarantines are why versions of a service, or with "" of all, must not be deployed.
	Quarantines(ctx context.Context, project, service string) (slipway.Quarantines, error)
	// Board is what runs where; services and environments come first, in their order.
	Board(ctx context.Context, project string, services, environments []string) (slipway.Board, error)
	Clusters(ctx context.Context) ([]slipway.Cluster, error)
}

// Builds is what was built before.
type Builds interface {
	// Built says where the services of a ref were done, and what runs before a run (0: all) left unfinished.
	Built(ctx context.Context, project, codebase, ref string, before int64) (slipway.Built, error)
	// Tried reports whether there is a run of a ref before a run, whatever came of it.
	Tried(ctx context.Context, project, codebase, ref string, before int64) (bool, error)
	// Images are those that runs of the default branch published of a service last, newest first.
	Images(ctx context.Context, project, service string) ([]slipway.Artifact, error)
	// ActiveRun is the newest run of a ref before a run that is at work; 0 for none.
	ActiveRun(ctx context.Context, project, codebase, ref string, before int64) (int64, error)
	// Ahead is the newest run of a ref before a run that is still to be planned; 0 for none.
	Ahead(ctx context.Context, project, codebase, ref string, before int64) (int64, error)
}

// Namespaces knows where projects deploy.
type Namespaces interface {
	// NamespaceOwner is the project that deployed to a namespace: the one that asks, when it did, else
	// the first that did; "" for none.
	NamespaceOwner(ctx context.Context, project, cluster, namespace string) (string, error)
}

// PlanRepo is what a plan reads of a repository.
type PlanRepo interface {
	source.Repo
	// FileChanges returns the paths that differ between the trees of two commits, and how.
	FileChanges(ctx context.Context, base, head string) ([]source.FileChange, error)
	Tree(ctx context.Context, commit string) (Tree, error)
	Resolve(ctx context.Context, ref string) (string, error)
}

// Planner makes the plan of a run from its commit, the default branch and what was built before: it
// reads, and leaves the deciding to the pure planners.
type Planner struct {
	Repo      func(codebase string) PlanRepo // by the codebase's key
	Projects  Projects
	Codebases Codebases // nil: no project has further ones
	// Lone is the name of the only codebase that is at hand of a project which has others, MainCodebase for
	// the main one: services that it names and does not have are left open. "": there are no others.
	Lone string
	// Shallow: the repositories may lack what came before, so that nothing to compare with may mean no more than that.
	Shallow    bool
	History    History
	Namespaces Namespaces // nil: every namespace is anybody's
	Candidates slipway.Registry
	Production slipway.Registry
	URL        string // of this server
	// Foreign says of each submodule of a commit that is an empty folder that it is; nil: nothing is said.
	Foreign func(ctx context.Context, codebase, commit string) ([]string, error)
	// Forks plans the runs of forks, which see no submodule; nil: this one does.
	Forks *Planner

	read    readings
	differ  differences
	making  plannings
	ignores ignore.Cache
}

func (p *Planner) options(project string, clusters []string) config.Options {
	return config.Options{Project: project, Candidates: p.Candidates, Production: p.Production, Clusters: clusters}
}

// Policy is what the default branch says now: environments, registries, approvals, limits (D14).
// Before the first push it is the defaults. With an Invalid error it holds what is right of it.
func (p *Planner) Policy(ctx context.Context, project string) (slipway.Config, error) {
	c, _, err := p.policyNow(ctx, project)
	return c, err
}

// policyNow also returns the commit it was read from, "" where there is no default branch yet.
func (p *Planner) policyNow(ctx context.Context, project string) (slipway.Config, string, error) {
	pr, err := p.Projects.Project(ctx, project)
	if err != nil {
		return slipway.Config{}, "", err
	}
	return p.policy(ctx, pr, p.snapshot(project), "")
}

// policy is read from the default branch, or from the commit fallback where there is none yet.
func (p *Planner) policy(ctx context.Context, pr slipway.Project, repo *snapshot, fallback string) (slipway.Config, string, error) {
	commit, err := repo.branchTip(ctx, pr.DefaultBranch)
	if err != nil {
		return slipway.Config{}, "", err
	}
	commit = first(commit, fallback)
	c, problems, err := p.policyAt(ctx, pr.Name, commit, repo.Tree)
	if err != nil {
		return slipway.Config{}, "", err
	}
	if err := problems.Err(); err != nil {
		return c, commit, slipway.Errorf(slipway.Invalid, "slipway.yaml of the default branch (%s) governs and is not valid:\n%w", slipway.ShortHash(commit), err)
	}
	return c, commit, nil
}

// policyAt is what the default branch would say if it were at a commit; with "" it is the defaults.
func (p *Planner) policyAt(ctx context.Context, project, commit string, open func(context.Context, string) (Tree, error)) (slipway.Config, config.Problems, error) {
	registered, err := p.History.Clusters(ctx)
	if err != nil {
		return slipway.Config{}, nil, err
	}
	var clusters []string
	for _, k := range registered {
		clusters = append(clusters, k.Name)
	}
	read := func(files fs.FS) (slipway.Config, config.Problems) {
		return config.LoadPolicy(files, p.options(project, clusters))
	}
	if commit == "" {
		c, problems := read(emptyTree{})
		return c, problems, nil
	}
	return p.load(ctx, reading{project, commit, policyPart, strings.Join(clusters, " ")}, open, read)
}

// governs refuses a commit with which the default branch would not say anything valid: every run of
// the project would fail until that is mended. Its services must fit those of the other codebases.
func (p *Planner) governs(ctx context.Context, c slipway.Codebase, commit string, open func(context.Context, string) (Tree, error)) error {
	if c.Name == "" {
		_, problems, err := p.policyAt(ctx, c.Project, commit, open)
		if err != nil {
			return err
		}
		if err := problems.Err(); err != nil {
			return slipway.Errorf(slipway.Invalid, "slipway.yaml of commit %s is not valid, and would govern every run on the default branch:\n%w", slipway.ShortHash(commit), err)
		}
	}
	own, problems, err := p.services(ctx, c.Key(), commit, open)
	if err != nil {
		return err
	}
	if c.Name == "" { // of anything else its run says so
		invalid := slices.DeleteFunc(slices.Clone(problems), func(p config.Problem) bool { return p.File != config.Name })
		if err := invalid.Err(); err != nil {
			return notValid(commit, err)
		}
	} else if err := problems.Err(); err != nil {
		return slipway.Errorf(slipway.Invalid, "commit %s of %s is not valid:\n%w", slipway.ShortHash(commit), c.Title(), err)
	}
	if len(problems) > 0 || c.Linked {
		return nil
	}
	others, err := p.others(ctx, c, slipway.Config{})
	if err == nil && (len(others) > 0 || elsewhere(own)) {
		err = plan.CheckSpan(c, own.Services, others)
	}
	return err
}

// notValid says what is wrong with a commit, so that the first line tells what there is to mend.
func notValid(commit string, problems error) error {
	between := " "
	if n := strings.Count(problems.Error(), "\n"); n > 0 {
		between = fmt.Sprintf(" %d problems\n", n+1)
	}
	return slipway.Errorf(slipway.Invalid, "commit %s is not valid:%s%w", slipway.ShortHash(commit), between, problems)
}

// changesPolicy reports whether a head changes what governs deployments: environments, registries,
// approvals, limits, gates, or what follows a deployment of a service or counts as its scan (D14).
func (p *Planner) changesPolicy(ctx context.Context, c slipway.Codebase, base, head string) (bool, error) {
	repo, project := p.Repo(c.Key()), c.Project
	fork, err := repo.MergeBase(ctx, base, head)
	if err != nil {
		return false, err
	}
	if c.Name != "" {
		return p.changesFollows(ctx, c, repo, fork, head)
	}
	before, _, err := p.policyAt(ctx, project, fork, repo.Tree)
	if err != nil {
		return false, err
	}
	after, _, err := p.policyAt(ctx, project, head, repo.Tree)
	return !reflect.DeepEqual(unplaced(before), unplaced(after)), err
}

// lessSigned says where a commit on the default branch of a project would ask less of signatures than the commit before.
func (p *Planner) lessSigned(ctx context.Context, project, before, after string, now time.Time, open func(context.Context, string) (Tree, error)) ([]string, error) {
	if before == slipway.ZeroHash {
		before = ""
	}
	was, _, err := p.policyAt(ctx, project, before, open)
	if err != nil {
		return nil, err
	}
	is, _, err := p.policyAt(ctx, project, after, open)
	if err != nil {
		return nil, err
	}
	return gate.LessSigned(was, is, now), nil
}

// unplaced is a configuration without where things stand in its file.
func unplaced(c slipway.Config) slipway.Config {
	c.Gates = unplacedGates(c.Gates)
	c.Environments = slices.Clone(c.Environments)
	for i := range c.Environments {
		c.Environments[i].Gates = unplacedGates(c.Environments[i].Gates)
	}
	return c
}

func unplacedGates(g slipway.Gates) slipway.Gates {
	g.Rules, g.Waivers = slices.Clone(g.Rules), slices.Clone(g.Waivers)
	for i := range g.Rules {
		g.Rules[i].Place = ""
	}
	for i := range g.Waivers {
		g.Waivers[i].Place = ""
	}
	return g
}

// Environment is what the default branch says now about an environment.
func (p *Planner) Environment(ctx context.Context, project, name string) (slipway.Environment, error) {
	c, err := p.Policy(ctx, project)
	if err != nil {
		return slipway.Environment{}, err
	}
	e, ok := c.Environment(name)
	if !ok {
		return e, slipway.Errorf(slipway.NotFound, "project %s has no environment %q now", project, name)
	}
	return e, nil
}

// PullRequests is what the default branch says now about merging.
func (p *Planner) PullRequests(ctx context.Context, project string) (slipway.PullRequestPolicy, error) {
	c, err := p.Policy(ctx, project)
	return c.PullRequests, err
}

// Limits is what the default branch says now about how long a rollback may take. It needs no more than
// that, is not held up by a configuration that is broken otherwise, and is not given up at the first
// error although builds may be.
func (p *Planner) Limits(ctx context.Context, project string) (slipway.Limits, error) {
	c, err := p.Policy(ctx, project)
	if slipway.ErrorCode(err) == slipway.Invalid {
		err = nil
	}
	c.Limits.Retries = max(c.Limits.Retries, backRetries)
	return c.Limits, err
}

// Run is the runner of the step that every run of a push begins with: it plans the rest. Pushes of a branch are
// planned in their order, as each plan follows from those before; the store has the last word in that.
func (p *Planner) Run(ctx context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
	first, err := p.ahead(ctx, env.Run)
	if err != nil {
		return slipway.Result{}, err
	}
	if first != 0 {
		return slipway.Result{Outcome: slipway.Postponed, After: first, UntilPlanned: true, Reason: fmt.Sprintf("waits for the plan of run #%d, which was pushed before", first)}, nil
	}
	pr, err := p.Projects.Project(ctx, env.Run.Project)
	if err != nil {
		return slipway.Result{}, err
	}
	next, err := p.Plan(ctx, pr, env.Run)
	switch code := slipway.ErrorCode(err); code {
	case "":
	case slipway.Internal, slipway.Unavailable:
		return slipway.Result{}, err
	default: // the person who pushed has to mend it
		env.Log.Printf("%s", err)
		return slipway.Result{Outcome: slipway.Failed, Reason: err.Error()}, nil
	}
	if next.Batch {
		switch active, err := p.History.ActiveRun(ctx, env.Run.Project, env.Run.Codebase, env.Run.Ref, env.Run.ID); {
		case err != nil:
			return slipway.Result{}, err
		case active != 0:
			return slipway.Result{Outcome: slipway.Postponed, After: active, Reason: fmt.Sprintf("batch: begins when run #%d has ended, with what is pushed until then", active)}, nil
		}
	}
	if next.Notes, err = p.notes(ctx, env.Run); err != nil {
		return slipway.Result{}, err
	}
	for _, line := range next.Notes {
		env.Log.Printf("%s", line)
	}
	runs, services := 0, 0
	for _, d := range next.Decisions {
		env.Log.Printf("%s: %s", d.Service, d.Reason)
		if d.Runs {
			runs++
		}
		if !d.Removed {
			services++
		}
	}
	return slipway.Result{Outcome: slipway.Succeeded, Reason: fmt.Sprintf("%d of %d services run", runs, services), Next: &next}, nil
}

// Plan makes the plan of a run. It changes nothing, so that a push can be told what will run. Who asks
// for a plan that is being made waits for that one: a push and the run it started do.
func (p *Planner) Plan(ctx context.Context, pr slipway.Project, run slipway.Run) (slipway.Plan, error) {
	if run.Fork && p.Forks != nil {
		return p.Forks.Plan(ctx, pr, run)
	}
	if run.ID == 0 { // one that is not kept
		return p.plan(ctx, pr, run)
	}
	return p.making.share(ctx, planID{run.ID, run.Commit}, func(ctx context.Context) (slipway.Plan, error) {
		return p.plan(ctx, pr, run)
	})
}

func (p *Planner) plan(ctx context.Context, pr slipway.Project, run slipway.Run) (slipway.Plan, error) {
	c, err := p.Codebase(ctx, slipway.CodebaseKey(pr.Name, run.Codebase))
	if err != nil {
		return slipway.Plan{}, err
	}
	repo := p.snapshot(c.Key())
	defer repo.askRecent(ctx, run.Commit)()
	own, problems, err := p.services(ctx, c.Key(), run.Commit, repo.Tree)
	if err != nil {
		return slipway.Plan{}, err
	}
	if err := problems.Err(); err != nil {
		return slipway.Plan{}, notValid(run.Commit, err)
	}
	fallback := ""
	main := repo
	switch {
	case c.Name != "":
		main = p.snapshot(pr.Name)
	case run.Event == slipway.DefaultPush: // the first one; nothing else may govern itself (D14)
		fallback = run.Commit
	}
	policy, governs, err := p.policy(ctx, pr, main, fallback)
	if err != nil {
		return slipway.Plan{}, err
	}
	if governs == "" && (run.Event == slipway.ReleasePush || c.Name != "" && run.Event == slipway.DefaultPush) {
		return slipway.Plan{}, slipway.Errorf(slipway.Conflict, "the default branch %s does not exist: what it says about environments and approvals governs releases; push it first", pr.DefaultBranch)
	}
	in, err := p.input(ctx, pr, c, repo, plan.Input{Run: run, Config: own, ConfigCommit: governs}, policy)
	if err != nil {
		return slipway.Plan{}, err
	}
	if err := p.ask(ctx, repo, &in); err != nil {
		return slipway.Plan{}, err
	}
	made, err := plan.Plan(in)
	if err != nil {
		return slipway.Plan{}, err
	}
	return p.extend(ctx, made, in)
}

// input begins what a plan follows from: the services of the run's codebase and those of the others.
func (p *Planner) input(ctx context.Context, pr slipway.Project, c slipway.Codebase, repo *snapshot, in plan.Input, policy slipway.Config) (plan.Input, error) {
	own := in.Config
	in.Project, in.SourceURL, in.DefaultTip = pr, p.sourceURL(c), in.ConfigCommit
	in.Project.DefaultBranch, in.Project.GitURL = c.DefaultBranch, c.GitURL
	if c.Name != "" {
		tip, err := repo.branchTip(ctx, c.DefaultBranch)
		if err != nil {
			return in, err
		}
		in.DefaultTip = tip
		var head slipway.Config
		if tip != "" {
			if head, _, err = p.services(ctx, c.Key(), tip, repo.Tree); err != nil {
				return in, err
			}
		}
		in.Config = config.Combine(own, p.follows(c, policy, head))
	} else {
		in.Config = config.Combine(own, policy)
	}
	var err error
	if c.Linked { // what links it plans for its services
		return in, nil
	}
	if in.Others, err = p.others(ctx, c, policy); err != nil {
		return in, err
	}
	if len(in.Others) > 0 || p.Lone == "" && elsewhere(own) {
		err = plan.CheckSpan(c, own.Services, in.Others)
	}
	if slipway.ErrorCode(err) == slipway.Invalid && in.Run.Fork { // strangers hear nothing of the others
		err = slipway.Errorf(slipway.Invalid, "the services of commit %s do not fit those of the project's other codebases", slipway.ShortHash(in.Run.Commit))
	}
	return in, err
}

// ask fills in what the repository and earlier runs say, side by side: most of the time goes into waiting
// for git.
func (p *Planner) ask(ctx context.Context, repo *snapshot, in *plan.Input) error {
	run, pr := in.Run, in.Project
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if run.Event != slipway.PullUpdate || run.Base != pr.DefaultBranch || run.Codebase != "" {
			return nil
		}
		return p.governs(ctx, pr.Main(), run.Commit, repo.Tree)
	})
	group.Go(func() error {
		if err := p.affected(ctx, repo, in); err != nil {
			return err
		}
		return p.revisionsElsewhere(ctx, in)
	})
	group.Go(func() (err error) {
		in.Claimed, err = p.claimed(ctx, run)
		return err
	})
	group.Go(func() error {
		if in.DefaultTip == "" || run.Event != slipway.ReleasePush { // nothing else asks
			return nil
		}
		base, err := repo.MergeBase(ctx, in.DefaultTip, run.Commit)
		in.Reviewed = base == run.Commit
		return err
	})
	return group.Wait()
}

// extend adds the way through the environments.
func (p *Planner) extend(ctx context.Context, made slipway.Plan, in plan.Input) (slipway.Plan, error) {
	board, err := p.History.Board(ctx, in.Project.Name, nil, nil)
	if err != nil {
		return slipway.Plan{}, err
	}
	var current []slipway.Deployment
	for _, row := range board.Rows {
		for _, cell := range row.Cells {
			if cell.Current != nil {
				current = append(current, *cell.Current)
			}
		}
	}
	for _, o := range in.Others {
		in.Config.Services = append(slices.Clone(in.Config.Services), o.Config.Services...)
	}
	quarantined, err := p.History.Quarantines(ctx, in.Project.Name, "")
	if err != nil {
		return slipway.Plan{}, err
	}
	made, err = promote.Extend(made, promote.Input{Project: in.Project, Run: in.Run, Config: in.Config, Current: current, Quarantined: quarantined})
	if err != nil {
		return slipway.Plan{}, err
	}
	return made, p.ownNamespaces(ctx, made)
}

// ownNamespaces refuses a plan that deploys to where another project does.
func (p *Planner) ownNamespaces(ctx context.Context, made slipway.Plan) error {
	if p.Namespaces == nil {
		return nil
	}
	asked := map[string]bool{}
	for _, st := range made.Steps {
		if st.Deploy == nil || asked[st.Environment] {
			continue
		}
		asked[st.Environment] = true
		t := st.Deploy.Target
		owner, err := p.Namespaces.NamespaceOwner(ctx, t.Project, t.Cluster, t.Namespace)
		if err != nil {
			return err
		}
		if owner != "" && owner != t.Project {
			return slipway.ForeignNamespace(t.Environment, t.Namespace, t.Cluster, owner)
		}
	}
	return nil
}

// claimed is the published release of a release run's version, nil when the version is free.
func (p *Planner) claimed(ctx context.Context, run slipway.Run) (*plan.Claim, error) {
	if run.Event != slipway.ReleasePush {
		return nil, nil
	}
	have, err := p.History.Release(ctx, run.Project, run.Service, run.Version)
	if slipway.ErrorCode(err) == slipway.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &plan.Claim{Version: have.Version, Commit: have.Commit, Digest: have.ImageDigest, RunID: have.RunID}, nil
}

// Board is what of a project runs where, in the order of the default branch's configuration.
func (p *Planner) Board(ctx context.Context, project string) (slipway.Board, error) {
	var services, environments []string
	c, commit, err := p.policyNow(ctx, project)
	switch slipway.ErrorCode(err) {
	case "", slipway.Invalid: // a configuration that is not valid still has what was right in it
	default:
		return slipway.Board{}, err
	}
	for _, e := range c.Environments {
		environments = append(environments, e.Name)
	}
	if commit != "" {
		own, _, err := p.services(ctx, project, commit, p.Repo(project).Tree)
		if err != nil {
			return slipway.Board{}, err
		}
		for _, s := range own.Services {
			services = append(services, s.Name)
		}
	}
	return p.spanBoard(ctx, project, services, environments)
}

// spanBoard adds the services of further codebases, with where each is.
func (p *Planner) spanBoard(ctx context.Context, project string, services, environments []string) (slipway.Board, error) {
	all, err := p.all(ctx, project)
	if err != nil {
		return slipway.Board{}, err
	}
	others, err := p.others(ctx, all[0], slipway.Config{})
	if err != nil {
		return slipway.Board{}, err
	}
	at := map[string]string{}
	for _, o := range others {
		for _, s := range o.Config.Services {
			services, at[s.Name] = append(services, s.Name), o.Codebase.Name
		}
	}
	b, err := p.History.Board(ctx, project, services, environments)
	for _, c := range all[1:] {
		b.Codebases = append(b.Codebases, c.Name)
	}
	for i := range b.Rows {
		row := &b.Rows[i]
		if row.Codebase = at[row.Service]; !slices.Contains(services, row.Service) && row.LastRun != nil {
			row.Codebase = row.LastRun.Codebase // it is no service any more
		}
	}
	return b, err
}

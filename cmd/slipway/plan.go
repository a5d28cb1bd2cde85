package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/worktree"
)

// planOptions are the flags of `slipway plan`.
type planOptions struct {
	since, event, ref string
	codebases         codebaseFlags
}

// offlinePlan is what a server would plan if the working tree were pushed.
type offlinePlan struct {
	Project     string            `json:"project"`
	Event       slipway.EventKind `json:"event"`
	Ref         string            `json:"ref"`
	Commit      string            `json:"commit"`              // HEAD, "" before the first commit
	Uncommitted int               `json:"uncommitted"`         // files that differ from it
	Codebases   []heldCodebase    `json:"codebases,omitempty"` // others that it was made with
	Plan        slipway.Plan      `json:"plan"`
}

func (c *cli) plan() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use: "plan", Short: "What would run if the working tree were pushed, and why; asks no server", Args: cobra.NoArgs,
		Long: "Makes the plan that a server would make if the files here were committed and pushed: which services run and why,\nwhy the others do not, and each step. What is not committed and not ignored counts. No server is asked: nothing\nis known of what was built, released or deployed before. So the branch is compared with where it left the default\nbranch, and the default branch with the remote's, unless --since names something else.",
		Example: `  slipway plan                        # as a push of the current branch
  slipway plan --event pull-request   # as a pull request into the default branch
  slipway plan --since v1.4.0         # as if that had been built last
  slipway plan --event release --ref release/cart/v1.2.0 -o json
  slipway plan --codebase web --codebase main=../shop   # in web, a further codebase of a project`,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.showPlan(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.since, "since", "", "branch, tag or commit that was built last (default: where the branch left the default branch)")
	cmd.Flags().StringVar(&o.event, "event", "push", "what happens: push, pull-request or release")
	cmd.Flags().StringVar(&o.ref, "ref", "", "branch, or refs/tags/NAME, that is pushed (default: the current branch)")
	o.codebases.flags(cmd)
	return cmd
}

func (c *cli) showPlan(ctx context.Context, o planOptions) (err error) {
	scratch, remove, err := worktree.Scratch("plan")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	w, err := worktree.Open(ctx, ".", scratch)
	if err != nil {
		return err
	}
	project, err := c.localProjectName(ctx, w.Root)
	if err != nil {
		return err
	}
	x, err := openCheckouts(ctx, project, w, o.codebases, scratch)
	if err != nil {
		return err
	}
	p, err := planOffline(ctx, x, project, o)
	if err != nil {
		return err
	}
	if done, err := c.out.value(p); done {
		return err
	}
	c.printPlan(x, p)
	return nil
}

// planOffline asks the server's planner, with stand-ins for what only a server knows.
func planOffline(ctx context.Context, x checkouts, project string, o planOptions) (offlinePlan, error) {
	w := x.here.w
	since := ""
	if o.since != "" {
		if since = w.Resolve(ctx, o.since); since == "" {
			return offlinePlan{}, w.NotHere(ctx, o.since)
		}
	}
	name, tip := w.Upstream(ctx)
	branch := defaultName(ctx, w, name)
	run, err := runOf(w, o, branch)
	if err != nil {
		return offlinePlan{}, err
	}
	built := since
	switch {
	case run.Event == slipway.DefaultPush:
		built, tip = first(since, tip), w.Commit
	case run.Event == slipway.PullUpdate:
		tip = first(since, tip)
	case tip == "": // nothing else governs
		tip = w.Commit
		if run.Event == slipway.BranchPush {
			tip = ""
		}
	}
	w.BringFork(ctx, first(since, tip))
	run.Project, run.Codebase = project, x.here.codebase.Name
	planner, pr := x.planner(branch, map[string]string{branch: tip})
	past := &offlineHistory{localHistory: localHistory{built}}
	planner.History = past
	past.policy = planner.Policy
	made, err := planner.Plan(ctx, pr, run)
	if err != nil {
		return offlinePlan{}, w.Lacking(x.explain(ctx, err))
	}
	return offlinePlan{Project: project, Event: run.Event, Ref: run.Ref, Commit: w.Head, Uncommitted: w.Changed, Codebases: x.held(), Plan: made}, nil
}

// offlineHistory takes it that what was built last was published.
type offlineHistory struct {
	localHistory
	policy func(ctx context.Context, project string) (slipway.Config, error)
}

// Images is the one of what was built last, whose digest only the server knows.
func (h *offlineHistory) Images(ctx context.Context, project, service string) ([]slipway.Artifact, error) {
	if h.built == "" {
		return nil, nil
	}
	c, err := h.policy(ctx, project)
	if err != nil {
		return nil, err
	}
	where := slipway.Repository{Registry: c.Candidates, Name: c.Candidates.Image(project, service)}
	return []slipway.Artifact{{Kind: slipway.ArtifactImage, Service: service, Repository: where.Ref(), Commit: h.built}}, nil
}

// defaultName is the default branch by its own name. upstream is it as it was found: main, origin/main, or
// a remote whose HEAD names it.
func defaultName(ctx context.Context, w worktree.Tree, upstream string) string {
	switch {
	case upstream == "" && w.Branch == "master":
		return w.Branch
	case upstream == "":
		return "main"
	case upstream == "main" || upstream == "master":
		return upstream
	}
	if _, branch, ok := strings.Cut(upstream, "/"); ok {
		return branch
	}
	head, _ := worktree.Git(ctx, w.Root, "symbolic-ref", "--quiet", "refs/remotes/"+upstream+"/HEAD") // no answer: HEAD names a commit
	return first(strings.TrimPrefix(head, "refs/remotes/"+upstream+"/"), "main")
}

// runOf is the run that a push of the working tree would make.
func runOf(w worktree.Tree, o planOptions, defaultBranch string) (slipway.Run, error) {
	run := slipway.Run{ID: 1, Commit: w.Commit, Title: "the working tree", Actor: "you"}
	run.Ref = first(o.ref, w.Branch)
	if run.Ref == "" && o.event == "pull-request" {
		run.Ref = "HEAD" // which branch asks does not matter
	}
	if run.Ref == "" {
		return run, slipway.Errorf(slipway.Invalid, "HEAD is on no branch here: say which one would be pushed with --ref BRANCH")
	}
	if !strings.HasPrefix(run.Ref, "refs/") {
		run.Ref = "refs/heads/" + run.Ref
	}
	if err := slipway.CheckRef(run.Ref); err != nil {
		return run, err
	}
	release, is, err := slipway.ParseReleaseRef(run.Ref)
	switch o.event {
	case "push":
		run.Event = slipway.BranchPush
		if run.Ref == "refs/heads/"+defaultBranch {
			run.Event = slipway.DefaultPush
		}
		if is {
			run.Event = slipway.ReleasePush
		}
	case "pull-request":
		run.Event, run.Ref, run.Base, is = slipway.PullUpdate, "refs/pull/0/head", defaultBranch, false
	case "release":
		run.Event = slipway.ReleasePush
		if !is {
			return run, slipway.Errorf(slipway.Invalid, "%s is no release branch: say --ref release/<service>/<version>", run.Ref)
		}
	default:
		return run, slipway.Errorf(slipway.Invalid, "--event %q: expected push, pull-request or release", o.event)
	}
	if is {
		if err != nil {
			return run, err
		}
		run.Service, run.Version = release.Service, release.Version.Leaf
	}
	return run, nil
}

// printPlan draws the plan as a tree: services, and below each its steps.
func (c *cli) printPlan(x checkouts, p offlinePlan) {
	c.out.line("%s", printable(planTitle(x.here.w, p)))
	x.tell(c.out)
	runs, services := 0, 0
	for i, d := range p.Plan.Decisions {
		branch, below := "├─ ", "│  "
		if i == len(p.Plan.Decisions)-1 {
			branch, below = "└─ ", "   "
		}
		reason := printable(d.Reason)
		if d.Service != "" {
			reason = c.out.bold(d.Service) + ": " + reason
		}
		if !d.Runs {
			reason = c.out.dim(printable(d.String()))
		}
		c.out.line("%s%s", branch, reason)
		var steps []slipway.PlanStep
		for _, s := range p.Plan.Steps {
			if s.Service == d.Service && d.Service != "" {
				steps = append(steps, s)
			}
		}
		for j, s := range steps {
			twig := "├─ "
			if j == len(steps)-1 {
				twig = "└─ "
			}
			c.out.line("%s%s%s", below, twig, printable(stepLine(s)))
		}
		if d.Runs {
			runs++
		}
		if !d.Removed && d.Service != "" {
			services++
		}
	}
	c.out.line("%d of %s would run", runs, plural(services, "service"))
}

func planTitle(w worktree.Tree, p offlinePlan) string {
	what := map[slipway.EventKind]string{
		slipway.BranchPush: "push of ", slipway.DefaultPush: "push of the default branch ", slipway.ReleasePush: "release by ", slipway.PullUpdate: "pull request from ",
	}[p.Event]
	ref := strings.TrimPrefix(p.Ref, "refs/heads/")
	if p.Event == slipway.PullUpdate {
		ref = first(w.Branch, "HEAD")
	}
	at := ", no commit yet"
	if p.Commit != "" {
		at = " at " + slipway.ShortHash(p.Commit)
	}
	if p.Uncommitted > 0 {
		at += " with " + plural(p.Uncommitted, "file") + " not committed"
	}
	var since []string
	for _, s := range p.Plan.Since {
		since = append(since, slipway.ShortHash(s))
	}
	if len(since) == 0 {
		if p.Event == slipway.ReleasePush {
			return what + ref + at
		}
		return what + ref + at + ", compared with nothing: --since COMMIT says with what"
	}
	return what + ref + at + ", compared with " + strings.Join(since, " and ")
}

// stepLine says what a step does and to what.
func stepLine(s slipway.PlanStep) string {
	kind := string(s.Kind)
	switch {
	case s.Build != nil:
		line := fmt.Sprintf("%s %s", kind, joinPath(s.Build.Source.Dir, s.Build.Dockerfile))
		if s.Build.Source.Dir == "." {
			line += " in the build context ."
		}
		return line
	case s.Test != nil:
		return fmt.Sprintf("%s stage %s", kind, s.Test.Stage)
	case s.Chart != nil:
		return fmt.Sprintf("%s %s %s", kind, first(s.Chart.Source.Dir, "standard"), s.Chart.Version)
	case s.Publish != nil && s.Publish.Built != nil:
		return fmt.Sprintf("%s %s, the image that was published of this code before", kind, s.Publish.Tag)
	case s.Publish != nil:
		return fmt.Sprintf("%s %s", kind, s.Publish.Tag)
	case s.Approve != nil:
		return fmt.Sprintf("%s %s: %s", kind, s.Environment, plural(s.Approve.Approvals.Required, "approval"))
	case s.Deploy != nil:
		return fmt.Sprintf("%s to %s (namespace %s)", kind, s.Environment, s.Deploy.Target.Namespace)
	case s.Environment != "":
		return fmt.Sprintf("%s %s", kind, s.Environment)
	}
	return kind
}

func joinPath(dir, file string) string {
	if dir == "." {
		return file
	}
	return dir + "/" + file
}

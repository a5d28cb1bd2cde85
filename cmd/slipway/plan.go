package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/laptop"
	"github.com/slipway-cd/slipway/worktree"
)

// planOptions are the flags of `slipway plan`.
type planOptions struct {
	laptop.Push
	codebases laptop.Named
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
	cmd.Flags().StringVar(&o.Since, "since", "", "branch, tag or commit that was built last (default: where the branch left the default branch)")
	cmd.Flags().StringVar(&o.Event, "event", "push", "what happens: push, pull-request or release")
	cmd.Flags().StringVar(&o.Ref, "ref", "", "branch, or refs/tags/NAME, that is pushed (default: the current branch)")
	codebaseFlags(cmd, &o.codebases)
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
	project, err := c.localProjectName(ctx, first(o.codebases.Main(), w.Root))
	if err != nil {
		return err
	}
	x, err := laptop.Open(ctx, project, w, o.codebases, scratch)
	if err != nil {
		return err
	}
	p, err := x.Push(ctx, o.Push)
	if err != nil {
		return err
	}
	if done, err := c.out.value(p); done {
		return err
	}
	c.printPlan(x, p)
	return nil
}

// codebaseFlags say which codebase of a project the one here is, and where others are checked out.
func codebaseFlags(cmd *cobra.Command, named *laptop.Named) {
	cmd.Flags().StringArrayVar(&named.Given, "codebase", nil, "NAME: which codebase of a project with several this is (main for the main one); NAME=PATH: where another one is checked out")
	cmd.Flags().StringArrayVar(&named.Linked, "linked", nil, "NAME of a codebase that is delivered from where it is linked as a submodule")
}

// told prints which other codebases are at hand.
func (c *cli) told(x laptop.Checkouts) {
	for _, line := range x.Told() {
		c.out.line("%s", slipway.Printable(line))
	}
}

// printPlan draws the plan as a tree: services, and below each its steps.
func (c *cli) printPlan(x laptop.Checkouts, p laptop.Pushed) {
	c.out.line("%s", slipway.Printable(planTitle(x.Here(), p)))
	c.told(x)
	runs, services := 0, 0
	for i, d := range p.Plan.Decisions {
		branch, below := "├─ ", "│  "
		if i == len(p.Plan.Decisions)-1 {
			branch, below = "└─ ", "   "
		}
		reason := slipway.Printable(d.Reason)
		if d.Service != "" {
			reason = c.out.bold(d.Service) + ": " + reason
		}
		if !d.Runs {
			reason = c.out.dim(slipway.Printable(d.String()))
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
			c.out.line("%s%s%s", below, twig, slipway.Printable(stepLine(s)))
		}
		if d.Runs {
			runs++
		}
		if !d.Removed && d.Service != "" {
			services++
		}
	}
	c.out.line("%d of %s would run", runs, slipway.Counted(services, "service"))
}

func planTitle(w worktree.Tree, p laptop.Pushed) string {
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
		at += " with " + slipway.Counted(p.Uncommitted, "file") + " not committed"
	}
	var since []string
	for _, s := range p.Plan.Since {
		since = append(since, slipway.ShortHash(s))
	}
	if len(since) == 0 {
		if p.Event == slipway.ReleasePush {
			return what + ref + at
		}
		if w.Shallow {
			return what + ref + at + ", compared with nothing, as " + worktree.Unshallow
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
		return fmt.Sprintf("%s %s: %s", kind, s.Environment, slipway.Counted(s.Approve.Approvals.Required, "approval"))
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

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) pulls() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pulls", Short: "Pull requests",
		Args: cobra.NoArgs,
		RunE: inProject(c, func(ctx context.Context, q question) ([]slipway.PullRequest, error) {
			pulls, err := q.api.Pulls(ctx, q.project)
			rememberPulls(q.api.Address(), pulls...)
			return pulls, err
		}, func(_ question, pulls []slipway.PullRequest) {
			var rows [][]string
			for _, p := range pulls {
				rows = append(rows, []string{p.Name(), c.out.state(string(p.State)), p.Base, slipway.Printable(p.Author), slipway.ShortHash(p.Head), ago(p.UpdatedAt), slipway.Printable(slipway.Clip(p.Title, 60)) + fromFork(p)})
			}
			c.out.table([]string{"PULL", "STATE", "INTO", "BY", "HEAD", "UPDATED", "TITLE"}, rows)
		}),
	}
	cmd.AddCommand(c.pullsShow(), c.pullsApprove(), c.pullsClose())
	return cmd
}

// onPull is inProject for a command about one pull request, by its name: its number in the codebase of a key.
func onPull[T any](c *cli, ask func(ctx context.Context, q question, codebase string, number int64) (T, error), show func(q question, v T)) func(*cobra.Command, []string) error {
	var name string
	var number int64
	inside := inProject(c, func(ctx context.Context, q question) (T, error) {
		return ask(ctx, q, slipway.CodebaseKey(q.project, name), number)
	}, show)
	return func(cmd *cobra.Command, args []string) (err error) {
		if name, number, err = slipway.ParsePull(strings.TrimPrefix(args[0], "#")); err != nil {
			return err
		}
		return inside(cmd, args)
	}
}

// keyOf is the key of a pull request's codebase.
func keyOf(p slipway.PullRequest) string { return slipway.CodebaseKey(p.Project, p.Codebase) }

// ended says what became of a pull request.
func (c *cli) ended(_ question, p slipway.PullRequest) {
	at := ""
	if p.MergedAs != "" {
		at = " as " + slipway.ShortHash(p.MergedAs) + " into " + p.Base
	}
	c.out.line("pull request %s %s%s: %s", p.Name(), c.out.state(string(p.State)), at, slipway.Printable(p.Title))
}

func (c *cli) merge() *cobra.Command {
	return &cobra.Command{
		Use: "merge PULL", Short: "Merge a pull request that may be merged",
		Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, codebase string, n int64) (slipway.PullRequest, error) {
			return q.api.Merge(ctx, codebase, n)
		}, c.ended),
	}
}

// pullShown is a pull request with the newest run of its head.
type pullShown struct {
	slipway.PullRequest
	Run *slipway.Run `json:"run,omitempty"`
}

func (c *cli) pullsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show PULL", Short: "A pull request: its head, its run, who approved it, and how to look at it", Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, codebase string, n int64) (shown pullShown, err error) {
			if shown.PullRequest, err = q.api.Pull(ctx, codebase, n); err != nil {
				return shown, err
			}
			runs, err := q.api.Runs(ctx, slipway.RunFilter{Codebase: keyOf(shown.PullRequest), Ref: shown.Ref(), Commit: shown.Head, Limit: 1})
			if len(runs) > 0 {
				shown.Run = &runs[0]
			}
			rememberPulls(q.api.Address(), shown.PullRequest)
			return shown, err
		}, c.showPull),
	}
}

func (c *cli) showPull(q question, p pullShown) {
	c.out.line("%s  %s  %s", c.out.bold("pull request "+p.Name()), c.out.state(string(p.State)), slipway.Printable(p.Title))
	c.out.line("into %s by %s, %s%s", p.Base, slipway.Printable(p.Author), ago(p.UpdatedAt), fromFork(p.PullRequest))
	c.out.line("head %s", p.Head)
	if len(p.Reviewers) > 0 {
		c.out.line("approved by %s", slipway.Printable(strings.Join(p.Reviewers, ", ")))
	}
	if p.Run != nil {
		c.out.line("run #%d %s", p.Run.ID, c.out.state(string(p.Run.State)))
	}
	if p.MergedAs != "" {
		c.out.line("merged as %s", p.MergedAs)
	}
	if p.State == slipway.PullOpen {
		c.out.line("\ngit fetch %s/git/%s.git %s %s && git diff FETCH_HEAD...%s", q.api.Address(), keyOf(p.PullRequest), p.Base, p.Ref(), slipway.ShortHash(p.Head))
		c.out.line("slipway pulls approve %s", p.Name())
	}
}

func (c *cli) pullsApprove() *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use: "approve PULL", Short: "Approve the head of a pull request that you looked at",
		Long: "Approves the commit that `slipway pulls` or `slipway pulls show` showed last on this machine, or the one given\nwith --head. When the pull request is at another one by now, it is refused, and names both.",
		Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, codebase string, n int64) (slipway.PullRequest, error) {
			p, err := q.api.Pull(ctx, codebase, n)
			if err != nil {
				return p, err
			}
			commit, err := headSeen(q.api.Address(), p, head)
			if err != nil {
				return p, err
			}
			return q.api.ReviewPull(ctx, keyOf(p), p.Number, commit)
		}, func(_ question, p slipway.PullRequest) {
			c.out.line("%s pull request %s at %s: %s", c.out.state("approved"), p.Name(), slipway.ShortHash(p.Head), slipway.Printable(p.Title))
		}),
	}
	cmd.Flags().StringVar(&head, "head", "", "commit that you looked at, by its whole hash (default: the one that was shown last)")
	return cmd
}

func (c *cli) pullsClose() *cobra.Command {
	return &cobra.Command{
		Use: "close PULL", Short: "Close a pull request without merging it", Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, codebase string, n int64) (slipway.PullRequest, error) {
			return q.api.ClosePull(ctx, codebase, n)
		}, c.ended),
	}
}

// fromFork says that a pull request is not trusted, and how it comes to run.
func fromFork(p slipway.PullRequest) string {
	switch {
	case p.State == slipway.PullOpen && p.Held != "":
		return fmt.Sprintf(" (from a fork; to let it run: slipway pulls approve %s)", p.Name())
	case p.Fork:
		return " (from a fork)"
	}
	return ""
}

package main

import (
	"context"
	"fmt"
	"strconv"
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
				rows = append(rows, []string{fmt.Sprint(p.Number), c.out.state(string(p.State)), p.Base, printable(p.Author), slipway.ShortHash(p.Head), ago(p.UpdatedAt), printable(clip(p.Title, 60)) + fromFork(p)})
			}
			c.out.table([]string{"PULL", "STATE", "INTO", "BY", "HEAD", "UPDATED", "TITLE"}, rows)
		}),
	}
	cmd.AddCommand(c.pullsShow(), c.pullsApprove(), c.pullsClose())
	return cmd
}

// onPull is inProject for a command about one pull request, by its number.
func onPull[T any](c *cli, ask func(ctx context.Context, q question, number int64) (T, error), show func(q question, v T)) func(*cobra.Command, []string) error {
	var number int64
	inside := inProject(c, func(ctx context.Context, q question) (T, error) { return ask(ctx, q, number) }, show)
	return func(cmd *cobra.Command, args []string) (err error) {
		if number, err = strconv.ParseInt(strings.TrimPrefix(args[0], "#"), 10, 64); err != nil || number <= 0 {
			return slipway.Errorf(slipway.Invalid, "pull request %q: expected its number", args[0])
		}
		return inside(cmd, args)
	}
}

// ended says what became of a pull request.
func (c *cli) ended(_ question, p slipway.PullRequest) {
	at := ""
	if p.MergedAs != "" {
		at = " as " + slipway.ShortHash(p.MergedAs) + " into " + p.Base
	}
	c.out.line("pull request %d %s%s: %s", p.Number, c.out.state(string(p.State)), at, printable(p.Title))
}

func (c *cli) merge() *cobra.Command {
	return &cobra.Command{
		Use: "merge PULL", Short: "Merge a pull request that may be merged",
		Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, n int64) (slipway.PullRequest, error) {
			return q.api.Merge(ctx, q.project, n)
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
		RunE: onPull(c, func(ctx context.Context, q question, n int64) (shown pullShown, err error) {
			if shown.PullRequest, err = q.api.Pull(ctx, q.project, n); err != nil {
				return shown, err
			}
			runs, err := q.api.Runs(ctx, slipway.RunFilter{Project: q.project, Ref: shown.Ref(), Commit: shown.Head, Limit: 1})
			if len(runs) > 0 {
				shown.Run = &runs[0]
			}
			rememberPulls(q.api.Address(), shown.PullRequest)
			return shown, err
		}, c.showPull),
	}
}

func (c *cli) showPull(q question, p pullShown) {
	c.out.line("%s  %s  %s", c.out.bold(fmt.Sprintf("pull request %d", p.Number)), c.out.state(string(p.State)), printable(p.Title))
	c.out.line("into %s by %s, %s%s", p.Base, printable(p.Author), ago(p.UpdatedAt), fromFork(p.PullRequest))
	c.out.line("head %s", p.Head)
	if len(p.Reviewers) > 0 {
		c.out.line("approved by %s", printable(strings.Join(p.Reviewers, ", ")))
	}
	if p.Run != nil {
		c.out.line("run #%d %s", p.Run.ID, c.out.state(string(p.Run.State)))
	}
	if p.MergedAs != "" {
		c.out.line("merged as %s", p.MergedAs)
	}
	if p.State == slipway.PullOpen {
		c.out.line("\ngit fetch %s/git/%s.git %s %s && git diff FETCH_HEAD...%s", q.api.Address(), p.Project, p.Base, p.Ref(), slipway.ShortHash(p.Head))
		c.out.line("slipway pulls approve %d", p.Number)
	}
}

func (c *cli) pullsApprove() *cobra.Command {
	var head string
	cmd := &cobra.Command{
		Use: "approve PULL", Short: "Approve the head of a pull request that you looked at",
		Long: "Approves the commit that `slipway pulls` or `slipway pulls show` showed last on this machine, or the one given\nwith --head. When the pull request is at another one by now, it is refused, and names both.",
		Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, n int64) (slipway.PullRequest, error) {
			commit, err := headSeen(q.api.Address(), q.project, n, head)
			if err != nil {
				return slipway.PullRequest{}, err
			}
			return q.api.ReviewPull(ctx, q.project, n, commit)
		}, func(_ question, p slipway.PullRequest) {
			c.out.line("%s pull request %d at %s: %s", c.out.state("approved"), p.Number, slipway.ShortHash(p.Head), printable(p.Title))
		}),
	}
	cmd.Flags().StringVar(&head, "head", "", "commit that you looked at, by its whole hash (default: the one that was shown last)")
	return cmd
}

func (c *cli) pullsClose() *cobra.Command {
	return &cobra.Command{
		Use: "close PULL", Short: "Close a pull request without merging it", Args: cobra.ExactArgs(1),
		RunE: onPull(c, func(ctx context.Context, q question, n int64) (slipway.PullRequest, error) {
			return q.api.ClosePull(ctx, q.project, n)
		}, c.ended),
	}
}

// fromFork says that a pull request is not trusted, and how it comes to run.
func fromFork(p slipway.PullRequest) string {
	switch {
	case p.State == slipway.PullOpen && p.Held != "":
		return fmt.Sprintf(" (from a fork; to let it run: slipway pulls approve %d)", p.Number)
	case p.Fork:
		return " (from a fork)"
	}
	return ""
}

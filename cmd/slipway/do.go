package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

func (c *cli) approvals() *cobra.Command {
	var diff bool
	cmd := &cobra.Command{
		Use: "approvals", Short: "What waits for a person, with the evidence",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			project, err := c.project(cmd.Context(), api)
			if err != nil {
				return err
			}
			waiting, err := waitingApprovals(cmd.Context(), api, project)
			if err != nil {
				return err
			}
			if done, err := c.out.value(waiting); done {
				return err
			}
			if len(waiting) == 0 {
				c.out.line("nothing waits for approval in %s", project)
				return nil
			}
			head := []string{"RUN", "SERVICE", "VERSION", "ENVIRONMENT", "APPROVED", "REQUESTED BY", "SINCE", "IMAGE", "CHART"}
			if c.out.narrow() {
				head = head[:7]
			}
			var rows [][]string
			for _, a := range waiting {
				row := []string{fmt.Sprintf("#%d", a.RunID), a.Service, printable(a.Version), a.Environment,
					fmt.Sprintf("%d of %d", len(a.Votes), a.Required), printable(a.Requester), ago(a.CreatedAt), shortDigest(a.ImageDigest), shortDigest(a.ChartDigest)}
				rows = append(rows, row[:len(head)])
			}
			c.out.table(head, rows)
			for _, a := range waiting {
				for _, n := range a.Notes {
					c.out.line("  %s %s: %s", a.Service, printable(a.Version), printable(n))
				}
				if diff {
					c.out.line("\n%s\n%s", c.out.bold(a.Service+" "+a.Version+" to "+a.Environment), printable(a.Diff))
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&diff, "diff", false, "show what would change in the cluster, secrets masked")
	return cmd
}

func waitingApprovals(ctx context.Context, api *client.Client, project string) ([]slipway.Approval, error) {
	board, err := api.Board(ctx, project)
	if err != nil {
		return nil, err
	}
	waiting := []slipway.Approval{}
	for _, r := range board.Rows {
		for _, cell := range r.Cells {
			if cell.Approval != nil {
				waiting = append(waiting, *cell.Approval)
			}
		}
	}
	return waiting, nil
}

func (c *cli) approve() *cobra.Command { return c.vote("approve", true) }
func (c *cli) reject() *cobra.Command  { return c.vote("reject", false) }

func (c *cli) vote(verb string, approve bool) *cobra.Command {
	var reason, env string
	cmd := &cobra.Command{
		Use: verb + " RUN|SERVICE", Short: strings.ToUpper(verb[:1]) + verb[1:] + " a deployment that waits",
		Long: "Names the run (12) or the service (delivery) whose deployment waits. The approval binds to the image\ndigest, the chart digest, the values and the revision it replaces: see them with `slipway approvals --diff`.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.TrimSpace(reason) == "" {
				return slipway.Errorf(slipway.Invalid, "say why: --reason \"...\" (it is kept with the decision)")
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			a, err := c.findApproval(cmd.Context(), api, args[0], env)
			if err != nil {
				return err
			}
			decided, err := api.Vote(cmd.Context(), a.ID, approve, reason)
			if err != nil {
				return err
			}
			if done, err := c.out.value(decided); done {
				return err
			}
			c.out.line("%s %s %s to %s (run #%d)%s", c.out.state(string(decided.State)), decided.Service, printable(decided.Version), decided.Environment, decided.RunID, missing(decided))
			return nil
		},
	}
	cmd.Flags().StringVarP(&reason, "reason", "m", "", "why; kept with the decision")
	cmd.Flags().StringVar(&env, "env", "", "environment, when several wait")
	return cmd
}

func missing(a slipway.Approval) string {
	if n := a.Required - len(a.Votes); a.State == slipway.ApprovalWaiting && n > 0 {
		return fmt.Sprintf(": %d more to go", n)
	}
	return ""
}

func (c *cli) findApproval(ctx context.Context, api *client.Client, what, env string) (slipway.Approval, error) {
	var found []slipway.Approval
	if id, err := strconv.ParseInt(strings.TrimPrefix(what, "#"), 10, 64); err == nil {
		d, err := api.Run(ctx, id)
		if err != nil {
			return slipway.Approval{}, err
		}
		for _, a := range d.Approvals {
			if env == "" || a.Environment == env {
				found = append(found, a)
			}
		}
		// The newest one speaks for the run, also when it is decided: the server then says so.
		if len(found) > 0 {
			return found[len(found)-1], nil
		}
		return slipway.Approval{}, slipway.Errorf(slipway.NotFound, "run #%d has nothing to approve", id)
	}
	project, err := c.project(ctx, api)
	if err != nil {
		return slipway.Approval{}, err
	}
	waiting, err := waitingApprovals(ctx, api, project)
	if err != nil {
		return slipway.Approval{}, err
	}
	for _, a := range waiting {
		if a.Service == what && (env == "" || a.Environment == env) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return slipway.Approval{}, slipway.Errorf(slipway.NotFound, "nothing of %q waits for approval in %s (slipway approvals shows what does)", what, project)
	case 1:
		return found[0], nil
	}
	return slipway.Approval{}, slipway.Errorf(slipway.Invalid, "%s waits for approval in several environments: say which with --env", what)
}

func (c *cli) merge() *cobra.Command {
	return &cobra.Command{
		Use: "merge PULL", Short: "Merge a pull request that may be merged",
		Args: cobra.ExactArgs(1),
		RunE: c.onPull(func(ctx context.Context, api *client.Client, project string, n int64) (slipway.PullRequest, error) {
			return api.Merge(ctx, project, n)
		}),
	}
}

func (c *cli) onPull(do func(ctx context.Context, api *client.Client, project string, n int64) (slipway.PullRequest, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		n, err := strconv.ParseInt(strings.TrimPrefix(args[0], "#"), 10, 64)
		if err != nil || n <= 0 {
			return slipway.Errorf(slipway.Invalid, "pull request %q: expected its number", args[0])
		}
		api, err := c.client()
		if err != nil {
			return err
		}
		project, err := c.project(cmd.Context(), api)
		if err != nil {
			return err
		}
		p, err := do(cmd.Context(), api, project, n)
		if err != nil {
			return err
		}
		if done, err := c.out.value(p); done {
			return err
		}
		at := ""
		if p.MergedAs != "" {
			at = " as " + slipway.ShortHash(p.MergedAs) + " into " + p.Base
		}
		c.out.line("pull request %d %s%s: %s", p.Number, c.out.state(string(p.State)), at, printable(p.Title))
		return nil
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

func (c *cli) pulls() *cobra.Command {
	cmd := &cobra.Command{
		Use: "pulls", Short: "Pull requests",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			project, err := c.project(cmd.Context(), api)
			if err != nil {
				return err
			}
			pulls, err := api.Pulls(cmd.Context(), project)
			if err != nil {
				return err
			}
			if done, err := c.out.value(pulls); done {
				return err
			}
			var rows [][]string
			for _, p := range pulls {
				rows = append(rows, []string{fmt.Sprint(p.Number), c.out.state(string(p.State)), p.Base, printable(p.Author), slipway.ShortHash(p.Head), ago(p.UpdatedAt), printable(clip(p.Title, 60)) + fromFork(p)})
			}
			c.out.table([]string{"PULL", "STATE", "INTO", "BY", "HEAD", "UPDATED", "TITLE"}, rows)
			return nil
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use: "approve PULL", Short: "Approve a pull request", Args: cobra.ExactArgs(1),
		RunE: c.onPull(func(ctx context.Context, api *client.Client, project string, n int64) (slipway.PullRequest, error) {
			return api.ReviewPull(ctx, project, n)
		}),
	})
	return cmd
}

func (c *cli) rollback() *cobra.Command {
	var r slipway.RollbackRequest
	cmd := &cobra.Command{
		Use: "rollback SERVICE --env ENV [--to VERSION]", Short: "Bring a service back to an earlier version, image and configuration together",
		Long: "Without --to: the last verified version before the current one. It restores the objects of the release\n(image, configuration, secrets, jobs, ingress), not data, migrations, contents of volumes or CRDs.\nThe version it leaves is quarantined until `slipway lift`.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.Environment == "" {
				return slipway.Errorf(slipway.Invalid, "which environment? say --env NAME")
			}
			api, err := c.client()
			if err != nil {
				return err
			}
			if r.Project, err = c.project(cmd.Context(), api); err != nil {
				return err
			}
			r.Service = args[0]
			run, err := api.Rollback(cmd.Context(), r)
			return c.started(run, err)
		},
	}
	cmd.Flags().StringVar(&r.Environment, "env", "", "environment")
	cmd.Flags().StringVar(&r.To, "to", "", "version to go back to")
	cmd.Flags().StringVarP(&r.Reason, "reason", "m", "", "why; kept with the run")
	return cmd
}

func (c *cli) started(run slipway.Run, err error) error {
	if err != nil {
		return err
	}
	if done, err := c.out.value(run); done {
		return err
	}
	c.out.line("run #%d %s (follow it: slipway runs show %d --wait)", run.ID, c.out.state(string(run.State)), run.ID)
	return nil
}

func (c *cli) retry() *cobra.Command {
	return &cobra.Command{
		Use: "retry RUN", Short: "Run again the steps of a run that did not succeed",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			id, err := c.runID(cmd.Context(), api, args)
			if err != nil {
				return err
			}
			return c.started(api.RetryRun(cmd.Context(), id))
		},
	}
}

func (c *cli) cancel() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "cancel RUN", Short: "Stop a run",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			id, err := c.runID(cmd.Context(), api, args)
			if err != nil {
				return err
			}
			return c.started(api.CancelRun(cmd.Context(), id, reason))
		},
	}
	cmd.Flags().StringVarP(&reason, "reason", "m", "", "why; kept with the run")
	return cmd
}

func (c *cli) lift() *cobra.Command {
	return &cobra.Command{
		Use: "lift SERVICE VERSION", Short: "Lift the quarantine of a version that was rolled back",
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			api, err := c.client()
			if err != nil {
				return err
			}
			project, err := c.project(cmd.Context(), api)
			if err != nil {
				return err
			}
			r, err := api.LiftQuarantine(cmd.Context(), project, args[0], args[1])
			if err != nil {
				return err
			}
			if done, err := c.out.value(r); done {
				return err
			}
			c.out.line("%s %s may be deployed again", r.Service, printable(r.Version))
			return nil
		},
	}
}

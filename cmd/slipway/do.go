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
		RunE: inProject(c, func(ctx context.Context, q question) ([]slipway.Approval, error) {
			waiting, err := waitingApprovals(ctx, q.api, q.project)
			rememberApprovals(q.api.Address(), waiting...)
			return waiting, err
		}, func(q question, waiting []slipway.Approval) {
			if len(waiting) == 0 {
				c.out.line("nothing waits for approval in %s", q.project)
				return
			}
			c.approvalRows(waiting, diff)
		}),
	}
	cmd.Flags().BoolVar(&diff, "diff", false, "show what would change in the cluster, secrets masked")
	return cmd
}

func (c *cli) approvalRows(waiting []slipway.Approval, diff bool) {
	head := []string{"RUN", "SERVICE", "VERSION", "ENVIRONMENT", "APPROVED", "REQUESTED BY", "SINCE", "IMAGE", "CHART"}
	if c.out.narrow() {
		head = head[:7]
	}
	var rows [][]string
	for _, a := range waiting {
		row := []string{fmt.Sprintf("#%d", a.RunID), a.Service, slipway.Printable(a.Version), a.Environment,
			fmt.Sprintf("%d of %d", len(a.Votes), a.Required), slipway.Printable(a.Requester), ago(a.CreatedAt), shortDigest(a.ImageDigest), shortDigest(a.ChartDigest)}
		rows = append(rows, row[:len(head)])
	}
	c.out.table(head, rows)
	for _, a := range waiting {
		for _, n := range a.Notes {
			c.out.line("  %s %s: %s", a.Service, slipway.Printable(a.Version), slipway.Printable(n))
		}
		if diff {
			c.out.line("\n%s\n%s", c.out.bold(a.Service+" "+a.Version+" to "+a.Environment), slipway.Printable(a.Diff))
		}
	}
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
		Long: "Names the run (12) or the service (delivery) whose deployment waits. The approval binds to the image\ndigest, the chart digest, the values and the revision it replaces: see them with `slipway approvals --diff`.\nWhen something else waits by now than was shown last on this machine, it is refused.",
		Args: cobra.ExactArgs(1),
	}
	ask := answer(c, func(ctx context.Context, q question) (slipway.Approval, error) {
		a, byRun, err := c.findApproval(ctx, q.api, q.args[0], env)
		if err == nil {
			err = sameAsSeen(q.api.Address(), a, byRun)
		}
		if err != nil {
			return a, err
		}
		return q.api.Vote(ctx, a.ID, approve, reason)
	}, func(_ question, a slipway.Approval) {
		c.out.line("%s %s %s to %s (run #%d)%s", c.out.state(string(a.State)), a.Service, slipway.Printable(a.Version), a.Environment, a.RunID, missing(a))
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(reason) == "" {
			return slipway.Errorf(slipway.Invalid, "say why: --reason \"...\" (it is kept with the decision)")
		}
		return ask(cmd, args)
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

// findApproval finds the approval of a run or of a service, and says which of the two it was named by.
func (c *cli) findApproval(ctx context.Context, api *client.Client, what, env string) (found slipway.Approval, byRun bool, err error) {
	if id, err := strconv.ParseInt(strings.TrimPrefix(what, "#"), 10, 64); err == nil {
		found, err = approvalOfRun(ctx, api, id, env)
		return found, true, err
	}
	project, err := c.project(ctx, api)
	if err != nil {
		return found, false, err
	}
	found, err = approvalOfService(ctx, api, project, what, env)
	return found, false, err
}

// approvalOfRun is the newest one of the run, also when it is decided: the server then says so.
func approvalOfRun(ctx context.Context, api *client.Client, id int64, env string) (found slipway.Approval, err error) {
	d, err := api.Run(ctx, id)
	if err != nil {
		return found, err
	}
	for _, a := range d.Approvals {
		if env == "" || a.Environment == env {
			found = a
		}
	}
	if found.ID == 0 {
		err = slipway.Errorf(slipway.NotFound, "run #%d has nothing to approve", id)
	}
	return found, err
}

func approvalOfService(ctx context.Context, api *client.Client, project, service, env string) (slipway.Approval, error) {
	waiting, err := waitingApprovals(ctx, api, project)
	if err != nil {
		return slipway.Approval{}, err
	}
	var found []slipway.Approval
	for _, a := range waiting {
		if a.Service == service && (env == "" || a.Environment == env) {
			found = append(found, a)
		}
	}
	switch len(found) {
	case 0:
		return slipway.Approval{}, slipway.Errorf(slipway.NotFound, "nothing of %q waits for approval in %s (slipway approvals shows what does)", service, project)
	case 1:
		return found[0], nil
	}
	return slipway.Approval{}, slipway.Errorf(slipway.Invalid, "%s waits for approval in several environments: say which with --env", service)
}

func (c *cli) rollback() *cobra.Command {
	var r slipway.RollbackRequest
	cmd := &cobra.Command{
		Use: "rollback SERVICE --env ENV [--to VERSION]", Short: "Bring a service back to an earlier version, image and configuration together",
		Long: "Without --to: the last verified version before the current one. It restores the objects of the release\n(image, configuration, secrets, jobs, ingress), not data, migrations, contents of volumes or CRDs.\nThe version it leaves is quarantined until `slipway lift`.",
		Args: cobra.ExactArgs(1),
	}
	ask := inProject(c, func(ctx context.Context, q question) (slipway.Run, error) {
		r.Project, r.Service = q.project, q.args[0]
		return q.api.Rollback(ctx, r)
	}, c.started)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if r.Environment == "" {
			return slipway.Errorf(slipway.Invalid, "which environment? say --env NAME")
		}
		return ask(cmd, args)
	}
	cmd.Flags().StringVar(&r.Environment, "env", "", "environment")
	cmd.Flags().StringVar(&r.To, "to", "", "version to go back to")
	cmd.Flags().StringVarP(&r.Reason, "reason", "m", "", "why; kept with the run")
	return cmd
}

func (c *cli) started(_ question, run slipway.Run) {
	c.out.line("run #%d %s (follow it: slipway runs show %d --wait)", run.ID, c.out.state(string(run.State)), run.ID)
}

func (c *cli) retry() *cobra.Command {
	return &cobra.Command{
		Use: "retry RUN", Short: "Run again the steps of a run that did not succeed",
		Long: "What succeeded is kept; a gate that failed counts the waivers that were given since.\nWhat was rolled back is not tried again, but for a way back that did not get to its end; other services and\nenvironments of the run go on. A chart whose package is not kept any more is packaged again.",
		Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Run, error) {
			id, err := c.runID(ctx, q.api, q.args)
			if err != nil {
				return slipway.Run{}, err
			}
			return q.api.RetryRun(ctx, id)
		}, c.started),
	}
}

func (c *cli) cancel() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "cancel RUN", Short: "Stop a run",
		Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Run, error) {
			id, err := c.runID(ctx, q.api, q.args)
			if err != nil {
				return slipway.Run{}, err
			}
			return q.api.CancelRun(ctx, id, reason)
		}, c.started),
	}
	cmd.Flags().StringVarP(&reason, "reason", "m", "", "why; kept with the run")
	return cmd
}

func (c *cli) lift() *cobra.Command {
	return &cobra.Command{
		Use: "lift SERVICE VERSION", Short: "Lift the quarantine of a version that was rolled back",
		Args: cobra.ExactArgs(2),
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.Release, error) {
			return q.api.LiftQuarantine(ctx, q.project, q.args[0], q.args[1])
		}, func(_ question, r slipway.Release) {
			c.out.line("%s %s may be deployed again", r.Service, slipway.Printable(r.Version))
		}),
	}
}

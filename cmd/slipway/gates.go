package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) gates() *cobra.Command {
	var env string
	var all bool
	cmd := &cobra.Command{
		Use: "gates [RUN|SERVICE]", Short: "What the quality gates said of a run or of a service, and why",
		Long:    "Shows each gate of a run (12, the newest without an argument) or of a service's newest run (delivery): its\nverdict and what it does not like. Of a gate that spoke in several steps it is what it said last; --output json\nhas all. What is waived is shown with who waived it, until when and why. With --all every reason is shown, else\nthe ten worst of each gate and ten that are waived.",
		Example: "  slipway gates\n  slipway gates 12\n  slipway gates delivery --env production",
		Args:    cobra.MaximumNArgs(1),
		RunE: inProject(c, func(ctx context.Context, q question) ([]slipway.GateResult, error) {
			f := slipway.GateFilter{Project: q.project, Environment: env}
			if len(q.args) == 1 && !isRun(q.args[0]) {
				f.Service = q.args[0]
				return q.api.Gates(ctx, f)
			}
			id, err := c.runID(ctx, q.api, q.args)
			if err != nil {
				return nil, err
			}
			f.RunID = id
			return q.api.Gates(ctx, f)
		}, func(q question, gates []slipway.GateResult) {
			if len(gates) == 0 && len(q.args) == 1 {
				c.out.line("no gate has spoken yet of %s", slipway.Printable(q.args[0]))
				return
			}
			c.gateRows(gates, all)
		}),
	}
	cmd.Flags().StringVar(&env, "env", "", "only this environment's, with those that belong to none")
	cmd.Flags().BoolVar(&all, "all", false, "every reason")
	return cmd
}

func isRun(s string) bool {
	_, err := strconv.ParseInt(strings.TrimPrefix(s, "#"), 10, 64)
	return err == nil
}

const reasonsShown = 10

func (c *cli) gateRows(gates []slipway.GateResult, all bool) {
	if len(gates) == 0 {
		c.out.line("no gate has spoken yet")
		return
	}
	c.out.line("%s", c.out.bold(fmt.Sprintf("run #%d", gates[0].RunID)))
	gates = lastSaid(gates)
	var rows [][]string
	for _, g := range gates {
		rows = append(rows, []string{slipway.Printable(g.Gate), c.out.state(string(g.Verdict)), slipway.Printable(g.Service), first(g.Environment, "-"), slipway.Printable(c.shortSummary(g.Summary))})
	}
	c.out.table([]string{"GATE", "VERDICT", "SERVICE", "ENVIRONMENT", ""}, rows)
	for _, g := range gates {
		c.gateReasons(g, all)
	}
}

// lastSaid is what each gate said last of a service and an environment, by service, environment and gate.
func lastSaid(gates []slipway.GateResult) []slipway.GateResult {
	out := slices.Clone(gates)
	order := func(a, b slipway.GateResult) int {
		return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Environment, b.Environment), strings.Compare(a.Gate, b.Gate))
	}
	slices.Reverse(out)
	slices.SortStableFunc(out, order)
	return slices.CompactFunc(out, func(a, b slipway.GateResult) bool { return order(a, b) == 0 })
}

func (c *cli) gateReasons(g slipway.GateResult, all bool) {
	if len(g.Reasons) == 0 {
		return
	}
	title := g.Gate + " of " + g.Service
	if g.Environment != "" {
		title += " for " + g.Environment
	}
	c.out.line("\n%s", c.out.bold(slipway.Printable(title)))
	shown, waived, left := 0, 0, 0
	for _, r := range g.Reasons {
		n := &shown
		if r.Waiver != nil { // shows wherever its gate shows
			n = &waived
		}
		if *n++; *n > reasonsShown && !all {
			left++
			continue
		}
		line := fmt.Sprintf("  %s %s: %s", c.out.state(string(r.Verdict)), c.out.bold(slipway.Printable(r.Subject)), slipway.Printable(r.Message))
		if r.Place != "" {
			line += c.out.dim(" at " + slipway.Printable(r.Place))
		}
		c.out.line("%s", line)
		if w := r.Waiver; w != nil {
			c.out.line("    %s", c.out.dim(slipway.Printable(fmt.Sprintf("waived by %s until %s: %s", w.Author, day(w.Expires), w.Reason))))
		}
	}
	if left > 0 {
		c.out.line("  and %d more: --all shows them", left)
	}
}

// shortSummary is a summary of at most about 100 characters that still says what is waived; all of it when piped.
func (c *cli) shortSummary(summary string) string {
	const most = 100
	if c.out.width == 0 {
		return summary
	}
	head, last, _ := cutLast(summary, ", ")
	if len(summary) <= most || !strings.Contains(last, " waived until ") {
		return slipway.Clip(summary, most)
	}
	return slipway.Clip(head, most-len(last)-len(", ")) + ", " + last
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func (c *cli) waive() *cobra.Command {
	var w slipway.Waiver
	var until string
	cmd := &cobra.Command{
		Use: "waive GATE SUBJECT", Short: "Let something through a gate until a day, with a reason",
		Long:    "SUBJECT is what `slipway gates` shows: \"CVE-2024-1234 openssl\", \"non-root Deployment/web\"; a * stands for any\ncharacters. The waiver is shown wherever its gate is, and stops holding at the beginning of the day given (UTC).\nRetry the run afterwards: slipway retry RUN.",
		Example: "  slipway waive vulnerabilities 'CVE-2024-1234 openssl' --service delivery --until 2026-12-31 \\\n    --reason 'not reachable: we do not parse certificates'",
		Args:    cobra.ExactArgs(2),
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.Waiver, error) {
			var err error
			if w.Expires, err = untilDay(until, time.Now()); err != nil {
				return w, err
			}
			w.Project, w.Gate, w.Subject = q.project, q.args[0], q.args[1]
			return q.api.GiveWaiver(ctx, w)
		}, func(_ question, w slipway.Waiver) {
			c.out.line("waiver %d: %s of gate %s until %s", w.ID, slipway.Printable(w.Subject), w.Gate, day(w.Expires))
		}),
	}
	cmd.Flags().StringVarP(&w.Reason, "reason", "m", "", "why; kept with the waiver")
	cmd.Flags().StringVar(&until, "until", "", "day it stops to hold (2026-12-31), or whole days from now (30d)")
	cmd.Flags().StringVar(&w.Service, "service", "", "only for this service")
	cmd.Flags().StringVar(&w.Environment, "env", "", "only for this environment")
	return cmd
}

// untilDay reads a day, or a number of days from now.
func untilDay(s string, now time.Time) (time.Time, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 365 {
			return now.UTC().Add(24*time.Hour-1).Truncate(24*time.Hour).AddDate(0, 0, n), nil
		}
	}
	if s == "" {
		return time.Time{}, slipway.Errorf(slipway.Invalid, "say until when, at most a year: --until 2026-12-31, or --until 30d")
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, slipway.Errorf(slipway.Invalid, "--until %q: expected a day such as 2026-12-31, or 30d, at most a year away", s)
	}
	return t, nil
}

func (c *cli) waivers() *cobra.Command {
	var all bool
	var f slipway.WaiverFilter
	list := inProject(c, func(ctx context.Context, q question) ([]slipway.Waiver, error) {
		if f.Limit < 1 || f.Limit > 1000 {
			return nil, slipway.Errorf(slipway.Invalid, "--limit %d: expected 1 to 1000", f.Limit)
		}
		if f.Before < 0 {
			return nil, slipway.Errorf(slipway.Invalid, "--before %d: expected the number of a waiver", f.Before)
		}
		f.Project, f.Holding = q.project, !all && f.Before == 0
		return q.api.Waivers(ctx, f)
	}, func(q question, found []slipway.Waiver) {
		if len(found) == 0 {
			c.out.line("%s", noWaivers(q.project, f))
			return
		}
		var rows [][]string
		for _, w := range found {
			id := first(slipway.Printable(w.Place), strconv.FormatInt(w.ID, 10))
			rows = append(rows, []string{id, w.Gate, slipway.Printable(w.Subject), first(w.Service, "every"), first(w.Environment, "every"),
				waiverState(w, time.Now()), slipway.Printable(w.Author), slipway.Printable(slipway.Clip(w.Reason, 60))})
		}
		c.out.table([]string{"WAIVER", "GATE", "SUBJECT", "SERVICE", "ENVIRONMENT", "HOLDS", "BY", "REASON"}, rows)
		if last := found[len(found)-1]; !f.Holding && over(found) >= f.Limit && last.ID > 0 {
			c.out.line("older ones: slipway waivers --before %d", last.ID)
		}
	})
	cmd := &cobra.Command{Use: "waivers", Short: "What is let through gates, until when and why", Args: cobra.NoArgs, RunE: list}
	cmd.Flags().BoolVar(&all, "all", false, "those that expired or were withdrawn too, the newest after all that hold")
	cmd.Flags().IntVarP(&f.Limit, "limit", "n", 100, "how many that expired or were withdrawn; those that hold are all shown")
	cmd.Flags().Int64Var(&f.Before, "before", 0, "those that expired or were withdrawn and are older than the waiver of this number")
	cmd.AddCommand(&cobra.Command{
		Use: "withdraw WAIVER", Short: "Take back a waiver that a person gave, by its number", Args: cobra.ExactArgs(1),
		RunE: answer(c, func(ctx context.Context, q question) (slipway.Waiver, error) {
			id, err := strconv.ParseInt(q.args[0], 10, 64)
			if err != nil || id <= 0 {
				return slipway.Waiver{}, slipway.Errorf(slipway.Invalid, "waiver %q: expected its number, which `slipway waivers` shows; one of slipway.yaml is taken out there", q.args[0])
			}
			return q.api.WithdrawWaiver(ctx, id)
		}, func(_ question, w slipway.Waiver) {
			c.out.line("waiver %d of %s is withdrawn", w.ID, slipway.Printable(w.Subject))
		}),
	})
	return cmd
}

func noWaivers(project string, f slipway.WaiverFilter) string {
	switch {
	case f.Before > 0:
		return fmt.Sprintf("no waiver of %s older than %d expired or was withdrawn", project, f.Before)
	case f.Holding:
		return fmt.Sprintf("nothing is waived in %s", project)
	}
	return fmt.Sprintf("nothing was ever waived in %s", project)
}

// over is how many of the waivers that people gave do not hold any more.
func over(all []slipway.Waiver) (n int) {
	for _, w := range all {
		if w.ID > 0 && !w.Holds(time.Now()) {
			n++
		}
	}
	return n
}

func waiverState(w slipway.Waiver, now time.Time) string {
	switch {
	case !w.Withdrawn.IsZero():
		return "withdrawn " + day(w.Withdrawn)
	case !w.Holds(now):
		return "expired " + day(w.Expires)
	}
	if w.Problem != "" {
		return "until " + day(w.Expires) + "; " + slipway.Printable(w.Problem)
	}
	return "until " + day(w.Expires)
}

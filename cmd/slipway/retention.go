package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
)

func (c *cli) retentionCommand() *cobra.Command {
	var dry, all bool
	cmd := &cobra.Command{
		Use: "retention", Short: "Remove old candidates from the registry, and free the bytes that nothing needs",
		Long:    "Images and charts that were published are removed when they are older, and more, than retention of slipway.yaml\nkeeps. What an environment runs, what a rollback may go back to, what a run that has not ended made, and all of\nproduction stays. The server does it once a day; this does it now. With --dry-run it says what would go.",
		Example: "  slipway retention --dry-run",
		Args:    cobra.NoArgs,
		RunE: inProject(c, func(ctx context.Context, q question) (slipway.RetentionReport, error) {
			return q.api.Retention(ctx, q.project, dry)
		}, func(_ question, r slipway.RetentionReport) { c.retentionRows(r, all) }),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be removed, and remove nothing")
	cmd.Flags().BoolVar(&all, "all", false, "what is kept too, and why")
	return cmd
}

func (c *cli) retentionRows(r slipway.RetentionReport, all bool) {
	list := func(what string, items []slipway.RetentionItem) (rows [][]string) {
		for _, i := range items {
			rows = append(rows, []string{what, slipway.Printable(i.Repository), slipway.Printable(first(strings.Join(i.Tags, ", "), "-")), shortDigest(i.Digest), ago(i.Pushed), i.Reason})
		}
		return rows
	}
	verb := "removed"
	if r.DryRun {
		verb = "would go"
	}
	rows := list(verb, r.Removed)
	if all {
		rows = append(rows, list("kept", r.Kept)...)
	}
	if len(rows) > 0 {
		c.out.table([]string{"", "REPOSITORY", "TAGS", "DIGEST", "PUBLISHED", "WHY"}, rows)
	}
	later := ""
	if r.Later > 0 && len(r.Removed) > 0 {
		later = fmt.Sprintf(", and %s with the next cleaning that is an hour from now or later", humanize.IBytes(uint64(r.Later)))
	}
	if r.DryRun {
		c.out.line("%d would be removed, %d kept; %s would be freed%s", len(r.Removed), len(r.Kept), humanize.IBytes(uint64(max(0, r.Bytes))), later)
		return
	}
	c.out.line("%d removed, %d kept; %s freed%s", len(r.Removed), len(r.Kept), humanize.IBytes(uint64(max(0, r.Bytes))), later)
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/react"
)

const (
	// retainEvery is how often candidates that are not needed any more are removed.
	retainEvery = 24 * time.Hour
	// retainFirst is how long after its start a server does so, which may be stopped every night.
	retainFirst = 15 * time.Minute
)

// retain removes old candidates once a day, of one project after the other.
func (s *server) retain(ctx context.Context) {
	due := time.NewTimer(retainFirst)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		due.Reset(retainEvery)
		projects, err := s.store.Projects(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("remove old candidates", "error", err)
		}
		for _, p := range projects {
			if r, err := s.retention(ctx, p.Name, false, ""); err != nil && ctx.Err() == nil {
				s.log.Error("remove old candidates", "project", p.Name, "error", err)
			} else if len(r.Removed) > 0 {
				s.log.Info("removed old candidates", "project", p.Name, "removed", len(r.Removed), "bytes", r.Bytes)
			}
		}
	}
}

// retention removes what the retention of the default branch's configuration no longer keeps, or says what it
// would. Removing again what is gone already is success, so that a run of it that was cut off goes on.
func (s *server) retention(ctx context.Context, project string, dry bool, actor string) (slipway.RetentionReport, error) {
	report := slipway.RetentionReport{Project: project, DryRun: dry, Removed: []slipway.RetentionItem{}, Kept: []slipway.RetentionItem{}, Time: time.Now()}
	c, err := s.planner.Policy(ctx, project)
	if err != nil {
		return report, err
	}
	report.DryRun = dry || c.Retention.DryRun
	held, err := s.held(ctx, project)
	if err != nil {
		return report, err
	}
	needed, err := s.store.Needed(ctx, project)
	if err != nil {
		return report, err
	}
	report.Removed, report.Kept = react.Retain(c.Retention, held, needed, report.Time)
	if report.Removed, report.Kept, err = s.spare(report.Removed, report.Kept); err != nil {
		return report, err
	}
	without := byRepository(report.Removed)
	if report.DryRun {
		freed, err := s.registry.Collect(ctx, project, true, without)
		report.Blobs, report.Bytes, report.Later = freed.Blobs, freed.Bytes, freed.Later
		return report, err
	}
	for repository, digests := range without {
		if err := s.registry.RemoveAll(ctx, repository, digests); err != nil {
			return report, err
		}
	}
	freed, err := s.registry.Collect(ctx, project, false, nil)
	if err != nil {
		return report, err
	}
	report.Blobs, report.Bytes, report.Later = freed.Blobs, freed.Bytes, freed.Later
	if _, err := s.store.ForgetSBOMs(ctx, project); err != nil {
		return report, err
	}
	if len(report.Removed) > 0 || report.Blobs > 0 {
		err = s.store.RecordRetention(ctx, report, actor)
	}
	return report, err
}

// spare keeps what indexes name that stay.
func (s *server) spare(removed, kept []slipway.RetentionItem) (goes, stays []slipway.RetentionItem, err error) {
	goes, stays = []slipway.RetentionItem{}, kept
	for repository, digests := range byRepository(removed) {
		by, err := s.registry.Staying(repository, digests)
		if err != nil {
			return nil, nil, err
		}
		of := slices.DeleteFunc(slices.Clone(removed), func(i slipway.RetentionItem) bool { return i.Repository != repository })
		of, stays = react.Spare(of, stays, by)
		goes = append(goes, of...)
	}
	slices.SortFunc(goes, func(a, b slipway.RetentionItem) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), b.Pushed.Compare(a.Pushed), cmp.Compare(a.Digest, b.Digest))
	})
	return goes, stays, nil
}

// byRepository lists digests, those of indexes before what they name.
func byRepository(items []slipway.RetentionItem) map[string][]string {
	items = slices.SortedStableFunc(slices.Values(items), func(a, b slipway.RetentionItem) int {
		return cmp.Compare(len(b.Names), len(a.Names))
	})
	out := map[string][]string{}
	for _, i := range items {
		out[i.Repository] = append(out[i.Repository], i.Digest)
	}
	return out
}

// held is what the registry holds of a project's candidates. When it was published last is what runs say, and
// where none made it, what its file says.
func (s *server) held(ctx context.Context, project string) ([]slipway.RetentionItem, error) {
	list, err := s.registry.Held(ctx, project)
	if err != nil {
		return nil, err
	}
	published, err := s.store.Published(ctx, project)
	if err != nil {
		return nil, err
	}
	out := make([]slipway.RetentionItem, len(list))
	for i, h := range list {
		out[i] = slipway.RetentionItem{Repository: h.Repository, Digest: h.Digest, Tags: h.Tags, Pushed: h.Pushed, Names: h.Names}
		if a, ok := published[h.Digest]; ok && a.CreatedAt.After(h.Pushed) {
			out[i].Pushed = a.CreatedAt
		}
	}
	return out, nil
}

// retainer removes old candidates for people who may.
type retainer struct{ *server }

// Retention says what would be removed, or removes it.
func (r retainer) Retention(ctx context.Context, by slipway.User, project string, dry bool) (slipway.RetentionReport, error) {
	action := auth.ManageProject
	if dry {
		action = auth.View
	}
	if err := auth.Check(by, action, project); err != nil {
		return slipway.RetentionReport{}, err
	}
	return r.retention(ctx, project, dry, by.Name)
}

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

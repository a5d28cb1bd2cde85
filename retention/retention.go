// Package retention removes candidates that are older, and more, than the retention of a project keeps, and frees the
// bytes that nothing needs then. What runs, what a rollback may go back to and what a run that has not ended made
// stays, and production is never looked at.
//
// What of it is stored where is the registry's affair; what needs a digest, and when it was published, is on record.
package retention

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
	"github.com/slipway-cd/slipway/hosting/registry"
)

const (
	// every is how often candidates that are not needed any more are removed.
	every = 24 * time.Hour
	// atFirst is how long after its start a server does so, which may be stopped every night.
	atFirst = 15 * time.Minute
)

// Cleaner removes old candidates. Its fields are set before it is used; it is safe for concurrent use then.
type Cleaner struct {
	Registry *registry.Registry
	Records  Records
	// Policy is what the default branch of a project decides.
	Policy func(ctx context.Context, project string) (slipway.Config, error)
	Log    *slog.Logger
	Now    func() time.Time
}

// Records is what is on record about candidates.
type Records interface {
	Projects(ctx context.Context) ([]slipway.Project, error)
	// Needed says of digests of a project what needs them.
	Needed(ctx context.Context, project string) (map[string]string, error)
	// Published is the newest image or chart that a run made of each digest.
	Published(ctx context.Context, project string) (map[string]slipway.Artifact, error)
	// ForgetSBOMs removes the SBOMs that belong to nothing any more, and says how many there were.
	ForgetSBOMs(ctx context.Context, project string) (int64, error)
	// RecordRetention writes down what an actor removed; "" is the server itself.
	RecordRetention(ctx context.Context, r slipway.RetentionReport, actor string) error
}

// Daily removes old candidates once a day, of one project after the other, until ctx ends.
func (c *Cleaner) Daily(ctx context.Context) {
	due := time.NewTimer(atFirst)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		due.Reset(every)
		projects, err := c.Records.Projects(ctx)
		if err != nil && ctx.Err() == nil {
			c.Log.Error("remove old candidates", "error", err)
		}
		for _, p := range projects {
			if r, err := c.Clean(ctx, p.Name, ""); err != nil && ctx.Err() == nil {
				c.Log.Error("remove old candidates", "project", p.Name, "error", err)
			} else if len(r.Removed) > 0 {
				c.Log.Info("removed old candidates", "project", p.Name, "removed", len(r.Removed), "bytes", r.Bytes)
			}
		}
	}
}

// Retention says to a user who may see the project what would be removed, or removes it for one who may manage it.
func (c *Cleaner) Retention(ctx context.Context, by slipway.User, project string, dry bool) (slipway.RetentionReport, error) {
	if dry {
		if err := auth.Check(by, auth.View, project); err != nil {
			return slipway.RetentionReport{}, err
		}
		return c.Foretell(ctx, project)
	}
	if err := auth.Check(by, auth.ManageProject, project); err != nil {
		return slipway.RetentionReport{}, err
	}
	return c.Clean(ctx, project, by.Name)
}

// Foretell says what Clean would remove.
func (c *Cleaner) Foretell(ctx context.Context, project string) (slipway.RetentionReport, error) {
	report, err := c.decided(ctx, project)
	if err != nil {
		return report, err
	}
	return c.foretold(ctx, report)
}

// Clean removes what the retention of the default branch's configuration no longer keeps; where that is a dry run, it
// says what it would. Removing again what is gone already is success, so that a call that was cut off goes on with the
// next.
func (c *Cleaner) Clean(ctx context.Context, project, actor string) (slipway.RetentionReport, error) {
	report, err := c.decided(ctx, project)
	if err != nil {
		return report, err
	}
	if report.DryRun {
		return c.foretold(ctx, report)
	}
	for repository, digests := range byRepository(report.Removed) {
		if err := c.Registry.RemoveAll(ctx, repository, digests); err != nil {
			return report, err
		}
	}
	freed, err := c.Registry.Collect(ctx, project, false, nil)
	if err != nil {
		return report, err
	}
	report.Blobs, report.Bytes, report.Later = freed.Blobs, freed.Bytes, freed.Later
	if _, err := c.Records.ForgetSBOMs(ctx, project); err != nil {
		return report, err
	}
	if len(report.Removed) > 0 || report.Blobs > 0 {
		err = c.Records.RecordRetention(ctx, report, actor)
	}
	return report, err
}

// decided is what is to be removed and what is kept. It is a dry run where the configuration wants that.
func (c *Cleaner) decided(ctx context.Context, project string) (slipway.RetentionReport, error) {
	report := slipway.RetentionReport{Project: project, Removed: []slipway.RetentionItem{}, Kept: []slipway.RetentionItem{}, Time: c.Now()}
	conf, err := c.Policy(ctx, project)
	if err != nil {
		return report, err
	}
	report.DryRun = conf.Retention.DryRun
	held, err := c.held(ctx, project)
	if err != nil {
		return report, err
	}
	needed, err := c.Records.Needed(ctx, project)
	if err != nil {
		return report, err
	}
	report.Removed, report.Kept = decide(conf.Retention, held, needed, report.Time)
	report.Removed, report.Kept, err = c.spared(report.Removed, report.Kept)
	return report, err
}

// foretold adds to a report what would be freed.
func (c *Cleaner) foretold(ctx context.Context, report slipway.RetentionReport) (slipway.RetentionReport, error) {
	report.DryRun = true
	freed, err := c.Registry.Collect(ctx, report.Project, true, byRepository(report.Removed))
	report.Blobs, report.Bytes, report.Later = freed.Blobs, freed.Bytes, freed.Later
	return report, err
}

// spared keeps what indexes name that stay.
func (c *Cleaner) spared(removed, kept []slipway.RetentionItem) (goes, stays []slipway.RetentionItem, err error) {
	goes, stays = []slipway.RetentionItem{}, kept
	for repository, digests := range byRepository(removed) {
		by, err := c.Registry.Staying(repository, digests)
		if err != nil {
			return nil, nil, err
		}
		of := slices.DeleteFunc(slices.Clone(removed), func(i slipway.RetentionItem) bool { return i.Repository != repository })
		of, stays = spare(of, stays, by)
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
func (c *Cleaner) held(ctx context.Context, project string) ([]slipway.RetentionItem, error) {
	list, err := c.Registry.Held(ctx, project)
	if err != nil {
		return nil, err
	}
	published, err := c.Records.Published(ctx, project)
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

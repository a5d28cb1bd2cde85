package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// backTo is how many verified versions of a target a rollback may go back to: as many as Helm keeps by default.
const backTo = 10

// Needed says which digests of images and charts of a project something needs, and what: what runs, what a
// rollback may go back to, what runs that have not ended made, and the newest images of the default branch, from
// which charts are published again.
func (s *Store) Needed(ctx context.Context, project string) (map[string]string, error) {
	out := map[string]string{}
	need := func(digest, why string) {
		if _, known := out[digest]; digest != "" && !known {
			out[digest] = why
		}
	}
	current, err := deployments(ctx, s.reader, `project = $1 AND state IN ('deploying', 'deployed', 'verified', 'unhealthy') ORDER BY id DESC`, project)
	if err != nil {
		return nil, err
	}
	for _, d := range current {
		why := fmt.Sprintf("runs in %s", d.Target.Environment)
		need(d.ImageDigest, why)
		need(d.ChartDigest, why)
	}
	verified, err := deployments(ctx, s.reader, `project = $1 AND verified_at <> 0 ORDER BY id DESC`, project)
	if err != nil {
		return nil, err
	}
	type target struct{ environment, service string }
	versions := map[target]map[string]bool{}
	for _, d := range verified {
		at := target{d.Target.Environment, d.Target.Service}
		if versions[at] == nil {
			versions[at] = map[string]bool{}
		}
		if !versions[at][d.Version] && len(versions[at]) == backTo {
			continue
		}
		versions[at][d.Version] = true
		why := fmt.Sprintf("a rollback of %s may go back to it", d.Target.Environment)
		need(d.ImageDigest, why)
		need(d.ChartDigest, why)
	}
	open, err := list(ctx, s.reader, scanArtifact, `SELECT `+artifactColumns+` FROM artifacts WHERE project = $1
		AND run_id IN (SELECT id FROM runs WHERE project = $2 AND state IN ('queued', 'running', 'waiting')) ORDER BY id`, project, project)
	if err != nil {
		return nil, err
	}
	for _, a := range open {
		need(a.Digest, fmt.Sprintf("run #%d has not ended", a.RunID))
	}
	services, err := list(ctx, s.reader, scanString, `SELECT DISTINCT service FROM artifacts WHERE project = $1 AND kind = 'image'`, project)
	if err != nil {
		return nil, err
	}
	for _, service := range services {
		images, err := s.Images(ctx, project, service)
		if err != nil {
			return nil, err
		}
		for _, a := range images {
			need(a.Digest, "among the newest of the default branch")
		}
	}
	return out, nil
}

// Published is the newest image or chart that a run made of each digest.
func (s *Store) Published(ctx context.Context, project string) (map[string]slipway.Artifact, error) {
	rows, err := list(ctx, s.reader, scanArtifact, `SELECT `+artifactColumns+` FROM artifacts WHERE project = $1 AND kind IN ('image', 'chart') AND repository <> '' ORDER BY id`, project)
	if err != nil {
		return nil, err
	}
	out := map[string]slipway.Artifact{}
	for _, a := range rows {
		out[a.Digest] = a // the newest wins
	}
	return out, nil
}

// RecordRetention writes down what was removed of a project's candidates.
func (s *Store) RecordRetention(ctx context.Context, r slipway.RetentionReport, actor string) error {
	return s.write(ctx, func(t *tx) error {
		return t.event(fmt.Sprintf("retention/%s/%d", r.Project, ms(t.now)), slipway.Event{Kind: "retention.done", Project: r.Project, Actor: actor,
			Message: fmt.Sprintf("%d candidates removed, %d kept, %d bytes freed", len(r.Removed), len(r.Kept), r.Bytes), Data: data(r.Removed)})
	})
}

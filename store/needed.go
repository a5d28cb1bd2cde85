package store

import (
	"context"
	"fmt"

	"github.com/slipway-cd/slipway"
)

// backTo is how many verified versions of a target a rollback may go back to: as many as Helm keeps by default.
const backTo = 10

// needs are digests, each with the first reason to keep it.
type needs map[string]string

func (n needs) add(why string, digests ...string) {
	for _, digest := range digests {
		if _, known := n[digest]; digest != "" && !known {
			n[digest] = why
		}
	}
}

// Needed says which digests of images and charts of a project something needs, and what: what runs, what a
// rollback may go back to, what runs that have not ended made or are about to use, and the newest images of the
// default branch, from which charts are published again.
func (s *Store) Needed(ctx context.Context, project string) (map[string]string, error) {
	out := needs{}
	for _, find := range []func(context.Context, string, needs) error{s.neededByDeployments, s.neededByRollbacks, s.neededByRuns, s.neededByCharts} {
		if err := find(ctx, project, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Store) neededByDeployments(ctx context.Context, project string, out needs) error {
	current, err := deployments(ctx, s.reader, `project = $1 AND (state = 'deploying' OR id IN (SELECT max(id) FROM deployments
		WHERE project = $2 AND state IN ('deployed', 'verified', 'unhealthy') GROUP BY environment, service)) ORDER BY id DESC`, project, project)
	for _, d := range current {
		out.add(fmt.Sprintf("runs in %s", d.Target.Environment), d.ImageDigest, d.ChartDigest)
	}
	return err
}

func (s *Store) neededByRollbacks(ctx context.Context, project string, out needs) error {
	verified, err := deployments(ctx, s.reader, `project = $1 AND verified_at <> 0 ORDER BY id DESC`, project)
	versions := map[place]map[string]bool{}
	for _, d := range verified {
		at := place{d.Target.Service, d.Target.Environment}
		if versions[at] == nil {
			versions[at] = map[string]bool{}
		}
		if !versions[at][d.Version] && len(versions[at]) == backTo {
			continue
		}
		versions[at][d.Version] = true
		out.add(fmt.Sprintf("a rollback of %s may go back to it", d.Target.Environment), d.ImageDigest, d.ChartDigest)
	}
	return err
}

// neededByRuns adds what runs that have not ended made, and what their plans name: the image to which a changed
// chart is published, and the version that a rollback goes back to, however old.
func (s *Store) neededByRuns(ctx context.Context, project string, out needs) error {
	const open = `project = $1 AND run_id IN (SELECT id FROM runs WHERE project = $2 AND state IN ('queued', 'running', 'waiting'))`
	made, err := list(ctx, s.reader, scanArtifact, `SELECT `+artifactColumns+` FROM artifacts WHERE `+open+` ORDER BY id`, project, project)
	if err != nil {
		return err
	}
	for _, a := range made {
		out.add(fmt.Sprintf("run #%d has not ended", a.RunID), a.Digest)
	}
	planned, err := list(ctx, s.reader, scanStepRow, `SELECT `+stepColumns+` FROM steps WHERE `+open+` AND kind IN ('scan', 'publish', 'rollback') ORDER BY id`, project, project)
	for _, st := range planned {
		why := fmt.Sprintf("run #%d has not ended", st.RunID)
		if p := st.Spec.Scan; p != nil && p.Built != nil {
			out.add(why, p.Built.Digest)
		}
		if p := st.Spec.Publish; p != nil && p.Built != nil {
			out.add(why, p.Built.Digest)
		}
		if p := st.Spec.Rollback; p != nil {
			out.add(why, p.To.ImageDigest, p.To.ChartDigest)
		}
	}
	return err
}

func (s *Store) neededByCharts(ctx context.Context, project string, out needs) error {
	services, err := list(ctx, s.reader, scanString, `SELECT DISTINCT service FROM artifacts WHERE project = $1 AND kind = 'image'`, project)
	if err != nil {
		return err
	}
	for _, service := range services {
		images, err := s.Images(ctx, project, service)
		if err != nil {
			return err
		}
		for _, a := range images {
			out.add("among the newest of the default branch", a.Digest)
		}
	}
	return nil
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

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/stage/scan"
)

// askedMore are the recorded manifests by what is asked of them now: where a Pod Security Standard or a list of registries
// became stricter since the chart was checked, they are looked at again. The project's own registries are always allowed.
func askedMore(seen slipway.Evidence, own slipway.Registry, planned, now slipway.ManifestGate) []slipway.ManifestReport {
	if planned.PodSecurity == now.PodSecurity && slices.Equal(planned.Registries, now.Registries) {
		return seen.Manifests
	}
	image := recorded(seen.Image.Repository, own)
	if len(now.Registries) > 0 {
		now.Registries = append(slices.Clone(now.Registries), own.Host)
	}
	out := slices.Clone(seen.Manifests)
	for i := range out {
		out[i] = chart.Again(out[i], image, now)
	}
	return out
}

// newest is what is known of the image that a run scanned: with the findings of a later scan of the same digest, where
// there was one with another database.
func (s *server) newest(ctx context.Context, env stage.Env, ran slipway.Scan) (*slipway.Scan, error) {
	last, found, err := s.store.NewerScan(ctx, env.Run.Project, ran.Digest, ran.ScannedAt)
	if err != nil || !found {
		return &ran, err
	}
	known, newer := scan.Newer(ran, last)
	if newer {
		env.Log.Printf("the image was scanned again on %s, with the database of %s: that counts", last.ScannedAt.UTC().Format(time.DateTime), day(last.Database.Built))
	}
	return &known, nil
}

// awaited are the images that wait for people before they are deployed, and where they are. Those of which the report
// of another scanner speaks are left to it.
func (s *server) awaited(ctx context.Context) ([]scan.Candidate, error) {
	approvals, err := s.store.Approvals(ctx, "", slipway.ApprovalWaiting)
	if err != nil {
		return nil, err
	}
	var out []scan.Candidate
	for _, a := range approvals {
		d, err := s.store.Run(ctx, a.RunID)
		if err != nil {
			return nil, fmt.Errorf("read run #%d, which waits for approval %d: %w", a.RunID, a.ID, err)
		}
		foreign := slices.ContainsFunc(d.Steps, func(st slipway.Step) bool {
			return st.Spec.Service == a.Service && st.Spec.Scan != nil && len(st.Spec.Scan.Reports) > 0
		})
		at := slices.IndexFunc(d.Artifacts, func(x slipway.Artifact) bool {
			return x.Kind == slipway.ArtifactImage && x.Service == a.Service && x.Digest == a.ImageDigest
		})
		if foreign || at < 0 {
			continue
		}
		c := scan.Candidate{Project: a.Project, Repository: recorded(d.Artifacts[at].Repository, s.planner.Candidates), Digest: a.ImageDigest}
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out, nil
}

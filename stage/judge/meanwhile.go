package judge

import (
	"context"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// askedMore are the recorded manifests by what is asked of them now: where a Pod Security Standard or a list of registries
// became stricter since the chart was checked, they are looked at again. The project's own registries are always allowed.
func (j *Judge) askedMore(seen slipway.Evidence, own slipway.Registry, planned, now slipway.ManifestGate) []slipway.ManifestReport {
	if planned.PodSecurity == now.PodSecurity && slices.Equal(planned.Registries, now.Registries) {
		return seen.Manifests
	}
	image := own.Recorded(seen.Image.Repository)
	if len(now.Registries) > 0 {
		now.Registries = append(slices.Clone(now.Registries), own.Host)
	}
	out := slices.Clone(seen.Manifests)
	for i := range out {
		out[i] = j.Again(out[i], image, now)
	}
	return out
}

// newest is what is known of the image that a run scanned: with the findings of a later scan of the same digest, where
// there was one with another database.
func (j *Judge) newest(ctx context.Context, env stage.Env, ran slipway.Scan) (*slipway.Scan, error) {
	last, found, err := j.Earlier.NewerScan(ctx, env.Run.Project, ran.Digest, ran.ScannedAt)
	if err != nil || !found {
		return &ran, err
	}
	known, newer := j.Newer(ran, last)
	if newer {
		env.Log.Printf("the image was scanned again on %s, with the database of %s: that counts", last.ScannedAt.UTC().Format(time.DateTime), last.Database.Built.UTC().Format(time.DateOnly))
	}
	return &known, nil
}

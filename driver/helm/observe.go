package helm

import (
	"context"
	"errors"

	"helm.sh/helm/v4/pkg/release"
	relv1 "helm.sh/helm/v4/pkg/release/v1"
	"helm.sh/helm/v4/pkg/storage/driver"

	"github.com/slipway-cd/slipway"
)

// Observe returns what Helm says is deployed in a target, whoever made it; Number 0 for nothing. It
// reads that one revision only, and does not wait longer than ctx for a cluster that does not answer.
func (c *Client) Observe(ctx context.Context, t slipway.Target) (slipway.ObservedRevision, error) {
	op, err := c.connect(ctx, t, nil)
	if err != nil {
		return slipway.ObservedRevision{}, err
	}
	defer op.close()
	list, err := op.query(ctx, map[string]string{"name": t.Release, "owner": "helm", "status": "deployed"})
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return slipway.ObservedRevision{}, nil
	}
	if err != nil {
		return slipway.ObservedRevision{}, classify(ctx, t, err, slipway.Internal)
	}
	var newest *relv1.Release
	for _, r := range list {
		if rel, ok := r.(*relv1.Release); ok && rel.Info != nil && (newest == nil || rel.Version > newest.Version) {
			newest = rel
		}
	}
	if newest == nil {
		return slipway.ObservedRevision{}, nil
	}
	out := slipway.ObservedRevision{
		Number: newest.Version, Own: marksOf(newest).OfServer(), Chart: revision(newest).Chart,
		Description: bounded(newest.Info.Description, 200), Updated: newest.Info.LastDeployed,
	}
	if newest.Chart != nil && newest.Chart.Metadata != nil {
		out.AppVersion = newest.Chart.Metadata.AppVersion
	}
	return out, nil
}

// query is a query of Helm's storage whose answer nobody waits for after ctx: requests to the storage
// end by their own timeout only.
func (op *operation) query(ctx context.Context, labels map[string]string) ([]release.Releaser, error) {
	var list []release.Releaser
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		list, err = op.store.Query(labels)
	}()
	select {
	case <-done:
		return list, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

package helm

import (
	"context"
	"testing"
	"time"

	relcommon "helm.sh/helm/v4/pkg/release/common"
	relv1 "helm.sh/helm/v4/pkg/release/v1"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/deploy"
)

// What is deployed is seen, whoever made it: also a rollback by hand, which takes Slipway's labels along.
func TestObserve(t *testing.T) {
	t.Parallel()
	w := newWorld()
	if got, err := w.client().Observe(t.Context(), qa()); err != nil || got != (slipway.ObservedRevision{}) {
		t.Errorf("before anything is deployed: %+v, %v", got, err)
	}
	req := deploy.NewRequest(desired(1, digestA), pack(t, chartFiles()))
	req.Marks.Intent = "ours"
	if _, err := w.client().Apply(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	got, err := w.client().Observe(t.Context(), qa())
	if err != nil || got.Number != 1 || !got.Own || got.Chart != "delivery-1.0.2" || got.AppVersion != "1.0.2" || got.Updated.IsZero() {
		t.Errorf("our own: %+v, %v", got, err)
	}

	last, err := w.mem.Query(map[string]string{"name": "delivery", "owner": "helm"})
	if err != nil {
		t.Fatal(err)
	}
	ours := copied(last[0]).(*relv1.Release)
	byHand := copied(ours).(*relv1.Release)
	ours.Info.Status = relcommon.StatusSuperseded
	if err := w.mem.Update("sh.helm.release.v1.delivery.v1", ours); err != nil {
		t.Fatal(err)
	}
	byHand.Version, byHand.Info.Description = 2, "Rollback to 1"
	if err := w.mem.Create("sh.helm.release.v1.delivery.v2", byHand); err != nil {
		t.Fatal(err)
	}
	got, err = w.client().Observe(t.Context(), qa())
	got.Updated = time.Time{}
	if want := (slipway.ObservedRevision{Number: 2, Chart: "delivery-1.0.2", AppVersion: "1.0.2", Description: "Rollback to 1"}); err != nil || got != want {
		t.Errorf("by hand: %+v, %v, want %+v", got, err, want)
	}

	fromLaptop := deploy.NewRequest(desired(0, digestA), pack(t, chartFiles()))
	fromLaptop.Marks.Intent = "theirs"
	if _, err := w.client().Apply(t.Context(), fromLaptop); err != nil {
		t.Fatal(err)
	}
	if got, err := w.client().Observe(t.Context(), qa()); err != nil || got.Number != 3 || got.Own {
		t.Errorf("of slipway run on a laptop: %+v, %v", got, err)
	}

	stuck := make(chan struct{})
	w.fail = func(op, _ string) error {
		<-stuck
		return nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := w.client().Observe(ctx, qa()); err == nil {
		t.Errorf("a cluster that hangs: %+v", got)
	}
	close(stuck)
	w = newWorld()
	w.fail = func(op, _ string) error {
		if op == "query" {
			return slipway.Errorf(slipway.Unavailable, "connection refused")
		}
		return nil
	}
	if got, err := w.client().Observe(t.Context(), qa()); err == nil {
		t.Errorf("a cluster that does not answer: %+v", got)
	}
}

package publish_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/publish"
)

// meeting holds whoever looks for a tag until all are told to go on.
type meeting struct {
	publish.Registry
	looked chan struct{} // one for each look
	goOn   chan struct{}
}

func (m *meeting) Resolve(ctx context.Context, repo slipway.Repository, tag string) (string, error) {
	digest, err := m.Registry.Resolve(ctx, repo, tag)
	if strings.HasSuffix(repo.Name, "delivery") {
		m.looked <- struct{}{}
		<-m.goOn
	}
	return digest, err
}

// v1.0.2 and 1.0.2 are one version, also for two runs that look at the same moment: one publishes it, and the other
// leaves no tag behind.
func TestTwoSpellingsAtTheSameMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	candidates := w.registry(stableHost, "")
	m := &meeting{Registry: w.client, looked: make(chan struct{}, 100), goOn: make(chan struct{})}
	r := &publish.Runner{Registry: m}
	tags := []string{"v1.0.2", "1.0.2"}
	runs := []built{w.build(1, tags[0], candidates), w.build(2, tags[1], candidates)}
	results := make([]slipway.Result, len(runs))
	var wg sync.WaitGroup
	for i := range runs {
		wg.Go(func() {
			var err error
			if results[i], err = r.Run(context.Background(), runs[i].env, runs[i].step); err != nil {
				t.Error(err)
			}
		})
	}
	<-m.looked

	// who waits for a version stops waiting when its run is cancelled
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrCancelled)
	late := w.build(3, "v1.0.2", candidates)
	if _, err := r.Run(ctx, late.env, late.step); !errors.Is(err, slipway.ErrCancelled) {
		t.Errorf("cancelled: %v", err)
	}
	close(m.goOn)
	wg.Wait()

	for i, res := range results {
		other := results[1-i]
		if res.Outcome != slipway.Succeeded {
			continue
		}
		if other.Outcome != slipway.Failed || !strings.Contains(other.Reason, "choose the next version") {
			t.Errorf("the other run: %+v", other)
		}
		if got := w.tag(image(candidates), tags[i]); got != runs[i].digest() {
			t.Errorf("%s is %s", tags[i], got)
		}
		if _, err := w.client.Resolve(t.Context(), image(candidates), tags[1-i]); slipway.ErrorCode(err) != slipway.NotFound {
			t.Errorf("the other spelling %s has been taken: %v", tags[1-i], err)
		}
		return
	}
	t.Errorf("nobody published the version: %+v", results)
}

package deploy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// waiting is a bench's surroundings, each of which answers only when all were asked.
type waiting struct {
	*bench
	all *sync.WaitGroup
}

func (w waiting) meet() { w.all.Done(); w.all.Wait() }

func (w waiting) PullChart(ctx context.Context, repository slipway.Repository, digest string) ([]byte, error) {
	w.meet()
	return fakeCharts{}.PullChart(ctx, repository, digest)
}

func (w waiting) Prepared(ctx context.Context, t slipway.Target, pull PullSecret) bool {
	w.meet()
	return w.cluster.Prepared(ctx, t, pull)
}

func (w waiting) Prepare(ctx context.Context, t slipway.Target, pull PullSecret) error {
	return w.cluster.Prepare(ctx, t, pull)
}

type waitingHelm struct {
	*fakeHelm
	meet func()
}

func (h waitingHelm) History(ctx context.Context, t slipway.Target) ([]Revision, error) {
	h.meet()
	return h.fakeHelm.History(ctx, t)
}

// Chart, release and place are read side by side, and that is all that happens before Run: it records, and acts from what
// was seen.
func TestAhead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.helm.history = []Revision{{Number: 4, Status: StatusDeployed, Stored: "as it was seen"}}
	b.cluster.prepared = true
	w := waiting{b, &sync.WaitGroup{}}
	w.all.Add(3)
	b.runner.Charts, b.runner.Cluster, b.runner.Helm = w, w, waitingHelm{b.helm, w.meet}
	deploying := b.runner.Ahead(t.Context(), b.env, b.step)
	w.all.Wait()
	if len(b.events) != 0 {
		t.Errorf("before Run: %q", b.events)
	}
	res, err := deploying.Run(t.Context(), b.env, b.step)
	if err != nil || res.Outcome != slipway.Succeeded || res.Deployments[0].Revision != 5 {
		t.Fatalf("%+v, %v", res, err)
	}
	if want := []string{"journal", "save deploying revision 5", "apply"}; !slices.Equal(b.events, want) {
		t.Errorf("happened %q, want %q", b.events, want)
	}
	if seen := b.helm.applied[0].Seen; b.helm.looks != 1 || len(seen) != 1 || seen[0].Stored != "as it was seen" {
		t.Errorf("%d looks; applied from %+v", b.helm.looks, seen)
	}
	if b.cluster.pull != (PullSecret{}) {
		t.Errorf("what was seen to be prepared was prepared again: %+v", b.cluster.pull)
	}
}

// What was read too long ago, as the proof took its time, is looked at again.
func TestAheadOfALongProof(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.helm.history = []Revision{{Number: 4, Status: StatusDeployed}}
	b.cluster.prepared = true
	var late time.Duration
	b.env.Now = func() time.Time { return noon.Add(late) }
	deploying := b.runner.Ahead(t.Context(), b.env, b.step)
	late = fresh + time.Millisecond
	if res, err := deploying.Run(t.Context(), b.env, b.step); err != nil || res.Outcome != slipway.Succeeded {
		t.Fatalf("%+v, %v", res, err)
	}
	if b.helm.looks != 2 || b.cluster.pull.Name != PullSecretName {
		t.Errorf("%d looks at the release; prepared %+v", b.helm.looks, b.cluster.pull)
	}
}

type panicking struct{ Charts }

func (panicking) PullChart(context.Context, slipway.Repository, string) ([]byte, error) {
	panic("a broken registry client")
}

type stuckHelm struct {
	*fakeHelm
	over <-chan struct{}
}

func (h stuckHelm) History(context.Context, slipway.Target) ([]Revision, error) {
	<-h.over
	return nil, nil
}

// What goes wrong while it is read ahead is told by Run: errors, a panic, which the engine takes for one of the step, and
// what is missing for a deployment. A cluster that does not answer holds up nobody whose time is over.
func TestAheadOfTrouble(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.runner.Charts = panicking{}
	deploying := b.runner.Ahead(t.Context(), b.env, b.step)
	func() {
		defer func() {
			if got := recover(); got != "a broken registry client" {
				t.Errorf("panicked with %v", got)
			}
		}()
		_, err := deploying.Run(t.Context(), b.env, b.step)
		t.Errorf("no panic: %v", err)
	}()

	b = newBench(t)
	b.env.Artifacts = nil
	if _, err := b.runner.Ahead(t.Context(), b.env, b.step).Run(t.Context(), b.env, b.step); err == nil || !strings.Contains(err.Error(), "made no image of it") {
		t.Errorf("without an image: %v", err)
	}

	b = newBench(t)
	over := make(chan struct{})
	defer close(over)
	b.runner.Helm = stuckHelm{b.helm, over}
	ctx, cancel := context.WithCancelCause(t.Context())
	deploying = b.runner.Ahead(ctx, b.env, b.step)
	cancel(slipway.ErrCancelled)
	if _, err := deploying.Run(ctx, b.env, b.step); err == nil || slipway.ErrorCode(err) != slipway.ErrorCode(slipway.ErrCancelled) {
		t.Errorf("cancelled while the cluster does not answer: %v", err)
	}
	if len(b.events) != 0 {
		t.Errorf("happened %q", b.events)
	}
}

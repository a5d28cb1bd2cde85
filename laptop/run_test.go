package laptop

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// diamond is build -> test, chart -> check of one service, and a build of another.
func diamond() []slipway.PlanStep {
	return []slipway.PlanStep{
		{Key: "build/a", Kind: slipway.KindBuild, Service: "a"},
		{Key: "test/a", Kind: slipway.KindTest, Service: "a", Needs: []string{"build/a", "publish/left-out"}},
		{Key: "chart/a", Kind: slipway.KindChart, Service: "a"},
		{Key: "build/b", Kind: slipway.KindBuild, Service: "b"},
		{Key: "test/b", Kind: slipway.KindTest, Service: "b", Needs: []string{"build/b"}},
	}
}

// local runs the diamond with one runner for every kind.
func local(parallel int, run stage.Func) *Run {
	return &Run{
		Parallel: parallel, Now: time.Now, Moved: func(Step) {},
		LogOf:   func(slipway.PlanStep) stage.Log { return nil },
		Runners: map[slipway.StepKind]stage.Runner{slipway.KindBuild: run, slipway.KindTest: run, slipway.KindChart: run},
	}
}

func states(steps []Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Key+" "+string(s.State))
	}
	return strings.Join(out, ", ")
}

func TestLocalRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		outcomes map[string]slipway.Outcome
		errs     map[string]error
		want     string
		overall  slipway.RunState
	}{
		"good":    {nil, nil, "build/a succeeded, test/a succeeded, chart/a succeeded, build/b succeeded, test/b succeeded", slipway.RunSucceeded},
		"failed":  {map[string]slipway.Outcome{"build/a": slipway.Failed}, nil, "build/a failed, test/a skipped, chart/a succeeded, build/b succeeded, test/b succeeded", slipway.RunFailed},
		"errored": {map[string]slipway.Outcome{"test/b": slipway.Failed}, map[string]error{"build/a": errors.New("no BuildKit")}, "build/a errored, test/a skipped, chart/a succeeded, build/b succeeded, test/b failed", slipway.RunErrored},
		"waiting": {map[string]slipway.Outcome{"chart/a": slipway.Waiting}, nil, "build/a succeeded, test/a succeeded, chart/a failed, build/b succeeded, test/b succeeded", slipway.RunFailed},
	} {
		for _, parallel := range []int{1, 2, 9} {
			var now, most atomic.Int32
			var mu sync.Mutex
			done := map[string]bool{}
			l := local(parallel, func(_ context.Context, _ stage.Env, s slipway.PlanStep) (slipway.Result, error) {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer now.Add(-1)
				mu.Lock()
				defer mu.Unlock()
				for _, need := range s.Needs {
					if !done[need] && need != "publish/left-out" {
						t.Errorf("%s: %s ran before %s", name, s.Key, need)
					}
				}
				done[s.Key] = true
				o := c.outcomes[s.Key]
				if o == "" {
					o = slipway.Succeeded
				}
				return slipway.Result{Outcome: o}, c.errs[s.Key]
			})
			steps := l.Execute(t.Context(), diamond())
			if got := states(steps); got != c.want || State(steps) != c.overall {
				t.Errorf("%s, %d at once: %s: %s, want %s: %s", name, parallel, State(steps), got, c.overall, c.want)
			}
			if int(most.Load()) > parallel {
				t.Errorf("%s: %d steps at once, want at most %d", name, most.Load(), parallel)
			}
		}
	}
}

// A cancelled run waits for what runs, and starts nothing more.
func TestLocalRunIsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var begun atomic.Int32
	l := local(2, func(ctx context.Context, _ stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		if begun.Add(1) == 2 {
			cancel()
		}
		<-ctx.Done()
		return slipway.Result{}, context.Cause(ctx)
	})
	steps := l.Execute(ctx, diamond())
	want := "build/a cancelled, test/a cancelled, chart/a cancelled, build/b cancelled, test/b cancelled"
	if got := states(steps); got != want || begun.Load() != 2 || State(steps) != slipway.RunCancelled {
		t.Errorf("%d steps began: %s", begun.Load(), got)
	}
}

// A step that takes too long has failed; the run goes on.
func TestLocalStepTimesOut(t *testing.T) {
	t.Parallel()
	plan := diamond()[:2]
	plan[0].Timeout = slipway.Duration(time.Millisecond)
	steps := local(2, func(ctx context.Context, _ stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		<-ctx.Done()
		return slipway.Result{}, ctx.Err()
	}).Execute(t.Context(), plan)
	if got := states(steps); got != "build/a failed, test/a skipped" || steps[0].Reason != "not done in 1ms" {
		t.Errorf("%s: %s", got, steps[0].Reason)
	}
}

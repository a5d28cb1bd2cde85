package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

type fakeHelm struct {
	rel     Release
	err     error
	run     TestRun
	testErr error
	tested  int
}

func (h *fakeHelm) Deployed(context.Context, slipway.Target) (Release, error) { return h.rel, h.err }

func (h *fakeHelm) Test(_ context.Context, _ slipway.Target, log func(slipway.LogLine)) (TestRun, error) {
	h.tested++
	log(slipway.LogLine{Group: "Pod/delivery-test", Stream: "stdout", Text: "GET /healthz: 200"})
	return h.run, h.testErr
}

// fakeCluster shows one observation after the other, then waits for the end or returns err.
type fakeCluster struct {
	sees []Observed
	err  error
	gone bool          // the log of the instance before is
	wait time.Duration // the target's timeout; 0: a minute
}

func (c *fakeCluster) Watch(ctx context.Context, _ slipway.Target, _ string, seen func(Observed) bool) error {
	for _, o := range c.sees {
		if seen(o) {
			return nil
		}
	}
	if c.err != nil {
		return c.err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (c *fakeCluster) Logs(_ context.Context, _ slipway.Target, pod, container string, previous bool, lines int) ([]string, error) {
	if previous && c.gone {
		return nil, nil
	}
	return []string{fmt.Sprintf("log of %s/%s previous %v, %d lines", pod, container, previous, lines), "panic: no database"}, nil
}

func (c *fakeCluster) Events(_ context.Context, _ slipway.Target, kind, name string) ([]string, error) {
	return []string{"event of " + kind + "/" + name}, nil
}

type lines struct{ all []string }

func (l *lines) Line(line slipway.LogLine) {
	l.all = append(l.all, fmt.Sprintf("%s [%s] %s", line.Group, line.State, line.Text))
}

func (l *lines) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func step() slipway.PlanStep {
	return slipway.PlanStep{Key: "verify/delivery@qa", Verify: &slipway.VerifySpec{Version: "v1", Target: target()}}
}

func target() slipway.Target {
	return slipway.Target{Service: "delivery", Environment: "qa", Namespace: "drone-qa", Release: "delivery", Timeout: slipway.Duration(time.Minute), Tests: true}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	away := slipway.Errorf(slipway.Unavailable, "cluster local does not answer")
	crashing := withContainer(Container{Restarts: 3, Ended: "Error, exit status 2", Waiting: "CrashLoopBackOff", Message: "back-off 20s"})
	for _, c := range []struct {
		name    string
		helm    fakeHelm
		cluster fakeCluster
		outcome slipway.Outcome
		code    slipway.Code
		reason  string
		tested  int
		logs    []string
	}{
		{"healthy", fakeHelm{rel: Release{Revision: 3, Tests: []string{"delivery-test"}}, run: TestRun{Passed: []string{"delivery-test"}}},
			fakeCluster{sees: []Observed{withContainer(Container{}), allReady()}}, slipway.Succeeded, "", "delivery v1 is healthy in qa", 1,
			[]string{"Deployment/delivery [started] Available: 0/1", "Deployment/delivery [done] ", "Pod/delivery-test [] GET /healthz: 200", "in-cluster tests passed: delivery-test"}},
		{"no tests", fakeHelm{rel: Release{Revision: 3}}, fakeCluster{sees: []Observed{allReady()}}, slipway.Succeeded, "", "", 0, []string{"the chart has no tests"}},
		{"test fails", fakeHelm{rel: Release{Revision: 3, Tests: []string{"t"}}, run: TestRun{Failed: "t", Reason: "pod failed"}},
			fakeCluster{sees: []Observed{allReady()}}, slipway.Failed, "", "in-cluster test t failed: pod failed", 1, nil},
		{"crashing", fakeHelm{rel: Release{Revision: 3, Tests: []string{"t"}}}, fakeCluster{sees: []Observed{crashing}}, slipway.Failed, "", "keeps ending (Error, exit status 2, 3 restarts)", 0,
			[]string{"Pod/delivery-1 [] container app waits: CrashLoopBackOff: back-off 20s", "Deployment/delivery [failed]", "event of Pod/delivery-1", "log of delivery-1/app previous true, 20 lines", "panic: no database"}},
		{"crashed and started again", fakeHelm{rel: Release{Revision: 3}}, fakeCluster{sees: []Observed{withContainer(Container{Restarts: 3, Ended: "Error, exit status 2"})}}, slipway.Failed, "", "keeps ending", 0,
			[]string{"log of delivery-1/app previous true, 20 lines"}},
		{"crashed and its log is gone", fakeHelm{rel: Release{Revision: 3}}, fakeCluster{sees: []Observed{crashing}, gone: true}, slipway.Failed, "", "keeps ending", 0,
			[]string{"log of delivery-1/app previous false, 20 lines"}},
		{"never ready", fakeHelm{rel: Release{Revision: 3}}, fakeCluster{sees: []Observed{withContainer(Container{})}, wait: 50 * time.Millisecond}, slipway.Failed, "", "Deployment/delivery was not ready in 50ms", 0,
			[]string{"log of delivery-1/app previous false"}},
		{"another revision", fakeHelm{rel: Release{Revision: 4}}, fakeCluster{}, slipway.Failed, "", "is at revision 4, not at 3 that this run deployed", 0, nil},
		{"no release", fakeHelm{err: slipway.Errorf(slipway.NotFound, "none")}, fakeCluster{}, slipway.Failed, "", "has no deployed revision", 0, nil},
		{"cluster is away", fakeHelm{err: away}, fakeCluster{}, "", slipway.Unavailable, "", 0, nil},
		{"cluster goes away", fakeHelm{rel: Release{Revision: 3}}, fakeCluster{sees: []Observed{withContainer(Container{})}, err: away}, "", slipway.Unavailable, "", 0, nil},
		{"cluster goes away during tests", fakeHelm{rel: Release{Revision: 3, Tests: []string{"t"}}, testErr: away}, fakeCluster{sees: []Observed{allReady()}}, "", slipway.Unavailable, "", 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			log := &lines{}
			target := target()
			if c.cluster.wait > 0 {
				target.Timeout = slipway.Duration(c.cluster.wait)
			}
			env := stage.Env{Run: slipway.Run{ID: 42}, Log: log, Deployments: []slipway.Deployment{
				{ID: 5, Target: target, Version: "v1", Revision: 3, Image: image, ImageDigest: digest, State: slipway.Deployed}}}
			res, err := (&Runner{Helm: &c.helm, Cluster: &c.cluster}).Run(t.Context(), env, step())
			if slipway.ErrorCode(err) != c.code || res.Outcome != c.outcome || !strings.Contains(res.Reason, c.reason) || c.helm.tested != c.tested {
				t.Fatalf("%s %q, %v, tested %d times", res.Outcome, res.Reason, err, c.helm.tested)
			}
			if err == nil {
				want := slipway.Unhealthy
				if c.outcome == slipway.Succeeded {
					want = slipway.Verified
				}
				if d := res.Deployments[0]; d.ID != 5 || d.State != want || (d.Reason == "") != (want == slipway.Verified) {
					t.Errorf("deployment %+v", d)
				}
			}
			for _, want := range c.logs {
				if !slices.ContainsFunc(log.all, func(l string) bool { return strings.Contains(l, want) }) {
					t.Errorf("log lacks %q:\n%s", want, strings.Join(log.all, "\n"))
				}
			}
		})
	}
}

// TestProgressIsNotRepeated: an observation that brings nothing new writes nothing.
func TestProgressIsNotRepeated(t *testing.T) {
	t.Parallel()
	log := &lines{}
	p := progress{log: log, seen: map[string]string{}}
	p.show(withContainer(Container{}))
	before := len(log.all)
	p.show(withContainer(Container{}))
	if before == 0 || len(log.all) != before {
		t.Errorf("%q", log.all)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrSuperseded)
	env := stage.Env{Log: &lines{}, Deployments: []slipway.Deployment{{Target: target(), Revision: 3}}}
	_, err := (&Runner{Helm: &fakeHelm{rel: Release{Revision: 3}}, Cluster: &fakeCluster{}}).Run(ctx, env, step())
	if !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("got %v", err)
	}
}

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

func TestARunGoesThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	w.stand.on("plan", func(_ context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		env.Log.Printf("one\ntwo")
		return slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: []slipway.PlanStep{
			p("build/a"), p("test/a", "build/a"), p("chart/a"), p("publish/a", "test/a", "chart/a"),
		}}}, nil
	})
	w.stand.on("build/a", ends(slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Digest: "sha256:aa"}}}))
	w.stand.on("publish/a", func(ctx context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		if a, ok := env.Artifact(slipway.ArtifactImage, "a"); !ok || a.Digest != "sha256:aa" {
			return slipway.Result{}, fmt.Errorf("no image: %+v", env.Artifacts)
		}
		if err := env.Journal.Put(ctx, "intent", map[string]int{"revision": 3}); err != nil {
			return slipway.Result{}, err
		}
		v, ok, err := stage.Intent[map[string]int](ctx, env.Journal, "intent")
		if !ok || err != nil || v["revision"] != 3 {
			return slipway.Result{}, fmt.Errorf("journal: %v %v %w", v, ok, err)
		}
		_, ok, err = stage.Intent[int](ctx, env.Journal, "other")
		if ok || err != nil {
			return slipway.Result{}, fmt.Errorf("journal: %v %w", ok, err)
		}
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	r := w.newRun()
	d := w.untilRun(r.ID, slipway.RunSucceeded)
	if len(d.Steps) != 5 {
		t.Errorf("%d steps", len(d.Steps))
	}
	lines, err := w.store.Logs().Lines(w.ctx, r.ID, d.Steps[0].ID, 1, 0, 10)
	w.ok(err)
	if len(lines) != 2 || lines[1].Text != "two" || lines[0].Time.IsZero() {
		t.Errorf("log: %+v", lines)
	}
	w.once(r.ID)
}

func TestErrorsOfTheSurroundingsAreTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Backoff = 20 * time.Millisecond
	w.opts.PollInterval = time.Hour // nothing goes on unless the scheduler is woken
	w.start()
	w.stand.on("publish/a", func(_ context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		if env.Attempt < 4 {
			return slipway.Result{}, fmt.Errorf("push image: %w", slipway.Errorf(slipway.Unavailable, "registry r.example does not answer"))
		}
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	step := p("publish/a")
	step.Retries = 3
	r := w.newRun(step)
	d := w.untilRun(r.ID, slipway.RunSucceeded)
	if d.Steps[0].Attempt != 4 || d.Steps[0].Errors != 3 {
		t.Errorf("step: %+v", d.Steps[0])
	}
	told := 0
	for _, e := range d.Events {
		if e.Kind == "step.retrying" {
			told++
			if !strings.Contains(e.Message, "push image: registry r.example does not answer; next try in ") || !strings.HasSuffix(e.Message, ")") {
				t.Errorf("event: %s", e.Message)
			}
		}
	}
	if told != 3 {
		t.Errorf("%d tries were told: %+v", told, d.Events)
	}
}

// flaky is an error that may pass.
type flaky struct{}

func (flaky) Error() string   { return "connection reset" }
func (flaky) Temporary() bool { return true }

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Backoff = time.Millisecond
	w.start()
	for key, err := range map[string]error{
		"build/flaky":  flaky{},
		"build/away":   slipway.Errorf(slipway.Unavailable, "BuildKit does not answer"),
		"build/wrong":  slipway.Errorf(slipway.Invalid, "no such file: Dockerfile"),
		"build/broken": errors.New("nil map"),
	} {
		w.stand.on(key, func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
			return slipway.Result{}, fmt.Errorf("build image: %w", err)
		})
	}
	w.stand.on("build/panics", func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) { panic("secret detail") })
	w.stand.on("build/red", ends(slipway.Result{Outcome: slipway.Failed, Reason: "exit code 1"}))
	w.opts.Log = nil
	for key, want := range map[string]struct {
		attempts int
		state    slipway.StepState
		reason   string
	}{
		"build/flaky":  {3, slipway.StepErrored, "build image: connection reset"},
		"build/away":   {3, slipway.StepErrored, "build image: BuildKit does not answer"},
		"build/wrong":  {1, slipway.StepErrored, "build image: no such file: Dockerfile"},
		"build/broken": {1, slipway.StepErrored, "build image: nil map"},
		"build/panics": {1, slipway.StepErrored, "internal error: the step's runner crashed; the server's log says where"},
		"build/red":    {1, slipway.StepFailed, "exit code 1"},
	} {
		step := p(key)
		step.Retries = 2
		r := w.newRun(step, p("test/a", key))
		w.until(key+" over", func() bool { return w.step(r.ID, key).State.Final() })
		st := w.step(r.ID, key)
		if st.State != want.state || st.Reason != want.reason || st.Attempt != want.attempts {
			t.Errorf("%s: %s after %d attempts: %s", key, st.State, st.Attempt, st.Reason)
		}
		if st := w.step(r.ID, "test/a"); st.State != slipway.StepSkipped {
			t.Errorf("%s: what needs it is %s", key, st.State)
		}
	}
}

func TestWithoutRetriesTheFirstErrorIsTheLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Log = nil
	w.start()
	w.stand.on("publish/a", func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
		return slipway.Result{}, slipway.Errorf(slipway.Unavailable, "registry r.example does not answer")
	})
	r := w.newRun(p("publish/a"))
	if d := w.untilRun(r.ID, slipway.RunErrored); d.Steps[0].Attempt != 1 {
		t.Errorf("%d attempts", d.Steps[0].Attempt)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	w.stand.on("test/a", hang)
	step := p("test/a")
	step.Timeout, step.Retries = slipway.Duration(30*time.Millisecond), 5
	r := w.newRun(step)
	d := w.untilRun(r.ID, slipway.RunErrored)
	if got := d.Steps[0].Reason; got != "timed out after 30ms: wait: timed out" || d.Steps[0].Attempt != 1 {
		t.Errorf("reason: %s (attempt %d)", got, d.Steps[0].Attempt)
	}
	w.stand.on("test/a", func(ctx context.Context, _ stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		<-ctx.Done()
		return slipway.Result{Outcome: slipway.Failed, Reason: "the tests hang"}, nil
	})
	r = w.newRun(step)
	if got := w.untilRun(r.ID, slipway.RunFailed).Steps[0].Reason; got != "the tests hang" {
		t.Errorf("reason: %s", got)
	}
}

func TestCancelReachesRunningSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	causes := make(chan error, 1)
	w.stand.on("deploy/a", func(ctx context.Context, env stage.Env, s slipway.PlanStep) (slipway.Result, error) {
		res, err := hang(ctx, env, s)
		causes <- context.Cause(ctx)
		return res, err
	})
	r := w.newRun(p("deploy/a"), p("verify/a", "deploy/a"))
	w.untilStarted(r.ID, "deploy/a")
	begun := time.Now()
	w.ok(w.store.CancelRun(w.ctx, r.ID, "bob", ""))
	if cause := <-causes; !errors.Is(cause, slipway.ErrCancelled) {
		t.Errorf("cause: %v", cause)
	}
	took := time.Since(begun)
	d := w.untilRun(r.ID, slipway.RunCancelled)
	t.Logf("cancel reached the runner in %s", took)
	if d.Steps[0].State != slipway.StepCancelled || d.Run.Reason != "cancelled by bob" {
		t.Errorf("run: %+v", d.Run)
	}
	w.untilIdle()
}

func TestSupersededRunsStop(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	causes := make(chan error, 1)
	var first sync.Once
	w.stand.on("build/a", func(ctx context.Context, env stage.Env, s slipway.PlanStep) (res slipway.Result, err error) {
		res = slipway.Result{Outcome: slipway.Succeeded}
		first.Do(func() {
			res, err = hang(ctx, env, s)
			causes <- context.Cause(ctx)
		})
		return res, err
	})
	push := slipway.Run{Project: "shop", Event: slipway.BranchPush, Ref: "refs/heads/feature/x", Commit: "1a2b3c4d"}
	old, err := w.store.CreateRun(w.ctx, push, slipway.Plan{Steps: []slipway.PlanStep{p("build/a")}})
	w.ok(err)
	w.untilStarted(old.ID, "build/a")
	young, err := w.store.CreateRun(w.ctx, push, slipway.Plan{Steps: []slipway.PlanStep{p("build/a")}})
	w.ok(err)
	if cause := <-causes; !errors.Is(cause, slipway.ErrSuperseded) {
		t.Errorf("cause: %v", cause)
	}
	w.untilRun(old.ID, slipway.RunCancelled)
	w.untilRun(young.ID, slipway.RunSucceeded)
}

func TestARunnerThatDoesNotStopIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Grace = 20 * time.Millisecond
	w.start()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	w.stand.on("build/a", func(_ context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		<-release
		env.Log.Printf("too late")
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	r := w.newRun(p("build/a"))
	w.untilStarted(r.ID, "build/a")
	w.ok(w.store.CancelRun(w.ctx, r.ID, "bob", ""))
	w.untilRun(r.ID, slipway.RunCancelled)
}

func TestStopReleasesWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	causes := make(chan error, 1)
	w.stand.on("deploy/a", func(ctx context.Context, env stage.Env, s slipway.PlanStep) (slipway.Result, error) {
		if env.Attempt > 1 {
			return slipway.Result{Outcome: slipway.Succeeded}, nil
		}
		res, err := hang(ctx, env, s)
		causes <- context.Cause(ctx)
		return res, err
	})
	r := w.newRun(p("deploy/a"), p("verify/a", "deploy/a"))
	w.untilStarted(r.ID, "deploy/a")
	w.ok(w.engine.Stop(w.ctx))
	if cause := <-causes; !errors.Is(cause, slipway.ErrShutdown) {
		t.Errorf("cause: %v", cause)
	}
	if st := w.step(r.ID, "deploy/a"); st.State != slipway.StepReady || st.Errors != 0 {
		t.Fatalf("step after the stop: %+v", st)
	}
	w.start()
	d := w.untilRun(r.ID, slipway.RunSucceeded)
	if d.Steps[0].Attempt != 2 {
		t.Errorf("attempt %d", d.Steps[0].Attempt)
	}
	w.once(r.ID)
}

func TestLocksAreWaitedForWithoutAWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Workers = 1
	w.start()
	free := make(chan struct{})
	var mu sync.Mutex
	inside, most := 0, 0
	w.stand.on("deploy/a", func(ctx context.Context, env stage.Env, s slipway.PlanStep) (slipway.Result, error) {
		mu.Lock()
		inside++
		most = max(most, inside)
		mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
		}
		mu.Lock()
		inside--
		mu.Unlock()
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	step := p("deploy/a")
	step.Lock = "shop/dev/a"
	var runs []slipway.Run
	for range 5 {
		runs = append(runs, w.newRun(step))
	}
	w.untilStarted(runs[0].ID, "deploy/a")
	close(free)
	for _, r := range runs {
		w.untilRun(r.ID, slipway.RunSucceeded)
	}
	if most != 1 {
		t.Errorf("%d held the lock at once", most)
	}
}

func TestApproveGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	w.stand.on("approve/a", ends(slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Service: "a", Environment: "prod", Version: "v1.0.0"}}))
	r := w.newRun(p("approve/a"), p("deploy/a", "approve/a"))
	d := w.untilRun(r.ID, slipway.RunWaiting)
	w.untilIdle() // no worker is held
	id := d.Approvals[0].ID
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, user := range []string{"bob", "eve"} {
		wg.Go(func() {
			_, errs[i] = w.store.Vote(w.ctx, id, slipway.Vote{User: user, Approve: true}, slipway.Approvals{})
		})
	}
	wg.Wait()
	if (errs[0] == nil) == (errs[1] == nil) || slipway.ErrorCode(errors.Join(errs...)) != slipway.Conflict {
		t.Errorf("two votes at once: %v", errs)
	}
	w.untilRun(r.ID, slipway.RunSucceeded)
	if n := w.stand.count(r.ID, "deploy/a"); n != 1 {
		t.Errorf("deployed %d times", n)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.opts.Secrets = func(_ context.Context, _ slipway.Run, names []string) (map[string]string, error) {
		out := map[string]string{}
		for _, n := range names {
			out[n] = "hunter2-" + n
		}
		return out, nil
	}
	w.start()
	w.stand.on("build/a", func(_ context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		env.Log.Printf("token is %s", env.Secrets["token"])
		return slipway.Result{}, fmt.Errorf("log in with %s: denied", env.Secrets["token"])
	})
	step := p("build/a")
	step.Secrets = []string{"token"}
	r := w.newRun(step)
	d := w.untilRun(r.ID, slipway.RunErrored)
	if got := d.Steps[0].Reason; got != "log in with ***: denied" {
		t.Errorf("reason: %s", got)
	}
	log, err := w.store.Logs().Tail(w.ctx, r.ID, d.Steps[0].ID, 1, false)
	w.ok(err)
	defer log.Close()
	b, err := io.ReadAll(log)
	w.ok(err)
	if strings.Contains(string(b), "hunter2") || !strings.Contains(string(b), "token is ***") {
		t.Errorf("log: %s", b)
	}
	for _, e := range d.Events {
		if strings.Contains(e.Message+string(e.Data), "hunter2") {
			t.Errorf("event: %+v", e)
		}
	}
}

func TestALogIsFollowedFromTheFirstLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	more := make(chan struct{})
	w.stand.on("build/a", func(_ context.Context, env stage.Env, _ slipway.PlanStep) (slipway.Result, error) {
		env.Log.Printf("first")
		<-more
		env.Log.Printf("last")
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	r := w.newRun(p("build/a"))
	st := w.untilStep(r.ID, "build/a", slipway.StepRunning)
	log, err := w.store.Logs().Tail(w.ctx, r.ID, st.ID, 1, true)
	w.ok(err)
	defer log.Close()
	buf := make([]byte, 1024)
	n, err := log.Read(buf)
	w.ok(err)
	if !strings.Contains(string(buf[:n]), "first") {
		t.Fatalf("read %s", buf[:n])
	}
	close(more)
	rest, err := io.ReadAll(log)
	w.ok(err)
	if !strings.Contains(string(rest), "last") {
		t.Errorf("rest: %s", rest)
	}
	w.untilRun(r.ID, slipway.RunSucceeded)
}

func TestNoRunner(t *testing.T) {
	t.Parallel()
	w := newWorld(t).start()
	r := w.newRun(slipway.PlanStep{Key: "dance", Kind: "dance"})
	if got := w.untilRun(r.ID, slipway.RunErrored).Steps[0].Reason; got != "no runner for steps of kind dance" {
		t.Errorf("reason: %s", got)
	}
}

package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/engine"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/store"
)

// childEnv makes the test binary a server on the database that it names, to be killed.
const childEnv = "SLIPWAY_ENGINE_CHILD"

// child runs steps until it is killed, and says on its output which it starts. Steps of service
// "hang" hang in their first attempt.
func child(path string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	q, err := engine.NewQueue()
	if err != nil {
		return fail(err)
	}
	s, err := store.Open(context.Background(), path, store.Options{Queue: q})
	if err != nil {
		return fail(err)
	}
	runner := stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		fmt.Println(name(env.Run.ID, step.Key))
		if step.Service == "hang" && env.Attempt == 1 {
			<-ctx.Done()
		}
		return result(step), nil
	})
	runners := map[slipway.StepKind]stage.Runner{}
	for _, kind := range stage.Order() {
		runners[kind] = runner
	}
	e, err := engine.New(engine.Options{Queue: q, DB: s.DB(), Store: s, Runners: runners, Logs: s.Logs().OpenLog, BuildWorkers: 4})
	if err != nil {
		return fail(err)
	}
	if err := e.Start(context.Background()); err != nil {
		return fail(err)
	}
	fmt.Println("up")
	select {}
}

// result is what a step of the chaos plan makes; a build says what follows.
func result(step slipway.PlanStep) slipway.Result {
	res := slipway.Result{Outcome: slipway.Succeeded}
	if step.Kind == slipway.KindPlan {
		chain := []string{"build/a", "test/a", "publish/a", "deploy/a", "verify/a"}
		res.Next = &slipway.Plan{}
		for i, key := range chain {
			next := p(key)
			if i > 0 {
				next.Needs = chain[i-1 : i]
			}
			if next.Kind == slipway.KindDeploy || next.Kind == slipway.KindVerify {
				next.Lock = "shop/dev/a"
			}
			res.Next.Steps = append(res.Next.Steps, next)
		}
	}
	if step.Kind == slipway.KindBuild {
		res.Artifacts = []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "r/shop/a", Digest: "sha256:aa"}}
	}
	return res
}

// process is a child.
type process struct {
	cmd   *exec.Cmd
	lines chan string
}

func (w *world) spawn() *process {
	w.t.Helper()
	p := &process{cmd: exec.Command(os.Args[0], "-test.run=^$"), lines: make(chan string, 10000)}
	p.cmd.Env = append(os.Environ(), childEnv+"="+w.path)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	w.ok(err)
	w.ok(p.cmd.Start())
	go func() {
		defer close(p.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			p.lines <- sc.Text()
		}
	}()
	w.t.Cleanup(p.kill)
	return p
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	if p.cmd.ProcessState != nil {
		return
	}
	p.cmd.Process.Kill() //nolint:errcheck // it may be gone
	for range p.lines {
	}
	p.cmd.Wait() //nolint:errcheck // it was killed
}

// until waits for a line that has a prefix.
func (p *process) until(t testing.TB, prefix string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("the child ended before it said %q", prefix)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-deadline:
			t.Fatalf("the child did not say %q within %s", prefix, patience)
		}
	}
}

// prepare makes the project and runs of a plan in the database, with their jobs, and no engine.
func (w *world) prepare(n int, steps ...slipway.PlanStep) []int64 {
	w.t.Helper()
	q, err := engine.NewQueue()
	w.ok(err)
	s, err := store.Open(w.ctx, w.path, store.Options{Queue: q})
	w.ok(err)
	defer s.Close()
	_, err = s.CreateProject(w.ctx, slipway.Project{Name: "shop"}, "ada")
	w.ok(err)
	var ids []int64
	w.store = s
	for range n {
		ids = append(ids, w.newRun(steps...).ID)
	}
	return ids
}

func TestAKilledServerGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	build, held := p("build/hang"), p("deploy/hang")
	build.Service, held.Service, held.Lock = "hang", "hang", "shop/dev/hang"
	ids := w.prepare(1, build, held, p("test/a", "build/hang"))
	c := w.spawn()
	c.until(t, name(ids[0], ""))
	c.until(t, name(ids[0], "")) // both hang now
	c.kill()
	begun := time.Now()
	w.opts.PollInterval = time.Hour // nothing goes on unless the start wakes it
	w.start()
	took := make(chan time.Duration, 3)
	go func() {
		for range 2 {
			<-w.stand.starts
			took <- time.Since(begun)
		}
	}()
	d := w.untilRun(ids[0], slipway.RunSucceeded)
	t.Logf("steps started %s and %s after the restart, the run was over after %s", <-took, <-took, time.Since(begun))
	for _, st := range d.Steps {
		if want := map[string]int{"build/hang": 2, "deploy/hang": 2, "test/a": 1}[st.Spec.Key]; st.Attempt != want {
			t.Errorf("%s took %d attempts, want %d", st.Spec.Key, st.Attempt, want)
		}
	}
	w.once(ids[0])
}

// TestChaos kills a server again and again while it works, and then finds every run done, each thing
// recorded once.
func TestChaos(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := w.prepare(12)
	kills := 0
	for range 12 {
		c := w.spawn()
		c.until(t, "up")
		deadline := time.After(time.Duration(rand.IntN(60)) * time.Millisecond)
		<-deadline
		c.kill()
		kills++
	}
	w.stand.on("plan", func(_ context.Context, _ stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		return result(step), nil
	})
	w.stand.on("build/a", func(_ context.Context, _ stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		return result(step), nil
	})
	w.start()
	again := 0
	for _, id := range ids {
		d := w.untilRun(id, slipway.RunSucceeded)
		if len(d.Steps) != 6 || len(d.Artifacts) != 1 {
			t.Errorf("run #%d has %d steps and %d artifacts", id, len(d.Steps), len(d.Artifacts))
		}
		for _, st := range d.Steps {
			again += st.Attempt - 1
		}
		w.once(id)
	}
	t.Logf("%d kills, %d steps, %d done again", kills, 6*len(ids), again)
}

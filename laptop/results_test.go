package laptop

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/worktree"
)

// sameBases has one digest for all base images.
type sameBases struct{ digest string }

func (b *sameBases) Digest(context.Context, string, string, map[string]string) (string, error) {
	return b.digest, nil
}

// What was built and tested on the same inputs is not done again: files that are not committed are part of
// them, and so are base images. What failed is.
func TestLocalRunReuses(t *testing.T) {
	t.Parallel()
	l := newLaptop(t)
	slipwaytest.Write(t, l.w.Root, "cart/Dockerfile", "FROM base AS testrunner\nFROM base\n")
	results := Results{dir: filepath.Join(t.TempDir(), "results"), now: time.Now}
	bases := &sameBases{"sha256:one"}
	fails := false
	run := func(blind bool) (done string, steps []Step) {
		t.Helper()
		var err error
		if l.w, err = worktree.Open(t.Context(), l.w.Root, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		p, err := l.checkouts().Plan(t.Context(), Request{Event: slipway.PullUpdate}, l.config)
		if err != nil {
			t.Fatal(err)
		}
		inner := stage.Func(func(_ context.Context, _ stage.Env, s slipway.PlanStep) (slipway.Result, error) {
			done += s.Key + " "
			if fails && s.Kind == slipway.KindTest {
				return slipway.Result{Outcome: slipway.Failed, Report: &slipway.TestReport{Failed: 1}}, nil
			}
			return slipway.Result{Outcome: slipway.Succeeded, Report: &slipway.TestReport{Passed: 3}}, nil
		})
		results.blind = blind
		runner := results.Reusing(inner, l.checkouts(), nil, bases)
		r := &Run{
			Run: p.Run, Parallel: 1, Now: time.Now, Moved: l.told.moved, LogOf: func(slipway.PlanStep) stage.Log { return &l.told },
			Runners: map[slipway.StepKind]stage.Runner{slipway.KindBuild: runner, slipway.KindTest: runner, slipway.KindChart: stage.Func(
				func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
					return slipway.Result{Outcome: slipway.Succeeded}, nil
				})},
		}
		steps = r.Execute(t.Context(), p.Steps)
		return strings.TrimSpace(done), steps
	}
	want := func(why, done string, blind bool) []Step {
		t.Helper()
		got, steps := run(blind)
		if got != done {
			t.Errorf("%s: done are %q, want %q\n%s", why, got, done, l.told.String())
		}
		return steps
	}
	const all = "build/cart test/cart"
	want("the first time", all, false)
	for _, s := range want("again", "", false) {
		if s.Kind == slipway.KindChart {
			continue
		}
		if !regexp.MustCompile(`^reused \(same inputs as (\d{4}-\d\d-\d\d )?\d\d:\d\d\)$`).MatchString(s.Reason) || s.Reused.IsZero() || s.Report.Passed != 3 {
			t.Errorf("%s: %q, reused from %s, %+v", s.Key, s.Reason, s.Reused, s.Report)
		}
	}
	want("with --no-reuse", all, true)
	slipwaytest.Write(t, l.w.Root, "cart/page.html", "two\n")
	want("after an edit", all, false)
	slipwaytest.Write(t, l.w.Root, "cart/page.html", "one\n")
	want("after the edit was taken back", "", false)
	bases.digest = "sha256:two"
	want("with another base image", all, false)
	slipwaytest.Write(t, l.w.Root, "cart/page.html", "three\n")
	fails = true
	want("when the test fails", all, false)
	fails = false
	want("after it failed", "test/cart", false)
}

func TestLocalResults(t *testing.T) {
	t.Parallel()
	r := Results{dir: filepath.Join(t.TempDir(), "shop"), now: time.Now}
	inputs := func(n int) string { return fmt.Sprintf("sha256:%064x", n) }
	step := func(trust slipway.Trust) slipway.PlanStep {
		return slipway.PlanStep{Key: "build/cart", Kind: slipway.KindBuild, Build: &slipway.BuildSpec{Trust: trust}}
	}
	find := func(n int, trusts ...slipway.Trust) (slipway.Earlier, bool) {
		t.Helper()
		e, ok, err := r.Earlier(t.Context(), "shop", inputs(n), func(p slipway.PlanStep) bool { return slices.Contains(trusts, p.Build.Trust) })
		if err != nil {
			t.Fatal(err)
		}
		return e, ok
	}
	if err := r.keep(step(slipway.TrustBranch), slipway.Result{Inputs: inputs(1), Artifacts: []slipway.Artifact{{Digest: "sha256:x"}}}); err != nil {
		t.Fatal(err)
	}
	if e, ok := find(1, slipway.TrustReviewed, slipway.TrustBranch); !ok || e.Artifacts[0].Digest != "sha256:x" || e.Step.Spec.Build.Trust != slipway.TrustBranch {
		t.Errorf("kept as %+v, %v", e, ok)
	}
	if _, ok := find(1, slipway.TrustReviewed); ok {
		t.Error("a less trusted result was taken")
	}
	if _, ok := find(2, slipway.TrustBranch); ok {
		t.Error("other inputs were taken")
	}
	slipwaytest.Write(t, r.dir, filepath.Base(r.file(inputs(3), slipway.TrustBranch)), `{"step": {`)
	if _, ok := find(3, slipway.TrustBranch); ok {
		t.Error("half a file was taken")
	}
	for _, bad := range []string{"", "sha256:../../x", "md5:" + strings.Repeat("a", 64)} {
		if err := r.keep(step(slipway.TrustBranch), slipway.Result{Inputs: bad}); err != nil || r.file(bad, slipway.TrustBranch) != "" {
			t.Errorf("inputs %q are kept: %v", bad, err)
		}
	}

	// Two runs at once, and more than are kept: what was used last stays.
	hour := time.Now().Add(-time.Hour)
	if err := os.Chtimes(r.file(inputs(1), slipway.TrustBranch), hour, hour); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for n := 10; n < 10+maxResults; n++ {
				if err := r.keep(step(slipway.TrustBranch), slipway.Result{Inputs: inputs(n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) > maxResults {
		t.Errorf("%d files are kept, %v", len(entries), err)
	}
	if _, ok := find(1, slipway.TrustBranch); ok {
		t.Error("the oldest is kept")
	}
	if _, ok := find(9+maxResults, slipway.TrustBranch); !ok {
		t.Error("the newest is gone")
	}
}

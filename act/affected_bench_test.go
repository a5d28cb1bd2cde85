package act_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/source"
)

// builtAt is a history in which a commit was built last, whatever the ref.
type builtAt struct {
	act.History
	commit string
}

func (b builtAt) LastBuilt(context.Context, string, string, string) (string, error) {
	return b.commit, nil
}

// longHistory fills shop with a repository of many commits, and returns its tip and commits on top of it
// that each change 100 files.
func (w *world) longHistory(commits, services, filesEach, pushes int) (tip string, heads []string) {
	w.t.Helper()
	var in bytes.Buffer
	file := func(s, f int) string { return fmt.Sprintf("src/team%d/svc%d/pkg%d/file%d.go", s%20, s, f%4, f) }
	commit := func(ref string, n int, from string) {
		fmt.Fprintf(&in, "commit %s\nmark :%d\ncommitter Ada <ada@example.com> %d +0000\ndata 1\nx\n%s", ref, n, 1_600_000_000+n, from)
	}
	inline := func(name, text string) { fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", name, len(text), text) }
	commit("refs/heads/main", 1, "")
	for s := range services {
		inline(fmt.Sprintf("src/team%d/svc%d/Dockerfile", s%20, s), "FROM scratch\nCOPY . /\nEXPOSE 80\n")
		inline(fmt.Sprintf("src/team%d/svc%d/chart/Chart.yaml", s%20, s), "name: x\n")
		for f := range filesEach {
			inline(file(s, f), fmt.Sprint(s, f))
		}
	}
	for n := 2; n <= commits; n++ {
		commit("refs/heads/main", n, "")
		inline(file(n%services, n%filesEach), fmt.Sprint(n))
	}
	for p := range pushes {
		commit(fmt.Sprintf("refs/heads/push%d", p), commits+1+p, fmt.Sprintf("from :%d\n", commits))
		for f := range 100 {
			inline(file((f/5*7+p)%services, f%filesEach), fmt.Sprint("push", p, f))
		}
	}
	cmd := exec.CommandContext(w.ctx, "git", "--git-dir", w.repo.Dir, "fast-import", "--quiet", "--force")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("git fast-import: %v\n%s", err, out)
	}
	for p := range pushes {
		heads = append(heads, w.ref(fmt.Sprintf("refs/heads/push%d", p)))
	}
	return w.ref("refs/heads/main"), heads
}

// BenchmarkPlanOfAPush is a push of 100 files to a repository of 20,000 commits, 10,000 files and 500
// services, beside git's own comparison of the same commits. "which services run" compares and decides;
// "plan" also finds out what the commit says and the revisions of those that run, and makes the steps.
func BenchmarkPlanOfAPush(b *testing.B) {
	w := newWorld(b)
	tip, heads := w.longHistory(20_000, 500, 18, 60)
	project, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	w.planner.History = builtAt{w.store, tip}
	run := func(head string) slipway.Run {
		return slipway.Run{ID: 1, Project: "shop", Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: head}
	}
	w.do(w.planner.Plan(w.ctx, project, run(tip))) // the commit before was planned when it was pushed
	next := 0
	head := func() string { next++; return heads[next%len(heads)] }

	b.Run("git diff-tree", func(b *testing.B) {
		for b.Loop() {
			out, err := exec.CommandContext(b.Context(), "git", "--git-dir", w.repo.Dir, "diff-tree", "-r", "--no-renames", "--name-only", "-z", tip, head()).Output()
			if err != nil || strings.Count(string(out), "\x00") != 100 {
				b.Fatalf("%d files, %v", strings.Count(string(out), "\x00"), err)
			}
		}
	})
	tree, err := w.repo.Tree(w.ctx, tip)
	w.ok(err)
	c, _ := config.LoadServices(tree, config.Options{Project: "shop"})
	w.ok(tree.Close())
	b.Run("which services run", func(b *testing.B) {
		for b.Loop() {
			found, err := source.Changes(b.Context(), w.repo, source.Input{Event: slipway.BranchPush, Commit: head(), Before: tip, DefaultTip: tip})
			w.ok(err)
			a := plan.Affected(plan.Question{Event: slipway.BranchPush, Ref: "refs/heads/x", Config: c, Since: []plan.Since{{Config: &c, Files: found[0].Files}}})
			if len(a.Changes) != 500 {
				b.Fatal(a)
			}
		}
	})
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			p, err := w.planner.Plan(b.Context(), project, run(head()))
			if err != nil || len(p.Decisions) != 500 {
				b.Fatal(err)
			}
		}
	})
	b.Run("plan/never read before", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			w.restart()
			w.planner.History = builtAt{w.store, tip}
			b.StartTimer()
			w.do(w.planner.Plan(b.Context(), project, run(head())))
		}
	})
}

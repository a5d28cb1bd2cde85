package act_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/source"
)

// builtAt is a history in which a commit was built last, whatever the ref.
type builtAt struct {
	act.History
	commit string
}

func (b builtAt) Built(context.Context, string, string, string, int64) (slipway.Built, error) {
	return slipway.Built{Rest: slipway.Done{Commit: b.commit}}, nil
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
		inline(fmt.Sprintf("src/team%d/svc%d/Dockerfile", s%20, s), fmt.Sprintf("FROM scratch\nCOPY . /\nEXPOSE 80\nLABEL n=%d\n", s))
		inline(fmt.Sprintf("src/team%d/svc%d/chart/Chart.yaml", s%20, s), fmt.Sprintf("name: svc%d\n", s))
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
// services, beside git's own comparison of the same commits, in turns. "which services run" compares and
// decides; "plan" also finds out what the commit says and the revisions of those that run, and makes the
// steps. Each push is another one up to -benchtime 60x. It logs each measurement, in milliseconds.
func BenchmarkPlanOfAPush(b *testing.B) {
	w := newWorld(b)
	tip, heads := w.longHistory(20_000, 500, 18, 60)
	project, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	w.planner.History = builtAt{w.store, tip}
	plans := func(head string) {
		p, err := w.planner.Plan(w.ctx, project, slipway.Run{ID: 1, Project: "shop", Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: head})
		if err != nil || len(p.Decisions) != 500 {
			b.Fatal(err)
		}
	}
	repo := w.repo
	repo.Readers = git.NewReaders(w.ctx)
	defer repo.Readers.Close()
	tree, err := repo.Tree(w.ctx, tip)
	w.ok(err)
	c, _ := config.LoadServices(tree, config.Options{Project: "shop"})
	w.ok(tree.Close())
	decides := func(head string) {
		found, err := source.Changes(w.ctx, repo, source.Input{Event: slipway.BranchPush, Commit: head, Before: tip, DefaultTip: tip})
		w.ok(err)
		if a := plan.Affected(plan.Question{Event: slipway.BranchPush, Ref: "refs/heads/x", Config: c, Since: []plan.Since{{Config: &c, Files: found[0].Files}}}); len(a.Changes) != 500 {
			b.Fatal(a)
		}
	}
	compares := func(head string) {
		out, err := exec.CommandContext(w.ctx, "git", "--git-dir", w.repo.Dir, "diff-tree", "-r", "--no-renames", "--name-only", "-z", tip, head).Output()
		if err != nil || strings.Count(string(out), "\x00") != 100 {
			b.Fatalf("%d files, %v", strings.Count(string(out), "\x00"), err)
		}
	}
	b.Run("next", func(b *testing.B) {
		plans(tip) // when it was pushed
		t := timings{}
		for i := 0; b.Loop(); i++ {
			head := heads[i%len(heads)]
			t.take("git diff-tree", func() { compares(head) })
			t.take("which services run", func() { decides(head) })
			t.take("plan", func() { plans(head) })
		}
		t.log(b)
	})
	b.Run("after a restart", func(b *testing.B) {
		t := timings{}
		for i := 0; b.Loop(); i++ {
			head := heads[i%len(heads)]
			w.restart()
			w.planner.History = builtAt{w.store, tip}
			t.take("git diff-tree", func() { compares(head) })
			t.take("plan", func() { plans(head) })
		}
		t.log(b)
	})
}

// timings are measurements in milliseconds, by what was measured.
type timings map[string][]float64

func (t timings) take(what string, do func()) {
	began := time.Now()
	do()
	t[what] = append(t[what], float64(time.Since(began).Microseconds())/1000)
}

// log shows the medians and logs everything.
func (t timings) log(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	for what, all := range t {
		sorted := slices.Sorted(slices.Values(all))
		b.ReportMetric(sorted[len(sorted)/2], strings.ReplaceAll(what, " ", "-")+"-ms")
	}
	line, err := json.Marshal(t)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("measured %s: %s", b.Name(), line)
}

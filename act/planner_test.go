package act_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/stage"
)

// reads counts the trees that are opened and those that are not closed again.
type reads struct {
	opened, open atomic.Int64
	broken       error // of Close
	during       func()
}

type countedRepo struct {
	act.PlanRepo
	r *reads
}

type countedTree struct {
	act.Tree
	r *reads
}

func (c countedRepo) Tree(ctx context.Context, commit string) (act.Tree, error) {
	t, err := c.PlanRepo.Tree(ctx, commit)
	if err != nil {
		return nil, err
	}
	c.r.opened.Add(1)
	c.r.open.Add(1)
	return countedTree{t, c.r}, nil
}

func (c countedTree) Open(name string) (fs.File, error) {
	if c.r.during != nil {
		c.r.during()
	}
	return c.Tree.Open(name)
}

func (c countedTree) Close() error {
	c.r.open.Add(-1)
	return errors.Join(c.Tree.Close(), c.r.broken)
}

// counted makes the planner's repositories count.
func (w *world) counted() *reads {
	r := &reads{}
	open := w.planner.Repo
	w.planner.Repo = func(p string) act.PlanRepo { return countedRepo{open(p), r} }
	return r
}

func (w *world) plan(commit string) (slipway.Plan, error) {
	w.t.Helper()
	p, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	return w.planner.Plan(w.ctx, p, slipway.Run{ID: 1, Project: "shop", Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: commit})
}

// children are the processes that this one started and that are not gone, and its open files.
func children(t *testing.T) (processes, files int) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // gone in between
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) && strings.Contains(string(b), "(git)") {
			processes++
		}
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return processes, len(open)
}

// Plans leave no process but the one that is kept, and no open file behind. It is not parallel: it counts those of the process.
func TestPlansLeaveNothingOpen(t *testing.T) {
	w := newWorld(t)
	c := w.main()
	r := w.counted()
	w.do(w.plan(c))
	_, before := children(t)
	for i := range 50 {
		c = w.commit(c, "next", service("cart", "mail").with("src/cart/Dockerfile", "FROM scratch\nLABEL n="+strconv.Itoa(i)+"\n"))
		w.move("refs/heads/main", c)
		w.do(w.plan(c))
		w.do(w.Board(w.ctx, w.viewer, "shop"))
		_, err := w.receive(w.developer, fmt.Sprintf("refs/heads/release/cart/v1.0.%d", i), c)
		w.ok(err)
		_, err = w.plan(w.commit(c, "broken", files{"slipway.yaml": "nonsense: 1\n", "Dockerfile": "FROM scratch\n"}))
		w.code(err, slipway.Invalid)
	}
	if processes, _ := children(t); processes > 1 { // the one that reads the repository
		t.Errorf("%d processes of git are there", processes)
	}
	w.stop()
	processes, after := children(t)
	if open := r.open.Load(); open != 0 || processes != 0 || after > before+10 {
		t.Errorf("%d trees and %d processes of git are left, and %d open files (%d before)", open, processes, after, before)
	}
	if n := r.opened.Load(); n < 100 {
		t.Errorf("only %d trees were opened: the test looks at the wrong place", n)
	}
}

func TestConfigurationsAreReadOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const environments = "version: 1\nenvironments: [{name: dev, trigger: default-branch}, {name: qa}, {name: live, production: true}]\n"
	w.push(w.approver, "refs/heads/main", w.commit("", "first", service("cart", "mail").with("slipway.yaml", environments)))
	w.restart()
	r := w.counted()
	look := func() {
		w.do(w.Board(w.ctx, w.viewer, "shop"))
		w.do(w.planner.Policy(w.ctx, "shop"))
		w.do(w.planner.PullRequests(w.ctx, "shop"))
		w.do(w.planner.Environment(w.ctx, "shop", "qa"))
	}
	look()
	first := r.opened.Load()
	if first != 2 { // the policy, and the services
		t.Errorf("%d trees were opened for the first look", first)
	}
	look()
	if n := r.opened.Load(); n != first {
		t.Errorf("%d trees were opened for the second look", n-first)
	}

	// What a policy is checked against has changed, and so may its answer.
	w.ok(w.store.SaveCluster(w.ctx, slipway.Cluster{Name: "elsewhere"}, []byte("x"), "admin"))
	if _, err := w.planner.Policy(w.ctx, "shop"); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "default") {
		t.Errorf("with no cluster named default: %v", err)
	}
	if b, err := w.Board(w.ctx, w.viewer, "shop"); err != nil || len(b.Environments) != 3 || len(b.Rows) != 2 {
		t.Errorf("board of a project whose configuration is not valid: %+v, %v", b, err)
	}
	w.ok(w.store.SaveCluster(w.ctx, slipway.Cluster{Name: "default"}, []byte("x"), "admin"))
	look()

	// A new commit is read, and another project's is its own.
	c := w.commit(w.ref("refs/heads/main"), "one service less", service("cart").with("slipway.yaml", "version: 1\npullRequests:\n  approvals: 3\n"))
	w.move("refs/heads/main", c)
	b, err := w.Board(w.ctx, w.viewer, "shop")
	w.ok(err)
	policy, err := w.planner.PullRequests(w.ctx, "shop")
	w.ok(err)
	if len(b.Rows) != 1 || policy.Approvals != 3 {
		t.Errorf("after the next commit: %+v, %+v", b.Rows, policy)
	}
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog"}))
	if b, err = w.Board(w.ctx, w.admin, "blog"); err != nil || len(b.Rows) != 0 || len(b.Environments) != 3 {
		t.Errorf("board of an empty project: %+v, %v", b, err)
	}
}

func TestManyConfigurationsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	var commits []string
	for i := range 12 {
		c = w.commit(c, "next", service(fmt.Sprintf("s%d", i)))
		commits = append(commits, c)
	}
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range commits {
				i = (i + g*3) % len(commits)
				p, err := w.plan(commits[i])
				if want := fmt.Sprintf("s%d", i); err != nil || len(p.Decisions) != 3 || p.Decisions[0].Service != want || !p.Decisions[1].Removed {
					t.Errorf("plan of %s: %+v, %v", want, p.Decisions, err)
				}
			}
		})
	}
	all.Wait()
}

// notes is a log that keeps what is said.
type notes struct {
	mu sync.Mutex
	b  strings.Builder
}

func (n *notes) Line(l slipway.LogLine) { n.Printf("%s", l.Text) }
func (n *notes) Printf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(&n.b, format+"\n", args...)
}

func TestThePlanStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	log := &notes{}
	run := func(ctx context.Context, r slipway.Run) (slipway.Result, error) {
		r.ID, r.Project = 1, "shop"
		return w.planner.Run(ctx, stage.Env{Run: r, Log: log, Now: time.Now}, slipway.PlanStep{})
	}
	res, err := run(w.ctx, slipway.Run{Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: c})
	w.ok(err)
	if res.Outcome != slipway.Succeeded || res.Reason != "2 of 2 services run" || res.Next == nil || len(res.Next.Steps) < 6 || res.Next.ConfigCommit != c {
		t.Errorf("result %+v", res)
	}
	w.says(log.b.String(), "cart: runs", "mail: runs")

	res, err = run(w.ctx, slipway.Run{Event: slipway.ReleasePush, Ref: "refs/heads/release/cart/v1.0.0", Commit: c, Service: "cart", Version: "v1.0.0"})
	w.ok(err)
	if res.Reason != "1 of 2 services run" {
		t.Errorf("result %+v", res)
	}

	// A commit that is wrong is red, not an error.
	broken := w.commit(c, "broken", service("cart").with("slipway.yaml", "version: nine\n"))
	res, err = run(w.ctx, slipway.Run{Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: broken})
	w.ok(err)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "slipway.yaml:1") {
		t.Errorf("result %+v", res)
	}
	res, err = run(w.ctx, slipway.Run{Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: strings.Repeat("1", 40)})
	w.ok(err)
	if res.Outcome != slipway.Failed {
		t.Errorf("a commit that is gone: %+v", res)
	}

	// A version that another commit has.
	w.push(w.developer, "refs/heads/release/cart/v1.0.0", c)
	w.finish(w.runs("refs/heads/release/cart/v1.0.0")[0].ID, "plan", slipway.Result{Outcome: slipway.Succeeded,
		Release: &slipway.Release{Service: "cart", Version: "v1.0.0", Commit: c, ImageDigest: "sha256:1", ChartDigest: "sha256:2"}})
	next := w.commit(c, "next", service("cart"))
	res, err = run(w.ctx, slipway.Run{Event: slipway.ReleasePush, Ref: "refs/heads/release/cart/v1.0.0", Commit: next, Service: "cart", Version: "v1.0.0"})
	w.ok(err)
	if res.Outcome != slipway.Failed || !strings.Contains(res.Reason, slipway.ShortHash(c)) {
		t.Errorf("a claimed version: %+v", res)
	}
}

// Without a default branch nothing says where a release goes: neither may it say so itself (D14).
func TestAReleaseNeedsADefaultBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.commit("", "first", service("cart").with("slipway.yaml", "version: 1\nenvironments: [{name: live, production: true, approvals: {required: 0}}]\n"))
	run := slipway.Run{ID: 1, Project: "shop", Event: slipway.ReleasePush, Ref: "refs/heads/release/cart/v1.0.0", Commit: c, Service: "cart", Version: "v1.0.0"}
	p, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	_, err = w.planner.Plan(w.ctx, p, run)
	w.code(err, slipway.Conflict, "the default branch main does not exist")
	w.push(w.approver, "refs/heads/main", w.commit("", "governs", service("cart")))
	plan, err := w.planner.Plan(w.ctx, p, run)
	w.ok(err)
	asked := false
	for _, s := range plan.Steps {
		asked = asked || s.Kind == slipway.KindApprove
		if s.Environment == "live" {
			t.Errorf("the release says where it goes: %s", s.Key)
		}
	}
	if !asked {
		t.Error("the default branch's approval is not asked for")
	}
}

// What is our trouble is an error, never red: a server that stops while it reads, a git that fails.
func TestTroubleWithReadingIsNotRed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	r := w.counted()
	run := func(ctx context.Context, commit string) (slipway.Result, error) {
		return w.planner.Run(ctx, stage.Env{Run: slipway.Run{ID: 1, Project: "shop", Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: commit}, Log: &notes{}, Now: time.Now}, slipway.PlanStep{})
	}
	next := w.commit(c, "next", service("cart"))
	ctx, stop := context.WithCancelCause(w.ctx)
	r.during = func() { stop(slipway.ErrShutdown) }
	if res, err := run(ctx, next); !errors.Is(err, slipway.ErrShutdown) {
		t.Errorf("stopped while it read: %+v, %v", res, err)
	}
	r.during, r.broken = nil, errors.New("git died")
	if res, err := run(w.ctx, next); !errors.Is(err, r.broken) {
		t.Errorf("git died: %+v, %v", res, err)
	}
	r.broken = nil
	if res, err := run(w.ctx, next); err != nil || res.Outcome != slipway.Succeeded {
		t.Errorf("the next attempt: %+v, %v", res, err)
	}
}

func BenchmarkBoard(b *testing.B) {
	w := newWorld(b)
	f := files{}
	for i := range 50 {
		f[fmt.Sprintf("src/s%d/Dockerfile", i)] = "FROM scratch\nEXPOSE 80\n"
		for j := range 20 {
			f[fmt.Sprintf("src/s%d/f%d.go", i, j)] = "package x\n"
		}
	}
	w.push(w.approver, "refs/heads/main", w.commit("", "first", f))
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			w.restart()
			w.do(w.Board(w.ctx, w.viewer, "shop"))
		}
	})
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			w.do(w.Board(w.ctx, w.viewer, "shop"))
		}
	})
}

// Two projects whose environments have one default namespace: the second one is told before anything runs.
func TestANamespaceOfAnotherProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog"}))
	r, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "blog", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: strings.Repeat("4", 40)},
		slipway.Plan{Steps: []slipway.PlanStep{{Key: "deploy/x@shop", Kind: slipway.KindDeploy, Service: "x", Environment: "shop"}}})
	w.ok(err)
	w.do(w.store.SaveDeployment(w.ctx, slipway.Deployment{RunID: r.ID, Step: "deploy/x@shop", State: slipway.Deploying, Version: "v1",
		Target: slipway.Target{Project: "blog", Environment: "shop", Service: "x", Cluster: "default", Namespace: "shop-development", Release: "x"}}))
	first := w.commit("", "first", service("cart"))
	w.push(w.approver, "refs/heads/main", first)
	_, err = w.planner.Plan(w.ctx, slipway.Project{Name: "shop", DefaultBranch: "main"}, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: first})
	w.code(err, slipway.Conflict, "namespace shop-development of cluster default", "project blog deploys")

	c := w.commit(first, "elsewhere", service("cart").with("slipway.yaml", "version: 1\nenvironments:\n  - name: development\n    trigger: default-branch\n    namespace: my-shop\n"))
	w.push(w.approver, "refs/heads/main", c)
	made, err := w.planner.Plan(w.ctx, slipway.Project{Name: "shop", DefaultBranch: "main"}, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: c})
	w.ok(err)
	if len(made.Steps) == 0 {
		t.Error("nothing is planned")
	}
}

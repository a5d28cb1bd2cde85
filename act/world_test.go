package act_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is Actions over a real store and real repositories, with people of every role in project shop.
type world struct {
	*act.Actions
	t        testing.TB
	ctx      context.Context
	store    *store.Store
	planner  *act.Planner
	people   *act.People
	observer *act.Observer // nil: nobody looks
	repo     git.Repo      // of shop
	stop     func()        // ends the readers of repositories
	dir      string        // of repositories
	jobs     *jobs
	hooks    *hooks
	log      *bytes.Buffer

	admin, approver, developer, viewer, stranger slipway.User
}

// hooks let a test come between two parts, or have one of them fail.
type hooks struct {
	beforeUpdateRef func()
	updateRef       error // instead of moving the ref
	acceptPush      error
	recordPush      func(slipway.Push) error
	mergePull       error
	createProject   error
	keep            error
}

// pushes is the store with hooks before it.
type pushes struct {
	*store.Store
	h *hooks
}

func (p pushes) RecordPush(ctx context.Context, in slipway.Push) (slipway.Push, error) {
	if p.h.recordPush != nil {
		if err := p.h.recordPush(in); err != nil {
			return slipway.Push{}, err
		}
	}
	return p.Store.RecordPush(ctx, in)
}

func (p pushes) AcceptPush(ctx context.Context, id int64, run *slipway.Run, plan slipway.Plan, message string) (slipway.Run, error) {
	if p.h.acceptPush != nil {
		return slipway.Run{}, p.h.acceptPush
	}
	return p.Store.AcceptPush(ctx, id, run, plan, message)
}

func (p pushes) MergePull(ctx context.Context, project string, number int64, head, as, actor string) (slipway.PullRequest, error) {
	if p.h.mergePull != nil {
		return slipway.PullRequest{}, p.h.mergePull
	}
	return p.Store.MergePull(ctx, project, number, head, as, actor)
}

func (p pushes) CreateProject(ctx context.Context, in slipway.Project, actor string) (slipway.Project, error) {
	if p.h.createProject != nil {
		return in, p.h.createProject
	}
	return p.Store.CreateProject(ctx, in, actor)
}

// repo is a git.Repo as act sees it.
type repo struct {
	git.Repo
	h *hooks
}

func (r repo) Tree(ctx context.Context, commit string) (act.Tree, error) {
	return r.Repo.Tree(ctx, commit)
}

func (r repo) Subject(ctx context.Context, commit string) (string, time.Time, error) {
	c, err := r.CommitInfo(ctx, commit)
	return c.Subject, c.Time, err
}

func (r repo) Merge(ctx context.Context, base, head, message, author string) (string, error) {
	m, err := r.MergeTree(ctx, base, head)
	if err != nil {
		return "", err
	}
	if len(m.Conflicts) > 0 {
		return "", slipway.Errorf(slipway.Conflict, "both sides changed %s", strings.Join(m.Conflicts, ", "))
	}
	return r.CommitTree(ctx, git.NewCommit{Tree: m.Tree, Parents: []string{base, head}, Message: message, Author: author, Time: time.Unix(1_700_000_000, 0)})
}

func (r repo) UpdateRef(ctx context.Context, ref, new, old string) error {
	if r.h.beforeUpdateRef != nil {
		r.h.beforeUpdateRef()
	}
	if r.h.updateRef != nil {
		return r.h.updateRef
	}
	return r.Repo.UpdateRef(ctx, ref, new, old)
}

// jobs keeps the newest job of each step.
type jobs struct {
	mu     sync.Mutex
	newest map[int64]int
}

func (j *jobs) Enqueue(_ context.Context, _ *sql.Tx, step int64, job int, _ slipway.StepKind, _ time.Time) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.newest[step] = max(j.newest[step], job)
	return nil
}

func (*jobs) Wake(time.Time)      {}
func (*jobs) Cancel(int64, error) {}

const base = "main"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, ctx: t.Context(), dir: t.TempDir(), jobs: &jobs{newest: map[int64]int{}}, hooks: &hooks{}, log: &bytes.Buffer{}}
	w.store = storetest.Open(t, store.Options{Queue: w.jobs})
	w.restart()
	w.do(w.store.CreateUser(w.ctx, "admin", true, ""))
	var err error
	w.admin, err = w.store.User(w.ctx, "admin")
	w.ok(err)
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "shop"}))
	w.repo = git.Repo{Dir: w.path("shop")} // beside what the server reads with
	for name, role := range map[string]slipway.Role{"approver": slipway.Approver, "developer": slipway.Developer, "viewer": slipway.Viewer, "stranger": ""} {
		w.do(w.store.CreateUser(w.ctx, name, false, "admin"))
		w.ok(w.store.SetRole(w.ctx, name, "shop", role, "admin"))
	}
	for name, to := range map[string]*slipway.User{"approver": &w.approver, "developer": &w.developer, "viewer": &w.viewer, "stranger": &w.stranger} {
		*to, err = w.store.User(w.ctx, name)
		w.ok(err)
	}
	return w
}

// restart is a new process over the same data.
func (w *world) restart() {
	if w.stop != nil {
		w.stop()
	}
	readers := git.NewReaders(w.ctx)
	w.stop = sync.OnceFunc(readers.Close)
	w.t.Cleanup(w.stop)
	open := func(project string) repo { return repo{git.Repo{Dir: w.path(project), Readers: readers}, w.hooks} }
	hooked := pushes{w.store, w.hooks}
	w.planner = &act.Planner{
		Repo: func(p string) act.PlanRepo { return open(p) }, Projects: w.store, Codebases: w.store, History: w.store, Namespaces: w.store,
		Candidates: slipway.Registry{Host: "registry.test"}, Production: slipway.Registry{Host: "registry.test", Prefix: "prod"}, URL: "http://slipway.test",
	}
	w.Actions = act.New(act.Options{
		Runs: w.store, Approvals: w.store, Deployments: w.store, Quarantines: w.store, Pushes: hooked, Pulls: hooked, PullEnds: hooked, Projects: hooked, Codebases: w.store, Waivers: w.store, Member: w.store.User, Planner: w.planner,
		Repo: func(p string) act.Repo { return open(p) }, Create: w.create, Kept: kept, Observer: w.observer, URL: "http://slipway.test", Log: slog.New(slog.NewTextHandler(w.log, nil)),
	})
	w.people = &act.People{Store: w.store, Credentials: w.store, Keys: w.store, URL: "http://slipway.test"}
}

func kept(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (w *world) path(project string) string { return filepath.Join(w.dir, project+".git") }

func (w *world) create(ctx context.Context, p slipway.Codebase) (slipway.Codebase, func() error, error) {
	aside := w.path(filepath.Join(p.Project, "new-"+p.Name))
	if p.DefaultBranch == "" {
		p.DefaultBranch = "trunk" // as the mirrored repository says
	}
	_, err := git.Init(ctx, aside, p.DefaultBranch)
	return p, func() error {
		if w.hooks.keep != nil {
			return w.hooks.keep
		}
		return os.Rename(aside, w.path(p.Key()))
	}, err
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// do fails the test on an error; the value before it is dropped.
func (w *world) do(_ any, err error) {
	w.t.Helper()
	w.ok(err)
}

// code fails the test unless err has the code and says all of the words.
func (w *world) code(err error, want slipway.Code, words ...string) {
	w.t.Helper()
	if got := slipway.ErrorCode(err); got != want {
		w.t.Fatalf("error %v has code %q, want %q", err, got, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			w.t.Errorf("error %q does not say %q", err, word)
		}
	}
}

// files are the files of a commit, by their path.
type files map[string]string

// service is a folder with a Dockerfile.
func service(names ...string) files {
	f := files{}
	for _, n := range names {
		f["src/"+n+"/Dockerfile"] = "FROM scratch\nCOPY . /\n"
	}
	return f
}

func (f files) with(path, text string) files {
	out := files{path: text}
	for p, t := range f {
		if p != path {
			out[p] = t
		}
	}
	return out
}

// commit stores a commit with exactly these files on top of parent ("" for none); no ref moves.
func (w *world) commit(parent, message string, f files) string {
	w.t.Helper()
	var in bytes.Buffer
	fmt.Fprintf(&in, "commit refs/scratch/tip\nmark :1\ncommitter Ada <ada@example.com> 1700000000 +0000\ndata %d\n%s\n", len(message), message)
	if parent != "" {
		fmt.Fprintf(&in, "from %s\n", parent)
	}
	in.WriteString("deleteall\n")
	for path, text := range f {
		fmt.Fprintf(&in, "M 100644 inline %s\ndata %d\n%s\n", path, len(text), text)
	}
	in.WriteString("reset refs/scratch/tip\nfrom 0000000000000000000000000000000000000000\nget-mark :1\n")
	cmd := exec.CommandContext(w.ctx, "git", "--git-dir", w.repo.Dir, "fast-import", "--quiet", "--force")
	cmd.Stdin = &in
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git fast-import: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// ref is what a ref of shop holds, the zero hash for nothing.
func (w *world) ref(name string) string {
	w.t.Helper()
	refs, err := w.repo.Refs(w.ctx, name)
	w.ok(err)
	if refs[name] == "" {
		return slipway.ZeroHash
	}
	return refs[name]
}

func (w *world) tree(ctx context.Context, commit string) (act.Tree, error) {
	return w.repo.Tree(ctx, commit)
}

// receive asks for a push and records it; the ref does not move.
func (w *world) receive(by slipway.User, ref, commit string) ([]slipway.Push, error) {
	w.t.Helper()
	old := w.ref(ref)
	forced := false
	if old != slipway.ZeroHash && commit != slipway.ZeroHash {
		ff, err := w.repo.IsAncestor(w.ctx, old, commit)
		w.ok(err)
		forced = !ff
	}
	return w.Receive(w.ctx, by, "shop", []act.Command{{Ref: ref, Old: old, New: commit, Forced: forced}}, w.tree)
}

// move moves a ref as git does.
func (w *world) move(ref, commit string) {
	w.t.Helper()
	w.ok(w.repo.UpdateRef(w.ctx, ref, commit, w.ref(ref)))
}

// push pushes, and returns what git would say.
func (w *world) push(by slipway.User, ref, commit string) string {
	w.t.Helper()
	recorded, err := w.receive(by, ref, commit)
	w.ok(err)
	w.move(ref, commit)
	return strings.Join(w.Moved(w.ctx, recorded), "\n")
}

// propose opens or updates a pull request into main.
func (w *world) propose(by slipway.User, topic, head string) (slipway.PullRequest, string) {
	w.t.Helper()
	p, lines, err := w.Propose(w.ctx, by, act.Proposal{Project: "shop", Base: base, Topic: topic, Head: head})
	w.ok(err)
	if p.ID != 0 {
		w.move(p.Ref, head)
		lines = append(lines, w.Moved(w.ctx, []slipway.Push{p})...)
	}
	var n int64
	if _, err := fmt.Sscanf(p.Ref, "refs/pull/%d/head", &n); err != nil {
		w.t.Fatalf("ref %s: %v", p.Ref, err)
	}
	return w.pull(n), strings.Join(lines, "\n")
}

func (w *world) pull(n int64) slipway.PullRequest {
	w.t.Helper()
	p, err := w.store.Pull(w.ctx, "shop", n)
	w.ok(err)
	return p
}

// main makes the default branch with two services and returns its commit.
func (w *world) main() string {
	w.t.Helper()
	c := w.commit("", "first", service("cart", "mail"))
	w.push(w.approver, "refs/heads/main", c)
	return c
}

// runs are the runs of a ref, newest first.
func (w *world) runs(ref string) []slipway.Run {
	w.t.Helper()
	all, err := w.store.Runs(w.ctx, slipway.RunFilter{Project: "shop", Ref: ref})
	w.ok(err)
	return all
}

// start starts a step.
func (w *world) start(run int64, key string) slipway.Step {
	w.t.Helper()
	all, err := w.store.Steps(w.ctx, run)
	w.ok(err)
	for _, s := range all {
		if s.Spec.Key == key {
			st, _, err := w.store.StartStep(w.ctx, s.ID, w.jobs.newest[s.ID], "here")
			w.ok(err)
			return st
		}
	}
	w.t.Fatalf("run #%d has no step %s", run, key)
	return slipway.Step{}
}

// finish starts a step and ends it.
func (w *world) finish(run int64, key string, res slipway.Result) {
	w.t.Helper()
	st := w.start(run, key)
	w.ok(w.store.FinishStep(w.ctx, st.ID, st.Attempt, res, nil))
}

// succeed ends a run whose only step is the one that plans.
func (w *world) succeed(run int64) {
	w.t.Helper()
	w.finish(run, "plan", slipway.Result{Outcome: slipway.Succeeded})
}

// pushesOf are what became of the pushes of a ref, oldest first.
func (w *world) pushesOf(ref string) []string {
	w.t.Helper()
	events, err := w.store.Events(w.ctx, 0, slipway.EventFilter{Project: "shop", Kind: "push.", Limit: 1000})
	w.ok(err)
	var out []string
	for _, e := range events {
		if strings.Contains(string(e.Data), `"`+ref+`"`) {
			out = append(out, strings.TrimPrefix(e.Kind, "push."))
		}
	}
	return out
}

func (w *world) wantPushes(ref string, want ...string) {
	w.t.Helper()
	if got := w.pushesOf(ref); strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("pushes of %s: %v, want %v", ref, got, want)
	}
}

func (w *world) says(text string, words ...string) {
	w.t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			w.t.Errorf("%q is not said in:\n%s", word, text)
		}
	}
}

// git runs git in shop's repository, as Ada, whoever runs the tests.
func (w *world) git(command, stdin string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.ctx, "git", append([]string{"--git-dir", w.repo.Dir, command}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.com",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.com")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) allRuns() []slipway.Run {
	w.t.Helper()
	all, err := w.store.Runs(w.ctx, slipway.RunFilter{Limit: 200})
	w.ok(err)
	return all
}

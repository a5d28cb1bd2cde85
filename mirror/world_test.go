package mirror

import (
	"context"
	"errors"
	"log/slog"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/repos"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
)

// upstream is a repository that is mirrored, and how it moves.
type upstream struct {
	t   *testing.T
	dir string
	url string
}

func (u *upstream) git(args ...string) string {
	u.t.Helper()
	cmd := exec.CommandContext(u.t.Context(), "git", args...)
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		u.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (u *upstream) commit(text string) string {
	u.t.Helper()
	if err := os.WriteFile(filepath.Join(u.dir, "README"), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
	u.git("add", ".")
	u.git("commit", "-q", "-m", text)
	return u.git("rev-parse", "HEAD")
}

// newUpstream is a repository that git serves over HTTP, as any forge would.
func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{t: t, dir: t.TempDir()}
	root := t.TempDir()
	u.git("init", "-q", "-b", "trunk")
	u.git("init", "-q", "--bare", "-b", "trunk", filepath.Join(root, "lib.git"))
	u.git("remote", "add", "origin", filepath.Join(root, "lib.git"))
	server := httptest.NewServer(&cgi.Handler{Path: filepath.Join(u.git("--exec-path"), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1"}})
	t.Cleanup(server.Close)
	u.url = server.URL + "/lib.git"
	return u
}

// world is Mirrors over a real store and real repositories, on no forge.
type world struct {
	*Mirrors
	t       *testing.T
	store   *store.Store
	actions *act.Actions
	repos   repos.Folder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := storetest.Open(t, store.Options{})
	w := &world{t: t, store: s, repos: repos.In(t.TempDir())}
	planner := &act.Planner{Repo: func(c string) act.PlanRepo { return w.repos.Open(c) }, Projects: s, Codebases: s, History: s, Namespaces: s}
	w.actions = act.New(act.Options{Runs: s, Approvals: s, Deployments: s, Quarantines: s, Pushes: s, Pulls: s, PullEnds: s, Projects: s, Codebases: s, Waivers: s, Member: s.User, Held: s,
		Planner: planner, Repo: func(c string) act.Repo { return w.repos.Open(c) }, Create: w.repos.Create, Discard: w.repos.Discard, Log: slog.New(slog.DiscardHandler)})
	w.Mirrors = New(Options{Repos: w.repos, Actions: w.actions, Records: s, Events: s, Codebases: w.codebases, Codebase: planner.Codebase, Every: time.Hour, Log: slog.New(slog.DiscardHandler),
		Remote: func(_ context.Context, c slipway.Codebase) (git.Remote, error) { return git.Remote{URL: c.GitURL}, nil }})
	w.Use(act.NewForges(w.actions, act.ForgeOptions{Connections: s, Details: s, Deliveries: s, Pulls: s, Commands: s, Keys: s, Problem: s.SetForgeProblem,
		Mirror: w.Fetch, FetchPull: w.FetchPull, Wake: w.Wake, Connected: w.Connected, Polled: w.Polled}))
	return w
}

// codebases are those of all projects.
func (w *world) codebases(ctx context.Context) (all []slipway.Codebase, err error) {
	projects, err := w.store.Projects(ctx)
	for _, p := range projects {
		further, ferr := w.store.Codebases(ctx, p.Name)
		all, err = append(append(all, p.Main()), further...), errors.Join(err, ferr)
	}
	return all, err
}

// mirrors makes a project that mirrors, and nothing of it yet.
func (w *world) mirrors(name, url string) slipway.Codebase {
	w.t.Helper()
	made, keep, err := w.repos.Create(w.t.Context(), slipway.Codebase{Project: name, GitURL: url})
	if err != nil {
		w.t.Fatal(err)
	}
	p := must[slipway.Project](w.t)(w.store.CreateProject(w.t.Context(), slipway.Project{Name: made.Project, DefaultBranch: made.DefaultBranch, GitURL: made.GitURL}, "ada"))
	if err := keep(); err != nil {
		w.t.Fatal(err)
	}
	return p.Main()
}

// runs are the refs and commits that have runs, newest first.
func (w *world) runs() string {
	w.t.Helper()
	var out []string
	for _, r := range must[[]slipway.Run](w.t)(w.store.Runs(w.t.Context(), slipway.RunFilter{})) {
		out = append(out, strings.TrimPrefix(r.Ref, "refs/heads/")+"@"+r.Commit)
	}
	return strings.Join(out, " ")
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

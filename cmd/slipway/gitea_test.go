package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// With a real Gitea: a project is connected, pushes and pull requests come in by its webhook, and it
// shows statuses and the comment.
func TestRealGitea(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("builds Gitea; set SLIPWAY_E2E=1")
	}
	g := newGiteaWorld(t)
	s := newSite(t, false, serveOptions{poll: time.Hour, pause: time.Millisecond}) // nothing is found by polling
	made, err := s.admin.CreateConnected(t.Context(), slipway.Project{Name: "shop", GitURL: g.URL + "/ada/shop.git"},
		slipway.ConnectRequest{Forge: slipway.Gitea, Address: g.URL, Token: g.Token})
	if err != nil || made.Paste != "" || made.Project.Connection.RepositoryID == "" || len(made.Project.Connection.HookIDs) != 1 || made.Project.Forks != slipway.ForksApprove {
		t.Fatalf("connected: %+v, %v", made, err)
	}
	first := g.git("rev-parse", "HEAD")
	s.awaitRun("heads/main", first, ":merge:mirror")
	g.awaitStatus(first, "success")

	second := g.commit("second")
	g.git("push", "-q", "origin", "HEAD:refs/heads/main")
	s.awaitRun("heads/main", second, ":merge:ada@gitea")
	g.awaitStatus(second, "success")

	head := g.commit("topic")
	g.git("push", "-q", "origin", "HEAD:refs/heads/topic")
	s.awaitRun("heads/topic", head, ":push:ada@gitea")
	own := g.pull(g.Token, "topic", "A topic")
	s.awaitRun(fmt.Sprintf("pull/%d/head", own), head, ":pull-request:ada@gitea")
	g.awaitComment(own, head[:7])

	g.fork(s, own)
	g.further(s, own)

	g.call(g.Token, http.MethodPost, fmt.Sprintf("/repos/ada/shop/pulls/%d/merge", own), map[string]any{"Do": "merge"}, nil)
	await(t, "merge", func() (bool, string) {
		for _, p := range must[[]slipway.PullRequest](t)(s.admin.Pulls(t.Context(), "shop")) {
			if p.Number == own {
				return p.State == slipway.PullMerged && p.MergedAs != "", fmt.Sprintf("%+v", p)
			}
		}
		return false, "none"
	})
	await(t, "health", func() (bool, string) {
		d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
		return len(d.Health.Problems) == 0 && d.Health.Waiting == 0 && d.Health.Behind == 0, fmt.Sprintf("%+v", d.Health)
	})
	if text := s.out.String(); strings.Contains(text, g.Token) {
		t.Errorf("the log has the token:\n%s", text)
	}
}

// With a real Gitea by SSH: a deploy key that somebody enters there, a webhook that somebody makes there, and no
// token; with one later, Gitea is told of what comes.
func TestRealGiteaBySSH(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("builds Gitea; set SLIPWAY_E2E=1")
	}
	g := newGiteaWorld(t)
	s := newSite(t, false, serveOptions{poll: time.Hour, pause: time.Millisecond}) // nothing is found by polling
	p := slipway.Project{Name: "shop", GitURL: "ssh://git@" + g.SSH + "/ada/shop.git"}
	r := slipway.ConnectRequest{Project: "shop", Forge: slipway.Gitea, Address: g.URL, DeployKey: slipway.NewDeployKey, HostKey: g.HostKey}
	key := must[slipway.DeployKey](t)(s.admin.PrepareKey(t.Context(), r, p.GitURL))
	if key.Accepted {
		t.Fatalf("nobody entered it: %+v", key)
	}
	g.call(g.Token, http.MethodPost, "/repos/ada/shop/keys", map[string]any{"title": "slipway", "key": key.Public, "read_only": true}, nil)
	if key = must[slipway.DeployKey](t)(s.admin.PrepareKey(t.Context(), r, p.GitURL)); !key.Accepted {
		t.Fatalf("it is entered: %+v", key)
	}
	made := must[slipway.Connected](t)(s.admin.CreateConnected(t.Context(), p, r))
	secret := regexp.MustCompile(`Secret: +(\S+)`).FindStringSubmatch(made.Paste)
	if secret == nil || made.Project.Connection.Credential != "" {
		t.Fatalf("connected: %+v", made)
	}
	first := g.git("rev-parse", "HEAD")
	s.awaitRun("heads/main", first, ":merge:mirror")

	g.call(g.Token, http.MethodPost, "/repos/ada/shop/hooks", map[string]any{"type": "gitea", "active": true, "branch_filter": "*",
		"events": []string{"push", "delete", "pull_request", "pull_request_sync", "pull_request_label", "pull_request_comment"},
		"config": map[string]string{"url": made.Project.HookURL, "content_type": "json", "secret": secret[1]}}, nil)
	second := g.commit("second")
	g.git("push", "-q", "origin", "HEAD:refs/heads/main")
	s.awaitRun("heads/main", second, ":merge:ada@gitea")
	head := g.commit("topic")
	g.git("push", "-q", "origin", "HEAD:refs/heads/topic")
	s.awaitRun("heads/topic", head, ":push:ada@gitea")
	own := g.pull(g.Token, "topic", "A topic")
	s.awaitRun(fmt.Sprintf("pull/%d/head", own), head, ":pull-request:ada@gitea")
	theirs := g.commit("of-bob")
	g.git("push", "-q", "-o", "topic=idea", g.address("bob", g.bob), "HEAD:refs/for/main")
	g.git("reset", "-q", "--hard", head)
	await(t, "bob's pull request waits", func() (bool, string) {
		p, err := s.admin.Pull(t.Context(), "shop", own+1)
		return err == nil && p.Fork && p.Held == theirs, fmt.Sprintf("%+v %v", p, err)
	})
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return len(h.Problems) == 0 && h.Waiting == 0 && h.Behind == 0 })

	with := must[slipway.Connected](t)(s.admin.Connect(t.Context(), slipway.ConnectRequest{Project: "shop", Forge: slipway.Gitea, Address: g.URL, Token: g.Token}))
	if with.Paste != "" || with.Project.DeployKey == nil || len(with.Project.Connection.HookIDs) != 1 {
		t.Errorf("with a token: %+v", with)
	}
	third := g.commit("third")
	g.git("push", "-q", "origin", "HEAD:refs/heads/topic")
	s.awaitRun(fmt.Sprintf("pull/%d/head", own), third, ":pull-request:ada@gitea")
	g.awaitStatus(third, "success")
	g.keyed(s)
	if text := s.out.String(); strings.Contains(text, g.Token) || strings.Contains(text, "PRIVATE") {
		t.Errorf("the log has a credential:\n%s", text)
	}
}

type giteaWorld struct {
	*slipwaytest.Gitea
	t    *testing.T
	repo string // of ada
	dir  string
	work *fakeForge // for its git
	bob  string     // token of who may only read
}

func newGiteaWorld(t *testing.T) *giteaWorld {
	t.Helper()
	forge, err := slipwaytest.StartGitea(t.Context(), t.TempDir(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := forge.Stop(); err != nil {
			t.Error(err)
		}
	})
	g := &giteaWorld{Gitea: forge, t: t, work: &fakeForge{t: t}}
	if g.bob, err = forge.AddUser(t.Context(), "bob", "battery-staple-2"); err != nil {
		t.Fatal(err)
	}
	return g.with("shop")
}

// with is the same Gitea with another repository.
func (g *giteaWorld) with(repo string) *giteaWorld {
	g.t.Helper()
	o := *g
	o.repo, o.dir = repo, g.t.TempDir()
	o.call(g.Token, http.MethodPost, "/user/repos", map[string]any{"name": repo, "auto_init": true, "default_branch": "main", "private": repo != "shop"}, nil)
	o.work.git("clone", "-q", o.address("ada", g.Token), o.dir)
	return &o
}

func (g *giteaWorld) address(user, token string) string {
	return strings.Replace(g.URL, "http://", "http://"+user+":"+token+"@", 1) + "/ada/" + g.repo + ".git"
}

func (g *giteaWorld) git(args ...string) string {
	g.t.Helper()
	return g.work.git(append([]string{"-C", g.dir, "-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
}

func (g *giteaWorld) commit(name string) string {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(name), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.git("add", "-A")
	g.git("commit", "-q", "-m", "Add "+name)
	return g.git("rev-parse", "HEAD")
}

func (g *giteaWorld) call(token, method, path string, in, out any) {
	g.t.Helper()
	if err := g.Call(g.t.Context(), token, method, path, in, out); err != nil {
		g.t.Fatal(err)
	}
}

func (g *giteaWorld) pull(token, head, title string) int64 {
	g.t.Helper()
	var made struct {
		Number int64 `json:"number"`
	}
	g.call(token, http.MethodPost, "/repos/ada/"+g.repo+"/pulls", map[string]any{"title": title, "head": head, "base": "main"}, &made)
	return made.Number
}

func (g *giteaWorld) awaitStatus(commit, begins string) {
	g.t.Helper()
	await(g.t, "status "+begins, func() (bool, string) {
		var now struct {
			Statuses []struct{ Context, Status, Description string }
		}
		if err := g.Call(g.t.Context(), g.Token, http.MethodGet, "/repos/ada/"+g.repo+"/commits/"+commit+"/status", nil, &now); err != nil {
			return false, err.Error()
		}
		for _, s := range now.Statuses {
			if s.Context == "slipway" {
				have := s.Status + ": " + s.Description
				return strings.HasPrefix(have, begins), have
			}
		}
		return false, fmt.Sprint(now)
	})
}

// awaitComment waits for Slipway's own comment, of which there is one.
func (g *giteaWorld) awaitComment(pull int64, holds string) {
	g.t.Helper()
	await(g.t, "comment with "+holds, func() (bool, string) {
		var all []struct{ Body string }
		if err := g.Call(g.t.Context(), g.Token, http.MethodGet, fmt.Sprintf("/repos/ada/%s/issues/%d/comments", g.repo, pull), nil, &all); err != nil {
			return false, err.Error()
		}
		own := ""
		for _, c := range all {
			if strings.HasPrefix(c.Body, "<!-- slipway:") {
				own += c.Body
			}
		}
		return strings.Count(own, "<!-- slipway:") == 1 && strings.Contains(own, holds), own
	})
}

// fork: what somebody without the right to write proposes waits for somebody who has it, though Gitea
// says that it is a branch of the repository itself.
func (g *giteaWorld) fork(s *site, own int64) {
	g.t.Helper()
	head := g.commit("of-bob")
	g.git("push", "-q", "-o", "topic=idea", g.address("bob", g.bob), "HEAD:refs/for/main")
	theirs := own + 1
	g.awaitStatus(head, "pending: of a fork")
	comment := func(token, text string) {
		g.t.Helper()
		g.call(token, http.MethodPost, fmt.Sprintf("/repos/ada/shop/issues/%d/comments", theirs), map[string]any{"body": text}, nil)
	}
	comment(g.bob, "/slipway approve "+head[:7])
	comment(g.Token, "/slipway approve 0000000")
	g.awaitComment(theirs, "not 0000000") // after bob's, of which nothing is said
	if have := s.runs(); strings.Contains(have, fmt.Sprintf("pull/%d/", theirs)) {
		g.t.Fatalf("it runs: %s", have)
	}
	comment(g.Token, "/slipway approve "+head[:7])
	s.awaitRun(fmt.Sprintf("pull/%d/head", theirs), head, ":pull-request:ada@gitea")
	g.awaitStatus(head, "success")
}

// keyed: a second repository of this Gitea, private, as a codebase of the project by SSH: with a key of its own, and
// then with the project's token as well.
func (g *giteaWorld) keyed(s *site) {
	g.t.Helper()
	web := g.with("web")
	ctx := g.t.Context()
	c := slipway.Codebase{Project: "shop", Name: "web", GitURL: "ssh://git@" + g.SSH + "/ada/web.git"}
	r := slipway.ConnectRequest{Project: "shop", Codebase: "web", Forge: slipway.Gitea, Address: g.URL, DeployKey: slipway.NewDeployKey, HostKey: g.HostKey}
	key := must[slipway.DeployKey](g.t)(s.admin.PrepareKey(ctx, r, c.GitURL))
	if _, err := s.admin.CreateCodebase(ctx, c, &r); key.Accepted || slipway.ErrorCode(err) != slipway.Forbidden {
		g.t.Errorf("a private repository: %+v, %v", key, err)
	}
	web.call(g.Token, http.MethodPost, "/repos/ada/web/keys", map[string]any{"title": "slipway", "key": key.Public, "read_only": true}, nil)
	made := must[slipway.Connected](g.t)(s.admin.CreateCodebase(ctx, c, &r)).Of()
	if made.Connection == nil || made.Connection.Credential != "" || made.DeployKey == nil {
		g.t.Fatalf("connected: %+v", made)
	}
	first := web.git("rev-parse", "HEAD")
	s.awaitRun("heads/main", first, ":merge:mirror")
	shared := must[slipway.Connected](g.t)(s.admin.Connect(ctx, slipway.ConnectRequest{Project: "shop", Codebase: "web"})).Of()
	if !shared.Connection.Shared || len(shared.Connection.HookIDs) != 1 || shared.DeployKey == nil {
		g.t.Fatalf("shared: %+v", shared)
	}
	second := web.commit("second of web")
	web.git("push", "-q", "origin", "HEAD:refs/heads/main")
	s.awaitRun("heads/main", second, ":merge:ada@gitea") // nothing is found by polling
	web.awaitStatus(second, "success")
}

// further: a second repository of this Gitea as a codebase of the project, private and with the project's token.
func (g *giteaWorld) further(s *site, own int64) {
	g.t.Helper()
	web := g.with("web")
	ctx := g.t.Context()
	made, err := s.admin.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "web", GitURL: g.URL + "/ada/web.git"}, nil)
	d := made.Of()
	if err != nil || made.Paste != "" || made.Problem != "" || d.Connection == nil || !d.Connection.Shared || len(d.Connection.HookIDs) != 1 || d.Forks != slipway.ForksRun {
		g.t.Fatalf("connected: %+v, %v", made, err)
	}
	first := web.git("rev-parse", "HEAD")
	s.awaitRun("heads/main", first, ":merge:mirror")
	web.awaitStatus(first, "success")
	second := web.commit("second of web")
	web.git("push", "-q", "origin", "HEAD:refs/heads/main")
	s.awaitRun("heads/main", second, ":merge:ada@gitea") // nothing is found by polling
	web.awaitStatus(second, "success")
	head := web.commit("topic of web")
	web.git("push", "-q", "origin", "HEAD:refs/heads/topic")
	number := web.pull(g.Token, "topic", "A topic of web")
	if number != own {
		g.t.Fatalf("Gitea calls it %d, and the project's %d: they should be alike", number, own)
	}
	s.awaitRun(fmt.Sprintf("pull/%d/head", number), head, ":pull-request:ada@gitea")
	web.awaitStatus(head, "success")
	web.awaitComment(number, head[:7])
	ours, theirs := must[slipway.PullRequest](g.t)(s.admin.Pull(ctx, "shop", own)), must[slipway.PullRequest](g.t)(s.admin.Pull(ctx, "shop/web", number))
	if ours.Head == theirs.Head || theirs.Head != head || theirs.Link == ours.Link {
		g.t.Errorf("%+v, %+v", ours, theirs)
	}
	web.call(g.Token, http.MethodPost, fmt.Sprintf("/repos/ada/web/issues/%d/comments", number), map[string]any{"body": "/slipway retry"}, nil)
	web.awaitComment(number, "nothing to retry")
	hooks := func() (all []struct{ ID int64 }) {
		g.t.Helper()
		web.call(g.Token, http.MethodGet, "/repos/ada/web/hooks", nil, &all)
		return all
	}
	if len(hooks()) != 1 {
		g.t.Errorf("webhooks %v", hooks())
	}
	web.call(g.Token, http.MethodPost, fmt.Sprintf("/repos/ada/web/pulls/%d/merge", number), map[string]any{"Do": "merge"}, nil)
	await(g.t, "merge in web", func() (bool, string) {
		p := must[slipway.PullRequest](g.t)(s.admin.Pull(ctx, "shop/web", number))
		return p.State == slipway.PullMerged && p.MergedAs != "", fmt.Sprintf("%+v", p)
	})
	await(g.t, "removed", func() (bool, string) { // when its runs have ended
		left, err := s.admin.RemoveCodebase(ctx, "shop", "web")
		return err == nil && left.Problem == "", fmt.Sprint(left, err)
	})
	if len(hooks()) != 0 {
		g.t.Errorf("the webhook is still there: %v", hooks())
	}
}

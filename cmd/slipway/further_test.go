package main

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

// furtherSite is a server with project shop on one forge and its codebase web on another one.
func furtherSite(t *testing.T, main, web *fakeForge, o serveOptions) (s *site, mainHook, webHook string) {
	t.Helper()
	s, mainHook = connectedSite(t, main, o)
	made, err := s.admin.CreateCodebase(t.Context(), slipway.Codebase{Project: "shop", Name: "web", GitURL: web.gitURL()},
		&slipway.ConnectRequest{Forge: slipway.GitHub, Address: web.url, Token: web.token})
	if err != nil {
		t.Fatal(err)
	}
	d := made.Of()
	if made.Paste != "" || d.HookURL != s.url+"/hooks/shop/web" || d.Connection == nil || d.Connection.Shared || len(d.Connection.HookIDs) != 1 ||
		d.Codebase.Name != "web" || d.Codebase.DefaultBranch != "main" || made.Project.Connection.Repository != main.name || d.Connection.Repository != web.name {
		t.Fatalf("connected: %+v", made)
	}
	return s, mainHook, d.HookURL
}

// awaitStatus waits for a commit status that begins with something.
func (f *fakeForge) awaitStatus(commit, context, begins string) {
	f.t.Helper()
	await(f.t, context+" of "+commit[:7], func() (bool, string) {
		have := f.status(commit, context)
		return strings.HasPrefix(have, begins), have
	})
}

// awaitComment waits for Slipway's comment to say something.
func (f *fakeForge) awaitComment(pull int64, words ...string) {
	f.t.Helper()
	await(f.t, "comment", func() (bool, string) {
		have := f.said(pull)
		for _, word := range words {
			if !strings.Contains(have, word) {
				return false, have
			}
		}
		return true, have
	})
}

// accepted sends an event, and wants it to be taken.
func (f *fakeForge) accepted(hook, event, id string, body []byte) {
	f.t.Helper()
	if status, text := f.deliver(hook, event, id, body); status != http.StatusAccepted || strings.Contains(text, "repeated") {
		f.t.Fatalf("%s: %d %s", event, status, text)
	}
}

// A further codebase on a forge of its own: pushes, branches, tags, pull requests and comments there, with its
// own secret and its own token; the project's forge sees none of it, though both number their pull requests alike.
func TestCodebaseOnAForgeOfItsOwn(t *testing.T) {
	t.Parallel()
	main, web := newFakeForge(t), newForge(t, "team/web", 18, "ghp_thetokenofanotherforge")
	first := main.commit("README", "one")
	main.push("HEAD:refs/heads/main")
	webFirst := web.commit("src/pages/Dockerfile", "FROM scratch\n")
	web.push("HEAD:refs/heads/main")
	data := t.TempDir()
	s, mainHook, webHook := furtherSite(t, main, web, serveOptions{poll: time.Hour, data: data})
	s.awaitRun("heads/main", first, ":merge:mirror")
	s.awaitRun("heads/main", webFirst, ":merge:mirror")
	main.awaitStatus(first, "slipway", "success: nothing to build")

	second := web.commit("README", "of the web")
	web.push("HEAD:refs/heads/main", "HEAD:refs/heads/feature/x", "HEAD:refs/tags/v1")
	web.accepted(webHook, "push", "w-1", web.pushed("refs/heads/main", webFirst, second))
	s.awaitRun("heads/main", second, ":merge:ada@github")
	s.awaitRun("heads/feature/x", second, ":push:mirror") // git says so, no delivery did
	refs := func() string {
		t.Helper()
		return web.git("--git-dir", filepath.Join(data, "repos", "shop", "web.git"), "for-each-ref", "--format=%(refname)", "refs/heads", "refs/tags")
	}
	await(t, "the tag", func() (bool, string) { return strings.Contains(refs(), "refs/tags/v1"), refs() })

	// Both forges have a pull request 3.
	head := web.commit("README", "of the pull request")
	web.pull(3, head, "main", nil)
	web.accepted(webHook, "pull_request", "w-2", web.payload(map[string]any{"action": "opened", "pull_request": web.pulls[3]}))
	mainHead := main.commit("README", "of the other pull request")
	main.pull(3, mainHead, "main", nil)
	main.accepted(mainHook, "pull_request", "w-2", main.payload(map[string]any{"action": "opened", "pull_request": main.pulls[3]})) // the same id
	s.awaitRun("pull/3/head", head, ":pull-request:ada@github")
	s.awaitRun("pull/3/head", mainHead, ":pull-request:ada@github")
	web.awaitStatus(head, "slipway/pages", "success: skipped")
	web.awaitStatus(head, "slipway", "success: skipped")
	main.awaitStatus(mainHead, "slipway", "success: nothing to build")
	web.awaitComment(3, "<!-- slipway:shop -->", head[:7], "succeeded", "`pages`")
	main.awaitComment(3, mainHead[:7], "succeeded")
	if strings.Contains(web.said(3), mainHead[:7]) || strings.Contains(main.said(3), head[:7]) {
		t.Errorf("the comments are mixed up: %s; %s", web.said(3), main.said(3))
	}
	for _, run := range must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Codebase: "shop/web", Ref: "refs/pull/3/head"})) {
		d := must[slipway.RunDetail](t)(s.admin.Run(t.Context(), run.ID))
		if run.Commit != head || run.Codebase != "web" || d.Links == nil || d.Links.Pull != web.url+"/team/web/pull/3" || d.Links.Commit != web.url+"/team/web/commit/"+head {
			t.Errorf("run %+v, links %+v", run, d.Links)
		}
	}

	// What strangers propose waits, and gets nothing.
	web.rights["bob"] = "read"
	evil := web.commit("README", "evil")
	web.pull(4, evil, "main", fork(evil))
	if _, err := s.admin.Connect(t.Context(), slipway.ConnectRequest{Project: "shop", Codebase: "web", Forge: slipway.GitHub, Address: web.url, Token: web.token, Forks: slipway.ForksApprove}); err != nil {
		t.Fatal(err)
	}
	web.accepted(webHook, "pull_request", "w-3", web.payload(map[string]any{"action": "opened", "pull_request": web.pulls[4]}))
	web.awaitStatus(evil, "slipway", "pending: of a fork")
	web.accepted(webHook, "issue_comment", "w-4", web.commented(1, 4, "bob", "/slipway approve"))
	web.accepted(webHook, "issue_comment", "w-5", web.commented(2, 4, "ada", "/slipway approve 0000000"))
	web.awaitComment(4, "not 0000000")
	if have := s.runs(); strings.Contains(have, "pull/4") {
		t.Fatalf("it runs: %s", have)
	}
	web.accepted(webHook, "issue_comment", "w-6", web.commented(3, 4, "ada", "/slipway approve"))
	s.awaitRun("pull/4/head", evil, ":pull-request:ada@github")
	if run := must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Codebase: "shop/web", Ref: "refs/pull/4/head"})); !run[0].Fork || run[0].Codebase != "web" {
		t.Errorf("run %+v counts as trusted", run[0])
	}
	web.awaitStatus(evil, "slipway", "success")
	web.accepted(webHook, "issue_comment", "w-7", web.commented(4, 3, "ada", "/slipway retry"))
	web.awaitComment(3, "nothing to retry")

	// It is merged there; a branch is removed.
	web.push(head+":refs/heads/main", ":refs/heads/feature/x")
	web.pull(3, head, "main", map[string]any{"state": "closed", "merged": true, "merge_commit_sha": head})
	web.accepted(webHook, "pull_request", "w-8", web.payload(map[string]any{"action": "closed", "pull_request": web.pulls[3]}))
	web.accepted(webHook, "push", "w-9", web.pushed("refs/heads/main", second, head))
	web.accepted(webHook, "push", "w-10", web.pushed("refs/heads/feature/x", second, slipway.ZeroHash))
	s.awaitRun("heads/main", head, ":merge:ada@github")
	await(t, "merge", func() (bool, string) {
		theirs := must[slipway.PullRequest](t)(s.admin.Pull(t.Context(), "shop/web", 3))
		ours := must[slipway.PullRequest](t)(s.admin.Pull(t.Context(), "shop", 3))
		return theirs.State == slipway.PullMerged && theirs.MergedAs == head && ours.State == slipway.PullOpen, fmt.Sprintf("%+v %+v", theirs, ours)
	})
	await(t, "the branch's end", func() (bool, string) { return !strings.Contains(refs(), "feature"), refs() })
	for _, commit := range []string{webFirst, second, head, evil} {
		if have := main.status(commit, "slipway"); have != "" {
			t.Errorf("the project's forge is told of %s: %s", commit[:7], have)
		}
	}
	if main.wrong.Load()+web.wrong.Load() != 0 {
		t.Errorf("a token was shown to the other forge: %d, %d times", main.wrong.Load(), web.wrong.Load())
	}
	await(t, "health", func() (bool, string) {
		d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
		h := d.Codebases[0].Health
		return len(h.Problems) == 0 && h.Waiting == 0 && h.Behind == 0 && !h.Delivered.IsZero() && d.Health.Behind == 0 && d.Codebases[0].Link == web.url+"/team/web", fmt.Sprintf("%+v", h)
	})
	if _, metrics := s.get("/metrics", ""); !strings.Contains(metrics, `slipway_forge_problems{codebase="web",forge="github",project="shop"} 0`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	for _, hidden := range []string{main.token, web.token, main.secret(), web.secret()} {
		if strings.Contains(s.out.String(), hidden) {
			t.Error("the log has a credential")
		}
	}
}

// Each webhook takes what is signed with its own codebase's secret and about its own repository, and no other;
// what was lost is found by polling.
func TestDeliveriesOfCodebases(t *testing.T) {
	t.Parallel()
	main, web := newFakeForge(t), newForge(t, "team/web", 18, "ghp_thetokenofanotherforge")
	first := main.commit("README", "one")
	main.push("HEAD:refs/heads/main")
	webFirst := web.commit("README", "of the web")
	web.push("HEAD:refs/heads/main")
	s, mainHook, webHook := furtherSite(t, main, web, serveOptions{poll: 300 * time.Millisecond})
	s.awaitRun("heads/main", first, ":merge")
	s.awaitRun("heads/main", webFirst, ":merge")
	next := strings.Repeat("b", 40)
	body, ofMain := web.pushed("refs/heads/main", webFirst, next), main.pushed("refs/heads/main", first, next)
	if main.secret() == web.secret() {
		t.Fatal("both webhooks have one secret")
	}
	for name, c := range map[string]struct {
		hook   string
		body   []byte
		signer *fakeForge
		want   int
	}{
		"signed with the project's secret":            {webHook, body, main, http.StatusUnauthorized},
		"signed with the codebase's, for the project": {mainHook, ofMain, web, http.StatusUnauthorized},
		"names the project's repository":              {webHook, ofMain, web, http.StatusForbidden},
		"names the codebase's, for the project":       {mainHook, body, main, http.StatusForbidden},
		"no such codebase":                            {s.url + "/hooks/shop/mail", body, web, http.StatusNotFound},
		"another project's codebase":                  {s.url + "/hooks/blog/web", body, web, http.StatusNotFound},
		"no codebase's name":                          {s.url + "/hooks/shop/..%2fweb", body, web, http.StatusNotFound},
	} {
		if status, text := c.signer.deliver(c.hook, "push", "x-"+name, c.body); status != c.want {
			t.Errorf("%s: %d, want %d: %s", name, status, c.want, text)
		}
	}
	d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
	if !d.Health.Delivered.IsZero() || !d.Codebases[0].Health.Delivered.IsZero() {
		t.Errorf("something was kept: %+v, %+v", d.Health, d.Codebases[0].Health)
	}
	web.accepted(webHook, "push", "twice", body)
	main.accepted(mainHook, "push", "twice", ofMain)
	if status, text := web.deliver(webHook, "push", "twice", web.pushed("refs/heads/x", webFirst, next)); status != http.StatusAccepted || !strings.Contains(text, `"repeated":true`) {
		t.Errorf("the same id: %d %s", status, text)
	}

	second := web.commit("README", "two")
	web.push("HEAD:refs/heads/main")
	s.awaitRun("heads/main", second, ":merge:mirror") // the hook was lost
	third := web.commit("README", "three")
	web.pull(5, third, "main", nil)
	s.awaitRun("pull/5/head", third, ":pull-request:ada@github")
	web.awaitStatus(third, "slipway", "success")
	web.awaitComment(5, third[:7])
}

// A further codebase on the project's own forge shares its token and nothing else, and goes without a trace.
func TestCodebaseBesideOnOneForge(t *testing.T) {
	t.Parallel()
	main := newFakeForge(t)
	web := main.beside("shop/web", 8)
	main.push(main.commit("README", "one") + ":refs/heads/main")
	first := web.commit("README", "of the web")
	web.push("HEAD:refs/heads/main")
	s, _ := connectedSite(t, main, serveOptions{poll: time.Hour})
	ctx := t.Context()
	far := newForge(t, "team/far", 9, "ghp_far")
	for name, r := range map[string]*slipway.ConnectRequest{
		"of another forge": {Forge: slipway.GitHub, Address: far.url},
		"unknown":          {Forge: slipway.Gitea},
	} {
		if _, err := s.admin.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "far", GitURL: far.gitURL()}, r); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "token of its own") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.admin.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "far", GitURL: far.gitURL()}, &slipway.ConnectRequest{Forge: slipway.GitHub, Address: far.url, Token: "wrong"}); slipway.ErrorCode(err) != slipway.Forbidden {
		t.Errorf("a wrong token: %v", err)
	}
	if _, err := s.admin.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "here"}, &slipway.ConnectRequest{Token: "t"}); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("a hosted one: %v", err)
	}
	gone, err := s.admin.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "gone", GitURL: main.url + "/shop/gone.git", DefaultBranch: "main"}, nil)
	if err != nil || gone.Problem == "" || gone.Of().Connection != nil {
		t.Errorf("what the token may not see is polled: %+v, %v", gone, err)
	}
	if all := must[[]slipway.Codebase](t)(s.admin.Codebases(ctx, "shop")); len(all) != 2 {
		t.Errorf("what was refused is there: %+v", all)
	}
	if far.wrong.Load() != 1 {
		t.Errorf("the other forge was shown %d wrong tokens, want the one that was given for it", far.wrong.Load())
	}

	made, err := s.admin.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "web", GitURL: web.gitURL()}, nil)
	d := made.Of()
	if err != nil || made.Paste != "" || d.Connection == nil || !d.Connection.Shared || d.Connection.RepositoryID != "8" {
		t.Fatalf("connected: %+v, %v", made, err)
	}
	s.awaitRun("heads/main", first, ":merge:mirror")
	web.awaitStatus(first, "slipway", "success")
	second := web.commit("README", "two")
	web.push("HEAD:refs/heads/main")
	web.accepted(d.HookURL, "push", "w-1", web.pushed("refs/heads/main", first, second))
	s.awaitRun("heads/main", second, ":merge:ada@github")
	web.awaitStatus(second, "slipway", "success")
	if main.secret() == web.secret() {
		t.Error("both webhooks have one secret")
	}
	web.pull(3, web.commit("README", "three"), "main", nil)
	web.accepted(d.HookURL, "pull_request", "w-2", web.payload(map[string]any{"action": "opened", "pull_request": web.pulls[3]}))
	web.awaitComment(3, "succeeded")

	must[slipway.User](t)(s.admin.CreateUser(ctx, "bob", false))
	must[slipway.User](t)(s.admin.SetRole(ctx, "bob", "shop", slipway.Admin))
	bob := must[*client.Client](t)(client.New(s.url, must[string](t)(s.admin.CreateToken(ctx, "bob", "x"))))
	_, added := bob.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "more", GitURL: far.gitURL()}, &slipway.ConnectRequest{Forge: slipway.GitHub, Address: far.url, Token: far.token})
	_, connected := bob.Connect(ctx, slipway.ConnectRequest{Project: "shop", Codebase: "web"})
	_, removed := bob.RemoveCodebase(ctx, "shop", "web")
	for what, err := range map[string]error{"add": added, "connect": connected, "remove": removed, "account": bob.LinkAccount(ctx, "shop/web", "ada", "bob")} {
		if slipway.ErrorCode(err) != slipway.Forbidden {
			t.Errorf("an admin of the project may %s: %v", what, err)
		}
	}

	late := web.pushed("refs/heads/main", first, second)
	signed := web.sign(late)
	if left, err := s.admin.RemoveCodebase(ctx, "shop", "web"); err != nil || left.Problem != "" {
		t.Fatalf("%+v, %v", left, err)
	}
	web.mu.Lock()
	if web.hook != nil {
		t.Errorf("the webhook is still there: %v", web.hook)
	}
	web.mu.Unlock()
	if status, text := web.send(d.HookURL, late, map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "late", "X-Hub-Signature-256": signed}); status != http.StatusNotFound {
		t.Errorf("after it was removed: %d %s", status, text)
	}
	if now := must[slipway.ProjectDetail](t)(s.admin.Project(ctx, "shop")); now.Connection == nil || len(now.Codebases) != 1 {
		t.Errorf("project %+v", now)
	}
	if pull := must[[]slipway.PullRequest](t)(s.admin.Pulls(ctx, "shop")); len(pull) != 1 || pull[0].State != slipway.PullClosed {
		t.Errorf("its pull requests %+v", pull)
	}
}

// What the command line does and says of the forges of codebases. The environment is the process's.
func TestForgeCommandsOfCodebases(t *testing.T) {
	main, far := newFakeForge(t), newForge(t, "team/far", 9, "ghp_far")
	web := main.beside("shop/web", 8)
	for _, f := range []*fakeForge{main, web, far} {
		f.commit("README", f.name)
		f.push("HEAD:refs/heads/main")
	}
	s, _ := connectedSite(t, main, serveOptions{poll: time.Hour})
	t.Setenv("SLIPWAY_SERVER", s.url)
	t.Setenv("SLIPWAY_TOKEN", s.token)
	t.Setenv("SLIPWAY_CONFIG", filepath.Join(t.TempDir(), "config.json"))
	said := func(in string, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		root := newRoot()
		root.SetArgs(append(args, "--project", "shop"))
		root.SetOut(&out)
		root.SetIn(strings.NewReader(in))
		if err := root.ExecuteContext(t.Context()); err != nil {
			return "refused: " + err.Error()
		}
		return out.String()
	}
	says := func(text string, words ...string) {
		t.Helper()
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("%q is not said in:\n%s", word, text)
			}
		}
	}
	says(said("", "codebase", "add", "web", "--git", web.gitURL()), "codebase web of project shop is connected with shop/web on GitHub, with the project's token", s.url+"/hooks/shop/web")
	says(said("", "codebase", "add", "far", "--git", far.gitURL(), "--default-branch", "main", "--forge", "github"), "refused: codebase far needs a token of its own (--token-file)")
	says(said("", "codebase", "add", "far", "--git", far.gitURL(), "--default-branch", "main"), "mirrors "+far.gitURL()+", by polling", "slipway codebase connect far --token-file FILE")
	says(said("", "codebase", "connect", "far"), "refused: ", "token of its own")
	far.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/hooks") {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	says(said(far.token, "codebase", "connect", "far", "--forge", "github", "--forge-url", far.url, "--token-file", "-", "--forks", "run"),
		"codebase far of project shop is connected with team/far on GitHub\n", "The webhook could not be made", "/hooks/shop/far", "`slipway codebase connect far` tries once more")
	far.setRefuse(nil)
	says(said(far.token, "codebase", "connect", "far", "--token-file", "-"), "its webhook sends to "+s.url+"/hooks/shop/far", "pull requests from forks run at once")
	says(said("", "project", "show", "shop"), "forge:           GitHub, "+main.url+"/shop/backend\n", "codebase:        web", "forge:           GitHub, "+main.url+"/shop/web, with the project's token",
		"codebase:        far", "forge:           GitHub, "+far.url+"/team/far\n", s.url+"/hooks/shop/far (made by Slipway)")
	says(said("", "project", "account", "ada", "admin", "--codebase", "far"), "the account ada is admin here")
	says(said("", "codebase", "remove", "main"), "refused: the main codebase")
	if text := said("", "project", "show", "shop", "--output", "json"); strings.Contains(text, far.token) || strings.Contains(text, far.secret()) {
		t.Errorf("a credential is shown:\n%s", text)
	}
	first := far.git("rev-parse", "HEAD")
	s.awaitRun("heads/main", first, ":merge")
	far.awaitStatus(first, "slipway", "success")
	head := far.commit("README", "two")
	far.pull(3, head, "main", nil)
	far.accepted(s.url+"/hooks/shop/far", "pull_request", "c-1", far.payload(map[string]any{"action": "opened", "pull_request": far.pulls[3]}))
	s.awaitRun("pull/3/head", head, ":pull-request:admin") // whose the account is
	says(said("", "pulls"), "far#3")
	says(said("", "pulls", "show", "far#3"), "pull request far#3", "head "+head, "git/shop/far.git main refs/pull/3/head", "slipway pulls approve far#3")
	says(said("", "pulls", "show", "3"), "pull request far#3") // nobody else has one of that number
	says(said("", "pulls", "show", "web#3"), "refused: pull request #3 of shop/web does not exist")
	says(said("", "pulls", "show", "x#y"), "refused: pull request \"x#y\": expected its number")
	says(said("", "merge", "far#3"), "refused: codebase far of shop mirrors")
	far.awaitStatus(head, "slipway", "success")
	far.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	says(said("", "codebase", "remove", "far"), "codebase far is no longer part of project shop", "its webhook in team/far is still there: remove it on GitHub's pages")

	// One that is hosted here has pull requests here, though the project's are those of a forge.
	main.pull(1, main.commit("README", "on the forge"), "main", nil)
	main.accepted(s.url+"/hooks/shop", "pull_request", "c-2", main.payload(map[string]any{"action": "opened", "pull_request": main.pulls[1]}))
	main.awaitComment(1, "succeeded")
	says(said("", "codebase", "add", "here"), "codebase here of project shop is ready", s.url+"/git/shop/here.git")
	here := strings.Replace(s.url, "http://", "http://admin:"+s.token+"@", 1) + "/git/shop/here.git"
	far.git("push", "-q", here, "HEAD:refs/heads/main")
	proposed := far.commit("README", "three")
	says(far.git("push", here, "HEAD:refs/for/main"), "pull request here#1 into main opened: change README", "slipway merge here#1")
	s.awaitRun("pull/1/head", proposed, ":pull-request:admin")
	await(t, "its run", func() (bool, string) {
		runs := must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Codebase: "shop/here", Ref: "refs/pull/1/head"}))
		return runs[0].State == slipway.RunSucceeded, string(runs[0].State)
	})
	says(said("", "merge", "1"), "refused: project shop mirrors "+main.gitURL())
	says(said("", "merge", "here#1"), "pull request here#1 merged as ")
}

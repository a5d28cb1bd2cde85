package act_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/driver/git"
)

// codebase is the world as one codebase of project shop sees it.
type codebase struct {
	*world
	key string
}

// further adds a codebase to shop.
func (w *world) further(name string, linked bool) codebase {
	w.t.Helper()
	c, err := w.CreateCodebase(w.ctx, w.admin, slipway.Codebase{Project: "shop", Name: name, Linked: linked})
	w.ok(err)
	return w.at(c.Key())
}

func (w *world) at(key string) codebase {
	other := *w
	other.repo = git.Repo{Dir: w.path(key)}
	return codebase{&other, key}
}

// tell asks for a push.
func (c codebase) tell(ref, commit string) ([]slipway.Push, error) {
	c.t.Helper()
	return c.Receive(c.ctx, c.approver, c.key, []act.Command{{Ref: ref, Old: c.ref(ref), New: commit}}, func(ctx context.Context, commit string) (act.Tree, error) {
		return c.repo.Tree(ctx, commit)
	})
}

// push pushes files as a commit on top of what is there, and returns what git would say.
func (c codebase) push(ref string, f files) (commit, said string) {
	c.t.Helper()
	parent := ""
	if at := c.ref(ref); at != slipway.ZeroHash {
		parent = at
	}
	commit = c.commit(parent, "change", f)
	recorded, err := c.tell(ref, commit)
	c.ok(err)
	c.move(ref, commit)
	return commit, strings.Join(c.Moved(c.ctx, recorded), "\n")
}

// refused pushes files to the default branch and wants to hear why not.
func (c codebase) refused(f files, words ...string) {
	c.t.Helper()
	parent := ""
	if at := c.ref("refs/heads/main"); at != slipway.ZeroHash {
		parent = at
	}
	_, err := c.tell("refs/heads/main", c.commit(parent, "bad", f))
	c.code(err, slipway.Invalid, words...)
}

// newest is the newest run and its plan.
func (w *world) newest() (slipway.Run, slipway.Plan) {
	w.t.Helper()
	run := w.allRuns()[0]
	p, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	plan, err := w.planner.Plan(w.ctx, p, run)
	w.ok(err)
	return run, plan
}

func step(t *testing.T, p slipway.Plan, key string) slipway.PlanStep {
	t.Helper()
	i := slices.IndexFunc(p.Steps, func(s slipway.PlanStep) bool { return s.Key == key })
	if i < 0 {
		t.Fatalf("the plan has no step %s", key)
	}
	return p.Steps[i]
}

func docker(names ...string) files { return service(names...) }

func TestServicesOfTwoCodebases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := w.further("web", false)
	main := w.at("shop")
	first := web.commit("", "first", docker("pages"))
	if _, err := web.tell("refs/heads/main", first); err != nil { // the run says what is missing
		t.Fatal(err)
	}
	mainCommit, _ := main.push("refs/heads/main", docker("api"))
	webCommit, said := web.push("refs/heads/main", files{"Dockerfile": "FROM scratch\n"}.with("src/pages/Dockerfile", "FROM scratch\n"))
	w.says(said, "pages: runs", "web: runs")
	run, plan := w.newest()
	if run.Codebase != "web" || run.Commit != webCommit || plan.ConfigCommit != mainCommit {
		t.Errorf("run %+v, governed by %s", run, plan.ConfigCommit)
	}
	if got := step(t, plan, "build/pages").Build.Source; got != (slipway.Source{Codebase: "web", Commit: webCommit, Dir: "src/pages"}) {
		t.Errorf("source %+v", got)
	}
	step(t, plan, "deploy/web@development")

	// Names are unique over the project, whichever comes second.
	web.refused(docker("pages", "api"), "two services of project shop are named api", "src/api/Dockerfile of codebase web", "src/api/Dockerfile of the main codebase")
	main.refused(docker("api", "pages"), "two services of project shop are named pages", "src/pages/Dockerfile of codebase web")
	web.refused(docker("pages").with("slipway.yaml", "environments:\n  - {name: qa}\n"), "slipway.yaml:1:1: environments", "main codebase")
	web.refused(docker("pages").with("slipway.yaml", "services:\n  pages:\n    dependsOn: [nobody]\n"), "slipway.yaml:3: services.pages: no codebase of project shop has a service nobody")

	// A release is asked for where the service is.
	_, err := main.tell("refs/heads/release/pages/v1.0.0", mainCommit)
	w.code(err, slipway.Invalid, "service pages is in codebase web: push the release branch there", "/git/shop/web.git")
	_, err = web.tell("refs/heads/release/api/v1.0.0", webCommit)
	w.code(err, slipway.Invalid, "service api is in the main codebase")
	_, _ = web.push("refs/heads/release/pages/v1.0.0", docker("pages"))
	if run, plan := w.newest(); run.Codebase != "web" || run.Service != "pages" || step(t, plan, "publish/pages").Publish.Tag != "v1.0.0" {
		t.Errorf("release %+v", run)
	}

	board, err := w.planner.Board(w.ctx, "shop")
	w.ok(err)
	var rows []string
	for _, r := range board.Rows {
		rows = append(rows, r.Codebase+"/"+r.Service)
	}
	if got := strings.Join(rows, " "); got != "/api web/pages web/web" || !slices.Equal(board.Codebases, []string{"web"}) {
		t.Errorf("board: %s of %v", got, board.Codebases)
	}
}

func TestDependenciesOverCodebases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, main := w.further("web", false), w.at("shop")
	main.push("refs/heads/main", docker("api", "mail"))
	depends := docker("pages", "other").with("slipway.yaml", "services:\n  pages:\n    dependsOn: [api]\n    after: [mail]\n")
	webCommit, said := web.push("refs/heads/main", depends)
	w.says(said, "pages: runs")

	// A cycle over codebases is refused.
	main.refused(docker("api", "mail").with("slipway.yaml", "services: {api: {after: [pages]}}\n"), "a cycle over codebases: api (the main codebase) -> pages (codebase web) -> api (the main codebase)")

	// A merge takes what depends on it along, from where that is now, and on to what depends on that.
	api := docker("api", "mail", "admin").with("slipway.yaml", "services: {admin: {dependsOn: [pages]}}\n")
	main.push("refs/heads/main", api)
	w.succeed(w.allRuns()[0].ID)
	mainCommit, said := main.push("refs/heads/main", api.with("src/api/x", "2"))
	w.says(said, "api: runs", "pages: runs: it depends on api of the main codebase, which changed; it is built from main of codebase web at "+slipway.ShortHash(webCommit),
		"admin: runs: it depends on pages of codebase web, and through it on api, which changed", "mail: skipped")
	run, plan := w.newest()
	if got := step(t, plan, "build/pages").Build; got.Source != (slipway.Source{Codebase: "web", Commit: webCommit, Dir: "src/pages"}) || got.Labels["org.opencontainers.image.source"] != "http://slipway.test/git/shop/web.git" || got.Labels["org.opencontainers.image.revision"] != webCommit {
		t.Errorf("build of pages %+v", got)
	}
	if got := step(t, plan, "build/api").Build.Source; got.Codebase != "" || got.Commit != mainCommit {
		t.Errorf("source of api %+v", got)
	}
	publish := step(t, plan, "publish/pages").Publish
	if want := "main-" + slipway.ShortHash(webCommit) + "-" + slipway.ShortHash(run.Commit); publish.Tag != want || publish.Commit != webCommit || !strings.HasSuffix(publish.ChartVersion, ".g"+slipway.ShortHash(webCommit)+".g"+slipway.ShortHash(run.Commit)) {
		t.Errorf("publish %+v", publish)
	}
	for deploy, need := range map[string]string{"deploy/pages@development": "verify/api@development", "deploy/admin@development": "verify/pages@development"} {
		if needs := step(t, plan, deploy).Needs; !slices.Contains(needs, need) {
			t.Errorf("%s needs %v, and not %s", deploy, needs, need)
		}
	}
	if slices.ContainsFunc(plan.Decisions, func(d slipway.Decision) bool { return d.Service == "other" }) {
		t.Error("a service that depends on nothing changed is planned")
	}

	w.succeed(run.ID)

	// A branch only says so, and so does a pull request.
	_, said = main.push("refs/heads/topic", api.with("src/api/x", "3"))
	w.says(said, "api: runs", "what depends on it runs after the merge: pages of codebase web")
	if _, plan := w.newest(); slices.ContainsFunc(plan.Steps, func(s slipway.PlanStep) bool { return s.Service == "pages" }) {
		t.Error("a branch runs a service of another codebase")
	}

	// What is deployed after a service is no part of it.
	_, said = main.push("refs/heads/main", api.with("src/api/x", "2").with("src/mail/x", "2"))
	w.says(said, "mail: runs")
	if strings.Contains(said, "pages") {
		t.Errorf("pages runs although only what it comes after changed:\n%s", said)
	}
}

func TestWhatNeverSucceededIsToldFromWhatIsNew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	main := w.at("shop")
	_, said := main.push("refs/heads/main", docker("api"))
	w.says(said, "api: runs: nothing was built before")
	w.finish(w.allRuns()[0].ID, "plan", slipway.Result{Outcome: slipway.Failed, Reason: "red"})
	_, said = main.push("refs/heads/main", docker("api").with("src/api/x", "2"))
	w.says(said, "api: runs: no run of main has succeeded yet")
	w.succeed(w.allRuns()[0].ID)
	_, said = main.push("refs/heads/main", docker("api").with("src/api/x", "3"))
	w.says(said, "api: runs: src/api/x changed")
}

func TestRefsOfCodebasesAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, main := w.further("web", false), w.at("shop")
	main.push("refs/heads/main", docker("api"))
	w.succeed(w.allRuns()[0].ID)
	_, said := web.push("refs/heads/main", docker("pages"))
	w.says(said, "pages: runs: nothing was built before")
	main.push("refs/heads/topic", docker("api"))
	older := w.allRuns()[0]
	web.push("refs/heads/topic", docker("pages"))
	if d, err := w.store.Run(w.ctx, older.ID); err != nil || d.Run.State.Final() {
		t.Errorf("a push to web supersedes the run of the main codebase: %+v, %v", d.Run, err)
	}
	head := web.commit(web.ref("refs/heads/main"), "more", docker("pages").with("src/pages/x", "1"))
	push, _, err := w.Propose(w.ctx, w.developer, act.Proposal{Project: "shop", Codebase: "web", Base: "main", Head: head})
	w.ok(err)
	web.move(push.Ref, head)
	w.Moved(w.ctx, []slipway.Push{push})
	pull, err := w.Pull(w.ctx, w.viewer, "shop", 1) // the only one of that number, whichever codebase has it
	w.ok(err)
	if run := w.allRuns()[0]; pull.Codebase != "web" || run.Codebase != "web" || run.Pull != 1 {
		t.Errorf("pull %+v, run %+v", pull, run)
	}
	w.succeed(w.allRuns()[0].ID)
	merged, err := w.Merge(w.ctx, w.approver, "shop", 1)
	w.ok(err)
	if merged.State != slipway.PullMerged || web.ref("refs/heads/main") != merged.MergedAs || main.ref("refs/heads/main") == merged.MergedAs {
		t.Errorf("merged %+v", merged)
	}
	trace, err := w.store.Trace(w.ctx, "shop", head[:10])
	w.ok(err)
	if len(trace.Runs) == 0 || trace.Runs[0].Codebase != "web" {
		t.Errorf("trace of a commit of web: %+v", trace.Runs)
	}
}

// What lets a service of a further codebase through its gates is a matter of an approver, as in the main one.
func TestAFurtherCodebaseDoesNotChooseItsScanAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, main := w.further("web", false), w.at("shop")
	main.push("refs/heads/main", docker("api"))
	web.push("refs/heads/main", docker("pages"))
	for yaml, alone := range map[string]bool{
		"version: 1\nservices:\n  pages: {scan: {reports: [clean.sarif]}}\n": false,
		"version: 1\nservices:\n  pages: {rollback: manual}\n":               false,
		"version: 1\nservices:\n  pages: {args: {A: a}}\n":                   true,
	} {
		head := web.commit(web.ref("refs/heads/main"), "more", docker("pages").with("slipway.yaml", yaml).with("src/pages/clean.sarif", "{}"))
		push, _, err := w.Propose(w.ctx, w.developer, act.Proposal{Project: "shop", Codebase: "web", Base: "main", Head: head})
		w.ok(err)
		web.move(push.Ref, head)
		w.Moved(w.ctx, []slipway.Push{push})
		w.succeed(w.allRuns()[0].ID)
		pulls, err := w.Pulls(w.ctx, w.viewer, "shop")
		w.ok(err)
		pulls = slices.DeleteFunc(pulls, func(p slipway.PullRequest) bool { return p.Head != head })
		if alone {
			w.do(w.Merge(w.ctx, w.developer, "shop", pulls[0].Number))
			continue
		}
		_, err = w.Merge(w.ctx, w.developer, "shop", pulls[0].Number)
		w.code(err, slipway.Forbidden, "changes what governs deployments", "what counts as a scan")
		w.do(w.ClosePull(w.ctx, w.developer, "shop", pulls[0].Number))
	}
}

// A codebase that is hosted beside a main one on a forge has pull requests of its own, with its own numbers.
func TestPullsBesideAForge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog", GitURL: "https://git.test/blog.git"}))
	w.do(w.CreateCodebase(w.ctx, w.admin, slipway.Codebase{Project: "blog", Name: "web"}))
	hash := strings.Repeat("a", 40)
	for n := range int64(3) {
		w.do(w.store.SaveForgePull(w.ctx, slipway.PullRequest{Project: "blog", Number: n + 1, Title: "on the forge", Base: "trunk", Head: hash, Author: "eve@github", State: slipway.PullOpen}))
	}
	web := w.at("blog/web")
	web.approver = w.admin
	web.push("refs/heads/main", docker("pages"))
	head := web.commit(web.ref("refs/heads/main"), "more", docker("pages").with("src/pages/x", "1"))
	propose := func() string {
		t.Helper()
		push, lines, err := w.Propose(w.ctx, w.admin, act.Proposal{Project: "blog", Codebase: "web", Base: "main", Head: head})
		w.ok(err)
		web.move(push.Ref, head)
		return strings.Join(append(lines, w.Moved(w.ctx, []slipway.Push{push})...), "\n")
	}
	w.says(propose(), "pull request web#1 into main opened", "slipway merge web#1")
	theirs, err := w.Pull(w.ctx, w.admin, "blog", 1)
	w.ok(err)
	ours, err := w.Pull(w.ctx, w.admin, "blog/web", 1)
	w.ok(err)
	if !theirs.Forge || theirs.Codebase != "" || ours.Forge || ours.Codebase != "web" || ours.Head != head {
		t.Errorf("of the forge %+v, hosted %+v", theirs, ours)
	}
	_, err = w.Merge(w.ctx, w.admin, "blog", 1)
	w.code(err, slipway.Forbidden, "mirrors https://git.test/blog.git")
	_, err = w.Pull(w.ctx, w.admin, "blog/web", 2)
	w.code(err, slipway.NotFound)
	_, err = w.Pull(w.ctx, w.admin, "blog", 9)
	w.code(err, slipway.NotFound)
	w.succeed(w.allRuns()[0].ID)
	merged, err := w.Merge(w.ctx, w.admin, "blog/web", 1)
	w.ok(err)
	if merged.State != slipway.PullMerged || web.ref("refs/heads/main") != merged.MergedAs {
		t.Errorf("merged %+v", merged)
	}
	if theirs, err := w.Pull(w.ctx, w.admin, "blog", 1); err != nil || theirs.State != slipway.PullOpen {
		t.Errorf("the forge's of that number is %+v, %v", theirs, err)
	}
	// A number that two further codebases have is nobody's without a name.
	for _, name := range []string{"web", "app"} {
		w.do(w.store.SaveForgePull(w.ctx, slipway.PullRequest{Project: "blog", Codebase: name, Number: 7, Title: "x", Base: "main", Head: hash, Author: "eve@github", State: slipway.PullOpen}))
	}
	_, err = w.Pull(w.ctx, w.admin, "blog", 7)
	w.code(err, slipway.Conflict, "say app#7 or web#7")
}

func TestKeepingCodebases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.further("web", false)
	_, err := w.CreateCodebase(w.ctx, w.approver, slipway.Codebase{Project: "shop", Name: "more"})
	w.code(err, slipway.Forbidden)
	for name, code := range map[string]slipway.Code{"web": slipway.Conflict, "main": slipway.Invalid, "": slipway.Invalid, "a/b": slipway.Invalid, "..": slipway.Invalid} {
		_, err := w.CreateCodebase(w.ctx, w.admin, slipway.Codebase{Project: "shop", Name: name})
		w.code(err, code)
	}
	_, err = w.CreateCodebase(w.ctx, w.admin, slipway.Codebase{Project: "none", Name: "web"})
	w.code(err, slipway.NotFound)
	_, err = w.CreateCodebase(w.ctx, w.admin, slipway.Codebase{Project: "shop", Name: "x", GitURL: "ext::sh -c x"})
	w.code(err, slipway.Invalid)
	all, err := w.Codebases(w.ctx, w.viewer, "shop")
	w.ok(err)
	if len(all) != 2 || all[0].Name != "" || all[1].Key() != "shop/web" {
		t.Errorf("codebases %+v", all)
	}
	_, err = w.Codebases(w.ctx, w.stranger, "shop")
	w.code(err, slipway.NotFound)

	web, main := w.at("shop/web"), w.at("shop")
	main.push("refs/heads/main", docker("api"))
	web.push("refs/heads/main", docker("pages"))
	w.code(w.RemoveCodebase(w.ctx, w.admin, "shop", "web"), slipway.Conflict, "a run that has not ended")
	w.succeed(w.allRuns()[0].ID)
	w.code(w.RemoveCodebase(w.ctx, w.approver, "shop", "web"), slipway.Forbidden)
	w.code(w.RemoveCodebase(w.ctx, w.admin, "shop", "main"), slipway.Invalid)
	w.code(w.RemoveCodebase(w.ctx, w.admin, "shop", "none"), slipway.NotFound)
	w.ok(w.RemoveCodebase(w.ctx, w.admin, "shop", "web"))
	if _, err := web.tell("refs/heads/main", web.ref("refs/heads/main")); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("push to a codebase that was removed: %v", err)
	}
}

func TestLinkedCodebasesMakeNoRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lib, main := w.further("lib", true), w.at("shop")
	main.push("refs/heads/main", docker("api"))
	runs := len(w.allRuns())
	_, said := lib.push("refs/heads/main", docker("api")) // its services are those of who links it
	w.says(said, "codebase lib is built and deployed from the codebase that links it as a submodule")
	if len(w.allRuns()) != runs {
		t.Error("a push to a linked codebase makes a run")
	}
	_, err := lib.tell("refs/heads/release/api/v1.0.0", lib.ref("refs/heads/main"))
	w.code(err, slipway.Invalid, "delivered from the codebase that links it")
	_, said = lib.push("refs/heads/topic", docker("api").with("src/api/x", "1"))
	w.says(said, "api: runs")
}

// What a Dockerfile copies from a service of another codebase is given to its build: of the run's own commit
// where that is what changed, else of the other's default branch.
func TestCopyingFromAnotherCodebase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, main := w.further("web", false), w.at("shop")
	mainCommit, _ := main.push("refs/heads/main", docker("api", "mail"))
	copies := docker("pages").with("src/pages/Dockerfile", "FROM scratch\nCOPY --from=api proto /proto\nCOPY --from=mail x /x\n").
		with("slipway.yaml", "services:\n  pages:\n    dependsOn: [api]\n    after: [mail]\n")
	web.push("refs/heads/main", copies)
	_, plan := w.newest()
	want := []slipway.NamedContext{{Name: "api", Source: slipway.Source{Commit: mainCommit, Dir: "src/api"}, URL: "http://slipway.test/git/shop.git"}}
	if got := step(t, plan, "build/pages").Build.Contexts; !slices.Equal(got, want) {
		t.Errorf("contexts %+v, want %+v", got, want)
	}
	w.succeed(w.allRuns()[0].ID)
	want[0].Source.Commit, _ = main.push("refs/heads/main", docker("api", "mail").with("src/api/x", "1"))
	_, plan = w.newest()
	if got := step(t, plan, "build/pages").Build.Contexts; !slices.Equal(got, want) {
		t.Errorf("contexts of a merge elsewhere %+v, want %+v", got, want)
	}
	if got := step(t, plan, "build/api").Build.Contexts; len(got) != 0 {
		t.Errorf("contexts of api %+v", got)
	}

	// A stranger's head gets none.
	p, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	fork := slipway.Run{Project: "shop", Codebase: "web", Event: slipway.PullUpdate, Ref: "refs/pull/7/head", Base: "main", Fork: true,
		Commit: web.commit(web.ref("refs/heads/main"), "fork", copies.with("src/pages/y", "1"))}
	plan, err = w.planner.Plan(w.ctx, p, fork)
	w.ok(err)
	if got := step(t, plan, "build/pages").Build.Contexts; len(got) != 0 {
		t.Errorf("contexts of a fork %+v", got)
	}
}

package act_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// planned is the plan of a push, its decisions as text and its steps by their keys.
func (w *world) planned(event slipway.EventKind, ref, commit string) (slipway.Plan, string, string) {
	w.t.Helper()
	p, err := w.store.Project(w.ctx, "shop")
	w.ok(err)
	run := slipway.Run{ID: 99, Project: "shop", Event: event, Ref: ref, Base: "main", Commit: commit, Pull: 1}
	if release, is, err := slipway.ParseReleaseRef(ref); is && err == nil {
		run.Service, run.Version = release.Service, release.Version.Leaf
	}
	plan, err := w.planner.Plan(w.ctx, p, run)
	w.ok(err)
	var says, keys []string
	for _, d := range plan.Decisions {
		says = append(says, d.Service+": "+d.Reason)
	}
	for _, s := range plan.Steps {
		keys = append(keys, s.Key)
	}
	return plan, strings.Join(says, "\n"), strings.Join(keys, " ")
}

// charted is two services, one with a chart in its folder.
func charted() files {
	return service("cart", "mail").with("src/cart/chart/Chart.yaml", "apiVersion: v2\nname: cart\nversion: 0.0.0\n").with("src/cart/a", "1")
}

// When nothing but the chart changed, it is packaged with the image that the default branch published last
// of the same code (S23).
func TestOnlyTheChartChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := charted()
	first := w.commit("", "first", f)
	w.push(w.approver, "refs/heads/main", first)
	run := w.runs("refs/heads/main")[0].ID
	image := func(commit, digest, repository string) slipway.Artifact {
		return slipway.Artifact{Kind: slipway.ArtifactImage, Service: "cart", Repository: repository, Tag: "main-" + slipway.ShortHash(commit), Digest: digest, Size: 9, Commit: commit}
	}
	w.finish(run, "plan", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{
		image(first, "sha256:old", "registry.test/shop/cart"), {Kind: slipway.ArtifactImage, Service: "cart", Repository: "registry.test/shop/cart", Digest: "sha256:untagged"},
	}})

	f = f.with("src/cart/chart/values.yaml", "replicas: 2\n")
	chart := w.commit(first, "chart", f)
	plan, says, keys := w.planned(slipway.DefaultPush, "refs/heads/main", chart)
	w.says(says, "cart: runs: src/cart/chart/values.yaml changed; no image is built", "mail: skipped")
	if keys != "scan/cart chart/cart publish/cart attest/cart gate/cart@development deploy/cart@development verify/cart@development" {
		t.Errorf("steps: %s", keys)
	}
	want := slipway.BuiltImage{Digest: "sha256:old", Size: 9, Commit: first, RunID: run}
	if b := step(t, plan, "publish/cart").Publish.Built; b == nil || *b != want || len(plan.Since) != 1 || plan.Since[0] != first {
		t.Errorf("publishes %+v, compared with %v", b, plan.Since)
	}
	_, _, keys = w.planned(slipway.BranchPush, "refs/heads/x", chart)
	if keys != "chart/cart" {
		t.Errorf("steps on a branch: %s", keys)
	}
	_, _, keys = w.planned(slipway.PullUpdate, "refs/pull/1/head", chart)
	if keys != "chart/cart" {
		t.Errorf("steps of a pull request: %s", keys)
	}

	// The chart again, when the newest image is of other code, or elsewhere.
	w.push(w.approver, "refs/heads/main", chart)
	code := w.commit(chart, "code", f.with("src/cart/a", "2"))
	w.push(w.approver, "refs/heads/main", code)
	runs := w.runs("refs/heads/main")
	w.finish(runs[0].ID, "plan", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{image(code, "sha256:other", "registry.test/shop/cart"), image(chart, "sha256:elsewhere", "registry.example.com/shop/cart")}})
	back := w.commit(code, "back, and the chart", f.with("src/cart/chart/values.yaml", "replicas: 3\n"))
	_, says, keys = w.planned(slipway.DefaultPush, "refs/heads/main", back)
	w.says(says, "cart: runs: 1 of the 2 changed files is under src/cart: src/cart/a")
	if !strings.HasPrefix(keys, "build/cart") {
		t.Errorf("steps: %s", keys)
	}
	again := w.commit(code, "the chart again", f.with("src/cart/a", "2").with("src/cart/chart/values.yaml", "replicas: 3\n"))
	plan, _, _ = w.planned(slipway.DefaultPush, "refs/heads/main", again)
	if b := step(t, plan, "publish/cart").Publish.Built; b == nil || b.Digest != "sha256:other" {
		t.Errorf("publishes %+v", b)
	}
	release, _, keys := w.planned(slipway.ReleasePush, "refs/heads/release/cart/v1.0.0", again)
	if !strings.HasPrefix(keys, "build/cart scan/cart chart/cart publish/cart") || step(t, release, "publish/cart").Publish.Built != nil {
		t.Errorf("steps of a release: %s", keys)
	}
}

// The image of a service whose code no run published is built, even for its chart alone.
func TestOnlyTheChartChangedAndNothingWasBuilt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.commit("", "first", charted())
	w.push(w.approver, "refs/heads/main", first)
	w.succeed(w.runs("refs/heads/main")[0].ID)
	chart := w.commit(first, "chart", charted().with("src/cart/chart/values.yaml", "replicas: 2\n"))
	_, says, keys := w.planned(slipway.DefaultPush, "refs/heads/main", chart)
	w.says(says, "an image is built too, as none of this code was published before")
	if keys != "build/cart scan/cart chart/cart publish/cart attest/cart gate/cart@development deploy/cart@development verify/cart@development" {
		t.Errorf("steps: %s", keys)
	}
}

// The revision of the image is that of the code: a commit to the chart makes no other image (D15).
func TestRevisionOfTheCode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.commit("", "first", charted())
	w.push(w.approver, "refs/heads/main", first)
	chart := w.commit(first, "chart", charted().with("src/cart/chart/values.yaml", "replicas: 2\n"))
	w.move("refs/heads/main", chart)
	plan, _, _ := w.planned(slipway.ReleasePush, "refs/heads/release/cart/v1.0.0", chart)
	const label = "org.opencontainers.image.revision"
	if got := plan.Steps[0].Build.Labels[label]; got != first {
		t.Errorf("the image is of %s, want %s", got, first)
	}
	if got := step(t, plan, "chart/cart").Chart.Labels[label]; got != chart {
		t.Errorf("the chart is of %s, want %s", got, chart)
	}
}

// A changed slipway.yaml runs the services whose settings changed, and no other.
func TestAChangedConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	yaml := func(text string) files { return service("cart", "mail", "orders").with("slipway.yaml", text) }
	first := w.commit("", "first", yaml("services:\n  mail: {args: {A: a}}\n"))
	w.push(w.approver, "refs/heads/main", first)
	w.succeed(w.runs("refs/heads/main")[0].ID)
	for text, want := range map[string]string{
		"services:\n  mail: {args: {A: b}}\n":                                                                                 "mail: runs: its args changed in the configuration",
		"services:\n  mail: {args: {A: a}, rollback: manual, verify: {timeout: 3m}}\n":                                        "mail: skipped",
		"services:\n  mail: {args: {A: a}}\npullRequests: {approvals: 1}\n":                                                   "mail: skipped",
		"services:\n  mail: {args: {A: a}}\n  orders: {after: [cart], port: 99}\n":                                            "orders: runs: its port changed in the configuration",
		"services:\n  mail: {args: {A: a}}\n  orders: false\n":                                                                "orders: removed: there is no such service at src/orders any more; what is deployed of it stays",
		"services:\n  mail: {args: {A: a}}\nenvironments: [{name: development, trigger: default-branch, values: [x.yaml]}]\n": "cart: runs: environment development changed",
	} {
		next := w.commit(first, "next", yaml(text))
		w.move("refs/heads/main", next)
		_, says, _ := w.planned(slipway.DefaultPush, "refs/heads/main", next)
		w.says(says, want)
		if runs := strings.Count(says, ": runs:"); runs > 1 && !strings.Contains(text, "environments") {
			t.Errorf("%s: %d services run:\n%s", text, runs, says)
		}
	}
	// What the default branch says of environments is nothing to a branch.
	_, says, _ := w.planned(slipway.BranchPush, "refs/heads/x", w.commit(first, "next", yaml("services:\n  mail: {args: {A: a}}\nenvironments: [{name: qa}]\n")))
	if strings.Contains(says, "runs") {
		t.Errorf("on a branch:\n%s", says)
	}
	// A configuration that was not valid before says nothing to compare with.
	broken := w.commit(first, "broken", yaml("nonsense: 1\n"))
	w.planner.History = builtAt{w.store, broken}
	_, says, _ = w.planned(slipway.DefaultPush, "refs/heads/main", w.commit(broken, "mended", yaml("services:\n  mail: {args: {A: a}}\n")))
	w.says(says, "cart: runs: slipway.yaml changed, and what the commit before said of services was not valid", "orders: runs")
}

// A branch into which the default branch was merged runs its own services, as does one that was built
// before and has changed since.
func TestABranchThatTookTheDefaultBranchIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := service("cart", "mail", "orders")
	first := w.commit("", "first", f)
	w.push(w.approver, "refs/heads/main", first)
	branch := w.commit(first, "branch", f.with("src/mail/a", "1"))
	main := w.commit(first, "main", f.with("src/cart/a", "1"))
	w.move("refs/heads/main", main)
	w.planner.History = builtAt{w.store, branch}
	tree := w.git("merge-tree", "", "--write-tree", branch, main)
	merged := w.git("commit-tree", "", "-p", branch, "-p", main, "-m", "merge", tree)
	plan, says, keys := w.planned(slipway.BranchPush, "refs/heads/x", merged)
	w.says(says, "cart: skipped, it is as in main", "mail: skipped", "orders: skipped")
	if keys != "" || len(plan.Since) != 2 {
		t.Errorf("steps %q, compared with %v", keys, plan.Since)
	}
}

// What runs is the same for the push that is told at once and for the plan that is stored.
func TestThePusherIsToldWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.commit("", "first", service("cart", "mail"))
	w.push(w.approver, "refs/heads/main", first)
	w.succeed(w.runs("refs/heads/main")[0].ID)
	told := w.push(w.developer, "refs/heads/feature/mail/x", w.commit(first, "both", service("cart", "mail").with("src/cart/a", "1").with("src/mail/\x1b]0;evil\a", "1")))
	w.says(told, "cart: skipped, branch feature/mail/x is for mail alone", fmt.Sprintf("mail: runs: 1 of the 2 changed files is under src/mail: %q", "src/mail/\x1b]0;evil\a"))
}

// A commit that leaves everything alone that a configuration is made of is not read, and what it says is
// known all the same.
func TestWhatIsTheSameIsNotReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := service("cart", "mail")
	c := w.commit("", "first", f)
	w.push(w.approver, "refs/heads/main", c)
	w.restart()
	r := w.counted()
	w.planned(slipway.DefaultPush, "refs/heads/main", c)
	read := r.opened.Load()
	for i := range 5 {
		f = f.with(fmt.Sprintf("src/cart/f%d", i), "x").with("README", fmt.Sprint(i))
		c = w.commit(c, "next", f)
		w.move("refs/heads/main", c)
		_, says, _ := w.planned(slipway.DefaultPush, "refs/heads/main", c)
		w.says(says, "cart: runs", "mail: ")
	}
	if n := r.opened.Load(); n != read {
		t.Errorf("%d trees were read again", n-read)
	}
	c = w.commit(c, "another", f.with("src/new/Dockerfile", "FROM scratch\n"))
	_, says, _ := w.planned(slipway.BranchPush, "refs/heads/x", c)
	w.says(says, "new: runs: it is new")
	if n := r.opened.Load(); n != read+1 {
		t.Errorf("%d trees were read for a service that is new", n-read)
	}
}

// A tag runs the services whose trigger names it, with a message or without, and else nothing (S43).
func TestTagsRunWhatNamesThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.commit("", "first", service("cart", "mail").with("slipway.yaml", "services:\n  mail:\n    trigger: {tags: {include: [mail/v*], exclude: [\"*-rc*\"]}}\n"))
	w.push(w.approver, "refs/heads/main", c)
	w.succeed(w.runs("refs/heads/main")[0].ID)
	annotated := w.git("mktag", "object "+c+"\ntype commit\ntag mail/v2\ntagger Ada <ada@example.com> 1700000000 +0000\n\nx\n")
	blob := w.git("hash-object", "x", "-w", "--stdin")
	for ref, e := range map[string]struct{ commit, says string }{
		"refs/tags/mail/v1":     {c, "mail: runs: tag mail/v1 is one that its trigger names, whatever files changed"},
		"refs/tags/mail/v2":     {annotated, "mail: runs: tag mail/v2"},
		"refs/tags/mail/v3-rc1": {c, "tag mail/v3-rc1: nothing runs, as no service's trigger names it"},
		"refs/tags/v1":          {c, "tag v1: nothing runs, as no service's trigger names it"},
		"refs/tags/mail/vblob":  {blob, "tag mail/vblob names no commit: nothing runs"},
	} {
		told := w.push(w.approver, ref, e.commit)
		w.says(told, e.says)
		runs := w.runs(ref)
		if strings.Contains(e.says, ": runs:") != (len(runs) == 1) {
			t.Errorf("%s makes %d runs", ref, len(runs))
		}
		if len(runs) == 1 && (runs[0].Commit != c || runs[0].Event != slipway.BranchPush || !strings.Contains(told, "cart: skipped, its trigger does not name tag")) {
			t.Errorf("%s: %+v\n%s", ref, runs[0], told)
		}
	}
}

// A plan does not depend on whether kept processes or git commands read the repository, nor on what was
// remembered.
func TestPlansThroughReadersAreTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := service("cart", "mail", "orders")
	histories := []files{
		all,
		all.with("src/cart/a.go", "1"),
		all.with("src/cart/a.go", "2").with("src/mail/chart/Chart.yaml", "name: mail\n"),
		all.with("src/cart/a.go/b", "2").with("src/mail/chart/Chart.yaml", "name: mail\n").with("src/mail/chart/values.yaml", "a: 1\n"),
		service("cart", "orders").with("src/é ü/Dockerfile", "FROM scratch\n").with("slipway.yaml", "services: {ordering: {path: src/é ü}}\n"),
		all.with("slipway.yaml", "services: {cart: {dependsOn: [mail]}}\n").with("src/mail/x", "1"),
		all.with("src/orders/Dockerfile", "FROM scratch\nCOPY libs /libs\n").with("libs/money", "1"),
	}
	parent := ""
	for i, f := range histories {
		parent = w.commit(parent, fmt.Sprint("commit ", i), f)
		if i == 1 {
			w.move("refs/heads/main", parent)
		}
		through, err := w.plan(parent)
		w.ok(err)
		plain := &act.Planner{Repo: func(string) act.PlanRepo { return repo{w.repo, w.hooks} }, Projects: w.store, History: w.store, Namespaces: w.store,
			Candidates: w.planner.Candidates, Production: w.planner.Production, URL: w.planner.URL}
		with := w.planner
		w.planner = plain
		want, err := w.plan(parent)
		w.planner = with
		w.ok(err)
		if !reflect.DeepEqual(through, want) {
			t.Errorf("commit %d: the plan is\n%+v\nread with git commands\n%+v", i, through, want)
		}
		if i > 1 && len(through.Steps) == 0 {
			t.Errorf("commit %d: nothing runs", i)
		}
	}
}

// What .dockerignore keeps from the build runs nothing and makes no other revision; the folder that comes with
// the first such file is one that the build sees.
func TestWhatDockerignoreLeavesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := service("cart", "mail").with("src/cart/.dockerignore", "docs\n**/*.md\n").with("src/cart/main.go", "package main\n").with("src/cart/notes/a.txt", "1")
	first := w.commit("", "first", f)
	w.push(w.approver, "refs/heads/main", first)
	w.succeed(w.runs("refs/heads/main")[0].ID)

	f = f.with("src/cart/docs/a", "1").with("src/cart/README.md", "1").with("src/cart/notes/b.md", "1")
	docs := w.commit(first, "docs", f)
	_, says, keys := w.planned(slipway.DefaultPush, "refs/heads/main", docs)
	w.says(says, "cart: skipped, all 3 changed files are excluded from its image by src/cart/.dockerignore, such as src/cart/README.md", "mail: skipped, none of")
	if keys != "" {
		t.Errorf("steps: %s", keys)
	}
	w.move("refs/heads/main", docs)
	plan, _, _ := w.planned(slipway.ReleasePush, "refs/heads/release/cart/v1.0.0", docs)
	if got := plan.Steps[0].Build.Labels["org.opencontainers.image.revision"]; got != first {
		t.Errorf("the image is of %s, want %s", got, first)
	}

	_, says, _ = w.planned(slipway.BranchPush, "refs/heads/x", w.commit(docs, "a folder", f.with("src/cart/more/in/a.md", "1")))
	w.says(says, "cart: runs: src/cart/more/in/a.md changed")
	_, says, _ = w.planned(slipway.BranchPush, "refs/heads/x", w.commit(docs, "a file in a folder", f.with("src/cart/notes/c.md", "1")))
	w.says(says, "cart: skipped, the changed file is excluded from its image by src/cart/.dockerignore: src/cart/notes/c.md")
	_, says, _ = w.planned(slipway.BranchPush, "refs/heads/x", w.commit(docs, "the rules", f.with("src/cart/.dockerignore", "docs\n")))
	w.says(says, "cart: runs: src/cart/.dockerignore changed")
	gone := f.with("src/cart/docs/a", "2")
	delete(gone, "src/cart/.dockerignore")
	_, says, _ = w.planned(slipway.BranchPush, "refs/heads/x", w.commit(docs, "no rules", gone))
	w.says(says, "cart: runs: ")
}

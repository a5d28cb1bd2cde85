package act_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
	"github.com/slipway-cd/slipway/stage"
)

func TestAPushMakesItsRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.commit("", "first", service("cart", "mail"))
	said := w.push(w.approver, "refs/heads/main", first)
	w.says(said, "run #1  http://slipway.test/runs/1", "cart: runs", "mail: runs")
	second := w.commit(first, "cart: a bug\n\nlong text", service("cart", "mail").with("src/cart/main.go", "package main\n"))
	w.succeed(1)
	said = w.push(w.developer, "refs/heads/feature/x", second)
	w.says(said, "run #2", "cart: runs", "mail: skipped")
	for i, want := range []slipway.Run{
		{Event: slipway.DefaultPush, Ref: "refs/heads/main", Base: slipway.ZeroHash, Commit: first, Title: "first", Actor: "approver"},
		{Event: slipway.BranchPush, Ref: "refs/heads/feature/x", Base: slipway.ZeroHash, Commit: second, Title: "cart: a bug", Actor: "developer"},
	} {
		d, err := w.Run(w.ctx, w.viewer, int64(i+1))
		w.ok(err)
		got := slipway.Run{Event: d.Run.Event, Ref: d.Run.Ref, Base: d.Run.Base, Commit: d.Run.Commit, Title: d.Run.Title, Actor: d.Run.Actor}
		if got != want {
			t.Errorf("run #%d is %+v, want %+v", i+1, got, want)
		}
		if len(d.Steps) != 1 || d.Steps[0].Spec.Kind != slipway.KindPlan || d.Steps[0].Spec.Timeout == 0 {
			t.Errorf("run #%d begins with %+v", i+1, d.Steps)
		}
	}
	w.wantPushes("refs/heads/main", "received", "accepted")
	w.says(w.push(w.developer, "refs/tags/v1", second), "tag v1: nothing runs")
	w.says(w.push(w.developer, "refs/heads/feature/x", slipway.ZeroHash), "deleted: nothing runs")
}

func TestReleasePush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	w.says(w.push(w.developer, "refs/heads/release/cart/v1.0.0", c), "cart: runs")
	r := w.runs("refs/heads/release/cart/v1.0.0")[0]
	if r.Event != slipway.ReleasePush || r.Service != "cart" || r.Version != "v1.0.0" {
		t.Errorf("run %+v", r)
	}
}

// Nothing of a push that is refused is recorded, and no ref of it may move.
func TestRefusedPushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.main()
	w.push(w.developer, "refs/heads/release/cart/v1.0.0", first)
	w.finish(w.runs("refs/heads/release/cart/v1.0.0")[0].ID, "plan", slipway.Result{Outcome: slipway.Succeeded,
		Release: &slipway.Release{Service: "cart", Version: "v1.0.0", Commit: first, ImageDigest: "sha256:1", ChartDigest: "sha256:2"}})
	other := w.commit("", "other", service("cart"))
	broken := w.commit(first, "broken", service("cart").with("slipway.yaml", "servces: {}\n"))
	before := len(w.pushesOf("refs/heads/"))
	for name, c := range map[string]struct {
		by          slipway.User
		ref, commit string
		code        slipway.Code
		says        string
	}{
		"nobody":                     {slipway.User{}, "refs/heads/x", other, slipway.Unauthorized, "sign in"},
		"a stranger":                 {w.stranger, "refs/heads/x", other, slipway.NotFound, "no role"},
		"a viewer":                   {w.viewer, "refs/heads/x", other, slipway.Forbidden, "viewer"},
		"a developer, to main":       {w.developer, "refs/heads/main", other, slipway.Forbidden, "may not push to the default branch of shop"},
		"main, rewritten":            {w.admin, "refs/heads/main", other, slipway.Forbidden, "never rewritten"},
		"main, deleted":              {w.admin, "refs/heads/main", slipway.ZeroHash, slipway.Forbidden, "never rewritten"},
		"dots":                       {w.admin, "refs/heads/a..b", other, slipway.Invalid, ".."},
		"an option":                  {w.admin, "refs/heads/-x", other, slipway.Invalid, "begin with -"},
		"the heads of pull requests": {w.admin, "refs/pull/1/head", other, slipway.Invalid, "only branches"},
		"an unknown service":         {w.developer, "refs/heads/release/crat/v1.0.1", first, slipway.Invalid, `no service "crat" in this commit; it has: cart, mail`},
		"no version":                 {w.developer, "refs/heads/release/cart/1.0", first, slipway.Invalid, "not SemVer"},
		"build metadata":             {w.developer, "refs/heads/release/cart/v1.0.0+1", first, slipway.Invalid, "build metadata"},
		"no service":                 {w.developer, "refs/heads/release/v1.0.0", first, slipway.Invalid, "release/<service>/<version>"},
		"in the way of releases":     {w.admin, "refs/heads/release", first, slipway.Invalid, "in the way of the branches release/<service>/<version>"},
		"a claimed version":          {w.developer, "refs/heads/release/cart/v1.0.0", other, slipway.Conflict, "was published from commit " + slipway.ShortHash(first)},
		"the same version, no v":     {w.developer, "refs/heads/release/cart/1.0.0", other, slipway.Conflict, "was published from commit"},
		"a broken configuration":     {w.developer, "refs/heads/release/cart/v1.0.1", broken, slipway.Invalid, "servces"},
	} {
		recorded, err := w.Receive(w.ctx, c.by, "shop", []act.Command{
			{Ref: "refs/heads/fine", Old: slipway.ZeroHash, New: first},
			{Ref: c.ref, Old: first, New: c.commit, Forced: c.commit == other},
		}, w.tree)
		if slipway.ErrorCode(err) != c.code || err == nil || !strings.Contains(err.Error(), c.says) || recorded != nil {
			t.Errorf("%s: recorded %v, error %v; want code %s and %q", name, recorded, err, c.code, c.says)
		}
	}
	w.do(w.receive(w.developer, "refs/heads/release/cart/v1.0.0", first)) // the claim's own commit again
	_, err := w.Receive(w.ctx, w.admin, "shop", make([]act.Command, 101), w.tree)
	w.code(err, slipway.Invalid, "at most 100")
	_, err = w.Receive(w.ctx, w.admin, "none", nil, w.tree)
	w.code(err, slipway.NotFound)
	w.do(w.store.CreateProject(w.ctx, slipway.Project{Name: "outside", GitURL: "https://git.test/x.git"}, "admin"))
	_, err = w.Receive(w.ctx, w.admin, "outside", []act.Command{{Ref: "refs/heads/x", Old: slipway.ZeroHash, New: first}}, w.tree)
	w.code(err, slipway.Forbidden, "mirrors https://git.test/x.git")
	if after := len(w.pushesOf("refs/heads/")); after != before {
		t.Errorf("refused pushes left %d events", after-before)
	}
}

// A push of which one part cannot be recorded leaves nothing open.
func TestAHalfRecordedPushIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	full := errors.New("disk full")
	w.hooks.recordPush = func(p slipway.Push) error {
		if p.Ref == "refs/heads/b" {
			return full
		}
		return nil
	}
	_, err := w.Receive(w.ctx, w.developer, "shop", []act.Command{
		{Ref: "refs/heads/a", Old: slipway.ZeroHash, New: c}, {Ref: "refs/heads/b", Old: slipway.ZeroHash, New: c},
	}, w.tree)
	if !errors.Is(err, full) {
		t.Fatalf("got %v", err)
	}
	w.wantPushes("refs/heads/a", "received", "refused")
	open, err := w.store.OpenPushes(w.ctx)
	w.ok(err)
	if len(open) != 0 {
		t.Errorf("left open: %+v", open)
	}
}

// A ref that moved gets its run once that can be recorded again, without a restart.
func TestALateRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	w.hooks.acceptPush = slipway.Errorf(slipway.Unavailable, "the disk is full")
	w.says(w.push(w.developer, "refs/heads/x", c), "refs/heads/x is stored; its run could not be started now")
	w.Late(w.ctx)
	if runs := w.runs("refs/heads/x"); len(runs) != 0 {
		t.Fatalf("runs: %+v", runs)
	}
	w.hooks.acceptPush = nil
	w.Late(w.ctx)
	w.Late(w.ctx)
	if runs := w.runs("refs/heads/x"); len(runs) != 1 || runs[0].Commit != c {
		t.Errorf("runs: %+v", runs)
	}
	w.wantPushes("refs/heads/x", "received", "accepted")
}

func TestAPushOfAnInvalidConfigurationSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.commit("", "broken", service("cart").with("slipway.yaml", "version: 1\nenvironmnts: []\n"))
	_, err := w.receive(w.approver, "refs/heads/main", c)
	w.code(err, slipway.Invalid, "slipway.yaml:2:1", "environmnts", "would govern every run")
	w.says(w.push(w.approver, "refs/heads/x", w.commit("", "bad service", service("cart").with("slipway.yaml", "version: 1\nservices: []\n"))), "run #1", "slipway.yaml:2:")
	w.says(w.push(w.approver, "refs/heads/empty", w.commit("", "nothing here", files{"README": "hi\n"})), "run #2")
}

// What is wrong with slipway.yaml only beside the files is refused too, with its place; on a branch, and where nobody
// can refuse, the run says the same.
func TestAPushOfAConfigurationThatDoesNotFitItsFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.main()
	for yaml, want := range map[string]string{
		"services:\n  cart:\n    dependsOn: [mail]\n  mail:\n    dependsOn: [cart]\n": "a cycle: ",
		"services:\n  cart:\n    after: [mial]\n":                                     "slipway.yaml:3:13: services.cart.after[0]: there is no service mial (did you mean mail?)",
		"services:\n  cart: {path: src/trolley}\n":                                    "slipway.yaml:2",
	} {
		c := w.commit(first, "broken", service("cart", "mail").with("slipway.yaml", yaml))
		_, err := w.receive(w.approver, "refs/heads/main", c)
		w.code(err, slipway.Invalid, "commit "+slipway.ShortHash(c)+" is not valid", want, "slipway.yaml:")
		_, planned := w.planner.Plan(w.ctx, slipway.Project{Name: "shop", DefaultBranch: "main"}, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: c})
		if planned == nil || planned.Error() != err.Error() {
			t.Errorf("the run says %v\nthe push %v", planned, err)
		}
	}
	c := w.commit(first, "a Dockerfile", service("cart", "mail").with("src/cart/Dockerfile", "FORM scratch\n"))
	w.says(w.push(w.approver, "refs/heads/main", c), "commit "+slipway.ShortHash(c)+" is not valid: src/cart/Dockerfile:1: ")
	two := w.commit(c, "two Dockerfiles", service("cart", "mail").with("src/cart/Dockerfile", "FORM scratch\n").with("src/mail/Dockerfile", "FORM scratch\n"))
	w.says(w.push(w.approver, "refs/heads/main", two), "commit "+slipway.ShortHash(two)+" is not valid: 2 problems\n", "src/cart/Dockerfile:1: ", "src/mail/Dockerfile:1: ")
}

// What is kept in Git LFS is told, as builds get pointers in its place; other attributes are not.
func TestAPushWithLargeFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tree := service("cart", "mail").with(".gitattributes", "# *.psd filter=lfs\n*.txt text\n*.bin filter=lfs diff=lfs merge=lfs -text\n")
	first := w.commit("", "first", tree)
	said := w.push(w.approver, "refs/heads/main", first)
	w.says(said, "cart: runs", "warning: .gitattributes:3: what fits *.bin is kept in Git LFS, which is not fetched")
	said = w.push(w.approver, "refs/heads/x", w.commit(first, "y", service("cart", "mail").with(".gitattributes", "*.bin binary\n").with("src/mail/.gitattributes", "data/** filter=lfs\n")))
	w.says(said, "warning: src/mail/.gitattributes:1: what fits data/**")
	if strings.Count(said, "warning") != 1 {
		t.Errorf("said:\n%s", said)
	}
	said = w.push(w.approver, "refs/heads/z", w.commit(first, "z", service("cart", "mail")))
	if strings.Contains(said, "warning") {
		t.Errorf("said:\n%s", said)
	}
}

// A rule for a service that no codebase has is told, and in nobody's way.
func TestARuleForAServiceThatIsNowhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	main := w.at("shop")
	const rule = "gates:\n  rules:\n    - {name: small, message: too large, expression: 'evidence.service != \"%s\" || evidence.image.size < 1000'}\n"
	_, said := main.push("refs/heads/main", docker("api").with("slipway.yaml", fmt.Sprintf(rule, "apis")))
	w.says(said, "api: ", "warning: slipway.yaml:3: gates.rules: rule small, at 1:21 of its expression: there is no service apis (did you mean api?)")
	if _, said = main.push("refs/heads/main", docker("api").with("slipway.yaml", fmt.Sprintf(rule, "api"))); strings.Contains(said, "warning") {
		t.Errorf("said:\n%s", said)
	}
}

// A waiver of the main codebase may be for a service of another one. One for a service that no codebase has, perhaps
// because it was taken out of another one, is told and in nobody's way.
func TestAWaiverForAServiceOfAnotherCodebase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web, main := w.further("web", false), w.at("shop")
	main.push("refs/heads/main", docker("api"))
	web.push("refs/heads/main", docker("pages", "docs"))
	waiver := "gates:\n  waivers:\n    - {gate: secrets, subject: x, service: %s, reason: r, author: ada, expires: " + inDays(100).Format(time.DateOnly) + "}\n"
	silent := func(said string) {
		t.Helper()
		if strings.Contains(said, "waiver") {
			t.Errorf("said:\n%s", said)
		}
	}
	_, said := main.push("refs/heads/main", docker("api").with("slipway.yaml", fmt.Sprintf(waiver, "page")))
	w.says(said, "api: ", "warning: slipway.yaml:3: gates.waivers: there is no service page that this waiver would be for (did you mean pages?)")
	_, said = main.push("refs/heads/main", docker("api").with("slipway.yaml", fmt.Sprintf(waiver, "pages")))
	silent(said)

	_, said = web.push("refs/heads/topic", docker("docs"))
	silent(said)
	_, said = web.push("refs/heads/main", docker("docs"))
	w.says(said, "docs: ", "warning: of the main codebase, slipway.yaml:3: gates.waivers: there is no service pages that this waiver would be for")
	commit, said := main.push("refs/heads/main", docker("api").with("slipway.yaml", fmt.Sprintf(waiver, "pages")).with("api/more", "1"))
	w.says(said, "api: ", "warning: slipway.yaml:3: ")
	run, err := w.store.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commit}, slipway.Plan{})
	w.ok(err)
	for id := int64(1); id < run.ID; id++ { // nobody plans what was pushed before
		w.ok(w.store.CancelRun(w.ctx, id, w.approver.Name, "a test"))
	}
	log := &notes{}
	res, err := w.planner.Run(w.ctx, stage.Env{Run: run, Log: log, Now: time.Now}, slipway.PlanStep{})
	w.ok(err)
	if res.Outcome != slipway.Succeeded || !strings.Contains(strings.Join(res.Next.Notes, "\n"), "no service pages") || !strings.Contains(log.b.String(), "no service pages") {
		t.Errorf("%+v\n%s", res, log.b.String())
	}

	listed, err := w.Waivers(w.ctx, w.approver, slipway.WaiverFilter{Project: "shop"})
	w.ok(err)
	if len(listed) != 1 || listed[0].Problem != "there is no service pages" {
		t.Errorf("listed: %+v", listed)
	}
	web.push("refs/heads/main", docker("docs", "pages"))
	if listed, err = w.Waivers(w.ctx, w.approver, slipway.WaiverFilter{Project: "shop"}); err != nil || len(listed) != 1 || listed[0].Problem != "" {
		t.Errorf("listed: %+v %v", listed, err)
	}
	web.move("refs/heads/main", web.commit(web.ref("refs/heads/main"), "broken", docker("docs").with("src/docs/Dockerfile", "FORM scratch\n")))
	if listed, err = w.Waivers(w.ctx, w.approver, slipway.WaiverFilter{Project: "shop"}); err != nil || len(listed) != 1 || listed[0].Problem != "" {
		t.Errorf("while a codebase cannot be read: %+v %v", listed, err)
	}
}

// What a crash leaves open is compared with the refs at start (D21).
func TestRecoverPushes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c1 := w.main()
	c2 := w.commit(c1, "second", service("cart"))
	c3 := w.commit(c2, "third", service("cart", "mail"))
	other := w.commit(c1, "other", service("mail"))
	recorded := func(ref, old, new string) {
		w.do(w.store.RecordPush(w.ctx, slipway.Push{Project: "shop", Ref: ref, Old: old, New: new, Actor: "developer"}))
	}
	for _, ref := range []string{"still", "moved", "on", "twice", "elsewhere", "gone"} {
		w.push(w.developer, "refs/heads/"+ref, c1)
	}
	recorded("refs/heads/still", c1, c2)

	recorded("refs/heads/moved", c1, c2)
	w.move("refs/heads/moved", c2)

	recorded("refs/heads/on", c1, c2) // its run could not be recorded
	w.move("refs/heads/on", c2)
	w.push(w.developer, "refs/heads/on", c3)

	recorded("refs/heads/twice", c1, c2)
	recorded("refs/heads/twice", c2, c3)
	w.move("refs/heads/twice", c3)

	recorded("refs/heads/elsewhere", c1, other) // lost to another push
	w.push(w.developer, "refs/heads/elsewhere", c2)

	recorded("refs/heads/gone", c1, slipway.ZeroHash)
	w.move("refs/heads/gone", slipway.ZeroHash)

	recorded("refs/heads/new", slipway.ZeroHash, c2)
	w.move("refs/heads/new", c2)

	tag := w.git("mktag", "object "+c2+"\ntype commit\ntag v1\ntagger Ada <ada@example.com> 1700000000 +0000\n\none\n")
	recorded("refs/tags/v1", slipway.ZeroHash, tag)
	w.git("update-ref", "", "refs/tags/v1", tag)

	w.restart()
	w.ok(w.Recover(w.ctx))
	for ref, want := range map[string][]string{
		"refs/heads/still":     {"received", "accepted", "received", "refused"},
		"refs/heads/moved":     {"received", "accepted", "received", "accepted"},
		"refs/heads/on":        {"received", "accepted", "received", "received", "accepted", "accepted"},
		"refs/heads/twice":     {"received", "accepted", "received", "received", "accepted", "accepted"},
		"refs/heads/elsewhere": {"received", "accepted", "received", "received", "accepted", "refused"},
		"refs/heads/gone":      {"received", "accepted", "received", "accepted"},
		"refs/heads/new":       {"received", "accepted"},
		"refs/tags/v1":         {"received", "accepted"},
	} {
		w.wantPushes(ref, want...)
	}
	for ref, want := range map[string]string{"still": c1, "moved": c2 + " " + c1, "on": c3 + " " + c1, "twice": c3 + " " + c1, "elsewhere": c2 + " " + c1, "gone": c1, "new": c2} {
		var got []string
		for _, r := range w.runs("refs/heads/" + ref) {
			got = append(got, r.Commit)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: runs of %v, want %s", ref, got, want)
		}
	}
	runs := len(w.allRuns())
	w.ok(w.Recover(w.ctx))
	if n := len(w.allRuns()); n != runs {
		t.Errorf("a second recovery made %d more runs", n-runs)
	}
}

// A repository that cannot be read keeps neither the server nor the others from starting.
func TestRecoverGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	w.do(w.store.CreateProject(w.ctx, slipway.Project{Name: "lost"}, "admin"))
	for _, project := range []string{"lost", "shop"} {
		w.do(w.store.RecordPush(w.ctx, slipway.Push{Project: project, Ref: "refs/heads/x", Old: slipway.ZeroHash, New: c}))
	}
	w.move("refs/heads/x", c)
	w.ok(w.Recover(w.ctx))
	w.wantPushes("refs/heads/x", "received", "accepted")
	w.says(w.log.String(), "recover push", "project=lost")
	ended, cancel := context.WithCancelCause(w.ctx)
	cancel(slipway.ErrShutdown)
	if err := w.Recover(ended); err == nil {
		t.Error("a start that was broken off recovered")
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	moved, err := w.Seen(w.ctx, "shop", []act.Command{{Ref: "refs/heads/a", Old: slipway.ZeroHash, New: c}, {Ref: "refs/heads/b", Old: slipway.ZeroHash, New: c}})
	w.ok(err)
	w.move("refs/heads/a", c)
	w.Settle(w.ctx, moved)
	w.wantPushes("refs/heads/a", "received", "accepted")
	w.wantPushes("refs/heads/b", "received", "refused")
	if r := w.runs("refs/heads/a"); len(r) != 1 || r[0].Actor != "mirror" {
		t.Errorf("runs %+v", r)
	}
	w.hooks.recordPush = func(p slipway.Push) error {
		if p.Ref == "refs/heads/d" {
			return slipway.Errorf(slipway.Unavailable, "no disk")
		}
		return nil
	}
	_, err = w.Seen(w.ctx, "shop", []act.Command{{Ref: "refs/heads/c", Old: slipway.ZeroHash, New: c}, {Ref: "refs/heads/d", Old: slipway.ZeroHash, New: c}})
	w.code(err, slipway.Unavailable)
	w.wantPushes("refs/heads/c", "received", "refused")
}

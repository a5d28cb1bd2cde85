package act_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// A service that changed runs, and its new approval takes the place of the old one.
func TestANewerChangeTakesThePlaceOfOneThatWaits(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	l.pushes(tree.with("README", "1"))
	next := l.pushes(changed(tree, "cart", "2"))
	l.wants(l.plan(next), map[string]string{"cart": fmt.Sprintf("; run #%d waits for people in live with it, and gives way when this one does", waits.ID)})
	l.wantAsking(fmt.Sprintf("cart of run #%d in live", next.ID))
	l.code(l.votes(waits, "cart", true), slipway.Conflict, fmt.Sprintf("of run #%d waits for the same approval", next.ID))
	l.wants(l.plan(l.pushes(changed(tree, "cart", "2").with("README", "2"))), map[string]string{"cart": leftTo(next)})
	l.quiets()
	l.wantIn("live", "cart", "2")
}

// A change that is taken back while it waits runs: development has the change, and its approval gives way, however
// many pushes there were between.
func TestARevertWhileTheChangeWaits(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	for n := range 3 {
		l.wants(l.plan(l.pushes(tree.with("README", fmt.Sprint(n)))), map[string]string{"cart": leftTo(waits)})
	}
	was := changed(tree, "cart", "0")
	back := l.pushes(was)
	l.wants(l.plan(back), map[string]string{"cart": fmt.Sprintf("but run #%d took it up since and is not done with it", waits.ID)})
	l.wantIn("development", "cart", "0")
	l.wantAsking(fmt.Sprintf("cart of run #%d in live", back.ID))
	l.code(l.votes(waits, "cart", true), slipway.Conflict)

	// The change again is not what waits, and what it was left to does not wait any more.
	again := l.pushes(tree)
	l.wants(l.plan(again), map[string]string{"cart": "runs: "})
	l.wantIn("development", "cart", "1")
	l.quiets()
	l.wantIn("live", "cart", "1")
}

// One that is taken back after the approval was rejected runs too: what it left in development is gone then.
func TestARevertAfterTheChangeWasRejected(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	l.pushes(tree.with("README", "1"))
	l.ok(l.votes(waits, "cart", false))
	l.works(waits)
	l.wants(l.plan(l.pushes(changed(tree, "cart", "0"))), map[string]string{"cart": "took it up since"})
	l.quiets()
	l.wantIn("development", "cart", "0")
	l.wantIn("live", "cart", "0")
}

// A newer run of a service that failed is what development has: nothing is left to the older one, which still waits.
func TestTheNewestRunOfAServiceCounts(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	broken := l.asked(refMain, changed(tree, "cart", "2"))
	for steps := l.ready(broken); len(steps) > 0; steps = l.ready(broken) {
		l.step(broken, steps[0], steps[0].Spec.Kind == slipway.KindDeploy)
	}
	l.wantAsking(fmt.Sprintf("cart of run #%d in live", waits.ID))
	next := l.pushes(tree.with("README", "1")) // the change that waits, again
	l.wants(l.plan(next), map[string]string{"cart": "runs: "})
	l.wantIn("development", "cart", "1")
	l.quiets()
	l.wantIn("live", "cart", "1")
}

// A service that was away and is back is not left to a run that may not deploy it any more.
func TestAServiceThatWaitsAndWasAway(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	gone := service("mail").with("src/mail/f", "0").with("lib/a", "1").with("slipway.yaml", approved)
	l.wants(l.plan(l.pushes(gone)), map[string]string{"cart": "removed"})
	next := l.pushes(tree)
	l.wants(l.plan(next), map[string]string{"cart": "runs: "})
	l.quiets()
	l.wantIn("live", "cart", "1")
	if d, err := l.store.Run(l.ctx, waits.ID); err != nil || d.Run.State != slipway.RunCancelled {
		t.Errorf("run %+v, %v", d.Run, err)
	}
}

// Somebody who rolled a service back since has development as nobody left it.
func TestAServiceThatWaitsAndWasRolledBack(t *testing.T) {
	t.Parallel()
	l, tree, _ := cartWaits(t, approved)
	key := slipway.StepKey(slipway.KindRollback, "cart", "development")
	r, err := l.store.CreateRun(l.ctx, slipway.Run{Project: "shop", Event: slipway.RollbackCall, Ref: "refs/environments/development", Commit: l.last, Actor: "bob"},
		slipway.Plan{Steps: []slipway.PlanStep{{Key: key, Kind: slipway.KindRollback, Service: "cart", Environment: "development"}}})
	l.ok(err)
	l.works(r)
	l.wants(l.plan(l.pushes(tree.with("README", "1"))), map[string]string{"cart": "runs: "})
}

// A version in quarantine is not waited for.
func TestAServiceThatWaitsAndIsInQuarantine(t *testing.T) {
	t.Parallel()
	l, tree, waits := cartWaits(t, approved)
	d, err := l.store.Run(l.ctx, waits.ID)
	l.ok(err)
	l.ok(l.store.Quarantine(l.ctx, "shop", "cart", d.Approvals[0].Version, "it is slow", "bob"))
	l.wants(l.plan(l.pushes(tree.with("README", "1"))), map[string]string{"cart": "runs: "})
}

// A plan that leaves a service to a run is stored only while that run waits: else it is made again.
func TestWhatWaitsEndsWhileAPlanIsMade(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends func(l *line, waits slipway.Run)
		says string
	}{
		"approved": {func(l *line, waits slipway.Run) { l.ok(l.votes(waits, "cart", true)) }, "runs: "},
		"approved, and done": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", true))
			l.works(waits)
		}, "skipped, the changed file"},
		"rejected":  {func(l *line, waits slipway.Run) { l.ok(l.votes(waits, "cart", false)) }, "runs: "},
		"cancelled": {func(l *line, waits slipway.Run) { l.ok(l.store.CancelRun(l.ctx, waits.ID, "ada", "")) }, "runs: "},
		"rejected, and retried": {func(l *line, waits slipway.Run) {
			l.ok(l.votes(waits, "cart", false))
			l.ok(l.store.RetryRun(l.ctx, waits.ID, "ada"))
			l.works(waits)
		}, "skipped, run #2 of the same"},
		"rolled back": {func(l *line, _ slipway.Run) {
			l.do(l.store.CreateRun(l.ctx, slipway.Run{Project: "shop", Event: slipway.RollbackCall, Ref: "refs/environments/development", Commit: l.last, Actor: "bob"},
				slipway.Plan{Steps: []slipway.PlanStep{{Key: "rollback/cart@development", Kind: slipway.KindRollback, Service: "cart", Environment: "development"}}}))
		}, "runs: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, tree, waits := cartWaits(t, approved)
			next := l.asked(refMain, tree.with("README", "1"))
			thought := l.think(next)
			if said := said(*thought.res.Next)["cart"]; !strings.Contains(said, leftTo(waits)) {
				t.Fatal(said)
			}
			c.ends(l, waits)
			l.keep(thought)
			if again := l.ready(next); len(again) != 1 || !strings.HasPrefix(again[0].Reason, "planned again: ") {
				t.Fatalf("ready %+v", again)
			}
			l.works(next)
			l.wants(l.plan(next), map[string]string{"cart": c.says, "mail": "skipped"})
			l.quiets()
			l.wantIn("live", "cart", "1")
		})
	}
}

// The order in which services are deployed holds within a run: one that comes after one that waits takes it along, as do
// those of which the way to people leads through another one's approval.
func TestServicesThatComeAfterOneThatWaits(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	tree := service("cart", "mail", "orders", "pages")
	tree = tree.with("slipway.yaml", approved+"services:\n  mail: {after: [cart]}\n  orders: {after: [mail]}\n")
	first := l.pushes(tree)
	if n := len(l.asking()); n != 4 {
		t.Fatalf("people are asked for %q", l.asking())
	}
	all := map[string]string{"cart": leftTo(first), "mail": leftTo(first), "orders": leftTo(first), "pages": leftTo(first)}
	l.wants(l.plan(l.pushes(tree.with("README", "1"))), all)

	// mail was agreed to, and waits for the approval of cart.
	l.ok(l.votes(first, "mail", true))
	l.works(first)
	all["mail"] = fmt.Sprintf("skipped, run #%d of the same code and configuration waits for the approval of cart in live", first.ID)
	l.wants(l.plan(l.pushes(tree.with("README", "2"))), all)

	tree = changed(tree, "orders", "1")
	l.wants(l.plan(l.pushes(tree)), map[string]string{"cart": "runs: ", "mail": "runs: ", "orders": "runs: ", "pages": leftTo(first)})
	l.quiets()
	for _, name := range []string{"cart", "mail", "pages"} {
		l.wantIn("live", name, "")
	}
	l.wantIn("live", "orders", "1")

	second := l.pushes(changed(tree, "mail", "1").with("src/cart/f", "1"))
	third := l.pushes(changed(tree, "mail", "1").with("src/cart/f", "2")) // what mail comes after
	l.wants(l.plan(third), map[string]string{"cart": "runs: ", "mail": fmt.Sprintf("; run #%d waits for people in live with it", second.ID), "orders": "skipped", "pages": "skipped"})
	l.quiets()
	l.wantIn("live", "cart", "2")
	l.wantIn("live", "mail", "1")
}

// Machines that are at work on one service do not keep another one from being left; and a push is not gathered behind
// a run that only waits for people.
func TestARunOfWhichAPartWaits(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	tree := service("cart", "mail").with("slipway.yaml", approved+"services:\n  cart: {trigger: {batch: true}}\n  mail: {trigger: {batch: true}}\n")
	first := l.asked(refMain, tree)
	l.step(first, l.ready(first)[0], false)
	for moved := true; moved; {
		moved = false
		for _, st := range l.ready(first) {
			if st.Spec.Service == "cart" {
				moved = l.step(first, st, false) || moved
			}
		}
	}
	next := l.pushes(tree.with("README", "1"))
	if next.State.Final() || !strings.Contains(next.Reason, "batch: begins when run #1 has ended") { // mail is to run, and is gathered
		t.Errorf("run %+v", next)
	}
	l.works(first)
	l.works(next)
	l.wants(l.plan(next), map[string]string{"cart": leftTo(first), "mail": leftTo(first)})

	// Without what gathers, mail runs again and cart is left.
	l = newLine(t)
	tree = service("cart", "mail").with("slipway.yaml", approved)
	first = l.asked(refMain, tree)
	l.step(first, l.ready(first)[0], false)
	for moved := true; moved; {
		moved = false
		for _, st := range l.ready(first) {
			if st.Spec.Service == "cart" {
				moved = l.step(first, st, false) || moved
			}
		}
	}
	l.wants(l.plan(l.pushes(tree.with("README", "1"))), map[string]string{"cart": leftTo(first), "mail": "runs: "})
}

// Services of several codebases wait together: what a change made run elsewhere has a part in it.
func TestServicesOfSeveralCodebasesThatWait(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	web, main := l.further("web", false), l.at("shop")
	push := func(c codebase, f files) (slipway.Run, string) {
		t.Helper()
		commit, told := c.push(refMain, f)
		l.trees[commit] = f
		run := l.allRuns()[0]
		return l.works(run), told
	}
	agree := func() {
		t.Helper()
		for n := 0; len(l.asking()) > 0; n++ {
			open, err := l.store.Approvals(l.ctx, "shop", slipway.ApprovalWaiting)
			l.ok(err)
			l.do(l.store.Vote(l.ctx, open[0].ID, slipway.Vote{User: "bob", Approve: true, Reason: "so"}, slipway.Approvals{}))
			for _, run := range l.allRuns() {
				l.works(run)
			}
		}
	}
	pages := docker("pages").with("slipway.yaml", "services: {pages: {dependsOn: [api]}}\n")
	f := docker("api", "mail", "cart").with("slipway.yaml", approved)
	push(main, f)
	agree()
	push(web, pages)
	agree()
	waits, _ := push(main, f.with("src/api/a", "1").with("src/mail/a", "1"))
	l.wantAsking(fmt.Sprintf("api of run #%d in live", waits.ID), fmt.Sprintf("mail of run #%d in live", waits.ID), fmt.Sprintf("pages of run #%d in live", waits.ID))
	f = f.with("src/api/a", "1").with("src/mail/a", "1")

	// Neither codebase disturbs what waits with a push that has nothing of it.
	_, told := push(main, f.with("README", "1"))
	l.says(told, "api: "+leftTo(waits), "mail: "+leftTo(waits), "cart: skipped")
	if strings.Contains(told, "pages: runs") {
		t.Error(told)
	}
	_, told = push(web, pages.with("README", "1"))
	l.says(told, "pages: skipped")
	l.wantAsking(fmt.Sprintf("api of run #%d in live", waits.ID), fmt.Sprintf("mail of run #%d in live", waits.ID), fmt.Sprintf("pages of run #%d in live", waits.ID))

	// A push of the other codebase takes pages up, without which main is not done with api: that runs again, and mail does not.
	push(web, pages.with("src/pages/a", "1"))
	_, told = push(main, f.with("README", "2"))
	l.says(told, "api: runs: ", "mail: "+leftTo(waits), "pages: runs: ", "cart: skipped")
	agree()
	_, told = push(main, f.with("README", "3"))
	l.says(told, "api: skipped, ", "mail: skipped, ", "cart: skipped")
	if strings.Contains(told, "waits for") {
		t.Error(told)
	}

	// What governs is the main codebase's: another of its environments is one of the services of web too.
	waits, _ = push(web, pages.with("src/pages/a", "2"))
	_, told = push(web, pages.with("src/pages/a", "2").with("README", "2"))
	l.says(told, "pages: "+leftTo(waits))
	push(main, f.with("README", "3").with("slipway.yaml", strings.Replace(approved, "required: 1", "required: 2", 1)))
	_, told = push(web, pages.with("src/pages/a", "2").with("README", "3"))
	l.says(told, "pages: runs: ")
}

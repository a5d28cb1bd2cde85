package act_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// ready is a pull request whose run succeeded.
func (w *world) ready(topic string, from string, f files) slipway.PullRequest {
	w.t.Helper()
	p, _ := w.propose(w.developer, topic, w.commit(from, topic, f))
	w.succeed(w.runs(p.Ref())[0].ID)
	return p
}

func TestAProjectThatIsNotThereIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.Runs(w.ctx, w.admin, slipway.RunFilter{Project: "shpo"})
	w.code(err, slipway.NotFound, `project "shpo" does not exist`)
	_, err = w.Releases(w.ctx, w.admin, slipway.ReleaseFilter{Project: "shpo", Service: "cart"})
	w.code(err, slipway.NotFound, `project "shpo" does not exist`)
	_, err = w.Pulls(w.ctx, w.admin, "shpo")
	w.code(err, slipway.NotFound, `project "shpo" does not exist`)
	_, err = w.Runs(w.ctx, w.stranger, slipway.RunFilter{Project: "shpo"})
	w.code(err, slipway.NotFound, "no role")
}

func TestPropose(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	head := w.commit(c, "cart: faster", service("cart", "mail").with("src/cart/x", "x"))
	p, said := w.propose(w.developer, "", head)
	w.says(said, "pull request 1 into main opened: cart: faster", "slipway merge 1", "cart: runs", "mail: skipped")
	if p.Number != 1 || p.Head != head || p.Author != "developer" || p.State != slipway.PullOpen || w.ref(p.Ref()) != head {
		t.Errorf("opened %+v", p)
	}
	r := w.runs(p.Ref())[0]
	if r.Event != slipway.PullUpdate || r.Pull != 1 || r.Base != "main" || r.Title != "cart: faster" {
		t.Errorf("its run is %+v", r)
	}

	_, said = w.propose(w.developer, "", head)
	w.says(said, "pull request 1 is at "+slipway.ShortHash(head)+" already: nothing runs")
	w.wantPushes(p.Ref(), "received", "accepted")

	amended := w.commit(c, strings.Repeat("long ", 100)+"\nmore", service("cart", "mail").with("src/cart/x", "y"))
	p, said = w.propose(w.developer, "", amended)
	w.says(said, "pull request 1 into main updated")
	if p.Head != amended || len([]rune(p.Title)) > 200 || w.ref(p.Ref()) != amended {
		t.Errorf("updated %+v", p)
	}
	if other, _ := w.propose(w.developer, "topic", amended); other.Number != 2 {
		t.Errorf("another topic is pull request %d", other.Number)
	}
	if other, _ := w.propose(w.approver, "", amended); other.Number != 3 {
		t.Errorf("another author is pull request %d", other.Number)
	}
}

func TestRefusedProposals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	head := w.commit(c, "more", service("cart"))
	w.do(w.store.CreateProject(w.ctx, slipway.Project{Name: "outside", GitURL: "https://git.test/x.git"}, "admin"))
	for name, x := range map[string]struct {
		by   slipway.User
		in   act.Proposal
		code slipway.Code
		says string
	}{
		"nobody":           {slipway.User{}, act.Proposal{Project: "shop", Base: base, Head: head}, slipway.Unauthorized, "sign in"},
		"a viewer":         {w.viewer, act.Proposal{Project: "shop", Base: base, Head: head}, slipway.Forbidden, "may not open pull requests in shop"},
		"a stranger":       {w.stranger, act.Proposal{Project: "shop", Base: base, Head: head}, slipway.NotFound, "no role"},
		"no such branch":   {w.developer, act.Proposal{Project: "shop", Base: "mian", Head: head}, slipway.NotFound, `no branch "mian"`},
		"nothing to merge": {w.developer, act.Proposal{Project: "shop", Base: base, Head: c}, slipway.Conflict, "has commit " + slipway.ShortHash(c) + " already"},
		"an unknown head":  {w.developer, act.Proposal{Project: "shop", Base: base, Head: strings.Repeat("1", 40)}, slipway.NotFound, "1111"},
		"a mirror":         {w.admin, act.Proposal{Project: "outside", Base: base, Head: head}, slipway.Forbidden, "mirrors"},
	} {
		push, lines, err := w.Propose(w.ctx, x.by, x.in)
		if slipway.ErrorCode(err) != x.code || !strings.Contains(err.Error(), x.says) || push.ID != 0 || lines != nil {
			t.Errorf("%s: %+v, %q, %v; want %s and %q", name, push, lines, err, x.code, x.says)
		}
	}
	all, err := w.Pulls(w.ctx, w.viewer, "shop")
	w.ok(err)
	if len(all) != 0 {
		t.Errorf("refused proposals opened %+v", all)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p := w.ready("", c, service("cart", "mail").with("src/cart/x", "x"))
	p, err := w.Merge(w.ctx, w.developer, "shop", p.Number)
	w.ok(err)
	tip := w.ref("refs/heads/main")
	if p.State != slipway.PullMerged || p.MergedAs != tip {
		t.Errorf("merged %+v, main is at %s", p, tip)
	}
	info, err := w.repo.CommitInfo(w.ctx, tip)
	w.ok(err)
	if strings.Join(info.Parents, " ") != c+" "+p.Head || !strings.HasPrefix(info.Subject, "Merge pull request 1: commit ") || info.Author != "developer" {
		t.Errorf("merge commit %+v", info)
	}
	r := w.runs("refs/heads/main")
	if len(r) != 2 || r[0].Event != slipway.DefaultPush || r[0].Commit != tip || r[0].Actor != "developer" {
		t.Errorf("runs of main: %+v", r)
	}
	_, err = w.Merge(w.ctx, w.developer, "shop", p.Number)
	w.code(err, slipway.Conflict, "pull request 1 is merged")
}

func TestWhoAndWhatMayMerge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.commit("", "first", service("cart", "mail").with("slipway.yaml", "version: 1\npullRequests:\n  approvals: 2\n"))
	w.push(w.approver, "refs/heads/main", c)
	p, _ := w.propose(w.developer, "", w.commit(c, "x", service("cart", "mail").with("src/cart/x", "x")))
	merge := func(by slipway.User) error {
		_, err := w.Merge(w.ctx, by, "shop", 1)
		return err
	}
	w.code(merge(slipway.User{}), slipway.Unauthorized)
	w.code(merge(w.viewer), slipway.Forbidden, "merge")
	w.code(merge(w.stranger), slipway.NotFound)
	_, err := w.Merge(w.ctx, w.developer, "shop", 7)
	w.code(err, slipway.NotFound, "#7")
	w.code(merge(w.developer), slipway.Conflict, "when run #2 has succeeded: it is queued (http://slipway.test/runs/2)")
	w.finish(2, "plan", slipway.Result{Outcome: slipway.Failed, Reason: "red"})
	w.code(merge(w.developer), slipway.Conflict, "it is failed")

	p, _ = w.propose(w.developer, "", w.commit(p.Head, "mend", service("cart", "mail").with("src/cart/x", "y")))
	w.succeed(3)
	w.code(merge(w.developer), slipway.Conflict, "needs 2 approvals and has 0 (slipway pulls approve 1)")
	review := func(by slipway.User) error {
		_, err := w.ReviewPull(w.ctx, by, "shop", 1, w.pull(1).Head)
		return err
	}
	w.code(review(w.developer), slipway.Forbidden)
	w.code(review(w.stranger), slipway.NotFound)
	w.ok(review(w.approver))
	w.code(review(w.approver), slipway.Conflict, "approved pull request #1 already")
	w.code(merge(w.developer), slipway.Conflict, "needs 2 approvals and has 1")
	w.ok(review(w.admin))

	// A new head starts from none, and has a run of its own to wait for.
	p, _ = w.propose(w.developer, "", w.commit(p.Head, "again", service("cart", "mail").with("src/cart/x", "z")))
	w.code(merge(w.developer), slipway.Conflict, "when run #4 has succeeded")
	w.succeed(4)
	w.code(merge(w.developer), slipway.Conflict, "has 0")
	w.ok(review(w.approver))
	w.ok(review(w.admin))
	w.ok(merge(w.developer))

	own, _ := w.propose(w.approver, "", w.commit(w.ref("refs/heads/main"), "own", service("cart")))
	_, err = w.ReviewPull(w.ctx, w.approver, "shop", own.Number, own.Head)
	w.code(err, slipway.Forbidden, "opened pull request 2")

	_, err = w.ClosePull(w.ctx, w.viewer, "shop", own.Number)
	w.code(err, slipway.Forbidden, "may not close pull requests of shop")
	_, err = w.ClosePull(w.ctx, w.stranger, "shop", own.Number)
	w.code(err, slipway.NotFound)
	if closed, err := w.ClosePull(w.ctx, w.developer, "shop", own.Number); err != nil || closed.State != slipway.PullClosed {
		t.Errorf("closed: %+v, %v", closed, err)
	}
	_, err = w.ClosePull(w.ctx, w.developer, "shop", own.Number)
	w.code(err, slipway.Conflict, "is closed already")
	closed, err := w.store.Events(w.ctx, 0, slipway.EventFilter{Kind: "pull.closed"})
	w.ok(err)
	if len(closed) != 1 || closed[0].Actor != "developer" {
		t.Errorf("events: %+v", closed)
	}
	_, err = w.Merge(w.ctx, w.admin, "shop", own.Number)
	w.code(err, slipway.Conflict, "is closed")
	_, err = w.Pull(w.ctx, w.stranger, "shop", own.Number)
	w.code(err, slipway.NotFound)
	w.do(w.Pull(w.ctx, w.viewer, "shop", own.Number))
}

func TestMergeOfWhatIsNotThereAnyMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	w.push(w.developer, "refs/heads/side", c)
	head := w.commit(c, "x", service("cart"))
	push, _, err := w.Propose(w.ctx, w.developer, act.Proposal{Project: "shop", Base: "side", Head: head})
	w.ok(err)
	w.move(push.Ref, head)
	w.Moved(w.ctx, []slipway.Push{push})
	w.succeed(w.runs(push.Ref)[0].ID)
	w.push(w.developer, "refs/heads/side", slipway.ZeroHash)
	_, err = w.Merge(w.ctx, w.developer, "shop", 1)
	w.code(err, slipway.Conflict, "branch side, which does not exist any more")
	w.do(w.store.CreateProject(w.ctx, slipway.Project{Name: "outside", GitURL: "https://git.test/x.git"}, "admin"))
	_, err = w.Merge(w.ctx, w.admin, "outside", 1)
	w.code(err, slipway.Forbidden, "mirrors")
}

func TestMergeConflict(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p := w.ready("", c, service("cart", "mail").with("src/cart/x", "ours"))
	w.push(w.approver, "refs/heads/main", w.commit(c, "theirs", service("cart", "mail").with("src/cart/x", "theirs")))
	before := w.ref("refs/heads/main")
	_, err := w.Merge(w.ctx, w.developer, "shop", p.Number)
	w.code(err, slipway.Conflict, "src/cart/x")
	if w.ref("refs/heads/main") != before || w.pull(1).State != slipway.PullOpen {
		t.Errorf("main is at %s, the pull request is %s", w.ref("refs/heads/main"), w.pull(1).State)
	}
}

func TestTheBaseMovesDuringAMerge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p := w.ready("", c, service("cart", "mail").with("src/cart/x", "x"))
	moved := w.commit(c, "in between", service("cart", "mail").with("src/mail/y", "y"))
	w.hooks.beforeUpdateRef = func() {
		w.hooks.beforeUpdateRef = nil
		w.push(w.approver, "refs/heads/main", moved)
	}
	_, err := w.Merge(w.ctx, w.developer, "shop", p.Number)
	w.code(err, slipway.Conflict, "moved while pull request 1 was merged")
	w.wantPushes("refs/heads/main", "received", "accepted", "received", "received", "accepted", "refused")
	if w.pull(1).State != slipway.PullOpen {
		t.Errorf("the pull request is %s", w.pull(1).State)
	}
	w.do(w.Merge(w.ctx, w.developer, "shop", p.Number))
	info, err := w.repo.CommitInfo(w.ctx, w.ref("refs/heads/main"))
	w.ok(err)
	if info.Parents[0] != moved {
		t.Errorf("merged onto %s", info.Parents[0])
	}
}

func TestMergeOntoAFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.ready("", w.main(), service("cart"))
	full := errors.New("no space left on device")
	w.hooks.updateRef = full
	_, err := w.Merge(w.ctx, w.developer, "shop", p.Number)
	if !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	w.wantPushes("refs/heads/main", "received", "accepted", "received", "refused")
	w.hooks.updateRef = nil
	w.do(w.Merge(w.ctx, w.developer, "shop", p.Number))
}

// A merge goes on when whoever asked hangs up in the middle.
func TestMergeOfSomebodyWhoHangsUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.ready("", w.main(), service("cart"))
	ctx, hangUp := context.WithCancel(w.ctx)
	w.hooks.beforeUpdateRef = hangUp
	w.do(w.Merge(ctx, w.developer, "shop", p.Number))
	if runs := w.runs("refs/heads/main"); w.pull(1).State != slipway.PullMerged || len(runs) != 2 {
		t.Errorf("the pull request is %s, main has %d runs", w.pull(1).State, len(runs))
	}
}

// Of many merges at once one wins; main has one merge commit and one run more.
func TestMergesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.ready("", w.main(), service("cart"))
	const n = 8
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { _, errs[i] = w.Merge(w.ctx, w.developer, "shop", p.Number) })
	}
	all.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		w.code(err, slipway.Conflict, "is merged")
	}
	if runs := w.runs("refs/heads/main"); won != 1 || len(runs) != 2 || runs[0].Commit != w.pull(1).MergedAs {
		t.Errorf("%d won, main has %d runs", won, len(runs))
	}
	w.wantPushes("refs/heads/main", "received", "accepted", "received", "accepted")
}

// Whatever moves a branch over the head of a pull request has merged it.
func TestMergedByAPush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p := w.ready("", c, service("cart"))
	above, _ := w.propose(w.developer, "above", w.commit(p.Head, "above", service("mail")))
	apart, _ := w.propose(w.developer, "apart", w.commit(c, "apart", service("cart", "mail", "shop")))
	w.says(w.push(w.approver, "refs/heads/main", p.Head), "pull request 1 is merged by this", "run #")
	if got := w.pull(1); got.State != slipway.PullMerged || got.MergedAs != p.Head {
		t.Errorf("pull request 1: %+v", got)
	}
	for _, n := range []int64{above.Number, apart.Number} {
		if got := w.pull(n); got.State != slipway.PullOpen {
			t.Errorf("pull request %d is %s", n, got.State)
		}
	}
}

// The base has the head already, and nobody has said so: there is nothing to move and nothing to run.
func TestMergeOfWhatTheBaseHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.ready("", w.main(), service("cart"))
	w.move("refs/heads/main", p.Head)
	p, err := w.Merge(w.ctx, w.developer, "shop", p.Number)
	w.ok(err)
	if p.State != slipway.PullMerged || p.MergedAs != p.Head || w.ref("refs/heads/main") != p.Head {
		t.Errorf("merged %+v", p)
	}
	if runs := w.runs("refs/heads/main"); len(runs) != 1 {
		t.Errorf("main has %d runs", len(runs))
	}
}

// A crash between the move of the base and the end of the pull request is mended at the next start, and
// so is one a moment later.
func TestRecoverMerge(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(*hooks, error){
		"before the pull request ends": func(h *hooks, err error) { h.mergePull, h.acceptPush = err, err },
		"before its run is made":       func(h *hooks, err error) { h.acceptPush = err },
	} {
		w := newWorld(t)
		p := w.ready("", w.main(), service("cart"))
		gone := errors.New("killed")
		crash(w.hooks, gone)
		if _, err := w.Merge(w.ctx, w.developer, "shop", p.Number); err != nil && !errors.Is(err, gone) {
			t.Fatalf("%s: %v", name, err)
		}
		merge := w.ref("refs/heads/main")
		*w.hooks = hooks{}
		w.restart()
		w.ok(w.Recover(w.ctx))
		if got := w.pull(1); got.State != slipway.PullMerged || got.MergedAs != merge || merge == p.Head {
			t.Errorf("%s: pull request %+v, main at %s", name, got, merge)
		}
		if runs := w.runs("refs/heads/main"); len(runs) != 2 || runs[0].Commit != merge || runs[0].Actor != "developer" {
			t.Errorf("%s: runs of main: %+v", name, runs)
		}
		w.wantPushes("refs/heads/main", "received", "accepted", "received", "accepted")
	}
}

// Pull requests whose head came into their base while nobody looked are merged at the next start.
func TestRecoverPulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p := w.ready("", c, service("cart"))
	apart := w.ready("apart", c, service("mail"))
	w.move("refs/heads/main", p.Head)
	w.ok(w.Recover(w.ctx))
	if got := w.pull(1); got.State != slipway.PullMerged || got.MergedAs != p.Head {
		t.Errorf("%+v", got)
	}
	if got := w.pull(apart.Number); got.State != slipway.PullOpen {
		t.Errorf("%+v", got)
	}
}

// One person alone does not change what governs deployments (D14).
func TestAChangeOfWhatGovernsNeedsAnApprover(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p := w.ready("", c, service("cart").with("slipway.yaml", "version: 1\nenvironments:\n  - name: production\n    production: true\n    trigger: release\n    approvals:\n      required: 0\n"))
	_, err := w.Merge(w.ctx, w.developer, "shop", p.Number)
	w.code(err, slipway.Forbidden, "changes what governs deployments", "slipway pulls approve")
	w.do(w.ReviewPull(w.ctx, w.approver, "shop", p.Number, p.Head))
	w.do(w.Merge(w.ctx, w.developer, "shop", p.Number))
}

// What was looked at is approved, and nothing that came since.
func TestReviewOfAHeadThatMoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.main()
	p, _ := w.propose(w.developer, "", w.commit(c, "x", service("cart", "mail").with("src/cart/x", "x")))
	seen := p.Head
	p, _ = w.propose(w.developer, "", w.commit(seen, "evil", service("cart", "mail").with("src/cart/x", "evil")))
	_, err := w.ReviewPull(w.ctx, w.approver, "shop", p.Number, seen)
	w.code(err, slipway.Conflict, "is at "+p.Head[:7]+", not any more at "+seen[:7])
	for _, short := range []string{"", p.Head[:7], strings.ToUpper(p.Head), p.Head + "0", "refs/heads/main"} {
		_, err = w.ReviewPull(w.ctx, w.approver, "shop", p.Number, short)
		w.code(err, slipway.Invalid, "whole hash")
	}
	if got := w.pull(p.Number); len(got.Reviewers) > 0 {
		t.Errorf("approved by %v", got.Reviewers)
	}
	w.do(w.ReviewPull(w.ctx, w.approver, "shop", p.Number, p.Head))
}

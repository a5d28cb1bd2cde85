package store

import (
	"reflect"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestAPushIsRecordedAcceptedOnceOrRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	push := slipway.Push{Project: "shop", Ref: "refs/heads/main", Old: slipway.ZeroHash, New: commitA, Actor: "ada"}
	one, err := w.RecordPush(w.ctx, push)
	w.ok(err)
	same, err := w.RecordPush(w.ctx, push) // the hook ran again
	w.ok(err)
	if one.ID != same.ID || one.State != slipway.PushReceived {
		t.Errorf("recorded as %+v, then as %+v", one, same)
	}
	open, err := w.OpenPushes(w.ctx)
	w.ok(err)
	if len(open) != 1 {
		t.Fatalf("open: %+v", open)
	}
	run := &slipway.Run{Event: slipway.DefaultPush, Ref: push.Ref, Commit: commitA, Actor: "ada"}
	r, err := w.AcceptPush(w.ctx, one.ID, run, slipway.Plan{}, "run made")
	w.ok(err)
	again, err := w.AcceptPush(w.ctx, one.ID, run, slipway.Plan{}, "run made")
	w.ok(err)
	if r.ID == 0 || again.ID != r.ID || r.Project != "shop" {
		t.Errorf("accepted as run %+v, then as %+v", r, again)
	}
	runs, err := w.Runs(w.ctx, slipway.RunFilter{})
	w.ok(err)
	if len(runs) != 1 {
		t.Errorf("%d runs", len(runs))
	}
	w.states(r.ID, "plan", "ready")
	w.code(w.RefusePush(w.ctx, one.ID, "no"), slipway.Conflict)

	bad, err := w.RecordPush(w.ctx, slipway.Push{Project: "shop", Ref: "refs/heads/release/x/v1", Old: slipway.ZeroHash, New: commitB, Actor: "ada"})
	w.ok(err)
	w.ok(w.RefusePush(w.ctx, bad.ID, "no service x"))
	w.ok(w.RefusePush(w.ctx, bad.ID, "no service x"))
	_, err = w.AcceptPush(w.ctx, bad.ID, run, slipway.Plan{}, "")
	w.code(err, slipway.Conflict)
	_, err = w.AcceptPush(w.ctx, 999, run, slipway.Plan{}, "")
	w.code(err, slipway.NotFound)

	gone, err := w.RecordPush(w.ctx, slipway.Push{Project: "shop", Ref: "refs/heads/main", Old: commitA, New: slipway.ZeroHash, Actor: "ada"})
	w.ok(err)
	seen, err := w.SeenRefs(w.ctx, "shop", "")
	w.ok(err)
	if want := map[string]string{"refs/heads/main": commitA}; !reflect.DeepEqual(seen, want) {
		t.Errorf("seen: %v", seen)
	}
	none, err := w.AcceptPush(w.ctx, gone.ID, nil, slipway.Plan{}, "branch deleted, nothing runs")
	w.ok(err)
	if none.ID != 0 {
		t.Errorf("run: %+v", none)
	}
	if seen, err = w.SeenRefs(w.ctx, "shop", ""); err != nil || len(seen) != 0 {
		t.Errorf("seen: %v %v", seen, err)
	}
	_, err = w.RecordPush(w.ctx, slipway.Push{Project: "nowhere", Ref: "refs/heads/main"})
	if err == nil {
		t.Error("a push of no project is recorded")
	}
}

func TestAnAcceptedPushThatCannotRunStaysOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	push, err := w.RecordPush(w.ctx, slipway.Push{Project: "shop", Ref: "refs/heads/main", New: commitA})
	w.ok(err)
	_, err = w.AcceptPush(w.ctx, push.ID, &slipway.Run{Event: slipway.DefaultPush, Ref: push.Ref, Commit: commitA}, steps(p("a", "b")), "")
	w.code(err, slipway.Invalid)
	if p, err := w.Push(w.ctx, push.ID); err != nil || p.State != slipway.PushReceived {
		t.Errorf("push: %+v %v", p, err)
	}
}

func TestPullRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "other"}, "ada"))
	pr := slipway.PullRequest{Project: "shop", Title: "Add a menu", Base: "main", Topic: "menu", Head: commitA, Author: "ada"}
	one, opened, err := w.OpenPull(w.ctx, pr)
	w.ok(err)
	if !opened || one.Number != 1 || one.State != slipway.PullOpen || one.Ref() != "refs/pull/1/head" {
		t.Errorf("opened: %+v", one)
	}
	pr.Head = commitB
	same, opened, err := w.OpenPull(w.ctx, pr)
	w.ok(err)
	if opened || same.Number != 1 || same.Head != commitB || same.Title != "Add a menu" {
		t.Errorf("updated: %+v", same)
	}
	pr.Topic = "other"
	two, opened, err := w.OpenPull(w.ctx, pr)
	w.ok(err)
	if !opened || two.Number != 2 {
		t.Errorf("opened: %+v", two)
	}
	pr.Project = "other"
	if first, _, err := w.OpenPull(w.ctx, pr); err != nil || first.Number != 1 {
		t.Errorf("numbers are per project: %+v %v", first, err)
	}
	_, err = w.MergePull(w.ctx, "shop", 1, commitA, "m", "bob") // moved meanwhile
	w.code(err, slipway.Conflict)
	merged, err := w.MergePull(w.ctx, "shop", 1, commitB, "cafe", "bob")
	w.ok(err)
	if merged.State != slipway.PullMerged || merged.MergedAs != "cafe" {
		t.Errorf("merged: %+v", merged)
	}
	_, err = w.MergePull(w.ctx, "shop", 1, commitB, "cafe", "bob")
	w.code(err, slipway.Conflict)
	_, err = w.Pull(w.ctx, "shop", 9)
	w.code(err, slipway.NotFound)
	w.do(w.ClosePull(w.ctx, "shop", 2, "ada"))
	pr.Project, pr.Topic = "shop", "menu"
	third, opened, err := w.OpenPull(w.ctx, pr)
	w.ok(err)
	if !opened || third.Number != 3 {
		t.Errorf("after the merge: %+v", third)
	}
	for state, want := range map[slipway.PullState]int{"": 3, slipway.PullOpen: 1, slipway.PullMerged: 1, slipway.PullClosed: 1} {
		ps, err := w.Pulls(w.ctx, "shop", state)
		w.ok(err)
		if len(ps) != want {
			t.Errorf("%d pull requests are %q, want %d", len(ps), state, want)
		}
	}
}

func TestProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.CreateProject(w.ctx, slipway.Project{Name: "shop"}, "ada")
	w.code(err, slipway.Conflict)
	for _, name := range []string{"", "Shop", "../etc", "-rf", "a/b"} {
		_, err := w.CreateProject(w.ctx, slipway.Project{Name: name}, "ada")
		w.code(err, slipway.Invalid)
	}
	_, err = w.CreateProject(w.ctx, slipway.Project{Name: "x", DefaultBranch: "--upload-pack=x"}, "ada")
	w.code(err, slipway.Invalid)
	pr, err := w.Project(w.ctx, "shop")
	w.ok(err)
	if pr.DefaultBranch != "main" || pr.CreatedAt.IsZero() {
		t.Errorf("project: %+v", pr)
	}
	_, err = w.Project(w.ctx, "nowhere")
	w.code(err, slipway.NotFound)
	all, err := w.Projects(w.ctx)
	w.ok(err)
	if len(all) != 1 {
		t.Errorf("projects: %+v", all)
	}
	_, err = w.CreateRun(w.ctx, slipway.Run{Project: "nowhere", Event: slipway.DefaultPush}, slipway.Plan{})
	w.code(err, slipway.NotFound)
}

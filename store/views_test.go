package store

import (
	"reflect"
	"sort"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

const digestA = "sha256:aaaaaaaa11112222333344445555666677778888999900001111222233334444"

// delivered makes a release that is in prod, with all that belongs to it.
func delivered(w *world) slipway.Run {
	r := w.newRun("refs/heads/release/delivery/v1.0.2", commitA, steps(p("build/delivery"), p("publish/delivery", "build/delivery"),
		p("approve/delivery@prod", "publish/delivery"), p("deploy/delivery@prod", "approve/delivery@prod")))
	w.finish(r.ID, "build/delivery", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "registry.local/shop/delivery", Digest: digestA}}})
	w.finish(r.ID, "publish/delivery", slipway.Result{
		Outcome: slipway.Succeeded,
		Artifacts: []slipway.Artifact{
			{Kind: slipway.ArtifactImage, Repository: "registry.local/shop/delivery", Tag: "v1.0.2", Digest: digestA},
			{Kind: slipway.ArtifactChart, Repository: "registry.local/shop/charts/delivery", Tag: "1.0.2", Digest: "sha256:cccccccc"},
		},
		Release: &slipway.Release{Version: "v1.0.2", ImageDigest: digestA, ChartDigest: "sha256:cccccccc"},
	})
	w.finish(r.ID, "approve/delivery@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.0.2", ImageDigest: digestA}})
	as, err := w.Approvals(w.ctx, "shop", slipway.ApprovalWaiting)
	w.ok(err)
	w.do(w.Vote(w.ctx, as[0].ID, yes("bob"), slipway.Approvals{}))
	w.finish(r.ID, "deploy/delivery@prod", slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{{
		Target:  slipway.Target{Environment: "prod", Service: "delivery", Release: "delivery", Namespace: "shop-prod"},
		Version: "v1.0.2", Commit: commitA, Image: "registry.local/prod/shop/delivery", Tag: "v1.0.2", ImageDigest: digestA, ChartDigest: "sha256:cccccccc",
		Revision: 3, State: slipway.Verified,
	}}})
	return r
}

func TestTraceFindsTheChainByAnyID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	noise := w.newRun("refs/heads/main", commitB, steps(p("build/delivery")))
	w.finish(noise.ID, "build/delivery", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{{Kind: slipway.ArtifactImage, Digest: "sha256:bbbbbbbb"}}})
	r := delivered(w)
	back, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.RollbackCall, Ref: "refs/heads/main", Commit: commitB}, steps(p("rollback/delivery@prod")))
	w.ok(err)
	w.finish(back.ID, "rollback/delivery@prod", slipway.Result{Outcome: slipway.Succeeded, Deployments: []slipway.Deployment{{
		Target: slipway.Target{Environment: "prod", Service: "delivery", Release: "delivery"}, Version: "v1.0.2", Commit: commitA, ImageDigest: digestA, Revision: 5, State: slipway.Verified,
	}}})
	for query, matched := range map[string]string{
		commitA: "commit", commitA[:6]: "commit", strings.ToUpper(commitA[:7]): "commit",
		"release/delivery/v1.0.2": "branch", "refs/heads/release/delivery/v1.0.2": "branch",
		"v1.0.2": "tag", "1.0.2": "tag", "delivery@v1.0.2": "version", "delivery@1.0.2": "version",
		digestA: "digest", digestA[:16]: "digest", digestA[7:]: "digest", "sha256:cccccccc": "digest",
		"#2": "run", "2": "run", " 2 ": "run",
		"delivery/3": "revision", "delivery/5": "revision",
		"registry.local/shop/delivery:v1.0.2": "image", "registry.local/prod/shop/delivery:v1.0.2": "image",
		"registry.local/prod/shop/delivery@" + digestA: "image", "oci://registry.local/shop/charts/delivery": "image",
	} {
		tr, err := w.Trace(w.ctx, "", query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
			continue
		}
		if !contains(tr.Matched, matched) {
			t.Errorf("%s: matched as %v, want %s", query, tr.Matched, matched)
		}
		var runs []int64
		for _, v := range tr.Runs {
			runs = append(runs, v.ID)
		}
		if query == "delivery/5" {
			continue // begins at the rollback, below
		}
		if want := []int64{back.ID, r.ID}; !reflect.DeepEqual(runs, want) {
			t.Errorf("%s: runs %v, want %v", query, runs, want)
		}
		if len(tr.Artifacts) != 3 || len(tr.Releases) != 1 || len(tr.Deployments) != 2 || len(tr.Approvals) != 1 || tr.Project != "shop" || tr.Commits[1] != commitA {
			t.Errorf("%s: %d artifacts, %d releases, %d deployments, %d approvals, commits %v", query, len(tr.Artifacts), len(tr.Releases), len(tr.Deployments), len(tr.Approvals), tr.Commits)
		}
	}
	tr, err := w.Trace(w.ctx, "shop", "delivery/5")
	w.ok(err)
	if len(tr.Releases) != 1 || len(tr.Deployments) != 2 {
		t.Errorf("from the rollback: %d releases, %d deployments", len(tr.Releases), len(tr.Deployments))
	}
	for query, code := range map[string]slipway.Code{
		"": slipway.Invalid, strings.Repeat("x", 501): slipway.Invalid, "nothing": slipway.NotFound, "abcdef": slipway.NotFound, "#99": slipway.NotFound,
		"' OR 1=1 --": slipway.NotFound, "delivery@": slipway.NotFound, "%": slipway.NotFound, "x/y": slipway.NotFound,
	} {
		_, err := w.Trace(w.ctx, "", query)
		if slipway.ErrorCode(err) != code {
			t.Errorf("trace of %q: %v, want %s", query, err, code)
		}
	}
	_, err = w.Trace(w.ctx, "other", commitA)
	w.code(err, slipway.NotFound)
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func TestBoard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, err := w.Board(w.ctx, "shop", []string{"menu"}, []string{"qa", "prod"})
	w.ok(err)
	if len(b.Rows) != 1 || len(b.Rows[0].Cells) != 2 || b.Rows[0].LastRun != nil {
		t.Errorf("empty board: %+v", b)
	}
	r := delivered(w)
	next := w.newRun("refs/heads/release/delivery/v1.1.0", commitB, steps(p("approve/delivery@prod")))
	w.finish(next.ID, "approve/delivery@prod", slipway.Result{Outcome: slipway.Waiting, Approval: &slipway.Approval{Version: "v1.1.0"}})
	b, err = w.Board(w.ctx, "shop", []string{"menu"}, []string{"qa"})
	w.ok(err)
	if want := []string{"qa", "prod"}; !reflect.DeepEqual(b.Environments, want) {
		t.Errorf("environments: %v", b.Environments)
	}
	if len(b.Rows) != 2 || b.Rows[0].Service != "menu" || b.Rows[1].Service != "delivery" {
		t.Fatalf("rows: %+v", b.Rows)
	}
	c := b.Rows[1].Cells[1]
	if c.Environment != "prod" || c.Current == nil || c.Current.RunID != r.ID || c.Approval == nil || c.Approval.Version != "v1.1.0" || c.Pending != nil {
		t.Errorf("cell: %+v", c)
	}
	if b.Rows[1].LastRun == nil || b.Rows[1].LastRun.ID != next.ID {
		t.Errorf("last run: %+v", b.Rows[1].LastRun)
	}
}

func TestRunsAndEventsAreFiltered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "other"}, "ada"))
	a := w.newRun("refs/heads/feature/a", commitA, steps(p("build/a")))
	b := w.newRun("refs/heads/feature/b", commitB, steps(p("build/b")))
	o, err := w.CreateRun(w.ctx, slipway.Run{Project: "other", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commitA}, steps(p("build/a")))
	w.ok(err)
	w.finish(a.ID, "build/a", succeeded)
	for name, c := range map[string]struct {
		f    slipway.RunFilter
		want []int64
	}{
		"all":     {slipway.RunFilter{}, []int64{o.ID, b.ID, a.ID}},
		"project": {slipway.RunFilter{Project: "shop"}, []int64{b.ID, a.ID}},
		"service": {slipway.RunFilter{Project: "shop", Service: "a"}, []int64{a.ID}},
		"ref":     {slipway.RunFilter{Ref: "refs/heads/feature/b"}, []int64{b.ID}},
		"commit":  {slipway.RunFilter{Commit: commitA[:7]}, []int64{o.ID, a.ID}},
		"state":   {slipway.RunFilter{State: slipway.RunSucceeded}, []int64{a.ID}},
		"before":  {slipway.RunFilter{Before: b.ID}, []int64{a.ID}},
		"limit":   {slipway.RunFilter{Limit: 1}, []int64{o.ID}},
		"none":    {slipway.RunFilter{Project: "nowhere"}, nil},
	} {
		runs, err := w.Runs(w.ctx, c.f)
		w.ok(err)
		var got []int64
		for _, r := range runs {
			got = append(got, r.ID)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	built, err := w.Built(w.ctx, "shop", "", "refs/heads/feature/a", 0)
	w.ok(err)
	never, err := w.Built(w.ctx, "shop", "", "refs/heads/feature/b", 0)
	w.ok(err)
	if built.Rest != (slipway.Done{Commit: commitA, RunID: a.ID}) || never.Rest.Commit != "" {
		t.Errorf("last built: %+v %+v", built, never)
	}
	all, err := w.Events(w.ctx, 0, slipway.EventFilter{})
	w.ok(err)
	if !sort.SliceIsSorted(all, func(i, j int) bool { return all[i].ID < all[j].ID }) || len(all) < 8 {
		t.Errorf("events: %v", all)
	}
	newest, err := w.Events(w.ctx, 0, slipway.EventFilter{Newest: true, Limit: 2})
	w.ok(err)
	if want := all[len(all)-2:]; !reflect.DeepEqual(newest, want) {
		t.Errorf("newest: %v, want %v", newest, want)
	}
	after, err := w.Events(w.ctx, all[2].ID, slipway.EventFilter{Project: "other"})
	w.ok(err)
	for _, e := range after {
		if e.Project != "other" || e.ID <= all[2].ID {
			t.Errorf("event %+v", e)
		}
	}
	some, err := w.Events(w.ctx, 0, slipway.EventFilter{Kind: "run."})
	w.ok(err)
	if len(some) != 5 { // three created, one running, one succeeded
		t.Errorf("%d events of runs: %v", len(some), some)
	}
	m, err := w.Metrics(w.ctx)
	w.ok(err)
	if m["runs"]["queued"] != 2 || m["steps"]["ready"] != 2 || m["runs"]["succeeded"] != 1 || m["events"]["written"] != all[len(all)-1].ID {
		t.Errorf("metrics: %v", m)
	}
}

func TestWatchersAreWokenByEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	changed := w.Watch()
	w.ok(w.SetSetting(w.ctx, "colour", "blue"))
	select {
	case <-changed:
		t.Error("woken without an event")
	default:
	}
	w.newRun("refs/heads/main", commitA, slipway.Plan{})
	<-changed
	if v, err := w.Setting(w.ctx, "colour"); err != nil || v != "blue" {
		t.Errorf("setting: %q %v", v, err)
	}
	last, err := w.LastEvent(w.ctx)
	w.ok(err)
	if last == 0 {
		t.Error("no last event")
	}
	w.ok(w.Ping(w.ctx))
}

func TestATamperedEventIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.newRun("refs/heads/main", commitA, slipway.Plan{})
	w.ok(w.Audit(w.ctx, slipway.Event{Kind: "user.signed-in", Actor: "ada", Message: "ada signed in"}))
	w.do(w.VerifyEvents(w.ctx))
	w.do(w.DB().Exec(`DROP TRIGGER events_keep`))
	w.do(w.DB().Exec(`UPDATE events SET actor = 'mallory' WHERE id = 2`))
	n, err := w.VerifyEvents(w.ctx)
	w.code(err, slipway.Conflict)
	if n != 1 {
		t.Errorf("found after %d events", n)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.newRun("refs/heads/main", commitA, slipway.Plan{})
	id := w.stepOf(r.ID, "plan").ID
	_, ok, err := w.Journal(w.ctx, id, "intent")
	if ok || err != nil {
		t.Errorf("empty journal: %v %v", ok, err)
	}
	w.ok(w.PutJournal(w.ctx, id, "intent", []byte(`{"revision":1}`)))
	w.ok(w.PutJournal(w.ctx, id, "intent", []byte(`{"revision":2}`)))
	v, ok, err := w.Journal(w.ctx, id, "intent")
	if !ok || err != nil || string(v) != `{"revision":2}` {
		t.Errorf("journal: %s %v %v", v, ok, err)
	}
}

// What metrics tell follows rows that go, be it with the project that they belong to. The end of each test compares
// them with the tables.
func TestMetricsForgetWhatWent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, slipway.Project{Name: "blog"}, "ada"))
	for _, p := range []string{"blog", "shop"} {
		_, _, err := w.OpenPull(w.ctx, slipway.PullRequest{Project: p, Title: "a change", Base: "main", Head: commitA, Author: "ada"})
		w.ok(err)
	}
	w.do(w.ClosePull(w.ctx, "shop", 1, "ada"))
	w.do(w.writer.ExecContext(w.ctx, `DELETE FROM projects WHERE name = 'blog'`))
	all, err := w.Metrics(w.ctx)
	w.ok(err)
	if got := all["pulls"]; len(got) != 1 || got["closed"] != 1 {
		t.Errorf("pull requests: %v", got)
	}
}

package store

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func (w *world) connect(token string) slipway.Connection {
	w.t.Helper()
	c, err := w.SaveConnection(w.ctx, slipway.ProjectDetail{Forks: slipway.ForksApprove, Link: "https://github.com/acme/shop",
		Connection: &slipway.Connection{Project: "shop", Forge: slipway.GitHub, API: "https://api.github.com", Repository: "acme/shop", RepositoryID: "7"}}, token, "ada")
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// Credentials are nowhere in the database as they are, and come back as they were.
func TestCredentialsAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.connect("ghp_averysecrettoken")
	token, err := w.Credential(w.ctx, c.Credential)
	if err != nil || token != "ghp_averysecrettoken" {
		t.Errorf("token %q, %v", token, err)
	}
	secret, err := w.Credential(w.ctx, c.HookSecret)
	if err != nil || len(secret) < 32 {
		t.Errorf("secret of the webhook %q, %v", secret, err)
	}
	again := w.connect("ghp_another")
	if now, err := w.Credential(w.ctx, again.HookSecret); err != nil || now != secret {
		t.Errorf("a new token changes the webhook's secret: %v", err)
	}
	for _, file := range []string{w.path, w.path + "-wal"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, hidden := range []string{"ghp_averysecrettoken", "ghp_another", secret} {
			if bytes.Contains(b, []byte(hidden)) {
				t.Errorf("%s has %q", file, hidden)
			}
		}
	}
	if _, err := w.writer.Exec(`UPDATE credentials SET sealed = (SELECT sealed FROM credentials WHERE name = $1) WHERE name = $2`, c.HookSecret, c.Credential); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Credential(w.ctx, c.Credential); err == nil {
		t.Errorf("a credential that was put into the place of another opens: %q", got)
	}
}

// Deliveries that come at once are each kept, once; one that cannot be does not take others with it.
func TestReceiveDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect("t")
	var all sync.WaitGroup
	var mu sync.Mutex
	fresh := 0
	for i := range 300 {
		all.Go(func() {
			project := "shop"
			if i%100 == 99 {
				project = "nothere"
			}
			d := slipway.Delivery{ID: fmt.Sprint("d", i/2), Digest: fmt.Sprint("x", i/2), Kind: slipway.DeliveryPush}
			is, err := w.ReceiveDelivery(w.ctx, project, d)
			mu.Lock()
			defer mu.Unlock()
			if (err != nil) != (project == "nothere") {
				t.Errorf("delivery %d of %s: %v", i, project, err)
			}
			if is {
				fresh++
			}
		})
	}
	all.Wait()
	due, next, err := w.DueDeliveries(w.ctx, "shop", 1000)
	if err != nil || len(due) != 150 || fresh != 150 || !next.IsZero() {
		t.Fatalf("%d kept, %d fresh, next %s, %v", len(due), fresh, next, err)
	}
	for name, d := range map[string]slipway.Delivery{"its id": {ID: "d3", Digest: "new"}, "its content": {ID: "new", Digest: "x3"}} {
		if is, err := w.ReceiveDelivery(w.ctx, "shop", d); is || err != nil {
			t.Errorf("a repetition by %s is fresh: %v", name, err)
		}
	}
	later := w.clock.now().Add(time.Hour)
	w.do(nil, w.DelayDeliveries(w.ctx, []int64{due[0].ID}, later, "no answer"))
	w.do(nil, w.FinishDeliveries(w.ctx, []int64{due[1].ID}, "done"))
	now, next, err := w.DueDeliveries(w.ctx, "shop", 1000)
	if err != nil || len(now) != 148 || next.UnixMilli() != later.UnixMilli() {
		t.Errorf("%d due, next %s, %v", len(now), next, err)
	}
	w.do(nil, w.PruneForges(w.ctx, w.clock.now().Add(time.Hour)))
	if is, err := w.ReceiveDelivery(w.ctx, "shop", slipway.Delivery{ID: due[0].Delivery.ID, Digest: "y"}); is || err != nil {
		t.Error("a delivery that waits was forgotten")
	}
}

// A forge's pull request opens, moves, ends and opens again, and its events are each their own.
func TestForgePulls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect("t")
	p := slipway.PullRequest{Project: "shop", Number: 41, Title: "one", Base: "main", Head: strings.Repeat("a", 40), Author: "eve@github", State: slipway.PullOpen, Fork: true, Held: strings.Repeat("a", 40)}
	save := func() { w.t.Helper(); w.do(w.SaveForgePull(w.ctx, p)) }
	save()
	save()
	other := p
	other.Number, other.Held = 42, "" // the same author, base and topic: from another fork
	w.do(w.SaveForgePull(w.ctx, other))
	run := slipway.Run{Project: "shop", Event: slipway.PullUpdate, Ref: "refs/pull/41/head", Commit: p.Head, Pull: 41, Fork: true}
	if _, err := w.RunHeld(w.ctx, "shop", 41, strings.Repeat("b", 40), "ada", run, slipway.Plan{}); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("another head runs: %v", err)
	}
	made, err := w.RunHeld(w.ctx, "shop", 41, p.Head, "ada", run, slipway.Plan{})
	if got, rerr := w.Run(w.ctx, made.ID); err != nil || rerr != nil || !got.Run.Fork {
		t.Errorf("run %+v, %v, %v", got.Run, err, rerr)
	}
	if _, err := w.RunHeld(w.ctx, "shop", 41, p.Head, "ada", run, slipway.Plan{}); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("it runs twice: %v", err)
	}
	p.Held = ""
	for _, state := range []slipway.PullState{slipway.PullClosed, slipway.PullOpen, slipway.PullClosed, slipway.PullOpen, slipway.PullMerged} {
		p.State = state
		save()
	}
	events, err := w.Events(w.ctx, 0, slipway.EventFilter{Project: "shop", Kind: "pull."})
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, strings.TrimPrefix(e.Kind, "pull."))
	}
	if got, want := strings.Join(kinds, " "), "opened opened admitted closed opened closed opened merged"; err != nil || got != want {
		t.Errorf("events %s, want %s (%v)", got, want, err)
	}
	if _, _, err := w.OpenPull(w.ctx, slipway.PullRequest{Project: "shop", Base: "main", Head: p.Head, Author: "eve@github"}); err != nil {
		t.Errorf("a pull request of the project's own beside it: %v", err)
	}
}

// Each area's trouble comes and goes by itself, and saying it again writes no event.
func TestForgeProblems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect("t")
	for _, p := range [][2]string{{"write", "403"}, {"write", "403"}, {"read", "404"}, {"fetch", ""}, {"write", ""}, {"write", ""}} {
		w.do(nil, w.SetForgeProblem(w.ctx, "shop", p[0], p[1]))
	}
	d, err := w.ProjectDetail(w.ctx, "shop")
	if err != nil || len(d.Health.Problems) != 1 || d.Health.Problems[0] != (slipway.ForgeProblem{Area: "read", Message: "404"}) || d.Health.Since.IsZero() {
		t.Errorf("health %+v, %v", d.Health, err)
	}
	w.do(nil, w.SetForgeProblem(w.ctx, "shop", "read", ""))
	if d, err := w.ProjectDetail(w.ctx, "shop"); err != nil || len(d.Health.Problems) > 0 || !d.Health.Since.IsZero() {
		t.Errorf("health %+v, %v", d.Health, err)
	}
	events, err := w.Events(w.ctx, 0, slipway.EventFilter{Project: "shop", Kind: "forge."})
	if err != nil || len(events) != 1+4 {
		t.Errorf("%d events: %+v, %v", len(events), events, err)
	}
}

// Who pushed is named when the forge tells it after polling found it.
func TestNameActor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	head := strings.Repeat("a", 40)
	run, err := w.CreateRun(w.ctx, slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: head, Actor: "mirror"}, slipway.Plan{})
	w.do(run, err)
	for _, ref := range []string{"refs/heads/other", "refs/heads/main", "refs/heads/main"} {
		w.do(nil, w.NameActor(w.ctx, "shop", ref, head, "mirror", "ada"))
	}
	d, err := w.Run(w.ctx, run.ID)
	if err != nil || d.Run.Actor != "ada" || d.Events[len(d.Events)-1].Kind != "run.named" {
		t.Errorf("run %+v, %v", d.Run, err)
	}
}

// An account is a user by its name, and by the forge's id from when it was first seen.
func TestAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "ada", false, ""))
	const api = "https://api.github.com"
	w.do(nil, w.LinkAccount(w.ctx, api, "Ada-L", "ada", "admin"))
	who := func(api, name, id string) string {
		w.t.Helper()
		u, err := w.UserByAccount(w.ctx, api, slipway.Account{Name: name, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		return u.Name
	}
	for _, c := range [][4]string{{api, "ada-l", "", "ada"}, {api, "ADA-l", "7", "ada"}, {api, "ada-l", "7", "ada"}, {api, "ada-l", "8", ""}, {api, "ada", "7", ""}, {"https://gitlab.com/api/v4", "ada-l", "7", ""}} {
		if got := who(c[0], c[1], c[2]); got != c[3] {
			t.Errorf("%s %s %s is %q, want %q", c[0], c[1], c[2], got, c[3])
		}
	}
	w.do(nil, w.LinkAccount(w.ctx, api, "ada-l", "", "admin"))
	if got := who(api, "ada-l", "7"); got != "" {
		t.Errorf("unlinked, it is %q", got)
	}
	if err := w.LinkAccount(w.ctx, api, "x", "nobody", "admin"); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("linked with nobody: %v", err)
	}
}

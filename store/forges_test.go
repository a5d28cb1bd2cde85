package store

import (
	"bytes"
	"cmp"
	"errors"
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
	c, err := w.SaveConnection(w.ctx, slipway.CodebaseDetail{Forks: slipway.ForksApprove, Link: "https://github.com/acme/shop",
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

// A further codebase has a connection of its own: its credentials, its cursor, its deliveries and its pull
// requests are apart from those of the main one, and go with it.
func TestConnectionsOfCodebases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateCodebase(w.ctx, slipway.Codebase{Project: "shop", Name: "web", GitURL: "https://github.com/acme/web"}, "ada"))
	connect := func(repository, token string, c slipway.Connection) (slipway.Connection, error) {
		c.Forge, c.API, c.Repository = slipway.GitHub, cmp.Or(c.API, "https://api.github.com"), repository
		return w.SaveConnection(w.ctx, slipway.CodebaseDetail{Forks: slipway.ForksRun, Connection: &c}, token, "ada")
	}
	web := slipway.Connection{Project: "shop", Codebase: "web", Shared: true}
	refused := func(c slipway.Connection, token string, code slipway.Code, words string) {
		t.Helper()
		if _, err := connect("acme/web", token, c); slipway.ErrorCode(err) != code || !strings.Contains(err.Error(), words) {
			t.Errorf("%+v: %v, want %s and %q", c, err, code, words)
		}
	}
	refused(web, "", slipway.Invalid, "needs a token of its own")
	refused(slipway.Connection{Project: "shop"}, "", slipway.Invalid, "shop needs a token for its forge, or a deploy key")
	refused(slipway.Connection{Project: "shop", Shared: true}, "", slipway.Invalid, "no other codebase")
	refused(slipway.Connection{Project: "shop", Codebase: "web"}, "", slipway.Invalid, "shop/web needs a token for its forge, or a deploy key")
	w.do(nil, w.SaveDeployKey(w.ctx, slipway.DeployKey{Codebase: "shop", GitURL: "ssh://git@host/shop", Accepted: true}, "private", "ada"))
	w.connect("")
	refused(web, "", slipway.Invalid, "needs a token of its own") // the main one has none
	refused(slipway.Connection{Project: "shop", Codebase: "none"}, "t", slipway.NotFound, `no codebase "none"`)
	main := w.connect("of the project")
	elsewhere := web
	elsewhere.API = "https://git.example/api/v3"
	refused(elsewhere, "", slipway.Invalid, "needs a token of its own")

	if _, err := connect("Acme/Shop", "t", web); slipway.ErrorCode(err) != slipway.Conflict || !strings.Contains(err.Error(), "with the main codebase") {
		t.Errorf("the repository of the main codebase: %v", err)
	}

	shared, err := connect("acme/web", "", web)
	if err != nil || !shared.Shared || shared.Credential != main.Credential || shared.HookSecret == main.HookSecret {
		t.Fatalf("shared %+v, %v", shared, err)
	}
	secret, _ := w.Credential(w.ctx, shared.HookSecret)
	if of, _ := w.Credential(w.ctx, main.HookSecret); of == secret || secret == "" {
		t.Error("both webhooks have one secret")
	}
	leaves := main
	leaves.API = "https://git.example/api/v3"
	refused(leaves, "t", slipway.Conflict, "slipway codebase connect NAME")
	own, err := connect("acme/web", "of its own", web)
	if token, terr := w.Credential(w.ctx, own.Credential); err != nil || terr != nil || own.Shared || token != "of its own" {
		t.Errorf("own %+v, %v, %v", own, err, terr)
	}
	if again, err := w.Credential(w.ctx, own.HookSecret); err != nil || again != secret {
		t.Errorf("a new token changes the webhook's secret: %v", err)
	}
	if again, err := connect("acme/web", "", web); err != nil || !again.Shared {
		t.Errorf("shared again %+v, %v", again, err)
	}
	if _, err := w.Credential(w.ctx, own.Credential); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("its old token is kept: %v", err)
	}
	w.do(connect("acme/web", "of its own", web))

	for _, key := range []string{"shop", "shop/web"} {
		if fresh, err := w.ReceiveDelivery(w.ctx, key, slipway.Delivery{ID: "d", Digest: "x", Kind: slipway.DeliveryPush}); err != nil || !fresh {
			t.Errorf("%s: %t, %v", key, fresh, err)
		}
		if due, _, err := w.DueDeliveries(w.ctx, key, 10); err != nil || len(due) != 1 || due[0].Codebase != key {
			t.Errorf("%s: due %+v, %v", key, due, err)
		}
		project, name := slipway.SplitCodebase(key)
		w.do(w.SaveForgePull(w.ctx, slipway.PullRequest{Project: project, Codebase: name, Number: 3, Title: key, Base: "main", Head: strings.Repeat("a", 40), Author: "eve@github", State: slipway.PullOpen}))
		w.do(nil, w.SaveCommand(w.ctx, slipway.ForgeCommand{Project: project, Codebase: name, Comment: "7", Pull: 3, Text: "retry", Author: key, Allowed: true}))
		w.do(nil, w.SetSent(w.ctx, key, "status", key))
		w.do(nil, w.SetForgeProblem(w.ctx, key, "read", "refused to "+key))
	}
	w.do(nil, w.SetSynced(w.ctx, "shop/web"))
	if is, err := w.Synced(w.ctx, "shop"); is || err != nil {
		t.Errorf("the main codebase counts as synced: %v", err)
	}
	last, err := w.LastEvent(w.ctx)
	w.do(nil, err)
	w.do(nil, w.SetReacted(w.ctx, "shop/web", last))
	for _, key := range []string{"shop", "shop/web"} {
		p, err := w.Pull(w.ctx, key, 3)
		c, had, cerr := w.LastCommand(w.ctx, key, 3)
		sent, serr := w.Sent(w.ctx, key, "status")
		d, derr := w.CodebaseDetail(w.ctx, key)
		reacted, rerr := w.Reacted(w.ctx, key)
		if err := errors.Join(err, cerr, serr, derr, rerr); err != nil || p.Title != key || !had || c.Author != key || sent != key ||
			len(d.Health.Problems) != 1 || d.Health.Problems[0].Message != "refused to "+key || d.Health.Waiting != 1 || (reacted == last) != (key == "shop/web") {
			t.Errorf("%s: %+v, %+v, %s, %+v, reacted to %d: %v", key, p, c, sent, d, reacted, err)
		}
	}
	d, err := w.ProjectDetail(w.ctx, "shop")
	if err != nil || d.Codebase.Name != "" || len(d.Codebases) != 1 || d.Codebases[0].Connection.Key() != "shop/web" {
		t.Errorf("detail %+v, %v", d, err)
	}
	w.do(nil, w.RemoveCodebase(w.ctx, "shop", "web", "ada"))
	if _, err := w.Credential(w.ctx, own.Credential); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("its token is kept: %v", err)
	}
	if _, err := w.Credential(w.ctx, own.HookSecret); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("the secret of its webhook is kept: %v", err)
	}
	if due, _, err := w.DueDeliveries(w.ctx, "shop/web", 10); err != nil || len(due) != 0 {
		t.Errorf("its deliveries are kept: %+v, %v", due, err)
	}
	if p, err := w.Pull(w.ctx, "shop/web", 3); err != nil || p.State != slipway.PullClosed {
		t.Errorf("its pull request %+v, %v", p, err)
	}
	if token, err := w.Credential(w.ctx, main.Credential); err != nil || token != "of the project" {
		t.Errorf("the project's token: %v", err)
	}
	if p, err := w.Pull(w.ctx, "shop", 3); err != nil || p.State != slipway.PullOpen {
		t.Errorf("the project's pull request %+v, %v", p, err)
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

// A delivery that cannot be read holds up no other, and what waits of a pull request comes with what is new of it, in
// its order.
func TestDeliveriesThatWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connect("token")
	for i, number := range []int64{7, 8, 7} {
		d := slipway.Delivery{ID: fmt.Sprint("d", i), Digest: fmt.Sprint("x", i), Kind: slipway.DeliveryPull, Pull: &slipway.ForgePull{Number: number}}
		if fresh, err := w.ReceiveDelivery(w.ctx, "shop", d); err != nil || !fresh {
			t.Fatalf("%t, %v", fresh, err)
		}
	}
	due, _, err := w.DueDeliveries(w.ctx, "shop", 10)
	if err != nil || len(due) != 3 {
		t.Fatalf("%+v, %v", due, err)
	}
	far := w.now().Add(time.Hour)
	w.do(nil, w.DelayDeliveries(w.ctx, []int64{due[0].ID, due[1].ID}, far, "away"))
	if now, next, err := w.DueDeliveries(w.ctx, "shop", 10); err != nil || len(now) != 2 || now[0].ID != due[0].ID || now[1].ID != due[2].ID || !next.Equal(far) {
		t.Errorf("due %+v, next %s, %v", now, next, err)
	}
	w.do(nil, w.FinishDeliveries(w.ctx, []int64{due[2].ID}, "done"))
	if now, _, err := w.DueDeliveries(w.ctx, "shop", 10); err != nil || len(now) != 0 {
		t.Errorf("due %+v, %v", now, err)
	}
	for id, content := range map[int64]string{due[1].ID: `{"kind":7}`, due[2].ID: `{"pull`} {
		if _, err := w.writer.Exec(`UPDATE deliveries SET content = $1, state = 'received', due_at = 0 WHERE id = $2`, content, id); err != nil {
			t.Fatal(err)
		}
	}
	now, _, err := w.DueDeliveries(w.ctx, "shop", 10)
	if err != nil || len(now) != 2 || now[0].Delivery.Kind != slipway.DeliveryIgnored || !strings.Contains(now[1].Delivery.Reason, "cannot be read") {
		t.Errorf("due %+v, %v", now, err)
	}
}

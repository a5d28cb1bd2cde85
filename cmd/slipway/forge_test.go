package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

// From the connection to the merge: a push, a pull request and what the forge shows of them.
func TestForge(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	s, hook := connectedSite(t, f, serveOptions{})
	s.awaitRun("heads/main", first, ":merge:mirror") // what is there when it is connected
	await(t, "status of the first commit", func() (bool, string) {
		have := f.status(first, "slipway")
		return strings.HasPrefix(have, "success: nothing to build"), have
	})

	second := f.commit("README", "two")
	f.push("HEAD:refs/heads/main", "HEAD:refs/heads/feature/x")
	if status, body := f.deliver(hook, "push", "d-1", f.pushed("refs/heads/main", first, second)); status != http.StatusAccepted {
		t.Fatalf("push: %d %s", status, body)
	}
	s.awaitRun("heads/main", second, ":merge:ada@github")
	s.awaitRun("heads/feature/x", second, ":push:mirror") // git says so, no delivery did

	head := f.commit("slipway.yaml", "services:\n  cart:\n    path: cart\n")
	f.pull(3, head, "main", map[string]any{"title": "Add <b>cart</b>\x1b[31m | @all"})
	body := f.payload(map[string]any{"action": "opened", "pull_request": f.pulls[3]})
	if status, text := f.deliver(hook, "pull_request", "d-2", body); status != http.StatusAccepted {
		t.Fatalf("pull request: %d %s", status, text)
	}
	s.awaitRun("pull/3/head", head, ":pull-request:ada@github")
	await(t, "failed status", func() (bool, string) { // there is no folder cart
		have := f.status(head, "slipway")
		return strings.HasPrefix(have, "failure: "), have
	})
	await(t, "comment", func() (bool, string) {
		have := f.said(3)
		return strings.Contains(have, "failed") && strings.Contains(have, "<!-- slipway:shop -->"), have
	})

	third := f.commit("slipway.yaml", "")
	f.pull(3, third, "main", nil)
	f.deliver(hook, "pull_request", "d-3", f.payload(map[string]any{"action": "synchronize", "pull_request": f.pulls[3]}))
	await(t, "status of the new head", func() (bool, string) {
		have := f.status(third, "slipway")
		return strings.HasPrefix(have, "success"), have
	})
	await(t, "comment brought up to date", func() (bool, string) {
		have := f.said(3)
		return strings.Contains(have, third[:7]) && strings.Contains(have, "succeeded"), have
	})

	f.push(third+":refs/heads/main", ":refs/heads/feature/x")
	f.pull(3, third, "main", map[string]any{"state": "closed", "merged": true, "merge_commit_sha": third})
	f.deliver(hook, "pull_request", "d-4", f.payload(map[string]any{"action": "closed", "pull_request": f.pulls[3]}))
	f.deliver(hook, "push", "d-5", f.pushed("refs/heads/main", second, third))
	s.awaitRun("heads/main", third, ":merge:ada@github")
	await(t, "merge", func() (bool, string) {
		pulls := must[[]slipway.PullRequest](t)(s.admin.Pulls(t.Context(), "shop"))
		return len(pulls) == 1 && pulls[0].State == slipway.PullMerged && pulls[0].MergedAs == third && pulls[0].Author == "ada@github" && pulls[0].Link != "", fmt.Sprintf("%+v", pulls)
	})
	if text := s.out.String(); strings.Contains(text, forgeToken) || strings.Contains(text, f.secret()) {
		t.Errorf("the log has a credential:\n%s", text)
	}
	await(t, "health", func() (bool, string) {
		d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
		return len(d.Health.Problems) == 0 && d.Health.Waiting == 0 && d.Health.Behind == 0 && !d.Health.Delivered.IsZero() && d.Forks == slipway.ForksRun, fmt.Sprintf("%+v", d.Health)
	})
}

// A head from a fork waits for a member where that is asked for, and runs without trust.
func TestForks(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	f.private = false
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	s, hook := connectedSite(t, f, serveOptions{})
	s.awaitRun("heads/main", first, ":merge")

	evil := f.commit("README", "evil")
	f.pull(4, evil, "main", fork(evil))
	f.deliver(hook, "pull_request", "f-1", f.payload(map[string]any{"action": "opened", "pull_request": f.pulls[4]}))
	await(t, "held", func() (bool, string) {
		have := f.status(evil, "slipway")
		return strings.HasPrefix(have, "pending: of a fork"), have
	})
	await(t, "comment that says how", func() (bool, string) {
		have := f.said(4)
		return strings.Contains(have, "/slipway approve "+evil[:7]), have
	})
	comment := func(id int64, login, text string) {
		t.Helper()
		if status, body := f.deliver(hook, "issue_comment", fmt.Sprint("c-", id), f.commented(id, 4, login, text)); status != http.StatusAccepted {
			t.Fatalf("comment: %d %s", status, body)
		}
	}
	comment(1, "eve", "/slipway approve")     // may read
	comment(2, "mallory", "/slipway approve") // may nothing
	comment(3, "ada", "> /slipway approve")   // quoted
	comment(4, "ada", "/slipway approve 0000000")
	await(t, "refusal of another commit", func() (bool, string) {
		have := f.said(4)
		return strings.Contains(have, "not 0000000"), have
	})
	if have := s.runs(); strings.Contains(have, "pull/4") {
		t.Fatalf("it runs: %s", have)
	}
	comment(5, "ada", "looks good\r\n/slipway approve\r\n")
	s.awaitRun("pull/4/head", evil, ":pull-request:ada@github")
	await(t, "status", func() (bool, string) {
		have := f.status(evil, "slipway")
		return strings.HasPrefix(have, "success"), have
	})
	for _, r := range must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop", Ref: "refs/pull/4/head"})) {
		if !r.Fork {
			t.Errorf("run %+v counts as trusted", r)
		}
	}
	// The next commit waits again, also when its author closes and reopens the pull request; a member approves it in Slipway.
	worse := f.commit("README", "worse")
	f.pull(4, worse, "main", fork(worse))
	f.deliver(hook, "pull_request", "f-2", f.payload(map[string]any{"action": "synchronize", "pull_request": f.pulls[4]}))
	await(t, "held again", func() (bool, string) {
		have := f.status(worse, "slipway")
		return strings.HasPrefix(have, "pending: of a fork"), have
	})
	for _, action := range []string{"closed", "reopened"} {
		state := map[string]string{"closed": "closed", "reopened": "open"}[action]
		more := fork(worse)
		more["state"] = state
		f.pull(4, worse, "main", more)
		f.deliver(hook, "pull_request", "f-2-"+action, f.payload(map[string]any{"action": action, "pull_request": f.pulls[4]}))
		await(t, action, func() (bool, string) {
			d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
			p := must[slipway.PullRequest](t)(s.admin.Pull(t.Context(), "shop", 4))
			return d.Health.Waiting == 0 && string(p.State) == state, fmt.Sprintf("%+v, %+v", d.Health, p)
		})
	}
	if p := must[slipway.PullRequest](t)(s.admin.Pull(t.Context(), "shop", 4)); p.Held != worse || strings.Contains(s.runs(), worse[:7]) {
		t.Errorf("open again: %+v, runs %s", p, s.runs())
	}
	if p, err := s.admin.ReviewPull(t.Context(), "shop", 4, worse); err != nil || p.Held != "" {
		t.Errorf("approved: %+v, %v", p, err)
	}
	s.awaitRun("pull/4/head", worse, ":pull-request:admin")
	if _, err := s.admin.ReviewPull(t.Context(), "shop", 4, worse); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("approved twice: %v", err)
	}
	// An account that is a user's takes the user's role as well, and is called by their name.
	worst := f.commit("README", "worst")
	f.pull(4, worst, "main", fork(worst))
	f.deliver(hook, "pull_request", "f-3", f.payload(map[string]any{"action": "synchronize", "pull_request": f.pulls[4]}))
	await(t, "held once more", func() (bool, string) {
		have := f.status(worst, "slipway")
		return strings.HasPrefix(have, "pending: of a fork"), have
	})
	must[slipway.User](t)(s.admin.CreateUser(t.Context(), "ada-here", false))
	for i, role := range []slipway.Role{slipway.Viewer, slipway.Developer} {
		must[slipway.User](t)(s.admin.SetRole(t.Context(), "ada-here", "shop", role))
		if err := s.admin.LinkAccount(t.Context(), "shop", "Ada", "ada-here"); err != nil {
			t.Fatal(err)
		}
		comment(int64(10+i), "ada", "/slipway approve")
		await(t, "comment worked off", func() (bool, string) {
			d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
			return d.Health.Waiting == 0, fmt.Sprintf("%+v", d.Health)
		})
		if runs := strings.Contains(s.runs(), "pull/4/head@"+worst[:7]+":pull-request:ada-here"); runs != (role == slipway.Developer) {
			t.Errorf("as %s: %s", role, s.runs())
		}
	}
}

// What is not signed, was changed, breaks off, is too large or about another repository is refused before
// it is read or kept; what comes twice, later or never makes no run twice and none less.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	s, hook := connectedSite(t, f, serveOptions{poll: 300 * time.Millisecond})
	s.awaitRun("heads/main", first, ":merge")
	body := f.pushed("refs/heads/main", first, strings.Repeat("b", 40))
	good := map[string]string{"X-GitHub-Event": "push", "X-GitHub-Delivery": "bad-1", "X-Hub-Signature-256": f.sign(body)}
	with := func(k, v string) map[string]string {
		h := maps.Clone(good)
		h[k] = v
		return h
	}
	other := bytes.ReplaceAll(bytes.ReplaceAll(body, []byte("shop/backend"), []byte("eve/backend")), []byte(`"id":7`), []byte(`"id":8`))
	huge := append(bytes.TrimSuffix(bytes.Clone(body), []byte("}")), []byte(`,"x":"`+strings.Repeat("x", 9<<20)+`"}`)...)
	for name, c := range map[string]struct {
		address string
		body    []byte
		header  map[string]string
		want    int
	}{
		"unsigned":           {hook, body, with("X-Hub-Signature-256", ""), http.StatusUnauthorized},
		"wrongly signed":     {hook, body, with("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64)), http.StatusUnauthorized},
		"no hexadecimals":    {hook, body, with("X-Hub-Signature-256", "sha256=zz"), http.StatusUnauthorized},
		"truncated":          {hook, body[:len(body)-5], good, http.StatusUnauthorized},
		"truncated, signed":  {hook, body[:len(body)-5], with("X-Hub-Signature-256", f.sign(body[:len(body)-5])), http.StatusUnprocessableEntity},
		"changed":            {hook, bytes.Replace(body, []byte("main"), []byte("mein"), 1), good, http.StatusUnauthorized},
		"oversized":          {hook, huge, with("X-Hub-Signature-256", f.sign(huge)), http.StatusUnprocessableEntity},
		"not UTF-8":          {hook, []byte("{\"ref\":\"\xff\"}"), with("X-Hub-Signature-256", f.sign([]byte("{\"ref\":\"\xff\"}"))), http.StatusUnprocessableEntity},
		"a form":             {hook, body, with("Content-Type", "application/x-www-form-urlencoded"), http.StatusUnprocessableEntity},
		"another repository": {hook, other, with("X-Hub-Signature-256", f.sign(other)), http.StatusForbidden},
		"another project":    {s.url + "/hooks/blog", body, good, http.StatusNotFound},
		"no project":         {s.url + "/hooks/..%2f..%2fetc", body, good, http.StatusNotFound},
	} {
		if status, text := f.send(c.address, c.body, c.header); status != c.want {
			t.Errorf("%s: %d, want %d: %.300s", name, status, c.want, text)
		}
	}
	if d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop")); !d.Health.Delivered.IsZero() {
		t.Errorf("something was kept: %+v", d.Health)
	}

	second := f.commit("README", "two")
	third := f.commit("README", "three")
	evil := "refs/heads/$(touch x);`id`"
	f.push("HEAD:refs/heads/main", second+":refs/heads/side")
	late := f.pushed("refs/heads/main", first, second)
	for i, d := range [][]byte{f.pushed("refs/heads/main", second, third), late, late, f.pushed(evil, first, second), f.pushed("refs/heads/-x", first, second)} {
		status, text := f.deliver(hook, "push", fmt.Sprint("r-", min(i, 2)+i/3*i), d)
		if status != http.StatusAccepted || strings.Contains(text, "repeated") != (i == 2) {
			t.Errorf("delivery %d: %d %s", i, status, text)
		}
	}
	if status, text := f.deliver(hook, "push", "under another id", late); status != http.StatusAccepted || !strings.Contains(text, `"repeated":true`) {
		t.Errorf("replayed: %d %s", status, text)
	}
	s.awaitRun("heads/main", third, ":merge:ada@github")
	s.awaitRun("heads/side", second, ":push")
	fourth := f.commit("README", "four")
	f.push("HEAD:refs/heads/main")
	s.awaitRun("heads/main", fourth, ":merge:mirror")      // the hook was lost
	if have := strings.Count(s.runs(), "@"); have != 4+1 { // one more in ada@github
		t.Errorf("runs %s", s.runs())
	}
}

// What was kept before the server was killed is worked off when it starts again, once.
func TestDeliveriesSurviveACrash(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	data := t.TempDir()
	s, hook := connectedSite(t, f, serveOptions{data: data})
	s.awaitRun("heads/main", first, ":merge")
	// The forge is away: what it sends is kept and cannot be worked off.
	f.setRefuse(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	second := f.commit("README", "two")
	f.push("HEAD:refs/heads/main")
	f.pull(3, second, "main", nil)
	for i, d := range []struct {
		event string
		body  []byte
	}{{"push", f.pushed("refs/heads/main", first, second)}, {"pull_request", f.payload(map[string]any{"action": "opened", "pull_request": f.pulls[3]})}} {
		if status, text := f.deliver(hook, d.event, fmt.Sprint("k-", i), d.body); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, text)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	f.setRefuse(nil)
	var r *running
	await(t, "start", func() (bool, string) { // a process that another test is starting may hold the lock for a moment
		var err error
		r, err = serveIn(t.Context(), serveOptions{data: data, pause: time.Millisecond})
		return err == nil, fmt.Sprint(err)
	})
	defer r.stop() //nolint:errcheck // the test is over
	s.admin = must[*client.Client](t)(client.New(r.url, s.token))
	s.awaitRun("heads/main", second, ":merge")
	s.awaitRun("pull/3/head", second, ":pull-request")
	await(t, "deliveries", func() (bool, string) {
		d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
		return d.Health.Waiting == 0, fmt.Sprintf("%+v", d.Health)
	})
	if have := strings.Count(s.runs(), second[:7]); have != 2 {
		t.Errorf("runs %s", s.runs())
	}
}

// A forge that refuses or fails holds up no run; what it refuses is shown with what to do, and told it
// when it takes it again.
func TestForgeRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer  func(w http.ResponseWriter)
		problem string // "": it may pass, and is tried again by itself
	}{
		"401": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnauthorized) }, "give the project a new one"},
		"403": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }, "Commit statuses: write"},
		"404": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, "the token may not see it"},
		"429": {func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}, ""},
		"500":  {func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }, ""},
		"none": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeForge(t)
			first := f.commit("README", "one")
			f.push("HEAD:refs/heads/main")
			var refused atomic.Int32
			s, _ := connectedSite(t, f, serveOptions{})
			f.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/statuses/") {
					return false
				}
				refused.Add(1)
				c.answer(w)
				return true
			})
			s.awaitRun("heads/main", first, ":merge")
			second := f.commit("README", "two")
			f.push("HEAD:refs/heads/main")
			f.deliver(s.url+"/hooks/shop", "push", "x", f.pushed("refs/heads/main", first, second))
			s.awaitRun("heads/main", second, ":merge")
			await(t, "the run", func() (bool, string) { // nothing waits for the forge
				runs := must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop", Commit: second}))
				return runs[0].State == slipway.RunSucceeded, string(runs[0].State)
			})
			await(t, "refusal", func() (bool, string) {
				d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
				have := fmt.Sprintf("%+v", d.Health.Problems)
				return refused.Load() > 0 && strings.Contains(have, c.problem) && d.Health.Behind > 0, have
			})
			if _, metrics := s.get("/metrics", ""); c.problem != "" && !strings.Contains(metrics, `slipway_forge_problems{codebase="main",forge="github",project="shop"} 1`) {
				t.Errorf("metrics:\n%s", metrics)
			}
			f.setRefuse(nil)
			if c.problem != "" { // a new token is tried at once
				if _, err := s.admin.Connect(t.Context(), slipway.ConnectRequest{Project: "shop", Forge: slipway.GitHub, Address: f.url, Token: forgeToken}); err != nil {
					t.Fatal(err)
				}
			}
			await(t, "status", func() (bool, string) {
				have := f.status(second, "slipway")
				return strings.HasPrefix(have, "success"), have
			})
			await(t, "health", func() (bool, string) {
				d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
				return len(d.Health.Problems) == 0 && d.Health.Behind == 0, fmt.Sprintf("%+v", d.Health)
			})
		})
	}
}

// A pull request that is closed and opened again is built again if its run ended with it, and not if that was done.
func TestReopened(t *testing.T) {
	t.Parallel()
	f := newFakeForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/main")
	s, hook := connectedSite(t, f, serveOptions{})
	s.awaitRun("heads/main", first, ":merge")
	done := f.commit("README", "two")
	waits := f.commit("cart/Dockerfile", "FROM scratch\n")
	number := 0
	tell := func(head, action, state string) []slipway.Run {
		t.Helper()
		number++
		f.pull(5, head, "main", map[string]any{"state": state, "updated_at": fmt.Sprintf("2026-11-21T10:%02d:00Z", number)}) // no replay
		f.deliver(hook, "pull_request", fmt.Sprint("o-", number), f.payload(map[string]any{"action": action, "pull_request": f.pulls[5]}))
		await(t, action, func() (bool, string) {
			d := must[slipway.ProjectDetail](t)(s.admin.Project(t.Context(), "shop"))
			p, err := s.admin.Pull(t.Context(), "shop", 5)
			return err == nil && d.Health.Waiting == 0 && string(p.State) == state && p.Head == head, fmt.Sprintf("%+v, %+v, %v", d.Health, p, err)
		})
		return must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop", Ref: "refs/pull/5/head"}))
	}
	tell(done, "opened", "open")
	await(t, "status", func() (bool, string) {
		have := f.status(done, "slipway")
		return strings.HasPrefix(have, "success"), have
	})
	tell(done, "closed", "closed")
	if runs := tell(done, "reopened", "open"); len(runs) != 1 {
		t.Errorf("what was done is done again: %+v", runs)
	}
	tell(waits, "synchronize", "open")
	if runs := tell(waits, "closed", "closed"); len(runs) != 2 || !strings.HasSuffix(runs[0].Reason, "pull request 5 is closed") {
		t.Fatalf("closed: %+v", runs)
	}
	if runs := tell(waits, "reopened", "open"); len(runs) != 3 || runs[0].State.Final() || runs[0].Commit != waits {
		t.Errorf("open again: %+v", runs)
	}
	newest := must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop"}))[0]
	must[slipway.Run](t)(s.admin.CancelRun(t.Context(), newest.ID, "not now"))
	await(t, "cancelled", func() (bool, string) {
		d := must[slipway.RunDetail](t)(s.admin.Run(t.Context(), newest.ID))
		return d.Run.State.Final(), d.Run.Reason
	})
	tell(waits, "closed", "closed")
	if runs := tell(waits, "reopened", "open"); len(runs) != 3 {
		t.Errorf("what a person cancelled runs again: %+v", runs)
	}
}

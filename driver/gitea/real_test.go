package gitea_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/gitea"
	"github.com/slipway-cd/slipway/driver/rest"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// A real Gitea, built from the Go module proxy: everything that the driver does is done with it.
// SLIPWAY_UPDATE=1 keeps what its webhooks sent as fixtures.
func TestRealGitea(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("builds Gitea; set SLIPWAY_E2E=1")
	}
	w := newWorld(t)
	t.Run("repository", w.repository)
	t.Run("webhook", w.webhook)
	t.Run("push", w.push)
	t.Run("pull request", w.pull)
	t.Run("status", w.status)
	t.Run("comment", w.comment)
	t.Run("fork", w.fork)
	t.Run("push for review", w.review)
	t.Run("rights", w.rights)
	t.Run("label, close, merge", w.end)
	t.Run("refusals", w.refusals)
	t.Run("words of strangers", w.strangers)
}

type arrival struct {
	header http.Header
	body   []byte
}

type world struct {
	forge  *slipwaytest.Gitea
	conn   slipway.Connection
	client *gitea.Client
	hooks  chan arrival
	hook   string // URL
	git    string // work tree
	other  string // token of bob
	number int64  // of ada's pull request
	head   string
}

// patience is how long Gitea may take for anything on a busy machine.
const patience = 3 * time.Minute

const hookSecret = "the-webhook's secret"

func newWorld(t *testing.T) *world {
	t.Helper()
	forge, err := slipwaytest.StartGitea(t.Context(), t.TempDir(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := forge.Stop(); err != nil {
			t.Error(err)
		}
	})
	w := &world{forge: forge, hooks: make(chan arrival, 100)}
	receiver := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		w.hooks <- arrival{r.Header, body}
	}))
	t.Cleanup(receiver.Close)
	w.hook = receiver.URL
	w.call(t, forge.Token, http.MethodPost, "/user/repos", map[string]any{"name": "shop", "auto_init": true, "default_branch": "main"})
	w.conn = slipway.Connection{Project: "shop", Forge: slipway.Gitea, API: forge.URL + "/api/v1", Repository: "ada/shop"}
	if w.client, err = gitea.New(w.conn, forge.Token+"\n", rest.Options{Timeout: patience}); err != nil {
		t.Fatal(err)
	}
	if w.other, err = forge.AddUser(t.Context(), "bob", "battery-staple-2"); err != nil {
		t.Fatal(err)
	}
	w.git = filepath.Join(t.TempDir(), "shop")
	w.clone(t, forge.User, forge.Token, "ada/shop", w.git)
	return w
}

// call asks Gitea's API as a person would, with another client than the driver's.
func (w *world) call(t *testing.T, token, method, path string, in any) map[string]any {
	t.Helper()
	var out any
	if err := w.forge.Call(t.Context(), token, method, path, in, &out); err != nil {
		t.Fatal(err)
	}
	if m, ok := out.(map[string]any); ok {
		return m
	}
	return map[string]any{"list": out}
}

func (w *world) clone(t *testing.T, user, token, repository, dir string) {
	t.Helper()
	address := strings.Replace(w.forge.URL, "http://", "http://"+user+":"+token+"@", 1) + "/" + repository + ".git"
	run(t, "", "clone", "-q", address, dir)
	run(t, dir, "config", "user.name", user)
	run(t, dir, "config", "user.email", user+"@example.com")
}

func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) commit(t *testing.T, dir, file string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(file+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, dir, "add", "-A")
	run(t, dir, "commit", "-q", "-m", "Add "+file)
	return run(t, dir, "rev-parse", "HEAD")
}

// next waits for a delivery of which want is true; others that come before it must be read without an
// error too.
func (w *world) next(t *testing.T, fixture string, want func(slipway.Delivery) bool) slipway.Delivery {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case a := <-w.hooks:
			d, err := gitea.Receive(w.conn, hookSecret, a.header, a.body)
			if err != nil {
				t.Fatalf("receive %s: %v\n%.300s", a.header.Get("X-Gitea-Event"), err, a.body)
			}
			if d.ID == "" || d.ID != a.header.Get("X-Gitea-Delivery") || len(d.Digest) != 64 {
				t.Errorf("id %q, digest %q", d.ID, d.Digest)
			}
			if want(d) {
				w.keep(t, fixture, a)
				return d
			}
		case <-timeout:
			t.Fatalf("no delivery for %s came", fixture)
		}
	}
}

var port = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// keep writes a fixture: Gitea's own body with the port taken out. What it becomes is written by
// go test ./driver/rest -run TestReceive -update.
func (w *world) keep(t *testing.T, name string, a arrival) {
	t.Helper()
	if os.Getenv("SLIPWAY_UPDATE") == "" {
		return
	}
	head := "X-Gitea-Event: " + a.header.Get("X-Gitea-Event") + "\nX-Gitea-Delivery: " + a.header.Get("X-Gitea-Delivery") + "\nContent-Type: " + a.header.Get("Content-Type") + "\n"
	f := &txtar.Archive{
		Comment: []byte("Recorded from Gitea " + slipwaytest.GiteaVersion + " by TestRealGitea.\n"),
		Files: []txtar.File{
			{Name: "header", Data: []byte(head)},
			{Name: "body.json", Data: append(port.ReplaceAll(a.body, []byte("http://gitea.example.com")), '\n')},
			{Name: "want.json"},
		},
	}
	if err := os.WriteFile(filepath.Join("testdata", name+".txtar"), txtar.Format(f), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w *world) repository(t *testing.T) {
	r, err := w.client.Repository(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := slipway.ForgeRepository{ID: r.ID, Name: "ada/shop", DefaultBranch: "main", CloneURL: w.forge.URL + "/ada/shop.git", Link: w.forge.URL + "/ada/shop"}
	if r != want || r.ID == "" {
		t.Errorf("got %+v, want %+v", r, want)
	}
	w.conn.RepositoryID = r.ID
	heads, err := w.client.Heads(t.Context())
	if err != nil || len(heads) != 1 || heads[0].Branch != "main" || slipway.CheckHash(heads[0].Commit) != nil {
		t.Errorf("heads %+v, %v", heads, err)
	}
	user, password, err := w.client.GitAuth(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.clone(t, user, password, "ada/shop", filepath.Join(t.TempDir(), "again"))
}

func (w *world) webhook(t *testing.T) {
	ids, err := w.client.CreateHooks(t.Context(), w.hook, "another secret")
	if err != nil || len(ids) != 1 || ids[0] == "" {
		t.Fatalf("hooks %v, %v", ids, err)
	}
	again, err := w.client.CreateHooks(t.Context(), w.hook, hookSecret)
	if err != nil || len(again) != 1 {
		t.Fatalf("made again: %v, %v", again, err)
	}
	there := w.call(t, w.forge.Token, http.MethodGet, "/repos/ada/shop/hooks", nil)
	if list, _ := there["list"].([]any); len(list) != 1 {
		t.Errorf("%d webhooks are there", len(list))
	}
	w.call(t, w.forge.Token, http.MethodPost, "/repos/ada/shop/hooks/"+again[0]+"/tests", nil)
	w.next(t, "test", func(d slipway.Delivery) bool { return d.Kind == slipway.DeliveryIgnored })
}

func (w *world) push(t *testing.T) {
	before := run(t, w.git, "rev-parse", "HEAD")
	run(t, w.git, "checkout", "-q", "-b", "topic/one")
	w.head = w.commit(t, w.git, "one")
	run(t, w.git, "tag", "v1.0.0")
	moved := func(m slipway.RefMove) func(slipway.Delivery) bool {
		return func(d slipway.Delivery) bool {
			return d.Kind == slipway.DeliveryPush && d.Actor.Name == "ada" && slices.Equal(d.Refs, []slipway.RefMove{m})
		}
	}
	run(t, w.git, "push", "-q", "origin", "topic/one")
	w.next(t, "push-new-branch", moved(slipway.RefMove{Ref: "refs/heads/topic/one", Old: slipway.ZeroHash, New: w.head}))
	run(t, w.git, "push", "-q", "origin", "v1.0.0")
	w.next(t, "push-tag", moved(slipway.RefMove{Ref: "refs/tags/v1.0.0", Old: slipway.ZeroHash, New: w.head}))
	first, second := w.head, w.commit(t, w.git, "two")
	run(t, w.git, "push", "-q", "origin", "topic/one")
	w.next(t, "push", moved(slipway.RefMove{Ref: "refs/heads/topic/one", Old: first, New: second}))
	run(t, w.git, "push", "-q", "-f", "origin", first+":refs/heads/topic/one")
	w.next(t, "push-forced", moved(slipway.RefMove{Ref: "refs/heads/topic/one", Old: second, New: first}))
	run(t, w.git, "push", "-q", "origin", before+":refs/heads/gone")
	w.next(t, "push-other", moved(slipway.RefMove{Ref: "refs/heads/gone", Old: slipway.ZeroHash, New: before}))
	run(t, w.git, "push", "-q", "origin", ":refs/heads/gone")
	w.next(t, "delete-branch", moved(slipway.RefMove{Ref: "refs/heads/gone", New: slipway.ZeroHash}))
	run(t, w.git, "push", "-q", "origin", ":refs/tags/v1.0.0")
	w.next(t, "push-tag-removed", moved(slipway.RefMove{Ref: "refs/tags/v1.0.0", Old: first, New: slipway.ZeroHash}))
}

func (w *world) pull(t *testing.T) {
	made := w.call(t, w.forge.Token, http.MethodPost, "/repos/ada/shop/pulls", map[string]any{"title": "One\u202e\x1b[31m", "head": "topic/one", "base": "main"})
	number, _ := made["number"].(float64)
	w.number = int64(number)
	d := w.next(t, "pull-opened", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventOpened })
	p := *d.Pull
	if p.Number != w.number || p.Head != w.head || p.Base != "main" || p.Topic != "topic/one" || p.Fork || p.State != slipway.PullOpen || p.Author.Name != "ada" || p.FetchRef != "refs/pull/"+rest.ID(w.number)+"/head" {
		t.Errorf("got %+v", p)
	}
	if p.Title != "One[31m" {
		t.Errorf("title %q", p.Title)
	}
	if got := run(t, w.git, "ls-remote", "origin", p.FetchRef); !strings.HasPrefix(got, w.head) {
		t.Errorf("the ref to fetch is %q", got)
	}
	open, err := w.client.Pulls(t.Context())
	if err != nil || len(open) != 1 || open[0].Number != p.Number || open[0].Head != p.Head || open[0].Fork {
		t.Errorf("open: %+v, %v", open, err)
	}
	run(t, w.git, "reset", "-q", "--hard", w.head)
	w.head = w.commit(t, w.git, "three")
	run(t, w.git, "push", "-q", "origin", "HEAD:refs/heads/topic/one")
	d = w.next(t, "pull-synchronized", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventUpdated })
	if d.Pull.Head != w.head {
		t.Errorf("head %s, want %s", d.Pull.Head, w.head)
	}
	w.call(t, w.forge.Token, http.MethodPatch, "/repos/ada/shop/pulls/"+rest.ID(w.number), map[string]any{"title": "Two"})
	d = w.next(t, "pull-edited", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventEdited })
	if d.Pull.Title != "Two" {
		t.Errorf("title %q", d.Pull.Title)
	}
}

func (w *world) status(t *testing.T) {
	for _, state := range slipway.StatusStates() {
		err := w.client.SetStatus(t.Context(), slipway.CommitStatus{Commit: w.head, Context: "slipway/shipping", State: state, Description: strings.Repeat("ä", 300), URL: "https://slipway.example.com/runs/1"})
		if err != nil {
			t.Fatal(err)
		}
		got := w.call(t, w.forge.Token, http.MethodGet, "/repos/ada/shop/commits/"+w.head+"/status", nil)
		list, _ := got["statuses"].([]any)
		if len(list) != 1 {
			t.Fatalf("%d statuses", len(list))
		}
		s, _ := list[0].(map[string]any)
		if s["status"] != string(state) || s["context"] != "slipway/shipping" || s["target_url"] != "https://slipway.example.com/runs/1" || s["description"] != strings.Repeat("ä", 254)+"…" {
			t.Errorf("%s is shown as %v", state, s)
		}
	}
	err := w.client.SetStatus(t.Context(), slipway.CommitStatus{Commit: strings.Repeat("1", 40), Context: "slipway", State: slipway.StatusSuccess})
	if code := slipway.ErrorCode(err); code != slipway.NotFound && code != slipway.Invalid {
		t.Errorf("a commit that is not there: %v", err)
	}
}

func (w *world) comment(t *testing.T) {
	c := slipway.PullComment{Pull: w.number, Marker: "summary", Text: "first"}
	path := "/repos/ada/shop/issues/" + rest.ID(w.number) + "/comments"
	w.call(t, w.other, http.MethodPost, path, map[string]any{"body": c.Hidden() + "\nof somebody else"})
	id, err := w.client.Comment(t.Context(), c)
	if err != nil || id == "" {
		t.Fatalf("%q, %v", id, err)
	}
	c.Text = "second"
	for _, known := range []string{"", id, "999999"} {
		c.ID = known
		if again, err := w.client.Comment(t.Context(), c); err != nil || again != id {
			t.Errorf("with the id %q: %q, %v", known, again, err)
		}
	}
	got := w.call(t, w.forge.Token, http.MethodGet, path, nil)
	list, _ := got["list"].([]any)
	var texts []string
	for _, x := range list {
		m, _ := x.(map[string]any)
		text, _ := m["body"].(string)
		texts = append(texts, text)
	}
	if want := []string{c.Hidden() + "\nof somebody else", c.Hidden() + "\nsecond"}; !slices.Equal(texts, want) {
		t.Errorf("comments %q, want %q", texts, want)
	}
	w.call(t, w.other, http.MethodPost, path, map[string]any{"body": "/slipway retry\r\n\x1bplease"})
	d := w.next(t, "comment", func(d slipway.Delivery) bool {
		return d.Kind == slipway.DeliveryComment && strings.HasPrefix(d.Comment.Text, "/slipway")
	})
	if d.Comment.Text != "/slipway retry\nplease" || d.Comment.Author.Name != "bob" || d.Comment.Pull != w.number || d.Comment.ID == "" {
		t.Errorf("got %+v", *d.Comment)
	}
	w.call(t, w.forge.Token, http.MethodPost, "/repos/ada/shop/issues", map[string]any{"title": "an issue"})
}

func (w *world) fork(t *testing.T) {
	w.call(t, w.other, http.MethodPost, "/repos/ada/shop/forks", map[string]any{})
	dir := filepath.Join(t.TempDir(), "fork")
	w.clone(t, "bob", w.other, "bob/shop", dir)
	head := w.commit(t, dir, "theirs")
	run(t, dir, "push", "-q", "origin", "HEAD:refs/heads/mine")
	w.call(t, w.other, http.MethodPost, "/repos/ada/shop/pulls", map[string]any{"title": "From a fork", "head": "bob:mine", "base": "main"})
	d := w.next(t, "pull-fork", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventOpened })
	if p := d.Pull; !p.Fork || p.HeadRepository != "bob/shop" || p.Head != head || p.Author.Name != "bob" {
		t.Errorf("got %+v", p)
	}
	p, err := w.client.Pull(t.Context(), d.Pull.Number)
	if err != nil || !p.Fork || p.Head != head {
		t.Errorf("got %+v, %v", p, err)
	}
	if got := run(t, w.git, "ls-remote", "origin", p.FetchRef); !strings.HasPrefix(got, head) {
		t.Errorf("the ref to fetch is %q", got)
	}
}

// Whoever may read may push to refs/for: it is as little trusted as a fork.
func (w *world) review(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "review")
	w.clone(t, "bob", w.other, "ada/shop", dir)
	head := w.commit(t, dir, "for-review")
	run(t, dir, "push", "-q", "-o", "topic=idea", "-o", "title=For review", "origin", "HEAD:refs/for/main")
	d := w.next(t, "pull-for-review", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventOpened })
	if p := d.Pull; !p.Fork || p.Head != head || p.Author.Name != "bob" {
		t.Errorf("got %+v", p)
	}
	p, err := w.client.Pull(t.Context(), d.Pull.Number)
	if err != nil || !p.Fork || p.Head != head {
		t.Errorf("got %+v, %v", p, err)
	}
	open, err := w.client.Pulls(t.Context())
	if err != nil || !slices.ContainsFunc(open, func(p slipway.ForgePull) bool { return p.Number == d.Pull.Number && p.Fork }) {
		t.Errorf("open: %+v, %v", open, err)
	}
	if got := run(t, w.git, "ls-remote", "origin", p.FetchRef); !strings.HasPrefix(got, head) {
		t.Errorf("the ref to fetch is %q", got)
	}
}

func (w *world) rights(t *testing.T) {
	for name, want := range map[string]bool{"ada": true, "bob": false, "nobody": false} {
		if may, err := w.client.MayWrite(t.Context(), slipway.Account{Name: name}); err != nil || may != want {
			t.Errorf("%s may write: %v, %v", name, may, err)
		}
	}
	for permission, want := range map[string]bool{"read": false, "write": true} {
		w.call(t, w.forge.Token, http.MethodPut, "/repos/ada/shop/collaborators/bob", map[string]any{"permission": permission})
		if may, err := w.client.MayWrite(t.Context(), slipway.Account{Name: "bob"}); err != nil || may != want {
			t.Errorf("bob with the right to %s may write: %v, %v", permission, may, err)
		}
	}
	if may, err := w.client.MayWrite(t.Context(), slipway.Account{ID: "999", Name: "bob"}); err != nil || may {
		t.Errorf("another account of that name may write: %v, %v", may, err)
	}
}

func (w *world) end(t *testing.T) {
	label := w.call(t, w.forge.Token, http.MethodPost, "/repos/ada/shop/labels", map[string]any{"name": "preview", "color": "#00aabb"})
	n := rest.ID(w.number)
	w.call(t, w.forge.Token, http.MethodPost, "/repos/ada/shop/issues/"+n+"/labels", map[string]any{"labels": []any{label["id"]}})
	d := w.next(t, "pull-label", func(d slipway.Delivery) bool {
		return d.Event == slipway.PullEventLabelled || d.Event == slipway.PullEventEdited
	})
	if !slices.Equal(d.Pull.Labels, []string{"preview"}) {
		t.Errorf("labels %q", d.Pull.Labels)
	}
	for state, event := range map[string]slipway.PullEvent{"closed": slipway.PullEventClosed} {
		w.call(t, w.forge.Token, http.MethodPatch, "/repos/ada/shop/pulls/"+n, map[string]any{"state": state})
		if d := w.next(t, "pull-closed", func(d slipway.Delivery) bool { return d.Event == event }); d.Pull.State != slipway.PullClosed {
			t.Errorf("state %s", d.Pull.State)
		}
	}
	w.call(t, w.forge.Token, http.MethodPatch, "/repos/ada/shop/pulls/"+n, map[string]any{"state": "open"})
	w.next(t, "pull-reopened", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventOpened })
	w.merge(t, n)
	d = w.next(t, "pull-merged", func(d slipway.Delivery) bool { return d.Event == slipway.PullEventMerged })
	run(t, w.git, "fetch", "-q", "origin")
	if main := run(t, w.git, "rev-parse", "origin/main"); d.Pull.MergedAs != main || d.Pull.State != slipway.PullMerged {
		t.Errorf("merged as %s, and main is %s", d.Pull.MergedAs, main)
	}
	open, err := w.client.Pulls(t.Context())
	if err != nil || len(open) != 2 || !open[0].Fork || !open[1].Fork {
		t.Errorf("open: %+v, %v", open, err)
	}
}

// merge waits until Gitea has found out that there is no conflict.
func (w *world) merge(t *testing.T, number string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := slipwaytest.Await(ctx, 100*time.Millisecond, func() (bool, error) {
		return w.call(t, w.forge.Token, http.MethodGet, "/repos/ada/shop/pulls/"+number, nil)["mergeable"] == true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.call(t, w.forge.Token, http.MethodPost, "/repos/ada/shop/pulls/"+number+"/merge", map[string]any{"Do": "merge"})
}

func (w *world) refusals(t *testing.T) {
	ctx := t.Context()
	wrong, err := gitea.New(w.conn, "0123456789abcdef0123456789abcdef01234567", rest.Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	status := slipway.CommitStatus{Commit: w.head, Context: "slipway", State: slipway.StatusSuccess}
	if err := wrong.SetStatus(ctx, status); slipway.ErrorCode(err) != slipway.Forbidden || strings.Contains(err.Error(), "0123456789abcdef") {
		t.Errorf("a wrong token: %v", err)
	}
	theirs, err := gitea.New(w.conn, w.call(t, w.forge.Token, http.MethodGet, "/version", nil)["version"].(string), rest.Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.CreateHooks(ctx, w.hook, "x"); slipway.ErrorCode(err) != slipway.Forbidden && slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("a webhook without a right to it: %v", err)
	}
	away := w.conn
	away.Repository = "ada/nothing"
	gone, err := gitea.New(away, w.forge.Token, rest.Options{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.Repository(ctx); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("a repository that is not there: %v", err)
	}
	ids, err := w.client.CreateHooks(ctx, w.hook, hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.client.DeleteHook(ctx, ids[0]); err != nil {
			t.Errorf("remove the webhook: %v", err)
		}
	}
}

// strangers: Gitea makes links and mentions of what entities became, and not of what has a zero-width non-joiner in it,
// as the comment on a pull request quotes.
func (w *world) strangers(t *testing.T) {
	render := func(text string) string {
		t.Helper()
		body, err := json.Marshal(map[string]any{"Text": text, "Mode": "comment", "Context": "ada/shop"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.forge.URL+"/api/v1/markdown", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "token "+w.forge.Token)
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		html, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", text, resp.Status, err)
		}
		return string(html)
	}
	for _, text := range []string{"&#64;bob", "&#35;1", "http&#58;&#47;&#47;evil.example", "a&#64;evil.example"} {
		begin, rest, _ := strings.Cut(text, ";")
		inert := begin + ";\u200c" + rest
		if with, without := render(text), render(inert); !strings.Contains(with, "<a ") || strings.Contains(without, "<a ") {
			t.Errorf("%s becomes %s, and with a non-joiner %s", text, with, without)
		}
	}
}

package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/api"
	"github.com/slipway-cd/slipway/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is everything behind the API. It keeps what it was asked, and answers with what was asked
// for, or with err.
type backend struct {
	mu      sync.Mutex
	calls   []string
	err     error
	users   map[string]slipway.User // by token
	events  []slipway.Event
	watch   chan struct{}
	stopped chan struct{}
	logs    func(ctx context.Context, line func(slipway.LogLine) error) error
	list    bool          // lists are empty
	full    bool          // no more streams
	left    chan struct{} // a stream was left
}

func (b *backend) asked(by slipway.User, format string, args ...any) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, by.Name+": "+fmt.Sprintf(format, args...))
	return b.err
}

// last is the newest call.
func (b *backend) last() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.calls) == 0 {
		return ""
	}
	return b.calls[len(b.calls)-1]
}

func some[T any](b *backend, v ...T) []T {
	if b.list {
		return nil
	}
	return v
}

func (b *backend) Board(_ context.Context, by slipway.User, p string) (slipway.Board, error) {
	return slipway.Board{Project: p}, b.asked(by, "board %s", p)
}

func (b *backend) Runs(_ context.Context, by slipway.User, f slipway.RunFilter) ([]slipway.Run, error) {
	return some(b, slipway.Run{ID: 1}), b.asked(by, "runs %+v", f)
}

func (b *backend) Run(_ context.Context, by slipway.User, id int64) (slipway.RunDetail, error) {
	return slipway.RunDetail{Run: slipway.Run{ID: id}}, b.asked(by, "run %d", id)
}

func (b *backend) Trace(_ context.Context, by slipway.User, p, q string) (slipway.Trace, error) {
	return slipway.Trace{Query: q}, b.asked(by, "trace %s in %s", q, p)
}

func (b *backend) Enter(by slipway.User) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		return nil, slipway.Errorf(slipway.TooMany, "%s has too many streams open", by.Name)
	}
	return func() { b.left <- struct{}{} }, nil
}

func (b *backend) Report(_ context.Context, by slipway.User, id int64, step string) (slipway.TestReport, error) {
	return slipway.TestReport{Passed: 3}, b.asked(by, "report %d %s", id, step)
}

func (b *backend) Log(ctx context.Context, by slipway.User, id int64, step string, follow bool, line func(slipway.LogLine) error) error {
	if err := b.asked(by, "log %d %s %t", id, step, follow); err != nil {
		return err
	}
	return b.logs(ctx, line)
}

func (b *backend) Events(_ context.Context, by slipway.User, project string, after int64) ([]slipway.Event, int64, error) {
	err := b.asked(by, "events %s %d", project, after)
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []slipway.Event
	for _, e := range b.events {
		if e.ID > after && (project == "" || e.Project == project) {
			out, after = append(out, e), e.ID
		}
	}
	if n := len(b.events); n > 0 {
		after = min(after, b.events[n-1].ID)
	}
	return out, after, err
}

func (b *backend) Changed() (<-chan struct{}, func()) {
	return b.watch, func() { b.stopped <- struct{}{} }
}

func (b *backend) happens(e slipway.Event) {
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
	b.watch <- struct{}{}
}

func (b *backend) Vote(_ context.Context, by slipway.User, id int64, approve bool, reason string) (slipway.Approval, error) {
	return slipway.Approval{ID: id}, b.asked(by, "vote %d %t %s", id, approve, reason)
}

func (b *backend) CancelRun(_ context.Context, by slipway.User, id int64, reason string) (slipway.Run, error) {
	return slipway.Run{ID: id}, b.asked(by, "cancel %d %s", id, reason)
}

func (b *backend) RetryRun(_ context.Context, by slipway.User, id int64) (slipway.Run, error) {
	return slipway.Run{ID: id}, b.asked(by, "retry %d", id)
}

func (b *backend) Rollback(_ context.Context, by slipway.User, r slipway.RollbackRequest) (slipway.Run, error) {
	return slipway.Run{ID: 9}, b.asked(by, "rollback %+v", r)
}

func (b *backend) LiftQuarantine(_ context.Context, by slipway.User, p, service, version string) (slipway.Release, error) {
	return slipway.Release{Version: version}, b.asked(by, "lift %s %s %s", p, service, version)
}

func (b *backend) Pulls(_ context.Context, by slipway.User, p string) ([]slipway.PullRequest, error) {
	return some(b, slipway.PullRequest{Number: 1}), b.asked(by, "pulls %s", p)
}

func (b *backend) Pull(_ context.Context, by slipway.User, p string, n int64) (slipway.PullRequest, error) {
	return slipway.PullRequest{Number: n}, b.asked(by, "pull %s %d", p, n)
}

func (b *backend) Merge(_ context.Context, by slipway.User, p string, n int64) (slipway.PullRequest, error) {
	return slipway.PullRequest{Number: n}, b.asked(by, "merge %s %d", p, n)
}

func (b *backend) ReviewPull(_ context.Context, by slipway.User, p string, n int64, head string) (slipway.PullRequest, error) {
	return slipway.PullRequest{Number: n}, b.asked(by, "review %s %d at %s", p, n, head)
}

func (b *backend) ClosePull(_ context.Context, by slipway.User, p string, n int64) (slipway.PullRequest, error) {
	return slipway.PullRequest{Number: n}, b.asked(by, "close %s %d", p, n)
}

func (b *backend) Releases(_ context.Context, by slipway.User, f slipway.ReleaseFilter) ([]slipway.Release, error) {
	return some(b, slipway.Release{ID: 1}), b.asked(by, "releases %s %s %d %d", f.Project, f.Service, f.Before, f.Limit)
}

func (b *backend) Projects(_ context.Context, by slipway.User) ([]slipway.Project, error) {
	return some(b, slipway.Project{ID: 1}), b.asked(by, "projects")
}

func (b *backend) CreateProject(_ context.Context, by slipway.User, p slipway.Project) (slipway.Project, error) {
	return p, b.asked(by, "create project %s %s %s", p.Name, p.DefaultBranch, p.GitURL)
}

func (b *backend) Codebases(_ context.Context, by slipway.User, project string) ([]slipway.Codebase, error) {
	return some(b, slipway.Codebase{ID: 1}), b.asked(by, "codebases %s", project)
}

func (b *backend) CreateCodebase(_ context.Context, by slipway.User, c slipway.Codebase, r *slipway.ConnectRequest) (slipway.Connected, error) {
	out := slipway.Connected{Codebase: &slipway.CodebaseDetail{Codebase: c}}
	if r != nil {
		return out, b.asked(by, "create codebase %s on %s with %s", c.Key(), r.Forge, r.Token)
	}
	return out, b.asked(by, "create codebase %s %s %t", c.Key(), c.GitURL, c.Linked)
}

func (b *backend) RemoveCodebase(_ context.Context, by slipway.User, project, name string) (slipway.Removed, error) {
	return slipway.Removed{}, b.asked(by, "remove codebase %s %s", project, name)
}

func (b *backend) Clusters(_ context.Context, by slipway.User) ([]slipway.Cluster, error) {
	return some(b, slipway.Cluster{Name: "a"}), b.asked(by, "clusters")
}

func (b *backend) AddCluster(_ context.Context, by slipway.User, name, contextName string, kubeconfig []byte) (slipway.Cluster, error) {
	return slipway.Cluster{Name: name}, b.asked(by, "add cluster %s %s %s", name, contextName, kubeconfig)
}

func (b *backend) RemoveCluster(_ context.Context, by slipway.User, name string) error {
	return b.asked(by, "remove cluster %s", name)
}

func (b *backend) Users(_ context.Context, by slipway.User) ([]slipway.User, error) {
	return some(b, slipway.User{Name: "ada"}), b.asked(by, "users")
}

func (b *backend) CreateUser(_ context.Context, by slipway.User, name string, admin bool) (slipway.User, error) {
	return slipway.User{Name: name, Admin: admin}, b.asked(by, "create user %s %t", name, admin)
}

func (b *backend) SetRole(_ context.Context, by slipway.User, user, p string, role slipway.Role) (slipway.User, error) {
	return slipway.User{Name: user}, b.asked(by, "role %s %s %s", user, p, role)
}

func (b *backend) CreateToken(_ context.Context, by slipway.User, user, name string) (string, error) {
	return "slp_new", b.asked(by, "token %s %s", user, name)
}

func (b *backend) Tokens(_ context.Context, by slipway.User, user string) ([]slipway.Token, error) {
	return some(b, slipway.Token{ID: 1}), b.asked(by, "tokens of %s", user)
}

func (b *backend) RevokeToken(_ context.Context, by slipway.User, user string, id int64) error {
	return b.asked(by, "revoke %s %d", user, id)
}

func (b *backend) RemoveUser(_ context.Context, by slipway.User, name string) error {
	return b.asked(by, "remove user %s", name)
}

func (b *backend) CreateLink(_ context.Context, by slipway.User, user string) (string, error) {
	return "http://x/signin/code", b.asked(by, "link %s", user)
}

func (b *backend) Identify(r *http.Request) (slipway.User, error) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	b.mu.Lock()
	defer b.mu.Unlock()
	if token == "wrong" {
		return slipway.User{}, slipway.Errorf(slipway.Unauthorized, "the token is unknown")
	}
	return b.users[token], nil
}

func (b *backend) Redeem(_ context.Context, code, name string) (slipway.User, string, error) {
	return slipway.User{Name: "ada"}, "slp_new", b.asked(slipway.User{}, "redeem %s %s", code, name)
}

// world is the API over a backend, served.
type world struct {
	*backend
	t   *testing.T
	url string
	log *bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWaiting(t, 0)
}

// newWorldWaiting waits that long for the body of a request, with 0 as a server does.
func newWorldWaiting(t *testing.T, body time.Duration) *world {
	t.Helper()
	w := &world{t: t, log: &bytes.Buffer{}, backend: &backend{
		users: map[string]slipway.User{"ada": {Name: "ada"}, "robot": {Name: "robot-shop-qa", Robot: &slipway.Robot{Project: "shop", Environment: "qa"}}},
		watch: make(chan struct{}), stopped: make(chan struct{}, 10), left: make(chan struct{}, 1000),
	}}
	b := w.backend
	server := httptest.NewServer(api.New(api.Options{Reads: b, Streams: b, Deliveries: b, Pulls: b, Reviews: b, Settings: b, Codebases: b, People: b, Credentials: b, Identity: b,
		Heartbeat: 20 * time.Millisecond, BodyTimeout: body, Log: slog.New(slog.NewTextHandler(w.log, nil))}))
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *world) client(token string) *client.Client {
	w.t.Helper()
	c, err := client.New(w.url, token)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// ask sends a request as ada and returns the answer with its body.
func (w *world) ask(method, path, body string, header ...string) (*http.Response, string) {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer ada")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(b)
}

// wantError fails the test unless the answer is that error.
func (w *world) wantError(resp *http.Response, body string, code slipway.Code, words string) {
	w.t.Helper()
	var got api.ErrorBody
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		w.t.Fatalf("%s: %v in %q", resp.Request.URL, err, body)
	}
	if resp.StatusCode != code.HTTPStatus() || got.Error.Code != code || !strings.Contains(got.Error.Message, words) || resp.Header.Get("Content-Type") != "application/json" {
		w.t.Errorf("%s %s: %d %q, want %s and %q", resp.Request.Method, resp.Request.URL, resp.StatusCode, body, code, words)
	}
	if challenge := resp.Header.Get("WWW-Authenticate"); (challenge == `Bearer realm="slipway"`) != (code == slipway.Unauthorized) {
		w.t.Errorf("%s: challenge %q", resp.Request.URL, challenge)
	}
}

// Each method of the client, as Go calls it, and what arrives behind the API.
func methods(c *client.Client, ctx context.Context) map[string]func() error {
	drop := func(_ any, err error) error { return err }
	return map[string]func() error{
		"board shop": func() error { return drop(c.Board(ctx, "shop")) },
		"runs {Project:shop Codebase: Service:cart Ref:refs/heads/a b Commit:abc State:failed Before:7 Limit:3}": func() error {
			return drop(c.Runs(ctx, slipway.RunFilter{Project: "shop", Service: "cart", Ref: "refs/heads/a b", Commit: "abc", State: slipway.RunFailed, Before: 7, Limit: 3}))
		},
		"runs {Project: Codebase: Service: Ref: Commit: State: Before:0 Limit:0}": func() error { return drop(c.Runs(ctx, slipway.RunFilter{})) },
		"run 7":                 func() error { return drop(c.Run(ctx, 7)) },
		"report 7 test/cart":    func() error { return drop(c.Report(ctx, 7, "test/cart")) },
		"trace a b&c=d in ":     func() error { return drop(c.Trace(ctx, "a b&c=d")) },
		"trace v1 in shop":      func() error { return drop(c.TraceIn(ctx, "shop", "v1")) },
		"vote 7 true why not":   func() error { return drop(c.Vote(ctx, 7, true, "why not")) },
		"vote 8 false <b>":      func() error { return drop(c.Vote(ctx, 8, false, "<b>")) },
		"cancel 7 enough":       func() error { return drop(c.CancelRun(ctx, 7, "enough")) },
		"retry 7":               func() error { return drop(c.RetryRun(ctx, 7)) },
		"lift shop cart v1.0.0": func() error { return drop(c.LiftQuarantine(ctx, "shop", "cart", "v1.0.0")) },
		"lift shop cart a/b":    func() error { return drop(c.LiftQuarantine(ctx, "shop", "cart", "a/b")) },
		"rollback {Project:shop Service:cart Environment:qa To:v1 Reason:r}": func() error {
			return drop(c.Rollback(ctx, slipway.RollbackRequest{Project: "shop", Service: "cart", Environment: "qa", To: "v1", Reason: "r"}))
		},
		"runs {Project:shop Codebase:shop/web Service: Ref: Commit: State: Before:0 Limit:0}": func() error { return drop(c.Runs(ctx, slipway.RunFilter{Codebase: "shop/web"})) },
		"runs {Project:shop Codebase:shop Service: Ref: Commit: State: Before:0 Limit:0}":     func() error { return drop(c.Runs(ctx, slipway.RunFilter{Codebase: "shop"})) },
		"pull shop/web 3":         func() error { return drop(c.Pull(ctx, "shop/web", 3)) },
		"merge shop/web 3":        func() error { return drop(c.Merge(ctx, "shop/web", 3)) },
		"review shop/web 3 at c6": func() error { return drop(c.ReviewPull(ctx, "shop/web", 3, "c6")) },
		"close shop/web 3":        func() error { return drop(c.ClosePull(ctx, "shop/web", 3)) },
		"pulls shop":              func() error { return drop(c.Pulls(ctx, "shop")) },
		"merge shop 3":            func() error { return drop(c.Merge(ctx, "shop", 3)) },
		"pull shop 3":             func() error { return drop(c.Pull(ctx, "shop", 3)) },
		"review shop 3 at c6":     func() error { return drop(c.ReviewPull(ctx, "shop", 3, "c6")) },
		"close shop 3":            func() error { return drop(c.ClosePull(ctx, "shop", 3)) },
		"releases shop  0 0":      func() error { return drop(c.Releases(ctx, slipway.ReleaseFilter{Project: "shop"})) },
		"releases shop cart 0 0":  func() error { return drop(c.Releases(ctx, slipway.ReleaseFilter{Project: "shop", Service: "cart"})) },
		"releases shop  12 500": func() error {
			return drop(c.Releases(ctx, slipway.ReleaseFilter{Project: "shop", Before: 12, Limit: 501}))
		},
		"projects": func() error { return drop(c.Projects(ctx)) },
		"create project a trunk https://x/": func() error {
			return drop(c.CreateProject(ctx, slipway.Project{Name: "a", DefaultBranch: "trunk", GitURL: "https://x/"}))
		},
		"codebases shop": func() error { return drop(c.Codebases(ctx, "shop")) },
		"create codebase shop/web https://x/ true": func() error {
			return drop(c.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "web", GitURL: "https://x/", Linked: true}, nil))
		},
		"create codebase shop/web on gitea with t": func() error {
			return drop(c.CreateCodebase(ctx, slipway.Codebase{Project: "shop", Name: "web", GitURL: "https://x/"}, &slipway.ConnectRequest{Forge: slipway.Gitea, Token: "t"}))
		},
		"remove codebase shop web": func() error { return drop(c.RemoveCodebase(ctx, "shop", "web")) },
		"clusters":                 func() error { return drop(c.Clusters(ctx)) },
		"add cluster a ctx text":   func() error { return drop(c.AddCluster(ctx, "a", "ctx", []byte("text"))) },
		"remove cluster a":         func() error { return c.RemoveCluster(ctx, "a") },
		"users":                    func() error { return drop(c.Users(ctx)) },
		"create user bob true":     func() error { return drop(c.CreateUser(ctx, "bob", true)) },
		"role bob shop viewer":     func() error { return drop(c.SetRole(ctx, "bob", "shop", slipway.Viewer)) },
		"token bob laptop":         func() error { return drop(c.CreateToken(ctx, "bob", "laptop")) },
		"tokens of bob":            func() error { return drop(c.Tokens(ctx, "bob")) },
		"revoke bob 7":             func() error { return c.RevokeToken(ctx, "bob", 7) },
		"remove user bob":          func() error { return c.RemoveUser(ctx, "bob") },
		"link bob":                 func() error { return drop(c.CreateLink(ctx, "bob")) },
		"log 7 build/cart false":   func() error { return c.Log(ctx, 7, "build/cart", false, func(slipway.LogLine) error { return nil }) },
		"log 7 build/cart true":    func() error { return c.Log(ctx, 7, "build/cart", true, func(slipway.LogLine) error { return nil }) },
	}
}

func TestEveryMethodOfTheClientHasItsRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.logs = func(context.Context, func(slipway.LogLine) error) error { return nil }
	for want, call := range methods(w.client("ada"), t.Context()) {
		if err := call(); err != nil {
			t.Errorf("%s: %v", want, err)
		} else if got := w.last(); got != "ada: "+want {
			t.Errorf("asked %q, want %q", got, want)
		}
	}
	me, err := w.client("ada").Whoami(t.Context())
	if err != nil || me.Name != "ada" {
		t.Errorf("whoami: %+v, %v", me, err)
	}
	user, token, err := w.client("").Login(t.Context(), "code", "laptop")
	if err != nil || user != "ada" || token != "slp_new" || w.last() != ": redeem code laptop" {
		t.Errorf("login: %q %q %v, asked %q", user, token, err, w.last())
	}
}

// Errors come through the API as they were, but for the detail of internal ones.
func TestErrorsComeThrough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	seen := map[int]slipway.Code{}
	for _, code := range slipway.Codes() {
		w.err = fmt.Errorf("around: %w", slipway.Errorf(code, "words of %s", code))
		status := code.HTTPStatus()
		if seen[status] != "" || status < 400 || (status == http.StatusInternalServerError) != (code == slipway.Internal) {
			t.Errorf("%s has status %d, as %q has", code, status, seen[status])
		}
		seen[status] = code
		want := "around: words of " + string(code)
		if code == slipway.Internal {
			want = "internal error; the server's log has the details"
		}
		for name, call := range methods(w.client("ada"), t.Context()) {
			err := call()
			if slipway.ErrorCode(err) != code || err.Error() != want {
				t.Errorf("%s: %v (%s), want %q (%s)", name, err, slipway.ErrorCode(err), want, code)
			}
		}
	}
	w.err = errors.New("a secret detail")
	if _, err := w.client("ada").Run(t.Context(), 1); slipway.ErrorCode(err) != slipway.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(w.log.String(), "a secret detail") || strings.Contains(w.log.String(), "Bearer") {
		t.Errorf("the log has:\n%s", w.log)
	}
}

func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for token, code := range map[string]slipway.Code{"": slipway.Unauthorized, "wrong": slipway.Unauthorized, "unknown": slipway.Unauthorized, "robot": slipway.Forbidden} {
		calls := methods(w.client(token), t.Context())
		calls["whoami"] = func() error { _, err := w.client(token).Whoami(t.Context()); return err }
		calls["events"] = func() error {
			return w.client(token).Events(t.Context(), "", 0, func(slipway.Event) error { return nil })
		}
		for name, call := range calls {
			if err := call(); slipway.ErrorCode(err) != code {
				t.Errorf("%s with token %q: %v, want %s", name, token, err, code)
			}
		}
	}
	if w.last() != "" {
		t.Errorf("strangers came through: %s", w.last())
	}
	resp, body := w.ask("GET", "/api/v1/whoami", "", "Authorization", "")
	w.wantError(resp, body, slipway.Unauthorized, "sign in first")
	resp, body = w.ask("GET", "/api/v1/events?follow=1", "", "Authorization", "Bearer wrong")
	w.wantError(resp, body, slipway.Unauthorized, "unknown")
	resp, body = w.ask("GET", "/api/v1/runs/1/log", "", "Authorization", "Bearer robot")
	w.wantError(resp, body, slipway.Forbidden, "robot")
}

// A page of another site cannot use the cookie of somebody who is signed in.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, header := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.test"}, {"Sec-Fetch-Site", "same-site"}} {
		resp, body := w.ask("POST", "/api/v1/runs/1/cancel", `{}`, header...)
		w.wantError(resp, body, slipway.Forbidden, "another site")
	}
	if w.last() != "" {
		t.Errorf("came through: %s", w.last())
	}
	for _, header := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}, {"Origin", w.url}} {
		if resp, body := w.ask("POST", "/api/v1/runs/1/cancel", `{}`, header...); resp.StatusCode != http.StatusOK {
			t.Errorf("%v: %d %s", header, resp.StatusCode, body)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct {
		method, path, body string
		code               slipway.Code
		says               string
	}{
		{"GET", "/api/", "", slipway.NotFound, "no such path or method"},
		{"GET", "/api/v2/runs", "", slipway.NotFound, "no such path or method"},
		{"DELETE", "/api/v1/runs", "", slipway.NotFound, "DELETE /api/v1/runs"},
		{"POST", "/api/v1/whoami", "", slipway.NotFound, "no such path"},
		{"GET", "/api/v1/projects/shop/nothing", "", slipway.NotFound, "no such path"},
		{"GET", "/api/v1/runs/x", "", slipway.Invalid, `run "x": expected a positive number`},
		{"GET", "/api/v1/runs/-1", "", slipway.Invalid, "positive"},
		{"GET", "/api/v1/runs/0", "", slipway.Invalid, "positive"},
		{"GET", "/api/v1/runs/99999999999999999999", "", slipway.Invalid, "positive"},
		{"GET", "/api/v1/runs/x/log", "", slipway.Invalid, "positive"},
		{"POST", "/api/v1/approvals/x/approve", "{}", slipway.Invalid, "approval"},
		{"POST", "/api/v1/projects/shop/pulls/x/merge", "", slipway.Invalid, "pull"},
		{"GET", "/api/v1/runs?limit=x", "", slipway.Invalid, `limit="x"`},
		{"GET", "/api/v1/runs?limit=-1", "", slipway.Invalid, "limit"},
		{"GET", "/api/v1/runs?before=9999999999999999999", "", slipway.Invalid, "before"},
		{"GET", "/api/v1/runs?state=happy", "", slipway.Invalid, "expected one of [queued running"},
		{"GET", "/api/v1/events?after=x", "", slipway.Invalid, "after"},
		{"GET", "/api/v1/events?after=-1", "", slipway.Invalid, "after"},
		{"GET", "/api/v1/events?follow=1&after=x", "", slipway.Invalid, "after"},
		{"POST", "/api/v1/approvals/1/approve", `{"raeson": "x"}`, slipway.Invalid, `unknown field "raeson"`},
		{"POST", "/api/v1/approvals/1/approve", `{"reason": 1}`, slipway.Invalid, "request body"},
		{"POST", "/api/v1/approvals/1/approve", `{"reason": "x"} {"reason": "y"}`, slipway.Invalid, "more after"},
		{"POST", "/api/v1/approvals/1/approve", `[]`, slipway.Invalid, "request body"},
		{"POST", "/api/v1/approvals/1/approve", `{"reason": "x"`, slipway.Invalid, "request body"},
		{"POST", "/api/v1/projects", `{"name": "x", "owner": "me"}`, slipway.Invalid, "owner"},
		{"POST", "/api/v1/projects/shop/rollback", `{"version": "x"}`, slipway.Invalid, "version"},
		{"POST", "/api/v1/users", `{"name": "x", "role": "admin"}`, slipway.Invalid, "role"},
		{"PUT", "/api/v1/projects/shop/members/bob", `{"roles": "admin"}`, slipway.Invalid, "roles"},
		{"POST", "/api/v1/clusters", `{"kubeconfg": ""}`, slipway.Invalid, "kubeconfg"},
		{"POST", "/api/v1/users/bob/tokens", `{"expires": ""}`, slipway.Invalid, "expires"},
		{"POST", "/api/v1/login", `{"user": "x"}`, slipway.Invalid, "user"},
		{"POST", "/api/v1/login", `{"code": "` + strings.Repeat("x", 70<<10) + `"}`, slipway.Invalid, "more than 65536 bytes"},
		{"POST", "/api/v1/clusters", `{"kubeconfig": "` + strings.Repeat("x", 5<<20) + `"}`, slipway.Invalid, "more than 4194304 bytes"},
	} {
		resp, body := w.ask(c.method, c.path, c.body)
		w.wantError(resp, body, c.code, c.says)
	}
	if w.last() != "" {
		t.Errorf("came through: %s", w.last())
	}
}

// The project of a rollback is that of the path, whatever the body says; no body is an empty one.
func TestBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ask("POST", "/api/v1/projects/shop/rollback", `{"project": "other", "service": "cart"}`)
	if got := w.last(); !strings.Contains(got, "Project:shop") {
		t.Errorf("asked %q", got)
	}
	if resp, body := w.ask("POST", "/api/v1/runs/%235/cancel", ""); resp.StatusCode != http.StatusOK || w.last() != "ada: cancel 5 " {
		t.Errorf("%d %s, asked %q", resp.StatusCode, body, w.last())
	}
	if w.ask("GET", "/api/v1/runs?limit=1000", ""); !strings.Contains(w.last(), "Limit:200") {
		t.Errorf("asked %q", w.last())
	}
}

// Lists are never null, and nothing is kept by caches.
func TestAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.list = true
	for _, path := range []string{"runs", "projects", "clusters", "users", "users/ada/tokens", "projects/shop/pulls", "projects/shop/releases", "events"} {
		resp, body := w.ask("GET", "/api/v1/"+path, "")
		if resp.StatusCode != http.StatusOK || strings.TrimSpace(body) != "[]" {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", path, resp.Header)
		}
	}
}

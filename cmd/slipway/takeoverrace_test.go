package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

// on has something happen at the n-th request from now on of a method to a path with that end: before it is answered,
// or when it has been and whoever asked has not seen the end of the answer. happened waits for that.
func (f *fakeForge) on(method, end string, n int32, before, after func()) (happened func()) {
	var seen atomic.Int32
	done := make(chan struct{})
	f.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.HasSuffix(r.URL.Path, end) || seen.Add(1) != n {
			return false
		}
		defer close(done)
		if before != nil {
			before()
			return false
		}
		f.mux.ServeHTTP(w, r)
		after()
		return true
	})
	return func() {
		f.t.Helper()
		select {
		case <-done:
		case <-time.After(time.Minute):
			f.t.Fatalf("no request %d: %s %s", n, method, end)
		}
	}
}

// The second request of this kind brings what the first has listed.
const packPath = "/shop/backend.git/git-upload-pack"

// stepped is a server without its loops, with project shop on a forge: it does what the test has it do.
type stepped struct {
	*server
	t     *testing.T
	f     *fakeForge
	by    slipway.User
	again slipway.ConnectRequest
	first string // commit of main, which ran
}

func newStepped(t *testing.T) *stepped {
	t.Helper()
	f := newFakeForge(t)
	s := &stepped{server: serverAlone(t), t: t, f: f, by: slipway.User{Name: adminName, Admin: true}, first: f.commit("README", "one")}
	f.push("HEAD:refs/heads/main")
	s.mirroring("shop", f.gitURL())
	s.again = slipway.ConnectRequest{Project: "shop", Forge: slipway.GitHub, Address: f.url, Token: f.token}
	must[slipway.Connected](t)(s.forges.Connect(t.Context(), s.by, s.again))
	if err := s.mirrors.Fetch(t.Context(), "shop", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.forges.SyncPulls(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	return s
}

func serverAlone(t *testing.T) *server {
	t.Helper()
	data := t.TempDir()
	o := serveOptions{data: data, buildkit: "unix://" + filepath.Join(data, "none.sock"), poll: time.Hour, pause: time.Millisecond, registryHost: slipway.EmbeddedRegistry, url: "http://slipway.test"}
	s, err := openServer(t.Context(), o, "127.0.0.1:1", slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// runsOf are the refs and commits that have runs, newest first.
func runsOf(t *testing.T, s *server) string {
	t.Helper()
	var out []string
	for _, r := range must[[]slipway.Run](t)(s.store.Runs(t.Context(), slipway.RunFilter{})) {
		out = append(out, strings.TrimPrefix(r.Ref, "refs/heads/")+"@"+r.Commit)
	}
	return strings.Join(out, " ")
}

// mirroring makes a project that mirrors, and nothing of it yet.
func (s *stepped) mirroring(name, gitURL string) {
	s.t.Helper()
	made, keep, err := s.repos.Create(s.t.Context(), slipway.Codebase{Project: name, GitURL: gitURL, DefaultBranch: "main"})
	if err != nil {
		s.t.Fatal(err)
	}
	must[slipway.Project](s.t)(s.store.CreateProject(s.t.Context(), slipway.Project{Name: name, DefaultBranch: "main", GitURL: made.GitURL}, adminName))
	if err := keep(); err != nil {
		s.t.Fatal(err)
	}
}

// evil has a stranger's repository take the name, and returns the commit on its main branch.
func (s *stepped) evil() string {
	s.t.Helper()
	s.f.takes(99)
	evil := s.f.commit("README", "evil")
	s.f.push("HEAD:refs/heads/main")
	return evil
}

// back gives the name to the repository again that was connected.
func (s *stepped) back() {
	s.f.push(s.first + ":refs/heads/main")
	s.f.takes(7)
}

// untouched wants nothing to have followed: no run but the first, no ref moved, no pull request, nothing said.
func (s *stepped) untouched() {
	s.t.Helper()
	if got := runsOf(s.t, s.server); got != "main@"+s.first {
		s.t.Errorf("runs %s", got)
	}
	refs := must[map[string]string](s.t)(s.repos.Open("shop").Refs(s.t.Context()))
	if len(refs) != 1 || refs["refs/heads/main"] != s.first {
		s.t.Errorf("refs %v", refs)
	}
	if pulls := must[[]slipway.PullRequest](s.t)(s.store.Pulls(s.t.Context(), "shop", slipway.PullOpen)); len(pulls) != 0 {
		s.t.Errorf("pull requests %+v", pulls)
	}
	if open := must[[]slipway.Push](s.t)(s.store.OpenPushes(s.t.Context())); len(open) != 0 {
		s.t.Errorf("left open: %+v", open)
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	if len(s.f.statuses)+len(s.f.comments) != 0 {
		s.t.Errorf("told: %v %v", s.f.statuses, s.f.comments)
	}
}

// moved connects the project with the place where its repository is now.
func (s *stepped) moved(store *fakeForge) func() {
	return func() {
		s.f.git("push", "-q", store.bare, s.first+":refs/heads/main")
		to := s.again
		to.GitURL = store.gitURL()
		if _, err := s.forges.Connect(s.t.Context(), s.by, to); err != nil {
			s.t.Error(err)
		}
	}
}

// What a stranger's repository gave before the project was connected with another place is not taken for that place's:
// neither branches nor pull requests.
func TestTakenOverAndConnectedDuringAFetch(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	s.evil()
	happened := s.f.on(http.MethodPost, packPath, 2, nil, s.moved(s.f.beside("shop/store", 7)))
	if err := s.mirrors.Fetch(t.Context(), "shop", nil); !errors.Is(err, act.ErrConnectedAnew) {
		t.Errorf("the poll of the old place: %v", err)
	}
	happened()
	s.untouched()
	if err := s.mirrors.Fetch(t.Context(), "shop", nil); err != nil {
		t.Errorf("the next poll: %v", err)
	}
	s.untouched()

	s = newStepped(t)
	s.f.pull(3, s.f.commit("README", "three"), "main", nil)
	happened = s.f.on(http.MethodPost, packPath, 2, nil, s.moved(s.f.beside("shop/store", 7)))
	if err := s.forges.SyncPulls(t.Context(), "shop"); !errors.Is(err, act.ErrConnectedAnew) {
		t.Errorf("the pull requests of the old place: %v", err)
	}
	happened()
	s.untouched()
}

// A name that is the repository's again when the forge is asked says nothing of what was fetched before; one that it
// was when the forge was asked, nothing of what is fetched after.
func TestTakenOverBetweenFetchAndQuestion(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	s.evil()
	happened := s.f.on(http.MethodGet, "/repos/shop/backend", 1, s.back, nil)
	if err := s.mirrors.Fetch(t.Context(), "shop", nil); err != nil {
		t.Error(err)
	}
	happened()
	s.untouched()

	s.f.commit("README", "two")
	s.f.push("HEAD:refs/heads/main")
	happened = s.f.on(http.MethodGet, "/repos/shop/backend", 1, nil, func() { s.evil() })
	if err := s.mirrors.Fetch(t.Context(), "shop", nil); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("taken over after the question: %v", err)
	}
	happened()
	s.untouched()
}

// A pull request that the forge listed as a stranger's stays that, whosever the name is when its head is fetched.
func TestPullOfAStrangerWhoLeft(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	evil := s.evil()
	s.f.pull(4, evil, "main", nil)
	happened := s.f.on(http.MethodGet, "/repos/shop/backend/pulls", 1, nil, s.back)
	if err := s.forges.SyncPulls(t.Context(), "shop"); slipway.ErrorCode(err) != slipway.Unavailable || !strings.Contains(err.Error(), "id 99, not 7") {
		t.Errorf("pull request 4: %v", err)
	}
	happened()
	s.untouched()
}

// Who may write to what has taken the name between two questions may not write to the repository.
func TestRightsOfAStrangersRepository(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	three := s.f.commit("README", "three")
	s.f.pull(3, three, "main", nil)
	if err := s.forges.SyncPulls(t.Context(), "shop"); err != nil {
		t.Fatal(err)
	}
	before := runsOf(t, s.server)
	body := s.f.commented(41, 3, "eve", "/slipway retry")
	h := http.Header{"X-Github-Event": {"issue_comment"}, "X-Github-Delivery": {"c-1"}, "X-Hub-Signature-256": {s.f.sign(body)}, "Content-Type": {"application/json"}}
	if _, fresh, err := s.forges.Receive(t.Context(), "shop", h, body); err != nil || !fresh {
		t.Fatal(fresh, err)
	}
	if got := runsOf(t, s.server); got != before {
		t.Fatal(got)
	}
	s.runOfPullEnds(three)
	happened := s.f.on(http.MethodGet, "/collaborators/eve/permission", 1, func() {
		s.f.takes(99)
		s.f.mu.Lock()
		defer s.f.mu.Unlock()
		s.f.rights["eve"] = "admin"
	}, nil)
	if next, err := s.forges.Work(t.Context(), "shop"); err != nil || next.IsZero() {
		t.Errorf("the comment is not tried again: %v, %v", next, err)
	}
	happened()
	if _, obeyed, err := s.store.Command(t.Context(), "shop", "41"); obeyed || err != nil {
		t.Errorf("obeyed: %t, %v", obeyed, err)
	}
}

// runOfPullEnds cancels the run of a commit.
func (s *stepped) runOfPullEnds(commit string) {
	s.t.Helper()
	for _, r := range must[[]slipway.Run](s.t)(s.store.Runs(s.t.Context(), slipway.RunFilter{Project: "shop", Commit: commit})) {
		if err := s.store.CancelRun(s.t.Context(), r.ID, adminName, "test"); err != nil {
			s.t.Fatal(err)
		}
	}
}

// While the forge does not answer whose the name is, as with a token that was revoked since, what git gave waits.
func TestTokenRevokedDuringAPoll(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]slipway.Code{http.StatusUnauthorized: slipway.Forbidden, http.StatusBadGateway: slipway.Unavailable} {
		s := newStepped(t)
		two := s.f.commit("README", "two")
		s.f.push("HEAD:refs/heads/main")
		s.f.on(http.MethodPost, packPath, 2, nil, func() {
			s.f.setRefuse(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/api/") {
					w.WriteHeader(status)
					return true
				}
				return false
			})
		})
		if err := s.mirrors.Fetch(t.Context(), "shop", nil); slipway.ErrorCode(err) != code {
			t.Errorf("%d: %v", status, err)
		}
		s.untouched()
		s.f.setRefuse(nil)
		if err := s.mirrors.Fetch(t.Context(), "shop", nil); err != nil {
			t.Error(err)
		}
		if got := runsOf(t, s.server); !strings.Contains(got, two) {
			t.Errorf("runs %s", got)
		}
	}
}

// What was fetched for a codebase that was removed meanwhile does not get into the one that has its name now.
func TestCodebaseReplacedDuringAPoll(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	web, other := s.f.beside("shop/web", 8), s.f.beside("shop/other", 9)
	old := web.commit("README", "web")
	web.push("HEAD:refs/heads/main")
	other.commit("README", "other")
	other.push("HEAD:refs/heads/main")
	create := func(f *fakeForge) {
		r := s.again
		if _, err := s.forges.CreateCodebase(t.Context(), s.by, slipway.Codebase{Project: "shop", Name: "web", GitURL: f.gitURL()}, &r); err != nil {
			t.Error(err)
		}
	}
	create(web)
	happened := s.f.on(http.MethodPost, "/shop/web.git/git-upload-pack", 2, nil, func() {
		if _, err := s.forges.RemoveCodebase(t.Context(), s.by, "shop", "web"); err != nil {
			t.Error(err)
		}
		create(other)
	})
	if err := s.mirrors.Fetch(t.Context(), "shop/web", nil); !errors.Is(err, act.ErrConnectedAnew) {
		t.Errorf("the poll of what was removed: %v", err)
	}
	happened()
	s.untouched()
	if refs := must[map[string]string](t)(s.repos.Open("shop/web").Refs(t.Context())); len(refs) != 0 {
		t.Errorf("refs %v", refs)
	}
	if err := s.mirrors.Fetch(t.Context(), "shop/web", nil); err != nil {
		t.Error(err)
	}
	if got := runsOf(t, s.server); strings.Contains(got, old) || len(strings.Fields(got)) != 2 {
		t.Errorf("runs %s", got)
	}
}

// A key of the host, or one to fetch with, that somebody replaced ends the poll that goes on with the one before, and
// nothing that it brought is taken.
func TestKeyReplacedDuringAPoll(t *testing.T) {
	t.Parallel()
	f := newSSHForge(t)
	f.commit("README", "one")
	f.push("HEAD:refs/heads/trunk")
	s := &stepped{server: serverAlone(t), t: t, by: slipway.User{Name: adminName, Admin: true}}
	s.mirroring("lib", f.URL("acme/shop.git"))
	ctx := t.Context()
	r := slipway.ConnectRequest{Project: "lib", DeployKey: slipway.NewDeployKey, HostKey: f.Fingerprint()}
	made := must[slipway.DeployKey](t)(s.forges.PrepareKey(ctx, s.by, r, ""))
	must[struct{}](t)(struct{}{}, f.Allow(made.Public))
	must[slipway.Connected](t)(s.forges.Connect(ctx, s.by, r))

	src := must[act.Source](t)(s.forges.Source(ctx, "lib"))
	during, done := s.forges.During(ctx, src)
	defer done()
	must[struct{}](t)(struct{}{}, f.NewHostKey())
	r.DeployKey, r.HostKey = "", f.Fingerprint()
	must[slipway.Connected](t)(s.forges.Connect(ctx, s.by, r))
	if err := context.Cause(during); !errors.Is(err, act.ErrConnectedAnew) {
		t.Errorf("the poll goes on: %v", err)
	}
	if _, err := s.forges.Acting(ctx, src); !errors.Is(err, act.ErrConnectedAnew) {
		t.Errorf("what it brought is taken: %v", err)
	}
	if late, done := s.forges.During(ctx, src); !errors.Is(context.Cause(late), act.ErrConnectedAnew) {
		t.Error("what begins late with the key of before does not end")
		done()
	}
	release, err := s.forges.Acting(ctx, must[act.Source](t)(s.forges.Source(ctx, "lib")))
	if err != nil {
		t.Fatal(err)
	}
	release()
}

// A server that has just started asks whose the name is before it tells the forge anything, though nothing was fetched.
func TestStrangerIsToldNothing(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	s.f.takes(99)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.reactor.Follow(ctx, "shop", nil)
	}()
	await(t, "problem", func() (bool, string) {
		d := must[slipway.CodebaseDetail](t)(s.store.CodebaseDetail(t.Context(), "shop"))
		return strings.Contains(fmt.Sprint(d.Health.Problems), "has taken over the name"), fmt.Sprintf("%+v", d.Health)
	})
	end()
	<-ended
	s.untouched()
}

// What waits of the webhooks of another repository is not obeyed for the one that is connected since.
func TestDeliveriesOfAnotherRepository(t *testing.T) {
	t.Parallel()
	s := newStepped(t)
	send := func(id int64) {
		body := s.f.commented(id, 3, "ada", "/slipway retry")
		h := http.Header{"X-Github-Event": {"issue_comment"}, "X-Github-Delivery": {fmt.Sprint("c-", id)}, "X-Hub-Signature-256": {s.f.sign(body)}, "Content-Type": {"application/json"}}
		if _, fresh, err := s.forges.Receive(t.Context(), "shop", h, body); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
	}
	waiting := func() int {
		return must[slipway.CodebaseDetail](t)(s.store.CodebaseDetail(t.Context(), "shop")).Health.Waiting
	}
	send(41)
	s.moved(s.f.beside("shop/store", 7))() // the same one
	if n := waiting(); n != 1 {
		t.Errorf("%d wait after a new name", n)
	}
	s.moved(s.f.beside("shop/another", 12))()
	if n := waiting(); n != 0 {
		t.Errorf("%d wait of another repository", n)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

const forgeToken = "ghp_thetokenofthefakeforge"

// fakeForge speaks GitHub's API and git over HTTP for one repository, from memory and a bare repository.
type fakeForge struct {
	t     *testing.T
	mux   *http.ServeMux // of the forge, which may have other repositories
	name  string         // of the repository
	id    int64
	token string
	wrong atomic.Int32 // requests that showed something else
	url   string
	bare  string // repository
	work  string // clone with which the test pushes
	user  string // whose token it is

	mu       sync.Mutex
	statuses map[string]map[string]string // by commit and context
	sets     int                          // statuses that were set, repeated ones too
	comments map[int64]*fakeComment
	pulls    map[int64]map[string]any
	hook     map[string]any // what was made through the API
	rights   map[string]string
	refuse   func(w http.ResponseWriter, r *http.Request) bool // nil: everything is answered
	private  bool
	next     int64
}

type fakeComment struct {
	ID      int64  `json:"id"`
	Body    string `json:"body"`
	pull    int64
	updates int
	User    struct {
		Login string `json:"login"`
	} `json:"user"`
}

func newFakeForge(t *testing.T) *fakeForge { return newForge(t, "shop/backend", 7, forgeToken) }

// newForge is a forge with one repository.
func newForge(t *testing.T, name string, id int64, token string) *fakeForge {
	t.Helper()
	f := newRepository(t, name, id, token)
	f.mux = http.NewServeMux()
	f.mux.HandleFunc("GET /api/v3/user", func(w http.ResponseWriter, _ *http.Request) {
		f.answer(w, 200, map[string]any{"login": f.user, "id": 9})
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		refuse := f.refuse
		f.mu.Unlock()
		if refuse != nil && refuse(w, r) {
			return
		}
		if strings.HasPrefix(r.URL.Path, "/api/") && r.Header.Get("Authorization") != "Bearer "+f.token {
			f.wrong.Add(1)
			f.answer(w, http.StatusUnauthorized, map[string]string{"message": "Bad credentials"})
			return
		}
		f.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	f.mount()
	return f
}

// beside is a further repository of the same forge, for the same token.
func (f *fakeForge) beside(name string, id int64) *fakeForge {
	f.t.Helper()
	o := newRepository(f.t, name, id, f.token)
	o.mux, o.url = f.mux, f.url
	o.mount()
	return o
}

func newRepository(t *testing.T, name string, id int64, token string) *fakeForge {
	t.Helper()
	f := &fakeForge{t: t, name: name, id: id, token: token, user: "slipway-bot", statuses: map[string]map[string]string{}, comments: map[int64]*fakeComment{}, pulls: map[int64]map[string]any{},
		rights: map[string]string{"ada": "write", "eve": "read"}, next: 100, private: true}
	f.bare, f.work = filepath.Join(t.TempDir(), filepath.FromSlash(name)+".git"), t.TempDir()
	f.git("init", "-q", "--bare", "--initial-branch=main", f.bare)
	f.git("-C", f.bare, "config", "http.receivepack", "false")
	f.git("init", "-q", "--initial-branch=main", f.work)
	return f
}

// mount adds the repository to its forge.
func (f *fakeForge) mount() {
	f.t.Helper()
	backend := filepath.Join(f.git("--exec-path"), "git-http-backend")
	repo := &cgi.Handler{Path: backend, Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(filepath.Dir(f.bare)), "GIT_HTTP_EXPORT_ALL=1"}}
	f.mux.HandleFunc("/"+f.name+".git/", func(w http.ResponseWriter, r *http.Request) {
		if _, password, given := r.BasicAuth(); password != f.token {
			if given {
				f.wrong.Add(1)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		repo.ServeHTTP(w, r)
	})
	f.api(f.mux)
}

// plainGit is git without the configuration of whoever runs the tests.
func plainGit(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "user.name=Ada", "-c", "user.email=ada@example.com"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "LC_ALL=C")
	return cmd
}

func (f *fakeForge) git(args ...string) string {
	f.t.Helper()
	cmd := plainGit(f.t.Context(), args...)
	if f.work != "" {
		if _, err := os.Stat(f.work); err == nil {
			cmd.Dir = f.work
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit changes a file in the clone and returns the commit.
func (f *fakeForge) commit(file, text string) string {
	f.t.Helper()
	path := filepath.Join(f.work, filepath.FromSlash(file))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	f.git("add", ".")
	f.git("commit", "-q", "-m", "change "+file)
	return f.git("rev-parse", "HEAD")
}

func (f *fakeForge) push(refs ...string) {
	f.t.Helper()
	f.git(append([]string{"push", "-q", "-f", f.bare}, refs...)...)
}

func (f *fakeForge) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the server under test sees what is missing
}

func (f *fakeForge) repository() map[string]any {
	return map[string]any{"id": f.id, "full_name": f.name, "default_branch": "main", "private": f.private,
		"clone_url": f.gitURL(), "html_url": f.url + "/" + f.name}
}

func (f *fakeForge) gitURL() string { return f.url + "/" + f.name + ".git" }

func (f *fakeForge) api(mux *http.ServeMux) {
	base := "/api/v3/repos/" + f.name
	handle := func(pattern string, do func(r *http.Request, body map[string]any) (int, any)) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+base+path, func(w http.ResponseWriter, r *http.Request) {
			var body map[string]any
			if r.Body != nil {
				json.NewDecoder(r.Body).Decode(&body) //nolint:errcheck // reads have none
			}
			f.mu.Lock()
			status, v := do(r, body)
			f.mu.Unlock()
			f.answer(w, status, v)
		})
	}
	handle("GET ", func(*http.Request, map[string]any) (int, any) { return 200, f.repository() })
	handle("GET /pulls", func(*http.Request, map[string]any) (int, any) {
		open := []any{}
		for _, p := range f.pulls {
			if p["state"] == "open" {
				open = append(open, p)
			}
		}
		return 200, open
	})
	handle("GET /pulls/{n}", func(r *http.Request, _ map[string]any) (int, any) {
		n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if f.pulls[n] == nil {
			return 404, map[string]string{"message": "Not Found"}
		}
		return 200, f.pulls[n]
	})
	handle("POST /statuses/{sha}", func(r *http.Request, body map[string]any) (int, any) {
		f.sets++
		sha := r.PathValue("sha")
		if f.statuses[sha] == nil {
			f.statuses[sha] = map[string]string{}
		}
		f.statuses[sha][body["context"].(string)] = fmt.Sprint(body["state"], ": ", body["description"])
		return 201, map[string]any{}
	})
	handle("GET /collaborators/{login}/permission", func(r *http.Request, _ map[string]any) (int, any) {
		right := f.rights[r.PathValue("login")]
		if right == "" {
			return 404, map[string]string{"message": "Not Found"}
		}
		return 200, map[string]string{"permission": right}
	})
	f.commentAPI(handle)
	f.hookAPI(handle)
}

func (f *fakeForge) commentAPI(handle func(string, func(*http.Request, map[string]any) (int, any))) {
	handle("GET /issues/{n}/comments", func(r *http.Request, _ map[string]any) (int, any) {
		out := []any{}
		for _, c := range f.comments {
			if strconv.FormatInt(c.pull, 10) == r.PathValue("n") {
				out = append(out, c)
			}
		}
		return 200, out
	})
	handle("POST /issues/{n}/comments", func(r *http.Request, body map[string]any) (int, any) {
		n, _ := strconv.ParseInt(r.PathValue("n"), 10, 64)
		f.next++
		c := &fakeComment{ID: f.next, Body: body["body"].(string), pull: n}
		c.User.Login = f.user
		f.comments[c.ID] = c
		return 201, c
	})
	handle("PATCH /issues/comments/{id}", func(r *http.Request, body map[string]any) (int, any) {
		id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
		if f.comments[id] == nil {
			return 404, map[string]string{"message": "Not Found"}
		}
		f.comments[id].Body = body["body"].(string)
		f.comments[id].updates++
		return 200, f.comments[id]
	})
}

func (f *fakeForge) hookAPI(handle func(string, func(*http.Request, map[string]any) (int, any))) {
	handle("GET /hooks", func(*http.Request, map[string]any) (int, any) {
		if f.hook == nil {
			return 200, []any{}
		}
		return 200, []any{f.hook}
	})
	handle("POST /hooks", func(_ *http.Request, body map[string]any) (int, any) {
		f.hook = body
		f.hook["id"] = 55
		return 201, f.hook
	})
	handle("DELETE /hooks/{id}", func(*http.Request, map[string]any) (int, any) {
		f.hook = nil
		return 204, nil
	})
	handle("PATCH /hooks/{id}", func(_ *http.Request, body map[string]any) (int, any) {
		f.hook = body
		f.hook["id"] = 55
		return 200, f.hook
	})
}

func (f *fakeForge) setRefuse(refuse func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}

// status is what the forge shows for a context of a commit.
func (f *fakeForge) status(commit, context string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.statuses[commit][context]
}

// said is Slipway's comment on a pull request; there must not be two.
func (f *fakeForge) said(pull int64) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := ""
	for _, c := range f.comments {
		if c.pull != pull {
			continue
		}
		if text != "" {
			f.t.Errorf("two comments on pull request %d", pull)
		}
		text = c.Body
	}
	return text
}

// pull opens a pull request, or changes it, and puts its head where GitHub has it.
func (f *fakeForge) pull(number int64, head, base string, more map[string]any) map[string]any {
	f.t.Helper()
	f.git("push", "-q", "-f", f.bare, fmt.Sprintf("%s:refs/pull/%d/head", head, number))
	f.mu.Lock()
	defer f.mu.Unlock()
	p := map[string]any{"number": number, "title": "a change", "state": "open", "html_url": fmt.Sprintf("%s/%s/pull/%d", f.url, f.name, number),
		"user": map[string]any{"id": 3, "login": "ada"}, "updated_at": "2026-11-21T10:00:00Z",
		"head": map[string]any{"ref": "topic", "sha": head, "repo": map[string]any{"id": f.id, "full_name": f.name}},
		"base": map[string]any{"ref": base, "repo": map[string]any{"id": f.id, "full_name": f.name}}}
	for k, v := range more {
		p[k] = v
	}
	f.pulls[number] = p
	return p
}

// fork is a head in another repository.
func fork(head string) map[string]any {
	return map[string]any{"head": map[string]any{"ref": "evil", "sha": head, "repo": map[string]any{"id": 8, "full_name": "eve/backend"}},
		"user": map[string]any{"id": 4, "login": "eve"}}
}

// payload is the body of an event.
func (f *fakeForge) payload(more map[string]any) []byte {
	f.t.Helper()
	in := map[string]any{"repository": f.repository(), "sender": map[string]any{"id": 3, "login": "ada"}}
	for k, v := range more {
		in[k] = v
	}
	return must[[]byte](f.t)(json.Marshal(in))
}

func (f *fakeForge) pushed(ref, before, after string) []byte {
	return f.payload(map[string]any{"ref": ref, "before": before, "after": after})
}

func (f *fakeForge) commented(id, pull int64, login, text string) []byte {
	return f.payload(map[string]any{"action": "created", "issue": map[string]any{"number": pull, "pull_request": map[string]any{"html_url": f.url}},
		"comment": map[string]any{"id": id, "body": text, "user": map[string]any{"id": len(login), "login": login}}})
}

// secret is what the forge signs with.
func (f *fakeForge) secret() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hook["config"].(map[string]any)["secret"].(string)
}

func (f *fakeForge) sign(body []byte) string {
	mac := hmac.New(sha256.New, []byte(f.secret()))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// deliver sends an event, signed, and returns status and body of the answer.
func (f *fakeForge) deliver(address, event, id string, body []byte) (int, string) {
	f.t.Helper()
	return f.send(address, body, map[string]string{"X-GitHub-Event": event, "X-GitHub-Delivery": id, "X-Hub-Signature-256": f.sign(body)})
}

func (f *fakeForge) send(address string, body []byte, header map[string]string) (int, string) {
	f.t.Helper()
	r := must[*http.Request](f.t)(http.NewRequestWithContext(f.t.Context(), http.MethodPost, address, bytes.NewReader(body)))
	r.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text := must[[]byte](f.t)(io.ReadAll(resp.Body))
	return resp.StatusCode, string(text)
}

// await looks until something is so, and fails after a while with what there is instead.
func await(t *testing.T, what string, so func() (bool, string)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	// Who asks all the time takes the time of who is to answer, a real forge above all: the pauses grow.
	for pause := 10 * time.Millisecond; ; pause = min(pause*5/4, 250*time.Millisecond) {
		ok, have := so()
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: it never is; there is\n%s", what, have)
		case <-time.After(pause):
		}
	}
}

// connected is a server with project shop on the forge.
func connectedSite(t *testing.T, f *fakeForge, o serveOptions) (*site, string) {
	t.Helper()
	if o.pause == 0 {
		o.pause = time.Millisecond
	}
	s := newSite(t, false, o)
	made, err := s.admin.CreateConnected(t.Context(), slipway.Project{Name: "shop", GitURL: f.gitURL()},
		slipway.ConnectRequest{Forge: slipway.GitHub, Address: f.url, Token: f.token})
	if err != nil {
		t.Fatal(err)
	}
	if made.Paste != "" || made.Project.HookURL != s.url+"/hooks/shop" || !slices.Equal(made.Project.Connection.HookIDs, []string{"55"}) {
		t.Fatalf("connected: %+v", made)
	}
	return s, made.Project.HookURL
}

// runs are those of shop as ref@commit:event, newest first.
func (s *site) runs() string {
	s.t.Helper()
	var out []string
	for _, r := range must[[]slipway.Run](s.t)(s.admin.Runs(s.t.Context(), slipway.RunFilter{Project: "shop"})) {
		out = append(out, fmt.Sprintf("%s@%s:%s:%s", strings.TrimPrefix(r.Ref, "refs/"), r.Commit[:7], r.Event, r.Actor))
	}
	return strings.Join(out, " ")
}

func (s *site) awaitRun(ref, commit, more string) {
	s.t.Helper()
	want := strings.TrimPrefix(ref, "refs/") + "@" + commit[:7] + more
	await(s.t, "run "+want, func() (bool, string) { have := s.runs(); return strings.Contains(have, want), have })
}

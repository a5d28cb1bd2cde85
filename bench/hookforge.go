package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// hookForge stands in for a Gitea with the repository acme/<project>: a line of commits, and branches that
// move along it.
type hookForge struct {
	url     string
	server  *http.Server
	commits []string
	heads   map[string]string // branch -> commit
	refs    *refs

	mu     sync.Mutex
	secret string
}

// newHookForge makes the repository with n commits behind main and starts the forge.
func newHookForge(ctx context.Context, dir string, n int) (*hookForge, error) {
	bare := filepath.Join(dir, "acme", project+".git")
	if _, err := git(ctx, "", "init", "--quiet", "--bare", "--initial-branch=main", bare); err != nil {
		return nil, err
	}
	f := &hookForge{heads: map[string]string{}}
	if err := f.fill(ctx, bare, n); err != nil {
		return nil, err
	}
	path, err := git(ctx, "", "--exec-path")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/acme/", &cgi.Handler{Path: filepath.Join(strings.TrimSpace(path), "git-http-backend"), Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}})
	f.api(mux)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.url = "http://" + listener.Addr().String()
	f.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: mux}
	go f.server.Serve(listener) //nolint:errcheck // it ends with Close
	f.refs, err = openRefs(ctx, bare)
	return f, err
}

func (f *hookForge) close() {
	f.server.Close()
	if f.refs != nil {
		f.refs.close()
	}
}

// fill makes the commits: main stands at the first, the branches are to move along the others.
func (f *hookForge) fill(ctx context.Context, bare string, n int) error {
	var in bytes.Buffer
	for i := range n + 1 {
		text := fmt.Sprint("line ", i)
		fmt.Fprintf(&in, "commit refs/line\nmark :%d\ncommitter Bench <bench@example.com> %d +0000\ndata %d\n%s\nM 100644 inline README\ndata %d\n%s\n\n", i+1, 1_700_000_000+i, len(text), text, len(text), text)
	}
	cmd := exec.CommandContext(ctx, "git", "-C", bare, "fast-import", "--quiet")
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git fast-import: %w\n%s", err, out)
	}
	out, err := git(ctx, bare, "rev-list", "--reverse", "refs/line")
	if err != nil {
		return err
	}
	f.commits = strings.Fields(out)
	if _, err := git(ctx, bare, "update-ref", "refs/heads/main", f.commits[0]); err != nil {
		return err
	}
	_, err = git(ctx, bare, "config", "transfer.hideRefs", "refs/line")
	return err
}

// move moves a branch to the i-th commit and returns what the webhook says of it.
func (f *hookForge) move(i int) ([]byte, error) {
	branch, to := fmt.Sprint("feature/", i%hookBranches), f.commits[i+1]
	before := f.heads[branch]
	if before == "" {
		before = strings.Repeat("0", 40)
	}
	if err := f.refs.move("refs/heads/"+branch, to); err != nil {
		return nil, err
	}
	f.heads[branch] = to
	return json.Marshal(map[string]any{"ref": "refs/heads/" + branch, "before": before, "after": to,
		"repository": f.repository(), "sender": map[string]any{"id": 3, "login": "ada"}, "commits": []any{map[string]any{"id": to, "message": strings.Repeat("a message ", 100)}}})
}

func (f *hookForge) repository() map[string]any {
	return map[string]any{"id": 7, "full_name": "acme/" + project, "default_branch": "main", "private": true, "clone_url": f.url + "/acme/" + project + ".git", "html_url": f.url + "/acme/" + project}
}

// api is what a connection and statuses need of Gitea's API.
func (f *hookForge) api(mux *http.ServeMux) {
	base := "/api/v1/repos/acme/" + project
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v) //nolint:errcheck // the server asks again
	}
	none := func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, []any{}) }
	mux.HandleFunc("GET "+base, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, f.repository()) })
	mux.HandleFunc("GET "+base+"/hooks", none)
	mux.HandleFunc("GET "+base+"/pulls", none)
	mux.HandleFunc("POST "+base+"/statuses/{sha}", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusCreated, struct{}{}) })
	mux.HandleFunc("POST "+base+"/hooks", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Config struct {
				Secret string `json:"secret"`
			} `json:"config"`
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			answer(w, http.StatusUnprocessableEntity, struct{}{})
			return
		}
		f.mu.Lock()
		f.secret = in.Config.Secret
		f.mu.Unlock()
		answer(w, http.StatusCreated, map[string]any{"id": 1})
	})
}

func (f *hookForge) sign(body []byte) string {
	f.mu.Lock()
	mac := hmac.New(sha256.New, []byte(f.secret))
	f.mu.Unlock()
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// refs moves refs of a repository without a process for each.
type refs struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func openRefs(ctx context.Context, bare string) (*refs, error) {
	r := &refs{cmd: exec.CommandContext(ctx, "git", "-C", bare, "update-ref", "--stdin")}
	var err error
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	return r, r.cmd.Start()
}

// move returns when the ref has moved.
func (r *refs) move(ref, commit string) error {
	if _, err := fmt.Fprintf(r.in, "start\nupdate %s %s\ncommit\n", ref, commit); err != nil {
		return err
	}
	for range 2 {
		if line, err := r.out.ReadString('\n'); err != nil || !strings.HasSuffix(line, ": ok\n") {
			return errors.Join(err, fmt.Errorf("git update-ref says %q", line))
		}
	}
	return nil
}

func (r *refs) close() {
	r.in.Close()
	r.cmd.Wait() //nolint:errcheck // it ends with its input
}

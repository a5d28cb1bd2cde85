package gitserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
)

func TestMain(m *testing.M) {
	if bare := os.Getenv("GITSERVER_BARE"); bare != "" {
		serveForKill(context.Background(), bare, os.Getenv("GITSERVER_STATE"))
		return
	}
	goleak.VerifyTestMain(m)
}

// cli is a Repository that asks the git command.
type cli struct {
	dir string
	env []string
}

func (c cli) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Env = append(append(os.Environ(), "GIT_DIR="+c.dir, "GIT_CONFIG_NOSYSTEM=1"), c.env...)
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

func (c cli) IsAncestor(ctx context.Context, ancestor, commit string) (bool, error) {
	_, err := c.git(ctx, "merge-base", "--is-ancestor", ancestor, commit)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return false, nil
	}
	return err == nil, err
}

func (c cli) Resolve(ctx context.Context, ref string) (string, error) {
	return c.git(ctx, "rev-parse", "--verify", ref+"^{commit}")
}

func (c cli) Refs(ctx context.Context, prefixes ...string) (map[string]string, error) {
	out, err := c.git(ctx, append([]string{"for-each-ref", "--format=%(objectname) %(refname)"}, prefixes...)...)
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		hash, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		refs[ref] = hash
	}
	return refs, err
}

func (c cli) UpdateRef(ctx context.Context, ref, new, old string) error {
	_, err := c.git(ctx, "update-ref", ref, new, old)
	return err
}

// pushes is a Pushes that remembers what it was told, in order.
type pushes struct {
	receive func(ctx context.Context, p Push) ([]string, error)
	propose func(ctx context.Context, p Proposal) (Proposed, error)

	mu        sync.Mutex
	calls     []string
	received  []Push
	proposals []Proposal
	pulls     map[string]Proposed // by topic
}

func (s *pushes) note(kind string, p Push) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range p.Commands {
		s.calls = append(s.calls, kind+" "+c.Ref)
	}
}

func (s *pushes) told() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.calls, ", ")
}

func (s *pushes) Receive(ctx context.Context, p Push) ([]string, error) {
	s.note("receive", p)
	s.mu.Lock()
	s.received = append(s.received, p)
	s.mu.Unlock()
	if s.receive != nil {
		return s.receive(ctx, p)
	}
	return []string{"received"}, nil
}

func (s *pushes) Propose(ctx context.Context, p Proposal) (Proposed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, "propose "+p.Base)
	s.proposals = append(s.proposals, p)
	if s.propose != nil {
		return s.propose(ctx, p)
	}
	if s.pulls == nil {
		s.pulls = map[string]Proposed{}
	}
	answer, ok := s.pulls[p.Topic]
	if !ok {
		answer = Proposed{Ref: fmt.Sprintf("refs/pull/%d/head", len(s.pulls)+1)}
	}
	s.pulls[p.Topic] = Proposed{Ref: answer.Ref, Old: p.Head}
	answer.Messages = []string{"pull request " + answer.Ref}
	return answer, nil
}

func (s *pushes) Moved(_ context.Context, p Push) []string {
	s.note("moved", p)
	return []string{"run 7: http://127.0.0.1/runs/7"}
}

func (s *pushes) Refused(_ context.Context, p Push) { s.note("refused", p) }

// world is a server with one hosted repository, and a client's working copy.
type world struct {
	*pushes
	t      testing.TB
	server *Server
	http   *httptest.Server
	stop   context.CancelCauseFunc
	bare   string
	copy   string
	log    *bytes.Buffer
}

func newWorld(t testing.TB, change func(*Options)) *world {
	t.Helper()
	base := t.TempDir()
	w := &world{t: t, pushes: &pushes{}, bare: filepath.Join(base, "demo.git"), copy: filepath.Join(base, "copy"), log: &bytes.Buffer{}}
	w.must(base, "init", "--quiet", "--bare", "--initial-branch=main", w.bare)
	w.must(base, "init", "--quiet", "--bare", "--initial-branch=main", filepath.Join(base, "demo", "lib.git"))
	ctx, stop := context.WithCancelCause(t.Context())
	w.stop = stop
	o := Options{
		State: filepath.Join(base, "state"), Pushes: w.pushes,
		Log: slog.New(slog.NewTextHandler(&locked{b: w.log}, nil)),
		Dir: func(_ context.Context, project, codebase string) (string, error) {
			if project != "demo" {
				return "", slipway.Errorf(slipway.NotFound, "project %q does not exist", project)
			}
			switch codebase {
			case "":
				return w.bare, nil
			case "lib":
				return filepath.Join(base, "demo", "lib.git"), nil
			}
			return "", slipway.Errorf(slipway.NotFound, "project demo has no codebase %q", codebase)
		},
		Open: func(dir string, env []string) Repository { return cli{dir, env} },
		Authorize: func(_ context.Context, r *http.Request, _ string, write bool) (string, error) {
			user, password, _ := r.BasicAuth()
			switch {
			case user == "" || password != "secret":
				return "", slipway.Errorf(slipway.Unauthorized, "sign in first")
			case write && user == "reader":
				return "", slipway.Errorf(slipway.Forbidden, "reader may not push")
			}
			return user, nil
		},
	}
	if change != nil {
		change(&o)
	}
	server, err := New(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	w.server = server
	w.http = httptest.NewServer(server)
	t.Cleanup(func() {
		stop(slipway.ErrShutdown)
		w.http.CloseClientConnections()
		w.http.Close()
		server.Wait()
		if left, _ := filepath.Glob(filepath.Join(base, "state", "pushes", "*")); len(left) > 0 {
			t.Errorf("left in the folder of pushes: %v", left)
		}
	})
	w.must(base, "clone", "--quiet", w.url("ann"), w.copy)
	return w
}

type locked struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (w *world) url(user string) string {
	return strings.Replace(w.http.URL, "http://", "http://"+user+":secret@", 1) + "/git/demo.git"
}

// git runs the client's git and returns all that it says.
func (w *world) git(dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com", "GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (w *world) must(dir string, args ...string) string {
	w.t.Helper()
	out, err := w.git(dir, args...)
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// commit adds a commit with one file and returns its hash.
func (w *world) commit(file, content string) string {
	w.t.Helper()
	name := filepath.Join(w.copy, file)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.must(w.copy, "add", "-A")
	w.must(w.copy, "commit", "--quiet", "-m", "change "+file)
	return w.must(w.copy, "rev-parse", "HEAD")
}

func (w *world) push(args ...string) (string, error) {
	return w.git(w.copy, append([]string{"push", "origin"}, args...)...)
}

func (w *world) ref(name string) string {
	refs, err := cli{dir: w.bare}.Refs(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return refs[name]
}

func (w *world) wantTold(want string) {
	w.t.Helper()
	if got := w.told(); got != want {
		w.t.Errorf("told %q, want %q", got, want)
	}
}

func wantText(t *testing.T, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%q does not say %q", got, part)
		}
	}
}

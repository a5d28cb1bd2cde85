package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// sshForge is a repository that is reached by SSH alone, as on a Gitea whose API nobody may use.
type sshForge struct {
	*fakeForge
	*slipwaytest.SSHGit
	root string
}

func newSSHForge(t *testing.T) *sshForge {
	t.Helper()
	root := t.TempDir()
	f := &fakeForge{t: t, bare: filepath.Join(root, "acme", "shop.git"), work: t.TempDir()}
	f.git("init", "-q", "--bare", "--initial-branch=trunk", f.bare)
	f.git("init", "-q", "--initial-branch=trunk", f.work)
	host, err := slipwaytest.NewSSHGit(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Close)
	return &sshForge{fakeForge: f, SSHGit: host, root: root}
}

// send sends a webhook as Gitea does.
func (f *sshForge) webhook(hook, secret, event, id string, more map[string]any) {
	f.t.Helper()
	in := map[string]any{"repository": map[string]any{"id": 7, "name": "shop", "full_name": "acme/shop"}, "sender": map[string]any{"id": 3, "login": "ada"}}
	for k, v := range more {
		in[k] = v
	}
	body := must[[]byte](f.t)(json.Marshal(in))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	status, text := f.fakeForge.send(hook, body, map[string]string{"X-Gitea-Event": event, "X-Gitea-Delivery": id, "X-Gitea-Signature": hex.EncodeToString(mac.Sum(nil))})
	if status != http.StatusAccepted && status != http.StatusOK {
		f.t.Fatalf("%s: %d %s", event, status, text)
	}
}

func (f *sshForge) pushed(before, after string) map[string]any {
	return map[string]any{"ref": "refs/heads/trunk", "before": before, "after": after, "pusher": map[string]any{"id": 3, "login": "ada"}, "commits": []any{}}
}

// opened sends that a pull request was opened, which says that it is of this repository.
func (f *sshForge) opened(hook, secret string, number int, topic, head, state string) {
	f.t.Helper()
	action := map[string]string{"open": "opened", "closed": "closed", "late": "synchronized"}[state]
	here := map[string]any{"id": 7, "full_name": "acme/shop"}
	f.webhook(hook, secret, "pull_request", fmt.Sprint(number, topic, head, state), map[string]any{"action": action, "number": number, "pull_request": map[string]any{
		"number": number, "title": "x", "state": strings.Replace(state, "late", "open", 1), "updated_at": map[string]string{"open": "2026-11-21T10:00:00Z", "late": "2026-11-21T10:01:00Z", "closed": "2026-11-21T10:02:00Z"}[state], "user": map[string]any{"id": 3, "login": "ada"},
		"head": map[string]any{"label": topic, "ref": topic, "sha": head, "repo_id": 7, "repo": here}, "base": map[string]any{"ref": "trunk", "sha": head, "repo_id": 7, "repo": here}}})
}

// With a deploy key alone: what is there is delivered, a webhook that somebody pasted tells of pushes and pull
// requests, and what needs the API is left. Whose head is in no branch of the repository counts as a fork's.
// A host with another key is refused until somebody says that it is right.
func TestDeployKeyAlone(t *testing.T) {
	t.Parallel()
	f := newSSHForge(t)
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/trunk")
	data := t.TempDir()
	s := newSite(t, false, serveOptions{data: data, pause: time.Millisecond}) // it polls each hour
	p := slipway.Project{Name: "shop", GitURL: f.URL("acme/shop.git")}
	r := slipway.ConnectRequest{Project: "shop", Forge: slipway.Gitea, DeployKey: slipway.NewDeployKey}
	if _, err := s.admin.PrepareKey(t.Context(), r, p.GitURL); slipway.ErrorCode(err) != slipway.Conflict || !strings.Contains(err.Error(), f.Fingerprint()) {
		t.Fatalf("a host key that nobody named: %v", err)
	}
	r.HostKey = f.Fingerprint()
	made := must[slipway.DeployKey](t)(s.admin.PrepareKey(t.Context(), r, p.GitURL))
	if made.Accepted || !strings.HasPrefix(made.Public, "ssh-ed25519 ") || !strings.Contains(made.Where, "acme/shop on Gitea") || made.Hosts != f.KnownHosts() {
		t.Fatalf("prepared %+v", made)
	}
	if _, err := s.admin.CreateConnected(t.Context(), p, r); slipway.ErrorCode(err) != slipway.Forbidden {
		t.Errorf("a key that the host does not take: %v", err)
	}
	if again := must[slipway.DeployKey](t)(s.admin.PrepareKey(t.Context(), r, p.GitURL)); again.Public != made.Public {
		t.Errorf("another key: %s", again.Public)
	}
	must[struct{}](t)(struct{}{}, f.Allow(made.Public))
	if again := must[slipway.DeployKey](t)(s.admin.PrepareKey(t.Context(), r, p.GitURL)); !again.Accepted {
		t.Errorf("the host takes it: %+v", again)
	}
	c := must[slipway.Connected](t)(s.admin.CreateConnected(t.Context(), p, r))
	secret := regexp.MustCompile(`Secret: +(\S+)`).FindStringSubmatch(c.Paste)
	if secret == nil || !strings.Contains(c.Paste, s.url+"/hooks/shop") || c.Project.Connection.Credential != "" || c.Project.DeployKey == nil || c.Project.Project.DefaultBranch != "trunk" {
		t.Fatalf("connected %+v", c)
	}
	s.awaitRun("heads/trunk", first, ":merge:mirror")

	second := f.commit("README", "two")
	f.push("HEAD:refs/heads/trunk")
	hook := c.Project.HookURL
	f.webhook(hook, secret[1], "push", "d2", f.pushed(first, second))
	s.awaitRun("heads/trunk", second, ":merge:ada@gitea")
	theirs := f.commit("README", "theirs")
	f.push("HEAD:refs/pull/1/head")
	f.opened(hook, secret[1], 1, "trunk", theirs, "open") // it lies: no branch has that commit
	await(t, "pull request 1 waits", func() (bool, string) {
		p, err := s.admin.Pull(t.Context(), "shop", 1)
		return err == nil && p.Fork && p.Held == theirs, fmt.Sprintf("%+v %v", p, err)
	})
	own := f.commit("README", "own")
	f.push("HEAD:refs/pull/2/head", "HEAD:refs/heads/topic")
	f.opened(hook, secret[1], 2, "topic", own, "open")
	s.awaitRun("pull/2/head", own, ":pull-request:ada@gitea")
	if have := s.runs(); strings.Contains(have, "pull/1/") {
		t.Errorf("what counts as a fork's runs unasked: %s", have)
	}
	must[slipway.PullRequest](t)(s.admin.ReviewPull(t.Context(), "shop", 1, theirs))
	s.awaitRun("pull/1/head", theirs, ":pull-request:admin")
	for _, r := range must[[]slipway.Run](t)(s.admin.Runs(t.Context(), slipway.RunFilter{Project: "shop"})) {
		if r.Pull != 0 && r.Fork != (r.Pull == 1) {
			t.Errorf("run %+v", r)
		}
	}
	f.opened(hook, secret[1], 2, "topic", own, "closed")
	f.opened(hook, secret[1], 2, "topic", own, "late") // what comes late opens nothing again
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return h.Waiting == 0 && len(h.Problems) == 0 && h.Behind == 0 })
	if p := must[slipway.PullRequest](t)(s.admin.Pull(t.Context(), "shop", 2)); p.State != slipway.PullClosed {
		t.Errorf("pull request 2 is %s", p.State)
	}
	f.git("reset", "-q", "--hard", second)

	must[struct{}](t)(struct{}{}, f.NewHostKey())
	third := f.commit("README", "three")
	f.push("HEAD:refs/heads/trunk")
	logins := f.Logins()
	f.webhook(hook, secret[1], "push", "d3", f.pushed(second, third))
	s.awaitHealth(func(h slipway.ForgeHealth) bool {
		return len(h.Problems) == 1 && strings.Contains(h.Problems[0].Message, f.Fingerprint())
	})
	if f.Logins() != logins {
		t.Error("it signed in on a host that has another key")
	}
	// The new host key, and another deploy key at once.
	private, public, err := git.DeployKeys{}.Make("theirs")
	must[struct{}](t)(struct{}{}, err)
	must[struct{}](t)(struct{}{}, f.Allow(public))
	must[struct{}](t)(struct{}{}, f.Forbid(made.Public))
	must[slipway.Connected](t)(s.admin.Connect(t.Context(), slipway.ConnectRequest{Project: "shop", Forge: slipway.Gitea, HostKey: f.Fingerprint(), DeployKey: private}))
	s.awaitRun("heads/trunk", third, ":merge:ada@gitea")
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return len(h.Problems) == 0 })
	s.holdsNoneOf(data, private, secret[1])
}

// A further codebase by deploy key alone: key, webhook and secret are its own, and the project's token is shown to
// nobody for it until somebody says that it shares that.
func TestFurtherCodebaseByDeployKey(t *testing.T) {
	t.Parallel()
	main, f := newFakeForge(t), newSSHForge(t)
	main.push(main.commit("README", "of the project") + ":refs/heads/main")
	first := f.commit("README", "one")
	f.push("HEAD:refs/heads/trunk")
	data := t.TempDir()
	s, _ := connectedSite(t, main, serveOptions{data: data, poll: time.Hour})
	ctx := t.Context()
	web := slipway.Codebase{Project: "shop", Name: "web", GitURL: f.URL("acme/shop.git")}
	r := slipway.ConnectRequest{Project: "shop", Codebase: "web", Forge: slipway.Gitea, DeployKey: slipway.NewDeployKey, HostKey: f.Fingerprint()}
	if _, err := s.admin.PrepareKey(ctx, slipway.ConnectRequest{Project: "none", Codebase: "web", DeployKey: slipway.NewDeployKey}, web.GitURL); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("a key for no project: %v", err)
	}
	made := must[slipway.DeployKey](t)(s.admin.PrepareKey(ctx, r, web.GitURL))
	if made.Accepted || made.Codebase != "shop/web" || !strings.HasSuffix(made.Public, " slipway shop/web") {
		t.Fatalf("prepared %+v", made)
	}
	if _, err := s.admin.CreateCodebase(ctx, web, &r); slipway.ErrorCode(err) != slipway.Forbidden || len(must[[]slipway.Codebase](t)(s.admin.Codebases(ctx, "shop"))) != 1 {
		t.Errorf("a key that the host does not take: %v", err)
	}
	must[struct{}](t)(struct{}{}, f.Allow(made.Public))
	out := must[slipway.Connected](t)(s.admin.CreateCodebase(ctx, web, &r))
	d, secret := out.Of(), regexp.MustCompile(`Secret: +(\S+)`).FindStringSubmatch(out.Paste)
	if secret == nil || !strings.Contains(out.Paste, s.url+"/hooks/shop/web") || d.Connection == nil || d.Connection.Credential != "" || d.Connection.Shared ||
		d.DeployKey == nil || d.DeployKey.Public != made.Public || d.Codebase.DefaultBranch != "trunk" || out.Project.DeployKey != nil {
		t.Fatalf("connected %+v", out)
	}
	s.awaitRun("heads/trunk", first, ":merge:mirror")
	second := f.commit("README", "two")
	f.push("HEAD:refs/heads/trunk")
	f.webhook(d.HookURL, secret[1], "push", "d1", f.pushed(first, second))
	s.awaitRun("heads/trunk", second, ":merge:ada@gitea")
	await(t, "end of that run", func() (bool, string) {
		runs := must[[]slipway.Run](t)(s.admin.Runs(ctx, slipway.RunFilter{Project: "shop", Commit: second}))
		return len(runs) == 1 && runs[0].State.Final(), fmt.Sprint(runs)
	})
	s.awaitFurther(func(d slipway.CodebaseDetail) bool {
		return d.Health.Waiting == 0 && len(d.Health.Problems) == 0 && d.Health.Behind == 0 && !d.Health.Delivered.IsZero()
	})

	// It is on the project's forge too, by SSH: git goes on with the key, the API with the project's token.
	there := main.beside("acme/shop", 70)
	shared := must[slipway.Connected](t)(s.admin.Connect(ctx, slipway.ConnectRequest{Project: "shop", Codebase: "web", Forge: slipway.GitHub, Address: main.url})).Of()
	if !shared.Connection.Shared || shared.Connection.RepositoryID != "70" || shared.DeployKey == nil || shared.DeployKey.Public != made.Public {
		t.Fatalf("shared %+v", shared)
	}
	third := f.commit("README", "three")
	f.push("HEAD:refs/heads/trunk")
	there.accepted(shared.HookURL, "push", "d2", there.pushed("refs/heads/trunk", second, third))
	s.awaitRun("heads/trunk", third, ":merge:ada@github")
	there.awaitStatus(third, "slipway", "success")
	if had := there.status(second, "slipway"); had != "" {
		t.Errorf("the forge was told before anybody said so: %s", had)
	}

	private, public, err := git.DeployKeys{}.Make("theirs")
	must[struct{}](t)(struct{}{}, err)
	must[struct{}](t)(struct{}{}, f.Allow(public))
	must[struct{}](t)(struct{}{}, f.Forbid(made.Public))
	other := must[slipway.Connected](t)(s.admin.Connect(ctx, slipway.ConnectRequest{Project: "shop", Codebase: "web", DeployKey: private})).Of()
	if !strings.HasPrefix(public, other.DeployKey.Public) || !other.Connection.Shared || other.Connection.Repository != "acme/shop" {
		t.Errorf("another key: %+v", other)
	}
	fourth := f.commit("README", "four")
	f.push("HEAD:refs/heads/trunk")
	there.accepted(shared.HookURL, "push", "d3", there.pushed("refs/heads/trunk", third, fourth))
	s.awaitRun("heads/trunk", fourth, ":merge:ada@github")
	s.awaitFurther(func(d slipway.CodebaseDetail) bool { return len(d.Health.Problems) == 0 && d.Health.Waiting == 0 })
	if n := main.wrong.Load(); n != 0 {
		t.Errorf("%d wrong tokens", n)
	}
	s.holdsNoneOf(data, private, secret[1])
}

// awaitFurther waits for the one further codebase of shop to be so.
func (s *site) awaitFurther(so func(slipway.CodebaseDetail) bool) {
	s.t.Helper()
	await(s.t, "further codebase", func() (bool, string) {
		d := must[slipway.ProjectDetail](s.t)(s.admin.Project(s.t.Context(), "shop"))
		return so(d.Codebases[0]), fmt.Sprintf("%+v", *d.Codebases[0].Health)
	})
}

// holdsNoneOf looks for secrets in the data folder, the log and the events.
func (s *site) holdsNoneOf(data, private string, more ...string) {
	s.t.Helper()
	lines := strings.Split(private, "\n")
	hidden := append([]string{"PRIVATE KEY", lines[1], lines[2]}, more...)
	_, events := s.get("/api/v1/events?project=shop", s.token)
	files := 0
	err := filepath.WalkDir(data, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		for _, secret := range hidden {
			if strings.Contains(string(b), secret) {
				s.t.Errorf("%s has %q", path, secret)
			}
		}
		return err
	})
	if err != nil || files == 0 || !strings.Contains(events, "forge.keyed") {
		s.t.Errorf("%d files, events %s, %v", files, events, err)
	}
	for _, secret := range hidden {
		if strings.Contains(s.out.String(), secret) || strings.Contains(events, secret) {
			s.t.Errorf("the log or an event has %q", secret)
		}
	}
	if left, err := os.ReadDir(filepath.Join(data, "ssh")); err != nil || len(left) > 0 {
		s.t.Errorf("left of SSH: %v, %v", left, err)
	}
}

func (s *site) awaitHealth(so func(slipway.ForgeHealth) bool) {
	s.t.Helper()
	await(s.t, "health", func() (bool, string) {
		d := must[slipway.ProjectDetail](s.t)(s.admin.Project(s.t.Context(), "shop"))
		return so(*d.Health), fmt.Sprintf("%+v", *d.Health)
	})
}

// What a server that was killed left in its folder for SSH is gone when the next one is up.
func TestSSHFolderIsEmptied(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	old := filepath.Join(data, "ssh", "ssh-1", "hosts")
	must[struct{}](t)(struct{}{}, os.MkdirAll(filepath.Dir(old), 0o700))
	must[struct{}](t)(struct{}{}, os.WriteFile(old, []byte("x"), 0o600))
	dir, remove, err := sshDir(data)
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	info := must[os.FileInfo](t)(os.Stat(dir))
	if info.Mode().Perm() != 0o700 || filepath.Dir(dir) != data {
		t.Errorf("%s is %s", dir, info.Mode())
	}
	must[struct{}](t)(struct{}{}, remove())
	long, remove, err := sshDir(filepath.Join(data, strings.Repeat("long", 30)))
	if err != nil || len(long) > 90 {
		t.Errorf("%s, %v", long, err)
	}
	must[struct{}](t)(struct{}{}, remove())
}

// sshgit serves the repositories below a folder by SSH. It sets SSHGIT to the URL of repository NAME.git, SSHHOST to that of
// the folder, HOSTKEY to
// the host's fingerprint, and writes known_hosts; sshallow FILE lets the public key in a file in.
func cmdSSHGit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: sshgit FOLDER NAME")
	}
	host, err := slipwaytest.NewSSHGit(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Defer(host.Close)
	hosts.Store(ts, host)
	ts.Setenv("SSHGIT", host.URL(args[1]+".git"))
	ts.Setenv("SSHHOST", strings.TrimSuffix(host.URL(""), "/"))
	ts.Setenv("HOSTKEY", host.Fingerprint())
	ts.Check(os.WriteFile(ts.MkAbs("known_hosts"), []byte(host.KnownHosts()), 0o600))
}

func cmdSSHAllow(ts *testscript.TestScript, neg bool, args []string) {
	host, ok := hosts.Load(ts)
	if neg || len(args) != 1 || !ok {
		ts.Fatalf("usage: sshallow FILE, after sshgit")
	}
	ts.Check(host.(*slipwaytest.SSHGit).Allow(ts.ReadFile(args[0])))
}

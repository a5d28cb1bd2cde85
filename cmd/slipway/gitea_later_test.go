package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// With a real Gitea: a branch protection that requires the aggregate status holds up what is not green and lets
// through what is, with a service that is skipped; then the repository gets another name, the token is revoked, and
// the webhook is removed, and everything that happened is found.
func TestRealGiteaLater(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("builds Gitea; set SLIPWAY_E2E=1")
	}
	g := newGiteaWorld(t)
	g.commit("README.txt")
	if err := os.MkdirAll(g.dir+"/cart", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.dir+"/cart/Dockerfile", []byte("FROM scratch\nCOPY . /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.commit("cart/one")
	g.git("push", "-q", "origin", "HEAD:refs/heads/main")
	s := newSite(t, false, serveOptions{poll: time.Second, pause: time.Millisecond})
	token := g.newToken("slipway")
	made := must[slipway.Connected](t)(s.admin.CreateConnected(t.Context(), slipway.Project{Name: "shop", GitURL: g.URL + "/ada/shop.git"},
		slipway.ConnectRequest{Forge: slipway.Gitea, Address: g.URL, Token: token}))
	if made.Paste != "" {
		t.Fatalf("connected: %+v", made)
	}
	g.protected(s)
	g.inert()
	g.renamed(s)
	g.revoked(s, token)
	g.unhooked(s)
	if text := s.out.String(); strings.Contains(text, token) || strings.Contains(text, g.Token) {
		t.Errorf("the log has a token:\n%s", text)
	}
}

// newToken makes another token of ada, with her password.
func (g *giteaWorld) newToken(name string) string {
	g.t.Helper()
	var made struct {
		SHA1 string `json:"sha1"`
	}
	g.withPassword(http.MethodPost, "/users/ada/tokens", map[string]any{"name": name, "scopes": []string{"write:repository", "write:issue", "read:user"}}, &made)
	return made.SHA1
}

func (g *giteaWorld) withPassword(method, path string, in, out any) {
	g.t.Helper()
	body := must[[]byte](g.t)(json.Marshal(in))
	r := must[*http.Request](g.t)(http.NewRequestWithContext(g.t.Context(), method, g.URL+"/api/v1"+path, bytes.NewReader(body)))
	r.SetBasicAuth(g.User, g.Password)
	r.Header.Set("Content-Type", "application/json")
	resp := must[*http.Response](g.t)(http.DefaultClient.Do(r))
	defer resp.Body.Close() //nolint:errcheck // read only
	if resp.StatusCode > 299 {
		g.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			g.t.Fatal(err)
		}
	}
}

// contexts are what a commit's statuses say, by context.
func (g *giteaWorld) contexts(commit string) map[string]string {
	g.t.Helper()
	var now struct {
		Statuses []struct{ Context, Status, Description string }
	}
	g.call(g.Token, http.MethodGet, "/repos/ada/"+g.repo+"/commits/"+commit+"/status", nil, &now)
	out := map[string]string{}
	for _, s := range now.Statuses {
		out[s.Context] = s.Status + ": " + s.Description
	}
	return out
}

func (g *giteaWorld) merge(number int64) error {
	return g.Call(g.t.Context(), g.Token, http.MethodPost, fmt.Sprintf("/repos/ada/%s/pulls/%d/merge", g.repo, number), map[string]any{"Do": "merge"}, nil)
}

func (g *giteaWorld) protected(s *site) {
	g.t.Helper()
	g.call(g.Token, http.MethodPost, "/repos/ada/shop/branch_protections", map[string]any{"branch_name": "main", "rule_name": "main",
		"enable_push": true, "enable_status_check": true, "status_check_contexts": []string{"slipway"}, "block_admin_merge_override": true}, nil)
	g.git("checkout", "-q", "-b", "docs")
	docs := g.commit("docs.txt")
	g.git("push", "-q", "origin", "HEAD:refs/heads/docs")
	green := g.pull(g.Token, "docs", "Only words @ada <img src=x> \u202e**x**")
	g.git("checkout", "-q", "-b", "cart", "main")
	cart := g.commit("cart/two")
	g.git("push", "-q", "origin", "HEAD:refs/heads/cart")
	held := g.pull(g.Token, "cart", "A cart that nobody builds here")

	g.awaitStatus(docs, "success")
	if have := g.contexts(docs); !strings.HasPrefix(have["slipway/cart"], "success: ") || !strings.Contains(have["slipway/cart"], "skipped") {
		g.t.Errorf("statuses of a commit that no service needs: %v", have)
	}
	await(g.t, "a status that is not green", func() (bool, string) {
		have := g.contexts(cart)
		return have["slipway"] != "" && !strings.HasPrefix(have["slipway"], "success") && have["slipway/cart"] != "", fmt.Sprint(have)
	})
	if err := g.merge(held); err == nil || !strings.Contains(err.Error(), "405") {
		g.t.Errorf("what is not green is merged: %v", err)
	}
	await(g.t, "merge of what is green", func() (bool, string) { err := g.merge(green); return err == nil, fmt.Sprint(err) })
	g.awaitComment(green, docs[:7])
	await(g.t, "merged here", func() (bool, string) {
		p := must[slipway.PullRequest](g.t)(s.admin.Pull(g.t.Context(), "shop", green))
		return p.State == slipway.PullMerged, fmt.Sprintf("%+v", p)
	})
}

// inert: the comment on a pull request quotes what is wrong with a configuration, and bob, whom that mentions, is told of
// nothing.
func (g *giteaWorld) inert() {
	g.t.Helper()
	g.git("checkout", "-q", "-b", "hostile", "main")
	if err := os.WriteFile(g.dir+"/slipway.yaml", []byte("services:\n  '@bob #1 http://evil.example www.evil.example <img src=x>':\n    path: cart\n"), 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.commit("hostile.txt")
	g.git("push", "-q", "origin", "HEAD:refs/heads/hostile")
	pull := g.pull(g.Token, "hostile", "A configuration that is wrong")
	g.awaitComment(pull, "&#64;\u200cbob &#35;\u200c1 http&#58;\u200c") // as what driver/gitea has rendered
	var told []any
	g.call(g.bob, http.MethodGet, "/notifications?all=true", nil, &told)
	if len(told) > 0 {
		g.t.Errorf("bob is told %v", told)
	}
}

// renamed: git and the API follow the old name, webhooks come with the new one.
func (g *giteaWorld) renamed(s *site) {
	g.t.Helper()
	g.call(g.Token, http.MethodPatch, "/repos/ada/shop", map[string]any{"name": "store"}, nil)
	g.repo = "store"
	g.git("remote", "set-url", "origin", g.address("ada", g.Token))
	g.git("checkout", "-q", "-b", "later", "docs")
	head := g.commit("later.txt")
	g.git("push", "-q", "origin", "HEAD:refs/heads/later")
	number := g.pull(g.Token, "later", "After the new name")
	s.awaitRun(fmt.Sprintf("pull/%d/head", number), head, ":pull-request:ada@gitea")
	g.awaitStatus(head, "success")
	g.awaitComment(number, head[:7])
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return len(h.Problems) == 0 })
}

// revoked: what happens while there is no token that works is told once there is one.
func (g *giteaWorld) revoked(s *site, token string) {
	g.t.Helper()
	g.withPassword(http.MethodDelete, "/users/ada/tokens/slipway", nil, nil)
	head := g.commit("meanwhile.txt")
	g.git("push", "-q", "origin", "HEAD:refs/heads/later")
	s.awaitHealth(func(h slipway.ForgeHealth) bool {
		return len(h.Problems) > 0 && strings.Contains(fmt.Sprint(h.Problems), "new one") && !strings.Contains(fmt.Sprint(h.Problems), token)
	})
	must[slipway.Connected](g.t)(s.admin.Connect(g.t.Context(), slipway.ConnectRequest{Project: "shop", Forge: slipway.Gitea, Address: g.URL, Repository: "ada/store", Token: g.Token}))
	g.awaitStatus(head, "success")
	s.awaitHealth(func(h slipway.ForgeHealth) bool { return len(h.Problems) == 0 && h.Behind == 0 })
}

// unhooked: without a webhook polling finds pushes, pull requests and their end.
func (g *giteaWorld) unhooked(s *site) {
	g.t.Helper()
	var hooks []struct{ ID int64 }
	g.call(g.Token, http.MethodGet, "/repos/ada/store/hooks", nil, &hooks)
	if len(hooks) != 1 {
		g.t.Errorf("webhooks %v", hooks)
	}
	for _, h := range hooks {
		g.call(g.Token, http.MethodDelete, fmt.Sprintf("/repos/ada/store/hooks/%d", h.ID), nil, nil)
	}
	g.git("checkout", "-q", "-b", "polled", "docs")
	head := g.commit("polled.txt")
	g.git("push", "-q", "origin", "HEAD:refs/heads/polled")
	number := g.pull(g.Token, "polled", "Found by polling")
	s.awaitRun("heads/polled", head, ":push:mirror")
	s.awaitRun(fmt.Sprintf("pull/%d/head", number), head, ":pull-request:")
	g.awaitStatus(head, "success")
	g.call(g.Token, http.MethodPatch, fmt.Sprintf("/repos/ada/store/pulls/%d", number), map[string]any{"state": "closed"}, nil)
	await(g.t, "closed here", func() (bool, string) {
		p := must[slipway.PullRequest](g.t)(s.admin.Pull(g.t.Context(), "shop", number))
		return p.State == slipway.PullClosed, fmt.Sprintf("%+v", p)
	})
}

package store

import (
	"bytes"
	"os"
	"testing"

	"github.com/slipway-cd/slipway"
)

// A prepared key leaves the one in use, an accepted one takes the place of both, and private halves are nowhere
// in the database as they are.
func TestDeployKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k := slipway.DeployKey{Codebase: "shop", GitURL: "ssh://git@host/shop.git", Public: "ssh-ed25519 AAAA one", Hosts: "host ssh-ed25519 AAAA\n"}
	save := func(public, private string, accepted bool) slipway.DeployKey {
		t.Helper()
		k.Public, k.Accepted = public, accepted
		w.do(nil, w.SaveDeployKey(w.ctx, k, private, "ada"))
		got, err := w.DeployKey(w.ctx, "shop", accepted)
		open, perr := w.PrivateKey(w.ctx, got)
		if err != nil || perr != nil || open != private || got.Public != public || got.Hosts != k.Hosts || got.GitURL != k.GitURL || got.CreatedAt.IsZero() {
			t.Fatalf("%+v %q, %v, %v", got, open, err, perr)
		}
		return got
	}
	if _, err := w.DeployKey(w.ctx, "shop", true); slipway.ErrorCode(err) != slipway.NotFound {
		t.Error(err)
	}
	first := save("ssh-ed25519 AAAA one", "a-very-private-key", true)
	prepared := save("ssh-ed25519 AAAB two", "another-private-key", false)
	if now, err := w.DeployKey(w.ctx, "shop", true); err != nil || now != first {
		t.Errorf("%+v, %v", now, err)
	}
	w.do(nil, w.SetDeployKeyProblem(w.ctx, "shop", "no answer"))
	w.do(nil, w.SetDeployKeyProblem(w.ctx, "shop", "no answer"))
	w.do(nil, w.SetDeployKeyProblem(w.ctx, "none", "no answer"))
	if d, err := w.ProjectDetail(w.ctx, "shop"); err != nil || d.DeployKey == nil || d.DeployKey.Problem != "no answer" || d.Connection != nil {
		t.Errorf("%+v, %v", d, err)
	}
	save("ssh-ed25519 AAAB two", "another-private-key", true)
	if _, err := w.DeployKey(w.ctx, "shop", false); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("it is still prepared: %v", err)
	}
	for _, old := range []slipway.DeployKey{first, prepared} {
		if _, err := w.PrivateKey(w.ctx, old); slipway.ErrorCode(err) != slipway.NotFound {
			t.Errorf("%s opens: %v", old.Public, err)
		}
	}
	events, err := w.Events(w.ctx, 0, slipway.EventFilter{Project: "shop", Kind: "forge."})
	if err != nil || len(events) != 4 {
		t.Errorf("%+v, %v", events, err)
	}
	if _, err := w.writer.Exec(`UPDATE deploy_keys SET git_url = 'ssh://git@evil/shop.git'`); err != nil {
		t.Fatal(err)
	}
	moved, err := w.DeployKey(w.ctx, "shop", true)
	if open, perr := w.PrivateKey(w.ctx, moved); err != nil || perr == nil {
		t.Errorf("a key that was moved to another host opens: %q, %v", open, err)
	}
	for _, file := range []string{w.path, w.path + "-wal"} {
		b, err := os.ReadFile(file)
		if err != nil || bytes.Contains(b, []byte("-private-key")) {
			t.Errorf("%s has a private key, or %v", file, err)
		}
	}
}

// A connection without a token takes a deploy key in use, has no credential, and keeps one that it has.
func TestConnectionWithoutToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateCodebase(w.ctx, slipway.Codebase{Project: "shop", Name: "web", GitURL: "ssh://git@host/web.git"}, "ada"))
	connect := func(codebase, token string) (slipway.Connection, error) {
		return w.SaveConnection(w.ctx, slipway.CodebaseDetail{Forks: slipway.ForksApprove, Connection: &slipway.Connection{
			Project: "shop", Codebase: codebase, Forge: slipway.GitHub, API: "https://api.github.com", Repository: "acme/shop" + codebase}}, token, "ada")
	}
	for _, codebase := range []string{"", "web"} {
		k := slipway.DeployKey{Codebase: slipway.CodebaseKey("shop", codebase), GitURL: "ssh://git@host/x.git", Public: "ssh-ed25519 AAAA one"}
		w.do(nil, w.SaveDeployKey(w.ctx, k, "private", "ada"))
		if _, err := connect(codebase, ""); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s with a key that is only prepared: %v", k.Codebase, err)
		}
		k.Accepted = true
		w.do(nil, w.SaveDeployKey(w.ctx, k, "private", "ada"))
		if c, err := connect(codebase, ""); err != nil || c.Credential != "" || c.HookSecret == "" || c.Shared {
			t.Errorf("%+v, %v", c, err)
		}
		if d, err := w.CodebaseDetail(w.ctx, k.Codebase); err != nil || d.DeployKey == nil || d.DeployKey.Codebase != k.Codebase || d.Connection == nil || d.Connection.Credential != "" {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if all, err := w.Connections(w.ctx); err != nil || len(all) != 2 || all[0].Credential != "" || all[1].Credential != "" {
		t.Errorf("%+v, %v", all, err)
	}
	for _, codebase := range []string{"web", ""} {
		w.do(connect(codebase, "token of "+codebase))
		c, err := connect(codebase, "")
		if token, terr := w.Credential(w.ctx, c.Credential); err != nil || terr != nil || token != "token of "+codebase {
			t.Errorf("%q, %v, %v", token, err, terr)
		}
	}
	if c, err := w.Connection(w.ctx, "shop/web"); err != nil || c.Credential != "forge/shop/web/token" {
		t.Errorf("%+v, %v", c, err)
	}
	w.do(nil, w.RemoveCodebase(w.ctx, "shop", "web", "ada"))
	if _, err := w.DeployKey(w.ctx, "shop/web", true); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("the key of what was removed is kept: %v", err)
	}
	if _, err := w.DeployKey(w.ctx, "shop", true); err != nil {
		t.Error(err)
	}
}

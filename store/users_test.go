package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func TestUsersAndTheirRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "bob", false, "ada"))
	w.do(w.CreateUser(w.ctx, "ada", true, ""))
	_, err := w.CreateUser(w.ctx, "bob", false, "ada")
	w.code(err, slipway.Conflict)
	for _, name := range []string{"", "-x", "Bob", "a b", "../x", strings.Repeat("x", 41)} {
		_, err := w.CreateUser(w.ctx, name, false, "ada")
		w.code(err, slipway.Invalid)
	}
	w.ok(w.SetRole(w.ctx, "bob", "shop", slipway.Developer, "ada"))
	w.ok(w.SetRole(w.ctx, "bob", "shop", slipway.Approver, "ada"))
	w.code(w.SetRole(w.ctx, "bob", "shop", "king", "ada"), slipway.Invalid)
	w.code(w.SetRole(w.ctx, "eve", "shop", slipway.Viewer, "ada"), slipway.NotFound)
	w.code(w.SetRole(w.ctx, "bob", "nowhere", slipway.Viewer, "ada"), slipway.NotFound)
	u, err := w.User(w.ctx, "bob")
	w.ok(err)
	if u.Role("shop") != slipway.Approver || u.Admin || u.Robot != nil {
		t.Errorf("user: %+v", u)
	}
	w.ok(w.SetRole(w.ctx, "bob", "shop", "", "ada"))
	w.ok(w.SetAdmin(w.ctx, "bob", true, "ada"))
	all, err := w.Users(w.ctx)
	w.ok(err)
	if len(all) != 2 || all[1].Name != "bob" || !all[1].Admin || len(all[1].Roles) != 0 {
		t.Errorf("users: %+v", all)
	}
	_, err = w.User(w.ctx, "eve")
	w.code(err, slipway.NotFound)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "bob", false, "ada"))
	w.ok(w.SetRole(w.ctx, "bob", "shop", slipway.Developer, "ada"))
	secret, token, err := w.CreateToken(w.ctx, "bob", "laptop", time.Time{}, "ada")
	w.ok(err)
	if !strings.HasPrefix(secret, "slp_") || len(secret) < 50 {
		t.Errorf("secret of %d characters", len(secret))
	}
	u, err := w.UserByToken(w.ctx, secret)
	w.ok(err)
	if u.Name != "bob" || u.Role("shop") != slipway.Developer {
		t.Errorf("user: %+v", u)
	}
	short, _, err := w.CreateToken(w.ctx, "bob", "short", w.clock.now().Add(time.Hour), "bob")
	w.ok(err)
	w.do(w.UserByToken(w.ctx, short))
	w.clock.add(2 * time.Hour)
	for _, bad := range []string{short, secret + "x", "slp_", "", "bob"} {
		_, err := w.UserByToken(w.ctx, bad)
		w.code(err, slipway.Unauthorized)
	}
	ts, err := w.Tokens(w.ctx, "bob")
	w.ok(err)
	if len(ts) != 2 || ts[0].Used.IsZero() || ts[0].Name != "laptop" || ts[1].Expires.IsZero() {
		t.Errorf("tokens: %+v", ts)
	}
	w.code(w.RevokeToken(w.ctx, "ada", token.ID, "ada"), slipway.NotFound)
	w.ok(w.RevokeToken(w.ctx, "bob", token.ID, "ada"))
	_, err = w.UserByToken(w.ctx, secret)
	w.code(err, slipway.Unauthorized)
	if n := leaks(t, w, secret, short); n != "" {
		t.Errorf("a secret is in %s", n)
	}
}

// leaks returns the file of the data folder that holds one of the secrets.
func leaks(t *testing.T, w *world, secrets ...string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(w.path), "*"))
	w.ok(err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a folder
		}
		info, err := os.Stat(f)
		w.ok(err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", filepath.Base(f), info.Mode())
		}
		for _, s := range secrets {
			if bytes.Contains(b, []byte(s)) {
				return f
			}
		}
	}
	return ""
}

func TestALinkSignsInOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "ada", true, ""))
	code, err := w.CreateLink(w.ctx, "ada", time.Hour)
	w.ok(err)
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		wg.Go(func() { _, _, errs[i] = w.LinkToken(w.ctx, code, "cli") })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		w.code(err, slipway.Unauthorized)
	}
	if won != 1 {
		t.Errorf("the link signed in %d times", won)
	}
	late, err := w.CreateLink(w.ctx, "ada", time.Minute)
	w.ok(err)
	w.clock.add(time.Hour)
	_, err = w.LinkSession(w.ctx, late, time.Hour)
	w.code(err, slipway.Unauthorized)
	_, err = w.CreateLink(w.ctx, "eve", time.Minute)
	w.code(err, slipway.NotFound)
}

func TestSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "ada", true, ""))
	secret, err := w.CreateSession(w.ctx, "ada", time.Hour)
	w.ok(err)
	u, err := w.UserBySession(w.ctx, secret)
	w.ok(err)
	if u.Name != "ada" {
		t.Errorf("user: %+v", u)
	}
	w.ok(w.DeleteSession(w.ctx, secret))
	_, err = w.UserBySession(w.ctx, secret)
	w.code(err, slipway.Unauthorized)
	secret, err = w.CreateSession(w.ctx, "ada", time.Hour)
	w.ok(err)
	w.clock.add(2 * time.Hour)
	_, err = w.UserBySession(w.ctx, secret)
	w.code(err, slipway.Unauthorized)
}

func TestRobotsAndClustersAreSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, secret, err := w.Robot(w.ctx, "shop", "prod")
	w.ok(err)
	again, same, err := w.Robot(w.ctx, "shop", "prod")
	w.ok(err)
	if u.ID != again.ID || secret != same || u.Robot == nil || *u.Robot != (slipway.Robot{Project: "shop", Environment: "prod"}) {
		t.Errorf("robot: %+v", u)
	}
	by, err := w.UserByToken(w.ctx, secret)
	w.ok(err)
	if by.ID != u.ID || by.Robot == nil {
		t.Errorf("by token: %+v", by)
	}
	_, other, err := w.Robot(w.ctx, "shop", "qa")
	w.ok(err)
	if other == secret {
		t.Error("two environments share a robot")
	}
	_, _, err = w.Robot(w.ctx, "nowhere", "qa")
	w.code(err, slipway.NotFound)
	_, _, err = w.Robot(w.ctx, "shop", "../x")
	w.code(err, slipway.Invalid)

	config := []byte("users: [{name: admin, user: {token: very-secret-token}}]")
	w.ok(w.SaveCluster(w.ctx, slipway.Cluster{Name: "local", Context: "local", Server: "https://127.0.0.1:6443"}, config, "ada"))
	w.ok(w.SaveCluster(w.ctx, slipway.Cluster{Name: "local", Context: "other", Server: "https://127.0.0.1:6443"}, config, "ada"))
	cs, err := w.Clusters(w.ctx)
	w.ok(err)
	if len(cs) != 1 || cs[0].Context != "other" {
		t.Errorf("clusters: %+v", cs)
	}
	got, err := w.Kubeconfig(w.ctx, "local")
	w.ok(err)
	if !bytes.Equal(got, config) {
		t.Errorf("kubeconfig: %s", got)
	}
	if n := leaks(t, w, secret, "very-secret-token"); n != "" {
		t.Errorf("a secret is in %s", n)
	}
	w.ok(os.WriteFile(filepath.Join(filepath.Dir(w.path), "store.key"), bytes.Repeat([]byte("x"), 32), 0o600))
	w.open()
	if _, err := w.Kubeconfig(w.ctx, "local"); err == nil {
		t.Error("opened with another key")
	}
	w.ok(w.DeleteCluster(w.ctx, "local", "ada"))
	_, err = w.Kubeconfig(w.ctx, "local")
	w.code(err, slipway.NotFound)
	w.code(w.DeleteCluster(w.ctx, "local", "ada"), slipway.NotFound)
}

// What was removed leaves its number to the next one, and its events to itself.
func TestTokensAndUsersComeAndGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "ada", true, "slipway"))
	for range 3 {
		w.do(w.CreateUser(w.ctx, "bob", false, "ada"))
		w.ok(w.SetRole(w.ctx, "bob", "shop", slipway.Developer, "ada"))
		var secrets []string
		for range 2 {
			secret, token, err := w.CreateToken(w.ctx, "bob", "laptop", time.Time{}, "ada")
			w.ok(err)
			w.ok(w.RevokeToken(w.ctx, "bob", token.ID, "bob"))
			secret2, _, err := w.CreateToken(w.ctx, "bob", "desk", time.Time{}, "bob")
			w.ok(err)
			secrets = append(secrets, secret, secret2)
		}
		session, err := w.CreateSession(w.ctx, "bob", time.Hour)
		w.ok(err)
		link, err := w.CreateLink(w.ctx, "bob", time.Hour)
		w.ok(err)
		w.ok(w.RemoveUser(w.ctx, "bob", "ada"))
		for _, s := range secrets {
			_, err := w.UserByToken(w.ctx, s)
			w.code(err, slipway.Unauthorized)
		}
		_, err = w.UserBySession(w.ctx, session)
		w.code(err, slipway.Unauthorized)
		_, err = w.LinkSession(w.ctx, link, time.Hour)
		w.code(err, slipway.Unauthorized)
		w.code(w.RemoveUser(w.ctx, "bob", "ada"), slipway.NotFound)
	}
	es, err := w.Events(w.ctx, 0, slipway.EventFilter{Limit: 1000})
	w.ok(err)
	said := map[string]string{}
	for _, e := range es {
		said[e.Kind] = e.Actor + ": " + e.Message
	}
	for kind, want := range map[string]string{"user.removed": "ada: user bob removed", "token.revoked": "bob: token \"laptop\" (", "token.created": "bob: token \"desk\" of bob created"} {
		if !strings.HasPrefix(said[kind], want) {
			t.Errorf("%s: %q, want %q", kind, said[kind], want)
		}
	}
	u, err := w.User(w.ctx, "ada")
	w.ok(err)
	if !u.Admin {
		t.Error("ada is not admin any more")
	}
	if again, err := w.CreateUser(w.ctx, "bob", false, "ada"); err != nil || len(again.Roles) > 0 {
		t.Errorf("a removed name may be given again, without roles: %+v %v", again, err)
	}
	_, err = w.VerifyEvents(w.ctx)
	w.ok(err)
}

func TestTheLastAdminStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "ada", true, "slipway"))
	w.do(w.CreateUser(w.ctx, "bob", false, "ada"))
	robot, _, err := w.Robot(w.ctx, "shop", "qa")
	w.ok(err)
	w.code(w.RemoveUser(w.ctx, robot.Name, "ada"), slipway.Conflict)
	w.code(w.RemoveUser(w.ctx, "ada", "ada"), slipway.Conflict)
	w.code(w.SetAdmin(w.ctx, "ada", false, "ada"), slipway.Conflict)
	w.ok(w.SetAdmin(w.ctx, "bob", true, "ada"))
	w.ok(w.RemoveUser(w.ctx, "ada", "ada"))
	w.code(w.RemoveUser(w.ctx, "bob", "bob"), slipway.Conflict)
}

// A server that is killed while it makes its key leaves none, or a whole one: half of one would keep every later
// one from starting.
func TestTheKeyIsWholeOrNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, part := filepath.Join(dir, "store.key"), filepath.Join(dir, "store.key.part")
	if err := os.WriteFile(part, bytes.Repeat([]byte("x"), 40), 0o600); err != nil { // of one that was killed
		t.Fatal(err)
	}
	key, err := readKey(path)
	if err != nil || len(key) != 32 {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	if again, err := readKey(path); err != nil || !bytes.Equal(again, key) {
		t.Errorf("another key, or %v", err)
	}
	if err := errors.Join(os.Remove(path), os.Mkdir(part, 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := readKey(path); err == nil {
		t.Error("the key was written in its place, not beside it")
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what could not be written is there: %v", err)
	}
}

// A code that made neither session nor token is not used up: the first one of a server is all that its admin has.
func TestALinkThatSignedNobodyInIsStillGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateUser(w.ctx, "ada", true, ""))
	link, err := w.CreateLink(w.ctx, "ada", time.Hour)
	w.ok(err)
	for _, table := range []string{"sessions", "tokens"} {
		_, err := w.DB().Exec(`CREATE TRIGGER no_` + table + ` BEFORE INSERT ON ` + table + ` BEGIN SELECT RAISE(ABORT, 'no room'); END`)
		w.ok(err)
	}
	if _, err := w.LinkSession(w.ctx, link, time.Hour); err == nil {
		t.Error("a session was made")
	}
	if _, _, err := w.LinkToken(w.ctx, link, "cli"); err == nil {
		t.Error("a token was made")
	}
	signedIn, err := w.Events(w.ctx, 0, slipway.EventFilter{Kind: "user.signed-in"})
	w.ok(err)
	if len(signedIn) > 0 {
		t.Errorf("the events say that somebody is in: %+v", signedIn)
	}
	for _, table := range []string{"sessions", "tokens"} {
		_, err := w.DB().Exec(`DROP TRIGGER no_` + table)
		w.ok(err)
	}
	session, err := w.LinkSession(w.ctx, link, time.Hour)
	w.ok(err)
	if u, err := w.UserBySession(w.ctx, session); err != nil || u.Name != "ada" {
		t.Errorf("%+v, %v", u, err)
	}
	_, _, err = w.LinkToken(w.ctx, link, "cli")
	w.code(err, slipway.Unauthorized)
}

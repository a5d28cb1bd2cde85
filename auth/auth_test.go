package auth_test

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/auth"
)

// The whole table, written out: a change of rights must be made here too.
func TestRoleByAction(t *testing.T) {
	t.Parallel()
	want := map[slipway.Role]string{ // y or n per action, in the order of auth.Actions
		"":                "nnnnnnnnnnnnnnnnnn",
		slipway.Viewer:    "yyynnnnnnnnnnnnnnn",
		slipway.Developer: "yyyyyyyyyyynnnnnnn",
		slipway.Approver:  "yyyyyyyyyyyyyyyynn",
		slipway.Admin:     "yyyyyyyyyyyyyyyyyn",
	}
	for role, row := range want {
		u := slipway.User{Name: "ada", Roles: map[string]slipway.Role{"shop": role}}
		for i, a := range auth.Actions() {
			may := auth.Check(u, a, "shop") == nil
			if may != (row[i] == 'y') {
				t.Errorf("role %q, action %s: allowed = %v", role, a, may)
			}
			if auth.Check(u, a, "other") == nil {
				t.Errorf("role %q in shop may %s in other", role, a)
			}
		}
	}
	for _, a := range auth.Actions() {
		if err := auth.Check(slipway.User{Name: "root", Admin: true}, a, "shop"); err != nil {
			t.Errorf("server admin: %v", err)
		}
		robot := slipway.User{Name: "robot", Robot: &slipway.Robot{Project: "shop", Environment: "qa"}}
		if got := auth.Check(robot, a, "shop") == nil; got != (a == auth.PullArtifacts) {
			t.Errorf("robot may %s = %v", a, got)
		}
		if auth.Check(robot, a, "other") == nil {
			t.Errorf("robot of shop may %s in other", a)
		}
		if code := slipway.ErrorCode(auth.Check(slipway.User{}, a, "shop")); code != slipway.Unauthorized {
			t.Errorf("nobody, %s: code %s", a, code)
		}
	}
}

func TestStrangersAreNotToldThatAProjectExists(t *testing.T) {
	t.Parallel()
	err := auth.Check(slipway.User{Name: "eve"}, auth.View, "secret")
	if slipway.ErrorCode(err) != slipway.NotFound {
		t.Fatalf("got %v", err)
	}
}

// A refusal says in words what it takes which role for, without the names that actions have in the code.
func TestRefusalsAreInWords(t *testing.T) {
	t.Parallel()
	dev := slipway.User{Name: "dev", Roles: map[string]slipway.Role{"shop": slipway.Developer}}
	want := "dev may not push to the default branch of shop: that takes the role approver, and dev is developer there"
	if err := auth.Check(dev, auth.PushDefault, "shop"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	said := map[string]auth.Action{}
	for _, a := range auth.Actions() {
		err := auth.Check(slipway.User{Name: "eve", Roles: map[string]slipway.Role{"shop": "none"}}, a, "shop")
		if err == nil {
			t.Fatalf("%s is allowed", a)
		}
		text, _, _ := strings.Cut(err.Error(), ":")
		if what := strings.TrimPrefix(text, "eve may not "); !strings.Contains(what, " ") || strings.Contains(string(a), "-") && strings.Contains(what, string(a)) {
			t.Errorf("%s is refused as %q", a, text)
		}
		if other, twice := said[text]; twice {
			t.Errorf("%s is refused as %s is: %q", a, other, text)
		}
		said[text] = a
	}
}

func TestRefAction(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]auth.Action{
		"refs/heads/main":                    auth.PushDefault,
		"refs/heads/feature/x":               auth.PushBranch,
		"refs/heads/mainline":                auth.PushBranch,
		"refs/heads/release/delivery/v1.0.2": auth.PushRelease,
		"refs/tags/v1":                       auth.PushRelease,
		"refs/for/main":                      auth.OpenPull,
	} {
		if got, err := auth.RefAction(ref, "main"); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", ref, got, err, want)
		}
	}
	for _, ref := range []string{"refs/pull/3/head", "refs/notes/x", "main", "refs/heads/-x", "refs/heads/a..b", "refs/heads/a\nb", "refs/heads/../../x", ""} {
		if got, err := auth.RefAction(ref, "main"); err == nil {
			t.Errorf("%q: allowed as %s", ref, got)
		}
	}
}

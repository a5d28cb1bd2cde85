package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/store"
	"github.com/slipway-cd/slipway/store/storetest"
	"github.com/slipway-cd/slipway/web"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	return storetest.Open(t, store.Options{})
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// people are a store with ada, developer of shop, and the robot of shop's qa, with their secrets.
func people(t *testing.T) (s *store.Store, ada, session, robot string) {
	t.Helper()
	s = openStore(t)
	ctx := t.Context()
	must[slipway.Project](t)(s.CreateProject(ctx, slipway.Project{Name: "shop"}, ""))
	must[slipway.User](t)(s.CreateUser(ctx, "ada", false, ""))
	if err := s.SetRole(ctx, "ada", "shop", slipway.Developer, ""); err != nil {
		t.Fatal(err)
	}
	ada, _, err := s.CreateToken(ctx, "ada", "x", timeZero, "test")
	if err != nil {
		t.Fatal(err)
	}
	session = must[string](t)(s.CreateSession(ctx, "ada", linkTTL))
	_, robot, err = s.Robot(ctx, "shop", "qa")
	if err != nil {
		t.Fatal(err)
	}
	return s, ada, session, robot
}

// One identity, whichever way it is shown; a wrong one is nobody's, and an old cookie is no error.
func TestIdentify(t *testing.T) {
	t.Parallel()
	s, ada, session, robot := people(t)
	i := newIdentity(s)
	cookie := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: v}) }
	}
	header := func(v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set("Authorization", v) } }
	basic := func(user, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	for name, c := range map[string]struct {
		show func(*http.Request)
		user string
		code slipway.Code
	}{
		"nothing":                  {func(*http.Request) {}, "", ""},
		"a bearer token":           {header("Bearer " + ada), "ada", ""},
		"a bearer token, small":    {header("bearer " + ada), "ada", ""},
		"a password":               {basic("ada", ada), "ada", ""},
		"a password, another name": {basic("x", ada), "ada", ""},
		"a robot's":                {basic("robot", robot), "robot-shop.qa", ""},
		"a session":                {cookie(session), "ada", ""},
		"a session that ended":     {cookie("old"), "", ""},
		"a token as a session":     {cookie(ada), "", ""},
		"a session as a token":     {header("Bearer " + session), "", slipway.Unauthorized},
		"a wrong token":            {header("Bearer slp_wrong"), "", slipway.Unauthorized},
		"no token":                 {header("Bearer "), "", slipway.Unauthorized},
		"a wrong password":         {basic("ada", "wrong"), "", slipway.Unauthorized},
		"no password":              {basic("ada", ""), "", slipway.Unauthorized},
		"another scheme":           {header("Digest x"), "", ""},
		"wrong token, good cookie": {func(r *http.Request) { cookie(session)(r); header("Bearer slp_wrong")(r) }, "", slipway.Unauthorized},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		c.show(r)
		u, err := i.Identify(r)
		if u.Name != c.user || slipway.ErrorCode(err) != c.code {
			t.Errorf("%s: %q, %v; want %q, %q", name, u.Name, err, c.user, c.code)
		}
	}
}

func TestWhoMayUseTheRegistry(t *testing.T) {
	t.Parallel()
	s, ada, session, robot := people(t)
	must[slipway.User](t)(s.CreateUser(t.Context(), "eve", false, ""))
	eve, _, err := s.CreateToken(t.Context(), "eve", "x", timeZero, "test")
	if err != nil {
		t.Fatal(err)
	}
	must[slipway.User](t)(s.CreateUser(t.Context(), selfName, false, "")) // a person of the process's own name
	person, _, err := s.CreateToken(t.Context(), selfName, "x", timeZero, "test")
	if err != nil {
		t.Fatal(err)
	}
	i, other := newIdentity(s), newIdentity(s)
	const candidates, production, charts, mirror, foreign = "shop/cart", "prod/shop/cart", "shop/charts/cart", "mirror/docker.io/library/busybox", "blog/web"
	type row struct {
		user, secret string
		may          string // of pull, push, delete in candidates, production, charts, mirror, foreign: y, n, u
	}
	rows := map[string]row{
		"nobody":                     {"", "", "uuu uuu uuu uuu uuu"},
		"a wrong password":           {"ada", "wrong", "uuu uuu uuu uuu uuu"},
		"no password":                {"ada", "", "uuu uuu uuu uuu uuu"},
		"a session":                  {"ada", session, "uuu uuu uuu uuu uuu"},
		"a developer":                {"ada", ada, "yyn yyn yyn ynn nnn"}, // that nobody pushes to production is the registry's rule
		"a stranger":                 {"eve", eve, "nnn nnn nnn ynn nnn"},
		"a robot":                    {"robot", robot, "ynn ynn ynn nnn nnn"},
		"the process":                {selfName, i.prove(selfName), "yyy yyy yyy yyy yyy"},
		"the process before":         {selfName, other.prove(selfName), "uuu uuu uuu uuu uuu"},
		"a person of its name":       {selfName, person, "nnn nnn nnn ynn nnn"},
		"a build":                    {builderPrefix + "shop", i.prove(builderPrefix + "shop"), "yyn ynn yyn ynn nnn"},
		"a build with another's":     {builderPrefix + "blog", i.prove(builderPrefix + "shop"), "uuu uuu uuu uuu uuu"},
		"a build as the process":     {selfName, i.prove(builderPrefix + "shop"), "uuu uuu uuu uuu uuu"},
		"a build of a fork":          {builderPrefix + "shop+fork", i.prove(builderPrefix + "shop+fork"), "nnn nnn nnn ynn nnn"},
		"a build, another's project": {builderPrefix + "blog", i.prove(builderPrefix + "blog"), "nnn nnn nnn ynn yyn"},
	}
	for name, r := range rows {
		got := ""
		for _, repository := range []string{candidates, production, charts, mirror, foreign} {
			for _, action := range []registry.Action{registry.Pull, registry.Push, registry.Delete} {
				_, err := i.authorizeRegistry(t.Context(), r.user, r.secret, action, repository)
				switch slipway.ErrorCode(err) {
				case "":
					got += "y"
				case slipway.Unauthorized:
					got += "u"
				case slipway.Forbidden, slipway.NotFound:
					got += "n"
				default:
					t.Errorf("%s: %v", name, err)
				}
			}
			got += " "
		}
		if got != r.may+" " {
			t.Errorf("%s: %s, want %s", name, got, r.may)
		}
		_, err := i.authorizeRegistry(t.Context(), r.user, r.secret, registry.Pull, "")
		if known := r.may[0] != 'u'; (err == nil) != known {
			t.Errorf("%s may talk to the registry: %v", name, err)
		}
	}
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	want := map[slipway.Code]int{slipway.Invalid: 2, slipway.Unauthorized: 3, slipway.Forbidden: 3, slipway.NotFound: 4, slipway.Conflict: 5, slipway.TooMany: 6, slipway.Unavailable: 6, slipway.Internal: 7}
	for _, code := range slipway.Codes() {
		if got := exitStatus(slipway.Errorf(code, "x")); got != want[code] || got == 0 {
			t.Errorf("%s exits with %d, want %d", code, got, want[code])
		}
	}
	for err, want := range map[error]int{nil: 0, errQuiet: 1, wrongUse{http.ErrNoCookie}: 2, http.ErrNoCookie: 7} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v exits with %d, want %d", err, got, want)
		}
	}
}

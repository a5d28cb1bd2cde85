package slipway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestNames(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "0", "delivery", "a-b", "a--b", strings.Repeat("x", 40)} {
		if err := slipway.CheckName("service", s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "-", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "a\n", "é", strings.Repeat("x", 41)} {
		err := slipway.CheckName("service", s)
		if slipway.ErrorCode(err) != slipway.Invalid || !strings.HasPrefix(err.Error(), "service name ") {
			t.Errorf("%q passes: %v", s, err)
		}
	}
}

func TestRegistryNames(t *testing.T) {
	t.Parallel()
	candidates := slipway.Registry{Host: "registry.test"}
	production := slipway.Registry{Host: "registry.test", Prefix: "prod"}
	for got, want := range map[string]string{
		candidates.Image("shop", "delivery"): "shop/delivery",
		candidates.Chart("shop", "delivery"): "shop/charts/delivery",
		production.Image("shop", "delivery"): "prod/shop/delivery",
		production.Chart("shop", "delivery"): "prod/shop/charts/delivery",
		slipway.Repository{Registry: production, Name: production.Image("shop", "delivery")}.Ref(): "registry.test/prod/shop/delivery",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

var repository = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

// Every name is good for an OCI repository, and no two services share one.
func TestRegistryNamesAlways(t *testing.T) {
	t.Parallel()
	name := rapid.StringMatching(`[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		project, service := name.Draw(t, "project"), name.Draw(t, "service")
		if !slipway.ValidName(project) || !slipway.ValidName(service) {
			t.Fatalf("%q or %q is no name", project, service)
		}
		seen := map[string]bool{}
		for _, r := range []slipway.Registry{{}, {Prefix: "prod"}} {
			for _, n := range []string{r.Image(project, service), r.Chart(project, service)} {
				if !repository.MatchString(n) {
					t.Fatalf("%q is no repository", n)
				}
				if seen[n] {
					t.Fatalf("%q is two repositories", n)
				}
				seen[n] = true
			}
		}
	})
}

func TestTargetLock(t *testing.T) {
	t.Parallel()
	seen := map[string]slipway.Target{}
	for _, target := range []slipway.Target{
		{Project: "shop", Environment: "qa", Service: "delivery"},
		{Project: "shop", Environment: "qa", Service: "orders"},
		{Project: "shop", Environment: "production", Service: "delivery"},
		{Project: "shop-qa", Environment: "delivery", Service: "x"},
	} {
		if other, twice := seen[target.Lock()]; twice {
			t.Errorf("%+v and %+v have one lock", other, target)
		}
		seen[target.Lock()] = target
	}
}

func TestStepKey(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"plan":               slipway.StepKey(slipway.KindPlan, "", ""),
		"build/delivery":     slipway.StepKey(slipway.KindBuild, "delivery", ""),
		"deploy/delivery@qa": slipway.StepKey(slipway.KindDeploy, "delivery", "qa"),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(map[string]slipway.Duration{"timeout": slipway.Duration(90 * time.Second)})
	if err != nil || string(b) != `{"timeout":"1m30s"}` {
		t.Errorf("got %s, %v", b, err)
	}
	var back map[string]slipway.Duration
	if err := json.Unmarshal(b, &back); err != nil || back["timeout"] != slipway.Duration(90*time.Second) {
		t.Errorf("got %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"timeout":"soon"}`), &back); err == nil {
		t.Error("soon is a duration")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	err := fmt.Errorf("push image: %w", slipway.Errorf(slipway.Unavailable, "registry %s does not answer: %w", "x", cause))
	if slipway.ErrorCode(err) != slipway.Unavailable || !slipway.Temporary(err) || !errors.Is(err, cause) {
		t.Errorf("code %s, temporary %v, cause kept %v", slipway.ErrorCode(err), slipway.Temporary(err), errors.Is(err, cause))
	}
	for _, code := range slipway.Codes() {
		if got := slipway.Temporary(slipway.Errorf(code, "x")); got != (code == slipway.Unavailable) {
			t.Errorf("%s: temporary is %v", code, got)
		}
	}
	if slipway.ErrorCode(nil) != "" || slipway.ErrorCode(cause) != slipway.Internal || slipway.Temporary(cause) || slipway.Temporary(nil) {
		t.Error("nil has no code, and an error of others is internal and not temporary")
	}
}

func TestUserRole(t *testing.T) {
	t.Parallel()
	u := slipway.User{Name: "ada", Roles: map[string]slipway.Role{"shop": slipway.Developer}}
	if u.Role("shop") != slipway.Developer || u.Role("other") != "" {
		t.Errorf("roles: %q, %q", u.Role("shop"), u.Role("other"))
	}
	u.Admin = true
	if u.Role("other") != slipway.Admin {
		t.Errorf("an admin of the server is %q of a project", u.Role("other"))
	}
}

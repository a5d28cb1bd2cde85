package plan

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestInputs(t *testing.T) {
	t.Parallel()
	c := slipway.Config{Services: []slipway.Service{
		{Name: "root", Dir: ".", Chart: "charts/root"},
		{Name: "shop", Dir: "src/shop", Chart: "src/shop/chart"},
		{Name: "cart", Dir: "src/shop/cart", Chart: "charts/cart", Shared: []string{"libs/a"}, Copies: []slipway.Copy{{Path: "proto/*.proto"}}},
		{Name: "mail", Dir: "src/mail", DependsOn: []string{"cart"}, Trigger: slipway.ServiceTrigger{Paths: slipway.Filter{Include: []string{"/src/mail/**/*.go"}}}},
	}, Shared: map[string][]string{"libs/a": {"libs/b"}}}
	for name, want := range map[string]string{
		"root": "{[{[.] [charts/cart charts/root src/mail src/shop src/shop/cart src/shop/chart] <nil>}] [{[charts/root] [] <nil>}]}",
		"shop": "{[{[src/shop] [src/shop/cart src/shop/chart] <nil>}] [{[src/shop/chart] [] <nil>}]}",
		"cart": "{[{[libs/a libs/b proto src/shop/cart] [] <nil>}] [{[charts/cart] [] <nil>}]}",
		"mail": "{[{[libs/a libs/b proto src/mail src/shop/cart] [] <nil>}] []}",
	} {
		in, ok := InputsOf(c, name)[name]
		if got := fmt.Sprint(in); !ok || got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := InputsOf(c, "none", "mail"); len(got) != 1 {
		t.Errorf("inputs of a service that is not there: %v", got)
	}
}

// What makes a service run is in its inputs, and without wildcards and exclusions nothing else is.
func TestInputsAgreeWithAffected(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, file := drawConfig(t), ""
		for f := range drawTree(t, "tree") {
			file = max(file, f)
		}
		if file == "" {
			return
		}
		exact := rapid.Bool().Draw(t, "exact")
		for i := range c.Services {
			if s := &c.Services[i]; exact {
				s.Trigger, s.Copies, s.Shared = slipway.ServiceTrigger{}, nil, nil
			}
		}
		changes := Affected(ask(c, file)).Changes
		for _, s := range c.Services {
			in := InputsOf(c, s.Name)[s.Name]
			holds := func(sets []Set) bool {
				return slices.ContainsFunc(sets, func(s Set) bool {
					is := func(dir string) bool { return within(file, dir) }
					return slices.ContainsFunc(s.Include, is) && !slices.ContainsFunc(s.Exclude, is) && (s.Unseen == nil || !s.Unseen(file))
				})
			}
			change := changes[s.Name]
			code, chart := change.Changed && !change.ChartOnly, change.ChartOnly
			if (code && !holds(in.Code)) || (chart && !holds(in.Chart)) || (exact && !code && holds(in.Code)) || (exact && !code && !chart && holds(in.Chart)) {
				t.Fatalf("%s of %+v, shared %v:\n%+v is affected: %+v, its inputs are %v", file, c.Services, c.Shared, s, change, in)
			}
		}
	})
}

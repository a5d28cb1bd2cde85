package plan

import (
	"slices"
	"testing"

	"github.com/slipway-cd/slipway"
)

func TestKey(t *testing.T) {
	t.Parallel()
	entries := func() []Entry {
		return []Entry{
			{"src/cart/a", "100644", "1"}, {"src/cart/chart/values.yaml", "100644", "1"}, {"src/orders/a", "100644", "1"}, {"proto/a.proto", "100644", "1"},
			{"libs/money/a", "100644", "1"}, {"README.md", "100644", "1"}, {"libs/decimal", "160000", "1"},
		}
	}
	key := func(name string, change func(c *slipway.Config, e []Entry)) string {
		t.Helper()
		c, e := shop(), entries()
		change(&c, e)
		k, ok := Key(c, name, e)
		if !ok || len(k) != 71 {
			t.Fatalf("%s: key %q", name, k)
		}
		return k
	}
	set := func(path string, change func(*Entry)) func(*slipway.Config, []Entry) {
		return func(_ *slipway.Config, e []Entry) {
			change(&e[slices.IndexFunc(e, func(x Entry) bool { return x.Path == path })])
		}
	}
	hash, mode := func(e *Entry) { e.Hash = "2" }, func(e *Entry) { e.Mode = "100755" }
	was := map[string]string{}
	for _, name := range []string{"cart", "delivery", "orders"} {
		was[name] = key(name, func(*slipway.Config, []Entry) {})
	}
	for _, c := range []struct {
		name, service string
		change        func(*slipway.Config, []Entry)
		same          bool
	}{
		{"nothing", "cart", func(*slipway.Config, []Entry) {}, true},
		{"another order", "cart", func(_ *slipway.Config, e []Entry) { slices.Reverse(e) }, true},
		{"its code", "cart", set("src/cart/a", hash), false},
		{"a mode", "cart", set("src/cart/a", mode), false},
		{"a name", "cart", set("src/cart/a", func(e *Entry) { e.Path = "src/cart/b" }), false},
		{"its chart", "cart", set("src/cart/chart/values.yaml", hash), true},
		{"another's code", "cart", set("src/orders/a", hash), false}, // that it depends on
		{"what that copies", "cart", set("proto/a.proto", hash), false},
		{"what nobody has", "cart", set("README.md", hash), true},
		{"what it does not depend on", "orders", set("src/cart/a", hash), true},
		{"a submodule behind a shared folder", "delivery", set("libs/decimal", hash), false},
		{"an argument", "cart", func(c *slipway.Config, _ []Entry) { c.Services[0].Args = map[string]string{"A": "b"} }, false},
		{"a pin", "cart", func(c *slipway.Config, _ []Entry) { c.Services[0].Pins = map[string]string{"a": "sha256:1"} }, false},
		{"the context", "cart", func(c *slipway.Config, _ []Entry) { c.Services[0].Context = "." }, false},
		{"what follows a deployment", "cart", func(c *slipway.Config, _ []Entry) {
			c.Services[0].Rollback, c.Services[0].Port = slipway.RollbackManual, 9
		}, true},
	} {
		if got := key(c.service, c.change); (got == was[c.service]) != c.same {
			t.Errorf("%s: the key of %s is the same: %v", c.name, c.service, got == was[c.service])
		}
	}
	if _, ok := Key(shop(), "none", nil); ok {
		t.Error("a service that is not there has a key")
	}
}

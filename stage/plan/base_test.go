package plan

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestBasesOfAMonorepo(t *testing.T) {
	t.Parallel()
	var services []slipway.Service
	for _, name := range []string{"cart", "mail", "orders"} {
		services = append(services, slipway.Service{Name: name})
	}
	at := func(commit string, run int64) slipway.Done { return slipway.Done{Commit: commit, RunID: run} }
	for name, c := range map[string]struct {
		built slipway.Built
		want  string
	}{
		"nothing":                {slipway.Built{}, "[]"},
		"a run":                  {slipway.Built{Rest: at("one", 1)}, "[one map[]]"},
		"all at one":             {slipway.Built{Rest: at("one", 1), Services: map[string]slipway.Done{"cart": at("two", 2), "mail": at("two", 2), "orders": at("two", 3)}}, "[two map[]]"},
		"one fails":              {slipway.Built{Rest: at("one", 1), Services: map[string]slipway.Done{"mail": at("two", 2), "orders": at("two", 2)}}, "[two map[mail:true orders:true] one map[cart:true]]"},
		"what is gone is newest": {slipway.Built{Rest: at("one", 1), Services: map[string]slipway.Done{"gone": at("two", 2)}}, "[two map[] one map[cart:true mail:true orders:true]]"},
		"one came back":          {slipway.Built{Rest: at("one", 1), Services: map[string]slipway.Done{"cart": at("", 3)}}, "[one map[mail:true orders:true]]"},
		"the commit again":       {slipway.Built{Rest: at("one", 1), Services: map[string]slipway.Done{"cart": at("two", 2), "mail": at("one", 3)}}, "[one map[mail:true orders:true] two map[cart:true]]"},
	} {
		var got []any
		for _, b := range Bases(c.built, services) {
			got = append(got, b.Commit, b.Services)
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
}

// Each service is compared with the one commit that it was done at, if that is among the newest.
func TestEachServiceHasOneBase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) slipway.Done {
			n := rapid.IntRange(0, 14).Draw(t, name)
			return []slipway.Done{{}, {RunID: int64(n)}, {Commit: fmt.Sprint("c", n), RunID: int64(n)}, {Commit: fmt.Sprint("c", n), RunID: int64(n)}}[rapid.IntRange(0, 3).Draw(t, name+" kind")]
		}
		b := slipway.Built{Rest: draw("rest"), Services: map[string]slipway.Done{}}
		var services []slipway.Service
		for i := range rapid.IntRange(0, 14).Draw(t, "services") {
			name := fmt.Sprint("s", i)
			services = append(services, slipway.Service{Name: name})
			if d := draw(name); d != (slipway.Done{}) {
				b.Services[name] = d
			}
		}
		bases := Bases(b, services)
		if len(bases) > MaxBases {
			t.Fatalf("%d bases", len(bases))
		}
		for _, s := range services {
			n := 0
			for _, base := range bases {
				if base.about(s.Name) {
					if n++; base.Commit != b.Of(s.Name).Commit {
						t.Fatalf("%s is compared with %s, of %+v", s.Name, base.Commit, b)
					}
				}
			}
			if n > 1 || n == 0 && b.Of(s.Name).Commit != "" && len(bases) < MaxBases {
				t.Fatalf("%s is compared %d times, of %+v", s.Name, n, b)
			}
		}
	})
}

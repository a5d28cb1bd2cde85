package source

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repo has fixed answers and remembers what it was asked.
type repo struct {
	files map[string][]string // "base..head"
	bases map[string]string   // "a b"
	stamp func(include, exclude []string) string

	mu    sync.Mutex
	asked []string
}

func (r *repo) ChangedFiles(_ context.Context, base, head string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := base + ".." + head
	r.asked = append(r.asked, key)
	files, ok := r.files[key]
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "commit %s is not in this repository", base)
	}
	return files, nil
}

func (r *repo) MergeBase(_ context.Context, a, b string) (string, error) {
	base, ok := r.bases[a+" "+b]
	if !ok {
		return "", errors.New("no such merge base in this test")
	}
	return base, nil
}

func (r *repo) Newest(_ context.Context, commit string, include, exclude []string) (string, time.Time, error) {
	return r.stamp(include, exclude), time.Unix(5, 0), nil
}

func TestWhatIsComparedWith(t *testing.T) {
	t.Parallel()
	r := &repo{
		files: map[string][]string{"..c": {"a"}, "before..c": {"a"}, "fork..c": {"a"}, "prfork..c": {"a"}},
		bases: map[string]string{"main c": "fork", "target c": "prfork", "alien c": ""},
	}
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"pull request":                   {Input{Event: slipway.PullUpdate, BaseTip: "target", DefaultTip: "main", Before: "before"}, "prfork"},
		"pull request of strangers":      {Input{Event: slipway.PullUpdate, BaseTip: "alien", DefaultTip: "main"}, ""},
		"push":                           {Input{Event: slipway.BranchPush, Before: "before", DefaultTip: "main"}, "before"},
		"new branch":                     {Input{Event: slipway.BranchPush, Before: slipway.ZeroHash, DefaultTip: "main"}, "fork"},
		"new branch, nothing else":       {Input{Event: slipway.BranchPush}, ""},
		"merge":                          {Input{Event: slipway.DefaultPush, Before: "before", DefaultTip: "main"}, "before"},
		"first push":                     {Input{Event: slipway.DefaultPush, DefaultTip: "main"}, ""},
		"release branch":                 {Input{Event: slipway.ReleasePush, Before: slipway.ZeroHash, DefaultTip: "main"}, "fork"},
		"force-pushed and pruned":        {Input{Event: slipway.BranchPush, Before: "gone", DefaultTip: "main"}, "fork"},
		"default force-pushed, unpruned": {Input{Event: slipway.DefaultPush, Before: "gone"}, ""},
	} {
		c.in.Commit = "c"
		c.in.Services = []Service{{Name: "a", Dir: "."}}
		changes, base, err := Changes(t.Context(), r, c.in)
		if err != nil || base != c.want || !changes["a"].Changed {
			t.Errorf("%s: compared with %q, %v, want %q", name, base, err, c.want)
		}
	}
	if _, _, err := Changes(t.Context(), r, Input{Event: slipway.PullUpdate, BaseTip: "gone", Commit: "c"}); err == nil {
		t.Error("an unknown base is no error")
	}
	if _, _, err := Changes(t.Context(), r, Input{Event: slipway.BranchPush, Before: "before", Commit: "gone", DefaultTip: "main"}); err == nil {
		t.Error("an unknown commit is no error")
	}
}

func TestWhoOwnsAFile(t *testing.T) {
	t.Parallel()
	services := []Service{
		{Name: "root", Dir: "."},
		{Name: "shop", Dir: "src/shop", Chart: "src/shop/chart"},
		{Name: "cart", Dir: "src/shop/cart", Chart: "charts/cart"},
		{Name: "twin", Dir: "src/twin", Chart: "charts/common"},
		{Name: "other", Dir: "./src/other/", Chart: "charts/common"},
		{Name: "guest", Dir: "guest", Chart: "src/twin/guestchart"},
	}
	for file, want := range map[string]string{
		"README.md":                  "root",
		"src/x":                      "root",
		"src/shop/main.go":           "shop",
		"src/shop/chart/values.yaml": "shop",
		"src/shop/cart/main.go":      "cart",
		"src/shopping/main.go":       "root",
		"src/shop":                   "root", // a file in place of the folder
		"charts/cart/Chart.yaml":     "cart",
		"charts/common/Chart.yaml":   "other twin",
		"charts/README":              "root",
		"src/twin/guestchart/x":      "guest twin",
		"src/other/\xff\n":           "other",
	} {
		var got []string
		for name, c := range assign(services, []string{file}) {
			if c.Changed {
				if c.Files != 1 || c.Example != file {
					t.Errorf("%s: %+v", file, c)
				}
				got = append(got, name)
			} else if c.Files != 0 || c.Example != file {
				t.Errorf("%s of %s: %+v", file, name, c)
			}
			if c.Total != 1 {
				t.Errorf("%s: %+v", file, c)
			}
		}
		slices.Sort(got)
		if strings.Join(got, " ") != want {
			t.Errorf("%s belongs to %v, want %s", file, got, want)
		}
	}
}

func TestCountsAndExamples(t *testing.T) {
	t.Parallel()
	got := assign([]Service{{Name: "a", Dir: "a"}, {Name: "b", Dir: "b"}}, []string{"a/z", "c", "a/b/c", "d"})
	want := map[string]ServiceChange{
		"a": {Changed: true, Files: 2, Total: 4, Example: "a/b/c"},
		"b": {Files: 0, Total: 4, Example: "a/b/c"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if c := assign([]Service{{Name: "a", Dir: "."}}, nil)["a"]; c != (ServiceChange{}) {
		t.Errorf("nothing changed, and yet %+v", c)
	}
}

func TestInputs(t *testing.T) {
	t.Parallel()
	services := []Service{
		{Name: "root", Dir: ".", Chart: "charts/root"},
		{Name: "shop", Dir: "src/shop", Chart: "src/shop/chart"},
		{Name: "cart", Dir: "src/shop/cart", Chart: "charts/cart"},
	}
	for name, want := range map[string]string{
		"root": "[{[.] [src/shop src/shop/chart src/shop/cart charts/cart]}]",
		"shop": "[{[src/shop] [src/shop/cart]}]",
		"cart": "[{[src/shop/cart charts/cart] []}]",
	} {
		sets, ok := inputs(services, name)
		if got := fmt.Sprint(sets); !ok || got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, ok := inputs(services, "none"); ok {
		t.Error("inputs of a service that is not there")
	}
}

// TestInputsAgreeWithOwners holds Changes and Revisions to one meaning of "belongs to".
func TestInputsAgreeWithOwners(t *testing.T) {
	t.Parallel()
	folder := rapid.SampledFrom([]string{".", "a", "a/b", "a/b/c", "ab", "charts", "charts/a", "charts/b", "a/charts"})
	rapid.Check(t, func(t *rapid.T) {
		dirs := rapid.SliceOfNDistinct(folder, 1, 5, rapid.ID[string]).Draw(t, "dirs")
		var services []Service
		for i, d := range dirs {
			s := Service{Name: fmt.Sprint(i), Dir: d}
			if rapid.Bool().Draw(t, "chart") {
				s.Chart = rapid.SampledFrom([]string{"charts/a", "charts/b", "charts", "a", ".", "a/charts", d + "/chart"}).Draw(t, "at")
			}
			services = append(services, s)
		}
		file := clean(folder.Draw(t, "in")+rapid.SampledFrom([]string{"", "/chart", "/x"}).Draw(t, "below")) + "/file"
		file = strings.TrimPrefix(file, "./")
		changes := assign(services, []string{file})
		for _, s := range services {
			sets, _ := inputs(services, s.Name)
			holds := func(d string) bool { return within(file, d) }
			in := slices.ContainsFunc(sets, func(p pathset) bool {
				return slices.ContainsFunc(p.include, holds) && !slices.ContainsFunc(p.exclude, holds)
			})
			if in != changes[s.Name].Changed {
				t.Fatalf("%+v: %s belongs to %+v: %v by its inputs (%v), %v by its owners", services, file, s, in, sets, changes[s.Name].Changed)
			}
		}
	})
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	r := &repo{bases: map[string]string{"newest of . newest of a/sub/chart": "newest of ."}, stamp: func(include, _ []string) string {
		if include[0] == "never" {
			return ""
		}
		return "newest of " + strings.Join(include, "+")
	}}
	services := []Service{{Name: "a", Dir: "a", Chart: "charts/a"}, {Name: "b", Dir: "b"}, {Name: "never", Dir: "never"}}
	got, err := Revisions(t.Context(), r, "c", services, []string{"a", "b"})
	if err != nil || len(got) != 2 || got["a"].Commit != "newest of a+charts/a" || got["b"].Commit != "newest of b" || got["b"].Time.Unix() != 5 {
		t.Errorf("%v, %v", got, err)
	}
	apart := []Service{{Name: "root", Dir: ".", Chart: "a/sub/chart"}, {Name: "a", Dir: "a"}}
	if got, err = Revisions(t.Context(), r, "c", apart, []string{"root"}); err != nil || got["root"].Commit != "newest of a/sub/chart" {
		t.Errorf("%v, %v", got, err)
	}
	for _, name := range []string{"never", "unknown"} {
		if _, err := Revisions(t.Context(), r, "c", services, []string{"a", name}); slipway.ErrorCode(err) != slipway.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func BenchmarkChanges(b *testing.B) {
	var services []Service
	var files []string
	for i := range 500 {
		services = append(services, Service{Name: fmt.Sprint(i), Dir: fmt.Sprintf("src/team%d/svc%d", i%20, i), Chart: fmt.Sprintf("charts/svc%d", i)})
		for j := range 200 {
			files = append(files, fmt.Sprintf("src/team%d/svc%d/pkg%d/file.go", i%20, i, j))
		}
	}
	r := &repo{files: map[string][]string{"a..c": files}}
	for b.Loop() {
		if _, _, err := Changes(b.Context(), r, Input{Event: slipway.BranchPush, Before: "a", Commit: "c", Services: services}); err != nil {
			b.Fatal(err)
		}
	}
}

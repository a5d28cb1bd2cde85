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

	"github.com/slipway-cd/slipway"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repo has fixed answers and remembers what it was asked.
type repo struct {
	files map[string][]string // "base..head"
	bases map[string]string   // "a b"
	stamp func(include, exclude []string) string

	touching []Touched
	recent   []Touched

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

func (r *repo) Touching(context.Context, string, []string, []string, int) ([]Touched, error) {
	return r.touching, nil
}

func (r *repo) Recent(context.Context, string, int) ([]Touched, error) { return r.recent, nil }

func TestWhatIsComparedWith(t *testing.T) {
	t.Parallel()
	r := &repo{
		files: map[string][]string{"before..c": {"a"}, "fork..c": {"b"}, "prfork..c": {"a"}, "c..c": nil},
		bases: map[string]string{"main c": "fork", "target c": "prfork", "alien c": "", "c c": "c", "before c": "before"},
	}
	for name, c := range map[string]struct {
		in   Input
		want string
	}{
		"pull request":                 {Input{Event: slipway.PullUpdate, BaseTip: "target", DefaultTip: "main", Before: "before"}, "[{prfork true [a]}]"},
		"pull request of strangers":    {Input{Event: slipway.PullUpdate, BaseTip: "alien", DefaultTip: "main"}, "[]"},
		"push":                         {Input{Event: slipway.BranchPush, Before: "before", DefaultTip: "main"}, "[{before false [a]} {fork true [b]}]"},
		"push of a branch that is new": {Input{Event: slipway.BranchPush, Before: slipway.ZeroHash, DefaultTip: "main"}, "[{fork true [b]}]"},
		"first push after the fork":    {Input{Event: slipway.BranchPush, Before: "before", DefaultTip: "before"}, "[{before true [a]}]"},
		"push of what is merged":       {Input{Event: slipway.BranchPush, DefaultTip: "c"}, "[{c true []}]"},
		"new branch, nothing else":     {Input{Event: slipway.BranchPush}, "[]"},
		"merge":                        {Input{Event: slipway.DefaultPush, Before: "before", DefaultTip: "main"}, "[{before false [a]}]"},
		"first push":                   {Input{Event: slipway.DefaultPush, DefaultTip: "main"}, "[]"},
		"release branch":               {Input{Event: slipway.ReleasePush, Before: slipway.ZeroHash, DefaultTip: "main"}, "[{fork true [b]}]"},
		"force-pushed and pruned":      {Input{Event: slipway.BranchPush, Before: "gone", DefaultTip: "main"}, "[{fork true [b]}]"},
		"default branch, pruned":       {Input{Event: slipway.DefaultPush, Before: "gone", DefaultTip: "c"}, "[]"},
	} {
		c.in.Commit = "c"
		got, err := Changes(t.Context(), r, c.in)
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, %v, want %s", name, got, err, c.want)
		}
	}
	if _, err := Changes(t.Context(), r, Input{Event: slipway.PullUpdate, BaseTip: "gone", Commit: "c"}); err == nil {
		t.Error("an unknown base is no error")
	}
	if _, err := Changes(t.Context(), r, Input{Event: slipway.BranchPush, Before: "before", Commit: "gone", DefaultTip: "main"}); err == nil {
		t.Error("an unknown commit is no error")
	}
}

func TestRevisions(t *testing.T) {
	t.Parallel()
	r := &repo{bases: map[string]string{"newest of . newest of a/sub/chart": "newest of ."}, stamp: func(include, _ []string) string {
		if include[0] == "never" {
			return ""
		}
		return "newest of " + strings.Join(include, "+")
	}}
	got, err := Revisions(t.Context(), r, "c", map[string][]Set{
		"a": {{Include: []string{"a", "charts/a"}}}, "b": {{Include: []string{"b"}}}, "never": {{Include: []string{"never"}}}, "nothing": nil,
		"root": {{Include: []string{"."}}, {Include: []string{"a/sub/chart"}}},
	})
	if err != nil || len(got) != 3 || got["a"].Commit != "newest of a+charts/a" || got["b"].Commit != "newest of b" || got["b"].Time.Unix() != 5 || got["root"].Commit != "newest of a/sub/chart" {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Revisions(t.Context(), r, "c", map[string][]Set{"x": {{Include: []string{"x"}}, {Include: []string{"y"}}}}); err == nil {
		t.Error("a repository that does not answer is no error")
	}
}

// What the newest commits tell is not searched for.
func TestRecentRevisions(t *testing.T) {
	t.Parallel()
	r := &repo{stamp: func(include, _ []string) string { return "searched " + include[0] }, bases: map[string]string{}}
	sets := map[string][]Set{"a": {{Include: []string{"src/a"}, Exclude: []string{"src/a/chart"}}}, "b": {{Include: []string{"src/b"}}}, "all": {{Include: []string{"."}}}}
	for _, c := range []struct {
		recent []Touched
		want   string
	}{
		{nil, "searched src/a, searched src/b, searched ."},
		{[]Touched{{"3", time.Time{}, 1, []string{"src/a/chart/x", "src/bb"}}, {"2", time.Time{}, 1, []string{"src/a/x"}}, {"1", time.Time{}, 1, []string{"src/a"}}}, "2, searched src/b, 3"},
		{[]Touched{{"3", time.Time{}, 1, []string{"src/b"}}, {"2", time.Time{}, 2, nil}, {"1", time.Time{}, 1, []string{"src/a/x"}}}, "searched src/a, 3, 3"},
		{[]Touched{{"3", time.Time{}, 2, nil}}, "searched src/a, searched src/b, searched ."},
		{[]Touched{{"3", time.Time{}, 1, []string{"x"}}, {"2", time.Time{}, 0, []string{"src/b/x"}}}, ", 2, 3"},
	} {
		r.recent = c.recent
		got, err := Revisions(t.Context(), r, "c", sets)
		if s := got["a"].Commit + ", " + got["b"].Commit + ", " + got["all"].Commit; err != nil || s != c.want {
			t.Errorf("%v: %s, want %s (%v)", c.recent, s, c.want, err)
		}
	}
}

// What a build does not see makes no revision, wherever it is found.
func TestRevisionsOfWhatIsSeen(t *testing.T) {
	t.Parallel()
	docs := func(file string) bool { return strings.HasPrefix(file, "a/docs/") }
	set := map[string][]Set{"a": {{Include: []string{"a"}, Unseen: docs}}}
	touched := func(commit string, parents int, files ...string) Touched {
		return Touched{commit, time.Unix(7, 0), parents, files}
	}
	many := slices.Repeat([]Touched{touched("docs", 1, "a/docs/x")}, 1000)
	for name, c := range map[string]struct {
		recent, touching []Touched
		want             string
	}{
		"recent":             {[]Touched{touched("3", 1, "a/docs/x"), touched("2", 1, "a/docs/y", "a/x"), touched("1", 0, "a/x")}, nil, "2"},
		"all of history":     {[]Touched{touched("3", 1, "a/docs/x"), touched("2", 0, "b/x")}, nil, ""},
		"searched":           {[]Touched{touched("3", 1, "a/docs/x")}, []Touched{touched("3", 1, "a/docs/x"), touched("1", 1, "a/x")}, "1"},
		"a merge":            {nil, []Touched{touched("3", 1, "a/docs/x"), touched("m", 2), touched("1", 1, "a/x")}, "m"},
		"files not known":    {nil, []Touched{touched("3", 0)}, "3"},
		"nothing seen":       {nil, []Touched{touched("3", 1, "a/docs/x")}, ""},
		"too many to search": {nil, many, "docs"},
	} {
		got, err := Revisions(t.Context(), &repo{recent: c.recent, touching: c.touching}, "c", set)
		if err != nil || got["a"].Commit != c.want {
			t.Errorf("%s: %+v, %v, want %s", name, got, err, c.want)
		}
	}
}

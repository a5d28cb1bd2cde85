package git

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/source"
)

// What the newest commits tell of revisions is what a search of history finds.
func TestRecentAgreesWithNewest(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	w.commit("first", map[string]string{"a/x": "1", "b/x": "1", "c/x": "1", ":100644 evil": "1"})
	var heads []string
	for i := range 6 {
		heads = append(heads, w.commit(fmt.Sprint(i), map[string]string{[]string{"a/y", "b/\n:x", "c/chart/x"}[i%3]: fmt.Sprint(i)}))
	}
	w.git("commit", "--quiet", "--allow-empty", "-m", "nothing")
	heads = append(heads, w.git("rev-parse", "HEAD"))
	w.git("checkout", "--quiet", "-b", "side", heads[2])
	w.commit("side", map[string]string{"a/side": "1"})
	w.git("checkout", "--quiet", "main")
	w.git("merge", "--quiet", "--no-ff", "-m", "merge", "side")
	heads = append(heads, w.git("rev-parse", "HEAD"), w.commit("after", map[string]string{"b/after": "1"}))
	inputs := map[string][]source.Set{
		"a": {{Include: []string{"a"}}}, "b": {{Include: []string{"b"}}}, "c": {{Include: []string{"c"}, Exclude: []string{"c/chart"}}},
		"all": {{Include: []string{"."}}}, "none": {{Include: []string{"none"}}},
	}
	for _, head := range heads {
		got, err := source.Revisions(t.Context(), w.repo, head, inputs)
		if err != nil {
			t.Fatal(err)
		}
		for name, sets := range inputs {
			want, at, err := w.repo.Newest(t.Context(), head, sets[0].Include, sets[0].Exclude)
			if err != nil || got[name].Commit != want || (want != "" && !got[name].Time.Equal(at)) {
				t.Errorf("%s at %s: %v, want %s (%v)", name, head, got[name], want, err)
			}
		}
	}
	recent, err := w.repo.Recent(t.Context(), heads[1], 2)
	if err != nil || len(recent) != 2 || recent[0].Commit != heads[1] || !slices.Equal(recent[0].Files, []string{"b/\n:x"}) || recent[1].Parents != 1 {
		t.Errorf("%+v, %v", recent, err)
	}
	_, err = w.repo.Recent(t.Context(), strings.Repeat("1", 40), 2)
	wantCode(t, err, slipway.NotFound)
}

func TestFileChanges(t *testing.T) {
	t.Parallel()
	w := newWork(t)
	one := w.commit("one", map[string]string{"changed": "1", "gone": "1", "link->": "gone", "became a link": "1", "\xff\n": "1"})
	two := w.commit("two", map[string]string{"changed": "2", "gone": "", "link->": "changed", "became a link->": "x", "new": "1", "\xff\n": "2"})
	got, err := w.repo.FileChanges(t.Context(), one, two)
	want := []source.FileChange{
		{Path: "became a link"}, {Path: "changed", Plain: true}, {Path: "gone", Deleted: true, Plain: true}, {Path: "link"},
		{Path: "new", Added: true, Plain: true}, {Path: "\xff\n", Plain: true},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = w.repo.FileChanges(t.Context(), one, strings.Repeat("1", 40))
	wantCode(t, err, slipway.NotFound)
}

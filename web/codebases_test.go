package web_test

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// A project with several codebases shows where each service and each run is from; another says nothing of it.
func TestCodebasesAreShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	text := func(target string) string {
		root := parse(t, s.ask("GET", target, "").Body.String())
		for _, problem := range check(root) {
			t.Errorf("%s: %s", target, problem)
		}
		return strings.Join(strings.Fields(words(root)), " ")
	}
	for _, page := range []string{"/projects/big", "/projects/shop/runs", "/runs/14"} {
		if strings.Contains(text(page), "codebase") {
			t.Errorf("%s of a project with one codebase speaks of it", page)
		}
	}
	s.change(14, func() {
		b := s.boards["shop"]
		b.Codebases = []string{"pages"}
		b.Rows[2].Codebase = "pages"
		d := s.detail(14)
		d.Run.Codebase = "pages"
		s.pulls = append(s.pulls, slipway.PullRequest{Project: "shop", Codebase: "pages", Number: 3, Title: "pages", Base: "main", Head: strings.Repeat("d", 40), Author: "ann", State: slipway.PullOpen})
		d.Plan.Notes = []string{"submodule far is an empty folder"}
	})
	for page, want := range map[string][]string{
		"/projects/shop":       {"web codebase pages", "delivery main codebase"},
		"/projects/shop/runs":  {"codebase pages"},
		"/projects/shop/pulls": {"pages#3", "of codebase pages by ann"},
		"/runs/14":             {"of codebase pages at", "submodule far is an empty folder"},
	} {
		got := text(page)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s does not say %q:\n%s", page, w, got)
			}
		}
	}
	if page := s.ask("GET", "/projects/shop/pulls", "").Body.String(); strings.Count(page, `name="codebase" value="pages"`) != 2 {
		t.Errorf("not every button of pages#3 names its codebase:\n%s", page)
	}
}

// What is broken comes first, then what waits for a person; the top says how many there are.
func TestCodebasesThatNeedAPersonComeFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := parse(t, s.ask("GET", "/projects/shop/codebases", "").Body.String())
	var got []string
	for n := range root.Descendants() {
		if n.Data == "section" {
			got = append(got, strings.TrimPrefix(attr(n, "data-key"), "codebase-"))
		}
	}
	if want := "keyed search fresh main mirror pages"; strings.Join(got, " ") != want {
		t.Errorf("they are %v, want %s", got, want)
	}
	if top := strings.Join(strings.Fields(words(one(t, root, "head"))), " "); top != "Codebases 6 codebases · 2 broken · 1 waiting for a person" {
		t.Errorf("the top says %q", top)
	}
	if top := words(one(t, parse(t, s.ask("GET", "/projects/new/codebases", "").Body.String()), "head")); strings.Contains(top, "·") {
		t.Errorf("of one codebase the top says %q", top)
	}
}

package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// Every one of many releases is on one of the pages, each of which says that there are older ones.
func TestReleasePages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.huge()
	seen := map[string]bool{}
	pages := 0
	for target := "/projects/huge/releases"; target != "" && pages < 40; pages++ {
		root := parse(t, s.ask("GET", target, "").Body.String())
		for n := range root.Descendants() {
			if href := attr(n, "href"); n.Data == "a" && strings.HasPrefix(href, "/projects/huge/releases/") {
				seen[href] = true
			}
		}
		target = ""
		for _, to := range links(root, "older releases") {
			target = "/projects/huge/releases" + to
		}
	}
	if len(seen) != 2_000 || pages != 20 {
		t.Errorf("%d pages have %d releases", pages, len(seen))
	}
	for target, want := range map[string]string{
		"/projects/huge/releases?before=1":                          "There are no older releases.",
		"/projects/huge/releases?before=100050&service=service-007": "newest releases",
		"/projects/huge/releases?service=team-0":                    "?before=",
		"/projects/huge/releases?service=nothing":                   "There is no release of a service with “nothing” in its name.",
	} {
		if page := s.ask("GET", target, "").Body.String(); !strings.Contains(page, want) {
			t.Errorf("%s does not say %q", target, want)
		}
	}
	if to := links(parse(t, s.ask("GET", "/projects/huge/releases?service=team-0", "").Body.String()), "older releases"); len(to) != 1 || !strings.Contains(to[0], "service=team-0") {
		t.Errorf("what was filtered goes on at %v", to)
	}
	if got := s.ask("GET", "/projects/huge/releases?before=x", "").Code; got != http.StatusUnprocessableEntity {
		t.Errorf("before=x answers %d", got)
	}
}

// A service's page says when there is more of its past than it shows; an old release has its page, and none in
// quarantine is offered to go back to.
func TestServiceWithALongPast(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.ask("GET", "/projects/shop/services/delivery", "").Body.String(); strings.Contains(got, "older releases") || strings.Contains(got, "These are the newest") {
		t.Error("it says that there is more when there is not")
	}
	first := s.releases[len(s.releases)-1]
	s.change(14, func() {
		for i := range 700 {
			r := first
			r.ID, r.Version = int64(1_000+i), "v9.0."+strings.Repeat("1", i%30+1)
			s.releases = append(s.releases, r)
		}
		for range 20 {
			s.history = append(s.history, deployment("delivery", "qa", "v1.0.0", 9, slipway.Replaced, s.now))
		}
		s.releases[len(s.releases)-701].Quarantined = "it lost data"
	})
	page := s.ask("GET", "/projects/shop/services/delivery", "").Body.String()
	for _, want := range []string{`href="/projects/shop/releases?service=delivery">older releases of delivery`, "These are the newest 12;"} {
		if !strings.Contains(page, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(page, `<option value="`+first.Version+`"`) {
		t.Errorf("%s is offered to go back to", first.Version)
	}
	if got := s.ask("GET", "/projects/shop/releases/delivery/"+first.Version, ""); got.Code != http.StatusOK || !strings.Contains(got.Body.String(), "it lost data") {
		t.Errorf("the page of %s answers %d", first.Version, got.Code)
	}
}

// What there is more of than a page has room for is said to be more; a pull request finds its run behind many others.
func TestMoreThanIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if got := s.ask("GET", "/projects", "").Body.String(); strings.Contains(got, "These are the newest") {
		t.Error("a few runs are said to be more")
	}
	head := hex(40, "far behind")
	s.run(slipway.Run{ID: 40, Event: slipway.PullUpdate, Pull: 77, Ref: "refs/pull/77/head", Commit: head, State: slipway.RunSucceeded}, 9*sec)
	s.pulls = append(s.pulls, slipway.PullRequest{Project: "shop", Number: 77, Title: "Old", Base: "main", Head: head, Author: "ann", State: slipway.PullOpen})
	for i := range 250 {
		s.run(slipway.Run{ID: int64(50 + i), Event: slipway.BranchPush, Ref: "refs/heads/x", State: slipway.RunRunning}, sec)
	}
	if got := s.ask("GET", "/projects", "").Body.String(); strings.Count(got, "These are the newest; each project lists its own.") != 1 {
		t.Error("many runs are not said to be more")
	}
	if got := s.ask("GET", "/projects/shop/pulls", "").Body.String(); !strings.Contains(got, `href="/runs/40"`) {
		t.Error("the run of the pull request is not found")
	}
}

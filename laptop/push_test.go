package laptop

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/worktree"
)

// What a push would run is what differs from what was built last, with what is not committed.
func TestPush(t *testing.T) {
	t.Parallel()
	l := newLaptop(t)
	for want, c := range map[string]Push{
		"merge: runs cart":           {Event: "push"},
		"merge: runs nothing":        {Event: "push", Since: l.w.Head},
		"push: runs cart":            {Event: "push", Ref: "topic/x"},
		"pull-request: runs cart":    {Event: "pull-request"},
		"pull-request: runs nothing": {Event: "pull-request", Since: "main"},
		"release: runs cart":         {Event: "release", Ref: "release/cart/v1.2.0"},
	} {
		p, err := l.checkouts().Push(t.Context(), c)
		if err != nil {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		runs := "nothing"
		for _, d := range p.Plan.Decisions {
			if d.Runs {
				runs = d.Service
			}
		}
		if got := string(p.Event) + ": runs " + runs; got != want || p.Project != "shop" || p.Commit != l.w.Head {
			t.Errorf("%+v: %s of %s at %s, want %s", c, got, p.Project, p.Commit, want)
		}
	}
	for want, c := range map[string]Push{
		"expected push, pull-request or release": {Event: "merge"},
		"is no release branch":                   {Event: "release"},
		"names no commit here":                   {Event: "push", Since: "nowhere"},
	} {
		if _, err := l.checkouts().Push(t.Context(), c); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	slipwaytest.Write(t, l.w.Root, "cart/page.html", "two\n")
	var err error
	if l.w, err = worktree.Open(t.Context(), l.w.Root, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	p, err := l.checkouts().Push(t.Context(), Push{Event: "push", Since: "HEAD"})
	if err != nil || p.Uncommitted != 1 || !p.Plan.Decisions[0].Runs {
		t.Errorf("with a file that is not committed: %+v, %v", p, err)
	}
}

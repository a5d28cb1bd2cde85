package main

import (
	"testing"

	"github.com/slipway-cd/slipway"
)

// A further codebase is mirrored as the main one is, beside it.
func TestMirrorOfAFurtherCodebase(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk")
	s, p := mirror(t, u)
	ctx := t.Context()
	made, keep, err := s.repos.Create(ctx, slipway.Codebase{Project: "lib", Name: "web", GitURL: u.url})
	if err != nil {
		t.Fatal(err)
	}
	web := must[slipway.Codebase](t)(s.store.CreateCodebase(ctx, made, adminName))
	if err := s.repos.Recover([]slipway.Codebase{web}); err != nil || web.DefaultBranch != "trunk" { // killed before keep
		t.Fatalf("%+v: %v", web, err)
	}
	if err := keep(); err == nil {
		t.Error("what was recovered is put into its place once more")
	}
	for kind, want := range map[string]bool{"run.queued": false, "project.created": true, "codebase.created": true, "forge.connected": true, "codebase.removed": false} {
		before := must[int64](t)(s.store.LastEvent(ctx))
		for _, k := range []string{kind, "user.role"} {
			if err := s.store.Audit(ctx, slipway.Event{Kind: k}); err != nil {
				t.Fatal(err)
			}
		}
		after, found := s.added(ctx, before)
		if again, more := s.added(ctx, after); found != want || after != before+2 || again != after || more {
			t.Errorf("%s: the loop looks at all projects: %t, after event %d; at once again: %t, %d", kind, found, after, more, again)
		}
	}
	if _, found := s.added(ctx, 0); !found {
		t.Error("the codebase that was created is not noticed")
	}
	if !s.newMirror(ctx, []slipway.Codebase{p}) || s.newMirror(ctx, []slipway.Codebase{p, web}) {
		t.Error("the loop does not see which mirrors are new")
	}
	for range 2 {
		if err := s.pollMirror(ctx, web.Key(), nil); err != nil {
			t.Fatal(err)
		}
	}
	runs := must[[]slipway.Run](t)(s.store.Runs(ctx, slipway.RunFilter{}))
	if len(runs) != 1 || runs[0].Codebase != "web" || runs[0].Commit != first || runs[0].Event != slipway.DefaultPush {
		t.Errorf("runs %+v", runs)
	}
	if got := must[string](t)(s.repos.Open("lib/web").Resolve(ctx, "refs/heads/trunk")); got != first {
		t.Errorf("trunk of the mirror is at %s", got)
	}
	if err := s.repos.Discard(web); err != nil {
		t.Fatal(err)
	}
	if err := s.repos.Discard(web); err == nil {
		t.Error("discarded twice")
	}
}

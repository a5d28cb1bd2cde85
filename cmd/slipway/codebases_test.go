package main

import (
	"context"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
)

// A further codebase is mirrored as the main one is, beside it.
func TestMirrorOfAFurtherCodebase(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk")
	s, p := mirror(t, u)
	ctx := t.Context()
	made, keep, err := s.repos.create(ctx, slipway.Codebase{Project: "lib", Name: "web", GitURL: u.url})
	if err != nil {
		t.Fatal(err)
	}
	web := must[slipway.Codebase](t)(s.store.CreateCodebase(ctx, made, adminName))
	if err := s.repos.recover([]slipway.Codebase{web}); err != nil || web.DefaultBranch != "trunk" { // killed before keep
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
		if err := s.pollMirror(ctx, web, nil); err != nil {
			t.Fatal(err)
		}
	}
	runs := must[[]slipway.Run](t)(s.store.Runs(ctx, slipway.RunFilter{}))
	if len(runs) != 1 || runs[0].Codebase != "web" || runs[0].Commit != first || runs[0].Event != slipway.DefaultPush {
		t.Errorf("runs %+v", runs)
	}
	if got := must[string](t)(s.repos.open("lib/web").Resolve(ctx, "refs/heads/trunk")); got != first {
		t.Errorf("trunk of the mirror is at %s", got)
	}
	if err := s.repos.discard(web); err != nil {
		t.Fatal(err)
	}
	if err := s.repos.discard(web); err == nil {
		t.Error("discarded twice")
	}
}

func TestWhichCodebaseASubmoduleIs(t *testing.T) {
	t.Parallel()
	further := []slipway.Codebase{
		{Project: "shop", Name: "web"},
		{Project: "shop", Name: "far", GitURL: "https://Forge.example/team/far.git"},
		{Project: "shop", Name: "ssh", GitURL: "ssh://git@forge.example/team/ssh"},
	}
	s := submodules{
		repos: repos{dir: "/repos"}, url: "http://slipway.test:8080",
		codebases: func(context.Context, string) ([]slipway.Codebase, error) { return further, nil },
		project: func(_ context.Context, name string) (slipway.Project, error) {
			return slipway.Project{Name: name}, nil
		},
	}
	for _, c := range []struct{ from, url, want string }{
		{"shop", "../shop/web.git", "shop/web"},
		{"shop", "../shop/web", "shop/web"},
		{"shop", "../shop/web.git/", "shop/web"},
		{"shop/web", "../far.git", "shop/far"},
		{"shop/web", "../../shop.git", "shop"},
		{"shop/web", "./../ssh", "shop/ssh"},
		{"shop/far", "../ssh.git", "shop/ssh"}, // as on the forge
		{"shop/far", "../web.git", "shop/web"}, // as here
		{"shop", "http://slipway.test:8080/git/shop/web.git", "shop/web"},
		{"shop", "http://ann:secret@slipway.test:8080/git/shop/web", "shop/web"},
		{"shop", "https://forge.example/team/far", "shop/far"},
		{"shop", "git@forge.example:team/far.git", "shop/far"},
		{"shop", "ssh://git@forge.example/team/ssh.git", "shop/ssh"},
		{"shop", "../blog.git", ""},
		{"shop", "../blog/web.git", ""},
		{"shop", "../../../shop/web.git", ""},
		{"shop", "http://elsewhere.test/git/shop/web.git", ""},
		{"shop", "/git/shop/web.git", ""},
		{"shop", "file:///repos/shop/web.git", ""},
		{"shop", "ext::sh -c http://slipway.test:8080/git/shop/web.git", ""},
		{"shop", "--upload-pack=x", ""},
		{"shop", "", ""},
		{"shop", "http://slipway.test:8080/git/shop/../shop/web.git", "shop/web"},
	} {
		key, repo, ok, err := s.find(t.Context(), c.from, c.url)
		if err != nil || ok != (c.want != "") || key != c.want {
			t.Errorf("%s of %s is %q (%t, %v), want %q", c.url, c.from, key, ok, err, c.want)
		}
		if want := (git.Repo{Dir: "/repos/" + c.want + ".git"}); ok && repo.Dir != want.Dir {
			t.Errorf("%s is in %s", c.url, repo.Dir)
		}
	}
}

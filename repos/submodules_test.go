package repos_test

import (
	"context"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
	"github.com/slipway-cd/slipway/repos"
)

func TestWhichCodebaseASubmoduleIs(t *testing.T) {
	t.Parallel()
	further := []slipway.Codebase{
		{Project: "shop", Name: "web"},
		{Project: "shop", Name: "far", GitURL: "https://Forge.example/team/far.git"},
		{Project: "shop", Name: "ssh", GitURL: "ssh://git@forge.example/team/ssh"},
	}
	s := repos.Submodules{
		Repos: repos.In("/repos"), URL: "http://slipway.test:8080",
		Codebases: func(context.Context, string) ([]slipway.Codebase, error) { return further, nil },
		Project: func(_ context.Context, name string) (slipway.Project, error) {
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
		key, repo, ok, err := s.Find(t.Context(), c.from, c.url)
		if err != nil || ok != (c.want != "") || key != c.want {
			t.Errorf("%s of %s is %q (%t, %v), want %q", c.url, c.from, key, ok, err, c.want)
		}
		if want := (git.Repo{Dir: "/repos/" + c.want + ".git"}); ok && repo.Dir != want.Dir {
			t.Errorf("%s is in %s", c.url, repo.Dir)
		}
	}
}

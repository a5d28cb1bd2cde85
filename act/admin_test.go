package act_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/act"
)

func TestCreateProject(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p, err := w.CreateProject(w.ctx, w.admin, slipway.Project{ID: 77, Name: "blog", CreatedAt: time.Unix(1, 0)})
	w.ok(err)
	if p.ID == 77 || p.ID == 0 || p.DefaultBranch != "main" || p.CreatedAt.Unix() == 1 {
		t.Errorf("created %+v", p)
	}
	if _, err := os.Stat(w.path("blog")); err != nil {
		t.Error(err)
	}
	p, err = w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "far", GitURL: "https://git.test/x.git"})
	w.ok(err)
	if p.DefaultBranch != "trunk" || p.GitURL != "https://git.test/x.git" {
		t.Errorf("mirrored %+v", p)
	}
	for name, c := range map[string]struct {
		by   slipway.User
		p    slipway.Project
		code slipway.Code
		says string
	}{
		"nobody":           {slipway.User{}, slipway.Project{Name: "x"}, slipway.Unauthorized, ""},
		"an approver":      {w.approver, slipway.Project{Name: "x"}, slipway.Forbidden, "only an admin"},
		"taken":            {w.admin, slipway.Project{Name: "shop"}, slipway.Conflict, "exists already"},
		"no name":          {w.admin, slipway.Project{}, slipway.Invalid, "project name"},
		"upper case":       {w.admin, slipway.Project{Name: "Shop"}, slipway.Invalid, "lower-case"},
		"a path":           {w.admin, slipway.Project{Name: "../x"}, slipway.Invalid, "project name"},
		"an option":        {w.admin, slipway.Project{Name: "-x"}, slipway.Invalid, "project name"},
		"long":             {w.admin, slipway.Project{Name: strings.Repeat("x", 41)}, slipway.Invalid, "at most 40"},
		"production":       {w.admin, slipway.Project{Name: "prod"}, slipway.Invalid, "reserved"},
		"mirror":           {w.admin, slipway.Project{Name: "mirror"}, slipway.Invalid, "reserved"},
		"a bad branch":     {w.admin, slipway.Project{Name: "x", DefaultBranch: "a..b"}, slipway.Invalid, "not a valid branch"},
		"a release branch": {w.admin, slipway.Project{Name: "x", DefaultBranch: "release/cart/v1.0.0"}, slipway.Invalid, "those of releases"},
		"a password":       {w.admin, slipway.Project{Name: "x", GitURL: "https://me:s3cret@git.test/x.git"}, slipway.Invalid, "password"},
		"a token":          {w.admin, slipway.Project{Name: "x", GitURL: "https://s3cret@git.test/x.git"}, slipway.Invalid, "token"},
		"a ssh password":   {w.admin, slipway.Project{Name: "x", GitURL: "ssh://me:s3cret@git.test/x.git"}, slipway.Invalid, "password"},
		"a file":           {w.admin, slipway.Project{Name: "x", GitURL: "file:///etc"}, slipway.Invalid, "expected https://"},
		"a helper":         {w.admin, slipway.Project{Name: "x", GitURL: "ext::sh -c s3cret"}, slipway.Invalid, "expected https://"},
		"no host":          {w.admin, slipway.Project{Name: "x", GitURL: "https:///x.git"}, slipway.Invalid, "host"},
		"a host that -":    {w.admin, slipway.Project{Name: "x", GitURL: "ssh://-oProxyCommand=s3cret/x"}, slipway.Invalid, "host"},
		"no URL, a s3cret": {w.admin, slipway.Project{Name: "x", GitURL: "https://me:s3cret@%zz/"}, slipway.Invalid, "expected https://"},
	} {
		_, err := w.CreateProject(w.ctx, c.by, c.p)
		if slipway.ErrorCode(err) != c.code || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v; want %s and %q", name, err, c.code, c.says)
		}
	}
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "ssh", GitURL: "ssh://git@git.test/x.git"}))
	all, err := w.Projects(w.ctx, w.admin)
	w.ok(err)
	mine, err := w.Projects(w.ctx, w.viewer)
	w.ok(err)
	none, err := w.Projects(w.ctx, w.stranger)
	w.ok(err)
	if len(all) != 4 || len(mine) != 1 || mine[0].Name != "shop" || len(none) != 0 {
		t.Errorf("projects: %d, %+v, %+v", len(all), mine, none)
	}
	_, err = w.Projects(w.ctx, slipway.User{})
	w.code(err, slipway.Unauthorized)
}

// What a first try left does not stand in the way of a second.
func TestCreateProjectAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.hooks.createProject = errors.New("disk full")
	_, err := w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog", GitURL: "https://git.test/x.git"})
	if !errors.Is(err, w.hooks.createProject) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(w.path("blog")); err == nil {
		t.Error("the repository of a project that does not exist is in its place")
	}
	w.hooks.createProject = nil
	p, err := w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog"})
	w.ok(err)
	if p.GitURL != "" || p.DefaultBranch != "main" {
		t.Errorf("created %+v", p)
	}
	w.hooks.keep = errors.New("killed")
	if _, err := w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "late"}); !errors.Is(err, w.hooks.keep) {
		t.Errorf("got %v", err)
	}
}

func TestOneOfTwoProjectsOfAName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		all.Go(func() { _, errs[i] = w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog"}) })
	}
	all.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
			continue
		}
		w.code(err, slipway.Conflict)
	}
	if made != 1 {
		t.Errorf("%d were made", made)
	}
}

func TestRunsOfOnesOwnProjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "blog"}))
	w.do(w.CreateProject(w.ctx, w.admin, slipway.Project{Name: "hidden"}))
	w.ok(w.store.SetRole(w.ctx, "viewer", "blog", slipway.Viewer, "admin"))
	viewer, err := w.store.User(w.ctx, "viewer")
	w.ok(err)
	for _, project := range []string{"shop", "blog", "shop", "hidden", "hidden", "hidden"} {
		w.do(w.store.CreateRun(w.ctx, slipway.Run{Project: project, Event: slipway.BranchPush, Ref: "refs/heads/x", Commit: strings.Repeat("1", 40)}, slipway.Plan{}))
	}
	ids := func(by slipway.User, f slipway.RunFilter) (out []int64) {
		runs, err := w.Runs(w.ctx, by, f)
		w.ok(err)
		for _, r := range runs {
			out = append(out, r.ID)
		}
		return out
	}
	for _, c := range []struct {
		by   slipway.User
		f    slipway.RunFilter
		want []int64
	}{
		{viewer, slipway.RunFilter{}, []int64{3, 2, 1}},
		{viewer, slipway.RunFilter{Limit: 2}, []int64{3, 2}},
		{viewer, slipway.RunFilter{Before: 3}, []int64{2, 1}},
		{viewer, slipway.RunFilter{Project: "blog"}, []int64{2}},
		{w.admin, slipway.RunFilter{Limit: 3}, []int64{6, 5, 4}},
		{w.stranger, slipway.RunFilter{}, nil},
	} {
		if got := ids(c.by, c.f); !equal(got, c.want) {
			t.Errorf("%s, %+v: %v, want %v", c.by.Name, c.f, got, c.want)
		}
	}
	_, err = w.Runs(w.ctx, viewer, slipway.RunFilter{Project: "hidden"})
	w.code(err, slipway.NotFound)
	_, err = w.Runs(w.ctx, slipway.User{}, slipway.RunFilter{})
	w.code(err, slipway.Unauthorized)
	for name, see := range map[string]func(by slipway.User) error{
		"board": func(by slipway.User) error { _, err := w.Board(w.ctx, by, "shop"); return err },
		"releases": func(by slipway.User) error {
			_, err := w.Releases(w.ctx, by, slipway.ReleaseFilter{Project: "shop"})
			return err
		},
		"history": func(by slipway.User) error { _, err := w.History(w.ctx, by, "shop", "qa", "cart"); return err },
		"pulls":   func(by slipway.User) error { _, err := w.Pulls(w.ctx, by, "shop"); return err },
		"run":     func(by slipway.User) error { _, err := w.Run(w.ctx, by, 1); return err },
	} {
		if err := see(viewer); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if code := slipway.ErrorCode(see(w.stranger)); code != slipway.NotFound {
			t.Errorf("%s, a stranger: %s", name, code)
		}
		if code := slipway.ErrorCode(see(slipway.User{})); code != slipway.Unauthorized {
			t.Errorf("%s, nobody: %s", name, code)
		}
	}
}

func equal(a, b []int64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, err := w.people.CreateUser(w.ctx, w.approver, "eve", true)
	w.code(err, slipway.Forbidden)
	_, err = w.people.CreateUser(w.ctx, w.admin, "Eve!", false)
	w.code(err, slipway.Invalid)
	_, err = w.people.CreateUser(w.ctx, w.admin, "viewer", false)
	w.code(err, slipway.Conflict)
	w.do(w.people.CreateUser(w.ctx, w.admin, "eve", false))
	_, err = w.people.Users(w.ctx, w.approver)
	w.code(err, slipway.Forbidden)
	all, err := w.people.Users(w.ctx, w.admin)
	w.ok(err)
	if len(all) != 6 {
		t.Errorf("%d users", len(all))
	}
	boss := slipway.User{Name: "viewer", Roles: map[string]slipway.Role{"shop": slipway.Admin}}
	_, err = w.people.SetRole(w.ctx, w.approver, "eve", "shop", slipway.Viewer)
	w.code(err, slipway.Forbidden)
	_, err = w.people.SetRole(w.ctx, boss, "eve", "blog", slipway.Viewer)
	w.code(err, slipway.NotFound)
	_, err = w.people.SetRole(w.ctx, boss, "eve", "shop", "boss")
	w.code(err, slipway.Invalid, "viewer developer approver admin")
	_, err = w.people.SetRole(w.ctx, boss, "nobody", "shop", slipway.Viewer)
	w.code(err, slipway.NotFound)
	u, err := w.people.SetRole(w.ctx, boss, "eve", "shop", slipway.Developer)
	w.ok(err)
	if u.Role("shop") != slipway.Developer {
		t.Errorf("role %q", u.Role("shop"))
	}
	if u, err = w.people.SetRole(w.ctx, boss, "eve", "shop", ""); err != nil || u.Role("shop") != "" {
		t.Errorf("role %q, %v", u.Role("shop"), err)
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret, err := w.people.CreateToken(w.ctx, w.viewer, "viewer", "")
	w.ok(err)
	if u, err := w.store.UserByToken(w.ctx, secret); err != nil || u.Name != "viewer" {
		t.Errorf("token of %+v, %v", u, err)
	}
	_, err = w.people.CreateToken(w.ctx, w.viewer, "admin", "x")
	w.code(err, slipway.Forbidden)
	_, err = w.people.CreateToken(w.ctx, slipway.User{}, "", "x")
	w.code(err, slipway.Unauthorized)
	_, err = w.people.CreateToken(w.ctx, w.admin, "nobody", "x")
	w.code(err, slipway.NotFound)
	_, err = w.people.CreateToken(w.ctx, w.viewer, "viewer", strings.Repeat("x", 101))
	w.code(err, slipway.Invalid)
	_, err = w.people.CreateToken(w.ctx, w.viewer, "viewer", "a\x1b[2J")
	w.code(err, slipway.Invalid)
	w.do(w.people.CreateToken(w.ctx, w.admin, "viewer", "for git"))

	_, err = w.people.CreateLink(w.ctx, w.viewer, "admin")
	w.code(err, slipway.Forbidden)
	link, err := w.people.CreateLink(w.ctx, w.admin, "viewer")
	w.ok(err)
	code, ok := strings.CutPrefix(link, "http://slipway.test/signin/")
	if !ok {
		t.Fatalf("link %q", link)
	}
	_, _, err = w.people.Redeem(w.ctx, code, "a\nb") // a slip does not use the link up
	w.code(err, slipway.Invalid)
	u, secret, err := w.people.Redeem(w.ctx, code, "laptop")
	w.ok(err)
	if by, err := w.store.UserByToken(w.ctx, secret); err != nil || by.Name != "viewer" || u.Name != "viewer" {
		t.Errorf("redeemed for %q, token of %q, %v", u.Name, by.Name, err)
	}
	_, _, err = w.people.Redeem(w.ctx, code, "laptop")
	w.code(err, slipway.Unauthorized, "used already")

	session, err := w.people.SignIn(w.ctx, secret, "")
	w.ok(err)
	if by, err := w.store.UserBySession(w.ctx, session); err != nil || by.Name != "viewer" {
		t.Errorf("session of %q, %v", by.Name, err)
	}
	_, err = w.people.SignIn(w.ctx, "slp_wrong", "")
	w.code(err, slipway.Unauthorized)
}

func TestTokensAreTheirOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	secret, err := w.people.CreateToken(w.ctx, w.viewer, "viewer", "laptop")
	w.ok(err)
	mine, err := w.people.Tokens(w.ctx, w.viewer, "viewer")
	w.ok(err)
	if len(mine) != 1 || mine[0].Name != "laptop" || strings.Contains(fmt.Sprintf("%+v", mine), secret) {
		t.Fatalf("tokens: %+v", mine)
	}
	_, err = w.people.Tokens(w.ctx, w.developer, "viewer")
	w.code(err, slipway.Forbidden)
	w.code(w.people.RevokeToken(w.ctx, w.developer, "viewer", mine[0].ID), slipway.Forbidden)
	w.code(w.people.RevokeToken(w.ctx, w.developer, "developer", mine[0].ID), slipway.NotFound)
	w.code(w.people.RevokeToken(w.ctx, slipway.User{}, "", mine[0].ID), slipway.Unauthorized)
	w.ok(w.people.RevokeToken(w.ctx, w.viewer, "viewer", mine[0].ID))
	_, err = w.store.UserByToken(w.ctx, secret)
	w.code(err, slipway.Unauthorized)
	w.do(w.people.CreateToken(w.ctx, w.viewer, "viewer", "again"))
	theirs, err := w.people.Tokens(w.ctx, w.admin, "viewer")
	w.ok(err)
	w.ok(w.people.RevokeToken(w.ctx, w.admin, "viewer", theirs[0].ID))

	w.code(w.people.RemoveUser(w.ctx, w.approver, "viewer"), slipway.Forbidden)
	w.code(w.people.RemoveUser(w.ctx, w.admin, "admin"), slipway.Conflict, "last admin")
	w.ok(w.people.RemoveUser(w.ctx, w.admin, "viewer"))
	_, err = w.store.User(w.ctx, "viewer")
	w.code(err, slipway.NotFound)
}

// A robot pulls, and nothing else: it has no way to a session or to another token.
func TestRobotsDoNotSignIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, secret, err := w.store.Robot(w.ctx, "shop", "qa")
	w.ok(err)
	robot, err := w.store.UserByToken(w.ctx, secret)
	w.ok(err)
	_, err = w.people.SignIn(w.ctx, secret, "")
	w.code(err, slipway.Forbidden, "robot")
	_, err = w.people.CreateToken(w.ctx, robot, robot.Name, "x")
	w.code(err, slipway.Forbidden)
	_, err = w.people.CreateLink(w.ctx, robot, robot.Name)
	w.code(err, slipway.Forbidden)
	for _, by := range []slipway.User{w.admin} {
		_, err = w.people.CreateToken(w.ctx, by, robot.Name, "x")
		w.code(err, slipway.Forbidden, "Slipway alone keeps its token")
		_, err = w.people.CreateLink(w.ctx, by, robot.Name)
		w.code(err, slipway.Forbidden)
		_, err = w.people.Tokens(w.ctx, by, robot.Name)
		w.code(err, slipway.Forbidden)
		w.code(w.people.RevokeToken(w.ctx, by, robot.Name, 1), slipway.Forbidden)
	}
	clusters := &act.Clusters{Store: w.store, Now: time.Now}
	_, err = clusters.Clusters(w.ctx, robot)
	w.code(err, slipway.Forbidden)
	_, err = w.Board(w.ctx, robot, "shop")
	w.code(err, slipway.Forbidden)
	if mine, err := w.Projects(w.ctx, robot); err != nil || len(mine) != 0 {
		t.Errorf("projects of a robot: %+v, %v", mine, err)
	}
}

func TestClusters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	broken := slipway.Errorf(slipway.Invalid, "no context")
	x := &act.Clusters{Store: w.store, Now: time.Now, Read: func(b []byte, name string) ([]byte, string, string, error) {
		if len(b) == 0 {
			return nil, "", "", broken
		}
		return b[:1], "ctx-" + name, "https://k8s.test", nil
	}}
	_, err := x.AddCluster(w.ctx, w.approver, "default", "", []byte("abc"))
	w.code(err, slipway.Forbidden)
	_, err = x.AddCluster(w.ctx, w.admin, "De fault", "", []byte("abc"))
	w.code(err, slipway.Invalid)
	_, err = x.AddCluster(w.ctx, w.admin, "default", "", nil)
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	k, err := x.AddCluster(w.ctx, w.admin, "default", "a", []byte("abc"))
	w.ok(err)
	if k.Context != "ctx-a" || k.Server != "https://k8s.test" || k.Created.IsZero() {
		t.Errorf("added %+v", k)
	}
	all, err := x.Clusters(w.ctx, w.viewer)
	w.ok(err)
	if len(all) != 1 || all[0].Name != "default" {
		t.Errorf("clusters %+v", all)
	}
	_, err = x.Clusters(w.ctx, slipway.User{})
	w.code(err, slipway.Unauthorized)
	w.code(x.RemoveCluster(w.ctx, w.viewer, "default"), slipway.Forbidden)
	w.ok(x.RemoveCluster(w.ctx, w.admin, "default"))
	w.code(x.RemoveCluster(w.ctx, w.admin, "default"), slipway.NotFound)
}

package act

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Which repository on which forge is meant follows from the git URL and what is said besides.
func TestConnectionOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		git, forge, address, want string
	}{
		{"https://github.com/acme/shop.git", "", "", "github https://api.github.com acme/shop"},
		{"git@github.com:acme/shop.git", "github", "", "github https://api.github.com acme/shop"},
		{"ssh://git@git.example.com:2222/acme/shop.git", "gitea", "", "gitea https://git.example.com/api/v1 acme/shop"},
		{"https://github.example.com/acme/shop", "github", "", "github https://github.example.com/api/v3 acme/shop"},
		{"https://gitlab.com/group/sub/shop.git", "", "", "gitlab https://gitlab.com/api/v4 group/sub/shop"},
		{"https://example.com/gitlab/group/shop.git", "gitlab", "https://example.com/gitlab/", "gitlab https://example.com/gitlab/api/v4 group/shop"},
		{"https://example.com/git/acme/shop.git", "gitea", "https://example.com/git/api/v1", "gitea https://example.com/git/api/v1 acme/shop"},
		{"http://127.0.0.1:3000/acme/shop.git", "gitea", "", "gitea http://127.0.0.1:3000/api/v1 acme/shop"},
		{"https://dev.azure.com/org/My%20Project/_git/shop", "", "", "azure-devops https://dev.azure.com org/My Project/shop"},
		{"git@ssh.dev.azure.com:v3/org/project/shop", "azure-devops", "", "azure-devops https://dev.azure.com org/project/shop"},
		{"https://org@dev.azure.com/org/My%20Project/_git/shop", "", "", "azure-devops https://dev.azure.com org/My Project/shop"},
		{"https://dev.azure.com/org/_git/shop", "", "", "azure-devops https://dev.azure.com org/shop/shop"},
		{"git@ssh.dev.azure.com:v3/org/My%20Project/shop", "", "", "azure-devops https://dev.azure.com org/My Project/shop"},
		{"https://org.visualstudio.com/My%20Project/_git/shop", "", "", "azure-devops https://dev.azure.com org/My Project/shop"},
		{"https://Org.visualstudio.com/DefaultCollection/project/_git/shop", "azure-devops", "https://org.visualstudio.com/", "azure-devops https://dev.azure.com org/project/shop"},
		{"org@vs-ssh.visualstudio.com:v3/org/project/shop", "", "", "azure-devops https://dev.azure.com org/project/shop"},
		{"https://tfs.example.com/DefaultCollection/project/_git/shop", "azure-devops", "", "azure-devops https://tfs.example.com DefaultCollection/project/shop"},
		{"https://tfs.example.com/tfs/DefaultCollection/My%20Project/_git/shop", "azure-devops", "", "azure-devops https://tfs.example.com/tfs DefaultCollection/My Project/shop"},
		{"https://tfs.example.com/tfs/DefaultCollection/project/_git/shop", "azure-devops", "https://tfs.example.com/tfs", "azure-devops https://tfs.example.com/tfs DefaultCollection/project/shop"},
		{"https://visualstudio.com.evil.example/a/_git/b", "", "", "which forge it is"},
		{"https://acme.ghe.com/team/shop.git", "github", "", "github https://api.acme.ghe.com team/shop"},
		{"https://codeberg.org/acme/shop.git", "", "", "gitea https://codeberg.org/api/v1 acme/shop"},
		{"https://git.example.com/acme/shop.git", "", "", "which forge it is"},
		{"https://github.com.evil.example/acme/shop.git", "", "", "which forge it is"},
		{"https://evilgithub.com/acme/shop.git", "github", "", "github https://evilgithub.com/api/v3 acme/shop"},
		{"http://git.example.com/acme/shop.git", "gitea", "", "must begin with https://"},
		{"https://github.com/acme/../shop.git", "github", "", "repository"},
		{"https://github.com/acme", "github", "", "repository"},
		{"https://github.com/acme/shop.git", "github", "https://user:secret@github.com", "must have no user"},
	} {
		got, err := connectionOf(slipway.ConnectRequest{Project: "shop", Forge: slipway.ForgeKind(c.forge), Address: c.address, Token: "t"}, c.git)
		text := fmt.Sprintf("%s %s %s", got.Forge, got.API, got.Repository)
		if err != nil {
			text = err.Error()
		}
		if text != c.want && (err == nil || !strings.Contains(text, c.want)) {
			t.Errorf("%s %s %s: %s, want %s", c.git, c.forge, c.address, text, c.want)
		}
		if strings.Contains(text, "secret") {
			t.Errorf("the password is in %q", text)
		}
	}
	for _, r := range []slipway.ConnectRequest{{}, {Token: " \n"}, {Token: strings.Repeat("x", 17<<10)}, {Token: "t", Forks: "trust"}} {
		if _, err := connectionOf(r, "https://github.com/acme/shop.git"); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%.60q: %v", fmt.Sprint(r), err)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	t.Parallel()
	for pair, want := range map[[2]string]bool{
		{"https://a.example/x", "https://A.example/y"}: true, {"https://a.example/x", "http://a.example/y"}: false,
		{"https://a.example/x", "https://b.example/x"}: false, {"", ""}: false,
	} {
		if SameOrigin(pair[0], pair[1]) != want {
			t.Errorf("%v", pair)
		}
	}
}

// A token is shared with what is on the same host: by HTTP of the same origin, by SSH of the same name. It is shown
// to no port or protocol that nobody named for it.
func TestMayShow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		git, main, api string
		want           bool
	}{
		{"https://a.example/y", "https://A.example/x", "https://a.example/api/v1", true},
		{"https://a.example:8443/y", "https://a.example/x", "https://a.example/api/v1", false},
		{"http://a.example/y", "https://a.example/x", "https://a.example/api/v1", false},
		{"git@a.example:team/y.git", "https://A.example/team/x", "https://a.example/api/v1", true},
		{"ssh://git@a.example:2222/y", "https://a.example:3000/x", "https://a.example:3000/api/v1", true},
		{"ssh://git@a.example:2222/y", "git@a.example:team/x.git", "https://a.example/api/v1", true},
		{"ssh://git@ssh.github.com:443/team/y", "https://github.com/team/x", "https://api.github.com", true},
		{"https://github.com/team/y", "git@github.com:team/x", "https://api.github.com", true},
		{"https://a.example:3000/y", "git@a.example:x", "https://a.example:3000/api/v1", true},
		{"https://a.example:8443/y", "git@a.example:x", "https://a.example:3000/api/v1", false},
		{"http://a.example/y", "git@a.example:x", "https://a.example/api/v1", false},
		{"https://ssh.a.example/y", "git@a.example:x", "https://a.example/api/v1", false},
		{"git@b.example:team/x.git", "git@a.example:team/x.git", "https://a.example/api/v1", false},
		{"git@a.example.evil.test:team/x.git", "https://a.example/x", "https://a.example/api/v1", false},
		{"a.example@evil.test:team/x.git", "https://a.example/x", "https://a.example/api/v1", false},
		{"ssh://a.example@evil.test/team/x.git", "https://a.example/x", "https://a.example/api/v1", false},
		{"", "", "", false},
		{"git@a.example:x", "", "https://a.example/api/v1", false},
	} {
		if mayShow(c.git, c.main, c.api) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

func TestParseCommand(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/slipway retry":                        "retry ",
		"Thanks!\n/slipway approve 1A2B3C4  \n": "approve 1a2b3c4",
		"/slipway\tRETRY":                       "retry ",
		"/slipway retry\n/slipway approve":      "retry ",
		"> /slipway retry":                      " ",
		"    /slipway retry":                    " ",
		"please /slipway retry":                 " ",
		"/slipwayretry":                         " ",
		"/slipway":                              " ",
		"/slipway \x1b[31m":                     "[31m ",
		"":                                      " ",
		"Write this:\n```\n/slipway approve\n```\n":                       " ",
		"Write this:\r\n```text\r\n/slipway approve\r\n```\r\nThen wait.": " ",
		"   ~~~~ `a`\n/slipway approve\n~~~\n```\n/slipway retry":         " ",
		"```\n/slipway approve\n``` no end\n/slipway approve":             " ",
		"```\n/slipway approve\n    ```\n/slipway approve":                " ",
		"````\n```\n/slipway approve\n````  \n/slipway retry":             "retry ",
		"```a```\n/slipway retry":                                         "retry ",
		"    ```\n/slipway retry":                                         "retry ",
		"``\n/slipway retry\n``":                                          "retry ",
		"<!-- write\n/slipway approve\n-->\nHello":                        " ",
		"<!-- a template -->\n/slipway retry":                             "retry ",
		"<!--\n/slipway approve":                                          " ",
	} {
		word, commit := parseCommand(text)
		if got := word + " " + commit; got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}

// The pushes of a storm are one batch, of a pull request only the newest counts, comments come last.
func TestBatches(t *testing.T) {
	t.Parallel()
	pull := func(id, n int64) slipway.Received {
		return slipway.Received{ID: id, Delivery: slipway.Delivery{Kind: slipway.DeliveryPull, Pull: &slipway.ForgePull{Number: n}}}
	}
	push := func(id int64) slipway.Received {
		return slipway.Received{ID: id, Delivery: slipway.Delivery{Kind: slipway.DeliveryPush}}
	}
	comment := func(id int64) slipway.Received {
		return slipway.Received{ID: id, Delivery: slipway.Delivery{Kind: slipway.DeliveryComment, Comment: &slipway.ForgeComment{}}}
	}
	var got []string
	for _, b := range batches([]slipway.Received{push(1), comment(2), pull(3, 7), push(4), pull(5, 8), pull(6, 7), comment(7)}) {
		got = append(got, fmt.Sprint(b.kind, b.pull, b.ids()))
	}
	if text, want := strings.Join(got, " "), "push0 [1 4] pull-request7 [3 6] pull-request8 [5] comment0 [2] comment0 [7]"; text != want {
		t.Errorf("%s, want %s", text, want)
	}
}

// The plan of a fork's run has no secrets, no trust and nowhere to put an image; one that would publish or
// deploy is refused, whatever made it.
func TestDistrust(t *testing.T) {
	t.Parallel()
	plan := func(steps ...slipway.PlanStep) stage.Runner {
		return stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
			return slipway.Result{Outcome: slipway.Succeeded, Next: &slipway.Plan{Steps: steps}}, nil
		})
	}
	build := slipway.PlanStep{Key: "build/cart", Secrets: []string{"npm"}, Build: &slipway.BuildSpec{Trust: slipway.TrustBranch, Image: &slipway.Repository{Name: "shop/cart"}}}
	test := slipway.PlanStep{Key: "test/cart", Secrets: []string{"npm"}, Test: &slipway.TestSpec{Trust: slipway.TrustBranch}}
	fork, own := stage.Env{Run: slipway.Run{Fork: true}}, stage.Env{}
	res, err := Distrust(plan(build, test)).Run(t.Context(), fork, slipway.PlanStep{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range res.Next.Steps {
		if len(s.Secrets) > 0 || (s.Build != nil && (s.Build.Trust != slipway.TrustFork || s.Build.Image != nil)) || (s.Test != nil && s.Test.Trust != slipway.TrustFork) {
			t.Errorf("step %+v", s)
		}
	}
	if build.Build.Trust != slipway.TrustBranch || build.Build.Image == nil {
		t.Error("the plan that was given is changed")
	}
	if res, err := Distrust(plan(build)).Run(t.Context(), own, slipway.PlanStep{}); err != nil || len(res.Next.Steps[0].Secrets) != 1 {
		t.Errorf("a run of the project's own: %+v, %v", res, err)
	}
	for _, s := range []slipway.PlanStep{{Key: "publish/cart", Publish: &slipway.PublishSpec{}}, {Key: "deploy/cart@qa", Deploy: &slipway.DeploySpec{}}, {Key: "retag/cart", Retag: &slipway.RetagSpec{}}, {Key: "x"}} {
		if _, err := Distrust(plan(s)).Run(t.Context(), fork, slipway.PlanStep{}); err == nil {
			t.Errorf("%s is planned for a fork", s.Key)
		}
	}
}

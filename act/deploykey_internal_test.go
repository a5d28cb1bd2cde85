package act

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// With a key alone there need be no forge; one that is named or known is taken.
func TestConnectionOfAKey(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]slipway.Connection{
		"git@github.com:acme/shop.git":               {Forge: slipway.GitHub, API: "https://api.github.com", Repository: "acme/shop"},
		"ssh://git@ssh.github.com:443/acme/shop.git": {Forge: slipway.GitHub, API: "https://api.github.com", Repository: "acme/shop"},
		"git@ssh.dev.azure.com:v3/org/project/shop":  {Forge: slipway.AzureDevOps, API: "https://dev.azure.com", Repository: "org/project/shop"},
		"git@git.example.com:acme/shop.git":          {},
	} {
		got, err := connectionOf(slipway.ConnectRequest{Project: "shop", DeployKey: "key"}, url)
		if err != nil || got.Forge != want.Forge || got.API != want.API || got.Repository != want.Repository {
			t.Errorf("%s: %+v, %v", url, got, err)
		}
		if where := keyWhere(got); !strings.Contains(where, want.Repository) && got.Forge != slipway.AzureDevOps {
			t.Errorf("%s: %s", url, where)
		}
	}
}

func TestCheckGitURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "https://host/a.git", "ssh://git@host:22/a.git", "git@host:team/a.git"} {
		if err := checkGitURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"x", "host:a", "ext::sh -c id", "git@host:-x", "git@-oProxyCommand=x:y", "-x@host:y", "git@host::y", "git@host:a b", "git@host:a\nb", "ssh://-oProxyCommand=x/",
		"ssh://git@-oProxyCommand=x/", "file:///etc", "/etc", "https://u:p@host/x", "git@host:" + strings.Repeat("x", 2000)} {
		if err := checkGitURL(bad); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

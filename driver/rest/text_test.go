package rest_test

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/azuredevops"
	"github.com/slipway-cd/slipway/driver/gitea"
	"github.com/slipway-cd/slipway/driver/github"
	"github.com/slipway-cd/slipway/driver/gitlab"
	"github.com/slipway-cd/slipway/driver/rest"
)

// What is pasted names the place, the address, the secret and every kind of event that the driver reads.
func TestHookText(t *testing.T) {
	t.Parallel()
	texts := map[slipway.ForgeKind]func(c slipway.Connection, address, secret string) string{
		slipway.GitHub: github.HookText, slipway.GitLab: gitlab.HookText, slipway.Gitea: gitea.HookText, slipway.AzureDevOps: azuredevops.HookText,
	}
	each(t, func(t *testing.T, x forge) {
		text := texts[x.conn.Forge](x.conn, "https://slipway.example.com/hooks/shop", "open-sesame")
		for _, want := range []string{x.conn.Repository, "https://slipway.example.com/hooks/shop", "open-sesame", "ush", "ull request", "omment"} {
			if !strings.Contains(text, want) && (want != "ull request" || !strings.Contains(text, "Merge request")) {
				t.Errorf("%q is not in\n%s", want, text)
			}
		}
		if !strings.HasSuffix(text, "\n") || strings.Contains(text, "\t") {
			t.Errorf("got %q", text)
		}
	})
}

func TestLink(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://git.example.com/a/b/pulls/1#x": "https://git.example.com/a/b/pulls/1#x",
		"http://127.0.0.1:3000/a":               "http://127.0.0.1:3000/a",
		"javascript:alert(1)":                   "", "data:text/html,x": "", "https://u:p@git.example.com/": "", "//git.example.com/a": "", "/a": "", "": "",
		"https://git.example.com/\x1b[31m": "", "https://git.example.com/a\nb": "", "https://git.example.com/\u202e": "", "https://" + strings.Repeat("a", 3000): "",
		"https://git.example.com/\"><script>": "https://git.example.com/%22%3E%3Cscript%3E",
	} {
		if got := rest.Link(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

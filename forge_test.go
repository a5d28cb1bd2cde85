package slipway_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway"
)

func TestConnectionCheck(t *testing.T) {
	t.Parallel()
	const api = "https://git.example.com/api/v1"
	good := []slipway.Connection{
		{Forge: slipway.GitHub, API: "https://api.github.com", Repository: "octocat/Hello-World"},
		{Forge: slipway.GitHub, API: "https://ghe.example.com/api/v3", Repository: "a/.b", HookSecret: "x"},
		{Forge: slipway.GitLab, API: "https://gitlab.com/api/v4", Repository: "group/sub/sub2/name"},
		{Forge: slipway.Gitea, API: "http://127.0.0.1:3000/api/v1", Repository: "ada/shop"},
		{Forge: slipway.AzureDevOps, API: "https://dev.azure.com", Repository: "fabrikam/My Project/My.Repo"},
	}
	good[1].Repository = "a/b.js"
	for _, c := range good {
		if err := c.Check(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, k := range slipway.ForgeKinds() {
		if err := (slipway.Connection{Forge: k, API: k.DefaultAPI(), Repository: "a/b/c"}).Check(); err == nil && k != slipway.GitLab && k != slipway.AzureDevOps {
			t.Errorf("%s takes a repository of three parts", k)
		}
	}
	bad := map[string]slipway.Connection{
		"kind":          {Forge: "svn", API: api, Repository: "a/b"},
		"no API":        {Forge: slipway.Gitea, Repository: "a/b"},
		"password":      {Forge: slipway.Gitea, API: "https://u:p@git.example.com/api/v1", Repository: "a/b"},
		"query":         {Forge: slipway.Gitea, API: api + "?token=x", Repository: "a/b"},
		"fragment":      {Forge: slipway.Gitea, API: api + "#x", Repository: "a/b"},
		"plain":         {Forge: slipway.Gitea, API: "http://git.example.com/api/v1", Repository: "a/b"},
		"local name":    {Forge: slipway.Gitea, API: "http://127.0.0.1.example.com/api/v1", Repository: "a/b"},
		"file":          {Forge: slipway.Gitea, API: "file:///etc", Repository: "a/b"},
		"slash":         {Forge: slipway.Gitea, API: api + "/", Repository: "a/b"},
		"control":       {Forge: slipway.Gitea, API: api + "\n", Repository: "a/b"},
		"one part":      {Forge: slipway.Gitea, API: api, Repository: "a"},
		"empty part":    {Forge: slipway.Gitea, API: api, Repository: "a//b"},
		"three parts":   {Forge: slipway.GitHub, API: api, Repository: "a/b/c"},
		"dots":          {Forge: slipway.GitHub, API: api, Repository: "../b"},
		"dots within":   {Forge: slipway.GitLab, API: api, Repository: "a/b..c/d"},
		"dash":          {Forge: slipway.GitHub, API: api, Repository: "-a/b"},
		"space":         {Forge: slipway.GitHub, API: api, Repository: "a b/c"},
		"space at end":  {Forge: slipway.AzureDevOps, API: api, Repository: "a/b /c"},
		"percent":       {Forge: slipway.GitHub, API: api, Repository: "a%2f/b"},
		"question mark": {Forge: slipway.GitHub, API: api, Repository: "a/b?x"},
		"long":          {Forge: slipway.GitHub, API: api, Repository: "a/" + strings.Repeat("b", 300)},
	}
	for name, c := range bad {
		if err := c.Check(); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s passes: %v", name, err)
		} else if strings.Contains(err.Error(), "u:p") || strings.Contains(err.Error(), "token=x") {
			t.Errorf("%s: the error shows the password: %v", name, err)
		}
	}
}

func TestCheckHash(t *testing.T) {
	t.Parallel()
	for _, n := range []int{40, 64} {
		if err := slipway.CheckHash(strings.Repeat("a", n)); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "abc", strings.Repeat("a", 39), strings.Repeat("a", 41), strings.Repeat("A", 40), strings.Repeat("g", 40), "-" + strings.Repeat("a", 39), strings.Repeat("a", 39) + "\n", strings.Repeat("\x00", 40)} {
		if err := slipway.CheckHash(s); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q passes: %v", s, err)
		}
	}
}

func TestCleanLine(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                               "plain",
		"  a\tb\r\nc  ":                       "a b c",
		"\x1b[31mred\x1b[0m\x07":              "[31mred[0m",
		"a\u202eb\u2066c\u200bd\ufeffe":       "abcde",
		"bad \xff\xfe bytes":                  "bad �� bytes",
		"c1 \u009b31m":                        "c1 31m",
		"line\u2028paragraph\u2029next\u0085": "line paragraph next",
		"👩\u200d💻 नि":                         "👩\u200d💻 नि",
		"123456789012345678901":               "1234567890123456789…",
		"äääääääääääääääääääää":               "äääääääääääääääääää…",
	} {
		if got := slipway.CleanLine(in, 20); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := slipway.CleanText("a\r\nb\tc\x1b\u202e\n\x00d", 100); got != "a\nb\tc\nd" {
		t.Errorf("lines: %q", got)
	}
	if got := slipway.CleanText("aää", 2); got != "a" {
		t.Errorf("cut within a character: %q", got)
	}
}

// What comes out can be shown in a log, a terminal and a forge's field of that length.
func TestCleanAlways(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.OneOf(rapid.Byte(), rapid.SampledFrom([]byte("\x1b\n\r\xe2\x80\xaea ")))).Draw(t, "in"))
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		line, lines := slipway.CleanLine(in, limit), slipway.CleanText(in, limit)
		if utf8.RuneCountInString(line) > limit || len(lines) > limit {
			t.Fatalf("%q or %q is longer than %d", line, lines, limit)
		}
		for _, r := range line + strings.NewReplacer("\n", "", "\t", "").Replace(lines) {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
				t.Fatalf("%q holds %U", in, r)
			}
		}
		if !utf8.ValidString(line) || !utf8.ValidString(lines) {
			t.Fatalf("%q is not UTF-8", in)
		}
		if again := slipway.CleanLine(line, limit); again != line {
			t.Fatalf("cleaned twice, %q became %q", line, again)
		}
	})
}

func TestPullComment(t *testing.T) {
	t.Parallel()
	c := slipway.PullComment{Pull: 3, Marker: "summary", Text: "| a |\r\n\x1b[31m"}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	if got := c.Markdown(1000); got != "<!-- slipway:summary -->\n| a |\n[31m" {
		t.Errorf("got %q", got)
	}
	c.Text = strings.Repeat("ä", 1000)
	if got := c.Markdown(501); len(got) > 501 || !utf8.ValidString(got) || !strings.HasPrefix(got, c.Hidden()) || !strings.HasSuffix(got, "run's page)") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
	for _, bad := range []slipway.PullComment{{Pull: 0, Marker: "x"}, {Pull: 1}, {Pull: 1, Marker: "--> <script>"}, {Pull: 1, Marker: "a\nb"}} {
		if slipway.ErrorCode(bad.Check()) != slipway.Invalid {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestCommitStatusCheck(t *testing.T) {
	t.Parallel()
	commit := strings.Repeat("a", 40)
	for _, state := range slipway.StatusStates() {
		if err := (slipway.CommitStatus{Commit: commit, Context: "slipway/delivery", State: state}).Check(); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []slipway.CommitStatus{
		{Commit: "main", Context: "slipway", State: slipway.StatusSuccess},
		{Commit: commit, Context: "", State: slipway.StatusSuccess},
		{Commit: commit, Context: "a\nb", State: slipway.StatusSuccess},
		{Commit: commit, Context: strings.Repeat("a", 101), State: slipway.StatusSuccess},
		{Commit: commit, Context: "slipway", State: "green"},
		{Commit: commit, Context: "slipway"},
	} {
		if slipway.ErrorCode(bad.Check()) != slipway.Invalid {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestRefMove(t *testing.T) {
	t.Parallel()
	commit := strings.Repeat("a", 40)
	for _, c := range []struct {
		m                     slipway.RefMove
		created, deleted, tag bool
	}{
		{slipway.RefMove{Ref: "refs/heads/x", Old: slipway.ZeroHash, New: commit}, true, false, false},
		{slipway.RefMove{Ref: "refs/tags/x", Old: commit, New: slipway.ZeroHash}, false, true, true},
		{slipway.RefMove{Ref: "refs/heads/tags/x", New: slipway.ZeroHash}, false, true, false},
		{slipway.RefMove{Ref: "refs/heads/x", Old: commit, New: strings.Repeat("b", 40)}, false, false, false},
	} {
		if c.m.Created() != c.created || c.m.Deleted() != c.deleted || c.m.Tag() != c.tag {
			t.Errorf("%+v: %v %v %v", c.m, c.m.Created(), c.m.Deleted(), c.m.Tag())
		}
	}
}

type waits struct{ d time.Duration }

func (w waits) Error() string             { return "later" }
func (w waits) RetryAfter() time.Duration { return w.d }

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for want, err := range map[time.Duration]error{
		0:           nil,
		time.Second: fmt.Errorf("set a status: %w", waits{time.Second}),
	} {
		if got := slipway.RetryAfter(err); got != want {
			t.Errorf("%v: got %s", err, got)
		}
	}
	if got := slipway.RetryAfter(waits{-time.Second}); got != 0 {
		t.Errorf("got %s", got)
	}
}

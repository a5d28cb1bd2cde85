package ignore_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway/ignore"
)

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := ignore.Parse([]byte("\ufeff# a comment\n\n /docs/ \r\n!docs/../docs/x\n"))
	if err != nil || !slices.Equal(got, []string{"docs", "!docs/x"}) {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"[\n", "!\n", strings.Repeat("x", 1<<17) + "\n"} {
		if got, err := ignore.Parse([]byte(text)); err == nil {
			t.Errorf("%.20q: %.20q", text, got)
		}
	}
}

func TestExcluded(t *testing.T) {
	t.Parallel()
	m, err := ignore.New([]string{"docs", "**/*.md", "!README.md", "deep/*", "!deep/in"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		excluded bool
		folder   string
	}{
		"docs": {true, ""}, "docs/a/b": {true, ""}, "docs/README.md": {true, ""}, "README.md": {false, ""}, "a/README.md": {true, "a"}, "a/b/c.md": {true, "a/b"},
		"deep/out": {true, "deep"}, "deep/in": {false, "deep"}, "deep/in/x": {false, "deep/in"}, "deep/out/x": {true, "deep"}, "main.go": {false, ""}, "Docs/a": {false, "Docs"},
	} {
		if got := m.Excluded(name); got != want.excluded || m.Folder(name) != want.folder {
			t.Errorf("%s: excluded %t, in %q", name, got, m.Folder(name))
		}
	}
	if got := ignore.Files("docker/app"); !slices.Equal(got, []string{"docker/app.dockerignore", ".dockerignore"}) || !slices.Equal(ignore.Files(""), got[1:]) {
		t.Errorf("%q", got)
	}
}

// A matcher has one user at a time, and is the same again afterwards.
func TestCache(t *testing.T) {
	t.Parallel()
	var c ignore.Cache
	take := func(c *ignore.Cache, text string) *ignore.Matcher {
		m, err := c.Take(text, strings.Split(text, "\n"))
		if err != nil {
			t.Error(err)
		}
		return m
	}
	first := take(&c, "a")
	if take(&c, "a") == first {
		t.Error("one matcher has two users")
	}
	c.Give(map[string]*ignore.Matcher{"a": first, "none": nil})
	if take(&c, "a") != first {
		t.Error("the matcher is not kept")
	}
	if m := take(nil, "a"); !m.Excluded("a") {
		t.Error("without a cache nothing is matched")
	}
	if _, err := c.Take("[", []string{"["}); err == nil {
		t.Error("what is no pattern is no error")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m := take(&c, "a\n!a/b")
				if !m.Excluded("a/c") || m.Excluded("a/b") {
					t.Error("another answer")
				}
				c.Give(map[string]*ignore.Matcher{"a\n!a/b": m})
			}
		})
	}
	wg.Wait()
}

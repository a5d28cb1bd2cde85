package buildkit

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tonistiigi/fsutil"
	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway/ignore"
)

// What counts as an input of a build is what is sent of its context, whatever is in it and whatever its ignore
// file says: the patterns are those that the frontend hands to the transfer.
func TestSentIsWhatCounts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "context")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		files := drawFiles(t)
		for _, f := range files {
			if err := os.MkdirAll(filepath.Join(dir, path.Dir(f)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text := drawIgnore(t)
		patterns, err := ignore.Parse(text)
		if err != nil {
			return // the build fails
		}
		sent := walkContext(t, dir, patterns)
		if want := counted(t, files, patterns); !slices.Equal(sent, want) {
			t.Fatalf("%q of %q:\nsent %q\nwant %q", text, files, sent, want)
		}
	})
}

func drawFiles(t *rapid.T) []string {
	part := rapid.SampledFrom([]string{"a", "b", "ab", "docs", "é", "x.md", ".git", "[a]", "a b"})
	seen := map[string]bool{}
	for range rapid.IntRange(1, 8).Draw(t, "files") {
		f := path.Join(rapid.SliceOfN(part, 0, 3).Draw(t, "in")...)
		f = path.Join(f, rapid.SampledFrom([]string{"f1", "f2.go", "README.md", ".dockerignore", "!x", "#x"}).Draw(t, "file"))
		seen[f] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

func drawIgnore(t *rapid.T) []byte {
	line := rapid.OneOf(
		rapid.SampledFrom([]string{"", "# x", "*", "**", "**/*.md", "a", "/a/", "a/*", "a/**", "a/**/b", "!a", "!a/b", "!**/f1", "!a/*/f1", "!README.md", "docs", "!docs/README.md", "b/../a", "?", "[ab]", "\\#x", "\\!x", "é*", ".", "!", " a ", "a b", "**/a/**", "*/*", "!*/*", "[a]", "\\[a\\]", "["}),
		rapid.StringMatching(`!?[ab*?/.!]{1,6}`),
	)
	var out bytes.Buffer
	for _, l := range rapid.SliceOfN(line, 0, 5).Draw(t, "lines") {
		out.WriteString(l + "\n")
	}
	return out.Bytes()
}

// walkContext lists what is sent of a context.
func walkContext(t rapid.TB, dir string, patterns []string) (out []string) {
	tree, err := buildContext(dir)
	if err != nil {
		t.Fatal(err)
	}
	filtered, err := fsutil.NewFilterFS(tree, &fsutil.FilterOpt{ExcludePatterns: patterns})
	if err != nil {
		t.Fatal(err)
	}
	err = filtered.Walk(context.Background(), "", func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			out = append(out, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// counted lists what is an input: files that are seen, with the folders above them, and folders that are there
// because of files that are not.
func counted(t rapid.TB, files, patterns []string) []string {
	m, err := ignore.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range files {
		at := m.Folder(f)
		if !m.Excluded(f) {
			out[f], at = true, path.Dir(f)
		}
		for ; at != "" && at != "."; at = path.Dir(at) {
			out[at] = true
		}
	}
	return slices.Sorted(maps.Keys(out))
}

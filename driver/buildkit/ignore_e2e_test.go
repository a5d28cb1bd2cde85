//go:build linux

package buildkit

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/ignore"
)

// A file can be copied into an image exactly when it counts as an input of the build, whichever ignore file
// says so.
func TestCopiedIsWhatCounts(t *testing.T) {
	w := lodging(t)
	files := map[string]string{
		"main.go": "", "README.md": "", "docs/a.md": "", "docs/b.txt": "", "deep/in/x.go": "", "deep/in/y.md": "", "deep/only/z.md": "",
		"a b/c": "", ".hidden/x": "", "docker/app": "FROM busybox:1.36\nCOPY . /ctx\nRUN cd /ctx && find . | sed 's|^|seen:|'\n",
	}
	for name, c := range map[string]struct{ context, own string }{
		"none":                  {},
		"of the context":        {context: "# docs\n**/*.md\n!README.md\ndocker\n"},
		"exceptions":            {context: "*\n!deep/in\ndeep/in/y.md\n!**/c\n"},
		"a mark in front":       {context: "\ufeffdocs\n"},
		"folders":               {context: "deep/*/*.md\n/docs/\n.*\n"},
		"of the Dockerfile":     {context: "*\n", own: "docs/*.txt\n"},
		"an empty one comes in": {context: "docs\n", own: "\n"},
	} {
		there := maps.Clone(files)
		text := ""
		if c.context != "" {
			there[".dockerignore"], text = c.context, c.context
		}
		if c.own != "" {
			there["docker/app.dockerignore"], text = c.own, c.own
		}
		dir := tree(t, there)
		req := w.request(dir)
		req.Dockerfile, req.Image = "docker/app", nil
		_, log := w.mustBuild(t, req)
		seen := map[string]bool{}
		for _, l := range log.lines {
			if name, ok := strings.CutPrefix(l.Text, "seen:"); ok && name != "." {
				seen[path.Clean(name)] = true
			}
		}
		patterns, err := ignore.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Sorted(maps.Keys(seen)), counted(t, slices.Sorted(maps.Keys(there)), patterns); !slices.Equal(got, want) {
			t.Errorf("%s:\ncopied %q\nwant   %q", name, got, want)
		}
	}
}

// A context of another name has its own ignore file, the one at its root.
func TestNamedContextIgnores(t *testing.T) {
	w := lodging(t)
	lib := tree(t, map[string]string{".dockerignore": "*.md\n", "a.go": "", "a.md": ""})
	req := w.request(tree(t, map[string]string{".dockerignore": "*.go\n", "Dockerfile": "FROM busybox:1.36\nCOPY --from=lib . /lib\nRUN test -e /lib/a.go && ! test -e /lib/a.md\n"}))
	req.Contexts, req.Image = map[string]string{"lib": lib}, nil
	w.mustBuild(t, req)
}

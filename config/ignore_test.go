package config_test

import (
	"io/fs"
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// What a build does not see of its context stands in one file: the one that is named after its Dockerfile
// before that of the context.
func TestIgnoreFiles(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		link  string
		want  *slipway.Ignore
		copy  string // an ignore file outside of the service's folder
	}{
		"none":           {files: map[string]string{}},
		"of the context": {files: map[string]string{"src/a/.dockerignore": "\ufeff# docs\n\n /docs/ \n!docs/x\n"}, want: &slipway.Ignore{File: "src/a/.dockerignore", Patterns: []string{"docs", "!docs/x"}}},
		"of the Dockerfile": {
			files: map[string]string{"src/a/.dockerignore": "x\n", "src/a/Dockerfile.dockerignore": "y\n"},
			want:  &slipway.Ignore{File: "src/a/Dockerfile.dockerignore", Patterns: []string{"y"}},
		},
		"of the Dockerfile, and without a pattern": {files: map[string]string{"src/a/.dockerignore": "x\n", "src/a/Dockerfile.dockerignore": "# none\n"}},
		"of a folder that is no context":           {files: map[string]string{".dockerignore": "x\n", "src/.dockerignore": "x\n"}},
		"of the root": {
			files: map[string]string{"slipway.yaml": "services: {a: {context: .}}\n", ".dockerignore": "**/*.md\n", "src/a/.dockerignore": "x\n"},
			want:  &slipway.Ignore{File: ".dockerignore", Patterns: []string{"**/*.md"}}, copy: ".dockerignore",
		},
		"of the Dockerfile, with the root as context": {
			files: map[string]string{"slipway.yaml": "services: {a: {context: .}}\n", ".dockerignore": "x\n", "src/a/Dockerfile.dockerignore": "y\n"},
			want:  &slipway.Ignore{File: "src/a/Dockerfile.dockerignore", Patterns: []string{"y"}},
		},
		"none at the root": {files: map[string]string{"slipway.yaml": "services: {a: {context: .}}\n"}, copy: ".dockerignore"},
		"no patterns":      {files: map[string]string{"src/a/.dockerignore": "[\n"}},
		"a link":           {files: map[string]string{"src/a/ignored": "x\n"}, link: "src/a/.dockerignore"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree := fstest.MapFS{"src/a/Dockerfile": {Data: []byte("FROM scratch\nCOPY . /\n")}}
			for file, text := range c.files {
				tree[file] = &fstest.MapFile{Data: []byte(text)}
			}
			if c.link != "" {
				tree[c.link] = &fstest.MapFile{Data: []byte("ignored"), Mode: fs.ModeSymlink | 0o777}
			}
			got, problems := config.LoadServices(tree, options())
			if err := problems.Err(); err != nil || len(got.Services) != 1 {
				t.Fatalf("%+v, %v", got.Services, err)
			}
			s := got.Services[0]
			if !reflect.DeepEqual(s.Ignore, c.want) {
				t.Errorf("ignores %+v, want %+v", s.Ignore, c.want)
			}
			at := ""
			for _, copied := range s.Copies {
				if copied.Line == 0 {
					at = copied.Path
				}
			}
			if at != c.copy {
				t.Errorf("copies %+v, want %q among it", s.Copies, c.copy)
			}
		})
	}
}

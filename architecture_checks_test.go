package slipway_test

import (
	"strings"
	"testing"
)

// Every check finds what it is for: a file that breaks its rule gives the finding, with its line.
func TestArchitectureChecksFind(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ check, file, text, want string }{
		{"imports", "stage/build/x.go", "package build\nimport _ \"" + module + "/stage/test\"", "stage/build/x.go:2: stage/build may not import stage/test"},
		{"imports", "stage/build/x.go", "package build\nimport _ \"" + module + "/driver/oci\"", ":2: stage/build may not import driver/oci"},
		{"imports", "driver/oci/x.go", "package oci\nimport _ \"" + module + "/driver/helm\"", ":2: driver/oci may not import driver/helm"},
		{"imports", "engine/x.go", "package engine\nimport _ \"" + module + "/store\"", ":2: engine may not import store"},
		{"imports", "store/x.go", "package store\n\nimport _ \"" + module + "/engine\"", ":3: store may not import engine"},
		{"imports", "api/x.go", "package api\nimport _ \"" + module + "/act\"", ":2: api may not import act"},
		{"imports", "act/x.go", "package act\nimport _ \"" + module + "/stage/build\"", ":2: act may not import stage/build"},
		{"imports", "hosting/gitserver/x.go", "package gitserver\nimport _ \"" + module + "/hosting/registry\"", ":2: hosting/gitserver may not import hosting/registry"},
		{"imports", "x.go", "package slipway\nimport _ \"" + module + "/stage\"", "x.go:2: . may not import stage"},
		{"imports", "x.go", "package slipway\nimport _ \"go.yaml.in/yaml/v3\"", "x.go:2: the root package imports only the standard library"},
		{"imports", "stage/plan/x.go", "package plan\nimport _ \"net/http\"", "stage/plan/x.go:2: stage/plan is pure: it may not import net/http"},
		{"imports", "stage/promote/x.go", "package promote\nimport _ \"os\"", ":2: stage/promote is pure"},
		{"imports", "stage/rollback/x.go", "package rollback\nimport _ \"database/sql\"", ":2: stage/rollback is pure"},
		{"imports", "stage/deploy/x.go", "package deploy\nimport _ \"helm.sh/helm/v4/pkg/action\"", ":2: helm.sh/helm/v4/pkg/action is at home in driver/*"},
		{"imports", "driver/oci/x.go", "package oci\nimport _ \"github.com/moby/buildkit/client\"", ":2: github.com/moby/buildkit/client is at home in driver/buildkit"},
		{"imports", "util/x.go", "package util", "util/x.go:1: the package util is not in the table"},
		{"imports", "stage/build/deep/x.go", "package deep", "the package stage/build/deep is not in the table"},
		{"no init", "x.go", "package slipway\n\nfunc init() {}", "x.go:3: no init"},
		{"constructors", "x/x.go", "package x\nfunc New(a, b, c int, d, e, f string) {}", ":2: New has 6 parameters"},
		{"constructors", "x/x.go", "package x\nfunc OpenStore(a, b, c, d, e, f int) {}", ":2: OpenStore has 6 parameters"},
		{"interfaces", "x/x.go", "package x\ntype I interface { A(); B(); C(); D(); E(); F() }", ":2: the interface has 6 methods"},
		{"interfaces", "x/x.go", "package x\nfunc f(i interface { A(); B(); C(); D(); E(); F() }) {}", ":2: the interface has 6 methods"},
		{"docstrings", "x/x.go", "package x\n\nfunc F() {}", ":3: F has no comment"},
		{"docstrings", "x/x.go", "package x\ntype t struct{}\n// T is.\ntype T[P any] struct{}\nfunc (t) F() {}\nfunc (*T[P]) G() {}", ":6: G has no comment"},
		{"docstrings", "x/x.go", "package x\ntype T struct{}", ":2: T has no comment"},
		{"docstrings", "x/x.go", "package x\nvar V = 1", ":2: V has no comment"},
		{"error texts", "x/x.go", "package x\nvar _ = fmt.Errorf(\"failed to push %s\", x)", ":2: the error begins with \"failed to\""},
		{"error texts", "x/x.go", "package x\nvar _ = errors.New(\"Cannot open\")", ":2: the error begins with \"Cannot\""},
		{"error texts", "x/x.go", "package x\nvar _ = slipway.Errorf(slipway.Invalid, \"unable to parse\")", ":2: the error begins with \"unable to\""},
		{"error texts", "x/x.go", "package x\nvar _ = Errorf(Invalid, \"error in line\")", ":2: the error begins with \"error \""},
		{"errors are types", "x/x.go", "package x\nvar _ = strings.Contains(err.Error(), \"locked\")", ":2: strings.Contains on the text of an error"},
		{"return or log", "x/x.go", "package x\nfunc f() error {\n\tif err != nil {\n\t\tlog.Error(\"push\", \"error\", err)\n\t\treturn fmt.Errorf(\"push: %w\", err)\n\t}\n\treturn nil\n}", ":5: err is logged and returned"},
		{"return or log", "x/x.go", "package x\nfunc (s s) f() error {\n\ts.log.WarnContext(ctx, \"x\", \"error\", err)\n\treturn err\n}", ":4: err is logged and returned"},
		{"return or log", "x/x.go", "package x\nfunc f() error {\n\tslog.Error(\"x\", \"error\", err)\n\treturn slipway.Errorf(slipway.Internal, \"x: %w\", err)\n}", ":4: err is logged and returned"},
		{"no sleep in tests", "x/x_test.go", "package x\nfunc f() { time.Sleep(1) }", "x/x_test.go:2: a test that sleeps"},
		{"background contexts", "x/x.go", "package x\nvar _ = context.Background()", ":2: context.Background outside main"},
		{"the clock is given", "x/x.go", "package x\nvar _ = time.Now()", ":2: time.Now is called"},
		{"file size", "x/x.go", "package x\n" + strings.Repeat("//\n", 601), ":1: 602 lines"},
	} {
		s, err := parseSource(c.file, c.text)
		if err != nil {
			t.Fatal(err)
		}
		found := checks()[c.check](s)
		if len(found) != 1 || !strings.Contains(found[0], c.want) {
			t.Errorf("%s of\n%s\ngot %q, want %q", c.check, c.text, found, c.want)
		}
	}
	for _, text := range []string{"package x", "// Copyright of somebody.\npackage x", "// Package y does things.\npackage x", "// x\npackage main"} {
		s, err := parseSource("x/x.go", text)
		if err != nil {
			t.Fatal(err)
		}
		if found := checkPackageComments([]source{s}); len(found) != 1 || !strings.HasPrefix(found[0], "x/x.go:") {
			t.Errorf("package comments of %q: %q", text, found)
		}
	}
}

// No check finds fault with code as it should be.
func TestArchitectureChecksPass(t *testing.T) {
	t.Parallel()
	for file, text := range map[string]string{
		"driver/oci/x.go": `// Package oci speaks OCI.
package oci

import (
	_ "github.com/google/go-containerregistry/pkg/v1/remote"
	_ "` + module + `"
	_ "` + module + `/stage"
	_ "` + module + `/stage/publish"
)

// State is where it stands.
type State string

const (
	Open State = "open"
)

// New makes one; at most five parameters.
func New(a, b, c, d, e int, ) {}

type hidden struct{ now func() time.Time }

func (hidden) Close() error {
	if err := f(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	h := hidden{now: time.Now}
	log.Info("closed", "error", other)
	log.Warn("ended", "error", err)
	return h.record(err)
}
`,
		"driver/oci/x_test.go":   "package oci_test\nimport _ \"" + module + "/store\"\nfunc f() { _ = context.Background(); _ = time.Now() }\ntype I interface { A(); B(); C(); D(); E(); F() }",
		"cmd/slipway/main.go":    "// Command slipway is the server and its command line.\npackage main\nimport _ \"" + module + "/engine\"\nfunc main() { _ = context.Background(); _ = time.Now() }",
		"config/dockerfile.go":   "// Package config reads.\npackage config\nimport _ \"github.com/moby/buildkit/frontend/dockerfile/parser\"",
		"stage/plan/plan.go":     "// Package plan plans.\npackage plan\nimport _ \"" + module + "\"\nimport _ \"strings\"",
		"hosting/registry/go.go": "// Package registry serves.\npackage registry\nimport _ \"" + module + "\"\nimport _ \"net/http\"",
	} {
		s, err := parseSource(file, text)
		if err != nil {
			t.Fatal(err)
		}
		for name, check := range checks() {
			if found := check(s); len(found) > 0 {
				t.Errorf("%s: %q", name, found)
			}
		}
		if found := checkPackageComments([]source{s}); len(found) > 0 {
			t.Errorf("package comments: %q", found)
		}
	}
}

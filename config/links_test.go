package config_test

import (
	"fmt"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

// What a build takes through a link is what the link leads to, and the link too: both are what the service is
// made of. A link below a folder that is copied stays a link in the image.
func TestCopiesThroughLinks(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{
		"libs/v2/money/m.go":    file(""),
		"libs/current":          link("v2"),
		"build/Dockerfile":      file("FROM scratch\nCOPY src/cart/common /common\nCOPY libs/current/money /money\nCOPY libs/current/*.txt libs/broken /x/\nCOPY src/cart/f /\n"),
		"src/cart/Dockerfile":   link("../../build/Dockerfile"),
		"src/cart/common":       link("../../libs/v2"),
		"src/cart/f":            file(""),
		"src/cart/inside":       link("f"),
		"libs/broken":           link("nothing"),
		"libs/out":              link("../../etc"),
		"src/plain/Dockerfile":  file("FROM scratch\nCOPY . /\n"),
		"src/plain/link":        link("../cart/f"),
		"src/depend/Dockerfile": file("FROM scratch\n"),
		"slipway.yaml":          file("services:\n  cart: {context: .}\n  depend: {dependsOn: [libs/current]}\n"),
	}
	c, problems := config.LoadServices(tree, options())
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	cart, _ := c.Service("cart")
	want := []slipway.Copy{
		{Path: "libs/current/money", Line: 3}, {Path: "libs/current/*.txt", Line: 4}, {Path: "libs/broken", Line: 4},
		{Path: "build/Dockerfile"}, {Path: "libs/v2", Line: 2}, {Path: "libs/current", Line: 3}, {Path: "libs/v2/money", Line: 3}, {Path: "libs/v2/*.txt", Line: 4},
		{Path: ".dockerignore"},
	}
	if !reflect.DeepEqual(cart.Copies, want) {
		t.Errorf("cart is made of %+v\nwant %+v", cart.Copies, want)
	}
	if plain, _ := c.Service("plain"); len(plain.Copies) != 0 {
		t.Errorf("plain is made of %+v", plain.Copies)
	}
	if depend, _ := c.Service("depend"); !reflect.DeepEqual(depend.Shared, []string{"libs/current", "libs/v2"}) {
		t.Errorf("depend depends on %q", depend.Shared)
	}
}

// A link that a wildcard fits is followed as one that is named, wherever the wildcard stands.
func TestCopiesThroughLinksThatWildcardsFit(t *testing.T) {
	t.Parallel()
	for dockerfile, want := range map[string][]slipway.Copy{
		"FROM scratch\nCOPY shared/* /x/\n":          {{Path: "shared/*", Line: 2}, {Path: "shared/common", Line: 2}, {Path: "libs/v2", Line: 2}, {Path: "shared/gone.txt", Line: 2}, {Path: "shared/one.txt", Line: 2}, {Path: "texts/one.txt", Line: 2}},
		"FROM scratch\nCOPY shared/*.txt /x/\n":      {{Path: "shared/*.txt", Line: 2}, {Path: "shared/gone.txt", Line: 2}, {Path: "shared/one.txt", Line: 2}, {Path: "texts/one.txt", Line: 2}},
		"FROM scratch\nCOPY shared/[n-o]ne.txt /x\n": {{Path: "shared", Line: 2}, {Path: "shared/one.txt", Line: 2}, {Path: "texts/one.txt", Line: 2}},
		"FROM scratch\nCOPY */common/f /x/\n":        {{Path: "*/common/f", Line: 2}, {Path: "shared/common", Line: 2}, {Path: "libs/v2/f", Line: 2}},
		"FROM scratch\nCOPY s*/common/*.md /x/\n":    {{Path: "s*/common/*.md", Line: 2}, {Path: "shared/common", Line: 2}, {Path: "libs/v2/*.md", Line: 2}, {Path: "libs/v2/a.md", Line: 2}, {Path: "texts/a.md", Line: 2}},
		"FROM scratch\nCOPY shared/$WHAT /x/\n":      {{Path: "shared", Line: 2}, {Path: "shared/common", Line: 2}, {Path: "libs/v2", Line: 2}, {Path: "shared/gone.txt", Line: 2}, {Path: "shared/one.txt", Line: 2}, {Path: "texts/one.txt", Line: 2}},
		"FROM scratch\nCOPY shared /x/\n":            {{Path: "shared", Line: 2}},
	} {
		tree := fstest.MapFS{
			"shared/common": link("../libs/v2"), "shared/one.txt": link("../texts/one.txt"), "shared/gone.txt": link("nothing"), "shared/plain.txt": file(""),
			"libs/v2/f": file(""), "libs/v2/a.md": link("../../texts/a.md"), "texts/one.txt": file(""), "texts/a.md": file(""),
			"src/a/Dockerfile": file(dockerfile), "slipway.yaml": file("services: {a: {context: .}}\n"),
		}
		c, problems := config.LoadServices(tree, options())
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		got := c.Services[0].Copies
		if len(got) == 0 || !reflect.DeepEqual(got[:len(got)-1], want) { // the last one is the .dockerignore
			t.Errorf("%q: made of\n%+v, want\n%+v", dockerfile, got, want)
		}
	}
}

// With more links than are told apart, all of the build context counts.
func TestCopiesThroughManyLinks(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{"src/a/Dockerfile": file("FROM scratch\nCOPY links/* /x/\n"), "to/f": file("")}
	for i := range 120 {
		tree[fmt.Sprintf("links/%d", i)] = link(fmt.Sprintf("../to/%d", i))
	}
	c, problems := config.LoadServices(tree, options())
	if err := problems.Err(); err != nil || c.Services[0].Copies[0] != (slipway.Copy{Path: ".", Line: 2}) {
		t.Errorf("%v: made of %+v", err, c.Services[0].Copies)
	}
}

// What ENV says counts before what ARG says, and what an ONBUILD copies is copied by the stage that is built on it.
func TestCopiesByEnvAndOnbuild(t *testing.T) {
	t.Parallel()
	for dockerfile, want := range map[string][]slipway.Copy{
		"FROM scratch\nARG LIB=one\nENV LIB=two\nCOPY libs/$LIB /x\n":          {{Path: "libs", Line: 4}},
		"FROM scratch\nENV LIB=two\nARG LIB=one\nCOPY libs/${LIB}/f /x\n":      {{Path: "libs", Line: 4}},
		"FROM scratch\nARG LIB=one\nENV OTHER=two\nCOPY libs/$LIB /x\n":        {{Path: "libs/one", Line: 4}},
		"FROM scratch AS base\nONBUILD COPY libs/two /x\nFROM base\n":          {{Path: "libs/two", Line: 2}},
		"FROM scratch AS base\nONBUILD RUN true\nFROM base\nCOPY libs/one /\n": {{Path: "libs/one", Line: 4}},
	} {
		tree := fstest.MapFS{"libs/one": file(""), "libs/two": file(""), "src/a/Dockerfile": file(dockerfile)}
		c, problems := config.LoadServices(tree, options())
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		got := c.Services[0].Copies
		if len(got) == 0 || !reflect.DeepEqual(got[:len(got)-1], want) { // the last one is the .dockerignore
			t.Errorf("%q: made of %+v, want %+v", dockerfile, got, want)
		}
	}
}

// Folders that links lead to are those that the links lead to: there their files change.
func TestFoldersThroughLinks(t *testing.T) {
	t.Parallel()
	tree := fstest.MapFS{
		"shared/chart/Chart.yaml": file("apiVersion: v2\nname: x\nversion: 0.1.0\n"),
		"charts/cart":             link("../shared/chart"),
		"src/cart/Dockerfile":     file("FROM scratch\n"),
		"src/mail/Dockerfile":     file("FROM scratch\n"),
		"deep":                    link("src"),
		"deep2":                   link("shared/chart"),
		"slipway.yaml":            file("services:\n  mail: {path: deep/mail, context: deep, chart: deep2}\n"),
	}
	c, problems := config.LoadServices(tree, options())
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	if len(c.Services) != 2 {
		t.Fatalf("%d services", len(c.Services))
	}
	if s, _ := c.Service("cart"); s.Chart != "shared/chart" {
		t.Errorf("cart's chart is %s", s.Chart)
	}
	if s, _ := c.Service("mail"); s.Dir != "src/mail" || s.Context != "src" || s.Chart != "shared/chart" {
		t.Errorf("mail is %+v", s)
	}
}

// A build follows a link in place of its Dockerfile only within its context.
func TestDockerfilesThatAreLinks(t *testing.T) {
	t.Parallel()
	tree := func(dockerfile, settings string) fstest.MapFS {
		return fstest.MapFS{
			"build/Dockerfile": file(dockerfile), "src/a/Dockerfile": link("../../build/Dockerfile"), "src/a/f": file(""), "src/a/own": file("FROM scratch\n"),
			"src/a/inside": link("own"), "src/a/around": link("../a/own"), "src/a/far": link("../b"), "src/b/x": file("FROM scratch\n"), "slipway.yaml": file(settings), "README.md": file(""),
		}
	}
	for _, c := range []struct{ dockerfile, settings, problem string }{
		{"FROM scratch\nCOPY f /\n", "", "src/a/Dockerfile:1: it is a link that leads out of its build context src/a, the service's folder, where a build does not follow it" +
			" (replace the link by the file, or let the build context be a folder that holds both: services: {a: {context: .}})"},
		{"FROM scratch\nCOPY README.md /\n", "", ""}, // from the root
		{"FROM scratch\nCOPY f /\n", "services: {build: false, a: {context: .}}\n", ""},
		{"FROM scratch\n", "services: {build: false, a: {context: src}}\n", "slipway.yaml:1:39: services.a: src/a/Dockerfile: it is a link that leads out of its build context src, where"},
		{"FROM scratch\n", "services: {build: false, a: {dockerfile: inside}}\n", ""},
		{"FROM scratch\n", "services: {build: false, a: {dockerfile: around}}\n", "slipway.yaml:1:42: services.a: src/a/around: it is a link"},
		{"FROM scratch\n", "services: {build: false, a: {dockerfile: far/x}}\n", "slipway.yaml:1:42: services.a: src/a/far/x: it is a link"},
		{"FROM scratch\n", "services: {build: false, a: {dockerfile: far/x, context: src}}\n", ""},
	} {
		got, problems := config.LoadServices(tree(c.dockerfile, c.settings), options())
		switch {
		case c.problem == "" && len(problems) > 0:
			t.Errorf("%q of %q: %v", c.settings, c.dockerfile, problems)
		case c.problem != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0].String(), c.problem)):
			t.Errorf("%q of %q: problems %v of %+v, want %s", c.settings, c.dockerfile, problems, got, c.problem)
		}
	}
}

package config_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

func tree(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range files {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func TestServicesOfOtherCodebases(t *testing.T) {
	t.Parallel()
	files := tree(map[string]string{
		"Dockerfile":   "FROM base:1\n",
		"lib/x.go":     "package lib\n",
		"slipway.yaml": "services:\n  web:\n    dependsOn: [lib, api]\n    after: [mail, lib]\n",
	})
	c, problems := config.LoadServices(files, config.Options{Project: "shop", Further: "web", Pins: map[string]string{"base:1": "sha256:1", "other:1": "sha256:2"}})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	web, ok := c.Service("web")
	if !ok {
		t.Fatalf("no service web at the root of codebase web: %v", c.Services)
	}
	if !slices.Equal(web.DependsOn, []string{"api"}) || !slices.Equal(web.Shared, []string{"lib"}) || !slices.Equal(web.After, []string{"mail", "lib"}) {
		t.Errorf("dependsOn %v, shared %v, after %v", web.DependsOn, web.Shared, web.After)
	}
	want := []slipway.Elsewhere{{Service: "api", Line: 3}, {Service: "mail", Line: 4}, {Service: "lib", Line: 4}}
	if !slices.Equal(web.Elsewhere, want) {
		t.Errorf("elsewhere %v, want %v", web.Elsewhere, want)
	}
	if len(web.Pins) != 1 || web.Pins["base:1"] != "sha256:1" || len(c.Pins) != 2 {
		t.Errorf("pins of the service %v, of all %v", web.Pins, c.Pins)
	}
	if _, problems := config.LoadServices(files, config.Options{Project: "web"}); len(problems) != 3 {
		t.Errorf("a project with one codebase has no other services: %v", problems)
	}
}

func TestWhatOnlyTheMainCodebaseDecides(t *testing.T) {
	t.Parallel()
	files := tree(map[string]string{
		"web/Dockerfile": "FROM scratch\n",
		"slipway.yaml":   "version: 1\nservices: {web: {port: 80}}\nenvironments:\n  - {name: qa}\npins: {}\nlimits: {retries: 3}\n",
	})
	for _, load := range []func() config.Problems{
		func() config.Problems {
			_, p := config.LoadServices(files, config.Options{Project: "shop", Further: "pages"})
			return p
		},
		func() config.Problems {
			_, p := config.Load(files, config.Options{Project: "shop", Further: "pages"})
			return p
		},
	} {
		problems := load()
		var said []string
		for _, p := range problems {
			said = append(said, p.String())
		}
		text := strings.Join(said, "\n")
		for _, want := range []string{"slipway.yaml:3:1: environments: this is for the project", "slipway.yaml:5:1: pins: ", "slipway.yaml:6:1: limits: ", "main codebase"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not said in:\n%s", want, text)
			}
		}
		if len(problems) != 3 {
			t.Errorf("%d problems:\n%s", len(problems), text)
		}
	}
}

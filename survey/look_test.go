package survey_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway/survey"
)

func files(texts map[string]string) fstest.MapFS {
	tree := fstest.MapFS{}
	for name, text := range texts {
		tree[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	return tree
}

// What a survey finds are values: services with their languages, charts and dependencies, and the file that says what
// differs from the conventions, which a second survey of it writes again.
func TestLook(t *testing.T) {
	t.Parallel()
	texts := map[string]string{
		"cart/Dockerfile": "FROM scratch AS unit-tests\nENTRYPOINT [\"/x\"]\nFROM scratch\nEXPOSE 80\n", "cart/go.mod": "module cart\n\nreplace money => ../libs/money\n",
		"libs/money/go.mod":         "module money\n",
		"page/Dockerfile":           "FROM scratch AS testrunner\nENTRYPOINT [\"/x\"]\nFROM scratch\nCOPY gone /\n",
		"page/package.json":         `{"name": "page"}`,
		"charts/page/Chart.yaml":    "name: page\n",
		"tools/thing/Cargo.toml":    "[package]\n",
		"examples/Dockerfile":       "FROM scratch\n",
		"docker-compose.yml":        "services: {cart: {build: {context: ., dockerfile: cart/Dockerfile}}}\n",
		"elsewhere/README.md":       "nothing\n",
		"charts/orphan/Chart.yaml":  "name: orphan\n",
		"charts/library/Chart.yaml": "name: library\ntype: library\n",
	}
	s, err := survey.Look(files(texts), "shop")
	if err != nil || len(s.Problems) > 0 || len(s.Services) != 2 {
		t.Fatalf("%v: %+v", err, s)
	}
	cart, page := s.Services[0], s.Services[1]
	if cart.Name != "cart" || cart.Language != "Go" || cart.Known != "go.mod" || cart.Tests != "unit-tests" || cart.Chart != "" {
		t.Errorf("cart is %+v", cart)
	}
	if len(cart.DependsOn) != 1 || cart.DependsOn[0].Path != "libs/money" || cart.DependsOn[0].Why != "go.mod replaces money by ../libs/money" {
		t.Errorf("cart depends on %+v", cart.DependsOn)
	}
	var keys []string
	for _, set := range cart.Settings {
		keys = append(keys, set.Key+"="+set.Value+strings.Join(set.List, ","))
	}
	if want := []string{"test={stage: unit-tests}", "context=.", "dependsOn=libs/money"}; !slices.Equal(keys, want) {
		t.Errorf("cart is written with %q, want %q", keys, want)
	}
	if page.Chart != "charts/page" || page.Tests != "testrunner" || len(page.Settings) > 0 || !strings.Contains(strings.Join(page.Missing, "\n"), "gone in line 4") {
		t.Errorf("page is %+v", page)
	}
	if len(s.Others) != 1 || s.Others[0] != (survey.Folder{Dir: "tools/thing", Language: "Rust", Known: "Cargo.toml"}) {
		t.Errorf("no service: %+v", s.Others)
	}
	for _, want := range []string{"the chart in charts/orphan belongs to no service", "examples/Dockerfile is no service"} {
		if !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.HasPrefix(n, want) }) {
			t.Errorf("%q is not among the notes %q", want, s.Notes)
		}
	}
	texts["slipway.yaml"] = s.File
	if again, err := survey.Look(files(texts), "shop"); err != nil || again.File != s.File {
		t.Errorf("%v: a second survey writes\n%s\nthe first\n%s", err, again.File, s.File)
	}
}

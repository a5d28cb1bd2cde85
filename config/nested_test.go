package config_test

import (
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// What a Dockerfile copies from the folder of another service below its own is what the image is made of too, though
// that folder's files are the other service's.
func TestCopiesOfNestedServices(t *testing.T) {
	t.Parallel()
	for dockerfile, want := range map[string][]slipway.Copy{
		"COPY . /":                       {{Path: ".", Line: 2}},
		"COPY main.go lib /":             nil,
		"COPY svc/a/proto /":             {{Path: "svc/a/proto", Line: 2}},
		"COPY svc/a /":                   {{Path: "svc/a", Line: 2}},
		"COPY svc /":                     {{Path: "svc", Line: 2}},
		"COPY svc/lib /":                 nil,
		"COPY svc/ab /":                  nil,
		"COPY svc/*/proto /":             {{Path: "svc/*/proto", Line: 2}},
		"COPY svc/*b/x *.go /":           nil,
		"COPY * /":                       {{Path: "*", Line: 2}, {Path: "svc/a", Line: 2}}, // which to-a leads to
		"COPY s?c/a/*.md /":              {{Path: "s?c/a/*.md", Line: 2}},
		"COPY to-a/x /":                  {{Path: "svc/a/x", Line: 2}},
		"COPY charts/a /":                {{Path: "charts/a", Line: 2}},
		"RUN --mount=target=/src true":   {{Path: ".", Line: 2}},
		"ARG DIR\nCOPY svc/$DIR/proto /": {{Path: "svc", Line: 3}},
	} {
		tree := fstest.MapFS{
			"Dockerfile": file("FROM scratch\n" + dockerfile + "\n"), "main.go": file(""), "lib/x": file(""), "svc/lib/x": file(""), "svc/ab/x": file(""), "to-a": link("svc/a"),
			"svc/a/Dockerfile": file("FROM scratch\nCOPY . /\n"), "svc/a/proto/x": file(""), "svc/a/x": file(""), "charts/a/Chart.yaml": file("apiVersion: v2\nname: a\nversion: 0.1.0\n"),
		}
		c, problems := config.LoadServices(tree, options())
		if err := problems.Err(); err != nil {
			t.Fatal(err)
		}
		root := c.Services[1]
		if root.Dir != "." || !reflect.DeepEqual(root.Copies, want) {
			t.Errorf("%q: %s is made of %+v, want %+v", dockerfile, root.Dir, root.Copies, want)
		}
		if a := c.Services[0]; len(a.Copies) != 0 {
			t.Errorf("%s is made of %+v", a.Name, a.Copies)
		}
	}
}

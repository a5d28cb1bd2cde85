package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/slipway-cd/slipway/slipwaytest"
)

// A picture is taken of each tab of a project's pages, in their order.
func TestTabs(t *testing.T) {
	t.Parallel()
	root, err := slipwaytest.Root()
	if err != nil {
		t.Fatal(err)
	}
	layout, err := os.ReadFile(filepath.Join(root, "web", "templates", "layout.html"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, m := range regexp.MustCompile(`href="/projects/\{\{path \.Project\}\}([^"]*)"`).FindAllSubmatch(layout, -1) {
		want = append(want, "/projects/shop"+string(m[1]))
	}
	for _, s := range tabs("/projects/shop") {
		got = append(got, s.url)
	}
	if len(want) < 6 || !slices.Equal(got, want) {
		t.Errorf("the pictures are of %v, the tabs of %v", got, want)
	}
}

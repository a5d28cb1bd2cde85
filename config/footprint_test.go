package config_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"testing"
	"testing/fstest"

	"pgregory.net/rapid"

	"github.com/slipway-cd/slipway/config"
)

// drawTree makes a tree of files that configurations are made of, and of others.
func drawTree(t *rapid.T) fstest.MapFS {
	tree := fstest.MapFS{}
	texts := map[string][]string{
		"Dockerfile":         {"FROM scratch\nCOPY . /\n", "FROM scratch\nCOPY go.mod libs/a ./\n", "FROM alpine\nEXPOSE 80\n", "FROM\n", "FROM a\nCOPY go.mod libs/* */x* ./\n"},
		"slipway.yaml":       {"services: {a: {dependsOn: [libs]}}\n", "services: {a: {port: 1, chart: charts/a}, b: false}\n", "shared: {libs/a: {dependsOn: [x]}}\n", "nonsense: 1\n", "services: {c: {path: src/a, dockerfile: other}}\n"},
		"slipway.yml":        {"x"},
		".dockerignore":      {"*.md\n", "# nothing\n", "docs\n!docs/x\n", "[\n"},
		"src/a/Dockerfile->": {"../../Dockerfile", "../../../x", "other"},
		"libs->":             {"src", "/x"},
		"libs/a/xl->":        {"../../src", "../y", "../../.."},
		"libs/z->":           {"../docs", "a", "gone"},
	}
	for _, name := range []string{"slipway.yaml", "slipway.yml", "Dockerfile", "src/a/Dockerfile", "src/a/Dockerfile->", "src/b/Dockerfile", "src/a/other", "src/a/go.mod", "go.mod", "libs/a/x", "libs/y", "libs/z->", "libs/a/xl->", "libs->", "src/a/libs/a/x",
		"charts/a/Chart.yaml", "src/a/chart/Chart.yaml", "src/a/main.go", ".dockerignore", "src/a/.dockerignore", "src/a/Dockerfile.dockerignore", "docs/x", "vendor/x/Dockerfile", "x"} {
		if rapid.IntRange(0, 2).Draw(t, name+"?") > 0 {
			continue
		}
		list := texts[name]
		if list == nil {
			list = texts[path.Base(name)]
		}
		if list == nil {
			list = []string{"1", "FROM scratch\n"}
		}
		f := &fstest.MapFile{Data: []byte(rapid.SampledFrom(list).Draw(t, name))}
		if link, is := cutSuffix(name, "->"); is {
			name, f.Mode = link, fs.ModeSymlink|0o777
		}
		tree[name] = f
	}
	if tree["libs"] != nil { // a link, and so no folder
		maps.DeleteFunc(tree, func(name string, _ *fstest.MapFile) bool { return len(name) > 5 && name[:5] == "libs/" })
	}
	return tree
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)], true
	}
	return s, false
}

// difference is how two trees differ.
func difference(old, now fstest.MapFS) (out []config.Change) {
	plain := func(f *fstest.MapFile) bool { return f == nil || f.Mode&fs.ModeSymlink == 0 }
	names := map[string]bool{}
	for n := range old {
		names[n] = true
	}
	for n := range now {
		names[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if reflect.DeepEqual(old[n], now[n]) {
			continue
		}
		out = append(out, config.Change{Path: n, Added: old[n] == nil, Deleted: now[n] == nil, Plain: plain(old[n]) && plain(now[n])})
	}
	return out
}

// A tree that is said to be the same says the same, problems included.
func TestFootprint(t *testing.T) {
	t.Parallel()
	same, other := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		old, now := drawTree(t), drawTree(t)
		if rapid.Bool().Draw(t, "few changes") {
			now = maps.Clone(old)
			for name, f := range drawTree(t) {
				if rapid.IntRange(0, 3).Draw(t, name+" changes") == 0 {
					if delete(now, name); f.Mode == 0 || rapid.Bool().Draw(t, name+" is gone") {
						now[name] = f
					}
				}
			}
		}
		seen := config.Watch(old)
		was, problems := config.LoadServices(seen, options())
		if plainly, _ := config.LoadServices(old, options()); !reflect.DeepEqual(was, plainly) {
			t.Fatalf("being watched, a tree says %+v in place of %+v", was, plainly)
		}
		if !seen.Same(difference(old, now)) {
			other++
			return
		}
		same++
		is, more := config.LoadServices(now, options())
		if !reflect.DeepEqual(was, is) || fmt.Sprint(problems) != fmt.Sprint(more) {
			t.Fatalf("%v\nsays %+v, %v\nand then %+v, %v", difference(old, now), was, problems, is, more)
		}
	})
	if same < 10 || other < 10 {
		t.Errorf("%d trees were the same and %d others: too few to tell", same, other)
	}
}

// What most pushes do is known to change nothing.
func TestFootprintOfOrdinaryPushes(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	tree := fstest.MapFS{"src/a/Dockerfile": file("FROM scratch\nCOPY . /\n"), "src/b/Dockerfile": file("FROM scratch\nCOPY go.mod pkg /\n"), "src/b/go.mod": file(""), "src/b/pkg/x": file(""), "slipway.yaml": file("services: {a: {dependsOn: [libs]}}\n"), "libs/x": file("")}
	seen := config.Watch(tree)
	if _, problems := config.LoadServices(seen, options()); len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		change config.Change
		same   bool
	}{
		{config.Change{Path: "src/a/main.go", Plain: true}, true},
		{config.Change{Path: "src/a/new/main.go", Added: true, Plain: true}, true},
		{config.Change{Path: "src/a/main.go", Deleted: true, Plain: true}, true},
		{config.Change{Path: "src/b/pkg/y", Added: true, Plain: true}, true},
		{config.Change{Path: "libs/z", Added: true, Plain: true}, true},
		{config.Change{Path: "docs/link", Added: true}, true},
		{config.Change{Path: "src/b/go.mod", Plain: true}, true},
		{config.Change{Path: "src/b/go.mod", Deleted: true, Plain: true}, false},
		{config.Change{Path: "src/b/pkg/x", Deleted: true, Plain: true}, false}, // perhaps the last of its folder
		{config.Change{Path: "libs/x", Deleted: true, Plain: true}, false},
		{config.Change{Path: "src/a/Dockerfile", Plain: true}, false},
		{config.Change{Path: "src/c/Dockerfile", Added: true, Plain: true}, false},
		{config.Change{Path: "slipway.yaml", Plain: true}, false},
		{config.Change{Path: "slipway.yml", Added: true, Plain: true}, true}, // there is slipway.yaml
		{config.Change{Path: "src/a/chart/Chart.yaml", Added: true, Plain: true}, false},
		{config.Change{Path: "src/a", Deleted: true}, false},
	} {
		if got := seen.Same([]config.Change{{Path: "README.md", Plain: true}, c.change}); got != c.same {
			t.Errorf("%+v: the same is %v", c.change, got)
		}
	}
}

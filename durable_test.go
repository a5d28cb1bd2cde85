package slipway_test

import (
	"go/ast"
	"strings"
	"testing"
)

// unsynced are the functions that rename what they do not sync, each with the reason why a power cut does no harm.
func unsynced() map[string]string {
	return map[string]string{
		"cmd/slipway/seen.go:writeJSON":                  "what cannot be read counts as nothing shown",
		"driver/buildkit/process_linux.go:writeFile":     "where a daemon is that ends with the machine",
		"driver/buildkit/process_linux.go:spawn":         "an old log",
		"driver/buildkit/runnet_linux.go:installPlugins": "what is there is compared before it is used",
		"hosting/gitserver/gitserver.go:writeHooks":      "written anew at each start",
		"laptop/results.go:keep":                         "what cannot be read counts as no result",
		"repos/repos.go:Discard":                         "what is no codebase any more",
		"stage/source/workspace.go:make":                 "Recover removes trees",
		"slipwaytest/bases.go:*":                         "tests",
		"slipwaytest/cosign.go:*":                        "tests",
	}
}

// checkRenames wants what is renamed synced: a power cut may otherwise leave a name without what was written.
func checkRenames(s source) (out []string) {
	if s.test {
		return nil
	}
	for _, f := range functions(s) {
		if f.Body == nil || unsynced()[s.path+":"+f.Name.Name] != "" || unsynced()[s.path+":*"] != "" {
			continue
		}
		var rename ast.Node
		synced := false
		ast.Inspect(f.Body, func(n ast.Node) bool {
			if c, ok := n.(*ast.CallExpr); ok {
				name := callee(c)
				if name == "os.Rename" {
					rename = c
				}
				synced = synced || strings.Contains(strings.ToLower(name), "sync")
			}
			return true
		})
		if rename != nil && !synced {
			out = append(out, s.finding(rename.Pos(), "%s renames what it does not sync: sync the file, rename it, sync its folder", f.Name.Name))
		}
	}
	return out
}

func TestRenamesAreSynced(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, f := range parseTree(t, ".") {
		for _, finding := range checkRenames(f) {
			t.Error(finding)
		}
		used[f.path+":*"] = true
		for _, d := range functions(f) {
			used[f.path+":"+d.Name.Name] = true
		}
	}
	for name, why := range unsynced() {
		if !used[name] {
			t.Errorf("%s may rename what it does not sync (%s) and is not there", name, why)
		}
	}
	bad, err := parseSource("x/x.go", "package x\nfunc f() error {\n\treturn os.Rename(a, b)\n}\nfunc g() error {\n\treturn errors.Join(f.Sync(), os.Rename(a, b))\n}")
	if err != nil {
		t.Fatal(err)
	}
	if found := checkRenames(bad); len(found) != 1 || !strings.Contains(found[0], "x/x.go:3: f renames") {
		t.Errorf("found %q", found)
	}
}

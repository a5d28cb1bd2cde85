package tool

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// source writes a module with a main package that prints its version.
func source(t *testing.T, extra string) Tool {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":  "module example.test/hello\n\ngo 1.24\n",
		"main.go": "package main\n\nimport \"fmt\"\n\nvar version string\n\nfunc main() { fmt.Print(version" + extra + ") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Tool{Name: "hello", Dir: dir, LinkerFlags: "-X main.version=VERSION"}
}

func TestGetBuildsOnce(t *testing.T) {
	t.Parallel()
	cache := Cache{Dir: filepath.Join(t.TempDir(), "tools"), Progress: io.Discard}
	tool := source(t, "")
	path, err := cache.Get(context.Background(), tool)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path).Output()
	if err != nil || string(out) != "local" {
		t.Errorf("it prints %q, %v", out, err)
	}
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := cache.Get(context.Background(), tool)
	if err != nil || again != path {
		t.Fatalf("second time: %s, %v", again, err)
	}
	second, err := os.Stat(path)
	if err != nil || !first.ModTime().Equal(second.ModTime()) {
		t.Errorf("it was built again: %v", err)
	}
	entries, err := os.ReadDir(cache.Dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v", entries, err)
	}
}

func TestOtherSourcesAreAnotherBinary(t *testing.T) {
	t.Parallel()
	cache := Cache{Dir: t.TempDir(), Progress: io.Discard}
	one, err := cache.Path(source(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	other, err := cache.Path(source(t, `+"!"`))
	if err != nil {
		t.Fatal(err)
	}
	same, err := cache.Path(source(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	if one == other || one != same {
		t.Errorf("%s, %s, %s", one, other, same)
	}
}

func TestFailedBuildTellsWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	cache := Cache{Dir: t.TempDir(), Progress: io.Discard}
	_, err := cache.Get(context.Background(), source(t, "+nonsense"))
	if err == nil || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("error is %v", err)
	}
	entries, err := os.ReadDir(cache.Dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("the cache holds %v, %v", entries, err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	tool := source(t, "")
	text := "module x\n\nrequire (\n\texample.test/a v1.2.3\n\texample.test/ab v9.0.0 // indirect\n)\n\nrequire example.test/c v0.1.0\n"
	if err := os.WriteFile(filepath.Join(tool.Dir, "go.mod"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{
		"": "local", "example.test/a": "v1.2.3", "example.test/ab": "v9.0.0", "example.test/c": "v0.1.0",
	} {
		tool.Module = module
		if got, err := tool.version(); err != nil || got != want {
			t.Errorf("version of %q is %q, %v; want %q", module, got, err, want)
		}
	}
	tool.Module = "example.test/none"
	if _, err := tool.version(); err == nil {
		t.Error("a module that is not required has a version")
	}
}

func TestPackageName(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"k8s.io/kubernetes/pkg/kubelet": true,
		"go: downloading x v1":          false,
		"# example.test/hello":          false,
		"./main.go:5:9: undefined: x":   false,
		"":                              false,
	} {
		if got := packageName(line); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

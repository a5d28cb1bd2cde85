package config_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

var update = flag.Bool("update", false, "rewrite what is expected in testdata and the generated parts of docs")

// Each file of testdata/load is a case: the files of a repository, and what Load makes of it:
// problems, or config.json when there are none. A first line "clusters: a, b" registers clusters.
func TestLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/load/*.txtar")
	if err != nil || len(files) < 30 {
		t.Fatalf("found %d cases: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tree := fstest.MapFS{}
			for _, f := range archive.Files {
				if f.Name != "problems" && f.Name != "config.json" {
					tree[f.Name] = &fstest.MapFile{Data: f.Data}
				}
			}
			opts := options()
			if list, ok := strings.CutPrefix(string(archive.Comment), "clusters: "); ok {
				line, _, _ := strings.Cut(list, "\n")
				opts.Clusters = strings.Split(line, ", ")
			}
			c, problems := config.Load(tree, opts)
			name, got := "problems", []byte(problems.String()+"\n")
			if len(problems) == 0 {
				out, err := json.MarshalIndent(different(c), "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				name, got = "config.json", append(out, '\n')
			}
			checkGolden(t, file, archive, name, got)
		})
	}
}

// different leaves out gates and retention that are as they are without the file.
func different(c slipway.Config) slipway.Config {
	if reflect.DeepEqual(c.Gates, config.StandardGates(false)) {
		c.Gates = slipway.Gates{}
	}
	for i, e := range c.Environments {
		if reflect.DeepEqual(e.Gates, config.StandardGates(e.Production)) {
			c.Environments[i].Gates = slipway.Gates{}
		}
	}
	day := slipway.Duration(24 * time.Hour)
	if c.Retention == (slipway.Retention{Candidates: slipway.Keep{MaxAge: 30 * day, Newest: 20}, PullRequests: slipway.Keep{MaxAge: 7 * day}}) {
		c.Retention = slipway.Retention{}
	}
	return c
}

func options() config.Options {
	return config.Options{
		Now:        func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) },
		Project:    "shop",
		Candidates: slipway.Registry{Host: "registry.slipway.test", Address: "http://127.0.0.1:8080"},
	}
}

func checkGolden(t *testing.T, file string, archive *txtar.Archive, name string, got []byte) {
	t.Helper()
	if *update {
		kept := archive.Files[:0]
		for _, f := range archive.Files {
			if f.Name != "problems" && f.Name != "config.json" {
				kept = append(kept, f)
			}
		}
		archive.Files = append(kept, txtar.File{Name: name, Data: got})
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, f := range archive.Files {
		if f.Name == "problems" || f.Name == "config.json" {
			if f.Name != name || !bytes.Equal(f.Data, got) {
				t.Errorf("%s: expected %s:\n%s\ngot %s:\n%s", file, f.Name, f.Data, name, got)
			}
			return
		}
	}
	t.Errorf("%s: has neither problems nor config.json; run with -update and look at what comes", file)
}

// The run's own commit decides on services; the default branch on the rest, and on what follows a
// deployment (D14).
func TestCombine(t *testing.T) {
	t.Parallel()
	dockerfile := &fstest.MapFile{Data: []byte("FROM scratch\nEXPOSE 80\n")}
	own := fstest.MapFS{
		"a/Dockerfile": dockerfile, "b/Dockerfile": dockerfile,
		"slipway.yaml": {Data: []byte(`
services: {a: {port: 1234, rollback: manual, verify: {tests: false}}, b: {rollback: manual}}
environments: [{name: production, production: true, approvals: {required: 0}}, {nme: broken}]
limits: {retries: 99}
pins: {alpine: sha256:0123456789012345678901234567890123456789012345678901234567890123}
`)},
	}
	governing := fstest.MapFS{
		"slipway.yaml": {Data: []byte(`
services: {a: {port: 1, rollback: automatic, verify: {timeout: 90s}}}
environments: [{name: production, production: true, approvals: {required: 2}}]
limits: {retries: 1}
pullRequests: {approvals: 3}
`)},
	}
	services, problems := config.LoadServices(own, options())
	if err := problems.Err(); err != nil {
		t.Fatalf("the broken environments of the run's own commit are in the way: %v", err)
	}
	policy, problems := config.LoadPolicy(governing, options())
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	c := config.Combine(services, policy)
	a, _ := c.Service("a")
	b, _ := c.Service("b")
	production, _ := c.Environment("production")
	if a.Port != 1234 || b.Port != 80 || len(c.Pins) != 1 {
		t.Errorf("how services are built is not the run's own: a %d, b %d, pins %v", a.Port, b.Port, c.Pins)
	}
	if production.Approvals.Required != 2 || c.Limits.Retries != 1 || c.PullRequests.Approvals != 3 {
		t.Errorf("the run's own commit decides on approvals or limits: %+v %+v", production, c.Limits)
	}
	if a.Rollback != slipway.RollbackAutomatic || a.Verify.Timeout.Seconds() != 90 || !a.Verify.Tests {
		t.Errorf("what follows the deployment of a is not the default branch's: %s %+v", a.Rollback, a.Verify)
	}
	if b.Rollback != slipway.RollbackAutomatic || !b.Verify.Tests {
		t.Errorf("what follows the deployment of b, which the default branch does not name: %s %+v", b.Rollback, b.Verify)
	}
	if s, _ := services.Service("a"); s.Rollback != slipway.RollbackManual {
		t.Error("Combine changed its argument")
	}
	if _, problems := config.Load(own, options()); problems.Err() == nil {
		t.Error("Load passes over the broken environment")
	}
}

// Links are followed within the tree, and nowhere else.
func TestLinks(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "Dockerfile"), "FROM secret\n")
	write(filepath.Join(dir, "inside/common/Dockerfile.go"), "FROM scratch\nEXPOSE 81\n")
	link("common/Dockerfile.go", filepath.Join(dir, "inside/Dockerfile"))
	link(filepath.Join(outside, "Dockerfile"), filepath.Join(dir, "absolute/Dockerfile"))
	link("../../"+filepath.Base(outside)+"/Dockerfile", filepath.Join(dir, "relative/Dockerfile"))
	link("Dockerfile", filepath.Join(dir, "itself/Dockerfile"))
	link("../hop2", filepath.Join(dir, "steps/hop"))
	link("..", filepath.Join(dir, "hop2"))
	link("hop/hop2/x", filepath.Join(dir, "steps/Dockerfile"))
	link(outside, filepath.Join(dir, "folder"))
	link("nowhere", filepath.Join(dir, "dangling/Dockerfile"))
	c, problems := config.Load(os.DirFS(dir), options())
	want := `absolute/Dockerfile: it is a link that leads out of the repository (replace the link by a file)
itself/Dockerfile: it is a link that leads to itself, or through too many others (replace the link by a file)
relative/Dockerfile: it is a link that leads out of the repository (replace the link by a file)
steps/Dockerfile: it is a link that leads out of the repository (replace the link by a file)`
	if got := problems.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if s, ok := c.Service("inside"); !ok || s.Port != 81 {
		t.Errorf("a link within the repository was not followed: %+v", c.Services)
	}
	if err := os.Symlink(filepath.Join(outside, "Dockerfile"), filepath.Join(dir, "slipway.yaml")); err != nil {
		t.Fatal(err)
	}
	_, problems = config.Load(os.DirFS(dir), options())
	if !strings.Contains(problems.String(), "slipway.yaml: it is a link that leads out of the repository") {
		t.Errorf("a slipway.yaml out of the repository: %v", problems)
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	large := fstest.MapFS{"a/Dockerfile": {Data: bytes.Repeat([]byte("# padding\n"), 200_000)}}
	if _, problems := config.Load(large, options()); problems.String() != "a/Dockerfile: it has more than 1024 KiB" {
		t.Errorf("a large Dockerfile: %v", problems)
	}
	many := fstest.MapFS{}
	for i := range 600 {
		many["s"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+"/Dockerfile"] = &fstest.MapFile{Data: []byte("FROM scratch\n")}
	}
	if _, problems := config.Load(many, options()); !strings.Contains(problems.String(), "more than 500 folders have a Dockerfile") {
		t.Errorf("600 services: %v", problems)
	}
	deep := fstest.MapFS{strings.Repeat("d/", 9) + "s/Dockerfile": {Data: []byte("FROM scratch\n")}}
	if c, problems := config.Load(deep, options()); len(c.Services) != 0 || len(problems) != 0 {
		t.Errorf("a service ten folders down: %v %v", c.Services, problems)
	}
}

// Every problem of a file is told at once, and the error that carries them is the user's to mend.
func TestProblemsErr(t *testing.T) {
	t.Parallel()
	_, problems := config.Parse("slipway.yaml", []byte("a: 1\nb: 2\nversion: 7\n"))
	err := problems.Err()
	if slipway.ErrorCode(err) != slipway.Invalid || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("expected three problems in one Invalid error: %v", err)
	}
	if err := (config.Problems{}).Err(); err != nil {
		t.Errorf("no problems: %v", err)
	}
}

// One case of a hostile file that would be gigabytes if its aliases were followed.
func TestBombs(t *testing.T) {
	t.Parallel()
	var bomb strings.Builder
	bomb.WriteString("a: &a [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 20 {
		prev, next := string(rune('a'+i)), string(rune('a'+i+1))
		bomb.WriteString(next + ": &" + next + " [" + strings.TrimSuffix(strings.Repeat("*"+prev+",", 10), ",") + "]\n")
	}
	for name, text := range map[string]string{
		"the file has too many values": bomb.String(),
		"nested too deeply":            "services: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"not YAML":                     "a: &a [*a]\nb: *a: *a",
		"the file has ":                strings.Repeat("# padding\n", 200_000),
		"the file is not text":         "version: \xff\xfe",
		"not a number that can":        "version: .inf",
	} {
		if _, problems := config.Parse("slipway.yaml", []byte(text)); !strings.Contains(problems.String(), name) {
			t.Errorf("expected %q, got %.300s", name, problems)
		}
	}
	if _, problems := config.Parse("slipway.yaml", []byte("services: &a\n  b: *a\n")); len(problems) == 0 {
		t.Error("an alias within its own anchor passes")
	}
}

// The sample repositories are as their users should write theirs.
func TestExamples(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("../examples/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, dir := range dirs {
		c, problems := config.Load(os.DirFS(dir), options())
		if err := problems.Err(); err != nil || len(c.Services) == 0 {
			t.Errorf("%s: %d services, %v", dir, len(c.Services), err)
		}
	}
}

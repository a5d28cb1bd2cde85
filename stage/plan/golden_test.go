package plan_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/Masterminds/semver/v3"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/promote"
)

var update = flag.Bool("update", false, "rewrite the plans and errors in testdata")

// Each file of testdata is a case: the files of a repository, event.json with what happened, and
// plan.json or error with what follows. event.json is a plan.Input, and under Promote a promote.Input
// for what the plan is extended with.
func TestPlans(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d cases: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, got := planCase(t, archive)
			checkGolden(t, file, archive, name, got)
		})
	}
}

// planCase plans a case and returns the name and the content of the file that says what came of it.
func planCase(t *testing.T, archive *txtar.Archive) (string, []byte) {
	t.Helper()
	tree := fstest.MapFS{}
	var in struct {
		plan.Input
		Promote promote.Input
	}
	for _, f := range archive.Files {
		switch f.Name {
		case "event.json":
			if err := json.Unmarshal(f.Data, &in); err != nil {
				t.Fatalf("event.json: %v", err)
			}
		case "plan.json", "error":
		default:
			tree[f.Name] = &fstest.MapFile{Data: f.Data}
		}
	}
	c, problems := config.Load(tree, config.Options{
		Project:    in.Project.Name,
		Candidates: slipway.Registry{Host: "registry.slipway.test", Address: "http://127.0.0.1:8080"},
	})
	if err := problems.Err(); err != nil {
		t.Fatalf("the case's own configuration: %v", err)
	}
	in.Config = c
	p, err := plan.Plan(in.Input)
	if err == nil {
		in.Promote.Project, in.Promote.Run, in.Promote.Config = in.Project, in.Run, c
		p, err = promote.Extend(p, in.Promote)
	}
	if err != nil {
		return "error", []byte(string(slipway.ErrorCode(err)) + ": " + err.Error() + "\n")
	}
	checkPlan(t, p)
	checkGates(t, p, c)
	p.Gates = nil // the same in each: checked, not written
	out, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var back slipway.Plan
	if err := json.Unmarshal(out, &back); err != nil {
		t.Fatalf("the plan does not come back from JSON: %v", err)
	}
	again, err := json.MarshalIndent(back, "", "  ")
	if err != nil || !bytes.Equal(out, again) {
		t.Fatalf("the plan changes when it goes through JSON (%v):\n%s\n%s", err, out, again)
	}
	return "plan.json", append(out, '\n')
}

// checkPlan checks what holds for every plan: unique keys, needs that come before, exactly the
// field that the kind names, locks where a target is changed.
func checkPlan(t *testing.T, p slipway.Plan) {
	t.Helper()
	seen := map[string]bool{}
	for _, s := range p.Steps {
		if seen[s.Key] {
			t.Errorf("%s: two steps have this key", s.Key)
		}
		seen[s.Key] = true
	}
	for _, s := range p.Steps {
		if s.Chart != nil {
			if _, err := semver.StrictNewVersion(s.Chart.Version); err != nil {
				t.Errorf("%s: no chart can be packaged as %q: %v", s.Key, s.Chart.Version, err)
			}
		}
		for _, n := range s.Needs {
			if !seen[n] || n == s.Key {
				t.Errorf("%s needs %s, which is not in the plan", s.Key, n)
			}
		}
		set := map[slipway.StepKind]bool{
			slipway.KindBuild: s.Build != nil, slipway.KindTest: s.Test != nil, slipway.KindChart: s.Chart != nil,
			slipway.KindPublish: s.Publish != nil, slipway.KindDeploy: s.Deploy != nil, slipway.KindVerify: s.Verify != nil,
			slipway.KindApprove: s.Approve != nil, slipway.KindRetag: s.Retag != nil, slipway.KindRollback: s.Rollback != nil,
		}
		for kind, is := range set {
			if is != (kind == s.Kind) {
				t.Errorf("%s is of kind %s, and its field %s is set: %v", s.Key, s.Kind, kind, is)
			}
		}
		locked := s.Kind == slipway.KindDeploy || s.Kind == slipway.KindVerify || s.Kind == slipway.KindRollback
		if locked != (s.Lock != "") {
			t.Errorf("%s has the lock %q", s.Key, s.Lock)
		}
		if s.Timeout <= 0 && s.Kind != slipway.KindApprove {
			t.Errorf("%s has no timeout", s.Key)
		}
	}
}

func checkGolden(t *testing.T, file string, archive *txtar.Archive, name string, got []byte) {
	t.Helper()
	if *update {
		kept := archive.Files[:0]
		for _, f := range archive.Files {
			if f.Name != "plan.json" && f.Name != "error" {
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
		if f.Name == "plan.json" || f.Name == "error" {
			if f.Name != name || !bytes.Equal(f.Data, got) {
				t.Errorf("%s: expected %s:\n%s\ngot %s:\n%s", file, f.Name, f.Data, name, got)
			}
			return
		}
	}
	t.Errorf("%s: has neither plan.json nor error; run with -update and look at what comes", file)
}

// checkGates looks whether a plan carries what the gates of its configuration demand.
func checkGates(t *testing.T, p slipway.Plan, c slipway.Config) {
	t.Helper()
	if !reflect.DeepEqual(p.Gates[""], c.Gates) || len(p.Gates) != len(c.Environments)+1 {
		t.Errorf("the plan has the gates of %d environments: want the project's and those of %d", len(p.Gates)-1, len(c.Environments))
	}
	for _, e := range c.Environments {
		if !reflect.DeepEqual(p.Gates[e.Name], e.Gates) {
			t.Errorf("gates of %s are %+v, want %+v", e.Name, p.Gates[e.Name], e.Gates)
		}
	}
}

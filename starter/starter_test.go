package starter_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/chart"
	"github.com/slipway-cd/slipway/starter"
)

func environments() []slipway.Environment {
	return []slipway.Environment{{Name: "qa", Namespace: "shop-qa"}, {Name: "production", Namespace: "shop-production", Production: true}}
}

// write makes a repository with one new service in src.
func write(t *testing.T, language string) string {
	t.Helper()
	files, err := starter.Files(starter.Options{Name: "my-site", Language: language, Environments: environments()})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, f := range files {
		name := filepath.Join(root, "src", "my-site", filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// A new service is found as it is, with its tests, its chart and its port.
func TestServiceIsFound(t *testing.T) {
	t.Parallel()
	for _, language := range starter.Languages() {
		services, problems := config.Discover(os.DirFS(write(t, language)), "shop")
		want := []slipway.Service{{
			Name: "my-site", Dir: "src/my-site", Dockerfile: "Dockerfile", Chart: "src/my-site/chart", Port: 8080, Rollback: slipway.RollbackAutomatic,
			Test:   &slipway.ServiceTest{Stage: "testrunner", Results: "TestResults", Timeout: 10 * time.Minute},
			Verify: slipway.ServiceVerify{Tests: true},
		}}
		if len(services) == 1 {
			if i := services[0].Ignore; i == nil || i.File != "src/my-site/.dockerignore" {
				t.Errorf("%s: ignore file %+v", language, i)
			}
			services[0].Ignore, services[0].DockerfileSum = nil, ""
		}
		if len(problems) > 0 || !reflect.DeepEqual(services, want) {
			t.Errorf("%s: found %+v, %v, want %+v", language, services, problems, want)
		}
	}
}

// Its image is built for a user that is not root, from bases that can be replaced.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	for _, language := range starter.Languages() {
		data, err := os.ReadFile(filepath.Join(write(t, language), "src", "my-site", "Dockerfile"))
		if err != nil {
			t.Fatal(err)
		}
		d, problems := config.ParseDockerfile("Dockerfile", data)
		user := ""
		for line := range strings.Lines(string(data)) {
			switch word, rest, _ := strings.Cut(strings.TrimSpace(line), " "); word {
			case "FROM":
				user = ""
			case "USER":
				user = rest
			}
		}
		if len(problems) > 0 || user != "65532:65532" {
			t.Errorf("%s: user %q, %v", language, user, problems)
		}
		for _, s := range d.Stages {
			if earlier, ok := d.Stage(s.Base); !strings.HasPrefix(s.Base, "${") && (!ok || earlier.Line >= s.Line) {
				t.Errorf("%s: stage %s is built on %s, which no ARG replaces", language, s.Name, s.Base)
			}
		}
	}
}

// Its chart passes the check of every environment without a warning.
func TestChart(t *testing.T) {
	t.Parallel()
	runner := chart.New(helmchart.New(helmchart.Options{Timeout: 5 * time.Minute}), &kubeschema.Library{}, chart.Options{})
	for _, language := range starter.Languages() {
		log := &lines{}
		env := stage.Env{Log: log, Workspace: folders{tree: write(t, language), dir: t.TempDir()}}
		step := slipway.PlanStep{Key: "chart/my-site", Chart: &slipway.ChartSpec{
			Source: slipway.Source{Dir: "src/my-site/chart"}, Service: "my-site", Version: "1.0.2",
			Image: slipway.Repository{Registry: slipway.Registry{Host: "registry.test"}, Name: "shop/my-site"},
		}}
		for _, e := range environments() {
			step.Chart.Renders = append(step.Chart.Renders, slipway.ChartRender{
				Environment: e.Name, Namespace: e.Namespace, Production: true, Manifests: &slipway.ManifestGate{PodSecurity: "restricted"},
			})
		}
		res, err := runner.Run(t.Context(), env, step)
		if err != nil || res.Outcome != slipway.Succeeded || res.Reason != "checked for qa, production" {
			t.Errorf("%s: %+v, %v", language, res, err)
		}
		if text := log.text(); strings.Contains(text, "warning") || strings.Contains(text, "note:") {
			t.Errorf("%s: the chart gives rise to\n%s", language, text)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for _, o := range []starter.Options{{Name: "", Language: "go"}, {Name: "../x", Language: "go"}, {Name: "X", Language: "go"}, {Name: "x"}, {Name: "x", Language: "cobol"}} {
		if files, err := starter.Files(o); slipway.ErrorCode(err) != slipway.Invalid || files != nil {
			t.Errorf("%+v: %d files, %v", o, len(files), err)
		}
	}
}

// folders is a workspace with one tree.
type folders struct{ tree, dir string }

func (f folders) Dir(string) (string, error)                           { return f.dir, nil }
func (f folders) Tree(context.Context, string, string) (string, error) { return f.tree, nil }

// lines is a log in memory.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Printf(format string, args ...any) {
	l.Line(slipway.LogLine{Text: fmt.Sprintf(format, args...)})
}

func (l *lines) Line(in slipway.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, in.Text)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

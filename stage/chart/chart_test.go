package chart_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"go.uber.org/goleak"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/helmchart"
	"github.com/slipway-cd/slipway/driver/kubeschema"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/chart"
)

var update = flag.Bool("update", false, "rewrite what the cases want")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a busy machine may take to render and to trace a chart.
const patience = 5 * time.Minute

// TestCases runs the step with real Helm and the real schema on the charts of testdata: a comment
// with the step's input, the files of the repository, and what the step says.
func TestCases(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tree := t.TempDir()
			want := ""
			for _, f := range ar.Files {
				if f.Name == "want" {
					want = string(f.Data)
					continue
				}
				write(t, tree, f.Name, string(f.Data))
			}
			env := newEnv(t, tree)
			got := say(t, env, parseStep(t, string(ar.Comment)))
			if got == want {
				return
			}
			if !*update {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
				return
			}
			keep := ar.Files[:0]
			for _, f := range ar.Files {
				if f.Name != "want" {
					keep = append(keep, f)
				}
			}
			ar.Files = append(keep, txtar.File{Name: "want", Data: []byte(got)})
			if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
				t.Fatal(err)
			}
		})
	}
}

const goodChart = "testdata/good.txtar"

// unpack writes the repository of a case and returns its step.
func unpack(t testing.TB, file, tree string) slipway.PlanStep {
	t.Helper()
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range ar.Files {
		if f.Name != "want" {
			write(t, tree, f.Name, string(f.Data))
		}
	}
	return parseStep(t, string(ar.Comment))
}

func unpackText(t testing.TB, text, tree string) {
	t.Helper()
	for _, f := range txtar.Parse([]byte(text)).Files {
		write(t, tree, f.Name, string(f.Data))
	}
}

func TestArtifactIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := unpack(t, goodChart, tree)
	run := func(mtime time.Time) (slipway.Artifact, []byte) {
		if err := os.Chtimes(filepath.Join(tree, "chart/values.yaml"), mtime, mtime); err != nil {
			t.Fatal(err)
		}
		env := newEnv(t, tree)
		var a slipway.Artifact
		for range 2 { // the second is the attempt after a crash
			res, err := newRunner(t).Run(t.Context(), env.Env, step)
			if err != nil || len(res.Artifacts) != 1 {
				t.Fatal(res, err)
			}
			a = res.Artifacts[0]
		}
		left, err := os.ReadDir(filepath.Join(env.work, "chart-delivery"))
		if err != nil || len(left) != 1 {
			t.Errorf("%v in the folder, %v", left, err)
		}
		data, err := os.ReadFile(a.Path)
		if err != nil {
			t.Fatal(err)
		}
		return a, data
	}
	a, first := run(created)
	_, second := run(created.Add(time.Hour))
	if !bytes.Equal(first, second) {
		t.Error("the bytes differ")
	}
	sum := sha256.Sum256(first)
	want := slipway.Artifact{Project: "shop", RunID: 7, Step: "chart/delivery", Service: "delivery", Kind: slipway.ArtifactChart, Tag: "1.0.2",
		Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(first)), Path: a.Path, Commit: "c0ffee", CreatedAt: created}
	if a != want {
		t.Errorf("got  %+v\nwant %+v", a, want)
	}
	loaded, err := loader.LoadArchive(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if md := loaded.Metadata; md.Version != "1.0.2" || md.AppVersion != "1.0.2" {
		t.Errorf("version %s, appVersion %s", md.Version, md.AppVersion)
	}
	if !slices.ContainsFunc(loaded.Files, func(f *common.File) bool { return f.Name == "values-production.yaml" }) {
		t.Error("the values of the environment are not packaged")
	}
}

func TestTreeIsNotWrittenTo(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := unpack(t, goodChart, tree)
	list := func() string {
		var b strings.Builder
		err := filepath.WalkDir(tree, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(name)
			fmt.Fprintf(&b, "%s %x\n", name, sha256.Sum256(data))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	before := list()
	if _, err := newRunner(t).Run(t.Context(), newEnv(t, tree).Env, step); err != nil {
		t.Fatal(err)
	}
	if list() != before {
		t.Error("the tree changed")
	}
}

func TestCancelledStepIsAnError(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	step := unpack(t, goodChart, tree)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(slipway.ErrSuperseded)
	if _, err := newRunner(t).Run(ctx, newEnv(t, tree).Env, step); !errors.Is(err, slipway.ErrSuperseded) {
		t.Errorf("got %v", err)
	}
}

func TestTroubleOfTheWorkspaceIsAnError(t *testing.T) {
	t.Parallel()
	step := unpack(t, goodChart, t.TempDir())
	step.Chart.Source.Commit = "unknown"
	if _, err := newRunner(t).Run(t.Context(), newEnv(t, t.TempDir()).Env, step); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("got %v", err)
	}
	step = unpack(t, goodChart, t.TempDir())
	step.Chart.Source.Dir = "" // the standard chart needs no tree, but a place to be written to
	env := newEnv(t, t.TempDir())
	env.work = "/dev/null"
	if _, err := newRunner(t).Run(t.Context(), env.Env, step); err == nil {
		t.Error("no error")
	}
}

func BenchmarkStep(b *testing.B) {
	tree := b.TempDir()
	step := unpack(b, goodChart, tree)
	r := newRunner(b)
	env := newEnv(b, tree)
	for b.Loop() {
		if res, err := r.Run(b.Context(), env.Env, step); err != nil || res.Outcome != slipway.Succeeded {
			b.Fatal(res, err)
		}
	}
}

// say is all that a step says: log, outcome, reason, artifact.
func say(t *testing.T, env *testEnv, step slipway.PlanStep) string {
	t.Helper()
	res, err := newRunner(t).Run(t.Context(), env.Env, step)
	var b strings.Builder
	for _, l := range env.log.lines {
		if l.State == "" {
			fmt.Fprintf(&b, "[%s] %s\n", l.Group, l.Text)
		}
	}
	if err != nil {
		fmt.Fprintf(&b, "error: %v (%s)\n", err, slipway.ErrorCode(err))
		return b.String()
	}
	fmt.Fprintf(&b, "%s: %s\n", res.Outcome, res.Reason)
	for _, a := range res.Artifacts {
		fmt.Fprintf(&b, "artifact: %s %s %s\n", a.Kind, filepath.Base(a.Path), a.Tag)
	}
	return b.String()
}

func newRunner(t testing.TB) *chart.Runner {
	t.Helper()
	helm := helmchart.New(helmchart.Options{Timeout: patience, Now: func() time.Time { return created }})
	return chart.New(helm, &kubeschema.Library{}, chart.Options{Tracer: helm})
}

var created = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// parseStep reads lines such as "dir: svc/chart", "version: 1.0.2" and "env: qa shop-qa a.yaml". Policies
// that most cases are not about are off, unless there is a line "policies: defaults".
func parseStep(t testing.TB, comment string) slipway.PlanStep {
	t.Helper()
	spec := &slipway.ChartSpec{
		Source: slipway.Source{Commit: "c0ffee", Dir: "chart"}, Service: "delivery", Port: 8080, Version: "1.0.2", Created: created,
		Labels: map[string]string{"org.opencontainers.image.revision": "c0ffee"},
		Image:  slipway.Repository{Registry: slipway.Registry{Host: "registry.slipway.test"}, Name: "shop/delivery"},
	}
	gate := &slipway.ManifestGate{Policies: map[string]slipway.Level{
		"standard-labels": slipway.LevelOff, "resources": slipway.LevelOff, "probes": slipway.LevelOff, "privilege-escalation": slipway.LevelOff, "digest-pinned": slipway.LevelOff,
	}}
	for _, line := range strings.Split(comment, "\n") {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "dir":
			spec.Source.Dir = value
		case "version":
			spec.Version = value
		case "env":
			w := strings.Fields(value)
			spec.Renders = append(spec.Renders, slipway.ChartRender{Environment: w[0], Namespace: w[1], Values: w[2:], Production: w[0] == "production"})
		case "kube":
			spec.Renders[len(spec.Renders)-1].KubeVersion = value
		case "policies":
			gate = nil
		case "podSecurity":
			gate = &slipway.ManifestGate{PodSecurity: value}
		}
	}
	for i := range spec.Renders {
		spec.Renders[i].Manifests = gate
	}
	return slipway.PlanStep{Key: "chart/delivery", Kind: slipway.KindChart, Service: "delivery", Chart: spec}
}

type testEnv struct {
	stage.Env
	log  *testLog
	tree string
	work string
}

func newEnv(t testing.TB, tree string) *testEnv {
	t.Helper()
	e := &testEnv{log: &testLog{}, tree: tree, work: t.TempDir()}
	e.Env = stage.Env{Run: slipway.Run{ID: 7, Project: "shop"}, Log: e.log, Workspace: e, Now: func() time.Time { return created }}
	return e
}

func (e *testEnv) Tree(_ context.Context, _, commit string) (string, error) {
	if commit != "c0ffee" {
		return "", slipway.Errorf(slipway.NotFound, "commit %s", commit)
	}
	return e.tree, nil
}

func (e *testEnv) Dir(name string) (string, error) {
	dir := filepath.Join(e.work, name)
	return dir, os.MkdirAll(dir, 0o755)
}

type testLog struct {
	mu    sync.Mutex
	lines []slipway.LogLine
}

func (l *testLog) Line(line slipway.LogLine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *testLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, line := range l.lines {
		b.WriteString(line.Text + "\n")
	}
	return b.String()
}

func (l *testLog) Printf(string, ...any) {}

func write(t testing.TB, dir, name, data string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

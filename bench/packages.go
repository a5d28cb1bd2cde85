package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage/plan"
	"github.com/slipway-cd/slipway/stage/promote"
)

// benchmark is one of a package's own benchmarks.
type benchmark struct {
	what string
	pkg  string
	run  string // -bench
	time string // -benchtime
}

func benchmarks() []benchmark {
	return []benchmark{
		{"run queued to its first step started", "./engine", "^BenchmarkInsertToStart$", "100x"},
		{"step ended to the next one started", "./engine", "^BenchmarkStepToStep$", "10x"},
		{"transitions, each a transaction on disk", "./store", "^BenchmarkTransitions$", "100x"},
		{"views with 1,000 runs in the store", "./store", "^BenchmarkViews$/^(Board|Runs|Run|Trace)$", "50x"},
		{"board, runs of one service, and whose a namespace is, with 500 services and 20,000 runs", "./store", "^BenchmarkLarge$", "20x"},
		{"which of 1,000 services a push affects, with globs and dependencies 10 deep", "./stage/plan", "^BenchmarkAffected$", "10x"},
		{"check of a chart with 100 resources for three environments, and one whose check is reused", "./stage/chart", "^BenchmarkReused$", "10x"},
		{"JUnit file of 50,000 tests, at most 1 s", "./stage/test", "^BenchmarkJUnit$", "5x"},
		{"end of a step with a report of 50,000 tests, after 20 of them", "./store", "^BenchmarkFinishTests$", "5x"},
		{"schema check of 100 resources", "./driver/kubeschema", "^Benchmark100Objects$", "20x"},
		{"schema and policies of a chart with 100 resources, at most 200 ms; first: the schema is read; traced: the lines of 100 problems", "./stage/chart", "^BenchmarkJudge$", "20x"},
	}
}

// testPackages are those whose benchmarks a measurement runs.
func testPackages(o options) []string {
	var all []string
	if o.wants("plan") {
		all = append(all, planPackage)
	}
	if o.wants("packages") {
		for _, b := range benchmarks() {
			all = append(all, b.pkg)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// buildTests builds the packages' tests, all at once and before anything is measured.
func (w *world) buildTests(ctx context.Context) error {
	all := testPackages(w.o)
	if len(all) == 0 {
		return nil
	}
	w.say("building the benchmarks of %d packages", len(all))
	root, err := slipwaytest.Root()
	if err != nil {
		return err
	}
	dir := filepath.Join(w.dir, "tests")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	_, err = command(ctx, root, "go", append([]string{"test", "-c", "-o", dir + string(filepath.Separator)}, all...)...)
	return err
}

// runBenchmark runs benchmarks of a package whose tests were built, in its folder, and returns what they print.
func (w *world) runBenchmark(ctx context.Context, pkg, run, times string) (string, error) {
	root, err := slipwaytest.Root()
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(w.dir, "tests", path.Base(pkg)+".test"), "-test.run", "^$", "-test.bench", run, "-test.benchtime", times)
	cmd.Dir = filepath.Join(root, pkg)
	cmd.Env = append(os.Environ(), "SLIPWAY_E2E=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", pkg, err, out)
	}
	return string(out), err
}

// measurePackages runs benchmarks of the packages and shows what they report; none has a budget here.
func measurePackages(ctx context.Context, w *world) ([]row, error) {
	var rows [][]string
	var problems []error
	for _, b := range benchmarks() {
		out, err := w.runBenchmark(ctx, b.pkg, b.run, b.time)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		found := results(out)
		if len(found) == 0 {
			problems = append(problems, fmt.Errorf("%s has no benchmark %s", b.pkg, b.run))
		}
		for _, r := range found {
			rows = append(rows, append([]string{b.what, "`" + strings.TrimPrefix(b.pkg, "./") + "` " + r[0]}, r[1]))
		}
	}
	planned, steps, err := planMany(w.o.times(50))
	problems = append(problems, err)
	rows = append(rows, []string{fmt.Sprintf("plan of 500 changed services to development, %d steps", steps), "`stage/plan`, `stage/promote`", planned.String()})
	w.note("Benchmarks of the packages", "%s", cells([]string{"What", "Benchmark", "Result"}, rows))
	return nil, errors.Join(problems...)
}

// planMany plans a merge that changed each of 500 services.
func planMany(times int) (sample, int, error) {
	in := plan.Input{
		Project: slipway.Project{Name: project, DefaultBranch: "main"}, CommitTime: time.Now(), Changes: map[string]plan.Change{},
		Run: slipway.Run{ID: 1, Project: project, Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: strings.Repeat("a", 40), Title: "Change everything"},
	}
	in.Config.Environments = []slipway.Environment{{Name: "development", Trigger: slipway.OnDefaultBranch, Cluster: "default", Namespace: project + "-development"}}
	for i := range 500 {
		name := fmt.Sprintf("service%d", i)
		in.Config.Services = append(in.Config.Services, slipway.Service{Name: name, Dir: "src/" + name, Dockerfile: "Dockerfile", Chart: "src/" + name + "/chart",
			Test: &slipway.ServiceTest{Stage: "testrunner", Results: "results"}, Verify: slipway.ServiceVerify{Tests: true}})
		in.Changes[name] = plan.Change{Changed: true, Files: 1, Total: 500, Example: "main.go"}
	}
	var took []time.Duration
	steps := 0
	for range times {
		began := time.Now()
		p, err := plan.Plan(in)
		if err == nil {
			p, err = promote.Extend(p, promote.Input{Project: in.Project, Run: in.Run, Config: in.Config})
		}
		if err != nil {
			return sample{}, 0, err
		}
		took, steps = append(took, time.Since(began)), len(p.Steps)
	}
	return millis(took), steps, nil
}

var (
	resultExpr = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)
	metricExpr = regexp.MustCompile(`([\d.]+) (\S+)`)
)

// results are the names and figures that go test printed: its own metrics where a benchmark reports some,
// else the time of one operation.
func results(out string) [][2]string {
	var all [][2]string
	for _, m := range resultExpr.FindAllStringSubmatch(out, -1) {
		perOp, own := "", []string{}
		for _, f := range metricExpr.FindAllStringSubmatch(m[2], -1) {
			v, err := strconv.ParseFloat(f[1], 64)
			switch {
			case err != nil, strings.HasPrefix(f[2], "B/"), strings.HasPrefix(f[2], "allocs/"):
			case f[2] == "ns/op":
				perOp = number(v/1e6) + " ms"
			default:
				own = append(own, number(v)+" "+f[2])
			}
		}
		if len(own) > 0 {
			perOp = strings.Join(own, ", ")
		}
		all = append(all, [2]string{m[1], perOp})
	}
	return all
}

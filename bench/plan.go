package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

const (
	planBudget = 3   // times git diff-tree
	planLimit  = 100 // ms

	planPackage = "./act"
)

// measurePlan runs the benchmark of package act, which compares and plans in turns. It needs no server.
func measurePlan(ctx context.Context, w *world) ([]row, error) {
	out, err := w.runBenchmark(ctx, planPackage, "^BenchmarkPlanOfAPush$", fmt.Sprintf("%dx", min(w.o.times(50), 60)))
	if err != nil {
		return nil, err
	}
	next, err := measured(out, "PlanOfAPush/next")
	if err != nil {
		return nil, err
	}
	restarted, err := measured(out, "PlanOfAPush/after_a_restart")
	if err != nil {
		return nil, err
	}
	diff := next["git diff-tree"]
	rows := []row{
		ratioRow("Plan of a push of 100 files, 500 services, 20,000 commits, against `git diff-tree` alone", next["plan"], diff, planBudget),
		limitRow("… its time", next["plan"], sample{}, planLimit),
		limitRow("… after a restart, with nothing read before", restarted["plan"], restarted["git diff-tree"], planLimit),
		ratioRow("… what changed and which services run, alone", next["which services run"], diff, 0),
	}
	w.note("How a plan is measured", "%s", `A repository of 20,000 commits and 10,000 files, of which 500 folders have a Dockerfile and a chart; no two Dockerfiles
are the same. Each push changes 100 files of 20 services, and is another one each time; the commit that it builds upon was planned
before. The plan is all that a server does for it: both copies of the configuration, what changed, which services run and why,
their revisions, and the steps. What it is compared with is git diff-tree -r of the same two commits, started for each, in turns
with the plan. After a restart, each folder and Dockerfile is read again, and the process that reads them is started.`)
	return rows, nil
}

// measured are the samples, in milliseconds, that a benchmark logged.
func measured(out, name string) (map[string]sample, error) {
	for line := range strings.Lines(out) {
		_, logged, ok := strings.Cut(line, "measured Benchmark"+name)
		if !ok {
			continue
		}
		_, values, _ := strings.Cut(logged, ": ")
		var times map[string][]float64
		if err := json.Unmarshal([]byte(values), &times); err != nil {
			return nil, fmt.Errorf("read what Benchmark%s measured: %w", name, err)
		}
		samples := map[string]sample{}
		for what, v := range times {
			samples[what] = sample{unit: "ms", values: v}
		}
		return samples, nil
	}
	return nil, fmt.Errorf("Benchmark%s logged no measurements:\n%s", name, out)
}

package laptop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/reuse"
)

// Results keeps how builds and tests of a project ended on this machine, by their inputs: a file each.
// Several processes may use one folder at once: files are put there whole, and equal inputs have equal results.
type Results struct {
	dir   string
	blind bool // finds nothing, and keeps all the same
	now   func() time.Time
}

const (
	maxResults     = 500     // of a project; those used last stay
	maxResultBytes = 4 << 20 // a larger one is not kept
)

// OpenResults is the folder of a project in the user's cache.
func OpenResults(project string, blind bool) (Results, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return Results{}, fmt.Errorf("find the folder for results: %w", err)
	}
	return Results{dir: filepath.Join(cache, "slipway", "run", "results", project), blind: blind, now: time.Now}, nil
}

var inputsExpr = regexp.MustCompile(`^sha256:([0-9a-f]{64})$`)

// file is where the result of a step with these inputs is; "" for no inputs.
func (r Results) file(inputs string, trust slipway.Trust) string {
	m := inputsExpr.FindStringSubmatch(inputs)
	if m == nil {
		return ""
	}
	return filepath.Join(r.dir, m[1]+"-"+filepath.Base(string(trust))+".json")
}

// Earlier is the newest result on these inputs that fits. What cannot be read is none.
func (r Results) Earlier(_ context.Context, _, inputs string, fits func(slipway.PlanStep) bool) (found slipway.Earlier, ok bool, err error) {
	if r.blind {
		return found, false, nil
	}
	used := ""
	for _, trust := range []slipway.Trust{slipway.TrustFork, slipway.TrustBranch, slipway.TrustReviewed} {
		file := r.file(inputs, trust)
		b, err := os.ReadFile(file)
		var e slipway.Earlier
		if err != nil || json.Unmarshal(b, &e) != nil || !fits(e.Step.Spec) || ok && e.Step.RunID <= found.Step.RunID {
			continue
		}
		found, ok, used = e, true, file
	}
	if ok {
		now := r.now()
		_ = os.Chtimes(used, now, now) // who cannot is at worst cleared away too early
	}
	return found, ok, nil
}

// keeping keeps what a step did that succeeded.
func (r Results) keeping(inner stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		res, err := inner.Run(ctx, env, step)
		if err != nil || res.Outcome != slipway.Succeeded || res.Inputs == "" || res.ReusedFrom != 0 {
			return res, err
		}
		if err := r.keep(step, res); err != nil {
			env.Log.Printf("not kept for the next run: %s", err)
		}
		return res, nil
	})
}

func (r Results) keep(step slipway.PlanStep, res slipway.Result) error {
	trust := slipway.TrustBranch
	switch {
	case step.Build != nil:
		trust = step.Build.Trust
	case step.Test != nil:
		trust = step.Test.Trust
	}
	file, now := r.file(res.Inputs, trust), r.now()
	if file == "" {
		return nil
	}
	b, err := json.Marshal(slipway.Earlier{
		Step:      slipway.Step{RunID: now.Unix(), Spec: step, State: slipway.StepSucceeded, FinishedAt: now}, // a run here has no number but its time
		Artifacts: res.Artifacts, Report: res.Report,
	})
	if err != nil || len(b) > maxResultBytes {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(r.dir, ".new-")
	if err != nil {
		return err
	}
	_, err = temp.Write(b)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return r.clear()
}

// clear removes the results that were not used for the longest time, where there are too many.
func (r Results) clear() error {
	entries, err := os.ReadDir(r.dir)
	if err != nil || len(entries) <= maxResults {
		return err
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil { // else another process was quicker
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files[:max(0, len(files)-maxResults)] {
		if err := os.Remove(filepath.Join(r.dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Reusing takes the results of earlier runs on the same inputs, as a server does; with a deployer only where their images are still in its registry.
func (r Results) Reusing(inner stage.Runner, x Checkouts, d *Deployer, bases reuse.Bases) stage.Runner {
	runner := reuse.Runner{
		Inner: inner, Past: r, Bases: bases, Version: buildkit.Version, BaseImages: config.BaseImages,
		Repo:  func(codebase string) reuse.Repo { return x.Repo(codebase) },
		Named: func(s slipway.Step) string { return "same inputs as " + clockTime(s.FinishedAt.Local(), r.now()) },
	}
	if d != nil {
		runner.Images = d.registry
	}
	return r.keeping(runner)
}

// clockTime is the time of day, with the day when it is another one than now's.
func clockTime(t, now time.Time) string {
	if t.Format(time.DateOnly) == now.Local().Format(time.DateOnly) {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}

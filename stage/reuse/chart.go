package reuse

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// Charts checks and packages charts.
type Charts interface {
	stage.Runner
	// Pack packages the chart of a step without checking it.
	Pack(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error)
	// APIs tells apart what the objects of each environment are checked against now, "" where that cannot be told.
	APIs(ctx context.Context, env stage.Env, step slipway.PlanStep) (map[string]string, error)
}

// Chart does chart steps with Inner. A chart that was checked before, for the same environments and against the
// same API, is not checked again: it is packaged with its version, and what was found out about it is taken
// over. What gates say of that is theirs to say anew.
type Chart struct {
	Inner Charts
	Repo  func(codebase string) Repo // by the codebase's key
	Past  Past
	// Version is of all that turns inputs into results, policies and the standard chart among it. Empty: nothing is
	// reused.
	Version string
}

// Run looks for the result and does the step where there is none. Trouble with looking is not trouble with
// the step.
func (r Chart) Run(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
	key, err := r.inputs(ctx, env, step)
	if err == nil && key != "" {
		var res slipway.Result
		var ok bool
		if res, ok, err = r.earlier(ctx, env, step, key); err == nil && ok {
			env.Log.Printf("%s: the same chart, environments, policies and API", res.Reason)
			return res, nil
		}
	}
	if ctx.Err() != nil {
		return slipway.Result{}, context.Cause(ctx)
	}
	if err != nil {
		env.Log.Printf("not looked for an earlier result: %s", err)
	}
	res, err := r.Inner.Run(ctx, env, step)
	if err == nil && res.Outcome == slipway.Succeeded {
		res.Inputs = key
	}
	return res, err
}

// inputs is a hash of what the result depends on, but for the environments and their APIs, which are compared.
func (r Chart) inputs(ctx context.Context, env stage.Env, step slipway.PlanStep) (string, error) {
	c := step.Chart
	if c == nil || r.Version == "" {
		return "", nil
	}
	tree := ""
	if c.Source.Dir != "" {
		var err error
		repo := r.Repo(slipway.CodebaseKey(env.Run.Project, c.Source.Codebase))
		if tree, err = repo.TreeHash(ctx, c.Source.Commit, c.Source.Dir); err != nil {
			return "", fmt.Errorf("find the files of the chart: %w", err)
		}
	}
	version, labels, port := c.Version, c.Labels, 0
	if tree == "" { // the standard chart
		port = c.Port
	}
	if unreleased(version) {
		version, labels = "", nil
	}
	return hash("chart", r.Version, c.Service, port, c.Source.Dir, tree, c.Image.Ref(), version, labels, env.Run.Fork)
}

// unreleased reports whether a version is one of those that commits get which are no release: they name the commit
// and say nothing else, so that charts are the same with each.
func unreleased(version string) bool { return strings.HasPrefix(version, "0.0.0-") }

func (r Chart) earlier(ctx context.Context, env stage.Env, step slipway.PlanStep, key string) (slipway.Result, bool, error) {
	found, ok, err := r.Past.Earlier(ctx, env.Run.Project, key, func(p slipway.PlanStep) bool { return rendersAll(p.Chart, step.Chart) })
	if err != nil || !ok {
		return slipway.Result{}, false, err
	}
	apis, err := r.Inner.APIs(ctx, env, step)
	if err != nil {
		return slipway.Result{}, false, err
	}
	var reports []slipway.ManifestReport
	for _, name := range environments(step.Chart) {
		i := slices.IndexFunc(found.Manifests, func(m slipway.ManifestReport) bool { return m.Environment == name })
		if i < 0 || apis[name] == "" || found.Manifests[i].API != apis[name] {
			return slipway.Result{}, false, nil
		}
		reports = append(reports, found.Manifests[i])
	}
	res, err := r.Inner.Pack(ctx, env, step)
	if err != nil || res.Outcome != slipway.Succeeded {
		return slipway.Result{}, false, err // the step says what is wrong with it
	}
	from := cmp.Or(found.Step.ReusedFrom, found.Step.RunID)
	res.Reason = fmt.Sprintf("reused from run #%d, packaged as %s", from, step.Chart.Version)
	res.ReusedFrom, res.Inputs, res.Manifests = from, key, reports
	return res, true, nil
}

// rendersAll reports whether an earlier step rendered for each environment of a step as this one would.
func rendersAll(was, is *slipway.ChartSpec) bool {
	if was == nil || is == nil || (len(is.Renders) == 0) != (len(was.Renders) == 0) {
		return false
	}
	return !slices.ContainsFunc(is.Renders, func(r slipway.ChartRender) bool {
		return !slices.ContainsFunc(was.Renders, func(w slipway.ChartRender) bool { return sameRender(w, r) })
	})
}

func sameRender(a, b slipway.ChartRender) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// environments are those that a step has a report for.
func environments(c *slipway.ChartSpec) []string {
	if len(c.Renders) == 0 {
		return []string{""}
	}
	var out []string
	for _, r := range c.Renders {
		out = append(out, r.Environment)
	}
	return out
}

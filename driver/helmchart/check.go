package helmchart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/slipway-cd/slipway/stage/chart"
)

// request is what is checked, also on its way to a process of its own.
type request struct {
	Chart   chart.Chart    `json:"chart"`
	Dir     string         `json:"dir"` // the same files on disk, for the linter
	Renders []chart.Render `json:"renders"`
	Now     time.Time      `json:"now"`
	// Rehearsal renders once, and neither lints nor tells what came out.
	Rehearsal bool `json:"rehearsal,omitempty"`
	// Fields, when there are any, are traced in the first of the renders, and nothing else is done.
	Fields []chart.Field `json:"fields,omitempty"`
	// Bound is how long they are traced: what is known by then is the answer.
	Bound time.Duration `json:"bound,omitempty"`
}

// response is the answer to a request.
type response struct {
	Rendered []chart.Rendered `json:"rendered,omitempty"` // one for each render
	Origins  []chart.Origin   `json:"origins,omitempty"`  // one for each field
}

var (
	errTooLong  = errors.New("rendering takes too long")
	errTooLarge = errors.New("rendering takes too much memory")
)

// bound says which bound was passed.
func (h *Helm) bound(err error) string {
	if errors.Is(err, errTooLarge) {
		return "rendering takes more memory than a chart may: look for a loop that does not end"
	}
	return fmt.Sprintf("rendering takes longer than %s: look for a loop that does not end", h.opts.Timeout)
}

// Check implements chart.Helm. What the linter says comes with the first render.
func (h *Helm) Check(ctx context.Context, c chart.Chart, renders []chart.Render) ([]chart.Rendered, error) {
	if len(renders) == 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp(h.opts.Temp, "slipway-chart-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the linter: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := writeFiles(dir, c.Files); err != nil {
		return nil, fmt.Errorf("write the chart for the linter: %w", err)
	}
	got, err := h.render(ctx, request{Chart: c, Dir: dir, Renders: renders, Now: h.opts.Now()})
	if errors.Is(err, errTooLong) || errors.Is(err, errTooLarge) {
		out := make([]chart.Rendered, len(renders))
		out[0].Problems = []chart.Problem{failure("templates", 0, h.bound(err))}
		return out, nil
	}
	return got.Rendered, err
}

// render answers a request within the bounds; its error is errTooLong or errTooLarge when they do not
// suffice.
func (h *Helm) render(ctx context.Context, req request) (response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, h.opts.Timeout, errTooLong)
	defer cancel()
	if len(h.opts.Process) > 0 {
		return h.inProcess(ctx, req)
	}
	return inGoroutine(ctx, req)
}

// inGoroutine leaves the goroutine behind when ctx ends first.
func inGoroutine(ctx context.Context, req request) (response, error) {
	type answer struct {
		out response
		err error
	}
	done := make(chan answer, 1)
	go func() {
		out, err := check(ctx, req)
		done <- answer{out, err}
	}()
	select {
	case a := <-done:
		return a.out, a.err
	case <-ctx.Done():
		return response{}, context.Cause(ctx)
	}
}

func check(ctx context.Context, req request) (out response, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("helm panicked: %v", p)
		}
	}()
	if len(req.Fields) > 0 {
		return response{Origins: trace(ctx, req)}, nil
	}
	out.Rendered = make([]chart.Rendered, len(req.Renders))
	for i, r := range req.Renders {
		if ctx.Err() != nil {
			return response{}, context.Cause(ctx)
		}
		if req.Rehearsal {
			renderFiles(ctx, req.Chart, r, req.Now)
			continue
		}
		got, ok := renderTwice(ctx, req.Chart, r, req.Now)
		if i == 0 {
			got.Problems = merge(lintChart(req, r, ok), got.Problems)
		}
		out.Rendered[i] = got
	}
	return out, nil
}

// merge adds problems that are not there yet: the linter and the renderer see some of the same ones.
func merge(a, b []chart.Problem) []chart.Problem {
	seen := map[chart.Problem]bool{}
	var out []chart.Problem
	for _, p := range append(a, b...) {
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	return out
}

func writeFiles(dir string, files []chart.File) error {
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

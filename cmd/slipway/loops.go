package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/slipway-cd/slipway"
)

// codebases are those of all projects.
func (s *server) codebases(ctx context.Context) (all []slipway.Codebase, err error) {
	projects, err := s.store.Projects(ctx)
	for _, p := range projects {
		further, ferr := s.store.Codebases(ctx, p.Name)
		all, err = append(append(all, p.Main()), further...), errors.Join(err, ferr)
	}
	return all, err
}

// lateEvery is how often runs are tried again that could not be started when their refs moved.
const lateEvery = 5 * time.Second

func (s *server) startLate(ctx context.Context) {
	tick := time.NewTicker(lateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.actions.Late(ctx)
		}
	}
}

const (
	// keepWorkspaces is how long the workspace of a run that did not succeed is kept: a retry goes on
	// with what its steps left there.
	keepWorkspaces = 24 * time.Hour
	sweepEvery     = time.Hour
	// keepDeliveries is how long it is remembered which deliveries came, and what forges were told.
	keepDeliveries = 60 * 24 * time.Hour
	// keepAttachments is how long the files that tests left are kept of runs without a release.
	keepAttachments = 90 * 24 * time.Hour
)

// kept reports whether a file of a workspace is still there.
func kept(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// cleanRuns removes the workspaces of runs that nobody will go on with: at once when they succeed,
// the others after a while.
func (s *server) cleanRuns(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	after, err := s.store.LastEvent(ctx)
	for {
		changed := s.store.Watch()
		if err == nil {
			after, err = s.cleanSucceeded(ctx, after)
		}
		if err != nil && ctx.Err() == nil {
			s.log.Error("clean workspaces; the next sweep does", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			if after, err = s.store.LastEvent(ctx); err == nil {
				err = errors.Join(s.cleanEnded(ctx), s.store.PruneForges(ctx, time.Now().Add(-keepDeliveries)), s.store.PruneAttachments(ctx, time.Now().Add(-keepAttachments)))
			}
		}
	}
}

// cleanSucceeded removes the workspaces of runs that succeeded after an event, and returns the last one.
func (s *server) cleanSucceeded(ctx context.Context, after int64) (int64, error) {
	for {
		events, err := s.store.Events(ctx, after, slipway.EventFilter{Kind: "run.succeeded"})
		if err != nil || len(events) == 0 {
			return after, err
		}
		for _, e := range events {
			after = e.ID
			if err := s.workspaces.Remove(e.RunID); err != nil {
				return after, fmt.Errorf("workspace of run #%d: %w", e.RunID, err)
			}
		}
	}
}

// wanted reports whether the workspace of a run may still be used.
func (s *server) wanted(ctx context.Context, run int64) bool {
	d, err := s.store.Run(ctx, run)
	switch {
	case slipway.ErrorCode(err) == slipway.NotFound:
		return false
	case err != nil:
		return true
	case d.Run.State == slipway.RunSucceeded:
		return false
	}
	return !d.Run.State.Final() || time.Since(d.Run.FinishedAt) < keepWorkspaces
}

// sweep removes, before any step runs, what a killed process left half-made, and the workspaces that
// nobody wants.
func (s *server) sweep(ctx context.Context) error {
	return s.workspaces.Sweep(func(run int64) bool { return s.wanted(ctx, run) })
}

// cleanEnded removes the workspaces that nobody wants while others are used.
func (s *server) cleanEnded(ctx context.Context) error {
	entries, err := os.ReadDir(s.workDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		run, nerr := strconv.ParseInt(e.Name(), 10, 64)
		if nerr != nil || s.wanted(ctx, run) {
			continue
		}
		err = errors.Join(err, s.workspaces.Remove(run))
	}
	return err
}

// metrics are those of Go, of the process, and how many runs, steps, approvals and deployments there
// are in which state.
func (s *server) metrics() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &counts{s})
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

type counts struct{ s *server }

// Describe says nothing: which series there are depends on the data.
func (c *counts) Describe(chan<- *prometheus.Desc) {}

// Collect counts.
func (c *counts) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := c.s.store.Metrics(ctx)
	if err != nil {
		c.s.log.Error("collect metrics", "error", err)
		return
	}
	c.forges(ctx, out)
	for table, states := range all {
		desc := prometheus.NewDesc("slipway_"+table, "Number of "+table+" by state.", []string{"state"}, nil)
		for state, n := range states {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n), state)
		}
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc("slipway_running_steps", "Steps at work in this process.", nil, nil), prometheus.GaugeValue, float64(c.s.engine.Running()))
	if stats, err := c.s.registry.Stats(); err == nil {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc("slipway_registry_bytes", "Bytes of the embedded registry.", nil, nil), prometheus.GaugeValue, float64(stats.Bytes))
	}
}

// forges says of each codebase on a forge whether the forge does what it is asked, what waits, and how far
// behind the forge is.
func (c *counts) forges(ctx context.Context, out chan<- prometheus.Metric) {
	connections, err := c.s.store.Connections(ctx)
	for _, k := range connections {
		d, derr := c.s.store.CodebaseDetail(ctx, k.Key())
		if derr != nil || d.Health == nil {
			err = errors.Join(err, derr)
			continue
		}
		for name, v := range map[string]struct {
			help string
			n    int
		}{
			"slipway_forge_problems":           {"What the forge of a codebase refuses; 0 is good.", len(d.Health.Problems)},
			"slipway_forge_deliveries_waiting": {"Deliveries of a codebase's webhook that are not processed yet.", d.Health.Waiting},
			"slipway_forge_events_behind":      {"Events of a project that the forge of a codebase was not told of yet.", d.Health.Behind},
		} {
			desc := prometheus.NewDesc(name, v.help, []string{"project", "codebase", "forge"}, nil)
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v.n), k.Project, first(k.Codebase, slipway.MainCodebase), string(k.Forge))
		}
	}
	if err != nil {
		c.s.log.Error("collect metrics of forges", "error", err)
	}
}

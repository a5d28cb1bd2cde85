package main

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/slipway-cd/slipway"
)

// pollMirrors fetches the mirrored repositories every so often, one after another.
func (s *server) pollMirrors(ctx context.Context) {
	tick := time.NewTicker(s.opts.poll)
	defer tick.Stop()
	for {
		projects, err := s.store.Projects(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Error("poll mirrors", "error", err)
		}
		for _, p := range projects {
			if p.GitURL == "" {
				continue
			}
			if err := s.pollMirror(ctx, p); err != nil && ctx.Err() == nil {
				s.log.Warn("poll mirror", "project", p.Name, "error", err)
			}
		}
		changed := s.store.Watch()
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				waiting = false
			case <-changed:
				changed = s.store.Watch()
				waiting = !s.newMirror(ctx, projects)
			}
		}
	}
}

// newMirror reports whether a mirrored project was added since.
func (s *server) newMirror(ctx context.Context, known []slipway.Project) bool {
	now, err := s.store.Projects(ctx)
	return err == nil && len(now) > len(known) && now[len(now)-1].GitURL != ""
}

// cleanRuns removes the workspaces of runs that have ended.
func (s *server) cleanRuns(ctx context.Context) {
	after, err := s.store.LastEvent(ctx)
	for err == nil {
		changed := s.store.Watch()
		var events []slipway.Event
		if events, err = s.store.Events(ctx, after, slipway.EventFilter{Kind: "run."}); err != nil {
			break
		}
		for _, e := range events {
			after = e.ID
			if d, err := s.store.Run(ctx, e.RunID); err == nil && d.Run.State.Final() {
				if err := s.workspaces.Remove(e.RunID); err != nil {
					s.log.Warn("remove workspace", "run", e.RunID, "error", err)
				}
			}
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
	if ctx.Err() == nil {
		s.log.Error("clean workspaces", "error", err)
	}
}

// sweep removes the workspaces that a killed process left, of runs that have ended.
func (s *server) sweep(ctx context.Context) error {
	return s.workspaces.Sweep(func(run int64) bool {
		d, err := s.store.Run(ctx, run)
		return err == nil && !d.Run.State.Final()
	})
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

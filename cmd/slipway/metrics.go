package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/slipway-cd/slipway"
)

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

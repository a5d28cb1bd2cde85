package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Status describes a cluster at one moment.
type Status struct {
	Name       string            `json:"name"`
	Dir        string            `json:"dir"`
	State      State             `json:"state"`
	Kubeconfig string            `json:"kubeconfig"`
	Server     string            `json:"server"`
	Network    Network           `json:"network"`
	Registries map[string]string `json:"registries"`
	Components []ComponentStatus `json:"components"`
	// PodProcesses counts the processes in pods.
	PodProcesses int `json:"pod_processes"`
	// PodMemory is their share of the machine's memory in bytes.
	PodMemory int64 `json:"pod_memory_bytes"`
}

// State is the state of a whole cluster.
type State string

// The states of a cluster.
const (
	Running  State = "running"  // every component does its work
	Degraded State = "degraded" // some component runs, and some does not do its work
	Stopped  State = "stopped"  // no component runs
)

// ComponentStatus describes one process of a cluster.
type ComponentStatus struct {
	Name string `json:"name"`
	// PID is 0 when the component does not run.
	PID     int    `json:"pid"`
	Healthy bool   `json:"healthy"`
	Problem string `json:"problem,omitempty"`
	// Memory is its share of the machine's memory in bytes.
	Memory int64  `json:"memory_bytes"`
	Log    string `json:"log"`
}

// Status looks at every component. It takes at most about a second.
func (c *Cluster) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	components := c.components()
	s := Status{
		Name: c.Name, Dir: c.Dir, Kubeconfig: c.Kubeconfig(), Server: c.server(), Network: c.Network,
		Registries: c.Registries, Components: make([]ComponentStatus, len(components)),
	}
	var group sync.WaitGroup
	for i, one := range components {
		group.Go(func() { s.Components[i] = c.componentStatus(ctx, one) })
	}
	group.Wait()
	for _, pid := range unique(groupProcesses(c.groups())) {
		s.PodProcesses++
		s.PodMemory += memory(pid)
	}
	s.State = overall(s.Components)
	return s
}

func (c *Cluster) componentStatus(ctx context.Context, one component) ComponentStatus {
	s := ComponentStatus{Name: one.name, PID: c.find(one.name).pid, Log: c.LogFile(one.name)}
	if s.PID == 0 {
		s.Problem = "does not run"
		return s
	}
	s.Memory = memory(s.PID)
	if err := one.health(ctx); err != nil {
		s.Problem = err.Error()
		return s
	}
	s.Healthy = true
	return s
}

// overall sums up the components' states.
func overall(components []ComponentStatus) State {
	alive, healthy := 0, 0
	for _, one := range components {
		if one.PID != 0 {
			alive++
		}
		if one.Healthy {
			healthy++
		}
	}
	switch {
	case alive == 0:
		return Stopped
	case healthy == len(components):
		return Running
	}
	return Degraded
}

// Healthy returns nil if every component does its work, and otherwise what is
// wrong with each that does not.
func (c *Cluster) Healthy(ctx context.Context) error {
	var errs []error
	for _, one := range c.Status(ctx).Components {
		if !one.Healthy {
			errs = append(errs, fmt.Errorf("%s: %s", one.Name, one.Problem))
		}
	}
	return errors.Join(errs...)
}

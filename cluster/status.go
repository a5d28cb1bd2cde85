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

// patience is how long one answer of a component may take: on a busy machine
// one that does its work may need seconds for it.
const patience = 5 * time.Second

// Status looks at every component. It takes as long as the slowest answer, and
// at most about five seconds.
func (c *Cluster) Status(ctx context.Context) Status {
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// stands returns nil when every component does its work. One that does not run
// ends the waiting at once; one that runs has half a minute to answer, so that
// a busy machine is not taken for a broken cluster.
func (c *Cluster) stands(ctx context.Context, components []component) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, one := range components {
		alive, dead := context.WithCancelCause(ctx)
		err := until(alive, 50*time.Millisecond, func(ctx context.Context) error {
			if c.find(one.name).pid == 0 {
				dead(errors.New("it does not run"))
				return ctx.Err()
			}
			return one.health(ctx)
		})
		dead(nil)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
)

// Down stops the cluster and removes everything it made on this machine, its
// folder included; only cached binaries stay. It does what it can after an
// error, may be repeated, and does nothing if there is no cluster.
func (c *Cluster) Down(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("removing a cluster needs root")
	}
	unlock, err := lockMachine(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.checkDir(); err != nil {
		return err
	}
	displaced, err := c.displaced()
	if err != nil {
		return err
	}
	if err := c.clear(ctx); err != nil {
		return err
	}
	if !displaced {
		if err := c.restoreSysctls(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("remove the cluster's folder: %w", err)
	}
	_ = os.Remove(defaultParent) // stays while another cluster's data is in it
	return c.removeRecord()
}

// clear stops every process of the cluster and removes what is bound to their
// running: mounts, network devices, addresses, firewall rules, control groups,
// sockets. The cluster's data stays, and so does what belongs to a cluster that
// took c's place.
func (c *Cluster) clear(ctx context.Context) error {
	displaced, err := c.displaced()
	if err != nil {
		return err
	}
	if err := c.killAll(ctx); err != nil {
		return fmt.Errorf("stop the cluster: %w", err)
	}
	// The sockets' names are in files that go with the runtime's state.
	errs := []error{c.removeStrays(displaced), c.unmountAll(), c.removeBridge(ctx), c.removeGroups(ctx)}
	if !displaced {
		errs = append(errs, c.removeAddresses(ctx))
	}
	if c.Network.Bridge != "" {
		errs = append(errs, c.removeFirewall(ctx, displaced))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := os.RemoveAll(c.path("run")); err != nil {
		return fmt.Errorf("remove the state of the processes: %w", err)
	}
	return nil
}

func unique[T cmp.Ordered](words []T) []T {
	seen := map[T]bool{}
	var all []T
	for _, word := range words {
		if !seen[word] {
			all = append(all, word)
		}
		seen[word] = true
	}
	slices.Sort(all)
	return all
}

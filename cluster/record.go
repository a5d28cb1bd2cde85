package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// recordFile names the machine's one cluster. It is on /run, so a machine that
// clears /run at boot forgets a cluster that then no longer runs.
const recordFile = "/run/slipway-cluster.json"

// lockFile is held by the one process that starts or removes a cluster.
const lockFile = "/run/slipway-cluster.lock"

// Current returns this machine's cluster as it was when it was started, or nil
// if none was. It knows what to clear away even when somebody removed the
// cluster's folder.
func Current() (*Cluster, error) {
	data, err := os.ReadFile(recordFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find this machine's cluster: %w", err)
	}
	c := &Cluster{}
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("read %s: %w", recordFile, err)
	}
	return c, nil
}

func (c *Cluster) writeRecord() error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(recordFile, append(data, '\n'), 0o644)
}

// removeRecord forgets this machine's cluster if it is c.
func (c *Cluster) removeRecord() error {
	current, err := Current()
	if err != nil || current == nil || current.Dir != c.Dir {
		return err
	}
	return os.Remove(recordFile)
}

// lockMachine waits until no other process starts or removes a cluster.
func lockMachine(ctx context.Context) (unlock func(), err error) {
	var held *os.File
	err = until(ctx, 100*time.Millisecond, func(context.Context) error {
		held, err = tryLock()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("wait for another slipway-cluster at work: %w", err)
	}
	return func() {
		os.Remove(lockFile)
		held.Close()
	}, nil
}

// tryLock locks the file that has the lock's name at that moment: its last
// holder removes it before letting go.
func tryLock() (*os.File, error) {
	file, err := os.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", lockFile, err)
	}
	locked, err := file.Stat()
	if err == nil {
		var named os.FileInfo
		if named, err = os.Stat(lockFile); err == nil && !os.SameFile(locked, named) {
			err = fmt.Errorf("lock %s: it was replaced", lockFile)
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// displaced tells whether another cluster took this machine's place after c
// died. What all clusters share (addresses, kube-proxy's chains, kernel
// settings, the kubelet's fixed socket) is then that one's, and c must leave it
// alone.
func (c *Cluster) displaced() (bool, error) {
	current, err := Current()
	if err != nil {
		return false, err
	}
	return current != nil && current.Dir != c.Dir, nil
}

// OtherClusterError says that this machine's place is taken.
type OtherClusterError struct {
	Name, Dir string
}

func (e *OtherClusterError) Error() string {
	return fmt.Sprintf("cluster %s in %s runs on this machine, and there can be one; remove it with: slipway-cluster down --dir %s",
		e.Name, e.Dir, e.Dir)
}

// claimMachine refuses to start beside another cluster that runs, and clears
// away the processes and settings of another one that does not. That one's
// folder stays.
func (c *Cluster) claimMachine(ctx context.Context) error {
	other, err := Current()
	if err != nil {
		return err
	}
	if other != nil && other.Dir != c.Dir {
		for _, component := range other.components() {
			if other.find(component.name).pid != 0 {
				return &OtherClusterError{Name: other.Name, Dir: other.Dir}
			}
		}
		if err := errors.Join(other.clear(ctx), other.restoreSysctls()); err != nil {
			return fmt.Errorf("clear away what is left of cluster %s in %s: %w", other.Name, other.Dir, err)
		}
	}
	if pid, name := c.foreignNode(); pid != 0 {
		return fmt.Errorf("another Kubernetes runs on this machine: process %d is a %s; both would write the same firewall chains", pid, name)
	}
	return nil
}

// foreignNode finds a kubelet or kube-proxy that is not c's and shares the
// machine's network.
func (c *Cluster) foreignNode() (pid int, name string) {
	own, _ := os.Readlink("/proc/self/ns/net")
	for _, pid := range allProcesses() {
		args := commandLine(pid)
		if len(args) == 0 || c.owns(args) {
			continue
		}
		base := filepath.Base(args[0])
		if base != "kubelet" && base != "kube-proxy" && base != "k3s" {
			continue
		}
		if network, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); network == own {
			return pid, base
		}
	}
	return 0, ""
}

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mounts lists the mount points below dir, deepest first, from the text of
// /proc/self/mountinfo.
func mounts(mountinfo, dir string) []string {
	var found []string
	for _, line := range strings.Split(mountinfo, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescape(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	// Later mounts lie over earlier ones at the same place.
	for i, j := 0, len(found)-1; i < j; i, j = i+1, j-1 {
		found[i], found[j] = found[j], found[i]
	}
	sort.SliceStable(found, func(i, j int) bool {
		return strings.Count(found[i], "/") > strings.Count(found[j], "/")
	})
	return found
}

// unescape undoes the octal escapes of mountinfo.
func unescape(path string) string {
	for _, pair := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		path = strings.ReplaceAll(path, pair[0], pair[1])
	}
	return path
}

// unmountAll detaches every mount below the cluster's folder: pods' volumes,
// containers' file systems and network namespaces.
func (c *Cluster) unmountAll() error {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var errs []error
	for _, point := range mounts(string(info), c.Dir) {
		err := syscall.Unmount(point, syscall.MNT_DETACH)
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

// hierarchies lists where control groups are mounted, from the text of
// /proc/self/mountinfo.
func hierarchies(mountinfo string) []string {
	var found []string
	for _, line := range strings.Split(mountinfo, "\n") {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 {
			continue
		}
		if kind, _, _ := strings.Cut(after, " "); kind == "cgroup" || kind == "cgroup2" {
			found = append(found, unescape(fields[4]))
		}
	}
	return found
}

// groupName is the control group that holds all pods.
func (c *Cluster) groupName() string { return "slipway-" + c.Name }

// groups lists the cluster's control group in every hierarchy, present or not.
func (c *Cluster) groups() []string {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	var found []string
	for _, dir := range hierarchies(string(info)) {
		found = append(found, filepath.Join(dir, c.groupName()))
	}
	return found
}

// makeGroups makes the cluster's control group, in which the kubelet makes
// those of the pods.
func (c *Cluster) makeGroups() error {
	for _, dir := range c.groups() {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make control group: %w", err)
		}
		// A new cpuset is empty, and no process can enter an empty one.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
				return fmt.Errorf("prepare control group %s: %w", dir, err)
			}
		}
	}
	return nil
}

// groupProcesses lists the processes in these control groups and below, but
// not those that ended and wait for their parent.
func groupProcesses(groups []string) []int {
	var pids []int
	for _, group := range groups {
		_ = filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return nil
			}
			data, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, word := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(word); err == nil && pid > 0 && !ended(pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// ended tells whether a process is gone or a zombie.
func ended(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, ok := strings.Cut(string(data), ") ")
	return !ok || strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
}

// removeGroups removes the cluster's control groups. A group stays busy for a
// moment after its last process ended.
func (c *Cluster) removeGroups(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return until(ctx, 20*time.Millisecond, func(context.Context) error {
		var errs []error
		for _, group := range c.groups() {
			var dirs []string
			_ = filepath.WalkDir(group, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for i := len(dirs) - 1; i >= 0; i-- {
				if err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, syscall.ENOENT) {
					errs = append(errs, fmt.Errorf("remove control group %s: %w", dirs[i], err))
				}
			}
		}
		return errors.Join(errs...)
	})
}

// shimSockets lists the sockets of containerd's shims, which lie outside of the
// cluster's folder and stay there when a shim is killed.
func (c *Cluster) shimSockets() []string {
	files, _ := filepath.Glob(c.path("run", "containerd", "io.containerd.runtime.v2.task", "*", "*", "address"))
	var sockets []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err == nil {
			sockets = append(sockets, strings.TrimPrefix(strings.TrimSpace(string(data)), "unix://"))
		}
	}
	return sockets
}

// removeStrays removes what the components write outside of the cluster's
// folder although nothing can tell them not to.
func (c *Cluster) removeStrays(displaced bool) error {
	var errs []error
	remove := func(path string) {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, socket := range c.shimSockets() {
		remove(socket)
	}
	// Results of network plugins: NETWORK-CONTAINER-DEVICE.
	results, _ := filepath.Glob("/var/lib/cni/results/" + c.networkName() + "-*")
	for _, result := range results {
		remove(result)
	}
	logs, _ := filepath.Glob("/var/log/containers/*.log")
	for _, link := range logs {
		target, err := os.Readlink(link)
		if err == nil && strings.HasPrefix(target, c.Dir+"/") {
			remove(link)
		}
	}
	if !displaced {
		remove("/var/lib/kubelet/device-plugins/kubelet.sock")
		remove("/var/lib/kubelet/device-plugins/DEPRECATION")
		remove("/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint")
	}
	// Their folders go when nobody else uses them.
	for _, dir := range []string{
		"/var/lib/kubelet/device-plugins", "/var/lib/kubelet",
		"/run/containerd/s", "/run/containerd", "/var/lib/cni/results", "/var/lib/cni", "/var/log/containers",
	} {
		_ = syscall.Rmdir(dir)
	}
	return errors.Join(errs...)
}

// removeBridge removes the pods' bridge and what is plugged into it.
func (c *Cluster) removeBridge(ctx context.Context) error {
	var errs []error
	bridge := "/sys/class/net/" + c.Network.Bridge
	if _, err := os.Stat(bridge); c.Network.Bridge != "" && err == nil {
		// The kernel removes a pod's link with the pod's network, but when it
		// gets round to it; by then the pod may be gone for long.
		ports, _ := filepath.Glob(bridge + "/brif/*")
		for _, port := range ports {
			_, _ = command(ctx, "ip", "link", "delete", filepath.Base(port))
		}
		_, err := command(ctx, "ip", "link", "delete", c.Network.Bridge)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeAddresses removes the cluster's addresses from the loopback device.
func (c *Cluster) removeAddresses(ctx context.Context) error {
	if !c.Network.Node.IsValid() {
		return nil
	}
	present, err := command(ctx, "ip", "-o", "-4", "address", "show", "dev", "lo")
	if err != nil {
		return err
	}
	var errs []error
	for _, address := range []string{c.Network.Node.String() + "/32", c.Network.DNS.String() + "/32"} {
		if strings.Contains(present, " "+address+" ") {
			_, err := command(ctx, "ip", "address", "delete", address, "dev", "lo")
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// forwarding is on while packets pass between pods and the rest of the world.
const forwarding = "net/ipv4/ip_forward"

// sysctls are the kernel settings this package, the kubelet or a network plugin
// changes and Down sets back.
func sysctls() []string {
	return []string{
		forwarding, "net/bridge/bridge-nf-call-iptables", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
	}
}

// rememberSysctls keeps the first values seen, which were there before.
func (c *Cluster) rememberSysctls() {
	if c.Sysctls == nil {
		c.Sysctls = map[string]string{}
	}
	for _, name := range sysctls() {
		data, err := os.ReadFile("/proc/sys/" + name)
		if _, known := c.Sysctls[name]; !known && err == nil {
			c.Sysctls[name] = strings.TrimSpace(string(data))
		}
	}
}

// restoreSysctls leaves forwarding on when somebody else's bridge may need it.
func (c *Cluster) restoreSysctls() error {
	bridges, err := filepath.Glob("/sys/class/net/*/bridge")
	errs := []error{err}
	for name, value := range c.Sysctls {
		if len(bridges) > 0 && strings.HasPrefix(name, "net/") {
			continue
		}
		if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644); err != nil {
			errs = append(errs, fmt.Errorf("set back %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

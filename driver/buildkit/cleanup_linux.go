package buildkit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// clean removes what a daemon that is gone left behind: containers that still run, their runc state and
// cgroups, mounts below its folder, network namespaces and leased addresses. Its cache stays. It does
// nothing when there is nothing; it must not be called while the daemon runs.
func clean(ctx context.Context, l layout, n network) error {
	// Nothing is deleted while something may be mounted there.
	if err := errors.Join(killContainers(ctx, l, n), unmountBelow(l.dir)); err != nil {
		return err
	}
	var errs []error
	for _, ns := range entries(filepath.Join(l.state(), "net", "cni")) {
		errs = append(errs, removeResults(ns), os.Remove(filepath.Join(l.state(), "net", "cni", ns)))
	}
	unfinished, err := filepath.Glob(filepath.Join(l.state(), "runc-*", "snapshots", "snapshots", "new-*"))
	errs = append(errs, err)
	for _, dir := range unfinished {
		errs = append(errs, os.RemoveAll(dir))
	}
	errs = append(errs,
		os.RemoveAll(l.ipam()),
		os.RemoveAll(l.tmp()),
		os.RemoveAll(l.joins()),
		removeIfThere(l.socket()), removeIfThere(l.otel()), removeIfThere(l.record()))
	return errors.Join(errs...)
}

// killContainers ends every process in the daemon's cgroup, and removes the containers' state.
func killContainers(ctx context.Context, l layout, n network) error {
	parents := cgroups(n.Bridge)
	gone := poll(ctx, 10*time.Second, func() bool {
		left := 0
		for _, parent := range parents {
			for _, pid := range cgroupProcesses(parent) {
				left++
				_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone
			}
		}
		return left == 0
	})
	if !gone {
		return errors.New("containers of an earlier buildkitd do not end")
	}
	// The bundle's folder is named by the container.
	for _, snapshotter := range entries(l.state()) {
		if !strings.HasPrefix(snapshotter, "runc-") {
			continue
		}
		executor := filepath.Join(l.state(), snapshotter, "executor")
		for _, id := range entries(executor) {
			if _, err := os.Stat(filepath.Join("/run/runc", id)); err == nil && l.runc != "" {
				if _, err := runProgram(ctx, l.runc, "delete", "--force", id); err != nil {
					return fmt.Errorf("remove container of an earlier buildkitd: %w", err)
				}
			}
			bundle := filepath.Join(executor, id)
			if _, err := os.Stat(filepath.Join(bundle, "config.json")); err != nil {
				continue
			}
			if err := unmountBelow(bundle); err != nil {
				return err
			}
			if err := os.RemoveAll(bundle); err != nil {
				return err
			}
		}
	}
	for _, parent := range parents {
		removeCgroup(parent)
	}
	return nil
}

// cgroups are the folders of the daemon's cgroup in every hierarchy, version 1, 2 or both.
func cgroups(name string) []string {
	const root = "/sys/fs/cgroup"
	found := []string{}
	for _, dir := range append([]string{root}, prefixed(root, entries(root))...) {
		if p := filepath.Join(dir, name); isDir(p) {
			found = append(found, p)
		}
	}
	return found
}

func cgroupProcesses(dir string) []int {
	var pids []int
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return nil // cgroups come and go while one looks
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, f := range strings.Fields(string(raw)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	return pids
}

// removeCgroup removes a cgroup and those below it, deepest first. Those that are still in use stay.
func removeCgroup(dir string) {
	var dirs []string
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		_ = syscall.Rmdir(d)
	}
}

// unmountBelow unmounts what is mounted at or below a folder, last mounted first.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			points = append(points, point)
		}
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

// unescapeMount undoes the octal escapes of /proc/self/mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// removeResults removes what libcni remembers of a network namespace.
func removeResults(ns string) error {
	if ns == "" {
		return nil
	}
	found, err := filepath.Glob("/var/lib/cni/results/*-" + ns + "-*")
	if err != nil {
		return err
	}
	for _, f := range found {
		if err := removeIfThere(f); err != nil {
			return err
		}
	}
	return nil
}

// removeBridge takes the bridge down and away.
func removeBridge(name string) error {
	if _, err := net.InterfaceByName(name); err != nil {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return fmt.Errorf("read flags of %s: %w", name, err)
	}
	req.SetUint16(req.Uint16() &^ unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("take down %s: %w", name, err)
	}
	buf := append([]byte(name), 0)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCBRDELBR, uintptr(unsafe.Pointer(&buf[0]))); errno != 0 {
		return fmt.Errorf("remove %s: %w", name, errno)
	}
	return nil
}

// usedNetworks are those of interfaces and routes of this machine.
func usedNetworks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var used []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			used = append(used, p.Masked())
		}
	}
	raw, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(raw), "\n")[1:] {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		dst, err1 := routeAddr(f[1])
		mask, err2 := routeAddr(f[7])
		if err1 == nil && err2 == nil {
			ones, _ := net.IPMask(mask.AsSlice()).Size()
			used = append(used, netip.PrefixFrom(dst, ones))
		}
	}
	return used, nil
}

// otherBridges are the bridges of this machine but those of builds and those by which it reaches the
// world.
func otherBridges() []string {
	found, err := filepath.Glob("/sys/class/net/*/bridge")
	if err != nil {
		return nil
	}
	raw, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil
	}
	var uplinks []string
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 1 && f[1] == "00000000" {
			uplinks = append(uplinks, f[0])
		}
	}
	var out []string
	for _, f := range found {
		if name := filepath.Base(filepath.Dir(f)); !slices.Contains(uplinks, name) && !strings.HasPrefix(name, bridgePrefix) {
			out = append(out, name)
		}
	}
	return out
}

// routeAddr reads an address of /proc/net/route, whose bytes are the wrong way round.
func routeAddr(hex string) (netip.Addr, error) {
	v, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.AddrFrom4([4]byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}), nil
}

func entries(dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return names
}

func prefixed(dir string, names []string) []string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = filepath.Join(dir, n)
	}
	return out
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/slipway-cd/slipway"
)

// machine looks at what the own daemon needs of this machine.
func machine(ctx context.Context, opts Options) []Finding {
	found := []Finding{
		{Name: "root", OK: os.Geteuid() == 0, Needed: true, Detail: "BuildKit starts containers",
			Do: "run as root, start Docker, or give the address of a BuildKit (--buildkit, BUILDKIT_HOST)"},
		program("runc", "runc", "runs the containers of builds", "apt-get install runc"),
		program("iptables", "iptables", "keeps builds away from this machine's addresses", "apt-get install iptables"),
		{Name: "CNI plugins", OK: hasPlugins(cniDir()), Needed: true, Detail: "bridge, host-local and loopback make the network of builds (" + cniDir() + ")",
			Do: "apt-get install containernetworking-plugins"},
		cgroupFinding(),
		buildable(opts),
		resolver(opts),
		neighbours(),
		fenceable(ctx, opts),
		joinable(),
	}
	return found
}

func program(name, file, why, do string) Finding {
	path, err := lookProgram(file)
	f := Finding{Name: name, OK: err == nil, Needed: true, Detail: why, Do: do}
	if err == nil {
		f.Detail = path
	}
	return f
}

func hasPlugins(dir string) bool {
	for _, p := range []string{"bridge", "host-local", "loopback"} {
		if dir == "" || !isProgram(filepath.Join(dir, p)) {
			return false
		}
	}
	return true
}

func cgroupFinding() Finding {
	f := Finding{Name: "cgroups", Needed: true, Detail: "no cgroup file system at /sys/fs/cgroup", Do: "mount it, or give this container its host's"}
	raw, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return f
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) > 3 && strings.HasPrefix(fields[1], "/sys/fs/cgroup") && strings.HasPrefix(fields[2], "cgroup") {
			f.OK, f.Detail = true, fields[2]
		}
	}
	return f
}

// buildable says whether buildkitd is there or can be built.
func buildable(opts Options) Finding {
	binary := filepath.Join(opts.Tools, "buildkitd-"+Version)
	f := Finding{Name: "buildkitd", OK: true, Needed: true, Detail: binary}
	if isProgram(binary) {
		return f
	}
	if _, err := lookGo(); err != nil {
		f.OK, f.Detail, f.Do = false, binary+" is missing and Go, to build it, is too", "install Go, or put buildkitd "+Version+" there"
		return f
	}
	f.Detail = "is built from source at first use, some minutes"
	return f
}

// resolver warns of a resolver that only this machine itself can ask.
func resolver(opts Options) Finding {
	f := Finding{Name: "name resolution in builds", OK: true, Detail: "the machine's resolver"}
	if len(opts.Nameservers) > 0 {
		f.Detail = strings.Join(opts.Nameservers, ", ")
		return f
	}
	file := "/etc/resolv.conf"
	if _, err := os.Stat("/run/systemd/resolve/resolv.conf"); err == nil {
		file = "/run/systemd/resolve/resolv.conf"
	}
	servers := nameservers(file)
	for _, s := range servers {
		if !strings.HasPrefix(s, "127.") && s != "::1" {
			f.Detail = strings.Join(servers, ", ")
			return f
		}
	}
	f.OK, f.Detail = false, "the only resolver answers on loopback, which builds do not reach: they ask 8.8.8.8"
	f.Do = "name a resolver for builds, if they need one"
	return f
}

// neighbours warns where two builds at once can reach each other.
func neighbours() Finding {
	_, err := os.Stat("/proc/sys/net/bridge")
	return Finding{
		Name: "isolation between builds", OK: err == nil, Detail: "the kernel module br_netfilter keeps builds that run at the same time apart",
		Do: "modprobe br_netfilter",
	}
}

// joinable says whether tests can have services beside them.
func joinable() Finding {
	f := Finding{Name: "services of tests", OK: true, Detail: "containers beside tests, in a network of each run"}
	if _, err := lookProgram("nsenter"); err != nil {
		f.OK, f.Detail, f.Do = false, "nsenter is missing, which joins containers to the network of their run", "apt-get install util-linux"
	} else if dir := cniDir(); !isProgram(filepath.Join(dir, "static")) {
		f.OK, f.Detail, f.Do = false, "the CNI plugin static is missing in "+dir, "apt-get install containernetworking-plugins"
	}
	return f
}

// fenceFinding is the name of what decides whether the own daemon is fenced.
const fenceFinding = "fence of BuildKit"

// fenceable says whether what the own daemon fetches itself can be kept away from this machine.
func fenceable(ctx context.Context, opts Options) Finding {
	f := Finding{
		Name: fenceFinding, Needed: !opts.AllowShared, Detail: "what BuildKit fetches for a Dockerfile is kept away from this machine",
		Do: "use Linux 5.3, iptables 1.8.4 or newer with the module xt_owner (modprobe xt_owner), or give the address of a BuildKit",
	}
	if os.Geteuid() != 0 {
		f.Detail = "not known: only root can find out"
		return f
	}
	dir := opts.Dir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	fw, err := newFirewall(ctx)
	if err == nil && fw.programs["ip6tables"] == "" && hasIPv6() {
		err = errors.New("this machine has IPv6 and no ip6tables that works")
	}
	if err == nil && !mapped(fenceGroup(dir)) {
		err = errors.New("the group of BuildKit is not mapped into this container")
	}
	if err == nil {
		err = fw.fenceable(ctx, dir)
	}
	if err != nil {
		f.Detail = "a redirect of what a Dockerfile fetches could lead to this machine: " + slipway.FirstLine(err.Error())
		return f
	}
	f.OK = true
	return f
}

func hasIPv6() bool {
	raw, err := os.ReadFile("/proc/net/if_inet6")
	return err == nil && len(raw) > 0
}

// mapped reports whether this process may use a group: in a user namespace it may not be there.
func mapped(group uint32) bool {
	raw, err := os.ReadFile("/proc/self/gid_map")
	if err != nil {
		return true // a kernel without user namespaces
	}
	for line := range strings.Lines(string(raw)) {
		var inside, outside, count uint64
		if n, err := fmt.Sscan(line, &inside, &outside, &count); err == nil && n == 3 && inside <= uint64(group) && uint64(group) < inside+count {
			return true
		}
	}
	return false
}

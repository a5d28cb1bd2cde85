package buildkit

import (
	"os"
	"path/filepath"
	"strings"
)

// machine looks at what the own daemon needs of this machine.
func machine(opts Options) []Finding {
	found := []Finding{
		{Name: "root", OK: os.Geteuid() == 0, Needed: true, Detail: "Slipway's own BuildKit runs as root",
			Do: "run as root, give the address of a BuildKit, or start Docker"},
		program("runc", "runc", "runs the containers of builds", "apt-get install runc"),
		program("iptables", "iptables", "keeps builds away from this machine's addresses", "apt-get install iptables"),
		{Name: "CNI plugins", OK: hasPlugins(cniDir()), Needed: true, Detail: "bridge, host-local and loopback make the network of builds (" + cniDir() + ")",
			Do: "apt-get install containernetworking-plugins"},
		cgroupFinding(),
		buildable(opts),
		resolver(opts),
		neighbours(),
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

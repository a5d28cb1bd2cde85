package buildkit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"path/filepath"
	"strings"
)

// layout are the files of the own daemon.
type layout struct {
	dir     string
	sockets string // short enough for a socket's name
	binary  string
	cni     string // the machine's folder of CNI plugins
	runc    string
}

// maxSocket is what fits sockaddr_un, with the longest name in it.
const maxSocket = 107 - len("/buildkitd.sock")

// newLayout places the files below dir; sockets of a dir with a long name go to /run.
func newLayout(dir string) layout {
	l := layout{dir: dir, sockets: dir}
	if len(dir) > maxSocket {
		l.sockets = "/run/" + tag(dir)
	}
	return l
}

func (l layout) state() string   { return filepath.Join(l.dir, "state") }
func (l layout) socket() string  { return filepath.Join(l.sockets, "buildkitd.sock") }
func (l layout) otel() string    { return filepath.Join(l.sockets, "otel.sock") }
func (l layout) config() string  { return filepath.Join(l.dir, "buildkitd.toml") }
func (l layout) cniFile() string { return filepath.Join(l.dir, "cni.conflist") }
func (l layout) ipam() string    { return filepath.Join(l.dir, "ipam") }
func (l layout) record() string  { return filepath.Join(l.dir, "buildkitd.pid") }
func (l layout) log() string     { return filepath.Join(l.dir, "buildkitd.log") }
func (l layout) tmp() string     { return filepath.Join(l.dir, "tmp") }
func (l layout) network() string { return filepath.Join(l.dir, "network.json") }
func (l layout) proof() string   { return filepath.Join(l.dir, "probed") }
func (l layout) lock() string    { return filepath.Join(l.dir, "lock") }

// plugins are the CNI plugins of the daemon; joins says, by host name, which network of a run they join a container to.
func (l layout) plugins() string         { return filepath.Join(l.dir, "plugins") }
func (l layout) joins() string           { return filepath.Join(l.dir, "joins") }
func (l layout) join(host string) string { return filepath.Join(l.joins(), host) }

// tag names what a daemon has outside of its folder: bridge, cgroup, firewall chains.
func tag(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return bridgePrefix + hex.EncodeToString(sum[:4])
}

const bridgePrefix = "slipbk"

// network is the bridge that builds run on.
type network struct {
	Bridge string       `json:"bridge"` // at most 15 characters
	Subnet netip.Prefix `json:"subnet"`
	Group  uint32       `json:"group"` // of the daemon, see fence
}

// chooseNetwork picks a subnet of 10.99.0.0/16 that overlaps none in use, beginning at one that is
// different for each folder.
func chooseNetwork(dir string, used []netip.Prefix) (network, error) {
	h := fnv.New32a()
	h.Write([]byte(dir))
	start := h.Sum32()
	for i := range uint32(256) {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 99, byte(start + i), 0}), 24)
		free := true
		for _, u := range used {
			// A default route overlaps everything and takes nothing.
			if u.Bits() > 0 && u.Overlaps(subnet) {
				free = false
				break
			}
		}
		if free {
			return network{Bridge: tag(dir), Subnet: subnet, Group: fenceGroup(dir)}, nil
		}
	}
	return network{}, fmt.Errorf("no free network in 10.99.0.0/16 for builds")
}

// renderConfig is buildkitd.toml. Equal options give equal text: it decides whether a running daemon
// can be adopted.
func renderConfig(l layout, n network, opts Options) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Written by Slipway at each start.")
	p("root = %q", l.state())
	p("insecure-entitlements = []")
	p("[log]\n  format = \"json\"\n  level = \"warn\"")
	p("[grpc]\n  address = [%q]", "unix://"+l.socket())
	p("[otel]\n  socketPath = %q", l.otel())
	p("[cdi]\n  disabled = true")
	p("[history]\n  maxEntries = 100")
	p("[frontend.\"gateway.v0\"]\n  enabled = false")
	if len(opts.Nameservers) > 0 {
		p("[dns]\n  nameservers = %s", stringList(opts.Nameservers))
	}
	p("[worker.containerd]\n  enabled = false")
	p("[worker.oci]\n  enabled = true\n  binary = %q\n  snapshotter = \"auto\"", l.runc)
	p("  max-parallelism = %d\n  gc = true\n  maxUsedSpace = %d", opts.Parallelism, opts.MaxSpace)
	p("  networkMode = \"cni\"\n  cniConfigPath = %q\n  cniBinaryPath = %q\n  cniPoolSize = %d", l.cniFile(), l.plugins(), opts.Parallelism)
	p("  defaultCgroupParent = %q", n.Bridge)
	return b.String()
}

func stringList(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = fmt.Sprintf("%q", s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// renderCNI is the network configuration: a bridge without any firewall rule of the plugins' own, as
// the rules are Slipway's.
func renderCNI(l layout, n network) ([]byte, error) {
	return json.MarshalIndent(map[string]any{
		"cniVersion": "1.0.0",
		"name":       n.Bridge,
		"plugins": []any{map[string]any{
			"type": joinPlugin, "bridge": n.Bridge, "isDefaultGateway": true, "ipMasq": false, "hairpinMode": false,
			"ipam": map[string]any{
				"type": "host-local", "dataDir": l.ipam(),
				"ranges": []any{[]any{map[string]any{"subnet": n.Subnet.String()}}},
			},
		}},
	}, "", "  ")
}

func hashOf(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

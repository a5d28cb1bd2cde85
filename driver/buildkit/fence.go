package buildkit

import (
	"context"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// fence keeps what the own daemon itself fetches for a Dockerfile (base images, ADD of a URL or of a git
// repository) away from this machine (D20). The policy looks at the address of a name before the
// fetch; a redirect, a name that changes its address or a git submodule gets past that look, and is
// refused here. The daemon runs with a supplementary group of its own, which the programs that it starts
// to fetch inherit and containers do not; packets of sockets of that group go through the fence's
// chain. Its user and primary group stay root's, so that files in images have the owners they had.
type fence struct {
	group     uint32
	given     []netip.AddrPort // what Slipway itself has it reach, wherever that is: registries, mirrors, proxies
	resolvers []netip.Addr
	deny      []netip.Prefix
	links     []string // bridges of this machine that are not its way to the world
}

// equal reports whether both let through the same.
func (f fence) equal(o fence) bool {
	return f.group == o.group && slices.Equal(f.given, o.given) && slices.Equal(f.resolvers, o.resolvers) &&
		slices.Equal(f.deny, o.deny) && slices.Equal(f.links, o.links)
}

// fenceGroup is a group that nobody else has: in a range that no distribution and no container engine hands
// out, another for each daemon.
func fenceGroup(dir string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(dir))
	return firstGroup + h.Sum32()%groups
}

const (
	firstGroup = 0x70000000
	groups     = 1 << 27
)

// fenceChain is the name of the fence's chain, which leaves room for what is written about it.
func fenceChain(n network) string { return strings.ToUpper(n.Bridge) + outSuffix }

const outSuffix = "-OUT"

// jump is the rule that leads the daemon's packets into the fence.
func (f fence) jump(n network) []string {
	return []string{"-m", "owner", "--gid-owner", strconv.FormatUint(uint64(f.group), 10), "--suppl-groups", "-j", fenceChain(n)}
}

// rules is the fence's chain for iptables or ip6tables, in order. It only refuses: what it lets through goes on to
// the machine's own rules.
func (f fence) rules(family string) [][]string {
	v4 := family == "iptables"
	var rules [][]string
	add := func(spec ...string) { rules = append(rules, spec) }
	way := func(proto string, a netip.Addr, port uint16) {
		if a.Is4() != v4 {
			return
		}
		to, p := netip.PrefixFrom(a, a.BitLen()).String(), strconv.Itoa(int(port))
		add("-d", to, "-p", proto, "-m", proto, "--dport", p, "-j", "RETURN")
		// Another program may have translated it: a published port, a service of a cluster.
		add("-p", proto, "-m", "conntrack", "--ctorigdst", to, "--ctorigdstport", p, "-j", "RETURN")
	}
	for _, g := range f.given {
		way("tcp", g.Addr(), g.Port())
	}
	for _, r := range f.resolvers {
		way("udp", r, 53)
		way("tcp", r, 53)
	}
	icmp := "icmp6-adm-prohibited"
	if v4 {
		icmp = "icmp-admin-prohibited"
	}
	refuse := func(spec ...string) {
		// At once: an ICMP answer to a connection is seen at its second try, a second later.
		add(append(append([]string{"-p", "tcp"}, spec...), "-j", "REJECT", "--reject-with", "tcp-reset")...)
		add(append(spec, "-j", "REJECT", "--reject-with", icmp)...)
	}
	refuse("-o", "lo") // all addresses of this machine
	refuse("-m", "conntrack", "--ctstate", "DNAT")
	for _, p := range append(slices.Clone(neverReached), f.deny...) {
		if p.Addr().Is4() == v4 {
			refuse("-d", p.Masked().String())
		} else if !v4 {
			refuse("-d", translated(p).String())
		}
	}
	for _, link := range append(slices.Clone(containerLinks), f.links...) {
		refuse("-o", link)
	}
	return rules
}

// neverReached are networks in which only this machine, its links and the services of a cloud's own live.
var neverReached = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("100.100.100.200/32"), // metadata of Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // of Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // of Oracle
	netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fd00:ec2::254/128"), // of AWS
	netip.MustParsePrefix("fd20:ce::254/128"),  // of Google
}

// translated is an IPv4 network as a gateway between IPv6 and IPv4 knows it.
func translated(p netip.Prefix) netip.Prefix {
	raw := nat64.Addr().As16()
	a4 := p.Masked().Addr().As4()
	copy(raw[12:], a4[:])
	return netip.PrefixFrom(netip.AddrFrom16(raw), 96+p.Bits())
}

var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// families are the programs that a fence needs rules of, of those that work.
func (f *firewall) families() []string {
	var out []string
	for _, family := range []string{"iptables", "ip6tables"} {
		if f.programs[family] != "" {
			out = append(out, family)
		}
	}
	return out
}

// raise brings the fence in place, first among the rules of what leaves this machine, in one transaction for each
// family. It may be called again at any time.
func (f *firewall) raise(ctx context.Context, n network, fe fence) error {
	chain := fenceChain(n)
	for _, family := range f.families() {
		now, err := f.run(ctx, f.programs[family], "-w", "10", "-S", "OUTPUT")
		if err != nil {
			return fmt.Errorf("fence of BuildKit: %w", err)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "*filter\n:%s - [0:0]\n-F %s\n", chain, chain)
		for _, spec := range fe.rules(family) {
			fmt.Fprintf(&b, "-A %s %s\n", chain, strings.Join(spec, " "))
		}
		for _, line := range jumps(now, chain) {
			fmt.Fprintf(&b, "-D %s\n", line)
		}
		fmt.Fprintf(&b, "-I OUTPUT 1 %s\nCOMMIT\n", strings.Join(fe.jump(n), " "))
		if err := f.restore(ctx, family, b.String()); err != nil {
			return fmt.Errorf("fence of BuildKit: %w", err)
		}
	}
	return nil
}

// jumps are the rules of a list (-S) that lead into the chain, whatever else they say, without "-A ".
func jumps(list, chain string) []string {
	var out []string
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "-A "); ok && strings.HasSuffix(line, " -j "+chain) {
			out = append(out, rest)
		}
	}
	return out
}

// raised reports whether the fence comes before every rule but other fences.
func (f *firewall) raised(ctx context.Context, n network) bool {
	for _, family := range f.families() {
		out, err := f.run(ctx, f.programs[family], "-w", "10", "-S", "OUTPUT")
		if err != nil || !fenceLeads(out, fenceChain(n)) {
			return false
		}
	}
	return true
}

func fenceLeads(list, chain string) bool {
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if strings.HasSuffix(line, " -j "+chain) {
			return true
		}
		if !strings.Contains(line, " -j "+strings.ToUpper(bridgePrefix)) {
			return false
		}
	}
	return false
}

// lower takes the fence away, also what a killed run left of it or of a try.
func (f *firewall) lower(ctx context.Context, n network) error {
	for _, family := range f.families() {
		for _, chain := range []string{fenceChain(n), tryChain(n.Bridge)} {
			if _, err := f.run(ctx, f.programs[family], "-w", "10", "-S", chain); err != nil {
				continue // is not there
			}
			now, err := f.run(ctx, f.programs[family], "-w", "10", "-S", "OUTPUT")
			if err != nil {
				return fmt.Errorf("take away the fence of BuildKit: %w", err)
			}
			var b strings.Builder
			b.WriteString("*filter\n")
			for _, line := range jumps(now, chain) {
				fmt.Fprintf(&b, "-D %s\n", line)
			}
			fmt.Fprintf(&b, "-F %s\n-X %s\nCOMMIT\n", chain, chain)
			if err := f.restore(ctx, family, b.String()); err != nil {
				return fmt.Errorf("take away the fence of BuildKit: %w", err)
			}
		}
	}
	return nil
}

func tryChain(bridge string) string { return strings.ToUpper(bridge) + "-TRY" }

// fenceable finds out whether this machine can have a fence, in a chain through which nothing goes.
func (f *firewall) fenceable(ctx context.Context, dir string) error {
	n := network{Bridge: tag(dir)}
	chain := tryChain(n.Bridge)
	try := fence{group: fenceGroup(dir)}.jump(n)
	try[len(try)-1] = "RETURN"
	text := fmt.Sprintf("*filter\n:%[1]s - [0:0]\n-F %[1]s\n-A %[1]s %[2]s\nCOMMIT\n*filter\n-F %[1]s\n-X %[1]s\nCOMMIT\n", chain, strings.Join(try, " "))
	for _, family := range f.families() {
		if err := f.restore(ctx, family, text); err != nil {
			return err
		}
	}
	return nil
}

package buildkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
)

// rule is one rule of iptables, ip6tables or ebtables.
type rule struct {
	family string // iptables, ip6tables, ebtables
	table  string
	chain  string
	spec   []string
	first  bool // inserted at the head of a chain that is not ours
}

// containerLinks are names of interfaces behind which containers of this machine live, whatever makes
// them and whenever: builds do not reach those either.
var containerLinks = []string{
	"docker+", "br-+", "cni+", "cbr+", "veth+", "cali+", "lxc+", "cilium+", "flannel+", "kube+", "podman+",
	"virbr+", "nerdctl+", "slw-+", bridgePrefix + "+",
}

// isolation is what a network's firewall depends on besides the network.
type isolation struct {
	deny      []netip.Prefix // networks that builds do not reach
	resolvers []netip.Addr   // addresses of this machine where they may ask for names
	upstream  []netip.Addr   // resolvers elsewhere, which may be where builds reach nothing else
	links     []string       // bridges of this machine that are not its way to the world
}

// chains are the names of our own chains for a network: what comes from builds to this machine, and
// what is forwarded for them.
func chains(n network) (in, forward string) {
	up := strings.ToUpper(n.Bridge)
	return up + "-IN", up + "-FWD"
}

// firewallRules is the whole firewall of a network, in the order in which it is added (D20): builds reach
// no address of this machine but a resolver on it, nothing that this machine forwards into
// containers, no link-local address, no metadata service of a cloud, no denied network; they reach everything else, and nothing but
// answers reaches them.
func firewallRules(n network, iso isolation) []rule {
	in, fwd := chains(n)
	br := n.Bridge
	refuse := []string{"-j", "REJECT", "--reject-with", "icmp-admin-prohibited"}
	var rules []rule
	add := func(chain string, spec ...string) {
		rules = append(rules, rule{"iptables", "filter", chain, spec, false})
	}
	for _, r := range iso.resolvers {
		if r.Is4() {
			for _, proto := range []string{"udp", "tcp"} {
				add(in, "-d", r.String()+"/32", "-p", proto, "--dport", "53", "-j", "ACCEPT")
			}
		}
	}
	add(in, refuse...)
	add(fwd, append([]string{"-m", "conntrack", "--ctstate", "DNAT"}, refuse...)...)
	for _, r := range iso.upstream {
		if r.Is4() {
			for _, proto := range []string{"udp", "tcp"} {
				add(fwd, "-d", r.String()+"/32", "-p", proto, "--dport", "53", "-j", "ACCEPT")
			}
		}
	}
	for _, d := range append(slices.Clone(neverReached), iso.deny...) {
		if d.Addr().Is4() {
			add(fwd, append([]string{"-d", d.Masked().String()}, refuse...)...)
		}
	}
	for _, link := range append(append([]string{}, containerLinks...), iso.links...) {
		add(fwd, append([]string{"-o", link}, refuse...)...)
	}
	add(fwd, "-j", "ACCEPT")

	// Heads of the chains of all, last first: each is inserted before what is there.
	head := func(family, table, chain string, spec ...string) {
		rules = append(rules, rule{family, table, chain, spec, true})
	}
	head("iptables", "filter", "FORWARD", "-o", br, "-j", "DROP")
	head("iptables", "filter", "FORWARD", "-o", br, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT")
	head("iptables", "filter", "FORWARD", "-i", br, "-j", fwd)
	head("iptables", "filter", "INPUT", "-i", br, "-j", in)
	// Before any rule of another that accepts what was translated to a service of a cluster.
	head("iptables", "mangle", "FORWARD", "-i", br, "-m", "conntrack", "--ctstate", "DNAT", "-j", "DROP")
	head("iptables", "nat", "POSTROUTING", "-s", n.Subnet.String(), "!", "-o", br, "-j", "MASQUERADE")
	head("ip6tables", "filter", "INPUT", "-i", br, "-j", "DROP")
	head("ip6tables", "filter", "FORWARD", "-i", br, "-j", "DROP")
	// Between two containers of the bridge.
	head("ebtables", "filter", "FORWARD", "--logical-in", br, "-j", "DROP")
	return rules
}

// firewall applies rules with the programs that this machine has.
type firewall struct {
	programs map[string]string // family -> program
	run      func(ctx context.Context, program string, args ...string) (string, error)
}

// newFirewall finds the programs that work here: Debian's iptables may drive nftables or the legacy
// tables, and a kernel may know one of them only.
func newFirewall(ctx context.Context) (*firewall, error) {
	f := &firewall{programs: map[string]string{}, run: runProgram}
	for family, names := range map[string][]string{
		"iptables":  {"iptables", "iptables-nft", "iptables-legacy"},
		"ip6tables": {"ip6tables", "ip6tables-nft", "ip6tables-legacy"},
		"ebtables":  {"ebtables-nft", "ebtables"},
	} {
		for _, name := range names {
			path, err := lookProgram(name)
			if err != nil {
				continue
			}
			args := []string{"-w", "10", "-S", "FORWARD"}
			if family == "ebtables" {
				args = []string{"-L", "FORWARD"}
			}
			if _, err := f.run(ctx, path, args...); err == nil {
				f.programs[family] = path
				break
			}
		}
	}
	if f.programs["iptables"] == "" {
		return nil, errors.New("no iptables that works: install it (apt-get install iptables)")
	}
	return f, nil
}

// apply brings the rules of a network in place. It may be called again at any time: what another
// program pushed down from the head of a chain is put there again, in one transaction, so that there
// is no moment without it.
func (f *firewall) apply(ctx context.Context, n network, rules []rule) error {
	if err := f.fill(ctx, n, rules); err != nil {
		return err
	}
	for _, r := range rules {
		if !r.first || f.programs[r.family] == "" || (r.family == "iptables" && r.table == "filter") || f.exists(ctx, r) {
			continue
		}
		if err := f.insert(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// fill makes our own chains hold exactly the rules, and the jumps to them come first and once.
func (f *firewall) fill(ctx context.Context, n network, rules []rule) error {
	in, fwd := chains(n)
	now := map[string][]string{}
	for _, chain := range []string{"INPUT", "FORWARD"} {
		out, err := f.run(ctx, f.programs["iptables"], "-w", "10", "-S", chain)
		if err != nil {
			return fmt.Errorf("firewall of builds: %w", err)
		}
		now[chain] = strings.Split(out, "\n")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "*filter\n:%s - [0:0]\n:%s - [0:0]\n-F %s\n-F %s\n", in, fwd, in, fwd)
	for _, r := range rules {
		if r.family != "iptables" || r.table != "filter" {
			continue
		}
		spec := strings.Join(r.spec, " ")
		if !r.first {
			fmt.Fprintf(&b, "-A %s %s\n", r.chain, spec)
			continue
		}
		for _, line := range now[r.chain] {
			if line == "-A "+r.chain+" "+spec {
				fmt.Fprintf(&b, "-D %s %s\n", r.chain, spec)
			}
		}
		fmt.Fprintf(&b, "-I %s 1 %s\n", r.chain, spec)
	}
	b.WriteString("COMMIT\n")
	if err := f.restore(ctx, "iptables", b.String()); err != nil {
		return fmt.Errorf("firewall of builds: %w", err)
	}
	return nil
}

// restore does all that the text says, or nothing of it.
func (f *firewall) restore(ctx context.Context, family, text string) error {
	program := f.programs[family] + "-restore"
	cmd := exec.CommandContext(ctx, program, "-w", "10", "--noflush")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}

// insert puts a rule at the head of a chain of all.
func (f *firewall) insert(ctx context.Context, r rule) error {
	args := append(f.base(r), "-I", r.chain)
	if r.family != "ebtables" {
		args = append(args, "1")
	}
	if _, err := f.run(ctx, f.programs[r.family], append(args, r.spec...)...); err != nil {
		if r.family == "ebtables" { // a kernel without it; the probe tells whether builds reach each other
			delete(f.programs, r.family)
			return nil
		}
		return fmt.Errorf("firewall of builds: %w", err)
	}
	return nil
}

func (f *firewall) exists(ctx context.Context, r rule) bool {
	if r.family == "ebtables" { // has no -C
		out, err := f.run(ctx, f.programs[r.family], "-t", r.table, "-L", r.chain)
		return err == nil && strings.Contains(out, strings.Join(r.spec, " "))
	}
	_, err := f.run(ctx, f.programs[r.family], append(append(f.base(r), "-C", r.chain), r.spec...)...)
	return err == nil
}

func (f *firewall) base(r rule) []string {
	if r.family == "ebtables" {
		return []string{"-t", r.table}
	}
	return []string{"-w", "10", "-t", r.table}
}

// intact reports whether our rules are at the head of the chains in which an order of others could let
// something through.
func (f *firewall) intact(ctx context.Context, n network) bool {
	in, fwd := chains(n)
	for chain, jump := range map[string]string{"INPUT": in, "FORWARD": fwd} {
		out, err := f.run(ctx, f.programs["iptables"], "-w", "10", "-S", chain)
		if err != nil {
			return false
		}
		if !leads(strings.Split(out, "\n"), jump) {
			return false
		}
	}
	return true
}

// leads reports whether the jump comes before every rule but those of other networks of ours.
func leads(list []string, jump string) bool {
	for _, line := range list {
		if !strings.HasPrefix(line, "-A ") {
			continue
		}
		if strings.HasSuffix(line, "-j "+jump) {
			return true
		}
		if !strings.Contains(line, " "+bridgePrefix) {
			return false
		}
	}
	return false
}

// remove takes away everything of the network, also what an interrupted run left twice.
func (f *firewall) remove(ctx context.Context, n network, rules []rule) error {
	var errs []error
	for _, r := range rules {
		if !r.first || f.programs[r.family] == "" {
			continue
		}
		for range 100 { // a rule may be there more than once
			if !f.exists(ctx, r) {
				break
			}
			if _, err := f.run(ctx, f.programs[r.family], append(append(f.base(r), "-D", r.chain), r.spec...)...); err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	in, fwd := chains(n)
	for _, chain := range []string{in, fwd} {
		base := []string{"-w", "10", "-t", "filter"}
		if _, err := f.run(ctx, f.programs["iptables"], append(base, "-S", chain)...); err != nil {
			continue // is not there
		}
		for _, do := range []string{"-F", "-X"} {
			if _, err := f.run(ctx, f.programs["iptables"], append(base, do, chain)...); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func runProgram(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, bytes.TrimSpace(errOut.Bytes()))
	}
	return out.String(), nil
}

// lookProgram finds a program also where only an administrator's PATH leads.
func lookProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(dir + "/" + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

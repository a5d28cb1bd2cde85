package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// chain is the name of this cluster's own chains in iptables.
func (c *Cluster) chain() string { return "SLIPWAY-" + strings.ToUpper(c.Network.Bridge[len("slw-"):]) }

// firewall is the input of iptables-restore that keeps packets from other
// machines and other bridges away from the cluster's addresses, lets pods talk
// where the machine forwards nothing by default (but after what others forbid),
// and hides pods that talk to other machines behind this machine's address.
func (c *Cluster) firewall() string {
	var b strings.Builder
	fmt.Fprintf(&b, "*raw\n:%[1]s - [0:0]\n-A PREROUTING -j %[1]s\n", c.chain())
	fmt.Fprintf(&b, "-A %s -i lo -j RETURN\n-A %s -i %s -j RETURN\n", c.chain(), c.chain(), c.Network.Bridge)
	for _, to := range []string{
		c.Network.Node.String(), c.Network.DNS.String(), c.Network.Pods.String(), c.Network.Services.String(),
	} {
		fmt.Fprintf(&b, "-A %s -d %s -j DROP\n", c.chain(), to)
	}
	fmt.Fprintf(&b, "COMMIT\n*filter\n:%[1]s - [0:0]\n-A FORWARD -j %[1]s\n-A %[1]s -i %[2]s -j ACCEPT\n", c.chain(), c.Network.Bridge)
	fmt.Fprintf(&b, "-A %s -o %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n", c.chain(), c.Network.Bridge)
	fmt.Fprintf(&b, "COMMIT\n*nat\n:%[1]s - [0:0]\n-A POSTROUTING -j %[1]s\n", c.chain())
	fmt.Fprintf(&b, "-A %s -s %s -d %s -j RETURN\n", c.chain(), c.Network.Pods, c.Network.Pods)
	fmt.Fprintf(&b, "-A %s -s %s ! -d 224.0.0.0/4 -j MASQUERADE\nCOMMIT\n", c.chain(), c.Network.Pods)
	return b.String()
}

func (c *Cluster) addFirewall(ctx context.Context) error {
	if _, err := commandInput(ctx, c.firewall(), "iptables-restore", "--noflush", "--wait"); err != nil {
		return fmt.Errorf("add firewall rules: %w", err)
	}
	return nil
}

// removeFirewall removes this cluster's chains, kube-proxy's, the kubelet's,
// and those the portmap plugin made for this cluster's pods. Of a displaced
// cluster it removes only what bears its name.
func (c *Cluster) removeFirewall(ctx context.Context, displaced bool) error {
	var errs []error
	for _, family := range []string{"iptables", "ip6tables"} {
		if _, err := exec.LookPath(family + "-save"); err != nil {
			continue
		}
		saved, err := command(ctx, family+"-save")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		script := firewallRemoval(saved, c.chain(), c.networkName(), displaced)
		if script == "" {
			continue
		}
		if _, err := commandInput(ctx, script, family+"-restore", "--noflush", "--wait"); err != nil {
			errs = append(errs, fmt.Errorf("remove firewall rules: %w", err))
		}
	}
	return errors.Join(errs...)
}

// firewallRemoval turns the output of iptables-save into the input of
// iptables-restore --noflush that removes a cluster's rules and chains and
// leaves all others. It is empty when there is nothing to remove.
func firewallRemoval(saved, chain, network string, displaced bool) string {
	var script strings.Builder
	for _, table := range parseTables(saved) {
		removal := table.removal(chain, network, displaced)
		if removal != "" {
			fmt.Fprintf(&script, "*%s\n%sCOMMIT\n", table.name, removal)
		}
	}
	return script.String()
}

type firewallTable struct {
	name   string
	chains []string
	rules  []firewallRule
}

// firewallRule is a line "-A CHAIN ... -j TARGET".
type firewallRule struct{ line, chain, target string }

func parseTables(saved string) []firewallTable {
	var tables []firewallTable
	for _, line := range strings.Split(saved, "\n") {
		switch {
		case strings.HasPrefix(line, "*"):
			tables = append(tables, firewallTable{name: line[1:]})
		case len(tables) == 0:
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			last := &tables[len(tables)-1]
			last.chains = append(last.chains, name)
		case strings.HasPrefix(line, "-A "):
			fields := strings.Fields(line)
			rule := firewallRule{line: line, chain: fields[1]}
			for i := 0; i+1 < len(fields); i++ {
				if fields[i] == "-j" || fields[i] == "-g" {
					rule.target = fields[i+1]
				}
			}
			last := &tables[len(tables)-1]
			last.rules = append(last.rules, rule)
		}
	}
	return tables
}

// removal deletes the rules that lead into doomed chains, then empties these,
// then removes them.
func (t firewallTable) removal(chain, network string, displaced bool) string {
	doomed := t.doomed(chain, network, displaced)
	var b strings.Builder
	for _, rule := range t.rules {
		if !doomed[rule.chain] && (doomed[rule.target] || rule.portOf(network)) {
			fmt.Fprintf(&b, "-D %s\n", strings.TrimPrefix(rule.line, "-A "))
		}
	}
	for _, name := range t.chains {
		if doomed[name] {
			fmt.Fprintf(&b, "-F %s\n", name)
		}
	}
	for _, name := range t.chains {
		if doomed[name] {
			fmt.Fprintf(&b, "-X %s\n", name)
		}
	}
	return b.String()
}

// doomed finds the chains that belong to the cluster. The portmap plugin's
// common chains go when no other network has a port in them.
func (t firewallTable) doomed(chain, network string, displaced bool) map[string]bool {
	doomed := map[string]bool{}
	for _, name := range t.chains {
		doomed[name] = name == chain || (!displaced && strings.HasPrefix(name, "KUBE-"))
	}
	shared := false
	for _, rule := range t.rules {
		if rule.portOf(network) && strings.HasPrefix(rule.target, "CNI-DN-") {
			doomed[rule.target] = true
		} else if rule.chain == "CNI-HOSTPORT-DNAT" {
			shared = true
		}
	}
	if !shared && !displaced {
		for _, name := range t.chains {
			if strings.HasPrefix(name, "CNI-HOSTPORT-") {
				doomed[name] = true
			}
		}
	}
	return doomed
}

// portOf tells whether the portmap plugin made the rule for a pod of network.
func (r firewallRule) portOf(network string) bool {
	return strings.Contains(r.line, `name: \"`+network+`\"`)
}

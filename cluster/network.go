package cluster

import (
	"context"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strings"
)

// Network is the block of private addresses a cluster takes. Node and DNS are
// added to the loopback device, so that they stay on this machine.
type Network struct {
	// Node is where the API server and the kubelet listen.
	Node netip.Addr `json:"node"`
	// DNS is where the cluster's name server listens.
	DNS netip.Addr `json:"dns"`
	// Pods get their addresses from here.
	Pods netip.Prefix `json:"pods"`
	// Services get their addresses from here.
	Services netip.Prefix `json:"services"`
	// Bridge is the network device that joins the pods.
	Bridge string `json:"bridge"`
}

// newNetwork lays a cluster into 10.BLOCK.0.0/16.
func newNetwork(name string, block byte) Network {
	return Network{
		Node:     netip.AddrFrom4([4]byte{10, block, 254, 1}),
		DNS:      netip.AddrFrom4([4]byte{10, block, 254, 10}),
		Pods:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, block, 0, 0}), 20),
		Services: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, block, 128, 0}), 20),
		Bridge:   bridgeName(name),
	}
}

// bridgeName fits a name into the 15 bytes of a network device's name.
func bridgeName(name string) string {
	if len(name) <= 11 {
		return "slw-" + name
	}
	sum := fnv.New32a()
	sum.Write([]byte(name))
	return fmt.Sprintf("slw-%08x", sum.Sum32())
}

// freeNetwork takes the highest block 10.x.0.0/16 that overlaps none of used.
// Blocks 99 and below are left to others; BuildKit's bridge is in 10.99.
func freeNetwork(name string, used []netip.Prefix) (Network, error) {
	for block := 254; block > 99; block-- {
		whole := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(block), 0, 0}), 16)
		free := true
		for _, u := range used {
			free = free && !u.Overlaps(whole)
		}
		if free {
			return newNetwork(name, byte(block)), nil
		}
	}
	return Network{}, fmt.Errorf("no network 10.x.0.0/16 with x over 99 is free on this machine")
}

// usedNetworks lists the machine's addresses, routes and name servers. The
// default route is left out.
func usedNetworks(ctx context.Context) ([]netip.Prefix, error) {
	var used []netip.Prefix
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the machine's addresses: %w", err)
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			used = append(used, p.Masked())
		}
	}
	routes, err := command(ctx, "ip", "-4", "route", "show", "table", "all")
	if err != nil {
		return nil, err
	}
	used = append(used, parseRoutes(routes)...)
	resolvers, err := os.ReadFile("/etc/resolv.conf")
	if err == nil {
		for _, server := range nameServers(string(resolvers)) {
			used = append(used, netip.PrefixFrom(server, server.BitLen()))
		}
	}
	return used, nil
}

// parseRoutes reads the destinations of `ip route show`.
func parseRoutes(text string) []netip.Prefix {
	var found []netip.Prefix
	for _, line := range strings.Split(text, "\n") {
		for i, word := range strings.Fields(line) {
			if i > 1 {
				break
			}
			if p, err := netip.ParsePrefix(word); err == nil {
				found = append(found, p.Masked())
			} else if a, err := netip.ParseAddr(word); err == nil {
				found = append(found, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return found
}

// nameServers reads the addresses in a resolv.conf.
func nameServers(text string) []netip.Addr {
	var found []netip.Addr
	for _, line := range strings.Split(text, "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			found = append(found, a)
		}
	}
	return found
}

// Ports are the TCP ports of a cluster. All but API, which is on the node's
// address, are on 127.0.0.1.
type Ports struct {
	API               int `json:"api"`
	Etcd              int `json:"etcd"`
	EtcdPeer          int `json:"etcd_peer"`
	EtcdHealth        int `json:"etcd_health"`
	ControllerManager int `json:"controller_manager"`
	Scheduler         int `json:"scheduler"`
	Kubelet           int `json:"kubelet"`
	ProxyHealth       int `json:"proxy_health"`
	ProxyMetrics      int `json:"proxy_metrics"`
	DNSHealth         int `json:"dns_health"`
	DNSReady          int `json:"dns_ready"`
}

// freePorts fills p with ports nobody listens on. A port p already has is kept
// while it is free, so that a kubeconfig stays valid.
func freePorts(p *Ports, node netip.Addr) error {
	taken := map[int]bool{}
	if err := freePort(&p.API, 6443, node.String(), taken); err != nil {
		return err
	}
	next := 21000 // below the ports of outgoing connections and of NodePorts
	for _, port := range []*int{
		&p.Etcd, &p.EtcdPeer, &p.EtcdHealth, &p.ControllerManager, &p.Scheduler,
		&p.Kubelet, &p.ProxyHealth, &p.ProxyMetrics, &p.DNSHealth, &p.DNSReady,
	} {
		if err := freePort(port, next, "127.0.0.1", taken); err != nil {
			return err
		}
		next = *port + 1
	}
	return nil
}

func freePort(port *int, from int, host string, taken map[int]bool) error {
	if *port != 0 && !taken[*port] && canListen(host, *port) {
		taken[*port] = true
		return nil
	}
	for candidate := from; candidate < from+1000; candidate++ {
		if !taken[candidate] && canListen(host, candidate) {
			*port = candidate
			taken[candidate] = true
			return nil
		}
	}
	return fmt.Errorf("no free port on %s from %d to %d", host, from, from+999)
}

func canListen(host string, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

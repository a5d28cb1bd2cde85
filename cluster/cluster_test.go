package cluster

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Upper", "1st", "-a", "a-", "a_b", "a/b", strings.Repeat("a", 31)} {
		if _, err := New(name, ""); err == nil {
			t.Errorf("name %q is accepted", name)
		}
	}
	if _, err := New("a", "/"+strings.Repeat("d", 80)); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long folder: %v", err)
	}
	c, err := New("", "")
	if err != nil || c.Name != DefaultName || c.Dir != "/var/lib/slipway-cluster/slipway" {
		t.Errorf("defaults: %+v, %v", c, err)
	}
}

func TestFoldersOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := &Cluster{Name: "a", Dir: dir}
	if err := c.claimDir(); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("claimed a folder with a file in it: %v", err)
	}
	if _, err := Open(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open: %v", err)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	c := testCluster(t)
	if err := c.MapRegistry("a.test", "http://127.0.0.1:1"); err != nil {
		t.Fatal(err)
	}
	again, err := Load("", c.Dir)
	if err != nil || again.Name != "unit" || again.Registries["a.test"] == "" {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := Load("other", c.Dir); err == nil || !strings.Contains(err.Error(), "is called unit") {
		t.Errorf("another name: %v", err)
	}
}

func TestFreeNetwork(t *testing.T) {
	t.Parallel()
	used := parseRoutes(`default via 192.0.2.1 dev eth0
10.254.254.0/24 dev wg0 proto kernel scope link src 10.254.254.9
10.253.0.0/16 via 10.1.2.3 dev eth0
local 10.252.7.1 dev lo table local proto kernel scope host src 10.252.7.1
broadcast 192.0.2.255 dev eth0 table local
`)
	n, err := freeNetwork("demo", used)
	if err != nil {
		t.Fatal(err)
	}
	if n.Node.String() != "10.251.254.1" || n.DNS.String() != "10.251.254.10" || n.Bridge != "slw-demo" {
		t.Errorf("got %+v", n)
	}
	if n.Pods.Overlaps(n.Services) || n.Pods.Contains(n.Node) || n.Services.Contains(n.DNS) {
		t.Errorf("the networks overlap: %+v", n)
	}
	if _, err := freeNetwork("demo", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}); err == nil {
		t.Error("found a network although 10.0.0.0/8 is taken")
	}
}

func TestBridgeNameFitsADevice(t *testing.T) {
	t.Parallel()
	long, other := bridgeName(strings.Repeat("a", 30)), bridgeName(strings.Repeat("a", 29))
	if len(long) > 15 || long == other {
		t.Errorf("%s, %s", long, other)
	}
}

func TestFreePortsKeepsWhatIsFree(t *testing.T) {
	t.Parallel()
	var p Ports
	loopback := netip.MustParseAddr("127.0.0.1")
	if err := freePorts(&p, loopback); err != nil {
		t.Fatal(err)
	}
	before := p
	if err := freePorts(&p, loopback); err != nil {
		t.Fatal(err)
	}
	if p != before {
		t.Errorf("ports changed from %+v to %+v", before, p)
	}
}

func TestNameServers(t *testing.T) {
	t.Parallel()
	got := nameServers("# nameserver 1.1.1.1\nnameserver 10.0.0.2\nsearch x\nnameserver fe80::1%eth0\nnameserver\n")
	if len(got) != 2 || got[0].String() != "10.0.0.2" {
		t.Errorf("got %v", got)
	}
}

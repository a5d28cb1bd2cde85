package buildkit

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	d := &daemon{opts: Options{Now: func() time.Time { return now }}}
	d.gate.names = map[string]resolved{
		"inside.invalid:443":  {[]netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("203.0.113.7")}, now.Add(time.Second)},
		"gone.invalid:443":    {[]netip.Addr{netip.MustParseAddr("::ffff:192.168.1.1")}, now},
		"outside.invalid:443": {[]netip.Addr{netip.MustParseAddr("203.0.113.8")}, now.Add(time.Second)},
	}
	d.gate.given = []string{"127.0.0.1:5000", "[::1]:5001", "inside.invalid:443", "gone.invalid:443", "outside.invalid:443", "never.invalid:443", "nonsense"}
	d.gate.pushed = []string{"203.0.113.9:80", "127.0.0.1:5000"}
	var want []netip.AddrPort
	for _, s := range []string{"10.1.2.3:443", "127.0.0.1:5000", "192.168.1.1:443", "203.0.113.9:80", "[::1]:5001"} {
		want = append(want, netip.MustParseAddrPort(s))
	}
	if got := d.ways(t.Context()); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestResolvers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	for text, want := range map[string][]string{
		"search a\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver 192.0.2.53\nnameserver what\n": {"192.0.2.53", "fe80::1"},
		"options edns0\n": {"127.0.0.1", "::1"},
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, a := range resolvers(file) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// The network of a Slipway without fences is kept, with a group added to it.
func TestNetworkOfEarlierSlipway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &daemon{layout: newLayout(dir)}
	old := `{"bridge":"` + tag(dir) + `","subnet":"10.99.200.0/24"}`
	if err := os.WriteFile(d.layout.network(), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	want := network{Bridge: tag(dir), Subnet: netip.MustParsePrefix("10.99.200.0/24"), Group: fenceGroup(dir)}
	for range 2 {
		if got, err := d.loadNetwork(); err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	// A group that was once written stays.
	want.Group++
	if err := d.saveNetwork(want); err != nil {
		t.Fatal(err)
	}
	if got, err := d.loadNetwork(); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A machine whose iptables does not know the owner of packets cannot have a fence, and says so.
func TestFenceableWithoutOwner(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "iptables")
	script := "#!/bin/sh\ngrep -q -- '-m owner' && { echo 'Extension owner revision 0 not supported, missing kernel module?' >&2; exit 2; }\nexit 0\n"
	if err := os.WriteFile(program+"-restore", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	f := &firewall{programs: map[string]string{"iptables": program}}
	if err := f.fenceable(t.Context(), "/data"); err == nil || !strings.Contains(err.Error(), "missing kernel module") {
		t.Errorf("got %v", err)
	}
	if !mapped(0) {
		t.Error("root's group is not mapped")
	}
}

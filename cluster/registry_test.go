package cluster

import (
	"os"
	"strings"
	"testing"
)

func TestParseRegistry(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ mapping, host, target, problem string }{
		{"registry.slipway.internal=http://127.0.0.1:8080", "registry.slipway.internal", "http://127.0.0.1:8080", ""},
		{"docker.io=https://mirror.test/v2/hub/", "docker.io", "https://mirror.test/v2/hub", ""},
		{"localhost:5000=http://127.0.0.1:5001", "localhost:5000", "http://127.0.0.1:5001", ""},
		{"registry.test", "", "", "write HOST=URL"},
		{"a/b=http://127.0.0.1", "", "", "no host name"},
		{"../x=http://127.0.0.1", "", "", "no host name"},
		{"..=http://127.0.0.1", "", "", "no host name"},
		{"=http://127.0.0.1", "", "", "no host name"},
		{"a=127.0.0.1:8080", "", "", "first path segment"},
		{"a=ftp://127.0.0.1", "", "", "no http or https URL"},
		{"a=http://", "", "", "no http or https URL"},
		{"a=http://user:secret@127.0.0.1", "", "", "no user"},
		{"a=http://127.0.0.1?x=1", "", "", "no user, query"},
	} {
		host, target, err := ParseRegistry(test.mapping)
		if test.problem != "" {
			if err == nil || !strings.Contains(err.Error(), test.problem) {
				t.Errorf("%s: error %v, want one with %q", test.mapping, err, test.problem)
			}
			continue
		}
		if err != nil || host != test.host || target != test.target {
			t.Errorf("%s: %q, %q, %v", test.mapping, host, target, err)
		}
	}
}

func TestHostsFile(t *testing.T) {
	t.Parallel()
	want := `server = "http://127.0.0.1:5000/v2/mirror/docker.io"
capabilities = ["pull", "resolve"]
skip_verify = true
override_path = true

[host."http://127.0.0.1:5000/v2/mirror/docker.io"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
  override_path = true
`
	got, err := hostsFile("http://127.0.0.1:5000/v2/mirror/docker.io")
	if err != nil || got != want {
		t.Errorf("got\n%s, %v\nwant\n%s", got, err, want)
	}
	got, err = hostsFile("http://127.0.0.1:8080")
	if err != nil || strings.Count(got, "override_path = false") != 2 {
		t.Errorf("a URL without a path gives\n%s, %v", got, err)
	}
}

func TestMapRegistry(t *testing.T) {
	t.Parallel()
	c := testCluster(t)
	if err := c.MapRegistry("localhost:5000", "http://127.0.0.1:5001"); err != nil {
		t.Fatal(err)
	}
	// This is how containerd spells a port in a folder's name.
	file := c.path("registries", "localhost_5000_", "hosts.toml")
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	again, err := Open(c.Dir)
	if err != nil || again.Registries["localhost:5000"] != "http://127.0.0.1:5001" {
		t.Errorf("reopened: %v, %v", again, err)
	}
	if err := c.UnmapRegistry("localhost:5000"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Errorf("%s is still there", file)
	}
	if err := c.UnmapRegistry("localhost:5000"); err != nil {
		t.Errorf("unmap again: %v", err)
	}
}

// testCluster is a cluster that never runs, with all files in a folder of the
// test.
func testCluster(t *testing.T) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "slw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := New("unit", dir)
	if err != nil {
		t.Fatal(err)
	}
	c.Network = newNetwork(c.Name, 254)
	if err := c.claimDir(); err != nil {
		t.Fatal(err)
	}
	return c
}

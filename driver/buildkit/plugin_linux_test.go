package buildkit

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The plugin joins those containers to the network of a run of which Slipway has written so, and then is the bridge of
// builds whatever it is asked for. Stand-ins for nsenter and the bridge write down how they were called.
func TestJoinScript(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := newLayout(dir)
	l.cni = filepath.Join(dir, "machine")
	write := func(name, body string, mode os.FileMode) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(l.cni, "bridge"), "#!/bin/sh\necho \"bridge $CNI_COMMAND $CNI_IFNAME $(cat)\" >>\"$CALLS\"\necho result\n", 0o755)
	bin := filepath.Join(dir, "bin")
	write(filepath.Join(bin, "nsenter"), "#!/bin/sh\necho \"nsenter $1\" >>\"$CALLS\"\n[ -e \"${1#--net=}\" ] || exit 1\nshift\nexec \"$@\"\n", 0o755)
	if err := installPlugins(l); err != nil {
		t.Fatal(err)
	}
	if err := installPlugins(l); err != nil {
		t.Fatalf("again: %v", err)
	}
	for _, host := range []string{"db.1f", "db.2f", "db.3f"} {
		write(filepath.Join(l.join(host), "netns"), "", 0o600)
		write(filepath.Join(l.join(host), "network.json"), "{run}", 0o600)
	}
	write(filepath.Join(l.join("gone.1f"), "network.json"), "{run}", 0o600) // its Slipway was killed
	write(filepath.Join(dir, "network.json"), "{not a join}", 0o600)
	const ordinary = "bridge ADD eth1 {build}"
	joined := func(host string) string {
		return "nsenter --net=" + l.join(host) + "/netns\nbridge ADD " + runInterface + " {run}\n" + ordinary
	}
	call := func(command, args string) (said, out string, err error) {
		t.Helper()
		calls := filepath.Join(t.TempDir(), "calls")
		cmd := exec.CommandContext(t.Context(), filepath.Join(l.plugins(), joinPlugin))
		cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "CALLS=" + calls, "CNI_COMMAND=" + command, "CNI_ARGS=" + args, "CNI_IFNAME=eth1"}
		cmd.Stdin = strings.NewReader("{build}")
		printed, err := cmd.Output()
		text, readErr := os.ReadFile(calls)
		if readErr != nil {
			t.Fatal(readErr)
		}
		return strings.TrimSpace(string(text)), string(printed), err
	}
	for name, c := range map[string]struct {
		command, args string
		want          string
		fails         bool
	}{
		"a build":                     {"ADD", "", ordinary, false},
		"a container with a name":     {"ADD", "K8S_POD_NAME=other;IgnoreUnknown=1", ordinary, false},
		"a container of a run":        {"ADD", "IgnoreUnknown=1;K8S_POD_NAME=db.1f", joined("db.1f"), false},
		"the same, other way round":   {"ADD", "K8S_POD_NAME=db.2f;IgnoreUnknown=1", joined("db.2f"), false},
		"its end":                     {"DEL", "K8S_POD_NAME=db.3f;IgnoreUnknown=1", "bridge DEL eth1 {build}", false},
		"a run whose Slipway is gone": {"ADD", "K8S_POD_NAME=gone.1f", "nsenter --net=" + l.join("gone.1f") + "/netns", true},
		"a path":                      {"ADD", "K8S_POD_NAME=../joins/db.3f", ordinary, false},
		"the folder above":            {"ADD", "K8S_POD_NAME=..", ordinary, false},
	} {
		if said, out, err := call(c.command, c.args); said != c.want || (err != nil) != c.fails || (out == "result\n") == c.fails {
			t.Errorf("%s: %v, %q\n%s\nwant\n%s", name, err, out, said, c.want)
		}
	}
	for _, host := range []string{"db.1f", "db.2f"} {
		if said, _, err := call("ADD", "K8S_POD_NAME="+host); said != ordinary || err != nil {
			t.Errorf("another container with the name of %s: %v\n%s", host, err, said)
		}
	}
}

//go:build linux

package buildkit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-cd/slipway"
)

// traces are what the machine shows of a daemon: mounts, links, firewall rules, cgroups, containers,
// processes. Other daemons may run at the same time, so it looks for what names this one.
func traces(t testing.TB, dir string) []string {
	t.Helper()
	var state []string
	add := func(kind, text string, keep func(string) bool) {
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); keep(line) {
				state = append(state, kind+": "+line)
			}
		}
	}
	ours := func(line string) bool {
		return strings.Contains(strings.ToLower(line), tag(dir)) || strings.Contains(line, dir)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	add("mount", string(mounts), ours)
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		master, _ := os.Readlink("/sys/class/net/" + l.Name + "/master") // none for most
		add("link", l.Name+" "+filepath.Base(master), ours)
	}
	for _, save := range []string{"iptables-save", "ip6tables-save", "ebtables-save"} {
		path, err := lookProgram(save)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), path).Output()
		if err != nil {
			continue
		}
		add(save, string(out), func(s string) bool {
			// The firewall of another daemon may know our bridge.
			return ours(s) && (strings.Count(strings.ToLower(s), bridgePrefix) == 1 || strings.Contains(s, "-o "+bridgePrefix+"+"))
		})
	}
	cgroups, err := filepath.Glob("/sys/fs/cgroup/*/" + bridgePrefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	add("cgroup", strings.Join(cgroups, "\n"), ours)
	for _, dir := range []string{"/run", "/var/lib/cni/networks", "/var/lib/cni/results"} {
		add(dir, strings.Join(entries(dir), "\n"), ours)
	}
	for _, pid := range entries("/proc") {
		raw, err := os.ReadFile("/proc/" + pid + "/cmdline")
		if err == nil {
			add("process", strings.ReplaceAll(string(raw), "\x00", " "), ours)
		}
	}
	return state
}

// nothingLeft checks that a daemon that showed itself before is gone without a trace.
func nothingLeft(t testing.TB, dir string, before []string) {
	t.Helper()
	for _, kind := range []string{"mount: ", "link: ", "iptables-save: ", "cgroup: ", "process: "} {
		if !slices.ContainsFunc(before, func(s string) bool { return strings.HasPrefix(s, kind) }) {
			t.Errorf("looked for no %sbefore", kind)
		}
	}
	for _, s := range traces(t, dir) {
		t.Errorf("left behind: %s", s)
	}
}

// The daemon outlives a Slipway that is killed, and the next one adopts it.
func TestDaemonIsAdopted(t *testing.T) {
	w := newWorld(t)
	first := w.link.daemon.current()
	res, _ := w.mustBuild(t, w.request(plainTree(t)))
	w.Detach()
	if !first.alive() {
		t.Fatal("the daemon ended with its Slipway")
	}
	second, err := Open(t.Context(), testOptions(t, w.reg, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := second.Ready(w.ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("adopted in %s", time.Since(begin))
	if second.link.daemon.current() != first {
		t.Errorf("another daemon: %+v, was %+v", second.link.daemon.current(), first)
	}
	third, err := Open(t.Context(), testOptions(t, w.reg, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := third.Ready(w.ctx); !slipway.Temporary(err) || !strings.Contains(err.Error(), "in use by another Slipway") {
		t.Errorf("two at once: %v", err)
	}
	w.Engine = second
	if again, _ := w.mustBuild(t, w.request(plainTree(t))); again.Digest != res.Digest {
		t.Errorf("digest %s, was %s", again.Digest, res.Digest)
	}
	before := traces(t, w.dir)
	if err := second.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
	if first.alive() {
		t.Error("the daemon is still there")
	}
	nothingLeft(t, w.dir, before)
}

// A daemon with another configuration is not adopted but replaced.
func TestDaemonWithOtherOptionsIsReplaced(t *testing.T) {
	w := newWorld(t)
	first := w.link.daemon.current()
	w.Detach()
	opts := testOptions(t, w.reg, w.dir)
	opts.Parallelism = 2
	second, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Ready(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.Engine = second
	if first.alive() || second.link.daemon.current() == first {
		t.Error("the old daemon is still there")
	}
	w.mustBuild(t, w.request(plainTree(t)))
	if err := second.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
}

// A daemon that is killed comes back; the build in flight may be tried again; nothing is left of it.
func TestDaemonIsKilled(t *testing.T) {
	w := newWorld(t)
	sleeps := nap()
	first := w.link.daemon.current()
	req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN --mount=type=tmpfs,target=/t echo sleeping; sleep " + sleeps + "\n"}))
	log := newLog(t)
	done := make(chan error, 1)
	go func() {
		res, err := w.Build(w.ctx, req, log)
		if res.Failure != nil {
			err = fmt.Errorf("failed: %+v", res.Failure)
		}
		done <- err
	}()
	log.wait(w.ctx, "sleeping")
	first.signal(syscall.SIGKILL)
	begin := time.Now()
	if err := <-done; !slipway.Temporary(err) {
		t.Errorf("build in flight: %v", err)
	}
	t.Logf("the build ended after %s", time.Since(begin))
	for {
		res, err := w.Build(w.ctx, w.request(plainTree(t)), newLog(t))
		if err == nil && res.Failure == nil {
			break
		}
		if !slipway.Temporary(err) {
			t.Fatalf("build after the kill: %v %+v", err, res.Failure)
		}
	}
	if got := processes(sleeps); len(got) != 0 {
		t.Errorf("the container is still there: %v", got)
	}
	t.Logf("built again %s after the kill", time.Since(begin))
	before := traces(t, w.dir)
	if err := w.Engine.Close(w.ctx); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, w.dir, before)
}

// Slipway and its daemon are both killed: the next start cleans up and goes on.
func TestBothAreKilled(t *testing.T) {
	w := newWorld(t)
	sleeps := nap()
	req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN echo sleeping; sleep " + sleeps + "\n"}))
	log := newLog(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.Build(w.ctx, req, log) // it is killed
	}()
	log.wait(w.ctx, "sleeping")
	d := w.link.daemon
	namespaces := entries(filepath.Join(d.layout.state(), "net", "cni"))
	containers := entries(filepath.Join(d.layout.state(), "runc-overlayfs", "executor"))
	w.Detach()
	d.current().signal(syscall.SIGKILL)
	<-done
	if !poll(w.ctx, 5*time.Second, func() bool { return len(processes(sleeps)) > 0 }) {
		t.Log("the container died with the daemon; nothing to clean")
	}
	second, err := Open(t.Context(), testOptions(t, w.reg, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.Engine = second
	w.mustBuild(t, w.request(plainTree(t)))
	if got := processes(sleeps); len(got) != 0 {
		t.Errorf("the container is still there: %v", got)
	}
	for _, ns := range namespaces {
		if found, err := filepath.Glob("/var/lib/cni/results/*" + ns + "*"); err != nil || len(found) > 0 {
			t.Errorf("left behind: %v, %v", found, err)
		}
	}
	for _, c := range containers {
		if _, err := os.Stat("/run/runc/" + c); err == nil {
			t.Errorf("left behind: runc's state of %s", c)
		}
	}
	if len(namespaces) == 0 || len(containers) == 0 {
		t.Errorf("looked for nothing: %v %v", namespaces, containers)
	}
	before := traces(t, w.dir)
	second.Detach()
	if err := Remove(w.ctx, testOptions(t, w.reg, w.dir), true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(w.dir); err == nil {
		t.Error("the folder is still there")
	}
	nothingLeft(t, w.dir, before)
}

// What a killed daemon can leave is removed: containers that live on, mounts, bundles, cgroups.
func TestClean(t *testing.T) {
	e2e(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, n := newLayout(dir), network{Bridge: tag(dir)}
	cgroup := "/sys/fs/cgroup/pids/" + n.Bridge
	if !isDir("/sys/fs/cgroup/pids") {
		cgroup = "/sys/fs/cgroup/" + n.Bridge
	}
	cgroup += "/buildkit/container"
	bundle := filepath.Join(l.state(), "runc-overlayfs", "executor", "container")
	rootfs := filepath.Join(bundle, "rootfs")
	for _, d := range []string{cgroup, rootfs, l.tmp()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	container := exec.CommandContext(t.Context(), "/bin/busybox", "sleep", "4747")
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = container.Wait() // it is killed
	}()
	if err := os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte(strconv.Itoa(container.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{rootfs, l.tmp()} {
		if err := unix.Mount("tmpfs", d, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.state(), "cache"), []byte("stays"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is clean stays clean
		if err := clean(t.Context(), l, n); err != nil {
			t.Fatal(err)
		}
	}
	<-ended
	if got := traces(t, dir); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
	for _, gone := range []string{bundle, l.tmp()} {
		if _, err := os.Stat(gone); err == nil {
			t.Errorf("left behind: %s", gone)
		}
	}
	if _, err := os.Stat(filepath.Join(l.state(), "cache")); err != nil {
		t.Error("the cache is gone")
	}
}

// A daemon killed while it made a snapshot leaves a folder that the next one would trip over.
func TestHalfMadeSnapshot(t *testing.T) {
	w := newWorld(t)
	w.mustBuild(t, w.request(plainTree(t)))
	d := w.link.daemon
	snapshots := filepath.Join(d.layout.state(), "runc-overlayfs", "snapshots", "snapshots")
	w.Detach()
	d.current().signal(syscall.SIGKILL)
	if !d.current().waitGone(w.ctx, patience) {
		t.Fatal("the daemon does not end")
	}
	newest := 0
	for _, name := range entries(snapshots) {
		if n, err := strconv.Atoi(name); err == nil {
			newest = max(newest, n)
		}
	}
	// Their numbers go on from the newest that was recorded; some may have been removed since.
	const planted = 9
	for n := range planted {
		if err := os.MkdirAll(filepath.Join(snapshots, strconv.Itoa(newest+1+n), "planted"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(snapshots, "new-123", "fs"), 0o755); err != nil {
		t.Fatal(err)
	}
	second, err := Open(t.Context(), testOptions(t, w.reg, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.Engine = second
	t.Cleanup(func() {
		if err := second.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := second.Ready(w.ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(snapshots, "new-123")); err == nil {
		t.Error("an unfinished snapshot is still there")
	}
	left, err := filepath.Glob(filepath.Join(snapshots, "*", "planted"))
	if err != nil || len(left) == planted { // a second after its start the daemon removes all of them
		t.Error("no folder is gone: the daemon did not get over the next one before it was used")
	}
}

// gateway is the machine's own address on the bridge.
func (n network) gateway() netip.Addr { return n.Subnet.Masked().Addr().Next() }

// Builds and tests reach the world and nothing of this machine (D20).
func TestIsolation(t *testing.T) {
	w := lodging(t)
	gateway := w.link.daemon.network.gateway().String()
	addr := privateAddress(t)
	targets := []string{}
	for _, host := range append(hostAddresses(), addr) {
		if host == gateway {
			continue
		}
		targets = append(targets, host)
	}
	targets = append(targets, gateway)
	listening := listen(t, addr)
	onBridge := listen(t, gateway)
	script := "cd TestResults\n"
	for _, host := range targets {
		script += fmt.Sprintf("echo \"%s 1 $(nc -w 2 %s 1 </dev/null 2>&1 && echo connected)\" &\n", host, host)
	}
	for _, l := range []string{listening, onBridge} {
		host, port, err := net.SplitHostPort(l)
		if err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("echo \"%s %s $(nc -w 2 %s %s </dev/null 2>&1 && echo connected)\" &\n", host, port, host, port)
	}
	link := linkLocal(t, w.link.daemon.network.Bridge)
	if link != "" {
		script += fmt.Sprintf("echo \"%s 1 $(nc -w 2 %s%%eth1 1 </dev/null 2>&1 && echo connected)\" &\n", link, link)
	}
	script += "wait\n"
	check := func(t *testing.T, text string) {
		t.Helper()
		lines := 0
		still := append(hostAddresses(), addr, gateway, link)
		for line := range strings.Lines(text) {
			if i := strings.Index(line, "|stdout| "); i >= 0 {
				if host, _, _ := strings.Cut(line[i+len("|stdout| "):], " "); net.ParseIP(host) != nil && !slices.Contains(still, host) {
					lines++ // a bridge of somebody else's that is gone: the address leads elsewhere now
					continue
				}
			}
			if strings.Contains(line, "refused") || strings.Contains(line, "connected") {
				t.Errorf("reached: %s", line)
			}
			if strings.Contains(line, " nc: ") {
				lines++
			}
		}
		if lines < len(targets)+2 {
			t.Errorf("only %d of %d tries in\n%s", lines, len(targets)+2, text)
		}
	}
	t.Run("build", func(t *testing.T) {
		req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nWORKDIR /TestResults\nWORKDIR /\nCOPY s.sh /\nRUN sh /s.sh\n", "s.sh": script}))
		req.Image = nil
		_, log := w.mustBuild(t, req)
		check(t, log.all())
	})
	t.Run("test", func(t *testing.T) {
		_, log := w.runTests(t, w.testRequest(t, runner, map[string]string{"run.sh": script}))
		check(t, log.all())
	})
	t.Run("the listener would answer otherwise", func(t *testing.T) {
		for _, l := range []string{listening, onBridge} {
			conn, err := net.DialTimeout("tcp", l, patience)
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	})
	t.Run("names resolve and the world is reached", func(t *testing.T) {
		conn, err := net.DialTimeout("tcp", "proxy.golang.org:443", patience)
		if err != nil {
			t.Skipf("this machine does not reach it either: %v", err)
		}
		conn.Close()
		req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN nc -w 30 proxy.golang.org 443 </dev/null && echo reached the world\n"}))
		req.Image = nil
		if _, log := w.mustBuild(t, req); !log.has("reached the world") {
			t.Error(log.all())
		}
	})
	t.Run("the probe agrees", func(t *testing.T) {
		for _, f := range w.Probe(w.ctx) {
			t.Logf("%+v", f)
			if !f.OK {
				t.Errorf("%+v", f)
			}
		}
	})
	t.Run("the guard puts the rules first again", func(t *testing.T) {
		d := w.link.daemon
		d.unwatch()
		rule := []string{"-w", "10", "-I", "FORWARD", "1", "-s", "198.51.100.77/32", "-j", "ACCEPT"}
		if _, err := runProgram(w.ctx, d.firewall.programs["iptables"], rule...); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := runProgram(context.Background(), d.firewall.programs["iptables"], "-w", "10", "-D", "FORWARD", "-s", "198.51.100.77/32", "-j", "ACCEPT"); err != nil {
				t.Error(err)
			}
		}()
		if d.firewall.intact(w.ctx, d.network) {
			t.Fatal("a rule before ours is not noticed")
		}
		d.guard(w.ctx)
		if !d.firewall.intact(w.ctx, d.network) {
			t.Error("the rules are not first again")
		}
	})
}

// unwatch ends the supervisor: what a test does to the firewall nobody undoes before it has looked.
func (d *daemon) unwatch() {
	d.stop()
	<-d.done
}

// Two builds at once do not reach each other.
func TestBuildsDoNotReachEachOther(t *testing.T) {
	w := lodging(t)
	serve := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN echo serving at $(ip -4 -o addr | grep 10.99); nc -l -p 7777\n"}))
	serve.Image = nil
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	log := newLog(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.Build(ctx, serve, log) // it ends when we cancel
	}()
	log.wait(w.ctx, "serving at 2:")
	var addr string
	for _, l := range log.lines {
		if rest, ok := strings.CutPrefix(l.Text, "serving at "); ok {
			for _, f := range strings.Fields(rest) {
				if a, _, ok := strings.Cut(f, "/"); ok && strings.HasPrefix(a, "10.99.") {
					addr = a
				}
			}
		}
	}
	if addr == "" {
		t.Fatalf("no address\n%s", log.all())
	}
	attack := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nRUN nc -w 2 " + addr + " 7777 </dev/null 2>&1 && echo reached it || echo did not\n"}))
	attack.Image = nil
	_, attackLog := w.mustBuild(t, attack)
	if n := attackLog.count(func(l slipway.LogLine) bool { return l.Text == "did not" }); n != 1 {
		t.Errorf("a build reached another at %s\n%s", addr, attackLog.all())
	}
	cancel()
	<-done
}

// privateAddress puts an address on the loopback device that is not loopback, as a cluster's node has.
func privateAddress(t testing.TB) string {
	t.Helper()
	addr := fmt.Sprintf("10.254.%d.%d", os.Getpid()>>8&255, os.Getpid()&255) // of this process's tests
	ip, err := lookProgram("ip")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := runProgram(t.Context(), ip, "addr", "add", addr+"/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := runProgram(context.Background(), ip, "addr", "del", addr+"/32", "dev", "lo"); err != nil {
			t.Error(err)
		}
	})
	return addr
}

func listen(t testing.TB, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l.Addr().String()
}

// linkLocal is the bridge's own IPv6 address, "" for none.
func linkLocal(t testing.TB, bridge string) string {
	t.Helper()
	ifc, err := net.InterfaceByName(bridge)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := ifc.Addrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() == nil {
			return n.IP.String()
		}
	}
	return ""
}

//go:build linux

package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/slipway-cd/slipway/stage/build"
)

// outside starts a web server that is not on this machine as far as its network goes: in a namespace of its own, behind
// a pair of links. It serves /file, the git repositories of a folder at /git, and /to/HOST/PORT leads to that.
func outside(t testing.TB, repositories string) string {
	t.Helper()
	ip, err := lookProgram("ip")
	if err != nil {
		t.Fatal(err)
	}
	near, far := fmt.Sprintf("near%d", os.Getpid()), fmt.Sprintf("far%d", os.Getpid()) // of this process's tests
	listener := make(chan net.Listener, 1)
	go func() {
		defer close(listener)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		l, err := listenOutside(ip, near, far)
		if err != nil {
			t.Error(err)
			return
		}
		listener <- l
	}()
	t.Cleanup(func() {
		if _, err := runProgram(context.Background(), ip, "link", "del", near); err != nil {
			t.Error(err)
		}
	})
	l, ok := <-listener
	if !ok {
		t.FailNow()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "from outside") })
	git, err := lookProgram("git")
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/git/", &cgi.Handler{
		Path: git, Args: []string{"http-backend"}, Root: "/git", Env: []string{"GIT_PROJECT_ROOT=" + repositories, "GIT_HTTP_EXPORT_ALL=1"},
	})
	mux.HandleFunc("/to/{host}/{port}/{rest...}", func(w http.ResponseWriter, r *http.Request) {
		to := &url.URL{Scheme: "http", Host: net.JoinHostPort(r.PathValue("host"), r.PathValue("port")), Path: r.PathValue("rest"), RawQuery: r.URL.RawQuery}
		http.Redirect(w, r, to.String(), http.StatusFound)
	})
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

// listenOutside listens in a network namespace of its own, for which it needs the calling thread.
func listenOutside(ip, near, far string) (l net.Listener, err error) {
	net4 := fmt.Sprintf("198.%d.%d.", 18+os.Getpid()>>14&1, os.Getpid()>>6&255) // for benchmarks: nobody's
	nearAddress, farAddress := fmt.Sprint(net4, os.Getpid()&63*4+1), fmt.Sprint(net4, os.Getpid()&63*4+2)
	run := func(commands ...string) error {
		for _, c := range commands {
			if _, err := runProgram(context.Background(), ip, strings.Fields(c)...); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run("link add "+near+" type veth peer name "+far, "addr add "+nearAddress+"/30 dev "+near, "link set "+near+" up"); err != nil {
		return nil, err
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)) }()
	moved, thread := make(chan error), unix.Gettid()
	go func() { moved <- run(fmt.Sprintf("link set %s netns %d", far, thread)) }() // by a thread that is still there
	if err := <-moved; err != nil {
		return nil, err
	}
	if err := run("addr add "+farAddress+"/30 dev "+far, "link set "+far+" up", "link set lo up"); err != nil {
		return nil, err
	}
	return net.Listen("tcp", farAddress+":0")
}

// secret is a service of this machine that counts who reaches it.
func secret(t testing.TB, host string) (address string, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		io.WriteString(w, "secret")
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	return l.Addr().String(), asked
}

// A redirect, of which the policy knows nothing, does not lead the daemon to this machine, while what it is given on loopback is
// reached (D20).
func TestFence(t *testing.T) {
	w := lodging(t)
	repositories := t.TempDir()
	out := outside(t, repositories)
	build := func(t *testing.T, dockerfile string) (build.Result, *testLog) {
		t.Helper()
		req := w.request(tree(t, map[string]string{"Dockerfile": dockerfile}))
		req.Image = nil
		log := newLog(t)
		res, err := w.Build(w.ctx, req, log)
		if err != nil {
			t.Fatalf("%v\n%s", err, log.all())
		}
		return res, log
	}
	hosts := map[string]string{"loopback": "127.0.0.1", "an address of this machine": privateAddress(t), "loopback of IPv6": "::1"}
	for name, host := range hosts {
		address, asked := secret(t, host)
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		for kind, source := range map[string]string{
			"file": out + "/to/" + host + "/" + port + "/secret",
			"git":  out + "/to/" + host + "/" + port + "/secret.git",
		} {
			t.Run(kind+" at "+name, func(t *testing.T) {
				res, log := build(t, "FROM busybox:1.36\nADD "+source+" /x\n")
				want := "leads to " + host + ", an address of the machine that builds or of its private networks: builds may not reach it"
				if res.Failure == nil || !strings.Contains(res.Failure.Message, want) {
					t.Errorf("%+v\n%s", res.Failure, log.all())
				}
				if n := asked.Load(); n != 0 {
					t.Errorf("it was asked %d times", n)
				}
			})
		}
		if resp, err := http.Get("http://" + address); err != nil || asked.Load() == 0 {
			t.Errorf("it does not answer anybody: %v", err)
		} else {
			resp.Body.Close()
		}
	}
	t.Run("git submodule", func(t *testing.T) {
		address, asked := secret(t, "127.0.0.1")
		repository(t, filepath.Join(repositories, "plain.git"), "")
		repository(t, filepath.Join(repositories, "sub.git"), "http://"+address+"/secret.git")
		if res, log := build(t, "FROM busybox:1.36\nADD "+out+"/git/plain.git /x\nRUN ls -a /x\n"); res.Failure != nil || !log.has(".gitmodules") {
			t.Errorf("without: %+v\n%s", res.Failure, log.all())
		}
		req := w.request(tree(t, map[string]string{"Dockerfile": "FROM busybox:1.36\nADD " + out + "/git/sub.git /x\n"}))
		req.Image = nil
		log := newLog(t)
		if res, err := w.Build(w.ctx, req, log); err == nil && res.Failure == nil || !log.has("Failed to connect to 127.0.0.1") {
			t.Errorf("%v %+v\n%s", err, res.Failure, log.all())
		}
		if n := asked.Load(); n != 0 {
			t.Errorf("it was asked %d times", n)
		}
	})
	t.Run("what is outside is reached", func(t *testing.T) {
		if res, log := build(t, "FROM busybox:1.36\nADD "+out+"/file /x\nRUN cat /x\n"); res.Failure != nil || !log.has("from outside") {
			t.Errorf("%+v\n%s", res.Failure, log.all())
		}
	})
	t.Run("a mirror and a registry on loopback are reached", func(t *testing.T) {
		other := newRegistry(t)
		req := w.request(plainTree(t))
		w.mustBuild(t, req)
		req.Image.Registry.Address = other.address
		if _, err := w.Build(w.ctx, req, newLog(t)); err == nil || !strings.Contains(err.Error(), "401") {
			t.Errorf("the other registry does not answer that the password is missing: %v", err)
		}
	})
	t.Run("the daemon has the group and containers have not", func(t *testing.T) {
		d := w.link.daemon
		status := procStatus(t, d.current().PID)
		group := strconv.FormatUint(uint64(d.network.Group), 10)
		if status["Groups"] != group || status["Gid"] != "0 0 0 0" || status["Uid"] != "0 0 0 0" {
			t.Errorf("daemon: groups %q, gid %q, uid %q, want the group %s", status["Groups"], status["Gid"], status["Uid"], group)
		}
		res, log := build(t, "FROM busybox:1.36\nWORKDIR /a/b\nCOPY Dockerfile .\nADD "+out+"/file f\nRUN id -G; touch n; stat -c '%u:%g' /a /a/b Dockerfile f n | tr '\\n' ' '\n")
		if res.Failure != nil || !log.has("0:0 0:0 0:0 0:0 0:0") || log.has(group) {
			t.Errorf("%+v\n%s", res.Failure, log.all())
		}
	})
	t.Run("what others do to the rules is undone", func(t *testing.T) { tampered(t, w) })
}

// repository makes a bare git repository, with a submodule at that URL unless it is empty.
func repository(t testing.TB, dir, submodule string) {
	t.Helper()
	git := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@a.example", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@a.example")
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("git %q: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	git("", "init", "-q", "--bare", "-b", "main")
	modules := ""
	if submodule != "" {
		modules = "[submodule \"sub\"]\n\tpath = sub\n\turl = " + submodule + "\n"
	}
	list := "100644 blob " + git(modules, "hash-object", "-w", "--stdin") + "\t.gitmodules\n"
	if submodule != "" {
		list += "160000 commit " + strings.Repeat("ab", 20) + "\tsub\n"
	}
	commit := git("", "commit-tree", "-m", "x", git(list, "mktree", "--missing"))
	git("", "update-ref", "refs/heads/main", commit)
}

func tampered(t *testing.T, w *world) {
	d := w.link.daemon
	d.unwatch()
	for _, family := range d.firewall.families() {
		for _, undo := range [][]string{
			append([]string{"-D", "OUTPUT"}, d.gate.fence.jump(d.network)...),
			{"-I", "OUTPUT", "1", "-p", "udp", "--dport", "4242", "-j", "ACCEPT"},
		} {
			if _, err := runProgram(w.ctx, d.firewall.programs[family], append([]string{"-w", "10"}, undo...)...); err != nil {
				t.Fatal(err)
			}
			if d.firewall.raised(w.ctx, d.network) {
				t.Fatalf("%s %v is not noticed", family, undo)
			}
			d.guardFence(w.ctx)
			if !d.firewall.raised(w.ctx, d.network) {
				t.Errorf("%s %v is not undone", family, undo)
			}
			if undo[0] == "-I" {
				if _, err := runProgram(w.ctx, d.firewall.programs[family], "-w", "10", "-D", "OUTPUT", "-p", "udp", "--dport", "4242", "-j", "ACCEPT"); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// The fence stays while no Slipway runs, is as it was for the next one, and goes with the daemon.
func TestFenceOutlivesSlipway(t *testing.T) {
	w := newWorld(t)
	d := w.link.daemon
	fw, n, rules := d.firewall, d.network, d.gate.fence
	w.Detach()
	if !fw.raised(w.ctx, n) {
		t.Fatal("the fence is gone with Slipway")
	}
	second, err := Open(t.Context(), testOptions(t, w.reg, w.dir))
	if err != nil {
		t.Fatal(err)
	}
	w.Engine = second
	if err := second.Ready(w.ctx); err != nil {
		t.Fatal(err)
	}
	if got := second.link.daemon.gate.fence; !got.equal(rules) || second.link.daemon.network.Group != n.Group {
		t.Errorf("another fence: %+v, was %+v", got, rules)
	}
	second.Detach()
	d.current().signal(syscall.SIGKILL)
	before := traces(t, w.dir)
	if err := Remove(w.ctx, testOptions(t, w.reg, w.dir), true); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(before, func(s string) bool { return strings.HasPrefix(s, "ip6tables-save: -A OUTPUT -m owner") }) {
		t.Errorf("no fence for IPv6 in %q", before)
	}
	for _, s := range traces(t, w.dir) {
		t.Errorf("left behind: %s", s)
	}
}

func procStatus(t testing.TB, pid int) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for line := range strings.Lines(string(raw)) {
		k, v, _ := strings.Cut(line, ":")
		out[k] = strings.Join(strings.Fields(v), " ")
	}
	return out
}

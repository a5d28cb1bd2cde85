package buildkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/slipway-cd/slipway"
)

// runNet is the network in which the containers of one test run reach each other: a bridge in a network
// namespace that nothing else is in, neither this machine nor another run. It lasts as long as this process holds it
// open or a container is joined to it.
type runNet struct {
	layout layout
	ns     *os.File
	hosts  []string
}

// newRunNet makes an empty network.
func (d *daemon) newRunNet() (*runNet, error) {
	if f := joinable(); !f.OK {
		return nil, slipway.Errorf(slipway.Unavailable, "services of tests: %s; %s", f.Detail, f.Do)
	}
	var ns *os.File
	err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() (err error) {
		ns, err = os.Open(ownNetwork)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make a network for services of tests: %w", err)
	}
	return &runNet{layout: d.layout, ns: ns}, nil
}

// ownNetwork is the network namespace that the calling thread is in.
const ownNetwork = "/proc/thread-self/ns/net"

// elsewhere does something on a thread that enter brought into another network, and brings the thread back. A thread
// must not end with its goroutine while it can be helped: to the processes that it happened to start Linux says that their
// parent has died (Pdeathsig), and git ends in the middle of somebody's push. One that cannot be brought back ends.
func elsewhere(enter, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(ownNetwork)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		defer home.Close()
		if err = enter(); err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = do()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// add has the container that will have the host name joined to the network when it starts.
func (n *runNet) add(host string, addr netip.Addr) error {
	config, err := renderJoin(addr)
	if err != nil {
		return err
	}
	dir := n.layout.join(host)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("join %s to its network: %w", host, err)
	}
	n.hosts = append(n.hosts, host)
	// Dangling when this process is gone: then nothing can be joined any more.
	err = os.Symlink(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.ns.Fd()), filepath.Join(dir, "netns"))
	if err == nil {
		err = writeFile(filepath.Join(dir, "network.json"), config)
	}
	if err != nil {
		return fmt.Errorf("join %s to its network: %w", host, err)
	}
	return nil
}

// close lets go of the network.
func (n *runNet) close() error {
	errs := []error{n.ns.Close()}
	for _, host := range n.hosts {
		errs = append(errs, os.RemoveAll(n.layout.join(host)))
	}
	return errors.Join(errs...)
}

// wait returns when none of its containers runs any more, or ctx is done.
func (n *runNet) wait(ctx context.Context) {
	poll(ctx, releaseLimit, func() bool {
		return !slices.ContainsFunc(n.hosts, func(host string) bool {
			_, _, err := n.container(host)
			return err == nil
		})
	})
}

// connect makes a TCP connection from within the network, as the tests would, and closes it.
func (n *runNet) connect(ctx context.Context, at netip.AddrPort) error {
	return elsewhere(func() error { return unix.Setns(int(n.ns.Fd()), unix.CLONE_NEWNET) }, func() error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp4", at.String())
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// maxCheckOutput is how much of a check's output is kept, the end of it.
const maxCheckOutput = 4 << 10

// check runs a command in the container with the host name as its first process was run: same user, environment,
// folder, rights. BuildKit could too, but would end the container with a command that fails.
func (n *runNet) check(ctx context.Context, host string, args []string) (output string, err error) {
	id, process, err := n.container(host)
	if err != nil {
		return "", err
	}
	if process["args"], err = json.Marshal(args); err != nil {
		return "", err
	}
	raw, err := json.Marshal(process)
	if err != nil {
		return "", err
	}
	file := filepath.Join(n.layout.join(host), "check.json")
	if err := writeFile(file, raw); err != nil {
		return "", err
	}
	out := &lastBytes{limit: maxCheckOutput}
	cmd := exec.CommandContext(ctx, n.layout.runc, "--log", "/dev/null", "exec", "--process", file, id)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = time.Second // what the command left running may hold its output
	err = cmd.Run()
	return out.text(), err
}

// runs reports whether the container with the host name runs: between being set up, when it is found, and that it is
// not there for commands yet.
func (n *runNet) runs(ctx context.Context, host string) bool {
	id, _, err := n.container(host)
	if err != nil {
		return false
	}
	cmd := exec.CommandContext(ctx, n.layout.runc, "--log", "/dev/null", "state", id)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	out, err := cmd.Output()
	var state struct {
		Status string `json:"status"`
	}
	return err == nil && json.Unmarshal(out, &state) == nil && state.Status == "running"
}

// container finds the running container with the host name: its id, and how its first process was run.
func (n *runNet) container(host string) (id string, process map[string]json.RawMessage, err error) {
	bundles, err := filepath.Glob(filepath.Join(n.layout.state(), "runc-*", "executor", "*", "config.json"))
	if err != nil {
		return "", nil, err
	}
	for _, b := range bundles {
		raw, err := os.ReadFile(b)
		if err != nil {
			continue // containers come and go
		}
		var spec struct {
			Hostname string                     `json:"hostname"`
			Process  map[string]json.RawMessage `json:"process"`
		}
		if json.Unmarshal(raw, &spec) == nil && spec.Hostname == host {
			return filepath.Base(filepath.Dir(b)), spec.Process, nil
		}
	}
	return "", nil, errors.New("its container does not run")
}

// lastBytes keeps the end of what is written.
type lastBytes struct {
	limit int
	buf   []byte
}

// Write never fails.
func (e *lastBytes) Write(b []byte) (int, error) {
	e.buf = append(e.buf, b...)
	if over := len(e.buf) - e.limit; over > 0 {
		e.buf = e.buf[over:]
	}
	return len(b), nil
}

func (e *lastBytes) text() string {
	return string(bytes.TrimSpace(bytes.ToValidUTF8(e.buf, []byte("?"))))
}

// installPlugins makes the folder of CNI plugins: the machine's, and Slipway's own. What is there and right is not
// touched: a daemon that will be adopted may be using it.
func installPlugins(l layout) error {
	if err := os.MkdirAll(l.plugins(), 0o700); err != nil {
		return err
	}
	for _, p := range []string{"bridge", "host-local", "loopback", "static"} {
		link, want := filepath.Join(l.plugins(), p), filepath.Join(l.cni, p)
		if have, err := os.Readlink(link); err == nil && have == want {
			continue
		}
		if err := removeIfThere(link); err != nil {
			return err
		}
		if err := os.Symlink(want, link); err != nil {
			return err
		}
	}
	file := filepath.Join(l.plugins(), joinPlugin)
	if have, err := os.ReadFile(file); err == nil && string(have) == joinScript {
		return nil
	}
	if err := os.WriteFile(file+".tmp", []byte(joinScript), 0o700); err != nil {
		return err
	}
	return os.Rename(file+".tmp", file)
}

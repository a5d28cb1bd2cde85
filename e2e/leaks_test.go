package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway/slipwaytest"
)

// surroundings is what of a machine must be the same after a run: process ids are kept with their
// start time, rules as iptables-save prints them, without counters.
type surroundings struct {
	processes, mounts, links, rules map[string]string // what it is, by what tells it apart
}

// shared says that other programs work on this machine meanwhile: only what carries a mark of the run
// counts then. On a machine of its own everything new counts.
func shared() bool { return os.Getenv("SLIPWAY_E2E_SHARED") == "1" }

func lookAround() (s surroundings, err error) {
	s.processes = processes()
	if s.mounts, err = mountTable(); err != nil {
		return s, err
	}
	s.links = map[string]string{}
	links, err := net.Interfaces()
	if err != nil {
		return s, err
	}
	for _, l := range links {
		addresses, err := l.Addrs()
		if err != nil {
			continue // it went meanwhile
		}
		s.links[l.Name] = fmt.Sprint(addresses)
	}
	s.rules = map[string]string{}
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		out, err := exec.Command(program).Output()
		if err != nil {
			return s, fmt.Errorf("%s: %w", program, err)
		}
		table := ""
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasPrefix(line, "*"):
				table = line
			case strings.HasPrefix(line, "-"), strings.HasPrefix(line, ":") && strings.Contains(line, " - "): // not the kernel's own chains
				line, _, _ = strings.Cut(line, " [") // counters
				s.rules[program+" "+table+" "+line] = line
			}
		}
	}
	return s, nil
}

// leaks compares the machine with how it was before. Things that end by themselves get a while.
func (s surroundings) leaks(ctx context.Context) error {
	var found []string
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := slipwaytest.Await(ctx, 200*time.Millisecond, func() (bool, error) {
		now, err := lookAround()
		found = now.since(s)
		return len(found) == 0, err
	})
	if len(found) > 0 {
		return fmt.Errorf("the run left behind:\n  %s", strings.Join(found, "\n  "))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// since is what is there and was not before.
func (s surroundings) since(before surroundings) []string {
	var out []string
	for _, c := range []struct {
		what        string
		now, before map[string]string
		known       bool // marked as the run's wherever it comes from
	}{
		{"process", s.processes, before.processes, true},
		{"mount", s.mounts, before.mounts, false},
		{"link", s.links, before.links, false},
		{"firewall rule", s.rules, before.rules, false},
	} {
		for key, v := range c.now {
			_, old := c.before[key]
			if !old && (c.known || !shared() || strings.Contains(key+v, place)) {
				out = append(out, c.what+" "+key+" "+v)
			}
		}
	}
	sort.Strings(out)
	return out
}

// processes are those that a run started, marked by their environment, their arguments or the folder
// in which their root file system lies.
func processes() map[string]string {
	found := map[string]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() || pid == os.Getppid() {
			continue
		}
		cmdline, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(cmdline) == 0 {
			continue // gone, or the kernel's
		}
		environ, _ := os.ReadFile(dir + "/environ")
		mark := runEnv + "=" + os.Getenv(runEnv)
		text := strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
		if strings.Contains(string(environ), mark) || strings.Contains(text, place) || strings.Contains(rootOf(dir), place) {
			found[fmt.Sprintf("%d (started %s)", pid, startOf(dir))] = text
		}
	}
	return found
}

// rootOf is the mount of a process's root.
func rootOf(proc string) string {
	b, err := os.ReadFile(proc + "/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == "/" {
			return line
		}
	}
	return ""
}

func startOf(proc string) string { return statOf(proc, 19) }

// parentOf is the process that one belongs to, 0 when it is gone.
func parentOf(pid int) int {
	parent, _ := strconv.Atoi(statOf(fmt.Sprintf("/proc/%d", pid), 1)) //nolint:errcheck // it is gone
	return parent
}

// statOf is a field of a process's stat, counted from the one after its name.
func statOf(proc string, field int) string {
	b, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return "?"
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	if f := strings.Fields(rest); len(f) > field {
		return f[field]
	}
	return "?"
}

// mountTable is every mount by its point, and what is mounted there.
func mountTable() (map[string]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) > 4 {
			_, what, _ := strings.Cut(s.Text(), " - ")
			all[fields[4]] = what
		}
	}
	return all, nil
}

// mountsBelow are the mount points below a folder, deepest first.
func mountsBelow(dir string) ([]string, error) {
	all, err := mountTable()
	if err != nil {
		return nil, err
	}
	var out []string
	for point := range all {
		if strings.HasPrefix(point, dir+"/") {
			out = append(out, point)
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return out, nil
}

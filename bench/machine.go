package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
)

// machine is where it was measured.
type machine struct {
	cpu    string
	cores  int
	memory float64 // GiB
	kernel string
	golang string
	load   string
	commit string
}

// String is the machine on one line.
func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s), %.0f GiB, Linux %s, %s", m.cores, m.cpu, m.memory, m.kernel, m.golang)
}

func describeMachine(ctx context.Context) machine {
	m := machine{cpu: field("/proc/cpuinfo", "model name"), cores: runtime.NumCPU(), golang: runtime.Version(), kernel: firstField("/proc/sys/kernel/osrelease")}
	if kib, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.memory = kib / (1 << 20)
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	m.commit = gitCommit(ctx)
	return m
}

// gitCommit is the commit of the checkout, and whether files differ from it.
func gitCommit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	commit := strings.TrimSpace(string(out))
	if dirty, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output(); err == nil && len(dirty) > 0 {
		commit += " with changes"
	}
	return commit
}

func firstField(file string) string {
	b, err := os.ReadFile(file)
	if fields := strings.Fields(string(b)); err == nil && len(fields) > 0 {
		return fields[0]
	}
	return "unknown"
}

// field is the value of a line "key: value" of a file of /proc.
func field(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if k, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

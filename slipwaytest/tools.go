// Package slipwaytest is what tests and the demo need around them: Debian packages, binaries, a
// server process, base images, a git repository made from the samples. It is kept with the standard of
// a product and is never imported by one.
package slipwaytest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Progress is told what is being done, for people who wait.
type Progress func(format string, args ...any)

// packages are the Debian packages that the real parts need: what runs containers, their network and
// the local cluster's store.
func packages() []string {
	return []string{"git", "openssh-client", "ca-certificates", "iproute2", "runc", "iptables", "conntrack", "containerd", "etcd-server", "containernetworking-plugins", "busybox-static"}
}

// InstallPackages installs what is missing of the Debian packages, and of extra ones.
func InstallPackages(ctx context.Context, say Progress, extra ...string) error {
	var missing []string
	for _, p := range append(packages(), extra...) {
		out, err := exec.CommandContext(ctx, "dpkg-query", "-W", "-f", "${Status}", p).Output()
		if err != nil || !strings.Contains(string(out), "ok installed") {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	say("installing Debian packages: %s", strings.Join(missing, " "))
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", args[0], err, tail(out, 20))
		}
	}
	return nil
}

func tail(b []byte, lines int) string {
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Root is the folder of the checkout: the nearest one above the working directory with the go.mod of
// Slipway.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(b, []byte("module github.com/slipway-cd/slipway\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the checkout of Slipway above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Cache is the folder for what is slow to make and the same each time: tools by version, layers of
// base images. SLIPWAY_CACHE chooses another one.
func Cache() (string, error) {
	if dir := os.Getenv("SLIPWAY_CACHE"); dir != "" {
		return dir, os.MkdirAll(dir, 0o755)
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	dir := filepath.Join(base, "slipway")
	return dir, os.MkdirAll(dir, 0o755)
}

// Binaries are the programs built from the checkout.
type Binaries struct {
	Slipway string
	Cluster string
	Scanner string
}

var build struct {
	sync.Mutex
	done Binaries
}

// Build builds slipway, slipway-scanner and slipway-cluster into bin/ of the checkout; Go's cache makes a second call
// quick. Within a process it builds once.
func Build(ctx context.Context, say Progress) (Binaries, error) {
	build.Lock()
	defer build.Unlock()
	if build.done.Slipway != "" {
		return build.done, nil
	}
	root, err := Root()
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{Slipway: filepath.Join(root, "bin", "slipway"), Cluster: filepath.Join(root, "bin", "slipway-cluster"),
		Scanner: filepath.Join(root, "bin", "slipway-scanner")}
	for _, target := range []struct{ dir, pkg, out string }{
		{root, "./cmd/slipway", b.Slipway},
		{filepath.Join(root, "scanner"), "./cmd/slipway-scanner", b.Scanner},
		{filepath.Join(root, "cluster"), "./cmd/slipway-cluster", b.Cluster},
	} {
		say("building %s", filepath.Base(target.out))
		cmd := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", target.out, target.pkg)
		cmd.Dir, cmd.Env = target.dir, append(os.Environ(), "CGO_ENABLED=0") // as make build does
		if out, err := cmd.CombinedOutput(); err != nil {
			return Binaries{}, fmt.Errorf("build %s: %w\n%s", target.pkg, err, tail(out, 40))
		}
	}
	build.done = b
	return b, nil
}

// Package e2e_test plays what users do against the real slipway binary, a real Kubernetes, BuildKit,
// registry and git. It needs root and runs only with SLIPWAY_E2E=1; then nothing is skipped. It tests
// no package by itself: that is done beside the package.
//
// The test binary runs twice. The first process prepares the machine, brings up one cluster, and runs
// the second, which has the scenarios; whatever becomes of that one (failure, panic, signal, timeout),
// the first takes everything away again and compares the machine with what it was before.
//
// SLIPWAY_E2E_KEEP=1 leaves the cluster up for the next run, and nothing is compared then.
// SLIPWAY_E2E_BINARIES is a folder with slipway and slipway-cluster to test instead of the checkout's.
package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	place       = "/var/lib/slipway-e2e" // all that a run makes, at a fixed place: the next run finds what a killed one left
	clusterName = "e2e"
	clusterDir  = place + "/cluster"
	childEnv    = "SLIPWAY_E2E_WORLD"
	runEnv      = "SLIPWAY_E2E_RUN" // marks every process that a run starts
	cacheHint   = "the first run on a machine builds Kubernetes and BuildKit, which takes up to 15 minutes"
)

// machine is what the scenarios find prepared.
type machine struct {
	Binaries   slipwaytest.Binaries
	Kubeconfig string
	Began      time.Time
}

// world is set before the scenarios run and not changed afterwards.
var world machine

func TestMain(m *testing.M) {
	switch {
	case os.Getenv("SLIPWAY_E2E") != "1":
		fmt.Println("the end-to-end scenarios need root and real parts: set SLIPWAY_E2E=1")
	case os.Getenv(childEnv) != "":
		os.Exit(scenarios(m))
	default:
		if err := supervise(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
			os.Exit(1)
		}
	}
}

// scenarios runs the tests in the machine that the first process prepared.
func scenarios(m *testing.M) int {
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &world); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	os.Unsetenv(childEnv) //nolint:errcheck // only an empty name is refused
	code := m.Run()
	if err := stopSites(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: stop servers:", err)
		code = 1
	}
	return code
}

var errScenarios = errors.New("scenarios failed")

// supervise prepares the machine, runs the scenarios in a process of their own, and cleans up.
func supervise() (err error) {
	world.Began = time.Now()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if os.Geteuid() != 0 {
		return errors.New("run it as root: it makes a cluster, mounts and network devices")
	}
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Setenv(runEnv, fmt.Sprint(os.Getpid(), "-", world.Began.Unix())); err != nil {
		return err
	}
	if err := slipwaytest.InstallPackages(ctx, progress); err != nil {
		return err
	}
	if world.Binaries, err = binaries(ctx); err != nil {
		return err
	}
	if _, err := buildkit.Install(ctx, buildkit.Options{Dir: place, Progress: func(line string) { progress("%s", line) }}); err != nil {
		return err
	}
	keep := os.Getenv("SLIPWAY_E2E_KEEP") == "1"
	if err := clean(ctx, keep); err != nil {
		return fmt.Errorf("clean what an earlier run left: %w", err)
	}
	before, err := lookAround()
	if err != nil {
		return err
	}
	defer func() {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Minute)
		defer cancel()
		began := time.Now()
		err = errors.Join(err, clean(after, keep))
		progress("all taken away in %s", seconds(time.Since(began)))
		if !keep {
			err = errors.Join(err, before.leaks(after))
		}
	}()
	if err := startCluster(ctx); err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	return runScenarios(ctx)
}

func binaries(ctx context.Context) (slipwaytest.Binaries, error) {
	if dir := os.Getenv("SLIPWAY_E2E_BINARIES"); dir != "" {
		return slipwaytest.Binaries{Slipway: filepath.Join(dir, "slipway"), Cluster: filepath.Join(dir, "slipway-cluster")}, nil
	}
	return slipwaytest.Build(ctx, progress)
}

// lock keeps a second run away. A run whose go test was killed goes on for nobody: it is ended, and what it made
// is then what an earlier run left.
func lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(place, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(place+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = slipwaytest.Await(ctx, 100*time.Millisecond, func() (bool, error) {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return true, nil
		}
		var pid, parent int
		if _, err := fmt.Fscan(io.NewSectionReader(f, 0, 100), &pid, &parent); err != nil || !orphaned(pid, parent) {
			return false, errors.New("another end-to-end run is using it")
		}
		err := syscall.Kill(pid, syscall.SIGKILL)
		if errors.Is(err, syscall.ESRCH) { // it ends just now
			err = nil
		}
		return false, err
	})
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%-20d %-20d", os.Getpid(), os.Getppid()), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", place, err)
	}
	return func() { f.Close() }, nil
}

// orphaned reports whether a process is this program, and no longer the child of that parent.
func orphaned(pid, parent int) bool {
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	program, _, _ := strings.Cut(string(args), "\x00")
	return err == nil && filepath.Base(program) == filepath.Base(os.Args[0]) && parentOf(pid) != parent
}

func startCluster(ctx context.Context) error {
	began := time.Now()
	progress("starting the cluster (%s)", cacheHint)
	out, err := command(ctx, "", world.Binaries.Cluster, "--name", clusterName, "--dir", clusterDir, "up")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		progress("  %s", strings.TrimRight(line, "\n"))
	}
	world.Kubeconfig = filepath.Join(clusterDir, "kubeconfig")
	progress("the cluster is up after %s", seconds(time.Since(began)))
	return nil
}

// runScenarios runs this binary again, as the process with the tests.
func runScenarios(ctx context.Context) error {
	b, err := json.Marshal(world)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), childEnv+"="+string(b))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	})
	defer stop()
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		return fmt.Errorf("%w (%s)", errScenarios, exit)
	} else if err != nil {
		return err
	}
	return ctx.Err()
}

// clean takes away what a run made: servers (they ended with it), their BuildKits, mounts, the
// cluster, files.
func clean(ctx context.Context, keepCluster bool) error {
	var problems []error
	folders, err := filepath.Glob(place + "/sites/*/data")
	problems = append(problems, err)
	for _, data := range folders {
		_, err := command(ctx, "", world.Binaries.Slipway, "cleanup", "--data", data)
		problems = append(problems, err)
	}
	problems = append(problems, cleanLaptop(ctx))
	err = unmountBelow(place + "/sites")
	problems = append(problems, err)
	if err == nil { // else it might be somebody's data
		problems = append(problems, os.RemoveAll(place+"/sites"))
	}
	if _, err := os.Stat(clusterDir); keepCluster || errors.Is(err, fs.ErrNotExist) {
		return errors.Join(problems...)
	}
	_, err = command(ctx, "", world.Binaries.Cluster, "--name", clusterName, "--dir", clusterDir, "down")
	return errors.Join(append(problems, err)...)
}

// unmountBelow takes away all mounts below a folder, those that lie over others too.
func unmountBelow(dir string) error {
	for {
		mounts, err := mountsBelow(dir)
		if err != nil || len(mounts) == 0 {
			return err
		}
		for _, m := range mounts {
			if err := syscall.Unmount(m, syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", m, err)
			}
		}
	}
}

// command runs a program and returns what it printed.
func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// progress tells people who wait what happens, and when.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "e2e %6.1fs  %s\n", time.Since(world.Began).Seconds(), fmt.Sprintf(format, args...))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

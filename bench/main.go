// Command bench measures what Slipway promises about speed and memory, on real parts: the real binary,
// git, BuildKit, registry and Kubernetes. Each figure is taken in the same run as what it is compared
// with, one after the other in turns, so that a slow or a busy machine slows both. It prints a table and
// writes docs/benchmarks.md; it exits with 1 when a budget is exceeded. After each measurement the report so far is in
// docs/benchmarks.md.part, which stays there when it is interrupted.
//
// It uses the cluster of $KUBECONFIG, else a slipway-cluster that runs, else it starts one of its own.
// Whatever it makes it takes away again. It tests nothing: that what is measured is also right is shown
// by the tests of the packages and by e2e.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway/slipwaytest"
)

// options are the flags.
type options struct {
	only  string
	out   string
	dir   string
	scale float64
}

// times is how often something is measured that is measured n times by default.
func (o options) times(n int) int { return max(3, int(float64(n)*o.scale)) }

// wants reports whether a measurement was asked for.
func (o options) wants(name string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), name)
}

// measurement is one section of the table. Its rows are kept although it also returns an error.
type measurement struct {
	name string
	what string
	run  func(ctx context.Context, w *world) ([]row, error)
}

// measurements come in the order of the table.
func measurements() []measurement {
	return []measurement{
		{"memory", "idle memory and start of the server", measureMemory},
		{"retag", "retag of a 500 MB image to production", measureRetag},
		{"sign", "signing, attesting and verifying", measureSign},
		{"scan", "scan of an image against syft and grype alone", measureScan},
		{"push", "push against git http-backend", measurePush},
		{"plan", "plan of a push against git diff-tree", measurePlan},
		{"webhooks", "webhooks of a forge, 200 per second", measureWebhooks},
		{"pull", "a pull-request run against its raw parts", measurePull},
		{"upgrade", "helm upgrade against the Helm SDK", measureUpgrade},
		{"packages", "benchmarks of the packages", measurePackages},
	}
}

func main() {
	var o options
	flag.StringVar(&o.only, "only", "", "comma-separated measurements (default: all); docs are written only with all of them, or with -out")
	flag.StringVar(&o.out, "out", "", "file for the report (default: docs/benchmarks.md of the checkout)")
	flag.StringVar(&o.dir, "dir", "/var/lib/slipway-bench", "folder for everything that is made, removed at the end")
	flag.Float64Var(&o.scale, "scale", 1, "how often to measure, as a part of the usual")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := bench(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// bench measures, prints and writes; false means that a budget is exceeded.
func bench(ctx context.Context, o options) (ok bool, err error) {
	if os.Geteuid() != 0 {
		return false, errors.New("run it as root: it starts a cluster and a BuildKit")
	}
	began := time.Now()
	w, err := openWorld(ctx, o)
	if err != nil {
		return false, err
	}
	if err := w.buildTests(ctx); err != nil {
		return false, errors.Join(err, w.close(context.WithoutCancel(ctx)))
	}
	defer func() { err = errors.Join(err, w.close(context.WithoutCancel(ctx))) }()
	file, err := reportFile(o)
	if err != nil {
		return false, err
	}
	report := report{machine: describeMachine(ctx), began: began}
	problems := measure(ctx, w, &report, file+".part")
	report.print(os.Stdout)
	if len(problems) > 0 || len(report.missing) > 0 {
		w.say("docs are left as they were; what was measured is in %s", file+".part")
		return false, errors.Join(append(problems, ctx.Err())...)
	}
	if o.only == "" || o.out != "" {
		if err := os.WriteFile(file, []byte(report.markdown()), 0o644); err != nil {
			return false, err
		}
	}
	return report.ok(), os.Remove(file + ".part")
}

// measure takes one measurement after the other, and keeps the report so far in a file.
func measure(ctx context.Context, w *world, r *report, part string) (problems []error) {
	wanted := slices.DeleteFunc(measurements(), func(m measurement) bool { return !w.o.wants(m.name) })
	for i, m := range wanted {
		if ctx.Err() != nil {
			break
		}
		w.say("%d of %d: %s", i+1, len(wanted), m.what)
		began := time.Now()
		rows, err := m.run(ctx, w)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", m.name, err))
			w.say("%v", problems[len(problems)-1])
		}
		r.rows, r.notes, r.took = append(r.rows, rows...), w.notes, time.Since(r.began)
		r.parts = append(r.parts, fmt.Sprintf("%s %.0f s", m.name, time.Since(began).Seconds()))
		r.missing = nil
		for _, later := range wanted[i+1:] {
			r.missing = append(r.missing, later.name)
		}
		if err := os.WriteFile(part, []byte(r.markdown()), 0o644); err != nil {
			return append(problems, err)
		}
	}
	return problems
}

// reportFile is where the report goes.
func reportFile(o options) (string, error) {
	if o.out != "" {
		return o.out, nil
	}
	root, err := slipwaytest.Root()
	return filepath.Join(root, "docs", "benchmarks.md"), err
}

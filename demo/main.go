// Command demo plays Slipway's story on this machine, on real parts: a push that becomes a run, tests
// in a container, image and chart in a registry, QA, a person's approval, the same digest in
// production on a real Kubernetes, and a bad version that comes back by itself. It prepares what is
// missing, shows what it does and how long that takes, and leaves everything running.
//
// `demo down` takes all of it away again. It is a program for people who try Slipway; nothing of the
// product depends on it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway/slipwaytest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	say := &narrator{w: os.Stdout, began: time.Now(), colour: colour(os.Stdout)}
	run := play
	if len(os.Args) > 1 && os.Args[1] == "down" {
		run = takeDown
	}
	if err := run(ctx, say); err != nil {
		say.stop()
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		os.Exit(1)
	}
}

// place is where the demo keeps what it makes.
func place() (string, error) {
	if dir := os.Getenv("SLIPWAY_DEMO"); dir != "" {
		return filepath.Abs(dir)
	}
	root, err := slipwaytest.Root()
	return filepath.Join(root, ".demo"), err
}

func play(ctx context.Context, say *narrator) error {
	dir, err := place()
	if err != nil {
		return err
	}
	w, err := prepare(ctx, say, dir)
	if err != nil {
		return err
	}
	s := &story{world: w, say: say}
	if err := s.play(ctx); err != nil {
		return fmt.Errorf("%w\n  the server goes on at %s; its log is %s.log", err, w.url, filepath.Join(dir, "data"))
	}
	return s.end(ctx)
}

func takeDown(ctx context.Context, say *narrator) error {
	dir, err := place()
	if err != nil {
		return err
	}
	var problems []error
	say.step("stopping the server and its BuildKit")
	problems = append(problems, stopServer(dir))
	b, err := slipwaytest.Build(ctx, say.detail)
	if err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "data")); serr == nil {
			problems = append(problems, say.command(ctx, nil, b.Slipway, "cleanup", "--data", filepath.Join(dir, "data")))
		}
		if _, serr := os.Stat(filepath.Join(dir, "cluster")); serr == nil {
			say.step("removing the cluster")
			problems = append(problems, say.command(ctx, nil, b.Cluster, "down", "--name", clusterName, "--dir", filepath.Join(dir, "cluster")))
		}
	}
	problems = append(problems, err)
	if err := errors.Join(problems...); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	say.step("all gone")
	say.stop()
	return nil
}

package store

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// filled is a store with n runs of ten steps each, deployed to two environments.
func filled(b *testing.B, n int) *world {
	w := newWorld(b)
	begun := time.Now()
	for i := range n {
		commit := fmt.Sprintf("%040x", 0x7bcdef0000000000+i)
		service := fmt.Sprintf("service%d", i%10)
		image := fmt.Sprintf("sha256:%064x", i)
		err := w.write(w.ctx, func(t *tx) error {
			var plan slipway.Plan
			for j, kind := range []string{"plan", "build", "test", "chart", "publish", "deploy", "verify", "approve", "retag", "rollback"} {
				s := slipway.PlanStep{Key: kind + "/" + service, Kind: slipway.StepKind(kind), Service: service}
				if j > 0 {
					s.Needs = []string{plan.Steps[j-1].Key}
				}
				plan.Steps = append(plan.Steps, s)
			}
			r, err := t.createRun(slipway.Run{Project: "shop", Event: slipway.DefaultPush, Ref: "refs/heads/main", Commit: commit, Title: "a change", Actor: "ada"}, plan)
			if err != nil {
				return err
			}
			row, err := t.loadRun(r.ID)
			if err != nil {
				return err
			}
			for _, st := range row.steps {
				if err := t.move(row, st, change{to: slipway.StepRunning}); err != nil {
					return err
				}
				res := slipway.Result{Outcome: slipway.Succeeded}
				switch st.Spec.Kind {
				case slipway.KindPublish:
					res.Artifacts = []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "r/shop/" + service, Tag: fmt.Sprintf("main-%d", i), Digest: image}}
				case slipway.KindDeploy:
					for _, env := range []string{"dev", "qa"} {
						res.Deployments = append(res.Deployments, slipway.Deployment{Target: slipway.Target{Environment: env, Service: service, Release: service},
							Version: fmt.Sprintf("main-%d", i), Commit: commit, ImageDigest: image, State: slipway.Verified, Revision: i})
					}
				}
				if err := t.record(row, st, res); err != nil {
					return err
				}
				if err := t.outcome(row, st, res); err != nil {
					return err
				}
				if err := t.settle(row); err != nil {
					return err
				}
			}
			return nil
		})
		w.ok(err)
	}
	b.Logf("%d runs in %s", n, time.Since(begun).Round(time.Millisecond))
	return w
}

// BenchmarkTransitions counts transitions, each a transaction on disk: started and finished steps.
func BenchmarkTransitions(b *testing.B) {
	w := newWorld(b)
	n := 0
	for b.Loop() {
		r := w.newRun("refs/heads/main", commitA, steps(p("build/a"), p("test/a", "build/a"), p("deploy/a@dev", "test/a")))
		for _, key := range []string{"build/a", "test/a", "deploy/a@dev"} {
			w.finish(r.ID, key, succeeded)
			n += 2
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "transitions/s")
}

// BenchmarkViews reads what people look at, with 1,000 runs in the store.
func BenchmarkViews(b *testing.B) {
	w := filled(b, 1000)
	for name, read := range map[string]func() error{
		"Board": func() error { _, err := w.Board(w.ctx, "shop", nil, nil); return err },
		"Runs":  func() error { _, err := w.Runs(w.ctx, slipway.RunFilter{Project: "shop"}); return err },
		"OfOne": func() error {
			_, err := w.Runs(w.ctx, slipway.RunFilter{Project: "shop", Service: "service3"})
			return err
		},
		"Run":    func() error { _, err := w.Run(w.ctx, 500); return err },
		"Events": func() error { _, err := w.Events(w.ctx, 9000, slipway.EventFilter{}); return err },
		"Trace/commit": func() error {
			_, err := w.Trace(w.ctx, "shop", fmt.Sprintf("%040x", 0x7bcdef0000000000+500))
			return err
		},
		"Trace/digest": func() error { _, err := w.Trace(w.ctx, "", fmt.Sprintf("sha256:%064x", 500)); return err },
		"Trace/branch": func() error { _, err := w.Trace(w.ctx, "", "main"); return err },
		"Metrics":      func() error { _, err := w.Metrics(w.ctx); return err },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen opens a store with 1,000 runs, and reports what it holds in memory.
func BenchmarkOpen(b *testing.B) {
	w := filled(b, 1000)
	var held uint64
	for b.Loop() {
		s, err := Open(w.ctx, w.path, Options{})
		w.ok(err)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		held = m.HeapAlloc
		w.ok(s.Close())
	}
	b.ReportMetric(float64(held)/1e6, "MB-heap")
}

// BenchmarkLog appends lines to a log.
func BenchmarkLog(b *testing.B) {
	l := newLogs(b.TempDir(), 1<<40, time.Now)
	w, err := l.OpenLog(1, 2, 1)
	if err != nil {
		b.Fatal(err)
	}
	line := append(data(slipway.LogLine{Time: time.Now(), Stream: "stdout", Text: "compiling package github.com/slipway-cd/slipway/store"}), '\n')
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := w.Write(line); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	l.wg.Wait()
}

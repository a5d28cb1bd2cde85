package engine_test

import (
	"context"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// BenchmarkInsertToStart is the time from the commit of a run to the start of its first runner.
func BenchmarkInsertToStart(b *testing.B) {
	w := newWorld(b).start()
	started := make(chan time.Time, 1)
	w.stand.on("deploy/a", func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
		started <- time.Now()
		return slipway.Result{Outcome: slipway.Succeeded}, nil
	})
	var took []time.Duration
	for b.Loop() {
		r := w.newRun(p("deploy/a"))
		begun := time.Now()
		took = append(took, (<-started).Sub(begun))
		b.StopTimer()
		w.untilRun(r.ID, slipway.RunSucceeded)
		b.StartTimer()
	}
	report(b, took)
}

// BenchmarkStepToStep is the time from a runner's return to the start of the next one.
func BenchmarkStepToStep(b *testing.B) {
	w := newWorld(b).start()
	const length = 20
	times := make(chan time.Time, 2*length)
	var plan []slipway.PlanStep
	for i := range length {
		key := "deploy/a" + string(rune('a'+i))
		step := p(key)
		if i > 0 {
			step.Needs = []string{plan[i-1].Key}
		}
		plan = append(plan, step)
		w.stand.on(key, func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
			times <- time.Now()
			return slipway.Result{Outcome: slipway.Succeeded}, nil
		})
	}
	var took []time.Duration
	for b.Loop() {
		w.newRun(plan...)
		last := <-times
		for range length - 1 {
			next := <-times
			took = append(took, next.Sub(last))
			last = next
		}
	}
	report(b, took)
}

// BenchmarkSteps is how many steps an engine does when many runs are queued at once.
func BenchmarkSteps(b *testing.B) {
	w := newWorld(b).start()
	const length = 10
	n := 0
	for b.Loop() {
		var ids []int64
		for range 10 {
			var plan []slipway.PlanStep
			for i := range length {
				step := p("deploy/a" + string(rune('a'+i)))
				if i > 0 {
					step.Needs = []string{plan[i-1].Key}
				}
				plan = append(plan, step)
			}
			ids = append(ids, w.newRun(plan...).ID)
			n += length
		}
		for range 10 * length {
			<-w.stand.starts
		}
		for _, id := range ids {
			w.untilRun(id, slipway.RunSucceeded)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "steps/s")
}

// BenchmarkIdle is the CPU that an engine with nothing to do takes.
func BenchmarkIdle(b *testing.B) {
	newWorld(b).start()
	var before, after syscall.Rusage
	for b.Loop() {
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
			b.Fatal(err)
		}
		timer := time.NewTimer(5 * time.Second)
		<-timer.C
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
			b.Fatal(err)
		}
		cpu := time.Duration(after.Utime.Nano()+after.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) * time.Nanosecond
		b.ReportMetric(100*cpu.Seconds()/5, "%cpu")
	}
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
}

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	memoryBudget = 120  // MiB
	startBudget  = 1000 // ms
	memoryRuns   = 1000
	idle         = 5 * time.Second
)

// footprint is the memory of a process, in MiB.
type footprint struct {
	rss, anon, file, pss float64
}

// measureMemory starts the server on an empty data folder and on one with 1,000 runs.
func measureMemory(ctx context.Context, w *world) ([]row, error) {
	data := filepath.Join(w.dir, "memory")
	if _, _, err := startIdle(ctx, w, data, 0); err != nil { // makes the database
		return nil, err
	}
	emptyStarts, empty, err := starts(ctx, w, data, 2)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	steps, err := fill(ctx, data, memoryRuns)
	if err != nil {
		return nil, fmt.Errorf("fill the store: %w", err)
	}
	w.say("%d runs with %d steps in %.1f s", memoryRuns, steps, time.Since(began).Seconds())
	times, full, err := starts(ctx, w, data, 3)
	if err != nil {
		return nil, err
	}
	w.note("How memory is measured", `The stripped binary (-ldflags "-s -w") serves a data folder, with a BuildKit of its own beside it, which is another
process and not counted. %d runs with %d steps, their artifacts, reports, logs, deployments and events were made by
the real engine and store with runners that do nothing. Read from /proc %s after the server is ready, nothing asked of it
meanwhile; each figure is of another start. RSS counts what is mapped of the binary's file as well as the
process's own memory. In MiB, medians:

%s`, memoryRuns, steps, idle, cells([]string{"", "RSS", "own (anonymous)", "mapped from files", "PSS"}, [][]string{
		footprintCells("empty", empty), footprintCells("1,000 runs", full)}))
	rss := func(f footprint) float64 { return f.rss }
	memory := limitRow("Idle memory of `slipway serve` with 1,000 runs (RSS)", mebibytes(full, rss), mebibytes(empty, rss), memoryBudget)
	memory.reference += " empty"
	start := limitRow("Start to ready, with 1,000 runs", millis(times), millis(emptyStarts), startBudget)
	start.reference += " empty"
	return []row{memory, start}, nil
}

// starts are the times and footprints of n starts.
func starts(ctx context.Context, w *world, data string, n int) (times []time.Duration, all []footprint, err error) {
	for range n {
		took, f, err := startIdle(ctx, w, data, idle)
		if err != nil {
			return nil, nil, err
		}
		times, all = append(times, took), append(all, f)
	}
	return times, all, nil
}

func mebibytes(all []footprint, of func(footprint) float64) sample {
	s := sample{unit: "MiB"}
	for _, f := range all {
		s.values = append(s.values, of(f))
	}
	return s
}

func footprintCells(name string, all []footprint) []string {
	row := []string{name}
	for _, of := range []func(footprint) float64{
		func(f footprint) float64 { return f.rss }, func(f footprint) float64 { return f.anon },
		func(f footprint) float64 { return f.file }, func(f footprint) float64 { return f.pss },
	} {
		row = append(row, number(mebibytes(all, of).p50()))
	}
	return row
}

// startIdle starts the server, measures how long that takes and what it holds once it was idle for a while, and
// stops it.
func startIdle(ctx context.Context, w *world, data string, idle time.Duration) (time.Duration, footprint, error) {
	began := time.Now()
	server, err := slipwaytest.StartServer(ctx, w.bin.Slipway, data, slipwaytest.ServerOptions{Args: []string{"--registry-host", registryHost}})
	if err != nil {
		return 0, footprint{}, err
	}
	took := time.Since(began)
	select {
	case <-time.After(idle):
	case <-ctx.Done():
	}
	f, err := footprintOf(server.PID())
	if stopped := server.Stop(); err == nil {
		err = stopped
	}
	return took, f, err
}

func footprintOf(pid int) (footprint, error) {
	var problem error
	kib := func(file, key string) float64 {
		v, err := strconv.ParseFloat(strings.TrimSuffix(field(fmt.Sprintf("/proc/%d/%s", pid, file), key), " kB"), 64)
		if err != nil {
			problem = fmt.Errorf("read %s of /proc/%d/%s: %w", key, pid, file, err)
		}
		return v / 1024
	}
	return footprint{rss: kib("status", "VmRSS"), anon: kib("status", "RssAnon"), file: kib("status", "RssFile"), pss: kib("smaps_rollup", "Pss")}, problem
}

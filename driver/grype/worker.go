package grype

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/subprocess"
)

const (
	maxAnswer = 128 << 20 // bytes of one answer with its lines of progress
	niceness  = 10
	watchDisk = time.Second
)

// worker is a process that answers one request after another; it is not safe for concurrent use.
type worker struct {
	*subprocess.Process
	dir      string // its temporary files
	answered int
}

// environment is all that the process is given: where its files go, and how the garbage collector trades memory,
// of which there is a bound, for time.
func environment(temp string, memory uint64) []string {
	env := []string{"TMPDIR=" + temp, "HOME=" + temp, "GOTRACEBACK=none", "LANG=C.UTF-8"}
	if memory > 0 {
		env = append(env, "GOGC=200", fmt.Sprintf("GOMEMLIMIT=%d", memory/3*2))
	}
	return env
}

func (g *Grype) start() (*worker, error) {
	dir, err := os.MkdirTemp(g.opts.Temp, "process-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(g.opts.Program, "serve", //nolint:noctx // it outlives the scan that starts it
		"--memory", strconv.FormatUint(g.opts.Memory, 10), "--file-size", strconv.FormatInt(g.opts.Disk, 10), "--nice", strconv.Itoa(niceness))
	cmd.Env, cmd.Dir = environment(dir, g.opts.Memory), dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p, err := subprocess.Start(cmd)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &worker{Process: p, dir: dir}, nil
}

// kill ends the process and all that it started.
func (w *worker) kill() {
	syscall.Kill(-w.Cmd.Process.Pid, syscall.SIGKILL) //nolint:errcheck // it has ended, then
}

// End kills the process, waits for it and removes its files.
func (w *worker) End() {
	w.HangUp()
	w.kill()
	w.Cmd.Wait()        //nolint:errcheck // the state says it
	os.RemoveAll(w.dir) //nolint:errcheck // New empties the folder
}

// ending is how it ended, for people.
func (w *worker) ending() string {
	if said := oneLine(w.Said()); said != "" {
		return w.Cmd.ProcessState.String() + ": " + said
	}
	return w.Cmd.ProcessState.String()
}

// read sends a request and reads the answer. After an error the worker is of no more use.
func (w *worker) read(req []byte, progress func(string)) (answer, error) {
	if err := w.Send(append(req, '\n'), maxAnswer); err != nil {
		return answer{}, err
	}
	for {
		var a answer
		if err := w.Receive(&a); err != nil {
			return answer{}, err
		}
		if a.Progress == "" {
			w.answered++
			return a, nil
		}
		if progress != nil {
			progress(oneLine(a.Progress))
		}
	}
}

// stopped is why a scan was stopped.
type stopped struct{ why atomic.Pointer[string] }

func (s *stopped) because(w *worker, format string, args ...any) {
	why := fmt.Sprintf(format, args...)
	if s.why.CompareAndSwap(nil, &why) {
		w.kill()
	}
}

// ask has a request answered by the process that waits, or a new one. What an earlier request may have done
// to a process is not held against this one: it is asked of a new process then. An answer that never comes,
// because the process exceeds a bound or dies, is a refusal.
func (g *Grype) ask(ctx context.Context, req request, progress func(string)) (answer, error) {
	in, err := json.Marshal(req)
	if err != nil {
		return answer{}, fmt.Errorf("write the request: %w", err)
	}
	select {
	case g.turns <- struct{}{}:
		defer func() { <-g.turns }()
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
	for attempt := 1; ; attempt++ {
		w, ok := g.spare.Take()
		if !ok {
			if w, err = g.start(); err != nil {
				return answer{}, slipway.Errorf(slipway.Unavailable, "run the scanner %s: %w", g.opts.Program, err)
			}
		}
		used := w.answered > 0
		a, stop, err := g.watched(ctx, w, in, progress)
		if err == nil && ctx.Err() == nil {
			g.spare.Keep(w)
			if a.Error != "" {
				return answer{}, slipway.Errorf(slipway.Unavailable, "the scanner: %s", oneLine(a.Error))
			}
			return clean(a), nil
		}
		full := w.Exceeded()
		w.End()
		switch {
		case ctx.Err() != nil:
			return answer{}, context.Cause(ctx)
		case stop != "":
			return answer{Refused: stop}, nil
		case full:
			return answer{Refused: fmt.Sprintf("the scanner's answer is larger than %d MiB", maxAnswer>>20)}, nil
		case used && attempt == 1, attempt == 1 && w.Cmd.ProcessState.ExitCode() == -1:
			continue
		}
		return answer{Refused: fmt.Sprintf("the scanner ended without an answer (%s); it may have at most %d MiB of memory", w.ending(), g.opts.Memory>>20)}, nil
	}
}

// watched reads an answer while time and disk are watched. The text says why the process was stopped.
func (g *Grype) watched(ctx context.Context, w *worker, in []byte, progress func(string)) (answer, string, error) {
	var stop stopped
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		limit := time.NewTimer(g.opts.Time)
		defer limit.Stop()
		tick := time.NewTicker(watchDisk)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				w.kill()
				return
			case <-limit.C:
				stop.because(w, "it took longer than %s", g.opts.Time)
				return
			case <-tick.C:
				if usage(w.dir) > g.opts.Disk {
					stop.because(w, "it unpacks to more than %d MiB", g.opts.Disk>>20)
					return
				}
			}
		}
	})
	a, err := w.read(in, progress)
	close(done)
	watching.Wait()
	if why := stop.why.Load(); why != nil {
		return a, *why, errors.New(*why)
	}
	return a, "", err
}

// usage is how many bytes the files of a folder have; what vanishes meanwhile does not count.
func usage(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { //nolint:errcheck // it returns none
		if err != nil {
			return nil //nolint:nilerr // gone
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// clean leaves out what a scanner may not say.
func clean(a answer) answer {
	for i, f := range a.Findings {
		switch f.Severity {
		case slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow, slipway.SeverityNegligible:
		default:
			a.Findings[i].Severity = slipway.SeverityUnknown
		}
		if f.Kind != slipway.FindingSecret {
			a.Findings[i].Kind = slipway.FindingVulnerability
		}
		if len(f.Link) < 8 || f.Link[:8] != "https://" {
			a.Findings[i].Link = ""
		}
	}
	return a
}

package helmchart

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sync"
	"time"
)

// spareFor is how long a worker waits for the next check: charts come in bursts, and starting a process
// of this program takes longer than most checks.
const spareFor = time.Minute

// worker is a process that calls Serve. It answers one request after another; it is not safe for
// concurrent use.
type worker struct {
	cmd      *exec.Cmd
	requests io.WriteCloser
	answers  *io.LimitedReader // of one answer
	decoder  *json.Decoder     // of answers
	printed  *bounded          // on its standard error
}

func startWorker(command []string) (*worker, error) {
	w := &worker{printed: &bounded{max: 4 << 10}}
	w.cmd = exec.Command(command[0], command[1:]...) //nolint:noctx // it outlives the check that starts it
	w.cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	w.cmd.Dir = "/"
	w.cmd.WaitDelay = time.Second
	w.cmd.Stderr = w.printed
	var err error
	if w.requests, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	w.answers = &io.LimitedReader{R: out}
	w.decoder = json.NewDecoder(w.answers)
	w.decoder.UseNumber()
	return w, w.cmd.Start()
}

// ask sends a request and reads the answer. After an error, and when ctx has ended, the worker is of no
// more use.
func (w *worker) ask(ctx context.Context, request []byte) (response, error) {
	stop := context.AfterFunc(ctx, func() { w.cmd.Process.Kill() }) //nolint:errcheck // it has ended, then
	defer stop()
	if _, err := w.requests.Write(request); err != nil {
		return response{}, err
	}
	w.answers.N = maxAnswer
	var out response
	if err := w.decoder.Decode(&out); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			w.cmd.Process.Kill() //nolint:errcheck // it has ended, then
		}
		return response{}, err
	}
	return out, ctx.Err()
}

// end kills the worker and returns its exit status, -1 when it was killed.
func (w *worker) end() int {
	// One that is ending by itself keeps its own status.
	w.requests.Close() //nolint:errcheck // there is nobody to tell
	if w.answers.N <= 0 {
		w.cmd.Process.Kill() //nolint:errcheck // it has ended, then
	}
	w.cmd.Wait() //nolint:errcheck // the status says it
	return w.cmd.ProcessState.ExitCode()
}

// spare is at most one idle worker.
type spare struct {
	mu    sync.Mutex
	idle  *worker
	timer *time.Timer
}

// take returns the idle worker, nil when there is none.
func (s *spare) take() *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.idle
	if w != nil {
		s.timer.Stop()
		s.idle = nil
	}
	return w
}

// keep makes the worker the idle one, or ends it when there is one.
func (s *spare) keep(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != nil {
		go w.end()
		return
	}
	s.idle = w
	s.timer = time.AfterFunc(spareFor, func() {
		if s.drop(w) {
			w.end()
		}
	})
}

// drop forgets the worker if it is still idle.
func (s *spare) drop(w *worker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != w {
		return false
	}
	s.idle = nil
	return true
}

package helmchart

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"time"

	"github.com/slipway-cd/slipway/driver/subprocess"
)

// spareFor is how long a worker waits for the next check: charts come in bursts, and starting a process
// of this program takes longer than most checks.
const spareFor = time.Minute

// worker is a process that calls Serve. It answers one request after another; it is not safe for
// concurrent use.
type worker struct{ *subprocess.Process }

func startWorker(command []string) (*worker, error) {
	cmd := exec.Command(command[0], command[1:]...) //nolint:noctx // it outlives the check that starts it
	cmd.Env, cmd.Dir = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}, "/"
	p, err := subprocess.Start(cmd)
	return &worker{p}, err
}

func (w *worker) kill() { w.Cmd.Process.Kill() } //nolint:errcheck // it has ended, then

// ask sends a request and reads the answer. After an error, and when ctx has ended, the worker is of no
// more use.
func (w *worker) ask(ctx context.Context, request []byte) (response, error) {
	stop := context.AfterFunc(ctx, w.kill)
	defer stop()
	if err := w.Send(request, maxAnswer); err != nil {
		return response{}, err
	}
	var out response
	if err := w.Receive(&out); err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			w.kill()
		}
		return response{}, err
	}
	return out, ctx.Err()
}

// End ends the worker. One that is ending by itself keeps its own exit status, -1 when it was killed.
func (w *worker) End() {
	w.HangUp()
	if w.Exceeded() {
		w.kill()
	}
	w.Cmd.Wait() //nolint:errcheck // the status says it
}

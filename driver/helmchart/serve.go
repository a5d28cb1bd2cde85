package helmchart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway/stage/chart"
)

const (
	processMemory = 1 << 30 // bytes of data
	processCPU    = 120     // seconds, in case nobody is left to kill it
	maxAnswer     = 256 << 20
)

// Serve is the other end of Options.Process: it reads one request, checks, and writes the answer. It
// bounds the memory and the processor time of the process that calls it, which must exit with 1 when
// there is an error.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	for what, limit := range map[int]uint64{syscall.RLIMIT_DATA: processMemory, syscall.RLIMIT_CPU: processCPU} {
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("bound the process: %w", err)
		}
	}
	var req request
	d := json.NewDecoder(in)
	d.UseNumber()
	if err := d.Decode(&req); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	rendered, err := check(ctx, req)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(rendered)
}

// inProcess runs the check in a process of its own, which is killed when ctx ends.
func (h *Helm) inProcess(ctx context.Context, req request) ([]chart.Rendered, error) {
	in, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	cmd := exec.CommandContext(ctx, h.opts.Process[0], h.opts.Process[1:]...)
	cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	cmd.Dir = req.Dir
	cmd.WaitDelay = time.Second
	answer, last := &bounded{max: maxAnswer}, &bounded{max: 4 << 10}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), answer, last
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() != 1 || answer.full {
		// A Go program that gets no memory ends with 2, one that is killed with -1.
		out := make([]chart.Rendered, len(req.Renders))
		out[0].Problems = []chart.Problem{failure("templates", 0, "rendering takes more memory than a chart may: look for a loop that does not end")}
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("run the template process: %w: %s", err, oneLine(last.buf.String()))
	}
	var out []chart.Rendered
	d := json.NewDecoder(&answer.buf)
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("read the template process's answer: %w", err)
	}
	if len(out) != len(req.Renders) {
		return nil, fmt.Errorf("the template process answered %d renders of %d", len(out), len(req.Renders))
	}
	return out, nil
}

// bounded keeps the first max bytes and takes the rest without keeping it.
type bounded struct {
	buf  bytes.Buffer
	max  int
	full bool
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.buf.Len(); len(p) > room {
		b.full = true
		b.buf.Write(p[:room])
		return len(p), nil
	}
	return b.buf.Write(p)
}

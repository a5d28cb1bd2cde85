package helmchart

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"
)

const (
	processMemory = 1 << 30 // bytes of data
	processCPU    = 120     // seconds, in case nobody is left to kill it
	maxAnswer     = 256 << 20
)

// Serve is the other end of Options.Process: it reads requests, checks, and writes an answer to each, until
// there are no more. It bounds the memory and the processor time of the process that calls it, which must
// exit with 1 when there is an error.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	for what, limit := range map[int]uint64{syscall.RLIMIT_DATA: processMemory, syscall.RLIMIT_CPU: processCPU} {
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("bound the process: %w", err)
		}
	}
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	requests.UseNumber()
	for {
		var req request
		switch err := requests.Decode(&req); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the request: %w", err)
		}
		answer, err := check(ctx, req)
		if err != nil {
			return err
		}
		if err := answers.Encode(answer); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
}

// inProcess runs the check in a process of its own, which is killed when ctx ends. What a process that
// has answered before says by dying is not held against this chart: a new one is asked.
func (h *Helm) inProcess(ctx context.Context, req request) (response, error) {
	in, err := json.Marshal(req)
	if err != nil {
		return response{}, fmt.Errorf("write the request: %w", err)
	}
	if w, ok := h.spare.Take(); ok {
		if out, err := w.ask(ctx, in); err == nil {
			h.spare.Keep(w)
			return complete(out, req)
		}
		w.End()
		if ctx.Err() != nil {
			return response{}, context.Cause(ctx)
		}
	}
	w, err := startWorker(h.opts.Process)
	if err != nil {
		return response{}, fmt.Errorf("run the template process: %w", err)
	}
	out, err := w.ask(ctx, in)
	if err == nil {
		h.spare.Keep(w)
		return complete(out, req)
	}
	full := w.Exceeded()
	w.End()
	switch {
	case ctx.Err() != nil:
		return response{}, context.Cause(ctx)
	case w.Cmd.ProcessState.ExitCode() != 1 || full: // a Go program that gets no memory ends with 2, one that is killed with -1
		return response{}, errTooLarge
	}
	return response{}, fmt.Errorf("ask the template process: %w: %s", err, oneLine(w.Said()))
}

func complete(out response, req request) (response, error) {
	if len(req.Fields) > 0 && len(out.Origins) != len(req.Fields) {
		return response{}, fmt.Errorf("the template process answered %d fields of %d", len(out.Origins), len(req.Fields))
	}
	if len(req.Fields) == 0 && len(out.Rendered) != len(req.Renders) {
		return response{}, fmt.Errorf("the template process answered %d renders of %d", len(out.Rendered), len(req.Renders))
	}
	return out, nil
}

package scanner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Bounds of the process, in case nobody is left to kill it.
type Bounds struct {
	Memory uint64 // bytes of data; 0: unbounded
	File   uint64 // bytes of one file that it writes; 0: unbounded
	Nice   int    // of the process, 0 to 19
}

// Bound lowers what this process may use. A Go program that gets no memory ends with status 2.
func Bound(b Bounds) error {
	set := func(what int, limit uint64) error {
		if limit == 0 {
			return nil
		}
		return syscall.Setrlimit(what, &syscall.Rlimit{Cur: limit, Max: limit})
	}
	if err := errors.Join(set(syscall.RLIMIT_DATA, b.Memory), set(syscall.RLIMIT_FSIZE, b.File), set(syscall.RLIMIT_CORE, 1)); err != nil {
		return fmt.Errorf("bound the process: %w", err)
	}
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, b.Nice); err != nil {
		return fmt.Errorf("bound the process: %w", err)
	}
	return nil
}

// Serve reads requests and answers each, one after another, until there are no more. Lines of progress come
// before the answer they belong to. When the input ends during a scan, nobody waits for it: it is given up.
func Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	s, err := New()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	requests := make(chan Request)
	go func() {
		defer close(requests)
		dec := json.NewDecoder(in)
		for {
			var req Request
			if err := dec.Decode(&req); err != nil {
				if !errors.Is(err, io.EOF) {
					err = fmt.Errorf("read the request: %w", err)
				}
				cancel(err)
				return
			}
			select {
			case requests <- req:
			case <-ctx.Done():
				return
			}
		}
	}()
	answers := json.NewEncoder(out)
	for req := range requests {
		var broken error
		a := s.Scan(ctx, req, func(line string) {
			if err := answers.Encode(Answer{Progress: line}); err != nil {
				broken = err
			}
		})
		if err := errors.Join(broken, answers.Encode(a)); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// lock takes a file's lock or says who has it not free.
func lock(name string) (func(), error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder of the database: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, errors.New("another import into the folder of the database is under way; wait for it to end")
	}
	return func() { f.Close() }, nil
}

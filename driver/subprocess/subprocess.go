// Package subprocess is what the drivers share that ask a program of their own in a process of its own: requests and
// bounded answers in JSON over its standard input and output, what it says on its standard error, and one process
// that waits for the next question. What is asked, what a process may cost, how it is ended and what its end means is
// the drivers' business; no request is sent twice here, and nothing is killed.
package subprocess

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sync"
	"time"
)

// maxSaid bounds what is kept of a process's standard error, in bytes.
const maxSaid = 4 << 10

// Process answers one request after another. It is not safe for concurrent use.
type Process struct {
	Cmd *exec.Cmd

	requests io.WriteCloser
	answers  *io.LimitedReader // of one answer
	decoder  *json.Decoder
	said     Head
}

// Start starts a command that was not started yet, with pipes to it. Whoever called sees to its end, and waits
// for it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{Cmd: cmd, said: Head{Max: maxSaid}}
	cmd.Stderr, cmd.WaitDelay = &p.said, time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.answers = &io.LimitedReader{R: out}
	p.decoder = json.NewDecoder(p.answers)
	p.decoder.UseNumber()
	if p.requests, err = cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return p, cmd.Start()
}

// Send sends a request of which the whole answer may have that many bytes. After an error here or from Receive the
// process is of no more use.
func (p *Process) Send(request []byte, most int64) error {
	p.answers.N = most
	_, err := p.requests.Write(request)
	return err
}

// Receive reads the answer, or the next part of one.
func (p *Process) Receive(into any) error { return p.decoder.Decode(into) }

// Exceeded reports whether the answer was larger than it may be.
func (p *Process) Exceeded() bool { return p.answers.N <= 0 }

// HangUp ends the requests. A process that waits for one ends by itself then.
func (p *Process) HangUp() { p.requests.Close() } //nolint:errcheck // there is nobody to tell

// Said is the beginning of what the process has said on its standard error, once it was waited for.
func (p *Process) Said() string { return p.said.String() }

// Head keeps the first Max bytes of what is written to it, and takes the rest without keeping it.
type Head struct {
	Max int
	buf bytes.Buffer
}

// Write implements io.Writer; it never fails.
func (h *Head) Write(b []byte) (int, error) {
	h.buf.Write(b[:min(len(b), h.Max-h.buf.Len())])
	return len(b), nil
}

// String is what was kept.
func (h *Head) String() string { return h.buf.String() }

// Ender is what a Spare keeps.
type Ender interface {
	comparable
	// End ends it and waits for that.
	End()
}

// Spare is at most one process that waits for the next question. It is safe for concurrent use; its zero value
// with Wait is ready to use.
type Spare[P Ender] struct {
	Wait time.Duration // for how long; then it is ended

	mu    sync.Mutex
	idle  P // the zero value: none
	timer *time.Timer
}

// Take returns the process that waits; false when there is none.
func (s *Spare[P]) Take() (P, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none P
	p := s.idle
	if p == none {
		return none, false
	}
	s.timer.Stop()
	s.idle = none
	return p, true
}

// Keep makes a process the one that waits, or ends it when there is one.
func (s *Spare[P]) Keep(p P) {
	if !s.hold(p) {
		p.End()
	}
}

// hold makes a process the one that waits, unless there is one.
func (s *Spare[P]) hold(p P) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none P
	if s.idle != none {
		return false
	}
	s.idle = p
	s.timer = time.AfterFunc(s.Wait, func() {
		if s.drop(p) {
			p.End()
		}
	})
	return true
}

// drop forgets the process if it still waits.
func (s *Spare[P]) drop(p P) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle != p {
		return false
	}
	var none P
	s.idle = none
	return true
}

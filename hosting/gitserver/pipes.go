package gitserver

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"
)

// pipes is the folder of one push, with two named pipes for each hook. The server holds every pipe
// open in both directions while git runs, so that no hook blocks when it opens one, and each hook
// sees the end of file when the server dies.
//
// The file "lock" is locked by the server and, through an inherited descriptor, by git and all it
// starts: whoever can lock it knows that the push is dead. "group" holds the process group, and
// "repository" the repository.
type pipes struct {
	dir             string
	nonce           string // name of the folder; ends what a hook says
	lock            *os.File
	pre, proc, post pipe
}

type pipe struct{ in, out *os.File }

const maxAnswer = 32 << 10 // bytes, less than a pipe holds

func (s *Server) newPipes(repository string) (p *pipes, err error) {
	p = &pipes{nonce: strings.ToLower(rand.Text())}
	p.dir = filepath.Join(s.pushes, p.nonce)
	if err := os.Mkdir(p.dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
			err = errors.Join(err, p.remove())
		}
	}()
	if err := os.WriteFile(filepath.Join(p.dir, "repository"), []byte(repository), 0o600); err != nil {
		return nil, err
	}
	if p.lock, err = os.OpenFile(filepath.Join(p.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(p.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for name, pair := range map[string]*pipe{"pre": &p.pre, "proc": &p.proc, "post": &p.post} {
		if pair.in, err = p.open(name + ".in"); err != nil {
			return nil, err
		}
		if pair.out, err = p.open(name + ".out"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *pipes) open(name string) (*os.File, error) {
	name = filepath.Join(p.dir, name)
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		return nil, fmt.Errorf("make pipe %s: %w", name, err)
	}
	return os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
}

// inherited is what git and all it starts hold open.
func (p *pipes) inherited() []*os.File { return []*os.File{p.lock} }

// started notes which processes belong to the push.
func (p *pipes) started(pid int) error {
	return os.WriteFile(filepath.Join(p.dir, "group"), []byte(strconv.Itoa(pid)), 0o600)
}

// close ends every conversation; hooks that still listen see the end of file.
func (p *pipes) close() {
	for _, f := range []*os.File{p.lock, p.pre.in, p.pre.out, p.proc.in, p.proc.out, p.post.in, p.post.out} {
		if f != nil {
			_ = f.Close()
		}
	}
}

func (p *pipes) remove() error { return os.RemoveAll(p.dir) }

// answer sends messages, as far as they fit, and the verdict that ends them.
func (p pipe) answer(messages []string, verdict string) {
	var b strings.Builder
	for _, m := range messages {
		for line := range strings.SplitSeq(m, "\n") {
			line = "m " + printable(line) + "\n"
			if b.Len()+len(line) < maxAnswer {
				b.WriteString(line)
			}
		}
	}
	b.WriteString(verdict + "\n")
	_, _ = p.out.WriteString(b.String())
}

// hangUp ends the answer.
func (p pipe) hangUp() { _ = p.out.Close() }

// printable is s without what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case unicode.IsControl(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
}

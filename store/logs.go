package store

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// Logs are the logs of steps: one file per attempt with a slipway.LogLine in JSON per line; large
// ones are compressed when the attempt has ended. They are safe for concurrent use; a reader that
// follows never slows a writer.
type Logs struct {
	dir   string
	limit int64
	now   func() time.Time

	mu   sync.Mutex
	open map[attempt]*openLog
	wg   sync.WaitGroup
}

// attempt names a log.
type attempt struct {
	runID, stepID int64
	attempt       int
}

// openLog is the log of an attempt that has not ended.
type openLog struct {
	grown   chan struct{} // closed and replaced when there is more, or when it ended
	ended   bool
	written bool // a writer has it; the log ends with the writer
}

func newLogs(dir string, limit int64, now func() time.Time) *Logs {
	if limit <= 0 {
		limit = 64 << 20
	}
	return &Logs{dir: dir, limit: limit, now: now, open: map[attempt]*openLog{}}
}

func (l *Logs) path(a attempt) string {
	return filepath.Join(l.dir, strconv.FormatInt(a.runID, 10), fmt.Sprintf("%d.%d.ndjson", a.stepID, a.attempt))
}

// announce says that an attempt begins, so that whoever follows it waits for its first line.
func (l *Logs) announce(a attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[a] == nil {
		l.open[a] = &openLog{grown: make(chan struct{})}
	}
}

// end says that an attempt is over; a log that has a writer ends when the writer is closed.
func (l *Logs) end(a attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.open[a]; o != nil && !o.written {
		l.finish(a, o)
	}
}

// finish wakes the readers for the last time. l.mu is held.
func (l *Logs) finish(a attempt, o *openLog) {
	o.ended = true
	close(o.grown)
	delete(l.open, a)
}

// OpenLog opens the log of an attempt for appending. Each Write must be one line of JSON with its
// newline. When the log is as large as it may be, a line says so and the rest is dropped. Close ends
// the log; a large one is compressed in the background.
func (l *Logs) OpenLog(runID, stepID int64, attemptN int) (io.WriteCloser, error) {
	a := attempt{runID, stepID, attemptN}
	if err := os.MkdirAll(filepath.Dir(l.path(a)), 0o700); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	f, err := os.OpenFile(l.path(a), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l.announce(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[a].written = true
	return &logWriter{logs: l, a: a, f: f}, nil
}

// logWriter appends to the log of an attempt.
type logWriter struct {
	logs *Logs
	a    attempt

	mu   sync.Mutex
	f    *os.File
	size int64
	full bool
}

// Write appends lines.
func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return 0, fs.ErrClosed
	}
	if w.full {
		return len(p), nil
	}
	body := p
	if w.size+int64(len(p)) > w.logs.limit {
		w.full = true
		body = append(data(slipway.LogLine{
			Time: w.logs.now(),
			Text: fmt.Sprintf("The log has reached %d MiB; what follows is not kept.", w.logs.limit>>20),
		}), '\n')
	}
	n, err := w.f.Write(body)
	w.size += int64(n)
	if err != nil {
		return 0, fmt.Errorf("write log: %w", err)
	}
	w.logs.wake(w.a)
	return len(p), nil
}

// wake tells the readers of a log that there is more.
func (l *Logs) wake(a attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.open[a]; o != nil {
		close(o.grown)
		o.grown = make(chan struct{})
	}
}

// smallLog is the size from which compressing a log is worth it.
const smallLog = 32 << 10

// Close ends the log.
func (w *logWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	w.logs.mu.Lock()
	defer w.logs.mu.Unlock()
	if o := w.logs.open[w.a]; o != nil {
		w.logs.finish(w.a, o)
	}
	if w.size >= smallLog {
		w.logs.wg.Go(func() { compress(w.logs.path(w.a)) })
	}
	return err
}

// compress replaces a log by its compressed form. A reader that has the file open keeps it. What goes
// wrong leaves the log as it was, which reads just as well.
func compress(path string) {
	in, err := os.Open(path)
	if err != nil {
		return
	}
	defer in.Close()
	part := path + ".gz.part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	if err := writeGzip(out, in); err != nil {
		out.Close()
		os.Remove(part) //nolint:errcheck // removed with the run otherwise
		return
	}
	if settle(out, path+".gz") == nil {
		os.Remove(path) //nolint:errcheck // both forms read the same
	}
}

func writeGzip(out io.Writer, in io.Reader) error {
	z, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err == nil {
		_, err = io.Copy(z, in)
		err = errors.Join(err, z.Close())
	}
	return err
}

func (l *Logs) close() error {
	l.wg.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, o := range l.open {
		l.finish(a, o)
	}
	return nil
}

// Tail returns the log of an attempt as newline-separated JSON. With follow, reading waits for what
// comes until the attempt ends or ctx is done; without, it ends with what is there. A log that does
// not exist reads as empty. The caller closes it.
func (l *Logs) Tail(ctx context.Context, runID, stepID int64, attemptN int, follow bool) (io.ReadCloser, error) {
	return &tail{ctx: ctx, logs: l, a: attempt{runID, stepID, attemptN}, follow: follow}, nil
}

// tail reads a log that may still grow. It only ever hands out whole lines of a growing file.
type tail struct {
	ctx    context.Context
	logs   *Logs
	a      attempt
	follow bool
	file   io.Closer
	src    io.Reader
	plain  bool // the file that grows, not the compressed one
}

// Read reads what there is, and waits for more when it follows.
func (t *tail) Read(p []byte) (int, error) {
	for {
		grown, live := t.logs.state(t.a)
		if err := t.openFile(); err != nil {
			return 0, err
		}
		if t.src != nil {
			n, err := t.src.Read(p)
			if n > 0 || (err != nil && !errors.Is(err, io.EOF)) {
				return n, ignoreEOF(err)
			}
		}
		if !live || !t.follow || (t.src != nil && !t.plain) {
			return 0, io.EOF
		}
		select {
		case <-grown:
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// state is what to wait for, and whether the attempt is still on.
func (l *Logs) state(a attempt) (<-chan struct{}, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.open[a]
	if o == nil {
		return nil, false
	}
	return o.grown, true
}

func (t *tail) openFile() error {
	if t.src != nil {
		return nil
	}
	for range 2 { // it may be compressed between the two looks
		f, err := os.Open(t.logs.path(t.a))
		if err == nil {
			t.file, t.src, t.plain = f, f, true
			return nil
		}
		f, err = os.Open(t.logs.path(t.a) + ".gz")
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open log: %w", err)
		}
		z, err := gzip.NewReader(f)
		if err != nil {
			return errors.Join(fmt.Errorf("open log: %w", err), f.Close())
		}
		t.file, t.src = f, z
		return nil
	}
	return nil
}

// Close closes the file.
func (t *tail) Close() error {
	if t.file == nil {
		return nil
	}
	return t.file.Close()
}

// Lines returns the lines of an attempt's log that are there now, from the first-th on, at most max.
func (l *Logs) Lines(ctx context.Context, runID, stepID int64, attemptN, first, most int) ([]slipway.LogLine, error) {
	r, err := l.Tail(ctx, runID, stepID, attemptN, false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out := []slipway.LogLine{}
	d := json.NewDecoder(r)
	for i := 0; len(out) < most; i++ {
		var line slipway.LogLine
		if err := d.Decode(&line); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		} else if err != nil {
			return out, fmt.Errorf("read log: %w", err)
		}
		if i >= first {
			out = append(out, line)
		}
	}
	return out, nil
}

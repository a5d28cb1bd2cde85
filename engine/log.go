package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// captured gives a runner the log of its attempt, and masks the step's secrets in it and in what the
// runner returns for people.
func (e *Engine) captured(r stage.Runner) stage.Runner {
	return stage.Func(func(ctx context.Context, env stage.Env, step slipway.PlanStep) (slipway.Result, error) {
		mask := newMask(env.Secrets)
		log := &stepLog{now: e.opts.Now, mask: mask, out: discard{}}
		if e.opts.Logs != nil {
			out, err := e.opts.Logs(env.Run.ID, env.StepID, env.Attempt)
			if err != nil {
				return slipway.Result{}, fmt.Errorf("open log: %w", err)
			}
			log.out = out
		}
		env.Log = log
		res, err := r.Run(ctx, env, step)
		res.Reason = mask.Replace(res.Reason)
		if err != nil {
			err = &maskedError{text: mask.Replace(err.Error()), err: err}
			log.Printf("%s", err)
		}
		if cerr := log.close(); cerr != nil {
			e.opts.Log.Warn("write log of step", "run", env.Run.ID, "step", step.Key, "err", cerr)
		}
		return res, err
	})
}

// maskedError is an error whose text may be shown.
type maskedError struct {
	text string
	err  error
}

// Error is the text without secrets.
func (e *maskedError) Error() string { return e.text }

// Unwrap returns the error as it came.
func (e *maskedError) Unwrap() error { return e.err }

// newMask replaces secret values, and each line of those that have several.
func newMask(secrets map[string]string) *strings.Replacer {
	var values []string
	for _, v := range secrets {
		values = append(values, v)
		if lines := strings.Split(v, "\n"); len(lines) > 1 {
			values = append(values, lines...)
		}
	}
	sort.Slice(values, func(i, j int) bool { return len(values[i]) > len(values[j]) })
	var pairs []string
	for _, v := range values {
		if len(strings.TrimSpace(v)) >= 4 { // shorter ones would mask ordinary words
			pairs = append(pairs, v, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

// discard is a log that nobody keeps.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// stepLog writes lines as JSON. It keeps the first error for close, because a full disk must not end
// a deployment.
type stepLog struct {
	now  func() time.Time
	mask *strings.Replacer

	mu     sync.Mutex
	out    io.WriteCloser
	err    error
	closed bool
}

// maxLine bounds a line of a log, in bytes.
const maxLine = 16 << 10

// Line writes a line.
func (l *stepLog) Line(line slipway.LogLine) {
	if line.Time.IsZero() {
		line.Time = l.now()
	}
	line.Text = l.mask.Replace(line.Text)
	if len(line.Text) > maxLine {
		line.Text = strings.ToValidUTF8(line.Text[:maxLine], "") + " …"
	}
	b, err := json.Marshal(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return // a runner that was given up on still talks
	}
	if err == nil {
		_, err = l.out.Write(append(b, '\n'))
	}
	if l.err == nil {
		l.err = err
	}
}

// Printf writes one of Slipway's own words; each line of it is a line.
func (l *stepLog) Printf(format string, args ...any) {
	for _, text := range strings.Split(strings.TrimRight(fmt.Sprintf(format, args...), "\n"), "\n") {
		l.Line(slipway.LogLine{Text: text})
	}
}

func (l *stepLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if err := l.out.Close(); l.err == nil {
		l.err = err
	}
	return l.err
}

// journal is a step's part of the journal.
type journal struct {
	store Journals
	step  int64
}

// Put keeps a value; it is durable when Put returns.
func (j journal) Put(ctx context.Context, key string, value any) error {
	b, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode journal %s: %w", key, err)
	}
	if err := j.store.PutJournal(ctx, j.step, key, b); err != nil {
		return fmt.Errorf("write journal %s: %w", key, err)
	}
	return nil
}

// Get decodes the value under key into v, and reports whether there was one.
func (j journal) Get(ctx context.Context, key string, v any) (bool, error) {
	b, ok, err := j.store.Journal(ctx, j.step, key)
	if err != nil {
		return false, fmt.Errorf("read journal %s: %w", key, err)
	}
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("decode journal %s: %w", key, err)
	}
	return true, nil
}

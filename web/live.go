package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const heartbeat = 15 * time.Second

// streamer identifies who asks for a stream and prepares the answer; nil when it has answered.
func (s *server) streamer(w http.ResponseWriter, r *http.Request) (slipway.User, *http.ResponseController) {
	by, err := s.Identity.Identify(r)
	if err == nil && by.Name == "" {
		err = slipway.Errorf(slipway.Unauthorized, "sign in first")
	}
	if err != nil {
		s.refuse(w, r, err)
		return by, nil
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // proxies hand it on as it comes
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	return by, rc
}

// seen is the position that a stream goes on from: what the browser had when its connection broke,
// else what its page had, else otherwise.
func seen(r *http.Request, otherwise int64) int64 {
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = r.FormValue("after")
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil {
		return otherwise
	}
	return n
}

// live tells a page that something happened in its project, or to its run; the page fetches itself
// again. A message stands for all that happened since the one before.
func (s *server) live(w http.ResponseWriter, r *http.Request) {
	by, rc := s.streamer(w, r)
	if rc == nil {
		return
	}
	ctx, project := r.Context(), r.FormValue("project")
	run, _ := strconv.ParseInt(r.FormValue("run"), 10, 64) //nolint:errcheck // 0: every run
	leave, err := s.Streams.Enter(by)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer leave()
	changed, stop := s.Streams.Changed()
	defer stop()
	_, next, err := s.Streams.Events(ctx, by, project, newest)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	after := min(seen(r, next), next)
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 2000\n\n") //nolint:errcheck // the next write tells
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		events, next, err := s.Streams.Events(ctx, by, project, after)
		if err != nil {
			return
		}
		concerns := false
		for _, e := range events {
			concerns = concerns || run == 0 || e.RunID == run
		}
		if concerns {
			fmt.Fprintf(w, "id: %d\ndata: changed\n\n", next) //nolint:errcheck // flushing tells
		}
		if rc.Flush() != nil {
			return
		}
		if next != after { // smaller: there was no such event
			after = next
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			if by, err = s.Identity.Identify(r); err != nil || by.Name == "" {
				return // signed out, or removed
			}
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
				return
			}
		}
	}
}

// log answers with a step's log: as text, or to a page's script as server-sent events.
func (s *server) log(w http.ResponseWriter, r *http.Request) {
	n, err := id(r, "run")
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	by, rc := s.streamer(w, r)
	switch {
	case rc == nil:
	case strings.Contains(r.Header.Get("Accept"), "text/event-stream"):
		s.logStream(w, r, by, n, rc)
	default:
		s.logText(w, r, by, n)
	}
}

// logText writes the whole log, control characters made visible.
func (s *server) logText(w http.ResponseWriter, r *http.Request, by slipway.User, run int64) {
	started := false
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	err := s.Streams.Log(r.Context(), by, run, r.FormValue("step"), false, func(l slipway.LogLine) error {
		started = true
		group, state := "", ""
		if l.Group != "" {
			group = " [" + visible(l.Group) + "]"
		}
		if l.State != "" {
			state = " " + visible(l.State)
		}
		_, err := fmt.Fprintf(w, "%s%s%s %s\n", l.Time.UTC().Format(time.RFC3339), group, state, visible(l.Text))
		return err
	})
	if err != nil && !started {
		s.refuse(w, r, err)
	}
}

// logMessage is what a page's script is told: HTML that the page's own templates made.
type logMessage struct {
	Group int    `json:"g"`
	Fold  bool   `json:"fold,omitempty"` // the group is done: its lines may be folded away
	Head  string `json:"head,omitempty"` // the group's new summary
	Box   string `json:"box,omitempty"`  // the group, when it begins
	Line  string `json:"line,omitempty"`
}

// logStream sends the lines after those that the page has, then an event "end". Lines that are there
// together are sent together.
func (s *server) logStream(w http.ResponseWriter, r *http.Request, by slipway.User, run int64, rc *http.ResponseController) {
	leave, err := s.Streams.Enter(by)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	step := r.FormValue("step")
	lines, ended := make(chan slipway.LogLine, 256), make(chan error, 1)
	go func() {
		ended <- s.Streams.Log(ctx, by, run, step, true, func(l slipway.LogLine) error {
			select {
			case lines <- l:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		close(lines)
	}()
	f, after, sent := &folded{}, seen(r, 0), map[int]bool{}
	if rc.Flush() != nil { // the browser knows that it is connected
		return
	}
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				// After other errors the browser comes back and goes on from where it was.
				if unlessMissing(<-ended) == nil {
					fmt.Fprint(w, "event: end\ndata: end\n\n") //nolint:errcheck // flushing tells
				}
				rc.Flush() //nolint:errcheck // the reader is gone
				return
			}
			if s.sendLine(w, f, l, after, sent) != nil || (len(lines) == 0 && rc.Flush() != nil) {
				return
			}
		case <-tick.C:
			fmt.Fprint(w, ": still here\n\n") //nolint:errcheck // flushing tells
			if rc.Flush() != nil {
				return
			}
		}
	}
}

func (s *server) sendLine(w http.ResponseWriter, f *folded, l slipway.LogLine, after int64, sent map[int]bool) error {
	g, head, show := f.add(l)
	if int64(f.Read) <= after {
		return nil
	}
	m := logMessage{Group: g.ID, Fold: !g.Open()}
	var err error
	if !sent[g.ID] {
		sent[g.ID], head = true, g.Name != ""
		empty := *g
		empty.Lines = nil
		if m.Box, err = s.piece("group", &empty); err != nil {
			return err
		}
	}
	if head {
		if m.Head, err = s.piece("head", g); err != nil {
			return err
		}
	}
	if show {
		if m.Line, err = s.piece("line", l); err != nil {
			return err
		}
	}
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "id: %d\ndata: %s\n\n", f.Read, b)
	return err
}

// piece is the HTML of one part of a log.
func (s *server) piece(name string, data any) (string, error) {
	var b bytes.Buffer
	err := s.pages["run"].ExecuteTemplate(&b, name, data)
	return strings.TrimSpace(b.String()), err
}

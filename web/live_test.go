package web_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

// message is one server-sent event.
type message struct{ id, event, data string }

// listen opens a stream of the site as bob. The channel is closed when the server ends it.
func listen(t *testing.T, s *site, target, last string) <-chan message {
	t.Helper()
	srv := httptest.NewServer(s.handler)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(func() { cancel(); srv.Close() })
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: session})
	r.Header.Set("Accept", "text/event-stream")
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := srv.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s answers %d, %s", target, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	out := make(chan message)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		var m message
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				m.id = value
			case "event":
				m.event = value
			case "data":
				m.data = value
			}
			if lines.Text() != "" || m.data == "" {
				continue
			}
			select {
			case out <- m:
			case <-ctx.Done():
				return
			}
			m = message{}
		}
	}()
	return out
}

func next(t *testing.T, in <-chan message) message {
	t.Helper()
	select {
	case m, ok := <-in:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return m
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	panic("not reached")
}

func TestLive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all := listen(t, s, "/live?project=shop&after=1", "")
	one := listen(t, s, "/live?project=shop&run=14&after=1", "")
	s.happen(12, "approval.approved", "of another run")
	if m := next(t, all); m.id != "2" || m.data != "changed" {
		t.Errorf("the project's page is told %v", m)
	}
	s.happen(14, "step.succeeded", "of this run")
	if m := next(t, one); m.id != "3" {
		t.Errorf("the run's page is told %v", m)
	}
	if m := next(t, all); m.id != "3" {
		t.Errorf("the project's page is told %v", m)
	}
}

// What happened between the page and the stream, or while it was broken, is told at once; a cursor
// from the future or none means from now on.
func TestLiveCatchesUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.happen(14, "step.started", "before the stream")
	s.happen(14, "step.succeeded", "as well")
	if m := next(t, listen(t, s, "/live?project=shop&run=14&after=1", "")); m.id != "3" {
		t.Errorf("the page that knows event 1 is told %v", m)
	}
	if m := next(t, listen(t, s, "/live?project=shop&run=14&after=1", "2")); m.id != "3" {
		t.Errorf("the browser that knows event 2 is told %v", m)
	}
	for _, after := range []string{"&after=900", "", "&after=x"} {
		in := listen(t, s, "/live?project=shop"+after, "")
		s.happen(15, "run.created", "later")
		if m := next(t, in); m.id == "3" {
			t.Errorf("%q is told what was: %v", after, m)
		}
	}
}

func TestLiveRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if w := s.ask("GET", "/live?project=none", ""); w.Code != http.StatusNotFound {
		t.Errorf("another project's events answer %d", w.Code)
	}
}

// A page's cursor is the newest event at the time when it was read.
func TestCursor(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if page := s.ask("GET", "/runs/14", "").Body.String(); !strings.Contains(page, `data-stream="/live?project=shop&amp;run=14&amp;after=1"`) {
		t.Error("the page does not say where its stream goes on")
	}
}

type logMessage struct {
	Group           int  `json:"g"`
	Fold            bool `json:"fold"`
	Head, Box, Line string
}

func decode(t *testing.T, m message) (l logMessage) {
	t.Helper()
	if err := json.Unmarshal([]byte(m.data), &l); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	return l
}

func (w *world) write(l ...slipway.LogLine) {
	w.change(14, func() {
		k := key(14, "test/web")
		w.logs[k] = append(w.logs[k], l...)
	})
}

func TestLogStream(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	in := listen(t, s, "/runs/14/log?step=test/web&after=27", "")
	s.write(slipway.LogLine{Time: noon, Group: "tests of web", Stream: "stderr", Text: script + esc})
	m := next(t, in)
	l := decode(t, m)
	if m.id != "28" || l.Group != 2 || l.Fold {
		t.Errorf("line 28 is %v", m)
	}
	if want := `<div class="line stderr"><time datetime="2026-11-21T12:00:00Z">12:00:00</time> <span>&lt;script&gt;alert(&#34;pwned&#34;)&lt;/script&gt;\x1b]0;owned\x07\x1b[31mred\x1b[0m</span></div>`; l.Line != want {
		t.Errorf("the line is %s", l.Line)
	}
	if !strings.HasPrefix(l.Box, `<details class="group" data-group="2" open>`) || !strings.Contains(l.Head, "tests of web") {
		t.Errorf("its group is %s with head %s", l.Box, l.Head)
	}
	s.write(slipway.LogLine{Time: noon.Add(5 * time.Second), Group: "tests of web", State: "done", Text: "29.0s"})
	if l := decode(t, next(t, in)); !l.Fold || l.Line != "" || l.Box != "" || !strings.Contains(l.Head, "✓") || !strings.Contains(l.Head, "29 s") {
		t.Errorf("the end of the group is %+v", l)
	}
	s.write(slipway.LogLine{Time: noon, Text: "46 passed"})
	if l := decode(t, next(t, in)); l.Group != 3 || l.Box != `<div class="lines" data-group="3"></div>` || l.Head != "" || !strings.Contains(l.Line, "46 passed") {
		t.Errorf("a line of no group is %+v", l)
	}
	s.change(14, func() { s.detail(14).Steps[2].State = slipway.StepSucceeded })
	if m := next(t, in); m.event != "end" {
		t.Errorf("the end is %v", m)
	}
	// A browser that comes back after the end gets what it lacks.
	again := listen(t, s, "/runs/14/log?step=test/web&after=27", "29")
	if m := next(t, again); m.id != "30" {
		t.Errorf("line 30 is %v", m)
	}
	if m := next(t, again); m.event != "end" {
		t.Errorf("the end is %v", m)
	}
}

// The groups that a page has are those that its stream continues.
func TestLogAgrees(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 3000 { // more than a page holds
		s.logs[key(14, "test/web")] = append(s.logs[key(14, "test/web")],
			slipway.LogLine{Time: noon, Group: fmt.Sprint("group ", i%7), Text: fmt.Sprint("line ", i)}, slipway.LogLine{Time: noon, Text: fmt.Sprint("word ", i)})
	}
	page := s.ask("GET", "/runs/14", "").Body.String()
	if !strings.Contains(page, `data-read="6027"`) || !strings.Contains(page, "earlier lines are in") || strings.Contains(page, "line 0<") || !strings.Contains(page, "word 2999") {
		t.Error("the page does not hold the end of the log, and say so")
	}
	in := listen(t, s, "/runs/14/log?step=test/web&after=6026", "")
	last := decode(t, next(t, in))
	if at := strings.LastIndex(page, `data-group="`); !strings.HasPrefix(page[at:], fmt.Sprintf(`data-group="%d"`, last.Group)) {
		t.Errorf("the page's last group is %.40s, the stream's %d", page[at:], last.Group)
	}
}

func TestLogText(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.ask("GET", "/runs/7/log?step=build/web", "")
	if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("it is %s", got)
	}
	text := w.Body.String()
	if !strings.Contains(text, `[[build 4/5] RUN npm ci <script>alert("pwned")</script>] \x1b]0;owned`) || strings.ContainsAny(text, "\x1b\x07\x00\x7f\u202e\u0085\r") {
		t.Errorf("the text is\n%s", text)
	}
	if lines := strings.Count(text, "\n"); lines != 11 {
		t.Errorf("it has %d lines", lines)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.full = true
	for _, target := range []string{"/live?project=shop", "/runs/14/log?step=test/web"} {
		w := s.ask("GET", target, "", header("Accept", "text/event-stream"))
		if w.Code != http.StatusTooManyRequests || !strings.Contains(w.Body.String(), "close some pages") {
			t.Errorf("%s answers %d: %s", target, w.Code, w.Body)
		}
	}
	if w := s.ask("GET", "/runs/5/log?step=test/orders", ""); w.Code != http.StatusOK {
		t.Errorf("the log as text answers %d", w.Code)
	}
}

// What went wrong inside Slipway is in its log and not in an answer, for scripts and programs as for people.
func TestStreamsHideInternalErrors(t *testing.T) {
	t.Parallel()
	const secret = "read /var/lib/slipway/slipway.db: disk I/O error"
	log := &bytes.Buffer{}
	w := newWorld(noon)
	o := w.options()
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	h, err := web.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{w, h}
	w.err = errors.New(secret)
	for name, c := range map[string]struct {
		target string
		heads  []func(*http.Request)
	}{
		"events":            {"/live?project=shop", nil},
		"log, as text":      {"/runs/14/log?step=test/web", nil},
		"log, as it grows":  {"/runs/14/log?step=test/web", []func(*http.Request){header("Accept", "text/event-stream")}},
		"who is signed in?": {"/live?project=shop", []func(*http.Request){cookie("broken")}},
	} {
		log.Reset()
		got := s.ask("GET", c.target, "", c.heads...)
		if got.Code != http.StatusInternalServerError || strings.Contains(got.Body.String(), "disk") || !strings.Contains(got.Body.String(), "The server's log has the details.") {
			t.Errorf("%s: it answers %d: %s", name, got.Code, got.Body)
		}
		if !strings.Contains(log.String(), secret) {
			t.Errorf("%s: the log has %q", name, log)
		}
	}
	w.err = slipway.Errorf(slipway.Unavailable, "the server is starting")
	if got := s.ask("GET", "/live?project=shop", ""); got.Code != http.StatusServiceUnavailable || !strings.Contains(got.Body.String(), "the server is starting") {
		t.Errorf("what people can be told is %d: %s", got.Code, got.Body)
	}
}

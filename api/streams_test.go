package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/api"
)

// stream opens the event stream as ada and returns its lines as they come, comments left out.
func (w *world) stream(path string, header ...string) (lines <-chan string, hangUp func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer ada")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); kind != "text/event-stream" {
		w.t.Fatalf("the stream is %d %s", resp.StatusCode, kind)
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			if !strings.HasPrefix(s.Text(), ":") {
				out <- s.Text()
			}
		}
	}()
	return out, func() {
		cancel()
		for range out { //nolint:revive // until the reader has ended
		}
	}
}

// event reads one event: its id and its kind.
func event(t *testing.T, lines <-chan string) string {
	t.Helper()
	var out []string
	for line := range lines {
		if line == "" && len(out) > 0 {
			return strings.Join(out, " ")
		}
		if key, value, ok := strings.Cut(line, ": "); ok && key != "data" {
			out = append(out, value)
		} else if ok && !strings.HasPrefix(value, `{"id":`) {
			t.Errorf("data is %q", value)
		}
	}
	return "the end"
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.events = []slipway.Event{{ID: 1, Kind: "run.created", Project: "shop"}, {ID: 2, Kind: "step.ready", Project: "shop", Message: "two\nlines"}, {ID: 3, Kind: "run.running", Project: "blog"}}
	lines, hangUp := w.stream("/api/v1/events?follow=1")
	for _, want := range []string{"1 run.created", "2 step.ready", "3 run.running"} {
		if got := event(t, lines); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	w.happens(slipway.Event{ID: 4, Kind: "run.succeeded", Project: "shop"})
	if got := event(t, lines); got != "4 run.succeeded" {
		t.Errorf("got %q", got)
	}
	hangUp()
	<-w.stopped

	for path, header := range map[string][]string{
		"/api/v1/events?follow=1&after=2":              nil,
		"/api/v1/events?follow=1":                      {"Last-Event-ID", "2"},
		"/api/v1/events?follow=1&after=0":              {"Last-Event-ID", "2"}, // a browser that connects again
		"/api/v1/events?follow=1&project=blog":         nil,
		"/api/v1/events?follow=1&project=blog&after=1": nil,
	} {
		lines, hangUp := w.stream(path, header...)
		if got := event(t, lines); got != "3 run.running" {
			t.Errorf("%s %v: got %q", path, header, got)
		}
		hangUp()
		<-w.stopped
	}
	_, body := w.ask("GET", "/api/v1/events?after=3", "")
	if !strings.Contains(body, `"id":4`) || strings.Contains(body, `"id":3`) {
		t.Errorf("the list after 3 is %s", body)
	}
}

// Whoever loses their token, or their role, loses the stream.
func TestTheStreamEndsWithTheRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lines, hangUp := w.stream("/api/v1/events?follow=1")
	defer hangUp()
	w.mu.Lock()
	delete(w.users, "ada")
	w.mu.Unlock()
	if got := event(t, lines); got != "the end" {
		t.Errorf("got %q", got)
	}
	<-w.stopped
}

// A cursor beyond the newest event, as of a server that was set up anew, goes on with what comes next.
func TestACursorBeyondTheNewestEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.events = []slipway.Event{{ID: 1, Kind: "run.created", Project: "shop"}, {ID: 2, Kind: "step.ready", Project: "shop"}}
	lines, hangUp := w.stream("/api/v1/events?follow=1&after=900")
	w.happens(slipway.Event{ID: 3, Kind: "run.succeeded", Project: "shop"})
	if got := event(t, lines); got != "3 run.succeeded" {
		t.Errorf("got %q", got)
	}
	hangUp()
	<-w.stopped
	if _, body := w.ask("GET", "/api/v1/events?after=900", ""); strings.TrimSpace(body) != "[]" {
		t.Errorf("the list is %s", body)
	}
}

func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.logs = func(context.Context, func(slipway.LogLine) error) error { return nil }
	_, hangUp := w.stream("/api/v1/events?follow=1")
	w.mu.Lock()
	w.full = true
	w.mu.Unlock()
	for _, path := range []string{"/api/v1/events?follow=1", "/api/v1/runs/7/log?step=x&follow=1"} {
		resp, body := w.ask("GET", path, "")
		w.wantError(resp, body, slipway.TooMany, "ada has too many streams open")
		if resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if len(w.left) > 0 {
		t.Error("the stream was left while it is read")
	}
	hangUp()
	<-w.stopped
	<-w.left
}

// Who sends the body of a request slowly is cut off; what is asked for may take as long as it does.
func TestASlowBody(t *testing.T) {
	t.Parallel()
	w := newWorldWaiting(t, 200*time.Millisecond)
	for path, token := range map[string]string{"/api/v1/runs/7/cancel": "Authorization: Bearer ada\r\n", "/api/v1/login": ""} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a TCP connection has one
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Length: 100\r\n\r\n{\"re", path, token)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		var body api.ErrorBody
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || resp.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(body.Error.Message, "not all of it came within") {
			t.Errorf("%s: %d %+v %v", path, resp.StatusCode, body, err)
		}
	}
	if w.last() != "" {
		t.Errorf("came through: %s", w.last())
	}
}

func TestClientEvents(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.events = []slipway.Event{{ID: 1, Kind: "run.created", Project: "shop", Message: "a"}, {ID: 2, Kind: "step.ready", Project: "shop"}}
	enough := errors.New("enough")
	var got []slipway.Event
	err := w.client("ada").Events(t.Context(), "shop", 1, func(e slipway.Event) error {
		got = append(got, e)
		return enough
	})
	if !errors.Is(err, enough) || len(got) != 1 || got[0].Kind != "step.ready" {
		t.Errorf("%v, %+v", err, got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = w.client("ada").Events(ctx, "", 0, func(slipway.Event) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
	w.mu.Lock()
	w.events = []slipway.Event{{ID: 3, Kind: "run.created"}}
	w.mu.Unlock()
	err = w.client("ada").Events(t.Context(), "", 2, func(slipway.Event) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.users, "ada") // the server ends the stream
		return nil
	})
	if slipway.ErrorCode(err) != slipway.Unavailable {
		t.Errorf("the server's end: %v", err)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	next := make(chan struct{})
	w.logs = func(ctx context.Context, line func(slipway.LogLine) error) error {
		for _, text := range []string{"one", "two <b>\x1b[2J", "three"} {
			if err := line(slipway.LogLine{Text: text}); err != nil {
				return err
			}
			<-next
		}
		return nil
	}
	var got []string
	err := w.client("ada").Log(t.Context(), 7, "build/cart", true, func(l slipway.LogLine) error {
		got = append(got, l.Text)
		next <- struct{}{} // the line came while the log goes on
		return nil
	})
	if err != nil || strings.Join(got, "|") != "one|two <b>\x1b[2J|three" {
		t.Errorf("%q, %v", got, err)
	}
	w.logs = func(context.Context, func(slipway.LogLine) error) error { return nil }
	if err := w.client("ada").Log(t.Context(), 7, "x", false, nil); err != nil {
		t.Errorf("an empty log: %v", err)
	}

	// A log that breaks off is not one that ends.
	w.logs = func(_ context.Context, line func(slipway.LogLine) error) error {
		return errors.Join(line(slipway.LogLine{Text: "one"}), slipway.ErrShutdown)
	}
	got = nil
	err = w.client("ada").Log(t.Context(), 7, "x", true, func(l slipway.LogLine) error { got = append(got, l.Text); return nil })
	if slipway.ErrorCode(err) != slipway.Unavailable || len(got) != 1 {
		t.Errorf("broken off: %q, %v", got, err)
	}

	// Whoever hangs up ends the reading of the log.
	ended := make(chan error, 1)
	w.logs = func(ctx context.Context, line func(slipway.LogLine) error) error {
		err := line(slipway.LogLine{Text: "one"})
		<-ctx.Done()
		ended <- err
		return context.Cause(ctx)
	}
	enough := errors.New("enough")
	if err := w.client("ada").Log(t.Context(), 7, "x", true, func(slipway.LogLine) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("got %v", err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("the log is read although nobody listens")
	}
	resp, body := w.ask("GET", "/api/v1/runs/7/report?step=x", "")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"passed":3`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

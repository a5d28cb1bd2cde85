package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/slipway-cd/slipway"
)

func (s *server) streams() {
	s.mux.HandleFunc("GET /api/v1/runs/{run}/log", s.log)
	s.mux.HandleFunc("GET /api/v1/events", s.events)
}

// log sends a step's log as one JSON object per line (slipway.LogLine). A log that breaks off ends the
// connection.
func (s *server) log(w http.ResponseWriter, r *http.Request) {
	by, err := s.user(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	id, err := pathID(r, "run")
	if err != nil {
		s.fail(w, r, err)
		return
	}
	follow, started := r.URL.Query().Get("follow") == "1", false
	leave, err := s.Streams.Enter(by)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer leave()
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	err = s.Streams.Log(r.Context(), by, id, r.URL.Query().Get("step"), follow, func(l slipway.LogLine) error {
		if !started {
			w.Header().Set("Content-Type", "application/x-ndjson")
			started = true
		}
		if err := enc.Encode(l); err != nil {
			return err
		}
		if follow {
			return rc.Flush()
		}
		return nil
	})
	switch {
	case err != nil && !started:
		s.fail(w, r, err)
	case err != nil:
		panic(http.ErrAbortHandler) // so that whoever reads sees that this is not the end of the log
	}
}

// events streams what happens as server-sent events, from ?after= or Last-Event-ID on; without
// follow=1 it answers with a JSON list.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	by, err := s.user(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	q := r.URL.Query()
	cursor := r.Header.Get("Last-Event-ID")
	if cursor == "" {
		cursor = q.Get("after")
	}
	var after int64
	if cursor != "" {
		if after, err = strconv.ParseInt(cursor, 10, 64); err != nil || after < 0 {
			s.fail(w, r, slipway.Errorf(slipway.Invalid, "after=%q: expected the id of an event", cursor))
			return
		}
	}
	if q.Get("follow") != "1" {
		events, _, err := s.Streams.Events(r.Context(), by, q.Get("project"), after)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		v, _ := list(events, nil)
		writeJSON(w, http.StatusOK, v)
		return
	}
	leave, err := s.Streams.Enter(by)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer leave()
	s.follow(w, r, by, after)
}

// follow writes events until the client, the server or the user's rights are gone.
func (s *server) follow(w http.ResponseWriter, r *http.Request, by slipway.User, after int64) {
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	changed, stop := s.Streams.Changed()
	defer stop()
	tick := time.NewTicker(s.Heartbeat)
	defer tick.Stop()
	for {
		events, next, err := s.Streams.Events(r.Context(), by, r.URL.Query().Get("project"), after)
		if err != nil {
			return
		}
		for _, e := range events {
			b, err := json.Marshal(e)
			if err != nil {
				return
			}
			if _, err := fmt.Fprintf(w, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Kind, b); err != nil {
				return
			}
		}
		if rc.Flush() != nil {
			return
		}
		if next != after { // smaller: there was no such event
			after = next
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-tick.C:
			if by, err = s.user(r); err != nil {
				return // signed out, or the token was taken away
			}
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
				return
			}
		}
	}
}

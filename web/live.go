package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/slipway-cd/slipway"
)

const heartbeat = 15 * time.Second

// live sends a server-sent event for each thing that happens in a project or a run; the page fetches
// itself again.
func (s *server) live(w http.ResponseWriter, r *http.Request) {
	by, err := s.Identity.Identify(r)
	if err != nil || by.Name == "" {
		http.Error(w, "sign in first", http.StatusUnauthorized)
		return
	}
	after, _ := strconv.ParseInt(first(r.Header.Get("Last-Event-ID"), r.FormValue("after")), 10, 64)
	if after == 0 { // from now on
		_, after, err = s.Streams.Events(r.Context(), by, r.FormValue("project"), 1<<62)
		if err != nil {
			http.Error(w, "no such project", http.StatusNotFound)
			return
		}
	}
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	changed, stop := s.Streams.Changed()
	defer stop()
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		events, next, err := s.Streams.Events(r.Context(), by, r.FormValue("project"), after)
		if err != nil {
			return
		}
		for _, e := range events {
			if _, err := fmt.Fprintf(w, "id: %d\ndata: {\"run\":%d}\n\n", e.ID, e.RunID); err != nil {
				return
			}
		}
		if rc.Flush() != nil {
			return
		}
		if after < next && next < 1<<62 {
			after = next
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-tick.C:
			if _, err := fmt.Fprint(w, ": still here\n\n"); err != nil {
				return
			}
		}
	}
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// log streams a step's log as server-sent events, then an event "end".
func (s *server) log(w http.ResponseWriter, r *http.Request) {
	by, err := s.Identity.Identify(r)
	if err != nil || by.Name == "" {
		http.Error(w, "sign in first", http.StatusUnauthorized)
		return
	}
	n, err := id(r, "run")
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	rc := http.NewResponseController(w)
	rc.SetWriteDeadline(time.Time{}) //nolint:errcheck // not every writer has one
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	err = s.Streams.Log(r.Context(), by, n, r.FormValue("step"), true, func(l slipway.LogLine) error {
		b, err := json.Marshal(map[string]string{"time": clock(l.Time), "group": l.Group, "state": l.State, "stream": l.Stream, "text": visible(l.Text)})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", b); err != nil {
			return err
		}
		return rc.Flush()
	})
	if err == nil {
		fmt.Fprint(w, "event: end\ndata: {}\n\n") //nolint:errcheck // the reader is gone
	}
}

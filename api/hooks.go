package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/slipway-cd/slipway"
)

// Webhooks takes what forges send.
type Webhooks interface {
	// Receive verifies a request for a codebase, given by its key, and keeps it before it returns. It
	// reports false for one that came before.
	Receive(ctx context.Context, codebase string, h http.Header, body []byte) (d slipway.Delivery, fresh bool, err error)
}

// HookAnswer is how a delivery is acknowledged.
type HookAnswer struct {
	Delivery string               `json:"delivery"`
	Kind     slipway.DeliveryKind `json:"kind"`
	Repeated bool                 `json:"repeated,omitempty"`
	Reason   string               `json:"reason,omitempty"` // why nothing follows
}

const (
	// maxHook bounds a webhook's body. What is larger is refused; polling finds what it told of.
	maxHook      = 4 << 20
	hookPatience = 10 * time.Second // for a body to arrive
	hooksAtOnce  = 64
)

// Hooks returns the handler of POST /hooks/{project} and of POST /hooks/{project}/{codebase}. It answers 202 once
// the delivery is kept.
func Hooks(to Webhooks, now func() time.Time, log *slog.Logger) http.Handler {
	s := &server{Options: Options{Log: log}}
	free := make(chan struct{}, hooksAtOnce)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
		case <-r.Context().Done():
			s.notKept(w, r, context.Cause(r.Context()))
			return
		}
		body, err := readHook(w, r, now().Add(hookPatience))
		if err != nil {
			s.notKept(w, r, err)
			return
		}
		d, fresh, err := to.Receive(r.Context(), slipway.CodebaseKey(r.PathValue("project"), r.PathValue("codebase")), r.Header, body)
		if err != nil {
			log.WarnContext(r.Context(), "webhook refused", "path", r.URL.Path, "from", r.RemoteAddr, "code", slipway.ErrorCode(err), "error", err)
			s.notKept(w, r, err)
			return
		}
		writeJSON(w, http.StatusAccepted, HookAnswer{Delivery: d.ID, Kind: d.Kind, Repeated: !fresh, Reason: d.Reason})
	})
}

// notKept refuses a delivery. It answers senders too that have ended their half of the connection: without an
// answer they would take theirs for kept.
func (s *server) notKept(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(r.Context()); cause != nil && !errors.Is(cause, slipway.ErrShutdown) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	s.fail(w, r, err)
}

// readHook reads the body, of bounded size and by a time. One that ends early is an error.
func readHook(w http.ResponseWriter, r *http.Request, until time.Time) ([]byte, error) {
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(until); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxHook))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, slipway.Errorf(slipway.Invalid, "webhook: the body has more than %d bytes; what it tells of is found by polling", large.Limit)
	case err != nil:
		return nil, slipway.Errorf(slipway.Invalid, "webhook: the body ends early: %w", err)
	}
	if err := control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return nil, err
	}
	return body, nil
}

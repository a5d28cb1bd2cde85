package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/api"
)

// held keeps nothing until it is let go, or the request ends.
type held struct{ came, free chan struct{} }

func (h held) Receive(ctx context.Context, _ string, _ http.Header, _ []byte) (slipway.Delivery, bool, error) {
	h.came <- struct{}{}
	select {
	case <-h.free:
		return slipway.Delivery{ID: "1", Kind: slipway.DeliveryPush}, true, nil
	case <-ctx.Done():
		return slipway.Delivery{}, false, context.Cause(ctx)
	}
}

// A sender whose delivery was not kept is never told that all is well, and no answer is a 200.
func TestWhatIsNotKeptIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	const atOnce = 64
	h := held{came: make(chan struct{}, 2*atOnce), free: make(chan struct{})}
	hooks := api.Hooks(h, time.Now, slog.New(slog.DiscardHandler))
	post := func(cause error) <-chan int {
		ctx, cancel := context.WithCancelCause(t.Context())
		answered := make(chan int, 1)
		go func() {
			w := httptest.NewRecorder()
			hooks.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/hooks/shop", strings.NewReader("{}")))
			answered <- w.Code
		}()
		if cause != nil {
			cancel(cause)
		} else {
			t.Cleanup(func() { cancel(nil) })
		}
		return answered
	}
	var kept []<-chan int
	for range atOnce {
		kept = append(kept, post(nil))
	}
	for range atOnce {
		<-h.came
	}
	for _, cause := range []error{slipway.ErrShutdown, errors.New("the sender is gone")} {
		if code := <-post(cause); code != http.StatusServiceUnavailable {
			t.Errorf("one that waited for its turn, %v: %d, want 503", cause, code)
		}
	}
	close(h.free)
	for _, answered := range kept {
		if code := <-answered; code != http.StatusAccepted {
			t.Errorf("one that was kept: %d, want 202", code)
		}
	}
}

func TestADeliveryThatIsCutShortIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(api.Hooks(held{}, time.Now, slog.New(slog.DiscardHandler)))
	t.Cleanup(server.Close)
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /hooks/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"a\""); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(answer); !strings.HasPrefix(got, "HTTP/1.1 503 ") && !strings.HasPrefix(got, "HTTP/1.1 422 ") {
		t.Errorf("answered %q", got)
	}
}

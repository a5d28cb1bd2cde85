package api_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/api"
	"github.com/slipway-cd/slipway/client"
)

// testResults answers questions about tests with what it was asked.
type testResults struct {
	*backend
	closed chan struct{}
}

func (b testResults) RunTests(_ context.Context, by slipway.User, run int64) (slipway.RunTests, error) {
	return slipway.RunTests{Run: slipway.Run{ID: run}}, b.asked(by, "tests of run %d", run)
}

func (b testResults) ServiceTests(_ context.Context, by slipway.User, project, service, ref string, limit int) (slipway.ServiceTests, error) {
	return slipway.ServiceTests{Service: service}, b.asked(by, "tests of %s %s in %s, %d", project, service, ref, limit)
}

func (b testResults) CaseHistory(_ context.Context, by slipway.User, f slipway.CaseFilter) ([]slipway.CaseHistory, error) {
	return some(b.backend, slipway.CaseHistory{Case: f.Name}), b.asked(by, "history %+v", f)
}

type attachment struct {
	*strings.Reader
	closed chan struct{}
}

func (a attachment) Close() error { close(a.closed); return nil }

func (b testResults) OpenAttachment(_ context.Context, by slipway.User, run int64, digest string) (slipway.Attachment, io.ReadSeekCloser, error) {
	if err := b.asked(by, "attachment %d %s", run, digest); err != nil {
		return slipway.Attachment{}, nil, err
	}
	return slipway.Attachment{Name: "html/\"a\".html"}, attachment{strings.NewReader("<script>"), b.closed}, nil
}

func newTestsWorld(t *testing.T) (*world, testResults) {
	t.Helper()
	b := testResults{&backend{users: map[string]slipway.User{"ada": {Name: "ada"}}}, make(chan struct{})}
	server := httptest.NewServer(api.New(api.Options{Tests: b, Identity: b, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(server.Close)
	return &world{t: t, backend: b.backend, url: server.URL}, b
}

func TestTestsOverTheAPI(t *testing.T) {
	t.Parallel()
	w, _ := newTestsWorld(t)
	drop := func(_ any, err error) error { return err }
	ask := func(c *client.Client) map[string]func() error {
		return map[string]func() error{
			"tests of run 7":               func() error { return drop(c.RunTests(t.Context(), 7)) },
			"tests of shop cart in , 0":    func() error { return drop(c.ServiceTests(t.Context(), "shop", "cart", "", 0)) },
			"tests of shop a/b in main, 3": func() error { return drop(c.ServiceTests(t.Context(), "shop", "a/b", "main", 3)) },
			"history {Project:shop Service:cart Ref:refs/heads/x Name:a b&c Suite: Class:}": func() error {
				return drop(c.CaseHistory(t.Context(), slipway.CaseFilter{Project: "shop", Service: "cart", Ref: "refs/heads/x", Name: "a b&c"}))
			},
			"history {Project:shop Service:a/b Ref: Name:x Suite:s t Class:C&D}": func() error {
				return drop(c.CaseHistory(t.Context(), slipway.CaseFilter{Project: "shop", Service: "a/b", Name: "x", Suite: "s t", Class: "C&D"}))
			},
		}
	}
	for want, call := range ask(w.client("ada")) {
		if err := call(); err != nil || w.last() != "ada: "+want {
			t.Errorf("asked %q, want %q: %v", w.last(), want, err)
		}
	}
	for name, call := range ask(w.client("")) {
		if err := call(); slipway.ErrorCode(err) != slipway.Unauthorized {
			t.Errorf("%s without a token: %v", name, err)
		}
	}
	for path, words := range map[string]string{
		"/api/v1/runs/x/tests":                                   "expected a positive number",
		"/api/v1/projects/shop/services/cart/tests?limit=-1":     "limit",
		"/api/v1/projects/shop/services/cart/tests/history":      "name of a test",
		"/api/v1/runs/0/attachments/sha256:" + fmt.Sprint(12345): "expected a positive number",
	} {
		resp, body := w.ask("GET", path, "")
		w.wantError(resp, body, slipway.Invalid, words)
	}
	w.list = true
	if _, body := w.ask("GET", "/api/v1/projects/shop/services/cart/tests/history?case=a", ""); strings.TrimSpace(body) != "[]" {
		t.Errorf("no history is %q", body)
	}
}

// A browser saves an attachment and shows nothing of it.
func TestAttachmentsAreSaved(t *testing.T) {
	t.Parallel()
	w, b := newTestsWorld(t)
	resp, body := w.ask("GET", "/api/v1/runs/7/attachments/sha256:1", "")
	h := resp.Header
	if body != "<script>" || h.Get("Content-Type") != "application/octet-stream" || h.Get("Content-Disposition") != `attachment; filename="\"a\".html"` ||
		h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") != "sandbox" || w.last() != "ada: attachment 7 sha256:1" {
		t.Errorf("%q %v", body, h)
	}
	<-b.closed
	b.err = slipway.Errorf(slipway.NotFound, "no report names it")
	resp, body = w.ask("GET", "/api/v1/runs/7/attachments/sha256:1", "")
	w.wantError(resp, body, slipway.NotFound, "no report names it")
	if _, err := w.client("").Attachment(t.Context(), 7, "sha256:1"); slipway.ErrorCode(err) != slipway.Unauthorized {
		t.Errorf("without a token: %v", err)
	}
	b.err = nil
}

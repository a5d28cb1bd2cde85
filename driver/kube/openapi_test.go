package kube

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/slipway-cd/slipway"
)

// served is a client of an API server that answers with handler.
func served(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return New(kubeconfigs(fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"a","contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}],
"clusters":[{"name":"a","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],"users":[{"name":"a","user":{"token":"t0ken"}}]}`, server.URL)))
}

type kubeconfigs string

func (k kubeconfigs) Kubeconfig(_ context.Context, name string) ([]byte, error) {
	if name != "local" {
		return nil, slipway.Errorf(slipway.NotFound, "cluster %s", name)
	}
	return []byte(k), nil
}

const document = `{"info":{"version":"v1.35.0"}}`

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	var sent atomic.Int32
	c := served(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/openapi/v2" || r.Header.Get("Authorization") != "Bearer t0ken" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		w.Header().Set("ETag", `"one"`)
		if r.Header.Get("If-None-Match") == `"one"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent.Add(1)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, document)
		z.Close()
	})
	doc, err := c.OpenAPI(t.Context(), "local", "")
	if err != nil || string(doc.Data) != document || doc.Tag != `"one"` {
		t.Fatalf("%q %s, %v", doc.Data, doc.Tag, err)
	}
	again, err := c.OpenAPI(t.Context(), "local", doc.Tag)
	if err != nil || again.Data != nil || again.Tag != doc.Tag || sent.Load() != 1 {
		t.Errorf("%q %s, %v, sent %d times", again.Data, again.Tag, err, sent.Load())
	}
}

func TestOpenAPIWithoutTag(t *testing.T) {
	t.Parallel()
	c := served(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, document) })
	doc, err := c.OpenAPI(t.Context(), "local", "")
	if err != nil || string(doc.Data) != document || len(doc.Tag) != 64 {
		t.Fatalf("%q %s, %v", doc.Data, doc.Tag, err)
	}
	if again, err := c.OpenAPI(t.Context(), "local", doc.Tag); err != nil || again.Data != nil {
		t.Errorf("%q, %v", again.Data, err)
	}
}

func TestOpenAPIThatIsNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		code    slipway.Code
	}{
		"forbidden":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, slipway.Forbidden},
		"broken":                {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, slipway.Unavailable},
		"not modified, unasked": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, slipway.Unavailable},
		"cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, document)
		}, slipway.Unavailable},
		"a bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			chunk := strings.Repeat(" ", 1<<20)
			for range maxOpenAPI>>20 + 2 {
				if _, err := io.WriteString(z, chunk); err != nil {
					return
				}
			}
			z.Close()
		}, slipway.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if doc, err := served(t, c.handler).OpenAPI(t.Context(), "local", ""); slipway.ErrorCode(err) != c.code {
				t.Errorf("%d bytes, %v", len(doc.Data), err)
			}
		})
	}
}

func TestOpenAPIOfNobody(t *testing.T) {
	t.Parallel()
	if _, err := New(kubeconfigs("")).OpenAPI(t.Context(), "other", ""); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("got %v", err)
	}
	started := make(chan struct{})
	done := make(chan struct{})
	c := served(t, func(_ http.ResponseWriter, r *http.Request) { close(started); <-done })
	t.Cleanup(func() { close(done) })
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() { <-started; cancel(slipway.ErrTimeout) }()
	if _, err := c.OpenAPI(ctx, "local", ""); !errors.Is(err, slipway.ErrTimeout) {
		t.Errorf("got %v", err)
	}
}

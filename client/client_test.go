package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/slipwaytest"
)

func TestAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"http://127.0.0.1:8080": "http://127.0.0.1:8080", "https://slipway.test/": "https://slipway.test", "http://h/some/path?q#f": "http://h",
	} {
		if c, err := client.New(in, ""); err != nil || c.Address() != want {
			t.Errorf("%q: %v", in, err)
		}
	}
	for _, in := range []string{"", "localhost:8080", "127.0.0.1:8080", "ftp://h", "http://", "http://me:s3cret@h", "http://%zz", "http://s3cret@h"} {
		_, err := client.New(in, "")
		if slipway.ErrorCode(err) != slipway.Invalid || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestAServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	address := "http://" + slipwaytest.Refusing(t)
	c, err := client.New(address, "slp_s3cret")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Whoami(t.Context())
	if slipway.ErrorCode(err) != slipway.Unavailable || !slipway.Temporary(err) || strings.Count(err.Error(), address) != 1 ||
		!strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("got %v", err)
	}
	if err := c.Log(t.Context(), 1, "x", true, nil); slipway.ErrorCode(err) != slipway.Unavailable {
		t.Errorf("log: %v", err)
	}
	if err := c.Events(t.Context(), "", 0, nil); slipway.ErrorCode(err) != slipway.Unavailable {
		t.Errorf("events: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Whoami(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
}

// What answers need not be Slipway.
func TestSomethingElseAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		code   slipway.Code
		says   string
	}{
		"a page":          {func(w http.ResponseWriter) { w.Write([]byte("<html>hello")) }, slipway.Internal, "is not Slipway's API"},
		"a page, 404":     {func(w http.ResponseWriter) { http.Error(w, "<html>", 404) }, slipway.Internal, "404 Not Found, which is not Slipway's API"},
		"other JSON":      {func(w http.ResponseWriter) { http.Error(w, `{"error": "no"}`, 400) }, slipway.Internal, "400"},
		"another kind":    {func(w http.ResponseWriter) { w.Write([]byte(`{"name": 7}`)) }, slipway.Internal, "is not Slipway's API"},
		"half an answer":  {func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); w.Write([]byte(`{"name": "a`)) }, slipway.Unavailable, "unexpected EOF"},
		"a new code":      {func(w http.ResponseWriter) { http.Error(w, `{"error": {"code": "tired", "message": "later"}}`, 420) }, "tired", "later"},
		"a proxy's 502":   {func(w http.ResponseWriter) { http.Error(w, "Bad Gateway", 502) }, slipway.Internal, "502"},
		"an endless page": {func(w http.ResponseWriter) { w.WriteHeader(500); w.Write(make([]byte, 4<<20)) }, slipway.Internal, "500"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { c.answer(w) }))
		api, err := client.New(server.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = api.Whoami(t.Context())
		if slipway.ErrorCode(err) != c.code || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v (%s), want %s and %q", name, err, slipway.ErrorCode(err), c.code, c.says)
		}
		server.Close()
	}
}

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPageEscapes(t *testing.T) {
	orders := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<b>ordered</b>") }))
	defer orders.Close()
	w := httptest.NewRecorder()
	page(orders.URL, http.DefaultClient)(w, httptest.NewRequest("GET", "/?to=<i>", nil))
	if body := w.Body.String(); strings.Contains(body, "<i>") || !strings.Contains(body, "&lt;b&gt;ordered") {
		t.Fatalf("got %s", body)
	}
}

func TestPageSaysWhenOrdersIsDown(t *testing.T) {
	w := httptest.NewRecorder()
	page("http://127.0.0.1:1", http.DefaultClient)(w, httptest.NewRequest("GET", "/", nil))
	if !strings.Contains(w.Body.String(), "orders does not answer") {
		t.Fatalf("got %s", w.Body.String())
	}
}

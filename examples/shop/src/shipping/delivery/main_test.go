package main

import (
	"net/http/httptest"
	"testing"
)

func TestFarCostsMore(t *testing.T) {
	near, far := quote("Ede"), quote("Wladiwostok")
	if far.Cents <= near.Cents || far.Days <= near.Days {
		t.Fatalf("near %+v, far %+v", near, far)
	}
}

func TestQuoteIsServed(t *testing.T) {
	srv := httptest.NewServer(handler())
	defer srv.Close()
	if err := smoke(srv.URL); err != nil {
		t.Fatal(err)
	}
}

func TestQuoteNeedsAPlace(t *testing.T) {
	w := httptest.NewRecorder()
	handler().ServeHTTP(w, httptest.NewRequest("GET", "/quote", nil))
	if w.Code != 400 {
		t.Fatalf("got %d", w.Code)
	}
}

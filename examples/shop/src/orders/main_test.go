package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestOrderAsksDelivery(t *testing.T) {
	delivery := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"to":%q,"cents":500}`, r.FormValue("to"))
	}))
	defer delivery.Close()
	o, err := (&shop{delivery: delivery.URL}).order("book", "Ede")
	if err != nil || !strings.Contains(string(o.Delivery), `"cents":500`) {
		t.Fatalf("got %+v, %v", o, err)
	}
}

func TestOrderSaysWhenDeliveryIsDown(t *testing.T) {
	delivery := httptest.NewServer(http.NotFoundHandler())
	defer delivery.Close()
	if _, err := (&shop{delivery: delivery.URL}).order("book", "Ede"); err == nil {
		t.Fatal("no error")
	}
}

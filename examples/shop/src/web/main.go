// Command web is the page a customer sees.
package main

import (
	"fmt"
	"html"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"
)

func page(orders string, client *http.Client) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		to := r.FormValue("to")
		if to == "" {
			to = "Rotterdam"
		}
		said := ""
		resp, err := client.Get(orders + "/order?item=book&to=" + url.QueryEscape(to))
		if err == nil {
			defer resp.Body.Close()
			b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
			said = string(b)
		} else {
			said = "orders does not answer"
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>shop</title><h1>shop</h1><p>A book to %s: <code>%s</code></p>\n", html.EscapeString(to), html.EscapeString(said))
	}
}

func main() {
	orders := os.Getenv("ORDERS_URL")
	if orders == "" {
		orders = "http://orders"
	}
	log.Fatal(http.ListenAndServe(":8080", page(orders, &http.Client{Timeout: 3 * time.Second})))
}

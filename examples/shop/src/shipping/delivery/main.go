// Command delivery quotes the price of a delivery and when it arrives.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

// greeting is what a customer reads; a release changes it.
const greeting = "delivered with care"

// Quote is an offer to deliver.
type Quote struct {
	To       string `json:"to"`
	Cents    int    `json:"cents"`
	Days     int    `json:"days"`
	Greeting string `json:"greeting"`
}

// quote offers a delivery to a place: far ones cost more and take longer.
func quote(to string) Quote {
	distance := len(to)
	return Quote{To: to, Cents: 490 + 10*distance, Days: 1 + distance/8, Greeting: greeting}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /quote", func(w http.ResponseWriter, r *http.Request) {
		to := r.URL.Query().Get("to")
		if to == "" {
			http.Error(w, "to is missing", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(quote(to)); err != nil {
			log.Print(err)
		}
	})
	return mux
}

// smoke asks a running delivery for a quote: the in-cluster test. A Service's address leads to its pods a
// moment after they are ready, so that for half a minute nobody needs to be there.
func smoke(url string) error {
	c := http.Client{Timeout: 5 * time.Second}
	resp, err := c.Get(url + "/quote?to=Rotterdam")
	for began := time.Now(); err != nil && time.Since(began) < 30*time.Second; resp, err = c.Get(url + "/quote?to=Rotterdam") {
		time.Sleep(time.Second)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var q Quote
	if err := json.NewDecoder(resp.Body).Decode(&q); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if q.Cents <= 0 || q.To != "Rotterdam" {
		return fmt.Errorf("got the quote %+v", q)
	}
	fmt.Printf("quote for %s: %d cents, %d days\n", q.To, q.Cents, q.Days)
	return nil
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "smoke" {
		if err := smoke(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	log.Fatal(http.ListenAndServe(":8080", handler()))
}

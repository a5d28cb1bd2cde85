// Command orders takes orders and asks delivery what it costs to bring them.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"time"
)

// Order is what a customer wants brought to a place.
type Order struct {
	Item     string          `json:"item"`
	To       string          `json:"to"`
	Delivery json.RawMessage `json:"delivery"`
}

type shop struct {
	delivery string
	client   http.Client
}

func (s *shop) order(item, to string) (Order, error) {
	resp, err := s.client.Get(s.delivery + "/quote?to=" + url.QueryEscape(to))
	if err != nil {
		return Order{}, fmt.Errorf("ask delivery: %w", err)
	}
	defer resp.Body.Close()
	o := Order{Item: item, To: to}
	if resp.StatusCode != http.StatusOK {
		return o, fmt.Errorf("ask delivery: %s", resp.Status)
	}
	return o, json.NewDecoder(resp.Body).Decode(&o.Delivery)
}

func (s *shop) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /order", func(w http.ResponseWriter, r *http.Request) {
		o, err := s.order(r.FormValue("item"), r.FormValue("to"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(o); err != nil {
			log.Print(err)
		}
	})
	return mux
}

func main() {
	s := &shop{delivery: os.Getenv("DELIVERY_URL"), client: http.Client{Timeout: 3 * time.Second}}
	if s.delivery == "" {
		s.delivery = "http://delivery"
	}
	log.Fatal(http.ListenAndServe(":8080", s.handler()))
}

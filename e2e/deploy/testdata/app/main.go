// Command app is the service that the tests deploy: it behaves as MODE says.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		patience, _ := time.ParseDuration(os.Args[4])
		os.Exit(check(os.Args[2], os.Args[3], patience))
	}
	if len(os.Args) > 1 && os.Args[1] == "sleep" {
		d, _ := time.ParseDuration(os.Args[2])
		fmt.Println("sleeping", d)
		time.Sleep(d)
		return
	}
	if os.Getenv("MODE") == "crash" {
		fmt.Println("panic: no database at db:5432")
		os.Exit(3)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getenv("GREETING")) })
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if os.Getenv("MODE") == "unready" {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	fmt.Println("listening", http.ListenAndServe(":8080", nil))
}

// check asks until the answer is the wanted one: a Service's address leads to new pods, and no longer
// to old ones, a moment after the rollout.
func check(url, want string, patience time.Duration) int {
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		said, ok := ask(url, want)
		if ok || time.Since(began) >= patience {
			fmt.Println(said)
			if ok {
				return 0
			}
			return 1
		}
	}
}

func ask(url, want string) (said string, ok bool) {
	client := &http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return fmt.Sprint("FAIL ", err), false
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return fmt.Sprintf("GET %s: %s %q, want %q", url, res.Status, b, want), string(b) == want
}

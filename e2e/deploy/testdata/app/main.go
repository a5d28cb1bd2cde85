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
		os.Exit(check(os.Args[2], os.Args[3]))
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

func check(url, want string) int {
	client := &http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		fmt.Println("FAIL", err)
		return 1
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	fmt.Printf("GET %s: %s %q, want %q\n", url, res.Status, b, want)
	if string(b) != want {
		return 1
	}
	return 0
}

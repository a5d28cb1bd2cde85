// Command get prints what is at a URL. A service's address leads to its pods a
// moment after they are ready, so it asks for half a minute while nobody is
// there. It is in the test image because Debian's static busybox cannot look up
// names without the C library.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(os.Args[1])
	for began := time.Now(); err != nil && time.Since(began) < 30*time.Second; response, err = client.Get(os.Args[1]) {
		time.Sleep(100 * time.Millisecond)
	}
	if err == nil {
		defer response.Body.Close()
		_, err = io.Copy(os.Stdout, response.Body)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

package web_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

// TestMain serves the world of the tests instead of running them when SLIPWAY_WEB is an address:
// SLIPWAY_WEB=127.0.0.1:0 go test ./web
func TestMain(m *testing.M) {
	if address := os.Getenv("SLIPWAY_WEB"); address != "" {
		if err := serve(address); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	w := newWorld(time.Now())
	ui, err := web.New(w.options())
	if err != nil {
		return err
	}
	go w.live()
	fmt.Printf("http://%s/signin/one-time (one code; any token that begins with slw_ signs in too)\n", l.Addr())
	return http.Serve(l, ui)
}

// live lets run 14 go on: its tests write a line now and then.
func (w *world) live() {
	for n := range time.Tick(700 * time.Millisecond) {
		w.change(14, func() {
			w.now = time.Now()
			k := key(14, "test/web")
			w.logs[k] = append(w.logs[k], slipway.LogLine{Time: n, Group: "tests of web", Stream: "stdout", Text: "ok  example.com/shop/web/" + n.Format("150405.000")})
		})
	}
}

package registry_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway/hosting/registry"
)

const (
	childDir     = "SLIPWAY_TEST_REGISTRY_DIR"
	childRemoves = "SLIPWAY_TEST_REGISTRY_REMOVES" // digests: the child removes them and collects
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		serveUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// serveUntilKilled is the process that the test of kill -9 starts: a registry and nothing else.
func serveUntilKilled(dir string) {
	clock, removes := &later{}, os.Getenv(childRemoves)
	if removes != "" {
		clock.by = 3 * time.Hour
	}
	r, err := registry.Open(dir, func(context.Context, string, string, registry.Action, string) (string, error) {
		return "child", nil
	}, registry.Options{Now: clock.now})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if removes != "" {
		collectUntilKilled(r, strings.Split(removes, ","))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	_ = http.Serve(l, r)
}

// collectUntilKilled removes and collects, and then waits.
func collectUntilKilled(r *registry.Registry, digests []string) {
	fmt.Println("begins")
	err := r.RemoveAll(context.Background(), "shop/delivery", digests)
	if err == nil {
		_, err = r.Collect(context.Background(), "shop", false, nil)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	select {}
}

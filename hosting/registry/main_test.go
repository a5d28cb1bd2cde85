package registry_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway/hosting/registry"
)

const childDir = "SLIPWAY_TEST_REGISTRY_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		serveUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// serveUntilKilled is the process that the test of kill -9 starts: a registry and nothing else.
func serveUntilKilled(dir string) {
	r, err := registry.Open(dir, func(context.Context, string, string, registry.Action, string) (string, error) {
		return "child", nil
	}, registry.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	_ = http.Serve(l, r)
}

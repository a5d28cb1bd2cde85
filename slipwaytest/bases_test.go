package slipwaytest_test

import (
	"io"
	"log"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/slipway-cd/slipway/slipwaytest"
)

func baseRegistry(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Base images are the same wherever their layers were kept, and made once.
func TestBases(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	only := []string{slipwaytest.Busybox, slipwaytest.Distroless}
	digests := map[string]string{}
	for range 2 {
		address := baseRegistry(t)
		var told []string
		opts := slipwaytest.BaseOptions{Address: address, Cache: t.TempDir(), Only: only, Progress: func(l string) { told = append(told, l) }}
		for range 2 {
			if err := slipwaytest.Bases(t.Context(), opts); err != nil {
				t.Fatal(err)
			}
		}
		if len(told) != 2*len(only) {
			t.Errorf("told %q: the second call made them again", told)
		}
		for _, ref := range only {
			digest, err := crane.Digest(strings.TrimPrefix(address, "http://") + "/mirror/" + ref)
			if err != nil {
				t.Fatal(err)
			}
			if before := digests[ref]; before != "" && before != digest {
				t.Errorf("%s is %s, was %s", ref, digest, before)
			}
			digests[ref] = digest
		}
	}
}

func TestGolangBase(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("makes an image of 100 MB: set SLIPWAY_E2E=1")
	}
	cache := t.TempDir()
	for _, what := range []string{"with nothing kept", "with kept layers"} {
		begin := time.Now()
		if err := slipwaytest.Bases(t.Context(), slipwaytest.BaseOptions{Address: baseRegistry(t), Cache: cache, Only: []string{slipwaytest.Golang}}); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", what, time.Since(begin))
	}
}

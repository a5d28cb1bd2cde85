//go:build linux

package main

import (
	"context"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/slipway-cd/slipway/driver/buildkit"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// New services are built, tested and checked with a BuildKit of Slipway's own, as on a laptop.
func TestRunWithBuildKit(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") != "1" {
		t.Skip("needs root and starts a buildkitd: set SLIPWAY_E2E=1")
	}
	mirror := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(mirror.Close)
	if err := slipwaytest.Bases(t.Context(), slipwaytest.BaseOptions{Address: mirror.URL}); err != nil {
		t.Fatal(err)
	}
	tools, err := slipwaytest.Cache()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.MkdirTemp("", "sliprun")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := buildkit.Remove(ctx, buildkit.Options{Dir: filepath.Join(cache, "slipway", "run", "buildkit")}, true); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(cache); err != nil {
			t.Error(err)
		}
	})
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "e2e"), WorkdirRoot: t.TempDir(), RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			for name, value := range map[string]string{
				"HOME": env.WorkDir, "XDG_CACHE_HOME": cache, "TOOLS": filepath.Join(tools, "tools"),
				"HUB": "docker.io=" + mirror.URL + "/mirror/docker.io", "GCR": "gcr.io=" + mirror.URL + "/mirror/gcr.io",
				"GIT_CONFIG_GLOBAL": filepath.Join(env.WorkDir, ".gitconfig"), "GIT_CONFIG_NOSYSTEM": "1", "GOPROXY": "off",
			} {
				env.Setenv(name, value)
			}
			return os.WriteFile(filepath.Join(env.WorkDir, ".gitconfig"), []byte("[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"status": cmdStatus, "local": cmdLocal},
	})
}

// local STATUS ARGS... runs slipway run with the base images and tools of this machine, and wants its
// exit status to be that.
func cmdLocal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: local STATUS ARGS...")
	}
	all := []string{args[0], "slipway", "run", "--tools", ts.Getenv("TOOLS"), "--registry-mirror", ts.Getenv("HUB"), "--registry-mirror", ts.Getenv("GCR")}
	cmdStatus(ts, false, append(all, args[1:]...))
}

package attest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage/attest"
)

// The cosign command, built from its Go module, accepts all that a run attaches to image and chart: in a registry
// that knows referrers, and in one that does not. After a rotation both keys do.
func TestRealCosign(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("builds cosign; set SLIPWAY_E2E=1")
	}
	program, err := slipwaytest.InstallCosign(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers=%v", referrers), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, referrers)
			w.everything()
			w.run(w.env())
			next := w.keys.rotate(t)
			w.run(w.env())
			all, err := w.keys.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			for i, k := range all {
				file := filepath.Join(dir, fmt.Sprintf("%d.pub", i))
				if err := os.WriteFile(file, []byte(k.Public), 0o600); err != nil {
					t.Fatal(err)
				}
				accepts := func(repo, digest string, args ...string) {
					t.Helper()
					args = append(args, "--key", file, "--insecure-ignore-tlog=true", "--allow-http-registry", strings.TrimPrefix(w.host, "http://")+"/"+repo+"@"+digest)
					cmd := exec.CommandContext(t.Context(), program, args...)
					cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "HTTPS_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1"}
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("cosign %s (key %s, newest %s): %v\n%s", strings.Join(args, " "), k.ID, next.ID, err, out)
					}
				}
				for _, kind := range []string{"slsaprovenance1", "spdxjson", attest.TypeTests, attest.TypeScan} {
					accepts("shop/delivery", w.image, "verify-attestation", "--type", kind)
				}
				accepts("shop/delivery", w.image, "verify")
				accepts("shop/charts/delivery", w.chart, "verify")
				accepts("shop/charts/delivery", w.chart, "verify-attestation", "--type", "slsaprovenance1")
			}
		})
	}
}

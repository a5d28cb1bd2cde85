package cosign_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	ggcr "github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/driver/oci"
	"github.com/slipway-cd/slipway/hosting/registry"
	"github.com/slipway-cd/slipway/slipwaytest"
	"github.com/slipway-cd/slipway/stage/attest"
)

// The cosign command, built from its Go module, verifies what Slipway signs: in the embedded registry, before
// and after the promotion, and against what is wrong.
func TestRealCosign(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLIPWAY_E2E") == "" {
		t.Skip("builds cosign; set SLIPWAY_E2E=1")
	}
	program, err := slipwaytest.InstallCosign(t.Context(), t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	w := newReal(t, program)
	good, replayed, stripped, altered := w.push("shop/delivery"), w.push("shop/delivery"), w.push("shop/delivery"), w.push("shop/delivery")
	key, private := newKey(t)
	other, _ := newKey(t)
	w.write("key.pub", key.Public)
	w.write("other.pub", other.Public)

	statements := map[string]string{
		attest.TypeSignature: `{}`, attest.TypeProvenance: `{"buildDefinition":{"buildType":"x","externalParameters":{}},"runDetails":{"builder":{"id":"https://slipway.example.com"}}}`,
		attest.TypeSBOM: `{"spdxVersion":"SPDX-2.3"}`, attest.TypeTests: `{"result":"PASSED","configuration":[]}`, attest.TypeScan: `{"scanner":{"uri":"x","result":[]},"metadata":{}}`,
	}
	seal := func(digest, predicateType string) attest.Attachment {
		a, err := cosign.Bundles{}.Seal(t.Context(), statement(digest, predicateType, statements[predicateType]), key, signer(private))
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	for predicateType := range statements {
		w.attach(good, seal(good, predicateType))
	}
	w.attach(replayed, seal(good, attest.TypeSignature))
	w.attach(altered, tamper(t, seal(altered, attest.TypeSignature), altered))

	if err := w.embedded.Retag(t.Context(), "shop/delivery", good, "prod/shop/delivery", "v1.0.2"); err != nil {
		t.Fatal(err)
	}
	for _, repo := range []string{"shop/delivery", "prod/shop/delivery"} {
		w.cosign(true, repo, good, "verify", "--key", "key.pub")
		for _, kind := range []string{"slsaprovenance1", "spdxjson", attest.TypeTests, attest.TypeScan, attest.TypeSignature} {
			w.cosign(true, repo, good, "verify-attestation", "--key", "key.pub", "--type", kind)
		}
	}
	w.cosign(false, "shop/delivery", good, "verify-attestation", "--key", "key.pub", "--type", "cyclonedx")
	w.cosign(false, "shop/delivery", good, "verify-attestation", "--key", "other.pub", "--type", "slsaprovenance1")
	w.cosign(false, "shop/delivery", good, "verify", "--key", "other.pub")
	w.cosign(false, "shop/delivery", replayed, "verify", "--key", "key.pub")
	w.cosign(false, "shop/delivery", stripped, "verify", "--key", "key.pub")
	w.cosign(false, "shop/delivery", altered, "verify", "--key", "key.pub")
}

// tamper changes what a bundle states, and leaves its signature.
func tamper(t *testing.T, a attest.Attachment, digest string) attest.Attachment {
	t.Helper()
	var b bundleJSON
	if err := json.Unmarshal(a.Data, &b); err != nil {
		t.Fatal(err)
	}
	b.DSSEEnvelope.Payload = base64.StdEncoding.EncodeToString(statement(digest, attest.TypeProvenance, `{}`))
	var err error
	if a.Data, err = json.Marshal(b); err != nil {
		t.Fatal(err)
	}
	return a
}

// real is the embedded registry, with a user whose password cosign has to know, and the cosign command.
type real struct {
	t         *testing.T
	dir, host string
	program   string
	embedded  *registry.Registry
	client    *oci.Client
	url       string
}

func newReal(t *testing.T, program string) *real {
	t.Helper()
	w := &real{t: t, dir: t.TempDir(), program: program}
	var err error
	w.embedded, err = registry.Open(t.TempDir(), func(_ context.Context, user, secret string, _ registry.Action, _ string) (string, error) {
		if user != "ada" || secret != "token" {
			return "", slipway.Errorf(slipway.Unauthorized, "sign in")
		}
		return user, nil
	}, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(w.embedded)
	rt := &http.Transport{}
	t.Cleanup(func() {
		rt.CloseIdleConnections()
		srv.Close()
		if err := w.embedded.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.url, w.host = srv.URL, strings.TrimPrefix(srv.URL, "http://")
	w.client = oci.New(func(context.Context, string) (string, string, error) { return "ada", "token", nil }, oci.Options{Transport: rt})
	auth, err := json.Marshal(map[string]any{"auths": map[string]any{w.host: map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("ada:token"))}}})
	if err != nil {
		t.Fatal(err)
	}
	w.write("config.json", string(auth))
	return w
}

func (w *real) write(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *real) push(repo string) string {
	w.t.Helper()
	img, err := random.Image(512, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		w.t.Fatal(err)
	}
	ref, err := name.ParseReference(w.host + "/" + repo + "@" + digest.String())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := ggcr.Write(ref, img, ggcr.WithAuth(&authn.Basic{Username: "ada", Password: "token"})); err != nil {
		w.t.Fatal(err)
	}
	return digest.String()
}

func (w *real) attach(digest string, a attest.Attachment) {
	w.t.Helper()
	repo := slipway.Repository{Registry: slipway.Registry{Host: "registry.slipway.internal", Address: w.url}, Name: "shop/delivery"}
	if _, err := w.client.PushArtifact(w.t.Context(), repo, a, digest); err != nil {
		w.t.Fatal(err)
	}
}

// cosign runs the command against a digest and wants it to accept or refuse it.
func (w *real) cosign(accept bool, repo, digest string, args ...string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.program, append(args, "--insecure-ignore-tlog=true", "--allow-http-registry", w.host+"/"+repo+"@"+digest)...)
	cmd.Dir = w.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "DOCKER_CONFIG=" + w.dir, "SIGSTORE_NO_CACHE=true", "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1", "NO_PROXY=127.0.0.1"}
	out, err := cmd.CombinedOutput()
	if (err == nil) != accept {
		w.t.Errorf("cosign %s of %s: accepted %v, want %v\n%s", strings.Join(args, " "), repo, err == nil, accept, out)
	}
	w.t.Logf("cosign %s of %s: %v", strings.Join(args, " "), repo, err)
}

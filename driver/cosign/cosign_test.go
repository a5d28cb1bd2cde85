package cosign_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/stage/attest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newKey(t testing.TB) (slipway.Key, *ecdsa.PrivateKey) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := cosign.ParseKey([]byte(publicPEM(t, &private.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	return k, private
}

func publicPEM(t testing.TB, public any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func signer(private *ecdsa.PrivateKey) attest.SignFunc {
	return func(_ context.Context, digest []byte) ([]byte, error) {
		return ecdsa.SignASN1(rand.Reader, private, digest)
	}
}

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func statement(digest, predicateType, predicate string) []byte {
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":%s}`,
		strings.TrimPrefix(digest, "sha256:"), predicateType, predicate)
}

func seal(t testing.TB, text []byte, key slipway.Key, private *ecdsa.PrivateKey) []byte {
	t.Helper()
	a, err := cosign.Bundles{Now: func() time.Time { return time.Unix(1, 0) }}.Seal(context.Background(), text, key, signer(private))
	if err != nil {
		t.Fatal(err)
	}
	return a.Data
}

func TestSeal(t *testing.T) {
	t.Parallel()
	key, private := newKey(t)
	image := digestOf("image")
	text := statement(image, attest.TypeSBOM, `{"spdxVersion":"SPDX-2.3"}`)
	a, err := cosign.Bundles{Now: func() time.Time { return time.Unix(1, 0) }}.Seal(t.Context(), text, key, signer(private))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": attest.TypeSBOM, "org.opencontainers.image.created": "1970-01-01T00:00:01Z"}
	if a.ArtifactType != "application/vnd.dev.sigstore.bundle.v0.3+json" || a.MediaType != a.ArtifactType || fmt.Sprint(a.Annotations) != fmt.Sprint(want) {
		t.Errorf("attachment %+v", a)
	}
	got, err := cosign.Bundles{}.Open(a.Data, image, []slipway.Key{key})
	if err != nil || got.Problem != "" || got.Key.ID != key.ID || got.Type != attest.TypeSBOM || string(got.Statement) != string(text) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := (cosign.Bundles{}).Seal(t.Context(), text, key, func(context.Context, []byte) ([]byte, error) { return nil, errors.New("the key is locked away") }); err == nil || !strings.Contains(err.Error(), "locked away") {
		t.Errorf("a key that does not sign: %v", err)
	}
}

// bundleJSON is a bundle as far as tests change one.
type bundleJSON struct {
	MediaType            string         `json:"mediaType"`
	VerificationMaterial map[string]any `json:"verificationMaterial"`
	DSSEEnvelope         struct {
		Payload     string              `json:"payload"`
		PayloadType string              `json:"payloadType"`
		Signatures  []map[string]string `json:"signatures"`
	} `json:"dsseEnvelope"`
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	key, private := newKey(t)
	foreign, foreignPrivate := newKey(t)
	image, other := digestOf("image"), digestOf("other")
	text := statement(image, attest.TypeSignature, `{}`)
	changed := func(change func(*bundleJSON)) []byte {
		var b bundleJSON
		if err := json.Unmarshal(seal(t, text, key, private), &b); err != nil {
			t.Fatal(err)
		}
		change(&b)
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	payload := func(s []byte) func(*bundleJSON) {
		return func(b *bundleJSON) { b.DSSEEnvelope.Payload = base64.StdEncoding.EncodeToString(s) }
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"as it was":          {changed(func(*bundleJSON) {}), ""},
		"foreign key":        {seal(t, text, foreign, foreignPrivate), "is signed with a key that is not known here"},
		"forged":             {seal(t, text, key, foreignPrivate), "names key " + key.ID + ", but its signature is not of that key"},
		"replayed":           {seal(t, statement(other, attest.TypeSignature, `{}`), key, private), "is about another digest, " + other},
		"altered statement":  {changed(payload(statement(image, attest.TypeProvenance, `{}`))), "its signature is not of that key"},
		"altered subject":    {changed(payload(statement(image, attest.TypeSignature, `{"a":1}`))), "its signature is not of that key"},
		"another payload":    {changed(func(b *bundleJSON) { b.DSSEEnvelope.PayloadType = "text/plain" }), "holds no in-toto statement"},
		"not a statement":    {seal(t, []byte(`{}`), key, private), "is about nothing"},
		"no digest":          {seal(t, []byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha1":"00"}}]}`), key, private), "has no sha256 digest"},
		"no signature":       {changed(func(b *bundleJSON) { b.DSSEEnvelope.Signatures = nil }), "is not"},
		"signature stripped": {changed(func(b *bundleJSON) { b.DSSEEnvelope.Signatures[0]["sig"] = "" }), "is not"},
		"two signatures": {changed(func(b *bundleJSON) {
			b.DSSEEnvelope.Signatures = append(b.DSSEEnvelope.Signatures, b.DSSEEnvelope.Signatures[0])
		}), "is not"},
		"an old version": {changed(func(b *bundleJSON) { b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.1" }), "holds no in-toto statement in a bundle of version 0.3"},
		"a certificate": {changed(func(b *bundleJSON) {
			b.VerificationMaterial = map[string]any{"certificate": map[string]string{"rawBytes": "MAA="}}
		}), "is signed with a certificate"},
		"nothing":   {nil, "is not a Sigstore bundle"},
		"no JSON":   {[]byte("<xml/>"), "is not a Sigstore bundle"},
		"empty":     {[]byte("{}"), "is not a Sigstore bundle"},
		"truncated": {changed(func(*bundleJSON) {})[:100], "is not a Sigstore bundle"},
	} {
		got, err := cosign.Bundles{}.Open(c.data, image, []slipway.Key{key})
		if err != nil || (got.Problem == "") != (c.says == "") || !strings.Contains(got.Problem, c.says) {
			t.Errorf("%s: %q, %v; want %q", name, got.Problem, err, c.says)
		}
		if got.Problem != "" && (got.Statement != nil || got.Type != "" || got.Key.ID != "") {
			t.Errorf("%s: it says something: %+v", name, got)
		}
	}
	if _, err := (cosign.Bundles{}).Open(changed(func(*bundleJSON) {}), "v1.0.2", []slipway.Key{key}); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("a tag for a digest: %v", err)
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	key, _ := newKey(t)
	wrong, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing": "", "text": "hello", "another curve": publicPEM(t, &wrong.PublicKey), "two keys": key.Public + key.Public,
		"a private key": "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", "no key": "-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n",
	} {
		if _, err := cosign.ParseKey([]byte(text)); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if again, err := cosign.ParseKey([]byte("\n" + key.Public + "\n")); err != nil || again.ID != key.ID || len(key.ID) != 16 {
		t.Errorf("%+v, %v", again, err)
	}
}

func BenchmarkSeal(b *testing.B) {
	key, private := newKey(b)
	text := statement(digestOf("image"), attest.TypeSignature, `{}`)
	for b.Loop() {
		seal(b, text, key, private)
	}
}

// The SBOM is of 2000 packages, about 1 MB.
func BenchmarkOpen(b *testing.B) {
	key, private := newKey(b)
	image := digestOf("image")
	sbom := `{"spdxVersion":"SPDX-2.3","packages":[` + strings.TrimSuffix(strings.Repeat(`{"name":"openssl","SPDXID":"SPDXRef-`+strings.Repeat("x", 450)+`"},`, 2000), ",") + `]}`
	for name, data := range map[string][]byte{
		"signature": seal(b, statement(image, attest.TypeSignature, `{}`), key, private),
		"sbom":      seal(b, statement(image, attest.TypeSBOM, sbom), key, private),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if got, err := (cosign.Bundles{}).Open(data, image, []slipway.Key{key}); err != nil || got.Problem != "" {
					b.Fatal(got.Problem, err)
				}
			}
		})
	}
}

// Whatever a stranger attaches, it is no proof, and nothing breaks.
func FuzzOpen(f *testing.F) {
	key, private := newKey(f)
	image := digestOf("image")
	good := seal(f, statement(image, attest.TypeSignature, `{}`), key, private)
	f.Add([]byte("{}"))
	f.Add(good[:len(good)/2])
	f.Add(seal(f, statement(digestOf("other"), attest.TypeSignature, `{}`), key, private))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := cosign.Bundles{}.Open(data, image, []slipway.Key{key})
		if err != nil || got.Problem == "" {
			t.Errorf("%s: %+v, %v", data, got, err)
		}
	})
}

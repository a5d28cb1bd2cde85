package store

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

func TestKeyIsMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if all, err := w.Keys(w.ctx); err != nil || len(all) != 0 {
		t.Fatalf("before the first: %+v, %v", all, err)
	}
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			k, err := w.SigningKey(w.ctx)
			if err != nil {
				t.Error(err)
			}
			ids[i] = k.ID
		})
	}
	wg.Wait()
	all, err := w.Keys(w.ctx)
	if err != nil || len(all) != 1 || strings.Count(strings.Join(ids, " "), all[0].ID) != len(ids) {
		t.Errorf("%v; %+v, %v", ids, all, err)
	}
	if got := kinds(t, w, "key."); got != "key.created" {
		t.Error(got)
	}
}

// kinds are the kinds of the events that begin so, oldest first.
func kinds(t *testing.T, w *world, prefix string) string {
	t.Helper()
	events, err := w.Events(w.ctx, 0, slipway.EventFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		if strings.HasPrefix(string(e.Kind), prefix) {
			out = append(out, string(e.Kind))
		}
	}
	return strings.Join(out, " ")
}

func public(t *testing.T, k slipway.Key) *ecdsa.PublicKey {
	t.Helper()
	block, _ := pem.Decode([]byte(k.Public))
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := slipway.KeyID(block.Bytes); id != k.ID {
		t.Errorf("key %s has the id %s", id, k.ID)
	}
	return parsed.(*ecdsa.PublicKey)
}

func TestSign(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, err := w.SigningKey(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("statement"))
	sig, err := w.Sign(w.ctx, k.ID, digest[:])
	if err != nil || !ecdsa.VerifyASN1(public(t, k), digest[:], sig) {
		t.Errorf("%x, %v", sig, err)
	}
	if _, err := w.Sign(w.ctx, k.ID, []byte("statement")); slipway.ErrorCode(err) != slipway.Internal {
		t.Errorf("what is no digest: %v", err)
	}
	if _, err := w.Sign(w.ctx, "0000", digest[:]); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("no such key: %v", err)
	}
}

func TestRotateAndRetire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, err := w.SigningKey(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RetireKey(w.ctx, first.ID, "ada"); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("retire the key that signs: %v", err)
	}
	second, err := w.RotateKey(w.ctx, time.Time{}, "ada")
	if err != nil {
		t.Fatal(err)
	}
	third, err := w.RotateKey(w.ctx, w.clock.now().Add(time.Hour), "ada")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RotateKey(w.ctx, w.clock.now().Add(-time.Hour), "ada"); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("trust that is past: %v", err)
	}
	digest := sha256.Sum256(nil)
	if _, err := w.Sign(w.ctx, first.ID, digest[:]); !slipway.Temporary(err) {
		t.Errorf("a replaced key signs: %v", err)
	}
	if now, err := w.SigningKey(w.ctx); err != nil || now.ID != third.ID {
		t.Errorf("%+v signs, %v", now, err)
	}
	if _, err := w.RetireKey(w.ctx, first.ID, "ada"); err != nil {
		t.Error(err)
	}
	if _, err := w.RetireKey(w.ctx, first.ID, "ada"); slipway.ErrorCode(err) != slipway.Conflict {
		t.Errorf("retired twice: %v", err)
	}
	if _, err := w.RetireKey(w.ctx, "0000", "ada"); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("no such key: %v", err)
	}
	states := func(at time.Time) string {
		all, err := w.Keys(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, k := range all {
			name := map[string]string{first.ID: "first", second.ID: "second", third.ID: "third"}[k.ID]
			out = append(out, fmt.Sprintf("%s %s %v", name, k.State(at), k.Trusted(at)))
		}
		return strings.Join(out, ", ")
	}
	if got := states(w.clock.now()); got != "third current true, second trusted true, first retired false" {
		t.Error(got)
	}
	if got := states(w.clock.now().Add(2 * time.Hour)); got != "third current true, second expired false, first retired false" {
		t.Error(got)
	}
	if got := kinds(t, w, "key."); got != "key.created key.created key.rotated key.created key.rotated key.retired" {
		t.Error(got)
	}
}

// Neither the files of the database nor an event hold the private key, also after it has been replaced.
func TestPrivateKeyIsSealed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	k, err := w.SigningKey(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	sealed, _, err := one(w.ctx, w.reader, func(r scanner) (b []byte, err error) { return b, r.Scan(&b) }, `SELECT sealed FROM keys`)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := w.unseal(sealed, "signing key "+k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.unseal(sealed, "signing key 0000"); err == nil {
		t.Error("it opens for another key's row")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := parsed.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.RotateKey(w.ctx, time.Time{}, "ada"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(w.path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, scalar) {
			t.Errorf("%s holds the private key", f)
		}
	}
	rest, _, err := one(w.ctx, w.reader, scanInt, `SELECT length(sealed) FROM keys WHERE id = $1`, k.ID)
	if err != nil || rest != 0 {
		t.Errorf("%d bytes of the replaced key are left, %v", rest, err)
	}
}

func TestBuiltBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	plan := func() slipway.Plan {
		s := p("build/delivery")
		s.Kind, s.Service, s.Build = slipway.KindBuild, "delivery", &slipway.BuildSpec{}
		return steps(s)
	}
	image := func(digest string) []slipway.Artifact {
		return []slipway.Artifact{{Kind: slipway.ArtifactImage, Repository: "r/shop/delivery", Digest: digest}, {Kind: slipway.ArtifactProvenance, Repository: "r/shop/delivery", Digest: "sha256:p", Subject: digest}}
	}
	built := func(res slipway.Result) int64 {
		t.Helper()
		r := w.newRun("refs/heads/x", commitA, plan())
		w.finish(r.ID, "build/delivery", res)
		return r.ID
	}
	first := built(slipway.Result{Outcome: slipway.Succeeded, Artifacts: image("sha256:1")})
	second := built(slipway.Result{Outcome: slipway.Succeeded, Artifacts: image("sha256:1")})
	built(slipway.Result{Outcome: slipway.Succeeded, Artifacts: image("sha256:1"), ReusedFrom: first})
	built(slipway.Result{Outcome: slipway.Failed, Artifacts: image("sha256:2")})
	for _, c := range []struct {
		service, digest string
		run, want       int64
	}{
		{"delivery", "sha256:1", 0, second}, {"delivery", "sha256:1", first, first}, {"delivery", "sha256:1", 999, 0},
		{"delivery", "sha256:2", 0, 0}, {"orders", "sha256:1", 0, 0}, {"delivery", "sha256:p", 0, 0},
	} {
		got, err := w.BuiltBy(w.ctx, "shop", c.service, c.digest, c.run)
		if c.want == 0 {
			if slipway.ErrorCode(err) != slipway.NotFound {
				t.Errorf("%+v: %+v, %v", c, got, err)
			}
			continue
		}
		if err != nil || got.Step.RunID != c.want || len(got.Artifacts) != 2 {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

func TestBuildRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := p("build/delivery")
	s.Kind, s.Service, s.Build = slipway.KindBuild, "delivery", &slipway.BuildSpec{}
	r := w.newRun("refs/heads/x", commitA, steps(s))
	w.finish(r.ID, "build/delivery", slipway.Result{Outcome: slipway.Succeeded, Artifacts: []slipway.Artifact{
		{Kind: slipway.ArtifactImage, Repository: "r/shop/delivery", Digest: "sha256:1"}, {Kind: slipway.ArtifactProvenance, Repository: "r/shop/delivery", Digest: "sha256:p", Subject: "sha256:1"}}})
	for of, want := range map[[2]string]string{{"shop", "sha256:1"}: "sha256:p", {"shop", "sha256:p"}: "", {"shop", "sha256:2"}: "", {"other", "sha256:1"}: ""} {
		if got, err := w.BuildRecord(w.ctx, of[0], of[1]); err != nil || got != want {
			t.Errorf("%v: %q, %v; want %q", of, got, err, want)
		}
	}
}

func TestBuilders(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range [][2]string{
		{"http://127.0.0.1:8080", "[http://127.0.0.1:8080]"}, {"https://a.example.com", "[https://a.example.com http://127.0.0.1:8080]"},
		{"https://a.example.com", "[https://a.example.com http://127.0.0.1:8080]"}, {"http://127.0.0.1:8080", "[http://127.0.0.1:8080 https://a.example.com]"},
	} {
		if got, err := w.Builders(w.ctx, c[0]); err != nil || fmt.Sprint(got) != c[1] {
			t.Errorf("%s: %v, %v; want %s", c[0], got, err, c[1])
		}
	}
	for i := range 60 {
		if _, err := w.Builders(w.ctx, fmt.Sprintf("http://127.0.0.1:%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := w.Builders(w.ctx, "x"); err != nil || len(got) != 50 {
		t.Errorf("%d, %v", len(got), err)
	}
}

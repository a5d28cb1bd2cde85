package attest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/cosign"
	"github.com/slipway-cd/slipway/stage/attest"
)

// attachment seals a statement about a digest as somebody with that service of keys would.
func (w *world) attachment(k *keys, digest, predicateType, predicate string) attest.Attachment {
	w.t.Helper()
	ctx := context.Background()
	key, err := k.SigningKey(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	text := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":%q}}],"predicateType":%q,"predicate":%s}`,
		strings.TrimPrefix(digest, "sha256:"), predicateType, predicate)
	a, err := cosign.Bundles{}.Seal(ctx, []byte(text), key, func(ctx context.Context, d []byte) ([]byte, error) { return k.Sign(ctx, key.ID, d) })
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// What somebody who may push to the registry can do, and a person to keys.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	elsewhere := "sha256:" + strings.Repeat("7", 64)
	for name, c := range map[string]struct {
		do       func(t *testing.T, w *world) // with an image that nobody has signed
		problems []string
	}{
		"stripped": {func(*testing.T, *world) {}, nil},
		"foreign": {func(t *testing.T, w *world) {
			w.attach(w.attachment(newKeys(t), w.image, attest.TypeSignature, `{}`))
		}, []string{"the signature is signed with a key that is not known here"}},
		"forged": {func(t *testing.T, w *world) {
			stranger := newKeys(t)
			own, err := w.keys.SigningKey(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			stranger.private[own.ID] = stranger.private[stranger.all[0].ID]
			stranger.all = []slipway.Key{own}
			w.attach(w.attachment(stranger, w.image, attest.TypeSignature, `{}`))
		}, []string{"the signature names key KEY, but its signature is not of that key"}},
		"replayed": {func(_ *testing.T, w *world) {
			w.attach(w.attachment(w.keys, elsewhere, attest.TypeSignature, `{}`))
		}, []string{"the signature is about another digest, " + elsewhere}},
		"altered": {func(_ *testing.T, w *world) {
			a := w.attachment(w.keys, w.image, attest.TypeSignature, `{}`)
			a.Data = []byte(strings.Replace(string(a.Data), `"sig":"`, `"sig":"AAAA`, 1))
			w.attach(a)
		}, []string{"the signature names key KEY, but its signature is not of that key"}},
		"garbage": {func(_ *testing.T, w *world) {
			w.attach(attest.Attachment{ArtifactType: attest.BundleType, MediaType: attest.BundleType, Data: []byte("\x00{"),
				Annotations: map[string]string{attest.PredicateAnnotation: "https://example.com/x"}})
			w.attach(attest.Attachment{ArtifactType: attest.BundleType, MediaType: "text/plain", Data: []byte("not looked at")})
		}, []string{"the statement of type https://example.com/x is not a Sigstore bundle"}},
		"only attested": {func(_ *testing.T, w *world) {
			w.attach(w.attachment(w.keys, w.image, attest.TypeSBOM, `{}`))
		}, nil},
		"mislabelled": {func(_ *testing.T, w *world) {
			a := w.attachment(w.keys, w.image, attest.TypeSBOM, `{}`)
			a.Annotations[attest.PredicateAnnotation] = attest.TypeSignature
			w.attach(a)
		}, nil},
		"retired": {func(t *testing.T, w *world) {
			old := current(w)
			w.attach(w.attachment(w.keys, w.image, attest.TypeSignature, `{}`))
			w.keys.rotate(t)
			w.keys.change(old, func(k *slipway.Key) { k.RetiredAt = noon })
		}, []string{"the signature is signed with key OLD, which was retired on 2026-11-21"}},
		"expired": {func(t *testing.T, w *world) {
			old := current(w)
			w.attach(w.attachment(w.keys, w.image, attest.TypeSignature, `{}`))
			w.keys.rotate(t)
			w.keys.change(old, func(k *slipway.Key) { k.Expires = noon.Add(time.Hour) })
		}, []string{"the signature is signed with key OLD, which was trusted until 2026-11-21"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, true)
			own := current(w)
			c.do(t, w)
			for range 2 { // the second look, with what is remembered
				report, err := w.verifier().Report(t.Context(), w.subject())
				if err != nil {
					t.Fatal(err)
				}
				s := report.Subjects[0]
				want := strings.NewReplacer("KEY", own, "OLD", own).Replace(strings.Join(c.problems, "\n"))
				if s.Signed || s.Key != "" || strings.Join(s.Problems, "\n") != want {
					t.Errorf("%+v\nwant %s", s, want)
				}
			}
		})
	}
}

// What a registry does not give back as it was written is not believed, and is not an error of the surroundings.
func TestAlteredInTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.run(w.env())
	w.set(func(w *world) { w.alter = true })
	report, err := w.verifier().Report(t.Context(), w.subject())
	if err != nil || report.Subjects[0].Signed || len(report.Subjects[0].Attestations) > 0 {
		t.Errorf("%+v, %v", report, err)
	}
}

// A good signature says nothing of a manifest that was altered where the registry keeps it, also for one who has looked
// before.
func TestManifestAlteredInTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.run(w.env())
	v := w.verifier()
	if report, err := v.Report(t.Context(), w.subject()); err != nil || !report.Subjects[0].Signed {
		t.Fatalf("%+v, %v", report, err)
	}
	w.set(func(w *world) { w.alterManifest = w.image })
	report, err := v.Report(t.Context(), w.subject())
	if s := report.Subjects[0]; err != nil || s.Signed || len(s.Attestations) > 0 || !strings.Contains(strings.Join(s.Problems, " "), "it was altered there") {
		t.Errorf("%+v, %v", report, err)
	}
}

// What strangers attach beside what is good changes nothing of it.
func TestStrangersDoNotHideWhatIsGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.run(w.env())
	w.attach(w.attachment(newKeys(t), w.image, attest.TypeSignature, `{}`))
	w.attach(w.attachment(newKeys(t), w.image, attest.TypeProvenance, `{}`))
	w.attach(w.attachment(w.keys, w.image, attest.TypeProvenance, `{"runDetails":{"builder":{"id":"https://evil.example.com"}}}`))
	report, err := w.verifier().Report(t.Context(), w.subject())
	s := report.Subjects[0]
	if err != nil || !s.Signed || strings.Join(s.Attestations, " ") != "provenance sbom tests scan" || s.Builder != server || len(s.Problems) != 3 {
		t.Errorf("%+v, %v", s, err)
	}
	if text := strings.Join(s.Problems, "\n"); !strings.Contains(text, `the provenance is of the builder "https://evil.example.com", which is not trusted`) {
		t.Error(text)
	}
}

// A key that was replaced is trusted until it is not, also by who has looked before.
func TestTrustIsAskedEachTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.run(w.env())
	old := current(w)
	w.keys.rotate(t)
	v := w.verifier()
	signed := func() bool {
		t.Helper()
		report, err := v.Report(t.Context(), w.subject())
		if err != nil {
			t.Fatal(err)
		}
		return report.Subjects[0].Signed
	}
	if !signed() || !signed() {
		t.Error("what a replaced key signed is not accepted")
	}
	w.keys.change(old, func(k *slipway.Key) { k.RetiredAt = noon })
	if signed() {
		t.Error("what a retired key signed is accepted")
	}
}

// The second look pulls nothing: it lists what is there, so that what has been taken away is seen.
func TestWarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.run(w.env())
	v := w.verifier()
	look := func() []string {
		t.Helper()
		w.set(func(w *world) { w.asked = nil })
		if p, err := v.Proofs(t.Context(), w.subject()); err != nil || len(p) != 5 {
			t.Fatalf("%+v, %v", p, err)
		}
		var asked []string
		w.set(func(w *world) { asked = w.asked })
		return asked
	}
	if n := len(look()); n < 10 {
		t.Errorf("the first look asked %d times", n)
	}
	if got := strings.Join(look(), ", "); got != "GET /v2/, GET /v2/shop/delivery/manifests/"+w.image+", GET /v2/, GET /v2/shop/delivery/referrers/"+w.image {
		t.Errorf("the second look asked %s", got)
	}
}

func TestProofsTellWhatIsProven(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.run(w.env())
	var got []string
	for _, p := range w.proofs() {
		if p.Digest == "" || p.Key != current(w) {
			t.Errorf("%+v", p)
		}
		p.Digest, p.Key, p.Type = "", "", ""
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b))
	}
	want := `{"name":"signature","type":"","digest":""}
{"name":"provenance","type":"","digest":"","builder":"https://slipway.example.com","source":"git+https://slipway.example.com/git/shop.git","commit":"` + commit + `","run":"https://slipway.example.com/runs/7","summary":"git+https://slipway.example.com/git/shop.git at 1a2b3c4"}
{"name":"sbom","type":"","digest":"","summary":"SPDX-2.3, 1 packages"}
{"name":"tests","type":"","digest":"","run":"https://slipway.example.com/runs/7","summary":"warned: 2 passed, 0 failed, 1 skipped"}
{"name":"scan","type":"","digest":"","summary":"1 critical, 1 high"}`
	if strings.Join(got, "\n") != want {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
	none := w.subject()
	none.Attestations = []string{}
	if p, err := w.verifier().Proofs(t.Context(), none); err != nil || len(p) != 1 || p[0].Name != "signature" {
		t.Errorf("only the signature: %+v, %v", p, err)
	}
}

// Who floods a digest hides what is signed; that is said, and proves nothing.
func TestFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	for i := range 201 {
		w.attach(attest.Attachment{ArtifactType: attest.BundleType, MediaType: attest.BundleType, Data: fmt.Appendf(nil, "%d", i)})
	}
	p := w.proofs()
	if last := p[len(p)-1]; len(p) > 201 || !strings.Contains(last.Problem, "more than 200 are not looked at") {
		t.Errorf("%d proofs, last %+v", len(p), last)
	}
}

func TestVerifyWithTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.run(w.env())
	ask := func() error {
		_, err := w.verifier().Report(t.Context(), w.subject())
		return err
	}
	w.set(func(w *world) { w.down = true })
	if err := ask(); !slipway.Temporary(err) {
		t.Errorf("the registry is down: %v", err)
	}
	w.set(func(w *world) {
		w.down, w.fail = false, func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/") }
	})
	if err := ask(); !slipway.Temporary(err) {
		t.Errorf("blobs do not come: %v", err)
	}
	w.set(func(w *world) { w.fail = nil })
	v := attest.NewVerifier(w.client, cosign.Bundles{}, func(context.Context) ([]slipway.Key, error) {
		return nil, slipway.Errorf(slipway.Unavailable, "the database is busy")
	}, attest.VerifierOptions{})
	if _, err := v.Report(t.Context(), w.subject()); !slipway.Temporary(err) {
		t.Errorf("without keys: %v", err)
	}
	gone := w.subject()
	gone.Repository.Name = "shop/none"
	report, err := w.verifier().Report(t.Context(), gone)
	if err != nil || report.Subjects[0].Signed {
		t.Errorf("a repository that is not there: %+v, %v", report, err)
	}
}

func BenchmarkWarm(b *testing.B) {
	w := newWorld(b, true)
	w.everything()
	w.run(w.env())
	v := w.verifier()
	chart := attest.Subject{Kind: slipway.ArtifactChart, Repository: w.repo("shop/charts/delivery"), Digest: w.chart}
	for b.Loop() {
		if r, err := v.Report(b.Context(), w.subject(), chart); err != nil || !r.Subjects[0].Signed || !r.Subjects[1].Signed {
			b.Fatal(r, err)
		}
	}
}

package attest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/attest"
)

func TestSignsWhatWasPublished(t *testing.T) {
	t.Parallel()
	for _, referrers := range []bool{true, false} {
		t.Run(fmt.Sprintf("referrers=%v", referrers), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, referrers)
			w.everything()
			made := w.run(w.env())
			if len(made) != 7 {
				t.Fatalf("%d artifacts: %+v", len(made), made)
			}
			for i, a := range made {
				subject, repo := w.image, "registry.example.com/shop/delivery"
				if i >= 5 {
					subject, repo = w.chart, "registry.example.com/shop/charts/delivery"
				}
				if a.Kind != slipway.ArtifactSignature || a.Subject != subject || a.Repository != repo || a.Digest == "" || a.CreatedAt != noon || a.Commit != commit {
					t.Errorf("artifact %d: %+v", i, a)
				}
			}
			w.pushes()
			again := w.run(w.env()) // as after a crash
			if n := w.pushes(); n != 0 || fmt.Sprint(again) != fmt.Sprint(made) {
				t.Errorf("the second time wrote %d manifests and made %+v", n, again)
			}
			if got := names(w.statements()); got != "provenance:1 sbom:1 scan:1 signature:1 tests:1" {
				t.Error(got)
			}
			report, err := w.verifier().Report(t.Context(), w.subject(), attest.Subject{Kind: slipway.ArtifactChart, Repository: w.repo("shop/charts/delivery"), Digest: w.chart})
			want := fmt.Sprintf(`{"subjects":[{"name":"registry.example.com/shop/delivery@%s","signed":true,"kind":"image","key":"%s","builder":"%s","attestations":["provenance","sbom","tests","scan"]},`+
				`{"name":"registry.example.com/shop/charts/delivery@%s","signed":true,"kind":"chart","key":"%[2]s","builder":"%[3]s","attestations":["provenance"]}]}`, w.image, current(w), server, w.chart)
			if got := encode(t, report); got != want || err != nil {
				t.Errorf("\n%s\n%s\n%v", got, want, err)
			}
		})
	}
}

func current(w *world) string {
	k, _ := w.keys.SigningKey(context.Background())
	return k.ID
}

func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.run(w.env())
	got := w.statements()
	subject := func(name string) string {
		return fmt.Sprintf(`"subject":[{%s"digest":{"sha256":"%s"}}]`, name, strings.TrimPrefix(w.image, "sha256:"))
	}
	named := subject(`"name":"registry.example.com/shop/delivery",`)
	hexOf := func(d string) string { return strings.TrimPrefix(d, "sha256:") }
	for name, want := range map[string]string{
		"signature": `{"_type":"https://in-toto.io/Statement/v1",` + subject("") + `,"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`,
		"provenance": `{"_type":"https://in-toto.io/Statement/v1",` + named + `,"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"` + attest.BuildTypeImage + `",` +
			`"externalParameters":{"source":{"uri":"` + gitRepo + `","digest":{"gitCommit":"` + commit + `"}},"ref":"refs/heads/main","path":"services/delivery","dockerfile":"Dockerfile","args":{"A":"1"}},` +
			`"internalParameters":{"project":"shop","service":"delivery","run":7,"step":"build/delivery","sourceDateEpoch":1,"trust":"reviewed"},` +
			`"resolvedDependencies":[{"uri":"` + gitRepo + `","digest":{"gitCommit":"` + commit + `"}},{"uri":"pkg:docker/golang@1.26","digest":{"sha256":"` + strings.Repeat("b", 64) + `"}}]},` +
			`"runDetails":{"builder":{"id":"` + server + `"},"metadata":{"invocationId":"` + server + `/runs/7","startedOn":"2026-11-21T12:00:00Z","finishedOn":"2026-11-21T12:01:00Z"},` +
			`"byproducts":[{"name":"record of the builder","uri":"oci://registry.example.com/shop/delivery@` + w.record + `","digest":{"sha256":"` + hexOf(w.record) + `"}}]}}}`,
		"sbom": `{"_type":"https://in-toto.io/Statement/v1",` + named + `,"predicateType":"https://spdx.dev/Document","predicate":{"spdxVersion":"SPDX-2.3","packages":[{"name":"openssl"}]}}`,
		"tests": `{"_type":"https://in-toto.io/Statement/v1",` + named + `,"predicateType":"https://in-toto.io/attestation/test-result/v0.1","predicate":{"result":"WARNED",` +
			`"configuration":[{"uri":"` + gitRepo + `","digest":{"gitCommit":"` + commit + `"}}],"url":"` + server + `/runs/7","passedTests":["orders/adds"],"warnedTests":["orders/wobbles"],` +
			`"summary":{"passed":2,"failed":0,"skipped":1,"flaky":1,"coverage":50}}}`,
		"scan": `{"_type":"https://in-toto.io/Statement/v1",` + named + `,"predicateType":"https://in-toto.io/attestation/vulns/v0.2","predicate":{"scanner":{"uri":"pkg:generic/grype","version":"0.116.0",` +
			`"db":{"version":"sha256:1","lastUpdate":"2026-11-21T12:00:00Z"},"result":[{"id":"CVE-2024-1234","severity":[{"method":"slipway","score":"high"}],` +
			`"annotations":[{"kind":"vulnerability","package":"openssl","version":"3.0"}]},` +
			`{"id":"aws-key","severity":[{"method":"slipway","score":"critical"}],"annotations":[{"kind":"secret"}]}]},"metadata":{"scanStartedOn":"2026-11-21T12:00:00Z","scanFinishedOn":"2026-11-21T12:00:00Z"}}}`,
	} {
		if string(got[name][0]) != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got[name][0], want)
		}
	}
}

// What an image took from another codebase is in its provenance: where it is from, and as what it was given.
func TestProvenanceNamesOtherCodebases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	env := w.env()
	other := strings.Repeat("c", 40)
	env.Steps[0].Spec.Build.Contexts = []slipway.NamedContext{{Name: "api", URL: "https://git.example.com/api.git", Source: slipway.Source{Codebase: "api", Commit: other, Dir: "src/api"}}}
	w.run(env)
	got := string(w.statements()["provenance"][0])
	from := `{"uri":"https://git.example.com/api.git","digest":{"gitCommit":"` + other + `"}}`
	for _, want := range []string{`"contexts":[{"name":"api","source":` + from + `,"path":"src/api"}]}`, `"digest":{"gitCommit":"` + commit + `"}},` + from + `,{"uri":"pkg:docker/golang@1.26"`} {
		if !strings.Contains(got, want) {
			t.Errorf("provenance\n%s\nhas no\n%s", got, want)
		}
	}
}

// A server that is killed while it attaches attaches the rest, and nothing twice.
func TestGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	n := 0
	w.set(func(w *world) {
		w.fail = func(r *http.Request) bool {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
				n++
			}
			return n > 2
		}
	})
	if _, err := w.runner.Run(t.Context(), w.env(), w.step()); !slipway.Temporary(err) {
		t.Fatalf("with a registry that fails: %v", err)
	}
	w.set(func(w *world) { w.fail = nil })
	w.run(w.env())
	if got := names(w.statements()); got != "provenance:1 sbom:1 scan:1 signature:1 tests:1" {
		t.Error(got)
	}
}

// After a rotation everything is signed again, by the new key.
func TestSignsAgainAfterARotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.run(w.env())
	next := w.keys.rotate(t)
	w.run(w.env())
	if got := names(w.statements()); got != "provenance:2 signature:2" {
		t.Error(got)
	}
	old := current(w)
	if old != next.ID {
		t.Fatalf("%s signs, want %s", old, next.ID)
	}
}

// The provenance of an image that an earlier run built names that run.
func TestReusedImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	env := w.env()
	built := env.Steps[0]
	built.RunID = 3
	w.evidence.built = &slipway.Earlier{Step: built, Artifacts: env.Artifacts[:2]}
	env.Steps[0].ReusedFrom = 3
	env.Artifacts = append(env.Artifacts[:1:1], env.Artifacts[2:]...)
	w.run(env)
	got := w.statements()
	if len(got["provenance"]) != 1 {
		t.Fatalf("%s\n%s", names(got), w.log)
	}
	if text := string(got["provenance"][0]); !strings.Contains(text, `"run":3,`) || !strings.Contains(text, server+`/runs/3"`) || !strings.Contains(text, "pkg:docker/golang") || strings.Contains(text, "refs/heads/main") {
		t.Errorf("provenance %s", text)
	}
	w.evidence.built = nil // as if the record were gone: what is there is kept
	env.Steps[0].State = slipway.StepSkipped
	w.pushes()
	if made := w.run(env); len(made) != 4 || w.pushes() != 0 {
		t.Errorf("made %+v", made)
	}
	w.keys.rotate(t)
	if made := w.run(env); len(made) != 3 || !strings.Contains(w.log.String(), "no provenance: which step built") {
		t.Errorf("made %+v\n%s", made, w.log)
	}
}

// Runs that only change the chart say nothing new of the image: what its tests said is of the run that ran them, and is
// attached once.
func TestTestsOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	w.everything()
	w.evidence.ran.RunID = 3
	w.evidence.ran.Spec.Test.Source.Commit = strings.Repeat("3", 40)
	for id := range int64(3) {
		env, step := w.env(), w.step()
		env.Run.ID, step.Attest.Commit = 7+id, strings.Repeat("9", 39)+fmt.Sprint(id)
		env.Steps[1].Spec.Test, env.Steps[1].ReusedFrom = &slipway.TestSpec{Source: slipway.Source{Commit: step.Attest.Commit}}, 3
		if res, err := w.runner.Run(t.Context(), env, step); err != nil || res.Outcome != slipway.Succeeded {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	got := w.statements()["tests"]
	if len(got) != 1 || !strings.Contains(string(got[0]), server+`/runs/3"`) || !strings.Contains(string(got[0]), strings.Repeat("3", 40)) {
		t.Errorf("%d statements about tests: %s", len(got), got)
	}
	w.evidence.ran = nil
	w.keys.rotate(t)
	w.run(w.env())
	if got := w.statements()["tests"]; len(got) != 1 || !strings.Contains(w.log.String(), "no tests are attested: which step ran them") {
		t.Errorf("%d statements about tests when nobody knows who ran them\n%s", len(got), w.log)
	}
}

func TestSBOMOfTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	file := filepath.Join(t.TempDir(), "sbom.json")
	env := w.env()
	env.Artifacts = append(env.Artifacts, slipway.Artifact{Kind: slipway.ArtifactSBOM, Service: "delivery", Digest: "sha256:sbom", Path: file})
	run := func() error {
		_, err := w.runner.Run(t.Context(), env, w.step())
		return err
	}
	if err := run(); err != nil || !strings.Contains(w.log.String(), "no SBOM is attested") {
		t.Errorf("without the file: %v\n%s", err, w.log)
	}
	for _, bad := range []string{"{", `{"bomFormat":"CycloneDX"}`} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := run(); slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%s: %v", bad, err)
		}
	}
	if err := os.WriteFile(file, []byte(`{"spdxVersion":"SPDX-2.3"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(); err != nil {
		t.Error(err)
	}
	if got := names(w.statements()); got != "provenance:1 sbom:1 signature:1" {
		t.Error(got)
	}
	link := file + ".link"
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	env.Artifacts[len(env.Artifacts)-1].Path = link
	if err := run(); slipway.ErrorCode(err) != slipway.Invalid {
		t.Errorf("a link: %v", err)
	}
}

// An SBOM that is too large to be attached holds up nothing: the gate says that there is none, where one is asked for.
func TestALargeSBOMIsLeftOut(t *testing.T) {
	t.Parallel()
	large := []byte(`{"spdxVersion":"SPDX-2.3","comment":"` + strings.Repeat("x", 32<<20) + `"}`)
	for name, kept := range map[string]bool{"of this run": false, "of an earlier one": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, true)
			env := w.env()
			found := slipway.Artifact{Kind: slipway.ArtifactSBOM, Service: "delivery", Digest: "sha256:sbom"}
			if kept {
				w.evidence.sboms = map[string][]byte{"sha256:sbom": large}
			} else {
				found.Path = filepath.Join(t.TempDir(), "sbom.json")
				if err := os.WriteFile(found.Path, large, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			env.Artifacts = append(env.Artifacts, found)
			res, err := w.runner.Run(t.Context(), env, w.step())
			if err != nil || res.Outcome != slipway.Succeeded {
				t.Fatalf("%+v, %v", res, err)
			}
			if got := names(w.statements()); got != "provenance:1 signature:1" || !strings.Contains(w.log.String(), "no SBOM is attested: it has 33554") {
				t.Errorf("%s\n%s", got, w.log)
			}
		})
	}
}

func TestWhatIsGoneOrMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, true)
	unnamed := w.step()
	unnamed.Attest.Builder = ""
	w.runner.URL = "https://by-url.example.com"
	if _, err := w.runner.Run(t.Context(), w.env(), unnamed); err != nil || !strings.Contains(fmt.Sprint(w.proofs()), `of the builder "https://by-url.example.com", which is not trusted`) {
		t.Errorf("a plan without a builder: %v, %v", w.proofs(), err)
	}
	w = newWorld(t, true)
	env := w.env()
	env.Artifacts[3].Digest = "sha256:" + strings.Repeat("0", 64)
	res, err := w.runner.Run(t.Context(), env, w.step())
	if err != nil || res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "is not in the registry any more") {
		t.Errorf("%+v, %v", res, err)
	}
	env = w.env()
	env.Artifacts = env.Artifacts[:2]
	if _, err := w.runner.Run(t.Context(), env, w.step()); slipway.ErrorCode(err) != slipway.Internal {
		t.Errorf("without a chart: %v", err)
	}
	env = w.env()
	env.Artifacts[1].Digest = "sha256:" + strings.Repeat("0", 64)
	w.run(env)
	if text := string(w.statements()["provenance"][0]); strings.Contains(text, "golang") || !strings.Contains(w.log.String(), "the record of the build") {
		t.Errorf("without the record: %s\n%s", text, w.log)
	}
	w.set(func(w *world) { w.down = true })
	if _, err := w.runner.Run(t.Context(), w.env(), w.step()); !slipway.Temporary(err) {
		t.Errorf("the registry is down: %v", err)
	}
}

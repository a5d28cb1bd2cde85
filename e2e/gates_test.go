package e2e_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/slipwaytest"
)

// leaky is tick with a package that has a known vulnerability in its image.
func leaky() tree {
	files := tick()
	files["tick/Dockerfile"] = strings.Replace(files["tick/Dockerfile"], "COPY --from=base /tick/www /www\n", "COPY --from=base /tick/www /www\nCOPY modules /app/node_modules\n", 1)
	files["tick/modules/leaky-parser/package.json"] = `{"name": "leaky-parser", "version": "1.2.3", "license": "MIT"}`
	return files
}

// advisories are what the vulnerability database of the tests knows.
var advisories = []string{`{"id": "CVE-2026-0001", "package": "leaky-parser", "ecosystem": "npm", "severity": "critical",
  "affected": "< 1.2.4", "fixed": "1.2.4", "title": "reads beyond the end"}`, `{"id": "CVE-2026-0002", "package": "own-parser", "ecosystem": "npm", "severity": "critical",
  "affected": "< 1.2.4", "fixed": "1.2.4", "title": "the same"}`}

// laterAdvisory is one that becomes known when the image runs in production.
const laterAdvisory = `{"id": "CVE-2026-0009", "package": "leaky-parser", "ecosystem": "npm", "severity": "critical", "affected": "< 1.3.0", "fixed": "1.3.0", "title": "and writes there"}`

// vulnerabilities is a database that knows these.
func vulnerabilities(t *testing.T, advisories ...string) string {
	t.Helper()
	database := filepath.Join(t.TempDir(), "vulnerabilities.tar.zst")
	if err := slipwaytest.VulnerabilityDatabase(t.Context(), world.Binaries.Scanner, database, time.Now(), advisories...); err != nil {
		t.Fatal(err)
	}
	return database
}

// TestGates follows a service with a vulnerable package: the pull request is held up by its scan, a waiver lets it
// through, what is deployed can prove where it comes from, and what was pushed by hand or lost its signature is
// not deployed.
func TestGates(t *testing.T) {
	t.Parallel()
	s := newSite(t, "gates", siteOptions{args: []string{"--scan-database", vulnerabilities(t, advisories...)}})
	t.Run("evidence", func(t *testing.T) {
		t.Run("what the base image brings is not blamed", func(t *testing.T) { baseIsNotBlamed(t, s) })
		t.Run("reports of other scanners", func(t *testing.T) { reportsOfOthers(t, s) })
		t.Run("coverage and flaky tests", func(t *testing.T) { testsOverRuns(t, s) })
		t.Run("custom resources", func(t *testing.T) { customResources(t, s) })
	})
	r := s.project(t, "gated", leaky())

	held := s.until(t, r.push("main").ID, slipway.RunFailed)
	if st := step(t, held, "scan/tick"); st.State != slipway.StepFailed || !strings.Contains(st.Reason, "vulnerabilities") {
		t.Fatalf("the scan is %s: %s\n%s", st.State, st.Reason, s.describe(held.Run.ID))
	}
	found := s.gate(t, held.Run.ID, slipway.GateVulnerabilities, "")
	if found.Verdict != slipway.Fail || len(found.Reasons) != 1 || found.Reasons[0].Subject != "CVE-2026-0001 leaky-parser" {
		t.Fatalf("the gate says %+v", found)
	}
	_, err := s.as("ada").GiveWaiver(t.Context(), slipway.Waiver{Project: "gated", Gate: slipway.GateVulnerabilities, Subject: found.Reasons[0].Subject,
		Reason: "ada would like to", Expires: time.Now().Add(48 * time.Hour)})
	wantCode(t, err, slipway.Forbidden, "ada")
	if _, err := s.as("bob").GiveWaiver(t.Context(), slipway.Waiver{Project: "gated", Gate: slipway.GateVulnerabilities, Subject: found.Reasons[0].Subject,
		Reason: "we parse only our own files", Expires: time.Now().Add(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.as("bob").RetryRun(t.Context(), held.Run.ID); err != nil {
		t.Fatal(err)
	}
	s.until(t, held.Run.ID, slipway.RunSucceeded)
	waived := s.gate(t, held.Run.ID, slipway.GateVulnerabilities, "")
	if waived.Verdict == slipway.Fail || len(waived.Reasons) == 0 || waived.Reasons[0].Waiver == nil || waived.Reasons[0].Waiver.Author != "bob" {
		t.Errorf("the gate says %+v", waived)
	}

	t.Run("a release proves where it comes from", func(t *testing.T) { releaseProves(t, s, r) })
	t.Run("what lost its signature is not deployed", func(t *testing.T) { strippedIsRefused(t, s, r) })
	t.Run("keys are rotated", func(t *testing.T) { keysAreRotated(t, s, r) })
	t.Run("old candidates go", func(t *testing.T) { candidatesGo(t, s, r) })
	t.Run("what becomes known later", func(t *testing.T) { laterFound(t, s, vulnerabilities(t, append(advisories, laterAdvisory)...)) })
}

// gate is what a gate of a run said, for an environment or none.
func (s *site) gate(t *testing.T, run int64, gate, environment string) slipway.GateResult {
	t.Helper()
	all, err := s.as("eve").Gates(t.Context(), slipway.GateFilter{RunID: run})
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if g.Gate == gate && g.Environment == environment {
			return g
		}
	}
	t.Fatalf("run #%d has no gate %s for %q: %+v", run, gate, environment, all)
	return slipway.GateResult{}
}

func releaseProves(t *testing.T, s *site, r *repo) {
	run := r.push("HEAD:refs/heads/release/tick/v1.0.0")
	s.approve(t, run.ID, "bob")
	d := s.until(t, run.ID, slipway.RunSucceeded)
	for _, env := range []string{"qa", "production"} {
		if g := s.gate(t, run.ID, slipway.GateSignatures, env); g.Verdict != slipway.Pass {
			t.Errorf("signatures in %s: %+v", env, g)
		}
		if g := s.gate(t, run.ID, slipway.GateVulnerabilities, env); g.Verdict == slipway.Fail || g.Reasons[0].Waiver == nil {
			t.Errorf("vulnerabilities in %s: %+v", env, g)
		}
	}
	kinds := map[slipway.ArtifactKind]int{}
	for _, a := range d.Artifacts {
		kinds[a.Kind]++
	}
	if kinds[slipway.ArtifactSBOM] == 0 || kinds[slipway.ArtifactSignature] < 4 {
		t.Errorf("the release has %v: want SBOM, signatures and attestations", kinds)
	}
	out, err := s.cli(t, "bob", "verify", "prod/gated/tick:v1.0.0", "--require", "provenance,sbom,tests,scan", "-o", "json")
	var proven struct{ Proven bool }
	if err != nil || json.Unmarshal([]byte(out), &proven) != nil || !proven.Proven {
		t.Errorf("slipway verify: %v\n%s", err, out)
	}
	report, err := s.as("bob").Retention(t.Context(), "gated", true)
	if err != nil || len(report.Removed) != 0 || len(report.Kept) == 0 {
		t.Errorf("retention would remove %+v of what is a minute old and runs, %v", report.Removed, err)
	}
}

// strippedIsRefused takes the signatures from an image that waits for its approval.
func strippedIsRefused(t *testing.T, s *site, r *repo) {
	r.commit("Another page", tree{"tick/www/index.html": "two\n"})
	run := r.push("HEAD:refs/heads/release/tick/v1.1.0")
	d := s.until(t, run.ID, slipway.RunWaiting)
	image := digest(t, d, slipway.ArtifactImage)
	ref, err := name.NewDigest(strings.TrimPrefix(s.url(), "http://") + "/gated/tick@" + image)
	if err != nil {
		t.Fatal(err)
	}
	admin := remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "admin", Password: s.tokens["admin"]}))
	index, err := remote.Referrers(ref, admin, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	list, err := index.IndexManifest()
	if err != nil || len(list.Manifests) == 0 {
		t.Fatalf("nothing is attached to %s: %v", image, err)
	}
	for _, m := range list.Manifests {
		if err := remote.Delete(ref.Context().Digest(m.Digest.String()), admin, remote.WithContext(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	s.approve(t, run.ID, "bob")
	refused := s.until(t, run.ID, slipway.RunFailed)
	st := step(t, refused, "deploy/tick@production")
	if st.State != slipway.StepFailed || !strings.Contains(st.Reason, "signatures") || !strings.Contains(st.Reason, "not deployed") {
		t.Errorf("the deployment is %s: %s", st.State, st.Reason)
	}
	if g := s.gate(t, run.ID, slipway.GateSignatures, "production"); g.Verdict != slipway.Fail {
		t.Errorf("signatures in production: %+v", g)
	}
	if latest(t, "gated-production", "tick") != 1 {
		t.Error("production was touched")
	}
}

// cli runs the command line as somebody.
func (s *site) cli(t *testing.T, user string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), world.Binaries.Slipway, args...)
	cmd.Env = append(os.Environ(), "SLIPWAY_SERVER="+s.url(), "SLIPWAY_TOKEN="+s.tokens[user], "SLIPWAY_CONFIG="+t.TempDir(), "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

package e2e_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/slipway-cd/slipway"
)

// gated is a project with a policy on the gates' server.
func (s *site) gated(t *testing.T, project, policy string, changes tree) *repo {
	files := tick()
	files["slipway.yaml"] += policy
	return s.project(t, project, files.with(changes))
}

// leakyPackage is the package.json of a package that the tests' database knows.
func leakyPackage(name string) string {
	return `{"name": "` + name + `", "version": "1.2.3", "license": "MIT"}`
}

// baseIsNotBlamed builds on an image that has a vulnerable package already: with newSince: base only what the service
// adds counts.
func baseIsNotBlamed(t *testing.T, s *site) {
	t.Parallel()
	s.leakyBase(t)
	dockerfile := strings.Replace(tick()["tick/Dockerfile"], "FROM busybox:1.36 AS final\n", "FROM leaky:1 AS final\n", 1)
	r := s.gated(t, "based", "gates: {vulnerabilities: {newSince: base}}\n", tree{"tick/Dockerfile": dockerfile})
	run := s.until(t, r.push("main").ID, slipway.RunSucceeded).Run.ID
	found, err := s.as("eve").Scan(t.Context(), run, "tick")
	if err != nil || found.BaseImage != "docker.io/library/leaky" || len(found.Findings) != 1 || !found.Findings[0].InBase {
		t.Errorf("the scan says %+v, %v", found, err)
	}
	if g := s.gate(t, run, slipway.GateVulnerabilities, ""); g.Verdict != slipway.Pass || !strings.Contains(g.Summary, "only what is not in the base image counts") {
		t.Errorf("the gate says %+v", g)
	}
	eachPlatform(t, s)
	r.commit("A package of our own", tree{
		"tick/Dockerfile":                      strings.Replace(dockerfile, "EXPOSE", "COPY modules /app/own/node_modules\nEXPOSE", 1),
		"tick/modules/own-parser/package.json": leakyPackage("own-parser"),
	})
	run = s.until(t, r.push("main").ID, slipway.RunFailed).Run.ID
	if g := s.gate(t, run, slipway.GateVulnerabilities, ""); g.Verdict != slipway.Fail || len(g.Reasons) != 1 || g.Reasons[0].Subject != "CVE-2026-0002 own-parser" {
		t.Errorf("the gate says %+v", g)
	}
}

// eachPlatform scans an image for two platforms, of which one has the vulnerable package.
func eachPlatform(t *testing.T, s *site) {
	args := []string{"scan", "mirror/docker.io/library/both:1", "--data", s.data, "--scanner", world.Binaries.Scanner}
	out, err := s.cli(t, "admin", args...)
	if err != nil || !strings.Contains(out, "for linux/amd64, linux/arm64\n") || !regexp.MustCompile(`CVE-2026-0001 .* linux/amd64\n`).MatchString(out) {
		t.Errorf("slipway scan: %v\n%s", err, out)
	}
	if out, err := s.cli(t, "admin", append(args, "--platform", "linux/arm64", "--fail-on", "low")...); err != nil || !strings.Contains(out, "no known vulnerability") {
		t.Errorf("slipway scan --platform: %v\n%s", err, out)
	}
}

// leakyBase puts docker.io/library/leaky:1 into the mirror, and as both:1 an index of it and an image for another
// platform.
func (s *site) leakyBase(t *testing.T) {
	t.Helper()
	in := func(repo string) name.Reference {
		ref, err := name.ParseReference(strings.TrimPrefix(s.url(), "http://")+"/mirror/docker.io/library/"+repo, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	base, err := remote.Image(in("busybox:1.36"), s.registryAdmin(), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	w, text := tar.NewWriter(&packed), leakyPackage("leaky-parser")
	if err := w.WriteHeader(&tar.Header{Name: "app/node_modules/leaky-parser/package.json", Mode: 0o644, Size: int64(len(text)), ModTime: time.Unix(1_700_000_000, 0)}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(in("leaky:1"), img, s.registryAdmin(), remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	arm, err := mutate.ConfigFile(base, &v1.ConfigFile{OS: "linux", Architecture: "arm64", RootFS: rootFS(t, base)})
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	if err := remote.WriteIndex(in("both:1"), index, s.registryAdmin(), remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
}

func rootFS(t *testing.T, img v1.Image) v1.RootFS {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config.RootFS
}

func (s *site) registryAdmin() remote.Option {
	return remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "admin", Password: s.tokens["admin"]}))
}

// reportsOfOthers takes what Trivy wrote as the evidence: the gate fails on it, and waivers let it pass.
func reportsOfOthers(t *testing.T, s *site) {
	t.Parallel()
	report := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "stage", "scan", "testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(text), "AKIA", "AKIX") // else it is a secret of the tree, too
	}
	r := s.gated(t, "reported", "services: {tick: {scan: {reports: [trivy.json]}}}\n", tree{"tick/trivy.json": report("trivy.sarif")})
	held := s.until(t, r.push("main").ID, slipway.RunFailed).Run.ID
	for gate, subject := range map[string]string{slipway.GateVulnerabilities: "CVE-2024-0001 openssl", slipway.GateSecrets: "aws-access-key-id app/.env"} {
		g := s.gate(t, held, gate, "")
		if g.Verdict != slipway.Fail || len(g.Reasons) != 1 || g.Reasons[0].Subject != subject {
			t.Errorf("%s says %+v", gate, g)
		}
		if _, err := s.as("bob").GiveWaiver(t.Context(), slipway.Waiver{Project: "reported", Gate: gate, Subject: subject, Reason: "looked at", Expires: time.Now().Add(48 * time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.as("bob").RetryRun(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	s.until(t, held, slipway.RunSucceeded)
	found, err := s.as("eve").Scan(t.Context(), held, "tick")
	if err != nil || found.Scanner != "Trivy 0.58.1 (trivy.json)" {
		t.Errorf("the evidence is of %q, %v", found.Scanner, err)
	}
	r.commit("The same as CycloneDX", tree{"tick/trivy.json": report("trivy.cdx.json")})
	run := s.until(t, r.push("main").ID, slipway.RunSucceeded).Run.ID
	g := s.gate(t, run, slipway.GateVulnerabilities, "")
	of := func(subject string) slipway.GateReason {
		at := slices.IndexFunc(g.Reasons, func(r slipway.GateReason) bool { return strings.HasPrefix(r.Subject, subject) })
		if at < 0 {
			t.Fatalf("the gate says nothing of %s: %+v", subject, g)
		}
		return g.Reasons[at]
	}
	if of("CVE-2024-0001 openssl").Waiver == nil {
		t.Errorf("the gate says %+v", g)
	}
	if dismissed := of("GHSA-2"); dismissed.Verdict != slipway.Warn || !strings.Contains(dismissed.Message, "dismissed by its report as false_positive (trivy.json), which counts until it is waived") {
		t.Errorf("of what the report dismisses the gate says %+v", dismissed)
	}
}

// testsOverRuns follows coverage against the base branch, and a test that comes and goes.
func testsOverRuns(t *testing.T, s *site) {
	t.Parallel()
	script := `mkdir -p TestResults
cat results.xml > TestResults/junit.xml
cat lcov.info > TestResults/lcov.info
! grep -q failure results.xml
`
	n := 0
	results := func(passes bool) string { // differs each time: what passed before is not tested again
		n++
		failure := `<failure message="timed out"/>`
		if passes {
			failure = ""
		}
		return fmt.Sprintf(`<testsuite name="tick"><!-- %d --><testcase name="ticks" classname="tick"/><testcase name="comes and goes" classname="tick">%s</testcase></testsuite>`, n, failure)
	}
	covers := func(lines int) string {
		var b strings.Builder
		b.WriteString("TN:\nSF:tick.sh\n")
		for i := range 10 {
			fmt.Fprintf(&b, "DA:%d,%d\n", i+1, max(0, min(1, lines-i)))
		}
		return b.String() + "end_of_record\n"
	}
	dockerfile := strings.Replace(tick()["tick/Dockerfile"], "COPY tests.sh ./", "COPY tests.sh results.xml lcov.info ./", 1)
	r := s.gated(t, "watched", "gates: {coverage: {minimum: 60, maxDrop: 5}}\n", tree{"tick/Dockerfile": dockerfile, "tick/tests.sh": script, "tick/results.xml": results(true), "tick/lcov.info": covers(8)})
	run := s.until(t, r.push("main").ID, slipway.RunSucceeded).Run.ID
	if g := s.gate(t, run, slipway.GateCoverage, ""); g.Verdict != slipway.Pass || !strings.HasPrefix(g.Summary, "80.0 % covered") {
		t.Errorf("coverage: %+v", g)
	}
	// Branches are built and tested and no more, which is all that is wanted here.
	for i, c := range []struct {
		lines    int
		passes   bool
		subjects []string // of the gate
	}{{7, true, []string{"drop"}}, {5, false, []string{"drop", "minimum"}}, {8, true, nil}, {8, false, nil}, {8, true, nil}} {
		r.commit("It comes and goes", tree{"tick/lcov.info": covers(c.lines), "tick/results.xml": results(c.passes)})
		want := slipway.RunFailed
		if c.passes && c.subjects == nil {
			want = slipway.RunSucceeded
		}
		run := s.until(t, r.push("HEAD:refs/heads/feature/watch").ID, want).Run.ID
		g := s.gate(t, run, slipway.GateCoverage, "")
		var subjects []string
		for _, reason := range g.Reasons {
			subjects = append(subjects, reason.Subject)
		}
		slices.Sort(subjects)
		if !slices.Equal(subjects, c.subjects) || !strings.Contains(g.Summary, fmt.Sprintf("%+.1f points against the base branch", float64(10*c.lines-80))) {
			t.Errorf("coverage of %d lines: %+v", c.lines, g)
		}
		report, err := s.as("eve").Report(t.Context(), run, "test/tick")
		if err != nil {
			t.Fatalf("%v\n%s", err, s.describe(run))
		}
		for _, tc := range report.Suites[0].Cases {
			if flaky := i == 4 && tc.Name == "comes and goes"; tc.Flaky != flaky {
				t.Errorf("run %d: %s is flaky: %v", i+1, tc.Name, tc.Flaky)
			}
		}
	}
	if out, err := s.cli(t, "eve", "tests", "tick", "--project", "watched", "--ref", "feature/watch"); err != nil || !strings.Contains(out, "flaky") {
		t.Errorf("slipway tests: %v\n%s", err, out)
	}
}

const clockCRD = `{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "clocks.e2e.slipway.dev"},
"spec": {"group": "e2e.slipway.dev", "scope": "Namespaced", "names": {"plural": "clocks", "singular": "clock", "kind": "Clock"},
"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
"properties": {"spec": {"type": "object", "properties": {"interval": {"type": "integer"}, "zone": {"type": "string"}}}}}}}]}}`

// customResources are judged by the cluster's own definition of them.
func customResources(t *testing.T, s *site) {
	t.Parallel()
	defineClocks(t)
	clock := func(field string) string {
		return "apiVersion: e2e.slipway.dev/v1\nkind: Clock\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  zone: UTC\n  " + field + ": {{ .Values.interval }}\n"
	}
	values := tickValues(nil)
	line := strings.Count(values, "\n") + 1
	r := s.gated(t, "custom", "", nil)
	r.push("main")
	r.commit("A clock", tree{"tick/chart/templates/clock.yaml": clock("interval"), "tick/chart/values.yaml": values + "interval: 5\n"})
	run := s.until(t, r.push("HEAD:refs/for/main").ID, slipway.RunSucceeded).Run.ID // of a pull request the chart is rendered for every environment
	if g := s.gate(t, run, slipway.GateManifests, "qa"); g.Verdict == slipway.Fail || slices.ContainsFunc(g.Reasons, func(r slipway.GateReason) bool { return r.Subject == "schema Clock/tick" }) {
		t.Errorf("a good one: %+v", g)
	}
	for what, c := range map[string]struct {
		files tree
		want  slipway.GateReason
	}{
		"an unknown field": {tree{"tick/chart/templates/clock.yaml": clock("intervall")}, slipway.GateReason{Subject: "schema Clock/tick", Message: "intervall", Place: "tick/chart/templates/clock.yaml:7"}},
		"a wrong value":    {tree{"tick/chart/values.yaml": values + "interval: often\n"}, slipway.GateReason{Subject: "schema Clock/tick", Message: "interval", Place: fmt.Sprintf("tick/chart/values.yaml:%d", line)}},
	} {
		good := r.head()
		r.commit("Clock with "+what, c.files)
		run := s.until(t, r.push("HEAD:refs/for/main").ID, slipway.RunFailed).Run.ID
		g := s.gate(t, run, slipway.GateManifests, "qa")
		if g.Verdict != slipway.Fail || !slices.ContainsFunc(g.Reasons, func(r slipway.GateReason) bool {
			return r.Subject == c.want.Subject && r.Verdict == slipway.Fail && strings.Contains(r.Message, c.want.Message) && strings.Contains(r.Place, c.want.Place) && strings.Contains(r.Place, "tick/chart/templates/clock.yaml:7")
		}) {
			t.Errorf("%s: %+v", what, g)
		}
		r.git("checkout", "--quiet", good, "--", ".")
	}
}

// defineClocks adds a kind to the cluster, for the time of the test, and waits until its API tells of it.
func defineClocks(t *testing.T) {
	t.Helper()
	const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	api := kube(t).Discovery().RESTClient()
	if err := api.Post().AbsPath(crds).SetHeader("Content-Type", "application/json").Body([]byte(clockCRD)).Do(t.Context()).Error(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Delete().AbsPath(crds + "/clocks.e2e.slipway.dev").Do(context.WithoutCancel(t.Context())).Error(); err != nil {
			t.Error(err)
		}
	})
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		text, err := api.Get().AbsPath("/openapi/v3/apis/e2e.slipway.dev/v1").DoRaw(ctx)
		return err == nil && bytes.Contains(text, []byte("interval")), nil
	})
	if err != nil {
		t.Fatal("the cluster does not tell of the new kind")
	}
}

// laterFound brings a new database: what runs in production is scanned again, and what is found becomes an event.
func laterFound(t *testing.T, s *site, database string) {
	out, err := s.cli(t, "admin", "scan", "db", "import", database, "--data", s.data, "--scanner", world.Binaries.Scanner)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var found slipway.Event
	if !s.await(t.Context(), patience, func() bool {
		s.feed.mu.Lock()
		defer s.feed.mu.Unlock()
		at := slices.IndexFunc(s.feed.events, func(e slipway.Event) bool { return e.Kind == "scan.found" })
		if at >= 0 {
			found = s.feed.events[at]
		}
		return at >= 0
	}) {
		t.Fatalf("nothing was found\n%s", s.process().LogTail(20))
	}
	if want := "tick v1.0.0, which runs in production, has new critical vulnerabilities: CVE-2026-0009 leaky-parser"; found.Message != want || found.Project != "gated" {
		t.Errorf("the event says %q of %s, want %q", found.Message, found.Project, want)
	}
	scans, err := s.as("eve").DeployedScans(t.Context(), "gated")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range scans {
		has := d.Scan != nil && slices.ContainsFunc(d.Scan.Findings, func(f slipway.Finding) bool { return f.ID == "CVE-2026-0009" })
		if production := d.Deployment.Target.Environment == "production"; production && !has {
			t.Errorf("the newest scan of %s is %+v", d.Deployment.Target.Environment, d.Scan)
		}
	}
	if page := s.page(t, "eve", "/projects/gated/services/tick/findings?environment=production"); !strings.Contains(page, "CVE-2026-0009") {
		t.Error("the page of what runs in production does not tell of it")
	}
	if board := s.page(t, "eve", "/projects/gated"); !strings.Contains(board, "2 critical") {
		t.Error("the board does not tell of it")
	}
}

// page is a page as somebody sees it.
func (s *site) page(t *testing.T, user, path string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, s.tokens[user])
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, resp.Status, err)
	}
	return string(text)
}

// keysAreRotated signs a release with a new key, trusts the old one until it is retired, and then neither deploys what
// only that has signed nor keeps from going back to it.
func keysAreRotated(t *testing.T, s *site, r *repo) {
	first := s.signer(t, "prod/gated/tick:v1.0.0")
	s.admin(t, "keys", "rotate")
	r.commit("The page of the new key", tree{"tick/www/index.html": "three\n"})
	waiting := r.push("HEAD:refs/heads/release/tick/v1.2.0").ID
	s.until(t, waiting, slipway.RunWaiting)
	second := s.signer(t, "gated/tick:v1.2.0")
	if old := s.signer(t, "prod/gated/tick:v1.0.0"); first == second || old != first {
		t.Errorf("v1.0.0 is signed by %s, now %s; v1.2.0 by %s", first, old, second)
	}
	s.admin(t, "keys", "rotate")
	s.admin(t, "keys", "retire", first)
	s.admin(t, "keys", "retire", second)
	s.approve(t, waiting, "bob")
	refused := s.until(t, waiting, slipway.RunFailed)
	if st := step(t, refused, "deploy/tick@production"); !strings.Contains(st.Reason, "not deployed: gate signatures: 0 of 2 signed") {
		t.Errorf("the deployment is %s: %s", st.State, st.Reason)
	}
	if g := s.gate(t, waiting, slipway.GateSignatures, "production"); !strings.Contains(fmt.Sprint(g.Reasons), "key "+second) || !strings.Contains(fmt.Sprint(g.Reasons), "retired") {
		t.Errorf("the gate does not name the key: %+v", g)
	}
	if out, err := s.cli(t, "bob", "verify", "prod/gated/tick:v1.0.0"); err == nil || !strings.Contains(out, "retired") {
		t.Errorf("slipway verify: %v\n%s", err, out)
	}
	back, err := s.as("bob").Rollback(t.Context(), slipway.RollbackRequest{Project: "gated", Service: "tick", Environment: "qa", To: "v1.0.0", Reason: "three is bad"})
	if err != nil {
		t.Fatal(err)
	}
	st := step(t, s.until(t, back.ID, slipway.RunSucceeded), "rollback/tick@qa")
	if !strings.Contains(st.Reason, "look at what runs now: gate signatures: 0 of 2 signed") {
		t.Errorf("the rollback says %s", st.Reason)
	}
	if g := s.gate(t, back.ID, slipway.GateSignatures, "qa"); g.Verdict == slipway.Pass {
		t.Errorf("signatures of what was gone back to: %+v", g)
	}
}

// admin runs the command line as the admin.
func (s *site) admin(t *testing.T, args ...string) {
	t.Helper()
	if out, err := s.cli(t, "admin", args...); err != nil {
		t.Fatalf("slipway %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// signer is the key that signed an image.
func (s *site) signer(t *testing.T, image string) string {
	t.Helper()
	out, err := s.cli(t, "bob", "verify", image, "-o", "json")
	var said struct {
		Proofs []struct{ Name, Key, Problem string }
	}
	if err != nil || json.Unmarshal([]byte(out), &said) != nil || len(said.Proofs) == 0 || said.Proofs[0].Problem != "" {
		t.Fatalf("slipway verify %s: %v\n%s", image, err, out)
	}
	return said.Proofs[0].Key
}

// candidatesGo removes what a pull request left, and nothing that runs or may be gone back to.
func candidatesGo(t *testing.T, s *site, r *repo) {
	r.commit("Something else", tree{"tick/www/index.html": "proposed\n"})
	proposed := s.until(t, r.push("HEAD:refs/for/main").ID, slipway.RunSucceeded, slipway.RunFailed)
	at := slices.IndexFunc(proposed.Artifacts, func(a slipway.Artifact) bool { return a.Kind == slipway.ArtifactImage })
	if at < 0 {
		t.Fatalf("the pull request made %+v", proposed.Artifacts)
	}
	image := proposed.Artifacts[at].Digest
	r.git("reset", "--quiet", "--hard", "HEAD~1")
	r.commit("Keep little", tree{"slipway.yaml": tick()["slipway.yaml"] + "retention: {candidates: {maxAge: 1s, keep: 1}, pullRequests: {maxAge: 1s}}\n"})
	s.until(t, r.push("main").ID, slipway.RunSucceeded, slipway.RunFailed)
	dry, err := s.as("bob").Retention(t.Context(), "gated", true)
	if err != nil || !slices.ContainsFunc(dry.Removed, func(i slipway.RetentionItem) bool { return i.Digest == image }) {
		t.Fatalf("would be removed: %+v, %v", dry.Removed, err)
	}
	reasons := map[string]int{}
	for _, k := range dry.Kept {
		reasons[k.Reason]++
	}
	for _, why := range []string{"runs in qa", "a rollback of qa may go back to it"} { // the first reason is told: production has what QA went back to
		if reasons[why] == 0 {
			t.Errorf("nothing is kept because it %s: %v", why, reasons)
		}
	}
	done, err := s.as("admin").Retention(t.Context(), "gated", false)
	if err != nil {
		t.Fatal(err)
	}
	digests := func(items []slipway.RetentionItem) (out []string) {
		for _, i := range items {
			out = append(out, i.Repository+"@"+i.Digest)
		}
		return out
	}
	if !slices.Equal(digests(done.Removed), digests(dry.Removed)) || done.Bytes != dry.Bytes || dry.Later == 0 || done.Later < dry.Later { // removing leaves small files behind, too
		t.Errorf("said %v, %d bytes, %d later; did %v, %d bytes, %d later", digests(dry.Removed), dry.Bytes, dry.Later, digests(done.Removed), done.Bytes, done.Later)
	}
	host := strings.TrimPrefix(s.url(), "http://")
	for _, i := range slices.Concat(done.Removed, done.Kept) {
		ref, err := name.NewDigest(host+"/"+i.Repository+"@"+i.Digest, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		var there *v1.Descriptor
		there, err = remote.Head(ref, s.registryAdmin(), remote.WithContext(t.Context()))
		if removed := slices.Contains(digests(done.Removed), i.Repository+"@"+i.Digest); removed == (err == nil) {
			t.Errorf("%s is there: %v, %v; it was to be removed: %v", ref, there != nil, err, removed)
		}
	}
}

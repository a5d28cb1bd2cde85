package web_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// supply is what gates said and saw in these tests.
type supply struct {
	said      map[int64][]slipway.GateResult
	scans     map[string]slipway.Scan // by run and service
	sboms     map[string][]byte
	manifests map[string][]slipway.ManifestReport
	waivers   []slipway.Waiver
	deployed  []slipway.DeployedScan
	bases     map[string]slipway.TestTotals
	files     map[string][]byte
	down      bool                           // waivers cannot be read
	cases     map[string]slipway.CaseHistory // by service and name
}

func (w *world) Gates(_ context.Context, _ slipway.User, f slipway.GateFilter) (out []slipway.GateResult, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.said[f.RunID] {
		if f.Service == "" || f.Service == g.Service {
			out = append(out, g)
		}
	}
	return out, nil
}

func (w *world) Manifests(_ context.Context, _ slipway.User, run int64, service string) ([]slipway.ManifestReport, error) {
	m, ok := w.supply.manifests[key(run, service)]
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "run #%d rendered no chart of %s", run, service)
	}
	return m, nil
}

func (w *world) Scan(_ context.Context, _ slipway.User, run int64, service string) (slipway.Scan, error) {
	scan, ok := w.scans[key(run, service)]
	if !ok {
		return scan, slipway.Errorf(slipway.NotFound, "run #%d scanned no image of %s", run, service)
	}
	return scan, nil
}

func (w *world) SBOM(_ context.Context, _ slipway.User, _, digest string) ([]byte, error) {
	doc, ok := w.sboms[digest]
	if !ok {
		return nil, slipway.Errorf(slipway.NotFound, "there is no SBOM %s", digest)
	}
	return doc, nil
}

func (w *world) DeployedCounts(_ context.Context, _ slipway.User, project string) (out []slipway.ImageCounts, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.deployed {
		if d.Scan != nil && project == "shop" {
			out = append(out, slipway.ImageCounts{Digest: d.Scan.Digest, ScannedAt: d.Scan.ScannedAt, FindingCounts: d.Scan.Count()})
		}
	}
	return out, nil
}

func (w *world) DeployedScan(_ context.Context, _ slipway.User, project, service, env string) (slipway.DeployedScan, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.deployed {
		if project == "shop" && d.Deployment.Target.Service == service && d.Deployment.Target.Environment == env {
			return d, nil
		}
	}
	return slipway.DeployedScan{}, slipway.Errorf(slipway.NotFound, "nothing of service %q runs in environment %q", service, env)
}

func (w *world) Waivers(_ context.Context, _ slipway.User, f slipway.WaiverFilter) (out []slipway.Waiver, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, slipway.Errorf(slipway.Unavailable, "the repository does not answer")
	}
	over := []slipway.Waiver{}
	for _, v := range slices.Backward(w.waivers) {
		if v.Project != "" && v.Project != f.Project {
			continue
		}
		switch holds := v.Holds(w.now); {
		case holds && f.Before == 0:
			out = append(out, v)
		case !holds && !f.Holding && len(over) < cmp.Or(f.Limit, 100) && (f.Before == 0 || v.ID < f.Before):
			over = append(over, v)
		}
	}
	return append(out, over...), nil
}

func (w *world) GiveWaiver(_ context.Context, by slipway.User, v slipway.Waiver) (slipway.Waiver, error) {
	if v.Reason == "" {
		return v, slipway.Errorf(slipway.Invalid, "say why: a reason is kept with the waiver")
	}
	err := w.did(by, "waives %s %s of %s in %s until %s: %s", v.Gate, v.Subject, v.Service, v.Environment, v.Expires.Format(time.DateOnly), v.Reason)
	if err == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		v.ID, v.Author, v.CreatedAt = int64(100+len(w.waivers)), by.Name, w.now
		w.waivers = append(w.waivers, v)
	}
	return v, err
}

func (w *world) WithdrawWaiver(_ context.Context, by slipway.User, id int64) (slipway.Waiver, error) {
	return slipway.Waiver{ID: id, Project: "shop"}, w.did(by, "withdraws %d", id)
}

func (w *world) BaseTests(_ context.Context, _ slipway.User, run int64, step string) (*slipway.TestTotals, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if base, ok := w.bases[key(run, step)]; ok {
		return &base, nil
	}
	return nil, nil
}

func (w *world) CaseHistory(_ context.Context, _ slipway.User, f slipway.CaseFilter) ([]slipway.CaseHistory, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	h, ok := w.cases[f.Service+"/"+f.Name]
	if f.Project != "shop" || !ok {
		return nil, slipway.Errorf(slipway.NotFound, "no report of %s that is kept has a test %q of %q", f.Service, f.Name, f.Class)
	}
	h.Suite, h.Class, h.Case = f.Suite, f.Class, f.Name
	h.Results = slices.DeleteFunc(slices.Clone(h.Results), func(c slipway.CaseResult) bool { return f.Ref != "" && c.Ref != f.Ref })
	h.Trace()
	return []slipway.CaseHistory{h}, nil
}

type file struct{ *bytes.Reader }

func (file) Close() error { return nil }

func (w *world) OpenAttachment(_ context.Context, _ slipway.User, run int64, digest string) (slipway.Attachment, io.ReadSeekCloser, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, r := range w.reports {
		for _, a := range r.Attachments {
			if body, ok := w.files[a.Digest]; ok && a.Digest == digest && strings.HasPrefix(k, fmt.Sprint(run, "/")) {
				return a, file{bytes.NewReader(body)}, nil
			}
		}
	}
	return slipway.Attachment{}, nil, slipway.Errorf(slipway.NotFound, "no report of run #%d has an attachment %s", run, digest)
}

// supplied are the steps of a service up to its gate before the first environment.
func supplied(service, env string, scan, chart slipway.StepState) []slipway.Step {
	ok := slipway.StepSucceeded
	after, took := ok, func(s slipway.StepState, d time.Duration) time.Duration {
		if s == slipway.StepSkipped || s == slipway.StepBlocked {
			return 0
		}
		return d
	}
	if scan != ok || chart != ok {
		after = slipway.StepSkipped
	}
	b, t, c, sc := "build/"+service, "test/"+service, "chart/"+service, "scan/"+service
	return []slipway.Step{
		step(slipway.KindBuild, service, "", ok, 21*sec, "plan"), step(slipway.KindTest, service, "", ok, 8*sec, "plan"),
		step(slipway.KindScan, service, "", scan, took(scan, 6*sec), b), step(slipway.KindChart, service, "", chart, 900*time.Millisecond, "plan"),
		step(slipway.KindPublish, service, "", after, took(after, 400*time.Millisecond), b, t, c, sc),
		step(slipway.KindAttest, service, "", after, took(after, 200*time.Millisecond), "publish/"+service),
		step(slipway.KindGate, service, env, after, took(after, 30*time.Millisecond), "attest/"+service),
	}
}

func said(run int64, kind slipway.StepKind, service, env, gate string, v slipway.Verdict, summary string, reasons ...slipway.GateReason) slipway.GateResult {
	at := env
	if kind == slipway.KindChart {
		at = ""
	}
	return slipway.GateResult{Project: "shop", RunID: run, Step: slipway.StepKey(kind, service, at), Gate: gate, Service: service, Environment: env, Verdict: v, Summary: summary, Reasons: reasons}
}

// gated fills the world with runs that gates had something to say about.
func (w *world) gated() {
	w.supply.said, w.scans, w.sboms = map[int64][]slipway.GateResult{}, map[string]slipway.Scan{}, map[string][]byte{}
	w.supply.manifests, w.bases, w.files = map[string][]slipway.ManifestReport{}, map[string]slipway.TestTotals{}, map[string][]byte{}
	w.tests()
	w.histories()
	w.vulnerable()
	w.unfit()
	w.promoted()
	w.green()
	day := func(n int) time.Time { return w.now.AddDate(0, 0, n) }
	w.waivers = []slipway.Waiver{
		{Project: "shop", Gate: slipway.GateVulnerabilities, Subject: "CVE-2025-0009 *", Reason: "not reachable " + script, Author: "lin", Expires: day(20), Place: "slipway.yaml:31"},
		{ID: 1, Project: "shop", Gate: slipway.GateManifests, Subject: "probes Deployment/orders", Service: "orders", Environment: "qa", Reason: "starts in a moment", Author: "ada", Expires: day(3), CreatedAt: day(-3)},
		{ID: 2, Project: "shop", Gate: slipway.GateTests, Subject: "suite/TestOld", Reason: "over", Author: "ada", Expires: day(-1), CreatedAt: day(-9)},
	}
}

// tests gives the report of run 5 all that a report may have.
func (w *world) tests() {
	k := key(5, "test/orders")
	r := w.reports[k]
	cases := r.Suites[0].Cases
	cases[1].New, cases[0].Flaky, cases[0].Reruns, cases[7].Flaky, cases[7].Reruns = true, true, 2, true, 1
	png := "\x89PNG\r\n\x1a\n" + strings.Repeat("\x00", 40)
	for name, body := range map[string]string{"shots/cart.png": png, "page.html": "<!doctype html><script>alert(1)</script>", "evil.png": "<svg onload=alert(1)>", "a\"b\r\n" + rtl + ".txt": "plain"} {
		w.files[sha(name)] = []byte(body)
	}
	r.New, r.Flaky = 1, 2
	r.Notes = []string{"big.zip: not kept as an attachment, and 2 more"}
	r.Coverage = &slipway.Coverage{Covered: 713, Total: 1000, Files: []slipway.FileCoverage{{Path: "orders/discount.go " + script, Covered: 3, Total: 40}}}
	r.Attachments = []slipway.Attachment{{Name: "shots/cart.png", Size: 48, Digest: sha("shots/cart.png"), Case: "TestCurrency/EUR"}, {Name: "page.html", Size: 41, Digest: sha("page.html")},
		{Name: "evil.png", Size: 21, Digest: sha("evil.png")}, {Name: "a\"b\r\n" + rtl + ".txt", Size: 5, Digest: sha("a\"b\r\n" + rtl + ".txt")}}
	w.reports[k] = r
	w.bases[k] = slipway.TestTotals{RunID: 3, Coverage: &slipway.Coverage{Covered: 740, Total: 1000}}
	w.supply.said[5] = []slipway.GateResult{
		said(5, slipway.KindTest, "orders", "", slipway.GateTests, slipway.Fail, "43 passed, 2 failed (1 new), 1 flaky, 1 skipped",
			slipway.GateReason{Verdict: slipway.Fail, Subject: "example.com/shop/orders/TestCurrency/EUR", Message: "failed, and did not before"},
			slipway.GateReason{Verdict: slipway.Fail, Subject: "example.com/shop/orders/TestTotalWithDiscount", Message: "failed: Failed"}),
		said(5, slipway.KindTest, "orders", "", slipway.GateCoverage, slipway.Fail, "71.3 % covered, -2.7 points against the base branch",
			slipway.GateReason{Verdict: slipway.Fail, Subject: "drop", Message: "2.7 points less than the base branch, which has 74.0 %; 1.0 are allowed", Place: "orders/discount.go"}),
	}
}

// histories gives two tests of orders a past: one fails again and again, one never did.
func (w *world) histories() {
	took := func(n int) *time.Duration { d := time.Duration(n) * time.Millisecond; return &d }
	flaky := slipway.CaseHistory{Flaky: true, Why: "it both passed and failed on the same inputs, in runs #5 and #3"}
	states := []slipway.TestState{slipway.TestFailed, slipway.TestFailed, slipway.TestPassed, slipway.TestFailed, slipway.TestSkipped}
	for i := range 130 {
		c := slipway.CaseResult{RunID: int64(max(1, 5-i)), Ref: "refs/heads/main", Commit: sha(fmt.Sprint("commit", i))[7:47], State: slipway.TestPassed, Duration: took(20 + 13*i%400), CreatedAt: w.now.Add(-time.Duration(i) * time.Hour)}
		if i < len(states) {
			c.State = states[i]
		}
		switch {
		case i == 2:
			c.Reran = true
		case i == 6:
			c.Ref = "refs/heads/" + script + rtl
		case i == 7:
			c.ReusedFrom, c.Duration = 2, nil
		}
		flaky.Results = append(flaky.Results, c)
	}
	good := slipway.CaseHistory{Results: flaky.Results[10:12]}
	w.cases = map[string]slipway.CaseHistory{"orders/TestCurrency/EUR": flaky, "orders/TestNew " + script + rtl: good}
}

func finding(i int) slipway.Finding {
	s := []slipway.Severity{slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow, slipway.SeverityNegligible, slipway.SeverityUnknown}
	f := slipway.Finding{Kind: slipway.FindingVulnerability, ID: fmt.Sprintf("CVE-2025-%04d", i), Severity: s[min(5, i/4)], Package: fmt.Sprint("lib", i%11), Version: "1.2.3-r1", Type: "deb", Path: "/var/lib/dpkg/status",
		Title: "A flaw in something that reads more than was written", Link: fmt.Sprintf("https://nvd.example/CVE-2025-%04d", i), InBase: i%3 == 0}
	if i%2 == 0 {
		f.FixedIn = "1.2.4"
	}
	return f
}

// vulnerable is a run whose image is full of holes, with a waiver for one of them.
func (w *world) vulnerable() {
	steps := append([]slipway.Step{plan()}, supplied("orders", "development", slipway.StepFailed, slipway.StepSucceeded)...)
	steps[3].Reason = "gate vulnerabilities: 4 critical, 1 high; gate secrets: 1 secret"
	steps[3].ID = 0
	d := w.run(slipway.Run{ID: 17, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Merge pull request 9: A new base image", State: slipway.RunFailed, Reason: "scan/orders failed: " + steps[3].Reason}, 70*time.Minute, steps...)
	scan := slipway.Scan{Image: "registry.slipway.internal/shop/orders", Digest: sha("orders17"), Scanner: "grype 0.101", Database: slipway.ScanDatabase{Built: w.now.AddDate(0, 0, -1)}, Packages: 3, Distro: "debian 12",
		ScannedAt: d.Run.CreatedAt.Add(30 * sec), SBOM: sha("sbom17"), Problems: []string{"layer 3: a file of 4 GiB was not looked at"}}
	scan.Findings = []slipway.Finding{{Kind: slipway.FindingSecret, ID: "private-key", Severity: slipway.SeverityCritical, Path: "src/orders/" + rtl + "id_rsa", Line: 1, Title: "A private key " + script + esc}}
	for i := range 24 {
		scan.Findings = append(scan.Findings, finding(i))
	}
	scan.Findings[5].Package, scan.Findings[5].Link = "evil"+script+esc+rtl, "javascript:alert(1)"
	w.scans[key(17, "orders")] = scan
	w.sboms[scan.SBOM] = []byte(`{"packages":[{"name":"orders","primaryPackagePurpose":"CONTAINER"},{"name":"openssl","versionInfo":"3.0.11","licenseDeclared":"Apache-2.0","externalRefs":[{"referenceType":"purl","referenceLocator":"pkg:deb/debian/openssl@3.0.11"}]},
		{"name":"zlib","versionInfo":"1.3","licenseDeclared":"NOASSERTION"},{"name":"<script>alert(\"pwned\")</script>` + rtl + `","versionInfo":"0"}]}`)
	var reasons []slipway.GateReason
	for i := range 5 {
		f := finding(i)
		reasons = append(reasons, slipway.GateReason{Verdict: slipway.Fail, Subject: f.ID + " " + f.Package, Message: string(f.Severity) + ", fixed in 1.2.4", Place: f.Path, Link: f.Link})
	}
	lin := slipway.Waiver{Project: "shop", Gate: slipway.GateVulnerabilities, Subject: "CVE-2025-0009 *", Reason: "not reachable " + script, Author: "lin", Expires: w.now.AddDate(0, 0, 20), Place: "slipway.yaml:31"}
	reasons = append(reasons, slipway.GateReason{Verdict: slipway.Pass, Subject: "CVE-2025-0009 lib9", Message: "medium", Waiver: &lin})
	for i := range 30 {
		reasons = append(reasons, slipway.GateReason{Verdict: slipway.Warn, Subject: fmt.Sprintf("CVE-2024-%04d lib", i), Message: "medium, no fix yet"})
	}
	w.supply.said[17] = []slipway.GateResult{
		said(17, slipway.KindTest, "orders", "", slipway.GateTests, slipway.Pass, "46 passed"),
		said(17, slipway.KindScan, "orders", "", slipway.GateVulnerabilities, slipway.Fail, "4 critical, 1 high, 30 medium, 1 waived until 2026-12-11", reasons...),
		said(17, slipway.KindScan, "orders", "", slipway.GateDatabase, slipway.Warn, "built 6 days ago", slipway.GateReason{Verdict: slipway.Warn, Subject: "old", Message: "5 days are the most " + script}),
		said(17, slipway.KindScan, "orders", "", slipway.GateSecrets, slipway.Fail, "1 secret", slipway.GateReason{Verdict: slipway.Fail, Subject: "private-key src/orders/gnp.exeid_rsa", Message: "a private key is committed " + script + esc, Place: "src/orders/" + rtl + "id_rsa:1"}),
		said(17, slipway.KindChart, "orders", "development", slipway.GateManifests, slipway.Pass, "4 objects, no remark"),
	}
	w.waivers = nil
}

const deploymentYAML = `apiVersion: apps/v1
kind: Deployment
metadata:
  labels:
    app.kubernetes.io/name: orders
    image: not this one
  name: orders
spec:
  replicas: 2
  template:
    spec:
      containers:
        - args:
            - --image=no
          env:
            - name: web
              value: "no"
          image: sidecar:1
          name: sidecar
        - env:
            - name: PASSWORD
              value: "(masked)"
            - name: NOTE
              value: "<script>alert(1)</script>"
          image: orders:latest
          name: web
          ports:
            - containerPort: 80
            - containerPort: 81
      restartPolicy: Always
`

// unfit is a run whose chart renders what policies do not like.
func (w *world) unfit() {
	steps := append([]slipway.Step{plan()}, supplied("orders", "development", slipway.StepSucceeded, slipway.StepFailed)...)
	steps[4].Reason = "gate manifests: 2 remarks fail"
	w.run(slipway.Run{ID: 18, Event: slipway.PullUpdate, Ref: "refs/pull/9/head", Pull: 9, Title: "Orders says hello", State: slipway.RunFailed, Reason: "chart/orders failed: " + steps[4].Reason}, 65*time.Minute, steps...)
	problems := []slipway.ManifestProblem{
		{Policy: "latest-tag", Object: "Deployment/orders", Path: "spec.template.spec.containers[web].image", Message: "the tag latest moves " + script, Place: "chart/templates/deployment.yaml:14", Values: "chart/values.yaml:7"},
		{Policy: "plain-secret", Object: "Deployment/orders", Path: "spec.template.spec.containers[web].env[PASSWORD].value", Message: "a password in plain text" + esc + rtl, Place: "chart/templates/deployment.yaml:31"},
		{Policy: "probes", Object: "Deployment/orders", Path: "spec.template.spec.containers[web].readinessProbe", Message: "no readiness probe", Place: "chart/templates/deployment.yaml:14"},
		{Policy: "schema", Object: "Missing/gone", Message: "an object that is not shown"},
	}
	objects := []slipway.ManifestObject{{Name: "Service/orders", Template: "chart/templates/service.yaml", YAML: "apiVersion: v1\nkind: Service\n"}, {Name: "Deployment/orders", Template: "chart/templates/deployment.yaml", YAML: deploymentYAML}, {Name: "ConfigMap/big", Template: "chart/templates/big.yaml"}}
	w.supply.manifests[key(18, "orders")] = []slipway.ManifestReport{{Environment: "development", KubeVersion: "v1.34.9", Objects: objects[:1]}, {Environment: "qa", KubeVersion: "v1.36.3", Live: true, Objects: objects, Problems: problems}}
	var reasons []slipway.GateReason
	for i, p := range problems {
		v := slipway.Fail
		if i > 1 {
			v = slipway.Warn
		}
		reasons = append(reasons, slipway.GateReason{Verdict: v, Subject: p.Subject(), Message: p.Message, Place: p.Place})
	}
	w.supply.said[18] = []slipway.GateResult{
		said(18, slipway.KindTest, "orders", "", slipway.GateTests, slipway.Pass, "46 passed"),
		said(18, slipway.KindChart, "orders", "development", slipway.GateManifests, slipway.Pass, "1 object, no remark"),
		said(18, slipway.KindChart, "orders", "qa", slipway.GateManifests, slipway.Fail, "2 remarks fail, 2 warn", reasons...),
		said(18, slipway.KindChart, "orders", "production", slipway.GateManifests, slipway.Fail, "2 remarks fail, 2 warn", reasons...),
		said(18, slipway.KindScan, "orders", "", "no-gpl "+script, slipway.Pass, "the rule holds "+rtl),
	}
}

// promoted gives the release v1.2.0 its gates, signatures and scans of what runs.
func (w *world) promoted() {
	d := w.detail(12)
	d.Approvals[0].Notes = append(d.Approvals[0].Notes, "gate tests: pass: 46 passed, 1 skipped", "gate vulnerabilities: warn: 2 medium: no fix yet "+script, "gate without a verdict")
	d.Steps = append(d.Steps, step(slipway.KindScan, "delivery", "", slipway.StepSucceeded, 5*sec, "build/delivery"), step(slipway.KindAttest, "delivery", "", slipway.StepSucceeded, sec, "publish/delivery"),
		step(slipway.KindGate, "delivery", "production", slipway.StepSucceeded, sec, "verify/delivery@qa"))
	for i, subject := range []string{"delivery", "delivery", "delivery", "chartdelivery"} {
		d.Artifacts = append(d.Artifacts, slipway.Artifact{Project: "shop", RunID: 12, Service: "delivery", Kind: slipway.ArtifactSignature, Repository: "registry.slipway.internal/shop/delivery", Digest: sha(fmt.Sprint("sig", i)), Subject: sha(subject + "v1.2.0")})
	}
	d.Artifacts = append(d.Artifacts, slipway.Artifact{Project: "shop", RunID: 12, Service: "delivery", Kind: slipway.ArtifactSBOM, Path: "sbom.json", Digest: sha("sbom12")})
	scan := slipway.Scan{Image: "registry.slipway.internal/shop/delivery", Digest: sha("deliveryv1.2.0"), Scanner: "grype 0.101", Database: slipway.ScanDatabase{Missing: "no mirror answers"}, Packages: 41, ScannedAt: w.now.Add(-20 * time.Minute)}
	w.scans[key(12, "delivery")] = scan
	for _, env := range []string{"development", "qa", "production"} {
		w.supply.said[12] = append(w.supply.said[12], said(12, slipway.KindGate, "delivery", env, slipway.GateTests, slipway.Pass, "46 passed, 1 skipped"),
			said(12, slipway.KindGate, "delivery", env, slipway.GateVulnerabilities, slipway.Warn, "2 medium", slipway.GateReason{Verdict: slipway.Warn, Subject: "CVE-2025-7 zlib", Message: "medium, no fix yet"}),
			said(12, slipway.KindGate, "delivery", env, slipway.GateManifests, slipway.Pass, "4 objects, no remark"))
	}
	w.supply.said[12] = append(w.supply.said[12], said(12, slipway.KindDeploy, "delivery", "qa", slipway.GateSignatures, slipway.Pass, "2 of 2 signed, provenance required"))
	// A rescan found what was not known when v1.1.0 was released.
	newest := slipway.Scan{Digest: sha("deliveryv1.1.0"), Scanner: "grype 0.101", Database: slipway.ScanDatabase{Built: w.now}, Packages: 41, ScannedAt: w.now.Add(-time.Minute)}
	for i := range 7 {
		newest.Findings = append(newest.Findings, finding(i))
	}
	w.deployed = []slipway.DeployedScan{{Deployment: deployment("delivery", "production", "v1.1.0", 10, slipway.Verified, w.now), Scan: &newest}, {Deployment: deployment("delivery", "qa", "v1.2.0", 12, slipway.Verified, w.now)}}
}

// green is a run of three services that all gates let through.
func (w *world) green() {
	ok := slipway.StepSucceeded
	steps := []slipway.Step{plan()}
	for _, service := range []string{"delivery", "orders", "web"} {
		steps = append(steps, supplied(service, "development", ok, ok)...)
		steps = append(steps, delivered(service, "development", ok, ok, "gate/"+service+"@development")...)
		for _, gate := range slipway.GateNames()[:6] {
			w.supply.said[19] = append(w.supply.said[19], said(19, slipway.KindGate, service, "development", gate, slipway.Pass, "all is well"))
		}
	}
	w.run(slipway.Run{ID: 19, Event: slipway.DefaultPush, Ref: "refs/heads/main", Title: "Everything", State: slipway.RunSucceeded}, 60*time.Minute, steps...)
}

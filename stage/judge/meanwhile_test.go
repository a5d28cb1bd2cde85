package judge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// rendered is a chart that keeps the Pod Security Standard baseline, and not restricted.
const rendered = `apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  template:
    spec:
      containers:
        - {name: cart, image: "registry.test/shop/cart:v1.0.0"}
        - {name: proxy, image: "docker.io/envoyproxy/envoy:v1.30.0"}
`

// What is asked of manifests when they are deployed counts where it is stricter than when they were rendered, also where it
// decides what is found.
func TestManifestsAreAskedMore(t *testing.T) {
	t.Parallel()
	const head = "environments:\n  - name: qa\n    gates:\n      signatures: {level: off}\n      secrets: off\n      database: {missing: off, old: off}\n      manifests: "
	policy := func(podSecurity string, registries ...string) map[string]slipway.Gates {
		return map[string]slipway.Gates{"": lenient(nil), "qa": lenient(func(g *slipway.Gates) {
			g.Manifests = slipway.ManifestGate{PodSecurity: podSecurity, Registries: registries, Policies: map[string]slipway.Level{
				"pod-security": slipway.LevelFail, "registry": slipway.LevelFail}}
			for _, off := range []string{"schema", "removed-api", "deprecated-api", "latest-tag", "digest-pinned", "non-root", "privilege-escalation", "resources", "probes", "standard-labels", "plain-secret"} {
				g.Manifests.Policies[off] = slipway.LevelOff
			}
		})}
	}
	for name, x := range map[string]struct {
		planned map[string]slipway.Gates
		now     string
		want    string // in the log
	}{
		"the same":              {policy("baseline"), "{podSecurity: baseline}", ""},
		"less":                  {policy("baseline"), "{podSecurity: privileged}", ""},
		"a stricter standard":   {policy("baseline"), "{podSecurity: restricted}", "fail pod-security Deployment/cart"},
		"a list of registries":  {policy("baseline"), "{registries: [ghcr.io/our-team]}", "fail registry Deployment/cart"},
		"one that has the host": {policy("baseline"), "{registries: [docker.io/envoyproxy]}", ""},
		"lists that share none": {policy("baseline", "docker.io"), "{registries: [ghcr.io]}", "fail registry Deployment/cart"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCourt(t)
			c.governs(head + x.now + "\n")
			run, n := c.plans(x.planned, "publish/cart", "scan/cart", "chart/cart", "deploy/cart@qa"), 0
			c.finish(run, "publish/cart", slipway.Result{Artifacts: published(imageDigest)})
			c.finish(run, "scan/cart", slipway.Result{Scan: scanned()})
			c.finish(run, "chart/cart", slipway.Result{Manifests: []slipway.ManifestReport{{Environment: "qa", Live: true, Objects: []slipway.ManifestObject{{Name: "Deployment/cart", Template: "chart/templates/cart.yaml", YAML: rendered}}}}})
			res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
			if x.want == "" {
				c.want(name, res, err, slipway.Succeeded, "")
			} else {
				c.want(name, res, err, slipway.Failed, "manifests qa fail", "not deployed, as the gates do not let it through any more")
			}
			if log := c.log.text(); (n == 1) != (x.want == "") || !strings.Contains(log, x.want) {
				t.Errorf("deployed %d times, log:\n%s", n, log)
			}
		})
	}
}

// Between the scan of a run and its deployment a vulnerability may become known, or be withdrawn: the newest scan of the
// image counts, at the gate of an environment and before it is deployed.
func TestTheNewestScanCounts(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.governs("environments: [{name: dev}]\n")
	gates := map[string]slipway.Gates{"": lenient(nil), "qa": failOn(slipway.SeverityCritical)}
	again := func(database string, later time.Duration, findings ...slipway.Finding) {
		s := scanned(findings...)
		s.ScannedAt, s.Database.Built, s.Database.Checksum = s.ScannedAt.Add(later), s.Database.Built.Add(later), database
		c.ok(c.KeepScan(c.ctx, "shop", *s, nil, false))
	}
	deploy := func(name string, outcome slipway.Outcome, said string, ran ...slipway.Finding) {
		t.Helper()
		run, n := c.candidate(gates, ran...), 0
		_, err := c.step(run, "gate/cart@qa", c.judge)
		c.ok(err)
		res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(unread(deploys(&n))))
		c.want(name, res, err, outcome, said)
		if (n == 1) != (outcome == slipway.Succeeded) {
			t.Errorf("%s: deployed %d times", name, n)
		}
	}
	deploy("clean", slipway.Succeeded, "")
	again("db2", time.Hour, critical("CVE-9"))
	deploy("known since", slipway.Failed, "vulnerabilities qa fail")
	if text := c.log.text(); !strings.Contains(text, "the image was scanned again on ") || !strings.Contains(text, "fail CVE-9 openssl") {
		t.Errorf("log:\n%s", text)
	}
	again("db3", 2*time.Hour)
	deploy("withdrawn since", slipway.Succeeded, "", critical("CVE-1"))
}

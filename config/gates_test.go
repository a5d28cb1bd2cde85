package config_test

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
)

// A branch's own gates, retention and scan reports say nothing, and are not in its way (D14).
func TestGatesGovern(t *testing.T) {
	t.Parallel()
	web := &fstest.MapFile{Data: []byte("FROM scratch\nEXPOSE 80\n")}
	own := fstest.MapFS{"web/Dockerfile": web, "slipway.yaml": {Data: []byte(`
services: {web: {scan: {reports: [mine.sarif]}}}
gates: {tests: off, secrets: nonsense, rules: [{name: tests}], waivers: [{gate: nothing}]}
environments: [{name: production, production: true, gates: {signatures: {level: off}}}]
retention: {candidates: {maxAge: soon}}
`)}}
	governing := fstest.MapFS{"slipway.yaml": {Data: []byte(`
services: {web: {scan: {reports: [theirs.sarif]}}}
gates: {coverage: {minimum: 70}}
environments: [{name: production, production: true}]
retention: {dryRun: true}
`)}}
	services, problems := config.LoadServices(own, options())
	if err := problems.Err(); err != nil {
		t.Fatalf("what the branch says of gates is in its way: %v", err)
	}
	policy, problems := config.LoadPolicy(governing, options())
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	c := config.Combine(services, policy)
	production, _ := c.Environment("production")
	s, _ := c.Service("web")
	if c.Gates.Tests != slipway.LevelFail || c.Gates.Coverage.Minimum != 70 || production.Gates.Signatures.Level != slipway.LevelFail || production.Gates.Coverage.Minimum != 70 {
		t.Errorf("gates: %+v\nproduction: %+v", c.Gates, production.Gates)
	}
	if !reflect.DeepEqual(s.Scan.Reports, []string{"theirs.sarif"}) || !c.Retention.DryRun {
		t.Errorf("scan %v, retention %+v", s.Scan, c.Retention)
	}
}

// A waiver that has ended is a problem when the file is looked at, and none when it governs: runs do not stop
// overnight. One for longer than a year never governs.
func TestWaiversEnd(t *testing.T) {
	t.Parallel()
	file := func(day string) fstest.MapFS {
		return fstest.MapFS{"slipway.yaml": {Data: []byte("gates: {waivers: [{gate: tests, subject: x, reason: r, author: a, expires: " + day + "}]}\n")}}
	}
	opts := options()
	for day, want := range map[string][2]bool{ // problems of Load, of LoadPolicy
		"2026-11-20": {true, false}, "2026-11-21": {true, false}, "2026-11-22": {false, false}, "2027-11-21": {false, false}, "2027-11-23": {true, true}, "9999-12-31": {true, true},
	} {
		_, all := config.Load(file(day), opts)
		c, policy := config.LoadPolicy(file(day), opts)
		if got := [2]bool{len(all) > 0, len(policy) > 0}; got != want {
			t.Errorf("%s: %v\n%v", day, all, policy)
		}
		if len(c.Gates.Waivers) != 1 || c.Gates.Waivers[0].Place != "slipway.yaml:1" {
			t.Errorf("%s: %+v", day, c.Gates.Waivers)
		}
	}
	if _, problems := config.Load(file("2026-11-21"), config.Options{Project: "shop", Now: func() time.Time { return time.Date(2026, 11, 20, 23, 59, 59, 0, time.UTC) }}); len(problems) > 0 {
		t.Errorf("on the day before: %v", problems)
	}
}

// A waiver for a service that is not in the tree lets nothing through and is in nobody's way; it is told.
func TestWaiversForServices(t *testing.T) {
	t.Parallel()
	const list = "[{gate: tests, subject: x, service: carts, reason: r, author: a, expires: 2026-12-01}]"
	file := fstest.MapFS{"src/cart/Dockerfile": {Data: []byte("FROM scratch\n")}, "slipway.yaml": {Data: []byte("gates:\n  waivers: " + list + "\nenvironments:\n  - {name: qa, gates: {waivers: " + list + "}}\n")}}
	c, problems := config.Load(file, options())
	if len(problems) > 0 {
		t.Errorf("%v", problems)
	}
	said := config.Stray(c, c.Services)
	if len(said) != 2 || said[0].String() != "slipway.yaml:2: gates.waivers: there is no service carts that this waiver would be for (did you mean cart?)" || said[1].Line != 4 {
		t.Errorf("%v", said)
	}
	if said := config.Stray(c, append(c.Services, slipway.Service{Name: "carts"})); len(said) > 0 {
		t.Errorf("%v", said)
	}
}

// What production is asked without configuration is never less than what other environments are.
func TestStandardGates(t *testing.T) {
	t.Parallel()
	production, other := config.StandardGates(true), config.StandardGates(false)
	rank := map[slipway.Level]int{slipway.LevelOff: 0, slipway.LevelWarn: 1, slipway.LevelFail: 2}
	for policy, level := range other.Manifests.Policies {
		if rank[production.Manifests.Policies[policy]] < rank[level] {
			t.Errorf("%s: %s in production, else %s", policy, production.Manifests.Policies[policy], level)
		}
	}
	for _, g := range []slipway.Gates{production, other} {
		if g.Tests != slipway.LevelFail || g.Secrets != slipway.LevelFail || g.Coverage.Level != slipway.LevelOff || g.Database.Missing != slipway.LevelWarn || time.Duration(g.Database.MaxAge) != 120*time.Hour || !g.Vulnerabilities.FixableOnly {
			t.Errorf("%+v", g)
		}
	}
	if production.Signatures.Level != slipway.LevelFail || other.Signatures.Level != slipway.LevelWarn || strings.Join(production.Signatures.Attestations, " ") != "provenance" ||
		production.Vulnerabilities.FailOn != slipway.SeverityHigh || other.Vulnerabilities.FailOn != slipway.SeverityCritical {
		t.Errorf("%+v\n%+v", production, other)
	}
}

// A rule that names an environment or a policy that there is not always says the same: it is refused where the name
// stands. What a name is compared with that is no text is left alone.
func TestRulesNameWhatThereIs(t *testing.T) {
	t.Parallel()
	read := func(expression, environments string) config.Problems {
		_, problems := config.LoadPolicy(fstest.MapFS{"slipway.yaml": {Data: []byte("gates:\n  rules:\n    - name: mine\n      message: no\n      expression: |\n        " +
			strings.ReplaceAll(expression, "\n", "\n        ") + "\n" + environments)}}, options())
		return problems
	}
	const own = "environments: [{name: qa}, {name: live, production: true}]\n"
	for expression, want := range map[string]string{
		`evidence.environment == "lvie"`:                                                                "slipway.yaml:6:33: gates.rules[0].expression: rule mine: there is no environment lvie (did you mean live?)",
		"evidence.production ||\n  \"production\" != evidence.environment":                              "slipway.yaml:7:11: gates.rules[0].expression: rule mine: there is no environment production (expected one of qa, live)",
		`evidence.environment in ["qa", "liv", "live"]`:                                                 "slipway.yaml:6:40: gates.rules[0].expression: rule mine: there is no environment liv (did you mean live?)",
		`evidence.deployments.exists(d, d.target.environment == "Qa" && d.state == "verified")`:         "there is no environment Qa (did you mean qa?)",
		`evidence.manifests.all(m, m.environment != "dev" || m.objects.size() > 0)`:                     "there is no environment dev (expected",
		`evidence.manifests.all(m, m.problems.all(p, p.policy != "probe"))`:                             "there is no policy probe (did you mean probes?)",
		`evidence.manifests.all(m, m.problems.all(p, p.policy in ["probes", "resources"]))`:             "",
		`evidence.environment == "live" || evidence.environment in ["qa", "live"]`:                      "",
		`evidence.environment == "" || evidence.environment != evidence.service`:                        "",
		`evidence.environment.startsWith("pro") || evidence.environment.matches("^p.*$")`:               "",
		`["a", "b"].exists(n, evidence.environment == n) || "x" == "y"`:                                 "",
		`evidence.service in ["carts"] && evidence.project == "x" && evidence.image.repository == "qa"`: "",
		`dyn(evidence).environment == "x"`:                                                              "",
	} {
		if got := read(expression, own).String(); !strings.Contains(got, want) || (want == "") != (got == "") {
			t.Errorf("%s\ngot  %s\nwant %s", expression, got, want)
		}
	}
	for name, fits := range map[string]bool{"development": true, "qa": true, "production": true, "live": false} {
		if got := read(`evidence.environment == "`+name+`"`, ""); (len(got) == 0) != fits {
			t.Errorf("of the standard environments, %s: %v", name, got)
		}
	}
	_, problems := config.LoadPolicy(fstest.MapFS{"slipway.yaml": {Data: []byte(`environments: [{name: qa, gates: {rules: [{name: mine, message: no, expression: 'evidence.environment == "qq"'}]}}]`)}}, options())
	if len(problems) != 1 || problems[0].Path != "environments[0].gates.rules[0].expression" || problems[0].Column != 106 {
		t.Errorf("a rule of an environment: %v", problems)
	}
}

// A rule for a service that is nowhere is told, as a waiver for one is.
func TestRulesForServices(t *testing.T) {
	t.Parallel()
	c, problems := config.LoadPolicy(fstest.MapFS{"slipway.yaml": {Data: []byte("gates:\n  rules:\n    - {name: mine, message: no, expression: 'evidence.service in [\"cart\", \"carts\"]'}\n")}}, options())
	if len(problems) > 0 || !config.NamesServices(c) {
		t.Fatalf("%v", problems)
	}
	said := config.Stray(c, []slipway.Service{{Name: "cart"}})
	if len(said) != 1 || said[0].String() != "slipway.yaml:3: gates.rules: rule mine, at 1:30 of its expression: there is no service carts (did you mean cart?)" {
		t.Errorf("%v", said)
	}
	if said := config.Stray(c, []slipway.Service{{Name: "cart"}, {Name: "carts"}}); len(said) > 0 {
		t.Errorf("%v", said)
	}
}

package gate_test

import (
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/config"
	"github.com/slipway-cd/slipway/gate"
)

// policy is what a slipway.yaml says of a project that has nothing else.
func policyOf(t *testing.T, yaml string) slipway.Config {
	t.Helper()
	c, problems := config.LoadPolicy(fstest.MapFS{"slipway.yaml": {Data: []byte(yaml)}}, config.Options{Project: "shop"})
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// What asks less of signatures is told with its place, and nothing else is.
func TestLessSigned(t *testing.T) {
	t.Parallel()
	waiver := func(subject, more string) string {
		return "{gate: signatures, subject: " + subject + ", reason: because, author: ada, expires: 2027-03-01" + more + "}"
	}
	qa := func(gates string) string { return "environments: [{name: qa, gates: {" + gates + "}}]\n" }
	project := func(gates string) string { return "gates: {" + gates + "}\nenvironments: [{name: qa}]\n" }
	for name, c := range map[string]struct {
		before, after string
		want          []string
	}{
		"nothing":             {"", "", nil},
		"other gates":         {"", "gates: {tests: off, secrets: off, waivers: [{gate: tests, subject: x, reason: r, author: a, expires: 2027-03-01}]}\n", nil},
		"more":                {qa("signatures: {level: warn}"), qa("signatures: {level: fail, attestations: [provenance, sbom]}"), nil},
		"off in qa":           {qa(""), qa("signatures: {level: off}"), []string{"gates.signatures of environment qa: the level off in place of warn"}},
		"off for all":         {project(""), project("signatures: {level: off}"), []string{"gates.signatures of environment qa: the level off in place of warn", "gates.signatures: the level off in place of warn"}},
		"was off":             {qa("signatures: {level: off}"), qa("signatures: {level: off, attestations: []}"), nil},
		"attestation":         {qa("signatures: {attestations: [provenance, sbom]}"), qa("signatures: {attestations: [sbom]}"), []string{"gates.signatures of environment qa: attestations without provenance"}},
		"not production":      {"environments: [{name: live, production: true}]\n", "environments: [{name: live}]\n", []string{"gates.signatures of environment live: the level warn in place of fail"}},
		"renamed":             {"environments: [{name: live, production: true}]\n", "environments: [{name: prod, namespace: shop-live}]\n", []string{"gates.signatures of environment prod: the level warn in place of fail"}},
		"new":                 {qa(""), "environments: [{name: qa}, {name: live, production: true}]\n", nil},
		"new, off":            {qa(""), "environments: [{name: qa}, {name: next, gates: {signatures: {level: off}}}]\n", []string{"gates.signatures of environment next: the level off in place of warn"}},
		"new, production":     {qa(""), "environments: [{name: qa}, {name: live, production: true, gates: {signatures: {level: warn}}}]\n", []string{"gates.signatures of environment live: the level warn in place of fail"}},
		"gone":                {"environments: [{name: qa}, {name: live, production: true}]\n", qa(""), nil},
		"a waiver":            {qa(""), qa("waivers: [" + waiver("unsigned x", "") + "]"), []string{`slipway.yaml:1: a waiver of "unsigned x" until 2027-03-01`}},
		"a waiver for all":    {qa(""), project("waivers: [" + waiver("unsigned x", "") + "]"), []string{`slipway.yaml:1: a waiver of "unsigned x" until 2027-03-01`}},
		"the same waiver":     {project("waivers: [" + waiver("unsigned x", "") + "]"), project("waivers: [" + strings.Replace(waiver("unsigned x", ""), "because", "of that", 1) + "]"), nil},
		"a longer waiver":     {project("waivers: [" + waiver("unsigned x", "") + "]"), project("waivers: [" + strings.Replace(waiver("unsigned x", ""), "2027-03-01", "2027-03-02", 1) + "]"), []string{`slipway.yaml:1: a waiver of "unsigned x" until 2027-03-02`}},
		"a narrower waiver":   {project("waivers: [" + waiver("unsigned x", "") + "]"), project("waivers: [" + waiver("unsigned x", ", service: cart, environment: qa") + "]"), nil},
		"a wider waiver":      {project("waivers: [" + waiver("unsigned x", ", service: cart") + "]"), project("waivers: [" + waiver("unsigned x", "") + "]"), []string{`slipway.yaml:1: a waiver of "unsigned x" until 2027-03-01`}},
		"a waiver that ended": {qa(""), qa("waivers: [" + strings.Replace(waiver("unsigned x", ""), "2027", "2025", 1) + "]"), nil},
		"a waiver taken out":  {project("waivers: [" + waiver("unsigned x", "") + "]"), project(""), nil},
		"at first, standard":  {"", "environments: [{name: production, production: true, gates: {signatures: {level: warn}}}]\n", []string{"gates.signatures of environment production: the level warn in place of fail"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := gate.LessSigned(policyOf(t, c.before), policyOf(t, c.after), now()); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

package config

import (
	"strings"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate"
	"github.com/slipway-cd/slipway/gate/manifest"
)

const (
	ageExpr  = `^([0-9]{1,4}d|([0-9]{1,9}(\.[0-9]{1,9})?(ms|s|m|h))+)$`
	dateExpr = `^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	// One line of text that is not empty.
	lineExpr       = `^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$`
	registryExpr   = `^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*/?$`
	wholeImageExpr = `^[a-zA-Z0-9][a-zA-Z0-9._:/-]*(@sha256:[0-9a-f]{64})?$`
)

// gates describes what gates demand: of the project, and of an environment.
func gates(doc string) *shape {
	return &shape{
		kind: object, doc: doc,
		keys: []key{
			{name: "tests", shape: level("Failed tests, and result files that cannot be read."), fallback: "fail"},
			{name: "coverage", shape: &shape{
				kind: object, doc: "Covered lines of code, as the tests report them. Of what was given, the level says what becomes of too little.",
				keys: []key{
					{name: "level", shape: level("What becomes of too little coverage, of too much less than before, and of no report."), fallback: "fail with a minimum, warn with maxDrop alone, else off"},
					{name: "minimum", shape: &shape{kind: number, min: 0, max: 100, word: "percent, from 0 to 100", doc: "Least part of the lines that must be covered, in percent."}, fallback: "any"},
					{name: "maxDrop", shape: &shape{kind: number, min: 0, max: 100, word: "percentage points, from 0 to 100", doc: "How many percentage points less than the base branch are allowed."}, fallback: "not compared"},
				},
			}},
			{name: "vulnerabilities", shape: vulnerabilities()},
			{name: "database", shape: &shape{
				kind: object, doc: "The vulnerability database of the scan. Without one nothing can be found.",
				keys: []key{
					{name: "missing", shape: level("There is no database."), fallback: "warn"},
					{name: "maxAge", shape: age("How old it may be when the image is scanned."), fallback: "120h"},
					{name: "old", shape: level("It is older, or its age is not known."), fallback: "warn"},
				},
			}},
			{name: "secrets", shape: level("Secrets in the tree or in a layer of the image, and no scan."), fallback: "fail"},
			{name: "manifests", shape: manifests()},
			{name: "signatures", shape: &shape{
				kind: object, doc: "What an image and a chart must be able to prove before they are deployed.",
				keys: []key{
					{name: "level", shape: level("A signature of a trusted key or a required attestation is missing or does not verify."), fallback: "fail for production, else warn"},
					{name: "attestations", shape: &shape{
						kind: list, most: 4, word: "a list of attestations", doc: "Attestations of the image that are required, besides the signatures of image and chart.",
						elem: &shape{kind: text, enum: attestations(), doc: "An attestation."},
					}, fallback: "provenance"},
				},
			}},
			{name: "rules", shape: rules()},
			{name: "waivers", shape: waivers()},
		},
	}
}

func attestations() []string { return []string{"provenance", "sbom", "tests", "scan"} }

func level(doc string) *shape {
	return &shape{kind: text, enum: []string{string(slipway.LevelFail), string(slipway.LevelWarn), string(slipway.LevelOff)}, doc: doc}
}

func severity(doc string) *shape {
	return &shape{kind: text, doc: doc, enum: []string{string(slipway.SeverityCritical), string(slipway.SeverityHigh), string(slipway.SeverityMedium),
		string(slipway.SeverityLow), string(slipway.SeverityNegligible), string(slipway.SeverityNone)}}
}

func vulnerabilities() *shape {
	return &shape{
		kind: object, doc: "Known vulnerabilities of the packages in the image.",
		keys: []key{
			{name: "failOn", shape: severity("Findings of this severity and worse fail; none: no finding does."), fallback: "critical; high for production"},
			{name: "warnOn", shape: severity("Findings of this severity and worse warn; none: no finding does."), fallback: "high"},
			{name: "fixableOnly", shape: &shape{kind: boolean, doc: "Findings of which no fixed version is known only warn."}, fallback: "true"},
			{name: "newSince", shape: &shape{kind: text, enum: []string{"base", "release"}, doc: "Only findings count that the base image, or the last release, does not have. Where that is not known, all do."}, fallback: "all count"},
		},
	}
}

func manifests() *shape {
	var keys []key
	for _, p := range manifest.Policies() {
		fallback := string(p.Level)
		if p.ProductionLevel != p.Level {
			fallback = string(p.ProductionLevel) + " for production, else " + fallback
		}
		keys = append(keys, key{name: p.Name, shape: level(p.Doc), fallback: fallback})
	}
	return &shape{
		kind: object, doc: "What a chart renders for the environment: its schema, and policies.",
		keys: []key{
			{name: "policies", shape: &shape{kind: object, doc: "Levels of the policies.", keys: keys}},
			{name: "podSecurity", shape: &shape{kind: text, enum: []string{manifest.Privileged, manifest.Baseline, manifest.Restricted}, doc: "Pod Security Standard that pods must keep; privileged asks nothing."}, fallback: "baseline"},
			{name: "registries", shape: &shape{
				kind: list, most: 50, word: "a list of registries", doc: "Registries from which images may come. Those of the project are always allowed.",
				elem: &shape{kind: text, match: newPattern(registryExpr), most: 300, word: "a host, or a host and how repositories begin: ghcr.io/our-team", doc: "A host, or a host and a prefix of repositories."},
			}, fallback: "any"},
		},
	}
}

func rules() *shape {
	return &shape{
		kind: list, most: 50, word: "a list of rules",
		doc: "Gates of one's own: expressions in CEL over the evidence, which must be true.",
		elem: &shape{
			kind: object, word: "name, expression, message", doc: "A rule. What it may read is on the page about gates.",
			keys: []key{
				{name: "name", required: true, shape: nameText("Name of its gate: not one of " + strings.Join(slipway.GateNames(), ", ") + ".")},
				{name: "stage", shape: &shape{kind: text, enum: []string{string(slipway.KindTest), string(slipway.KindScan), string(slipway.KindChart), string(slipway.KindGate)}, doc: "The kind of step after which it is judged. All rules are judged at gate, before people are asked."}, fallback: "gate"},
				{name: "expression", required: true, shape: &shape{kind: text, most: gate.MaxExpression, word: "an expression in CEL", doc: "The expression. It is checked here: a misspelt field is a problem of the file."}},
				{name: "message", required: true, shape: lineText(500, "What to tell people when it is false.")},
				{name: "level", shape: level("What becomes of it when it is false. One that cannot be answered always fails."), fallback: "fail"},
			},
		},
	}
}

func waivers() *shape {
	return &shape{
		kind: list, most: 500, word: "a list of waivers",
		doc: "Decisions to let something through a gate until a day.",
		elem: &shape{
			kind: object, word: "gate, subject, reason, author, expires", doc: "A waiver.",
			keys: []key{
				{name: "gate", required: true, shape: nameText("The gate: one that is built in, or the name of a rule.")},
				{name: "subject", required: true, shape: lineText(300, "What is let through, as the gate names it: \"CVE-2026-1234 openssl\", \"non-root Deployment/web\". A * stands for any characters.")},
				{name: "service", shape: nameText("Of this service only."), fallback: "every service"},
				{name: "environment", shape: nameText("In this environment only."), fallback: "every environment; that of the list, when it has one"},
				{name: "reason", required: true, shape: lineText(500, "Why it may pass.")},
				{name: "author", required: true, shape: lineText(100, "Who decided so.")},
				{name: "expires", required: true, shape: &shape{kind: text, match: newPattern(dateExpr), most: 10, word: "a day such as 2027-03-01, at most a year away", doc: "The first day, in UTC, on which it does not hold."}},
			},
		},
	}
}

func retention() *shape {
	return &shape{
		kind: object, doc: "How long published images and charts are kept that nothing needs any more. What an environment runs, what a rollback may go back to, what an unfinished run made and all of production is never removed.",
		keys: []key{
			{name: "candidates", shape: &shape{
				kind: object, doc: "Those of the default branch and of release branches.",
				keys: []key{
					{name: "maxAge", shape: age("Younger ones are kept."), fallback: "30d"},
					{name: "keep", shape: &shape{kind: integer, min: 1, max: 1000, word: "a whole number from 1 to 1000", doc: "That many of each service are kept, whatever their age: the newest."}, fallback: "20"},
				},
			}},
			{name: "pullRequests", shape: &shape{
				kind: object, doc: "Those of pull requests.",
				keys: []key{{name: "maxAge", shape: age("Younger ones are kept."), fallback: "7d"}},
			}},
			{name: "dryRun", shape: &shape{kind: boolean, doc: "Say what would be removed, and remove nothing."}, fallback: "false"},
		},
	}
}

func testServices() *shape {
	return &shape{
		kind: list, most: 10, word: "a list of containers",
		doc: "Containers that run beside the tests: a database, a mock of another service. The tests begin when all are ready.",
		elem: &shape{
			kind: object, word: "name, image, ...", doc: "A container beside the tests.",
			keys: []key{
				{name: "name", required: true, shape: nameText("Host name under which the tests reach it.")},
				{name: "image", required: true, shape: &shape{kind: text, match: newPattern(wholeImageExpr), most: 300, word: "an image reference such as postgres:18-alpine", doc: "Its image. Pins apply to it as to base images."}},
				{name: "env", shape: &shape{
					kind: table, keyWord: "names of variables", keyRule: "letters, digits and underscores, no digit first", keyMatch: newPattern(argExpr), most: 100, word: "names and texts",
					doc:  "Environment variables. They are stored in plain sight: no secrets.",
					elem: &shape{kind: text, most: 4096, word: "text; put numbers in quotes", doc: "Value of the variable."},
				}},
				{name: "command", shape: words("The command, in place of the image's."), fallback: "that of the image"},
				{name: "ports", shape: &shape{
					kind: list, most: 20, word: "a list of ports", doc: "TCP ports that accept connections when it is ready.",
					elem: &shape{kind: integer, min: 1, max: 65535, word: "a port from 1 to 65535", doc: "A port."},
				}},
				{name: "health", shape: words("A command that is run in the container until it succeeds: then it is ready."), fallback: "the ports decide"},
				{name: "timeout", shape: duration("How long it may take to become ready."), fallback: "1m"},
			},
		},
	}
}

func words(doc string) *shape {
	return &shape{kind: list, most: 100, word: "a list of words", doc: doc,
		elem: &shape{kind: text, most: 4096, word: "text; put numbers in quotes", doc: "A word of the command; no shell reads it."}}
}

func lineText(most int, doc string) *shape {
	return &shape{kind: text, match: newPattern(lineExpr), most: most, word: "a line of text", doc: doc}
}

func age(doc string) *shape {
	return &shape{kind: text, match: newPattern(ageExpr), most: 40, word: "an age such as 30d or 120h", doc: doc}
}

package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/gate"
	"github.com/slipway-cd/slipway/gate/manifest"
)

const (
	defaultMaxAge          = 120 * time.Hour
	defaultCandidateAge    = 30 * 24 * time.Hour
	defaultPullRequestAge  = 7 * 24 * time.Hour
	defaultKeep            = 20
	defaultServiceTimeout  = time.Minute
	maxWaiver              = 366 * 24 * time.Hour
	notCompared            = -1
	defaultAttestation     = "provenance"
	defaultPodSecurity     = manifest.Baseline
	localhost              = "localhost"
	defaultRuleStage       = slipway.KindGate
	defaultVulnerabilities = slipway.SeverityCritical
)

// StandardGates are those of a repository that says nothing: of its project and of environments that are not
// production, or of production.
func StandardGates(production bool) slipway.Gates {
	var problems Problems // of nothing there are none
	return gatesOf(value{}, scope{production: production}, slipway.Gates{}, &problems)
}

// scope is whose gates are read. The zero value is the project.
type scope struct {
	gates        value // of the environment
	name         string
	production   bool
	environments []string // that the file has, for what rules say of them
}

// layers is a value of an environment over that of the project.
type layers struct{ own, base value }

func (l layers) get(key string) layers { return layers{l.own.get(key), l.base.get(key)} }

// top is the value that holds, absent when neither has it.
func (l layers) top() value {
	if l.own.present() {
		return l.own
	}
	return l.base
}

func (l layers) level(fallback slipway.Level) slipway.Level {
	return slipway.Level(l.top().text(string(fallback)))
}

// either is the first for production, else the second.
func (s scope) either(production, otherwise slipway.Level) slipway.Level {
	if s.production {
		return production
	}
	return otherwise
}

// gatesOf reads what the gates of the project or of an environment demand, with the defaults filled in. An
// environment has the rules and waivers of the project besides its own.
func gatesOf(base value, s scope, project slipway.Gates, problems *Problems) slipway.Gates {
	l := layers{s.gates, base}
	own := s.gates
	if s.name == "" {
		own = base
	}
	g := slipway.Gates{
		Tests:           l.get("tests").level(slipway.LevelFail),
		Coverage:        coverageOf(l.get("coverage")),
		Vulnerabilities: vulnerabilitiesOf(l.get("vulnerabilities"), s),
		Database: slipway.DatabaseGate{
			Missing: l.get("database").get("missing").level(slipway.LevelWarn),
			MaxAge:  slipway.Duration(l.get("database").get("maxAge").top().age(defaultMaxAge, problems)),
			Old:     l.get("database").get("old").level(slipway.LevelWarn),
		},
		Secrets:    l.get("secrets").level(slipway.LevelFail),
		Manifests:  manifestsOf(l.get("manifests"), s),
		Signatures: signaturesOf(l.get("signatures"), s),
	}
	g.Rules = mergeRules(project.Rules, rulesOf(own.get("rules"), s.environments, problems))
	g.Waivers = slices.Concat(project.Waivers, waiversOf(own.get("waivers"), s.name, problems))
	return g
}

func coverageOf(l layers) slipway.CoverageGate {
	minimum, drop := l.get("minimum").top(), l.get("maxDrop").top()
	fallback := slipway.LevelOff
	switch {
	case minimum.number(0) > 0:
		fallback = slipway.LevelFail
	case drop.present():
		fallback = slipway.LevelWarn
	}
	return slipway.CoverageGate{Level: l.get("level").level(fallback), Minimum: minimum.number(0), MaxDrop: drop.number(notCompared)}
}

func vulnerabilitiesOf(l layers, s scope) slipway.VulnerabilityGate {
	failOn := defaultVulnerabilities
	if s.production {
		failOn = slipway.SeverityHigh
	}
	return slipway.VulnerabilityGate{
		FailOn:      slipway.Severity(l.get("failOn").top().text(string(failOn))),
		WarnOn:      slipway.Severity(l.get("warnOn").top().text(string(slipway.SeverityHigh))),
		FixableOnly: l.get("fixableOnly").top().boolean(true),
		NewSince:    l.get("newSince").top().text(""),
	}
}

func manifestsOf(l layers, s scope) slipway.ManifestGate {
	g := slipway.ManifestGate{
		Policies:    map[string]slipway.Level{},
		PodSecurity: l.get("podSecurity").top().text(defaultPodSecurity),
		Registries:  l.get("registries").top().texts(),
	}
	for _, p := range manifest.Policies() {
		g.Policies[p.Name] = l.get("policies").get(p.Name).level(s.either(p.ProductionLevel, p.Level))
	}
	return g
}

func signaturesOf(l layers, s scope) slipway.SignatureGate {
	g := slipway.SignatureGate{Level: l.get("level").level(s.either(slipway.LevelFail, slipway.LevelWarn)), Attestations: []string{defaultAttestation}}
	if given := l.get("attestations").top(); given.present() {
		g.Attestations = given.texts()
	}
	return g
}

func rulesOf(list value, environments []string, problems *Problems) (out []slipway.Rule) {
	first := map[string]value{}
	for _, v := range list.items {
		r := slipway.Rule{
			Name:       v.get("name").text(""),
			Stage:      slipway.StepKind(v.get("stage").text(string(defaultRuleStage))),
			Expression: v.get("expression").text(""),
			Message:    v.get("message").text(""),
			Level:      slipway.Level(v.get("level").text(string(slipway.LevelFail))),
			Place:      v.place(),
		}
		if r.Name == "" || !v.get("expression").present() {
			continue // missing or malformed: said already
		}
		name := v.get("name")
		if slices.Contains(slipway.GateNames(), r.Name) {
			problems.add(name.problem("give it another name", "%s is a gate that is built in", r.Name))
			continue
		}
		if other, twice := first[r.Name]; twice {
			problems.add(name.problem("give it another name", "there are two rules %s, the first in line %d", r.Name, other.node.Line))
			continue
		}
		first[r.Name] = v
		program, err := gate.Compile(r)
		if err != nil {
			problems.add(expressionProblem(v.get("expression"), r.Name, err))
			continue
		}
		checkNames(v.get("expression"), r.Name, program.Names, environments, problems)
		out = append(out, r)
	}
	return out
}

// checkNames refuses environments and policies in a rule that there are not: it would always say the same of them.
// Services are for Stray.
func checkNames(expression value, rule string, names []gate.Named, environments []string, problems *Problems) {
	for _, n := range names {
		var known []string
		switch n.What {
		case "environment":
			known = environments
		case "policy":
			for _, p := range manifest.Policies() {
				known = append(known, p.Name)
			}
		default:
			continue
		}
		if slices.Contains(known, n.Name) {
			continue
		}
		p := expressionProblem(expression, rule, &gate.RuleError{Line: n.Line, Column: n.Column, Message: fmt.Sprintf("there is no %s %s", n.What, clip(n.Name))})
		p.Hint = didYouMean(n.Name, known)
		problems.add(p)
	}
}

// expressionProblem is at the place in the file where the expression is wrong.
func expressionProblem(v value, name string, err error) Problem {
	p := v.problem("see the page about gates for what rules may read", "rule %s: %v", name, err)
	var at *gate.RuleError
	if !errors.As(err, &at) || at.Line == 0 {
		return p
	}
	where := ""
	if here, ok := within(v.node, v.lines, at.Line, at.Column); ok {
		p.Line, p.Column = here.line, here.column
	} else {
		where = fmt.Sprintf(", at %d:%d of its expression", at.Line, at.Column)
	}
	p.Message = fmt.Sprintf("rule %s%s: %s", name, where, at.Message)
	return p
}

// mergeRules puts the rules of an environment over those of the project.
func mergeRules(project, own []slipway.Rule) []slipway.Rule {
	out := slices.Clone(project)
	for _, r := range own {
		if at := slices.IndexFunc(out, func(o slipway.Rule) bool { return o.Name == r.Name }); at >= 0 {
			out[at] = r
			continue
		}
		out = append(out, r)
	}
	return out
}

// waiversOf are the waivers of a list. What is wrong with one is said by checkWaivers.
func waiversOf(list value, environment string, problems *Problems) (out []slipway.Waiver) {
	for _, v := range list.items {
		if !whole(v) {
			continue // said already
		}
		day := v.get("expires")
		expires, err := time.Parse(time.DateOnly, day.text(""))
		if err != nil {
			problems.add(day.problem("expected a day such as 2027-03-01", "%s is no day", day.text("")))
			continue
		}
		w := slipway.Waiver{
			Gate: v.get("gate").text(""), Subject: v.get("subject").text(""), Service: v.get("service").text(""),
			Environment: v.get("environment").text(environment), Reason: v.get("reason").text(""), Author: v.get("author").text(""),
			Expires: expires, Place: v.place(),
		}
		if environment != "" && w.Environment != environment {
			problems.add(v.get("environment").problem("take it away, or move the waiver to gates", "a waiver of environment %s is for no other", environment))
			continue
		}
		out = append(out, w)
	}
	return out
}

// whole reports whether all that the shape requires is there.
func whole(v value) bool {
	for _, k := range v.shape.keys {
		if k.required && v.get(k.name).node == nil {
			return false
		}
	}
	return true
}

// checkWaivers refuses waivers that can never let anything through, and those that let everything through.
func checkWaivers(f File, c slipway.Config, problems *Problems) {
	var environments []string
	for _, e := range c.Environments {
		environments = append(environments, e.Name)
	}
	known := slipway.GateNames()
	for _, rule := range ofAll(f, "rules") {
		known = append(known, rule.get("name").text(""))
	}
	slices.Sort(known)
	known = slices.Compact(slices.DeleteFunc(known, func(s string) bool { return s == "" }))
	for _, v := range ofAll(f, "waivers") {
		if g := v.get("gate"); g.node != nil && !slices.Contains(known, g.text("")) {
			problems.add(g.problem(didYouMean(g.text(""), known), "there is no gate %s", g.text("")))
		}
		if s := v.get("subject"); s.node != nil && strings.Trim(s.text(""), "* ") == "" {
			problems.add(s.problem("name what is waived, or set the gate's level", "the subject %q would waive everything of gate %s", s.text(""), v.get("gate").text("")))
		}
		if e := v.get("environment"); e.node != nil && !slices.Contains(environments, e.text("")) {
			problems.add(e.problem(didYouMean(e.text(""), environments), "there is no environment %s", e.text("")))
		}
	}
}

// ofAll are the rules or the waivers of the file: of the project, then of the environments.
func ofAll(f File, key string) []value {
	out := slices.Clone(f.root.get("gates").get(key).items)
	for _, e := range f.root.get("environments").items {
		out = append(out, e.get("gates").get(key).items...)
	}
	return out
}

// checkTimes refuses waivers for longer than a year, and tells of those that have expired.
func checkTimes(f File, now time.Time, expired bool, problems *Problems) {
	for _, v := range ofAll(f, "waivers") {
		day := v.get("expires")
		expires, err := time.Parse(time.DateOnly, day.text(""))
		switch {
		case err != nil: // said already
		case expires.After(now.Add(maxWaiver)):
			problems.add(day.problem("set a day within a year: a waiver is looked at again", "the waiver would hold for more than a year"))
		case expired && !now.Before(expires):
			problems.add(day.problem("take it away, or decide again and set another day", "the waiver has expired on %s and does not hold", day.text("")))
		}
	}
}

// Stray tells of waivers and rules of a policy, as Load or LoadPolicy reads it, for services that are not among these:
// all that the codebases of its project have, or those of one folder. Such a waiver lets nothing through, such a rule
// always says the same of it, and neither is in anybody's way: the service may have been taken out of another
// codebase, or be in one that was not looked at.
func Stray(policy slipway.Config, services []slipway.Service) (problems Problems) {
	names, told, read := namesOf(services), map[string]bool{}, map[string]bool{}
	tell := func(service, place, path, message string) {
		if service == "" || slices.Contains(names, service) || told[place+" "+message] {
			return
		}
		told[place+" "+message] = true
		p := Problem{File: Name, Message: message, Path: path}
		if n := nearest(service, names); n != "" {
			p.Hint = "did you mean " + n + "?"
		}
		if file, line, ok := strings.Cut(place, ":"); ok {
			p.File = file
			p.Line, _ = strconv.Atoi(line)
		}
		problems.add(p)
	}
	all := []slipway.Gates{policy.Gates}
	for _, e := range policy.Environments {
		all = append(all, e.Gates)
	}
	for _, g := range all {
		for _, w := range g.Waivers {
			tell(w.Service, w.Place, "gates.waivers", "there is no service "+w.Service+" that this waiver would be for")
		}
		for _, r := range g.Rules {
			if read[r.Place] {
				continue // every environment has the project's
			}
			read[r.Place] = r.Place != ""
			for _, n := range servicesIn(r) {
				tell(n.Name, r.Place, "gates.rules", fmt.Sprintf("rule %s, at %d:%d of its expression: there is no service %s", r.Name, n.Line, n.Column, clip(n.Name)))
			}
		}
	}
	return problems.sorted()
}

// NamesServices reports whether waivers or rules of a policy are for single services.
func NamesServices(policy slipway.Config) bool {
	named := func(g slipway.Gates) bool {
		return slices.ContainsFunc(g.Waivers, func(w slipway.Waiver) bool { return w.Service != "" }) ||
			slices.ContainsFunc(g.Rules, func(r slipway.Rule) bool { return len(servicesIn(r)) > 0 })
	}
	return named(policy.Gates) || slices.ContainsFunc(policy.Environments, func(e slipway.Environment) bool { return named(e.Gates) })
}

// servicesIn are the services that a rule names.
func servicesIn(r slipway.Rule) []gate.Named {
	if !strings.Contains(r.Expression, ".service") { // what is compiled costs a millisecond or more
		return nil
	}
	program, err := gate.Compile(r)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(program.Names), func(n gate.Named) bool { return n.What != "service" })
}

func namesOf(services []slipway.Service) (names []string) {
	for _, s := range services {
		names = append(names, s.Name)
	}
	return names
}

func retentionOf(v value, problems *Problems) slipway.Retention {
	candidates := v.get("candidates")
	return slipway.Retention{
		Candidates: slipway.Keep{
			MaxAge: slipway.Duration(candidates.get("maxAge").age(defaultCandidateAge, problems)),
			Newest: candidates.get("keep").integer(defaultKeep),
		},
		PullRequests: slipway.Keep{MaxAge: slipway.Duration(v.get("pullRequests").get("maxAge").age(defaultPullRequestAge, problems))},
		DryRun:       v.get("dryRun").boolean(false),
	}
}

func scanOf(service value) slipway.ServiceScan {
	return slipway.ServiceScan{Reports: service.get("scan").get("reports").texts()}
}

// testServicesOf are the containers that run beside the tests.
func testServicesOf(list value, problems *Problems) (out []slipway.TestService) {
	first := map[string]value{}
	for _, v := range list.items {
		name := v.get("name").text("")
		if !whole(v) {
			continue // said already
		}
		if other, twice := first[name]; twice {
			problems.add(v.get("name").problem("give it another name", "there are two containers %s, the first in line %d", name, other.node.Line))
			continue
		}
		first[name] = v
		if name == localhost {
			problems.add(v.get("name").problem("give it another name", "localhost is the container of the tests itself"))
			continue
		}
		out = append(out, slipway.TestService{
			Name: name, Image: v.get("image").text(""), Env: v.get("env").table(), Command: v.get("command").texts(),
			Ports: v.get("ports").integers(), Health: v.get("health").texts(),
			Timeout: slipway.Duration(v.get("timeout").duration(defaultServiceTimeout, problems)),
		})
	}
	return out
}

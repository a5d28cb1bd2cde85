package gate

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// Stricter are gates that let through only what both would: those of a plan that was made earlier, and those
// that hold now (D14). Where two demands cannot be said as one, the result asks for more than either.
// A waiver stays when both have it, until the earlier end; rules of both stay.
func Stricter(then, now slipway.Gates) slipway.Gates {
	return slipway.Gates{
		Tests:           stricterLevel(then.Tests, now.Tests),
		Coverage:        stricterCoverage(then.Coverage, now.Coverage),
		Vulnerabilities: stricterVulnerabilities(then.Vulnerabilities, now.Vulnerabilities),
		Database: slipway.DatabaseGate{
			Missing: stricterLevel(then.Database.Missing, now.Database.Missing),
			MaxAge:  stricterAge(then.Database, now.Database),
			Old:     stricterLevel(then.Database.Old, now.Database.Old),
		},
		Secrets:    stricterLevel(then.Secrets, now.Secrets),
		Manifests:  stricterManifests(then.Manifests, now.Manifests),
		Signatures: stricterSignatures(then.Signatures, now.Signatures),
		Rules:      stricterRules(then.Rules, now.Rules),
		Waivers:    bothWaive(then.Waivers, now.Waivers),
	}
}

// stricterLevel takes a level that is not known for fail, as the gates do.
func stricterLevel(a, b slipway.Level) slipway.Level {
	known := []slipway.Level{slipway.LevelOff, slipway.LevelWarn}
	i, j := slices.Index(known, a), slices.Index(known, b)
	if i < 0 || j < 0 {
		return slipway.LevelFail
	}
	return known[max(i, j)]
}

func stricterCoverage(a, b slipway.CoverageGate) slipway.CoverageGate {
	if a.Level == slipway.LevelOff {
		return b
	}
	if b.Level == slipway.LevelOff {
		return a
	}
	c := slipway.CoverageGate{Level: stricterLevel(a.Level, b.Level), Minimum: max(a.Minimum, b.Minimum), MaxDrop: max(a.MaxDrop, b.MaxDrop)}
	if a.MaxDrop >= 0 && b.MaxDrop >= 0 {
		c.MaxDrop = min(a.MaxDrop, b.MaxDrop)
	}
	return c
}

// stricterVulnerabilities counts all findings when the two count different ones. What a side says of findings
// without a fix is left aside when it fails on none.
func stricterVulnerabilities(a, b slipway.VulnerabilityGate) slipway.VulnerabilityGate {
	if off := slipway.SeverityNone; a.FailOn == off && a.WarnOn == off {
		return b
	} else if b.FailOn == off && b.WarnOn == off {
		return a
	}
	g := slipway.VulnerabilityGate{FailOn: lower(a.FailOn, b.FailOn), WarnOn: lower(a.WarnOn, b.WarnOn), FixableOnly: a.FixableOnly && b.FixableOnly}
	switch none := slipway.SeverityNone; {
	case a.FailOn == none && b.FailOn != none:
		g.FixableOnly = b.FixableOnly
	case b.FailOn == none && a.FailOn != none:
		g.FixableOnly = a.FixableOnly
	}
	if a.NewSince == b.NewSince {
		g.NewSince = a.NewSince
	}
	return g
}

// lower is the threshold that more findings reach.
func lower(a, b slipway.Severity) slipway.Severity {
	if a.AtLeast(b) {
		return b
	}
	return a
}

// stricterAge leaves the age of a side aside that does not look at it.
func stricterAge(a, b slipway.DatabaseGate) slipway.Duration {
	looks := func(g slipway.DatabaseGate) bool { return g.Old != slipway.LevelOff && g.MaxAge > 0 }
	switch {
	case looks(a) && looks(b):
		return min(a.MaxAge, b.MaxAge)
	case looks(a):
		return a.MaxAge
	case looks(b):
		return b.MaxAge
	}
	return min(max(a.MaxAge, 0), max(b.MaxAge, 0))
}

func stricterManifests(a, b slipway.ManifestGate) slipway.ManifestGate {
	g := slipway.ManifestGate{PodSecurity: a.PodSecurity, Registries: bothAllow(a.Registries, b.Registries)}
	if podSecurity(b.PodSecurity) > podSecurity(a.PodSecurity) {
		g.PodSecurity = b.PodSecurity
	}
	// A policy that one side does not name counts as fail there.
	for _, of := range [][2]map[string]slipway.Level{{a.Policies, b.Policies}, {b.Policies, a.Policies}} {
		for policy, level := range of[0] {
			if g.Policies == nil {
				g.Policies = map[string]slipway.Level{}
			}
			g.Policies[policy] = stricterLevel(level, of[1][policy])
		}
	}
	return g
}

// podSecurity orders the levels; a word that is not known asks for most.
func podSecurity(level string) int {
	known := []string{"privileged", "baseline", "restricted"}
	if i := slices.Index(known, cmp.Or(level, "baseline")); i >= 0 {
		return i
	}
	return len(known)
}

// nowhere is a host that no image can come from: for two lists of registries with nothing in common.
const nowhere = "registry.invalid"

func bothAllow(a, b []string) []string {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	within := func(r string, list []string) bool {
		return slices.ContainsFunc(list, func(l string) bool {
			l = strings.TrimSuffix(l, "/")
			return r == l || strings.HasPrefix(r, l+"/")
		})
	}
	var out []string
	for _, r := range slices.Concat(a, b) {
		if within(r, a) && within(r, b) && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return []string{nowhere}
	}
	return out
}

func stricterSignatures(a, b slipway.SignatureGate) slipway.SignatureGate {
	if a.Level == slipway.LevelOff {
		return b
	}
	if b.Level == slipway.LevelOff {
		return a
	}
	g := slipway.SignatureGate{Level: stricterLevel(a.Level, b.Level), Attestations: slices.Clone(a.Attestations)}
	for _, x := range b.Attestations {
		if !slices.Contains(g.Attestations, x) {
			g.Attestations = append(g.Attestations, x)
		}
	}
	return g
}

// stricterRules are the rules of both; of one that both have, the stricter level.
func stricterRules(a, b []slipway.Rule) []slipway.Rule {
	out := slices.Clone(a)
	for _, r := range b {
		at := slices.IndexFunc(out, func(o slipway.Rule) bool {
			return o.Name == r.Name && o.Stage == r.Stage && o.Expression == r.Expression
		})
		if at < 0 {
			out = append(out, r)
			continue
		}
		r.Level = stricterLevel(out[at].Level, r.Level)
		out[at] = r
	}
	return out
}

// bothWaive are the waivers that both have, each until the earlier of their ends.
func bothWaive(a, b []slipway.Waiver) []slipway.Waiver {
	type key struct{ gate, subject, service, environment string }
	last := func(list []slipway.Waiver) map[key]slipway.Waiver {
		out := map[key]slipway.Waiver{}
		for _, w := range list {
			k := key{w.Gate, w.Subject, w.Service, w.Environment}
			if have, ok := out[k]; w.Withdrawn.IsZero() && w.Reason != "" && w.Author != "" && (!ok || w.Expires.After(have.Expires)) {
				out[k] = w
			}
		}
		return out
	}
	then, now := last(a), last(b)
	var out []slipway.Waiver
	for _, k := range slices.SortedFunc(maps.Keys(now), func(x, y key) int {
		return cmp.Or(strings.Compare(x.gate, y.gate), strings.Compare(x.subject, y.subject), strings.Compare(x.service, y.service), strings.Compare(x.environment, y.environment))
	}) {
		w, other := now[k], then[k]
		if other.Expires.IsZero() {
			continue
		}
		if other.Expires.Before(w.Expires) {
			w = other
		}
		out = append(out, w)
	}
	return out
}

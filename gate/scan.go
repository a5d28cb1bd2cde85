package gate

import (
	"fmt"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	noScan     = "no scan"
	notScanned = "the image was not scanned, so that nothing is known of it"
)

// vulnerabilities wants none of the severities that are too much. Without a scan there is nothing that could
// be said of the image, which counts as the worst that the gate may say.
func (j *judge) vulnerabilities() []slipway.GateResult {
	p, s := j.policy.Vulnerabilities, j.e.Scan
	worst := slipway.Fail
	if p.FailOn == slipway.SeverityNone {
		worst = slipway.Warn
		if p.WarnOn == slipway.SeverityNone {
			return nil
		}
	}
	if s == nil {
		return []slipway.GateResult{j.unscanned(slipway.GateVulnerabilities, worst)}
	}
	var reasons []found
	if why := s.Database.Missing; why != "" {
		reasons = append(reasons, found{rank: -2, GateReason: slipway.GateReason{Verdict: slipway.Warn, Subject: "no database",
			Message: "no vulnerability can be found without a database: " + why}})
	}
	reasons = append(reasons, unseen(*s, worst)...)
	counts, note := j.counting()
	others := 0
	for _, f := range s.Findings {
		if f.Kind == slipway.FindingSecret {
			continue
		}
		v := slipway.Pass
		if counts(f) {
			v = threshold(p, f)
		}
		if v == slipway.Pass {
			others++
			continue
		}
		reasons = append(reasons, vulnerability(f, v))
	}
	w := j.weigh(slipway.GateVulnerabilities, j.e.Environment, reasons)
	return []slipway.GateResult{j.result(slipway.GateVulnerabilities, j.e.Environment, w, j.vulnerabilitySummary(w, others, note)...)}
}

// threshold is what the policy says of a finding that counts.
func threshold(p slipway.VulnerabilityGate, f slipway.Finding) slipway.Verdict {
	switch {
	case reaches(f.Severity, p.FailOn):
		if p.FixableOnly && f.FixedIn == "" {
			return slipway.Warn
		}
		return slipway.Fail
	case reaches(f.Severity, p.WarnOn):
		return slipway.Warn
	}
	return slipway.Pass
}

// reaches reports whether a severity is as bad as a threshold. Nothing reaches none; a finding that claims to
// have no severity counts as low.
func reaches(s, t slipway.Severity) bool {
	if s == slipway.SeverityNone {
		s = slipway.SeverityUnknown
	}
	return t != slipway.SeverityNone && s.AtLeast(t)
}

// counting says which findings count, all or those that are new, and what to say of it. What they would be
// compared with is sometimes not known; then all count.
func (j *judge) counting() (counts func(slipway.Finding) bool, note string) {
	switch since := j.policy.Vulnerabilities.NewSince; {
	case since == "base" && j.e.Scan.Base != "":
		return func(f slipway.Finding) bool { return !f.InBase }, "only what is not in the base image counts"
	case since == "release" && j.e.PreviousScan != nil && j.e.PreviousScan.Database.Missing == "":
		type key struct{ id, pkg string }
		had := map[key]bool{}
		for _, f := range j.e.PreviousScan.Findings {
			had[key{f.ID, f.Package}] = true
		}
		return func(f slipway.Finding) bool { return !had[key{f.ID, f.Package}] }, "only what the last release did not have counts"
	case since == "base" && j.e.Scan.BaseProblem != "":
		note = line(j.e.Scan.BaseProblem, 300) + "; all findings count as new"
	case since != "":
		note = "all count, as it is not known what is new"
	}
	return func(slipway.Finding) bool { return true }, note
}

func vulnerability(f slipway.Finding, v slipway.Verdict) found {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", known(f.Severity), strings.TrimSpace(f.Package+" "+f.Version))
	if f.FixedIn != "" {
		b.WriteString(", fixed in " + f.FixedIn)
	} else {
		b.WriteString(", no fixed version is known")
	}
	if f.InBase {
		b.WriteString(", in the base image")
	}
	b.WriteString(dismissed(f))
	if f.Title != "" {
		b.WriteString(": " + f.Title)
	}
	rank := 0
	for i, s := range slipway.Severities() {
		if s == known(f.Severity) {
			rank = 2 * i
		}
	}
	if f.FixedIn == "" {
		rank++
	}
	return found{rank: rank, kind: string(known(f.Severity)), fixable: f.FixedIn != "", GateReason: slipway.GateReason{
		Verdict: v, Subject: strings.TrimSpace(f.ID + " " + f.Package), Message: b.String(), Place: place(f), Link: f.Link,
	}}
}

// dismissed is what a report says against a finding of its own. That has no author and no end, so that it lets
// nothing through.
func dismissed(f slipway.Finding) string {
	if f.Dismissed == "" {
		return ""
	}
	return ", dismissed by its report as " + line(f.Dismissed, 200) + ", which counts until it is waived"
}

// known is the severity, unknown for what is none.
func known(s slipway.Severity) slipway.Severity {
	for _, k := range slipway.Severities() {
		if s == k {
			return s
		}
	}
	return slipway.SeverityUnknown
}

// place is the path of a finding, its line, and the layer that brought it.
func place(f slipway.Finding) string {
	at := f.Path
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, f.Line)
	}
	if f.Layer == "" {
		return at
	}
	layer := f.Layer
	if name, digest, ok := strings.Cut(layer, ":"); ok && len(digest) > 12 {
		layer = name + ":" + digest[:12]
	}
	if at == "" {
		return "layer " + layer
	}
	return at + " in layer " + layer
}

func (j *judge) vulnerabilitySummary(w weighed, others int, note string) (out []string) {
	s := j.e.Scan
	if s.Database.Missing != "" {
		out = append(out, "not looked for: there is no vulnerability database")
	}
	some := false
	for _, severity := range slipway.Severities() {
		n, fixable := w.count(string(severity))
		if n == 0 {
			continue
		}
		some = true
		part := thousands(n) + " " + string(severity)
		if fixable > 0 {
			part += fmt.Sprintf(" (%s fixable)", thousands(fixable))
		}
		out = append(out, part)
	}
	if !some && s.Database.Missing == "" && !s.Refused {
		out = append(out, fmt.Sprintf("none that count in %s", counted(s.Packages, "package", "packages")))
	}
	out = append(out, note)
	if others > 0 {
		out = append(out, counted(others, "other", "others")+" below")
	}
	return append(out, notSeen(*s)...)
}

// notSeen says in a summary that there is more than what was looked at.
func notSeen(s slipway.Scan) []string {
	switch {
	case s.Refused:
		return []string{"the image was not scanned"}
	case len(s.Problems) > 0:
		return []string{counted(len(s.Problems), "part", "parts") + " not looked at"}
	}
	return nil
}

// unseen is what was not looked at. Of an image that was refused nothing is known: who could have a bad one pass by
// making it too large to be looked at would.
func unseen(s slipway.Scan, worst slipway.Verdict) (out []found) {
	for i, problem := range s.Problems {
		r := slipway.GateReason{Verdict: slipway.Warn, Subject: "not looked at", Message: problem}
		if s.Refused && i == 0 {
			r.Verdict, r.Subject = worst, noScan
		}
		out = append(out, found{rank: -1, GateReason: r})
	}
	if s.Refused && len(out) == 0 {
		out = append(out, found{rank: -1, GateReason: slipway.GateReason{Verdict: worst, Subject: noScan, Message: notScanned}})
	}
	return out
}

func (j *judge) unscanned(gate string, v slipway.Verdict) slipway.GateResult {
	w := j.weigh(gate, j.e.Environment, []found{{GateReason: slipway.GateReason{Verdict: v, Subject: noScan, Message: notScanned}}})
	return j.result(gate, j.e.Environment, w, "the image was not scanned")
}

// database wants the scan to have used a vulnerability database that is not too old. It asks nothing where
// vulnerabilities are no concern, and leaves it to that gate to say that there is no scan.
func (j *judge) database() []slipway.GateResult {
	p, v, s := j.policy.Database, j.policy.Vulnerabilities, j.e.Scan
	if s == nil || (v.FailOn == slipway.SeverityNone && v.WarnOn == slipway.SeverityNone) {
		return nil
	}
	if p.Missing == slipway.LevelOff && p.Old == slipway.LevelOff {
		return nil
	}
	var reasons []found
	add := func(l slipway.Level, subject, format string, args ...any) {
		if l != slipway.LevelOff {
			reasons = append(reasons, found{GateReason: slipway.GateReason{Verdict: verdict(l), Subject: subject, Message: fmt.Sprintf(format, args...), Place: s.Database.Source}})
		}
	}
	age, summary := j.e.Now.Sub(s.Database.Built), ""
	switch {
	case s.Database.Missing != "":
		summary = "no vulnerability database"
		add(p.Missing, "missing", "there is no vulnerability database (%s), so that no vulnerability can be found; let the server fetch one, or give it a file", s.Database.Missing)
	case s.Database.Built.IsZero():
		summary = "the age of the database is not known"
		add(p.Old, "old", "%s does not say how old its vulnerability database is", scannerName(s.Scanner))
	default:
		summary = fmt.Sprintf("built on %s, %s old", s.Database.Built.UTC().Format(time.DateOnly), days(age))
		if most := time.Duration(p.MaxAge); most > 0 && age > most {
			add(p.Old, "old", "the vulnerability database was built on %s and is %s old, at most %s is allowed; look why it is not updated",
				s.Database.Built.UTC().Format(time.DateOnly), days(age), days(most))
		}
	}
	return []slipway.GateResult{j.result(slipway.GateDatabase, j.e.Environment, j.weigh(slipway.GateDatabase, j.e.Environment, reasons), summary)}
}

func scannerName(s string) string {
	if s == "" {
		return "the scanner"
	}
	return line(s, 100)
}

// days is an age as people tell it.
func days(d time.Duration) string {
	hours := int(max(d, 0) / time.Hour)
	switch {
	case hours < 48:
		return counted(hours, "hour", "hours")
	case hours%24 == 0 || hours > 30*24:
		return counted(hours/24, "day", "days")
	}
	return counted(hours/24, "day", "days") + " and " + counted(hours%24, "hour", "hours")
}

// secrets wants none in the tree and in the layers of the image.
func (j *judge) secrets() []slipway.GateResult {
	if j.policy.Secrets == slipway.LevelOff {
		return nil
	}
	bad := verdict(j.policy.Secrets)
	if j.e.Scan == nil {
		return []slipway.GateResult{j.unscanned(slipway.GateSecrets, bad)}
	}
	reasons := unseen(*j.e.Scan, bad)
	for _, f := range j.e.Scan.Findings {
		if f.Kind != slipway.FindingSecret {
			continue
		}
		where := "stands there in plain text" // in a file that was committed, or in the configuration of the image
		if f.Layer != "" {
			where = "is baked into a layer of the image"
		}
		message := fmt.Sprintf("a secret (%s) %s; withdraw it where it is valid, then take it out%s%s", f.ID, where, dismissed(f), after(f.Title))
		reasons = append(reasons, found{kind: "secret", GateReason: slipway.GateReason{
			Verdict: bad, Subject: strings.TrimSpace(f.ID + " " + f.Path), Message: message, Place: place(f), Link: f.Link}})
	}
	w := j.weigh(slipway.GateSecrets, j.e.Environment, reasons)
	summary := []string{"none found"}
	if n, _ := w.count("secret"); n > 0 {
		summary[0] = counted(n, "secret", "secrets")
	} else if w.waived > 0 {
		summary[0] = ""
	}
	return []slipway.GateResult{j.result(slipway.GateSecrets, j.e.Environment, w, append(summary, notSeen(*j.e.Scan)...)...)}
}

package scan

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/slipway-cd/slipway"
)

type sarif struct {
	Runs []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver struct {
			Name            string      `json:"name"`
			Version         string      `json:"version"`
			SemanticVersion string      `json:"semanticVersion"`
			Rules           []sarifRule `json:"rules"`
		} `json:"driver"`
		Extensions []struct {
			Rules []sarifRule `json:"rules"`
		} `json:"extensions"`
	} `json:"tool"`
	Invocations []struct {
		Successful *bool `json:"executionSuccessful"`
	} `json:"invocations"`
	// Results are an empty list when nothing was found, and absent when nobody looked.
	Results []sarifResult `json:"results"`

	rules map[string]sarifRule // by id
}

type sarifRule struct {
	ID               string    `json:"id"`
	ShortDescription sarifText `json:"shortDescription"`
	HelpURI          string    `json:"helpUri"`
	Default          struct {
		Level string `json:"level"`
	} `json:"defaultConfiguration"`
	Properties struct {
		Severity json.RawMessage `json:"security-severity"`
		Tags     []string        `json:"tags"`
	} `json:"properties"`
}

type sarifText struct {
	Text string `json:"text"`
}

type sarifResult struct {
	RuleID string `json:"ruleId"`
	Rule   struct {
		ID string `json:"id"` // in its place, where the rule is of an extension
	} `json:"rule"`
	RuleIndex *int      `json:"ruleIndex"`
	Level     string    `json:"level"`
	Kind      string    `json:"kind"`
	Baseline  string    `json:"baselineState"`
	Message   sarifText `json:"message"`
	Locations []struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
			Region struct {
				StartLine int `json:"startLine"`
			} `json:"region"`
		} `json:"physicalLocation"`
	} `json:"locations"`
	Suppressions []struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	} `json:"suppressions"`
}

// parseSARIF leaves out results that say that something is in order. Suppressed ones count, as waivers are Slipway's, and so
// do those that a tool could not decide.
func parseSARIF(data []byte) (slipway.Scan, error) {
	var doc sarif
	if err := json.Unmarshal(data, &doc); err != nil {
		return slipway.Scan{}, fmt.Errorf("is not SARIF 2.1.0: %w", err)
	}
	if len(doc.Runs) == 0 {
		return slipway.Scan{}, fmt.Errorf("holds no run of a scanner")
	}
	out := slipway.Scan{Findings: []slipway.Finding{}}
	var tools []string
	for _, run := range doc.Runs {
		d := run.Tool.Driver
		if d.Name == "" {
			return out, fmt.Errorf("does not name the scanner that wrote it")
		}
		if err := run.looked(); err != nil {
			return out, err
		}
		run.rules = rulesOf(run)
		tools = append(tools, oneLine(strings.TrimSpace(d.Name+" "+firstOf(d.Version, d.SemanticVersion))))
		for _, res := range run.Results {
			if res.inOrder() {
				continue
			}
			res.RuleID = firstOf(res.RuleID, res.Rule.ID)
			if len(out.Findings) >= maxFindings {
				return out, fmt.Errorf("holds more than %d findings", maxFindings)
			}
			out.Findings = append(out.Findings, sarifFinding(res, run.rule(res)))
		}
	}
	out.Scanner = strings.Join(slices.Compact(tools), ", ")
	return out, nil
}

// rulesOf are the rules of a run by their ids: the first of an id counts, and those of the tool before those of its
// extensions.
func rulesOf(run sarifRun) map[string]sarifRule {
	out := map[string]sarifRule{}
	for _, e := range slices.Backward(run.Tool.Extensions) {
		for _, rule := range slices.Backward(e.Rules) {
			out[rule.ID] = rule
		}
	}
	for _, rule := range slices.Backward(run.Tool.Driver.Rules) {
		out[rule.ID] = rule
	}
	return out
}

// inOrder reports whether a result says that there is nothing to mend: it passed, does not apply, informs, or is no more.
func (r sarifResult) inOrder() bool {
	return r.Kind == "pass" || r.Kind == "notApplicable" || r.Kind == "informational" || r.Baseline == "absent"
}

func (r sarifRun) rule(res sarifResult) sarifRule {
	rules := r.Tool.Driver.Rules
	if i := res.RuleIndex; i != nil && *i >= 0 && *i < len(rules) && (res.RuleID == "" || rules[*i].ID == res.RuleID) {
		return rules[*i]
	}
	if rule, ok := r.rules[res.RuleID]; ok {
		return rule
	}
	return sarifRule{ID: res.RuleID}
}

// looked refuses a run that did not come to its end: that it found little says nothing.
func (r sarifRun) looked() error {
	for _, i := range r.Invocations {
		if i.Successful != nil && !*i.Successful {
			return fmt.Errorf("says that %s failed (executionSuccessful is false)", oneLine(r.Tool.Driver.Name))
		}
	}
	if r.Results == nil {
		return fmt.Errorf("has no results, not even an empty list: %s has not looked", oneLine(r.Tool.Driver.Name))
	}
	return nil
}

func sarifFinding(res sarifResult, rule sarifRule) slipway.Finding {
	f := slipway.Finding{
		Kind: slipway.FindingVulnerability, ID: oneLine(firstOf(res.RuleID, rule.ID, "unnamed")),
		Severity: sarifSeverity(res, rule), Title: oneLine(firstOf(rule.ShortDescription.Text, res.Message.Text)), Link: httpsOnly(rule.HelpURI), Dismissed: res.dismissed(),
	}
	if len(res.Locations) > 0 {
		p := res.Locations[0].Physical
		f.Path, f.Line = oneLine(p.Artifact.URI), max(0, p.Region.StartLine)
	}
	if slices.ContainsFunc(rule.Properties.Tags, func(tag string) bool { return strings.EqualFold(tag, "secret") }) {
		// The message of a secret may hold it.
		f.Kind, f.Title = slipway.FindingSecret, oneLine(rule.ShortDescription.Text)
		return f
	}
	said := trivyMessage(res.Message.Text)
	f.Package, f.Version, f.FixedIn = oneLine(said["Package"]), oneLine(said["Installed Version"]), oneLine(said["Fixed Version"])
	if f.Package == "" {
		if m := snykMessage.FindStringSubmatch(res.Message.Text); m != nil {
			f.Package = oneLine(m[1])
		}
	}
	return f
}

// dismissed is why the report suppresses the result; a suppression that was rejected or waits is none.
func (r sarifResult) dismissed() string {
	for _, s := range r.Suppressions {
		if s.Status == "" || s.Status == "accepted" {
			return dismissal("suppressed", s.Kind, s.Justification)
		}
	}
	return ""
}

// sarifSeverity prefers the score, which is the only one of them that can say critical.
func sarifSeverity(res sarifResult, rule sarifRule) slipway.Severity {
	if text := strings.Trim(string(rule.Properties.Severity), `"`); text != "" {
		if score, err := strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(score) {
			return severityOfScore(score)
		}
	}
	if s := trivyMessage(res.Message.Text)["Severity"]; s != "" {
		return severityOf(s)
	}
	return severityOf(firstOf(res.Level, rule.Default.Level, "warning"))
}

var snykMessage = regexp.MustCompile(`vulnerable (\S{1,200}) package`)

// trivyMessage reads the lines "Package: openssl" of Trivy's messages.
func trivyMessage(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			out[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return out
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

package scan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

type cyclone struct {
	SpecVersion     string             `json:"specVersion"`
	Metadata        cycloneMetadata    `json:"metadata"`
	Components      []cycloneComponent `json:"components"`
	Vulnerabilities []cycloneVuln      `json:"vulnerabilities"`
}

type cycloneMetadata struct {
	// A list of tools, or an object with components since 1.5.
	Tools     json.RawMessage  `json:"tools"`
	Component cycloneComponent `json:"component"` // what the document is about
}

type cycloneComponent struct {
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Group   string `json:"group"`
	Version string `json:"version"`
	PURL    string `json:"purl"`
	Type    string `json:"type"`
	// Components are those that are parts of this one.
	Components []cycloneComponent `json:"components"`
}

// register finds components by their refs, also in others, and counts those in the list.
func register(list []cycloneComponent, byRef map[string]cycloneComponent) (n int) {
	for _, c := range list {
		if _, known := byRef[c.Ref]; !known {
			byRef[c.Ref] = c
		}
		n += 1 + register(c.Components, byRef)
	}
	return n
}

type cycloneVuln struct {
	ID             string          `json:"id"`
	Ratings        []cycloneRating `json:"ratings"`
	Description    string          `json:"description"`
	Recommendation string          `json:"recommendation"`
	Source         struct {
		URL string `json:"url"`
	} `json:"source"`
	Affects []struct {
		Ref      string `json:"ref"`
		Versions []struct {
			Version string `json:"version"`
			Status  string `json:"status"`
		} `json:"versions"`
	} `json:"affects"`
	Analysis struct {
		State         string `json:"state"`
		Justification string `json:"justification"`
		Detail        string `json:"detail"`
	} `json:"analysis"`
}

type cycloneRating struct {
	Severity string  `json:"severity"`
	Score    float64 `json:"score"`
}

// parseCycloneDX makes a finding of each pair of vulnerability and component. What the report says
// that it is of no matter is noted with it, and does not take it away: waivers are Slipway's.
func parseCycloneDX(data []byte) (slipway.Scan, error) {
	var doc cyclone
	if err := json.Unmarshal(data, &doc); err != nil {
		return slipway.Scan{}, fmt.Errorf("is not CycloneDX: %w", err)
	}
	if doc.Vulnerabilities == nil {
		return slipway.Scan{}, fmt.Errorf("is an SBOM that lists no vulnerabilities; have the scanner include them (trivy: --scanners vuln), also when there are none")
	}
	byRef := map[string]cycloneComponent{}
	packages := register(doc.Components, byRef)
	register([]cycloneComponent{doc.Metadata.Component}, byRef)
	out := slipway.Scan{Scanner: cycloneTool(doc.Metadata.Tools), Packages: packages, Findings: []slipway.Finding{}}
	for _, v := range doc.Vulnerabilities {
		f := slipway.Finding{
			Kind: slipway.FindingVulnerability, ID: oneLine(firstOf(v.ID, "unnamed")), Severity: cycloneSeverity(v.Ratings),
			Title: oneLine(v.Description), Link: httpsOnly(v.Source.URL), Dismissed: v.dismissed(),
		}
		if len(v.Affects) == 0 {
			out.Findings = append(out.Findings, f)
		}
		for _, a := range v.Affects {
			if len(out.Findings) >= maxFindings {
				return out, fmt.Errorf("holds more than %d findings", maxFindings)
			}
			g := f
			c := byRef[a.Ref]
			g.Package, g.Version, g.Type = oneLine(firstOf(c.Name, a.Ref)), oneLine(c.Version), purlType(c.PURL)
			if c.Group != "" {
				g.Package = oneLine(c.Group + "/" + c.Name)
			}
			for _, version := range a.Versions {
				if version.Status == "unaffected" {
					g.FixedIn = oneLine(version.Version)
				}
			}
			if g.FixedIn == "" {
				g.FixedIn = recommended(v.Recommendation, c.Name)
			}
			out.Findings = append(out.Findings, g)
		}
	}
	return out, nil
}

// dismissed is why the report says that the vulnerability is of no matter: "not_affected, code_not_reachable:
// only used in tests".
func (v cycloneVuln) dismissed() string {
	a := v.Analysis
	switch a.State {
	case "false_positive", "not_affected", "resolved", "resolved_with_pedigree":
		return dismissal(a.State, a.Justification, a.Detail)
	}
	return ""
}

// cycloneSeverity is the worst of the ratings.
func cycloneSeverity(ratings []cycloneRating) slipway.Severity {
	worst := slipway.SeverityUnknown
	for i, r := range ratings {
		s := severityOf(r.Severity)
		if r.Severity == "" && r.Score > 0 {
			s = severityOfScore(r.Score)
		}
		if i == 0 || s.AtLeast(worst) {
			worst = s
		}
	}
	return worst
}

func cycloneTool(raw json.RawMessage) string {
	type tool struct{ Name, Version string }
	var list []tool
	if json.Unmarshal(raw, &list) != nil {
		var object struct {
			Components []tool `json:"components"`
		}
		if json.Unmarshal(raw, &object) != nil {
			return "CycloneDX"
		}
		list = object.Components
	}
	at := slices.IndexFunc(list, func(t tool) bool { return t.Name != "" })
	if at < 0 {
		return "CycloneDX"
	}
	return oneLine(strings.TrimSpace(list[at].Name + " " + list[at].Version))
}

// purlType is npm of pkg:npm/left-pad@1.0.0.
func purlType(purl string) string {
	rest, ok := strings.CutPrefix(purl, "pkg:")
	kind, _, cut := strings.Cut(rest, "/")
	if !ok || !cut {
		return ""
	}
	return oneLine(kind)
}

// recommended reads "Upgrade openssl to version 3.0.11; ...", as Trivy writes it.
func recommended(text, pkg string) string {
	_, rest, ok := strings.Cut(text, "Upgrade "+pkg+" to version ")
	if !ok || pkg == "" {
		return ""
	}
	version, _, _ := strings.Cut(rest, ";")
	return oneLine(version)
}

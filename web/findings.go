package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/slipway-cd/slipway"
)

// findingsPage is what a scan found.
type findingsPage struct {
	Project, Service string
	Run              slipway.Run         // zero for what is deployed
	Deployed         *slipway.Deployment // whose image was scanned; nil for a run
	Scan             *slipway.Scan
	Severity         slipway.Severity // and worse; "" for all
	Kind             slipway.FindingKind
	Text             string
	Fixable, Counts  bool // only with a fix; only what its gate does not let through
	Severities       []slipway.Severity
	Tally            []tally
	Rows             []findingRow
	Of, Fit          int // findings, and how many fit the filter
	Page             paging
}

// Filtered reports whether the page was asked for some of the findings.
func (p findingsPage) Filtered() bool {
	return p.Severity != "" || p.Kind != "" || p.Text != "" || p.Fixable || p.Counts
}

// All is the page of all findings.
func (p findingsPage) All() string {
	if p.Deployed != nil {
		return projectHref(p.Project, "services", p.Service, "findings") + "?" + url.Values{"environment": {p.Deployed.Target.Environment}}.Encode()
	}
	return evidenceHref(p.Run.ID, "findings", p.Service)
}

// findingRow is a finding with what its gate made of it.
type findingRow struct {
	slipway.Finding
	Reason *slipway.GateReason // nil: nothing
}

// tally is how many findings are of a severity.
type tally struct {
	Severity slipway.Severity
	N        int
}

// pageFindings is how many findings are on a page.
const pageFindings = 250

func severities() []slipway.Severity {
	return []slipway.Severity{slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow, slipway.SeverityNegligible}
}

// findings is the page of what the scan of a service found in a run.
func (s *server) findings(r *http.Request, by slipway.User) (string, view, error) {
	d, service, err := s.subject(r, by)
	if err != nil {
		return "", view{}, err
	}
	p := findingsPage{Project: d.Run.Project, Service: service, Run: d.Run}
	scan, err := s.Evidence.Scan(r.Context(), by, d.Run.ID, service)
	if err := unlessMissing(err); err != nil {
		return "", view{}, err
	}
	if err == nil {
		said, err := s.Evidence.Gates(r.Context(), by, slipway.GateFilter{Project: d.Run.Project, RunID: d.Run.ID, Service: service})
		if err != nil {
			return "", view{}, err
		}
		p.Scan = &scan
		p.fill(r, said)
	}
	return "findings", view{Title: "Findings of " + service, Project: d.Run.Project, Tab: "runs", Data: p}, nil
}

// deployedFindings is the page of what the newest scan found in an image that runs.
func (s *server) deployedFindings(r *http.Request, by slipway.User) (string, view, error) {
	project, service, env := r.PathValue("project"), r.PathValue("service"), r.FormValue("environment")
	d, err := s.Images.DeployedScan(r.Context(), by, project, service, env)
	if err != nil {
		return "", view{}, err
	}
	p := findingsPage{Project: project, Service: service, Deployed: &d.Deployment, Scan: d.Scan}
	if p.Scan != nil {
		p.fill(r, nil)
	}
	return "findings", view{Title: "Findings of " + service + " in " + env, Project: project, Tab: "board", Live: r.URL.RequestURI(), Data: p}, nil
}

// deployedHref is the page of what is bad in the image that runs in an environment.
func deployedHref(project, service, env string) string {
	return projectHref(project, "services", service, "findings") + "?" + url.Values{"environment": {env}, "severity": {string(slipway.SeverityHigh)}}.Encode()
}

// fill takes from the scan what was asked for.
func (p *findingsPage) fill(r *http.Request, said []slipway.GateResult) {
	p.Severity, p.Kind, p.Text = slipway.Severity(r.FormValue("severity")), slipway.FindingKind(r.FormValue("kind")), strings.TrimSpace(r.FormValue("q"))
	p.Fixable, p.Counts, p.Severities = r.FormValue("fixable") != "", r.FormValue("counts") != "", severities()
	reasons := reasonsOf(said)
	fit := p.pick(p.Scan.Findings, reasons)
	p.Of, p.Fit, p.Tally = len(p.Scan.Findings), len(fit), count(p.Scan.Findings)
	fit, p.Page = paged(r, fit, pageFindings)
	for _, f := range fit {
		p.Rows = append(p.Rows, findingRow{f, reasons[reasonKey(f)]})
	}
}

// reasonsOf are the reasons of the gates that look at scans, by what they are about; the worst where
// environments differ.
func reasonsOf(said []slipway.GateResult) map[string]*slipway.GateReason {
	out := map[string]*slipway.GateReason{}
	for _, g := range said {
		if g.Gate != slipway.GateVulnerabilities && g.Gate != slipway.GateSecrets {
			continue
		}
		for i := range g.Reasons {
			r := &g.Reasons[i]
			if old := out[r.Subject]; old == nil || badness(r.Verdict) > badness(old.Verdict) {
				out[r.Subject] = r
			}
		}
	}
	return out
}

// reasonKey is what a gate calls a finding.
func reasonKey(f slipway.Finding) string {
	about := f.Package
	if f.Kind == slipway.FindingSecret {
		about = f.Path
	}
	key := strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r) || unicode.IsControl(r):
			return ' '
		case unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, f.ID+" "+about)
	return strings.Join(strings.Fields(key), " ")
}

func (p *findingsPage) pick(all []slipway.Finding, reasons map[string]*slipway.GateReason) (out []slipway.Finding) {
	text := strings.ToLower(p.Text)
	for _, f := range all {
		r := reasons[reasonKey(f)]
		switch {
		case p.Severity != "" && !f.Severity.AtLeast(p.Severity):
		case p.Kind != "" && f.Kind != p.Kind:
		case p.Fixable && f.FixedIn == "":
		case p.Counts && (r == nil || r.Verdict == slipway.Pass):
		case text != "" && !strings.Contains(strings.ToLower(strings.Join([]string{f.ID, f.Package, f.Version, f.Path, f.Type, f.Title}, " ")), text):
		default:
			out = append(out, f)
		}
	}
	return out
}

// count counts findings by severity, worst first; what is not known is low.
func count(all []slipway.Finding) (out []tally) {
	n := map[slipway.Severity]int{}
	for _, f := range all {
		i := slices.IndexFunc(severities(), f.Severity.AtLeast)
		n[severities()[max(0, i)]]++
	}
	for _, s := range severities() {
		if n[s] > 0 {
			out = append(out, tally{s, n[s]})
		}
	}
	return out
}

// chips is how many findings the images have that run, by digest.
type chips map[string]slipway.ImageCounts

// chipOf is what is known of an image; nil when nothing is, or nothing is bad.
func chipOf(known chips, digest string) *slipway.ImageCounts {
	if c, ok := known[digest]; ok && c.Critical+c.High > 0 {
		return &c
	}
	return nil
}

// chips is what the newest scans found in the images of a project.
func (s *server) chips(ctx context.Context, by slipway.User, project string) (chips, error) {
	if s.Images == nil {
		return nil, nil
	}
	all, err := s.Images.DeployedCounts(ctx, by, project)
	out := make(chips, len(all))
	for _, c := range all {
		out[c.Digest] = c
	}
	return out, err
}

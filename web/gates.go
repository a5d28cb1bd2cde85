package web

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Evidence is what gates said, and what they saw.
type Evidence interface {
	Gates(ctx context.Context, by slipway.User, f slipway.GateFilter) ([]slipway.GateResult, error)
	Manifests(ctx context.Context, by slipway.User, run int64, service string) ([]slipway.ManifestReport, error)
	// Scan is what the scan of a service found in a run, SBOM the SPDX document that it names.
	Scan(ctx context.Context, by slipway.User, run int64, service string) (slipway.Scan, error)
	SBOM(ctx context.Context, by slipway.User, project, digest string) ([]byte, error)
}

// Waivers are what is let through gates.
type Waivers interface {
	Waivers(ctx context.Context, by slipway.User, project string) ([]slipway.Waiver, error)
	GiveWaiver(ctx context.Context, by slipway.User, w slipway.Waiver) (slipway.Waiver, error)
	WithdrawWaiver(ctx context.Context, by slipway.User, id int64) (slipway.Waiver, error)
}

// gateRow is what one gate said, as the pages show it.
type gateRow struct {
	slipway.GateResult
	Href  string // of the evidence; "" where there is no page of it
	Shown []slipway.GateReason
	More  int // reasons that are not shown
}

const mostReasons = 50 // of one gate on the page of a run

// gateList is the gates of a run: those that failed first, then those that warned.
func (s *server) gateList(r *http.Request, by slipway.User, d slipway.RunDetail, service string) ([]gateRow, error) {
	if s.Evidence == nil {
		return nil, nil
	}
	said, err := s.Evidence.Gates(r.Context(), by, slipway.GateFilter{RunID: d.Run.ID, Service: service})
	if err != nil {
		return nil, err
	}
	rows := make([]gateRow, len(said))
	for i, g := range said {
		n := min(len(g.Reasons), mostReasons)
		rows[i] = gateRow{g, evidenceHref(d, g), g.Reasons[:n], len(g.Reasons) - n}
	}
	slices.SortStableFunc(rows, func(a, b gateRow) int { return cmp.Compare(badness(b.Verdict), badness(a.Verdict)) })
	return rows, nil
}

func badness(v slipway.Verdict) int {
	return slices.Index([]slipway.Verdict{slipway.Pass, slipway.Warn, slipway.Fail}, v)
}

// evidenceHref is where the evidence of a gate is seen.
func evidenceHref(d slipway.RunDetail, g slipway.GateResult) string {
	q := url.Values{"service": {g.Service}}
	switch g.Gate {
	case slipway.GateTests, slipway.GateCoverage:
		key := slipway.StepKey(slipway.KindTest, g.Service, "")
		if slices.ContainsFunc(d.Steps, func(st slipway.Step) bool { return st.Spec.Key == key }) {
			return stepHref(d.Run.ID, key)
		}
		return ""
	case slipway.GateVulnerabilities, slipway.GateDatabase, slipway.GateSecrets:
		return fmt.Sprintf("/runs/%d/findings?%s", d.Run.ID, q.Encode())
	case slipway.GateManifests:
		if g.Environment != "" {
			q.Set("environment", g.Environment)
		}
		return fmt.Sprintf("/runs/%d/manifests?%s", d.Run.ID, q.Encode())
	}
	return stepHref(d.Run.ID, g.Step)
}

// serviceOf is the service that a page of a run is about: the one asked for, else the only one.
func serviceOf(d slipway.RunDetail, asked string) string {
	if asked != "" {
		return asked
	}
	for _, st := range d.Steps {
		if st.Spec.Service != "" {
			return st.Spec.Service
		}
	}
	return ""
}

// findingsPage is what a scan found.
type findingsPage struct {
	Run        slipway.Run
	Service    string
	Scan       *slipway.Scan
	Reused     bool
	Severity   slipway.Severity // and worse; "" for all
	Text       string
	Fixable    bool
	Severities []slipway.Severity
	Findings   []slipway.Finding
	Of, More   int
}

const mostFindings = 1000

func (s *server) findings(r *http.Request, by slipway.User) (string, view, error) {
	d, service, err := s.subject(r, by)
	if err != nil {
		return "", view{}, err
	}
	p := findingsPage{Run: d.Run, Service: service, Severity: slipway.Severity(r.FormValue("severity")), Text: strings.TrimSpace(r.FormValue("q")), Fixable: r.FormValue("fixable") != "",
		Severities: []slipway.Severity{slipway.SeverityCritical, slipway.SeverityHigh, slipway.SeverityMedium, slipway.SeverityLow, slipway.SeverityNegligible}}
	scan, err := s.Evidence.Scan(r.Context(), by, d.Run.ID, service)
	if err := unless(err, slipway.NotFound); err != nil {
		return "", view{}, err
	}
	if err == nil {
		p.Scan, p.Of = &scan, len(scan.Findings)
		p.Findings = p.pick(scan.Findings)
		if n := len(p.Findings); n > mostFindings {
			p.Findings, p.More = p.Findings[:mostFindings], n-mostFindings
		}
	}
	return "findings", view{Title: "Findings of " + service, Project: d.Run.Project, Tab: "runs", Data: p}, nil
}

func (p findingsPage) pick(all []slipway.Finding) (out []slipway.Finding) {
	text := strings.ToLower(p.Text)
	for _, f := range all {
		switch {
		case p.Severity != "" && !f.Severity.AtLeast(p.Severity):
		case p.Fixable && f.FixedIn == "":
		case text != "" && !strings.Contains(strings.ToLower(strings.Join([]string{f.ID, f.Package, f.Path, f.Type, f.Title}, " ")), text):
		default:
			out = append(out, f)
		}
	}
	return out
}

// subject is the run of a request, and the service that it asks for.
func (s *server) subject(r *http.Request, by slipway.User) (d slipway.RunDetail, service string, err error) {
	n, err := id(r, "run")
	if err != nil {
		return d, "", err
	}
	d, err = s.Reads.Run(r.Context(), by, n)
	return d, serviceOf(d, r.FormValue("service")), err
}

// document is the SPDX document of what a run scanned; NotFound when none is kept.
func (s *server) document(r *http.Request, by slipway.User, d slipway.RunDetail, service string) (slipway.Scan, []byte, error) {
	scan, err := s.Evidence.Scan(r.Context(), by, d.Run.ID, service)
	if err != nil {
		return scan, nil, err
	}
	doc, err := s.Evidence.SBOM(r.Context(), by, d.Run.Project, scan.SBOM)
	return scan, doc, err
}

// sbomPage is the packages of an image.
type sbomPage struct {
	Run      slipway.Run
	Service  string
	Digest   string
	Text     string
	Packages []sbomPackage
	Of       int
	Missing  bool
}

type sbomPackage struct{ Name, Version, License, Reference string }

const mostPackages = 5000

func (s *server) sbom(r *http.Request, by slipway.User) (string, view, error) {
	d, service, err := s.subject(r, by)
	if err != nil {
		return "", view{}, err
	}
	scan, doc, err := s.document(r, by, d, service)
	p := sbomPage{Run: d.Run, Service: service, Digest: scan.Digest, Text: strings.TrimSpace(r.FormValue("q"))}
	switch slipway.ErrorCode(err) {
	case "":
		p.Packages, p.Of, err = packagesOf(doc, p.Text)
	case slipway.NotFound:
		p.Missing, err = true, nil
	}
	return "sbom", view{Title: "Packages of " + service, Project: d.Run.Project, Tab: "runs", Data: p}, err
}

// packagesOf lists the packages of an SPDX document whose name holds the text.
func packagesOf(doc []byte, text string) (out []sbomPackage, of int, err error) {
	var spdx struct {
		Packages []struct {
			Name     string `json:"name"`
			Version  string `json:"versionInfo"`
			License  string `json:"licenseDeclared"`
			Purpose  string `json:"primaryPackagePurpose"`
			External []struct {
				Type    string `json:"referenceType"`
				Locator string `json:"referenceLocator"`
			} `json:"externalRefs"`
		} `json:"packages"`
	}
	if err := json.Unmarshal(doc, &spdx); err != nil {
		return nil, 0, fmt.Errorf("read the SBOM: %w", err)
	}
	text = strings.ToLower(text)
	for _, p := range spdx.Packages {
		if p.Purpose == "CONTAINER" || p.Purpose == "OPERATING-SYSTEM" {
			continue
		}
		of++
		row := sbomPackage{Name: p.Name, Version: p.Version, License: p.License}
		if row.License == "NOASSERTION" {
			row.License = ""
		}
		for _, x := range p.External {
			if x.Type == "purl" {
				row.Reference = x.Locator
			}
		}
		if strings.Contains(strings.ToLower(row.Name+" "+row.License), text) && len(out) < mostPackages {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b sbomPackage) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	return out, of, nil
}

// sbomFile is the SPDX document itself.
func (s *server) sbomFile(w http.ResponseWriter, r *http.Request) {
	by, ok := s.user(w, r)
	if !ok {
		return
	}
	d, service, err := s.subject(r, by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	_, doc, err := s.document(r, by, d, service)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	w.Header().Set("Content-Type", "application/spdx+json")
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.spdx.json"`, service))
	w.Write(doc) //nolint:errcheck // the reader is gone
}

// manifestsPage is what a chart renders for an environment, with what is remarkable beside it.
type manifestsPage struct {
	Run          slipway.Run
	Service      string
	Environment  string
	Environments []string
	Report       slipway.ManifestReport
	Objects      []manifestObject
	Other        []slipway.ManifestProblem // of no object that is shown
}

type manifestObject struct {
	slipway.ManifestObject
	Problems []slipway.ManifestProblem
	Lines    []manifestLine
}

type manifestLine struct {
	Text     string
	Problems []slipway.ManifestProblem
}

func (s *server) manifests(r *http.Request, by slipway.User) (string, view, error) {
	n, err := id(r, "run")
	if err != nil {
		return "", view{}, err
	}
	d, err := s.Reads.Run(r.Context(), by, n)
	if err != nil {
		return "", view{}, err
	}
	p := manifestsPage{Run: d.Run, Service: serviceOf(d, r.FormValue("service")), Environment: r.FormValue("environment")}
	reports, err := s.Evidence.Manifests(r.Context(), by, n, p.Service)
	if err != nil {
		return "", view{}, err
	}
	for i, m := range reports {
		p.Environments = append(p.Environments, m.Environment)
		if m.Environment == p.Environment || i == 0 {
			p.Report = m
		}
	}
	p.Environment = p.Report.Environment
	p.annotate()
	return "manifests", view{Title: "Manifests of " + p.Service, Project: d.Run.Project, Tab: "runs", Data: p}, nil
}

// annotate puts each problem beside its object, and where its field is found beside its line.
func (p *manifestsPage) annotate() {
	index := map[string]int{}
	for i, o := range p.Report.Objects {
		p.Objects = append(p.Objects, manifestObject{ManifestObject: o})
		index[o.Name] = i
	}
	for _, problem := range p.Report.Problems {
		i, ok := index[problem.Object]
		if !ok {
			p.Other = append(p.Other, problem)
			continue
		}
		p.Objects[i].Problems = append(p.Objects[i].Problems, problem)
	}
	for i := range p.Objects {
		o := &p.Objects[i]
		lines := bufio.NewScanner(bytes.NewReader([]byte(o.YAML)))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			o.Lines = append(o.Lines, manifestLine{Text: lines.Text()})
		}
		for _, problem := range o.Problems {
			if n := lineOf(o.Lines, problem.Path); n >= 0 {
				o.Lines[n].Problems = append(o.Lines[n].Problems, problem)
			}
		}
	}
	slices.SortStableFunc(p.Objects, func(a, b manifestObject) int { return cmp.Compare(len(b.Problems), len(a.Problems)) })
}

// lineOf is the line of a YAML text that the longest known part of a path leads to; -1 when none does.
// Elements of lists are named: containers[web].
func lineOf(lines []manifestLine, path string) int {
	at, indent := -1, -1
	for _, part := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' }) {
		key, element, _ := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		found := -1
		for i := at + 1; i < len(lines); i++ {
			text := strings.TrimLeft(lines[i].Text, " -")
			depth := len(lines[i].Text) - len(text)
			if text == "" || strings.HasPrefix(text, "#") {
				continue
			}
			if at >= 0 && depth <= indent {
				break
			}
			if strings.HasPrefix(text, key+":") {
				found, indent = i, depth
				break
			}
		}
		if found < 0 {
			return at
		}
		at = found
		if element == "" {
			continue
		}
		for i := at + 1; i < len(lines); i++ {
			text := strings.TrimLeft(lines[i].Text, " -")
			if text == "name: "+element {
				at = i
				indent = len(lines[i].Text) - len(text) - 1
				break
			}
		}
	}
	return at
}

// waiversPage is what is let through gates in a project.
type waiversPage struct {
	Holding, Over []slipway.Waiver
	Gates         []string
}

func (s *server) waivers(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	all, err := s.Waivers.Waivers(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	p := waiversPage{Gates: slipway.GateNames()}
	for _, w := range all {
		if w.Holds(s.Now()) {
			p.Holding = append(p.Holding, w)
		} else {
			p.Over = append(p.Over, w)
		}
	}
	return "waivers", view{Title: "Waivers", Project: project, Tab: "waivers", Live: r.URL.Path, Data: p}, nil
}

func (s *server) waiving() {
	s.post("/projects/{project}/waivers", func(r *http.Request, by slipway.User) (string, error) {
		project := r.PathValue("project")
		until, err := time.Parse(time.DateOnly, r.FormValue("until"))
		if err != nil {
			return "", slipway.Errorf(slipway.Invalid, "until=%q: expected a day such as 2026-12-31", r.FormValue("until"))
		}
		_, err = s.Waivers.GiveWaiver(r.Context(), by, slipway.Waiver{Project: project, Gate: r.FormValue("gate"), Subject: r.FormValue("subject"),
			Service: r.FormValue("service"), Environment: r.FormValue("environment"), Reason: r.FormValue("reason"), Expires: until})
		if back := local(r.FormValue("back")); back != "/" {
			return back, err
		}
		return projectHref(project, "waivers"), err
	})
	s.post("/waivers/{waiver}/withdraw", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "waiver")
		if err != nil {
			return "", err
		}
		w, err := s.Waivers.WithdrawWaiver(r.Context(), by, n)
		return projectHref(w.Project, "waivers"), err
	})
}

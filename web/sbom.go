package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

// subject is the run of a request, and the service that it asks for, else the first one.
func (s *server) subject(r *http.Request, by slipway.User) (d slipway.RunDetail, service string, err error) {
	n, err := id(r, "run")
	if err != nil {
		return d, "", err
	}
	d, err = s.Reads.Run(r.Context(), by, n)
	if service = r.FormValue("service"); service != "" {
		return d, service, err
	}
	for _, st := range d.Steps {
		if st.Spec.Service != "" {
			return d, st.Spec.Service, err
		}
	}
	return d, "", err
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
	Of, Fit  int // packages, and how many fit the filter
	Page     paging
	Missing  bool
}

type sbomPackage struct{ Name, Version, License, Reference string }

const pagePackages = 1000

func (s *server) sbom(r *http.Request, by slipway.User) (string, view, error) {
	d, service, err := s.subject(r, by)
	if err != nil {
		return "", view{}, err
	}
	scan, doc, err := s.document(r, by, d, service)
	p := sbomPage{Run: d.Run, Service: service, Digest: scan.Digest, Text: strings.TrimSpace(r.FormValue("q"))}
	switch slipway.ErrorCode(err) {
	case "":
		err = p.fill(r, doc)
	case slipway.NotFound:
		p.Missing, err = true, nil
	}
	return "sbom", view{Title: "Packages of " + service, Project: d.Run.Project, Tab: "runs", Data: p}, err
}

func (p *sbomPage) fill(r *http.Request, doc []byte) error {
	all, of, err := packagesOf(doc, p.Text)
	if err != nil {
		return err
	}
	p.Of, p.Fit = of, len(all)
	p.Packages, p.Page = paged(r, all, pagePackages)
	return nil
}

// packagesOf lists the packages of an SPDX document whose name, version or licence holds the text, by name, and
// counts all of them.
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
		if row.License == "NOASSERTION" || row.License == "NONE" {
			row.License = ""
		}
		for _, x := range p.External {
			if x.Type == "purl" {
				row.Reference = x.Locator
			}
		}
		if strings.Contains(strings.ToLower(row.Name+" "+row.Version+" "+row.License), text) {
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
	download(w, "application/spdx+json", service+".spdx.json")
	w.Write(doc) //nolint:errcheck // the reader is gone
}

// download makes browsers save what is sent, and show nothing of it.
func download(w http.ResponseWriter, kind, name string) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", disposition("attachment", name))
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "private, no-store")
}

// disposition names a file; a name that no header can hold is left out.
func disposition(how, name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r == '/' || r == '\\' || acts(r) {
			return '_'
		}
		return r
	}, name)
	if d := mime.FormatMediaType(how, map[string]string{"filename": name}); d != "" {
		return d
	}
	return how
}

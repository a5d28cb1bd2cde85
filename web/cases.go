package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// casePage is the tests of a name over the runs of a service: mostly one.
type casePage struct {
	Service, Name string
	Ref           string // of the runs; "" for all
	Refs          []caseRef
	Tests         []caseHistory
	Step          string // of the newest run: where its report is
}

// caseRef is a ref that can be chosen.
type caseRef struct {
	Ref, Href string
}

// caseHistory is one test with the results of the page.
type caseHistory struct {
	slipway.CaseHistory
	Rows []caseRow
	Page paging
}

// caseRow is a result with how long it took, in thousandths of the longest.
type caseRow struct {
	slipway.CaseResult
	Step  string // of the report
	Width int
	First bool // of the failures that go on
}

const (
	pageResults = 100 // of a test, on a page
	mostRefs    = 12  // to choose from
)

// caseHistory is the page of one test over the runs of its service.
func (s *server) caseHistory(r *http.Request, by slipway.User) (string, view, error) {
	f := slipway.CaseFilter{Project: r.PathValue("project"), Service: r.PathValue("service"), Ref: r.FormValue("ref"),
		Name: r.FormValue("case"), Suite: r.FormValue("suite"), Class: r.FormValue("class")}
	if f.Name == "" {
		return "", view{}, slipway.Errorf(slipway.Invalid, "case: expected the name of a test")
	}
	found, err := s.Tests.CaseHistory(r.Context(), by, f)
	if err != nil {
		return "", view{}, err
	}
	p := casePage{Service: f.Service, Name: f.Name, Ref: f.Ref, Step: slipway.StepKey(slipway.KindTest, f.Service, "")}
	p.Refs = refsOf(f, found)
	state := ""
	for _, h := range found {
		p.Tests = append(p.Tests, pageOf(r, h))
		if h.FailingSince != nil {
			state = string(slipway.TestFailed)
		}
	}
	return "case", view{Title: f.Name, State: state, Project: f.Project, Tab: "board", Live: r.URL.RequestURI(), Data: p}, nil
}

// pageOf is the page of the results of a test that a request asks for.
func pageOf(r *http.Request, h slipway.CaseHistory) caseHistory {
	out := caseHistory{CaseHistory: h}
	longest := time.Millisecond
	for _, c := range h.Results {
		if c.Duration != nil {
			longest = max(longest, *c.Duration)
		}
	}
	results, page := paged(r, h.Results, pageResults)
	for i := range results {
		row := caseRow{CaseResult: results[i], First: h.FailingSince == &results[i]}
		if row.Duration != nil {
			row.Width = max(4, int(*row.Duration*1000/longest))
		}
		out.Rows = append(out.Rows, row)
	}
	out.Page = page
	return out
}

// refsOf are the refs that the results are of, as they come, "" for all of them first.
func refsOf(f slipway.CaseFilter, found []slipway.CaseHistory) []caseRef {
	refs := []string{""}
	if f.Ref != "" {
		refs = append(refs, f.Ref)
	}
	for _, h := range found {
		for _, c := range h.Results {
			if len(refs) <= mostRefs && !slices.Contains(refs, c.Ref) {
				refs = append(refs, c.Ref)
			}
		}
	}
	if len(refs) == 2 && f.Ref == "" {
		return nil
	}
	out := make([]caseRef, len(refs))
	for i, ref := range refs {
		g := f
		g.Ref = ref
		out[i] = caseRef{ref, caseHref(g)}
	}
	return out
}

// casesOf selects the tests of a service in a run: what a fork's run says counts in its own ref only.
func casesOf(r slipway.Run, service string) slipway.CaseFilter {
	f := slipway.CaseFilter{Project: r.Project, Service: service}
	if r.Fork {
		f.Ref = r.Ref
	}
	return f
}

// caseHref is the page of a test.
func caseHref(f slipway.CaseFilter) string {
	q := url.Values{"case": {f.Name}}
	for key, v := range map[string]string{"suite": f.Suite, "class": f.Class, "ref": f.Ref} {
		if v != "" {
			q.Set(key, v)
		}
	}
	return projectHref(f.Project, "services", f.Service, "test") + "?" + q.Encode()
}

// where is in which class or suite a test is, as far as its name does not say it.
func where(suite, class, name string) string {
	in := cmp.Or(class, suite)
	if strings.HasPrefix(name, in) {
		return ""
	}
	return in
}

func branch(ref string) string {
	return visible(strings.TrimPrefix(strings.TrimPrefix(ref, "refs/heads/"), "refs/"))
}

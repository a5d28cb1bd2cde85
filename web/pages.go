package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slipway-cd/slipway"
)

func (s *server) routes() {
	s.mux.HandleFunc("GET /{$}", s.home)
	s.get("/projects", s.projects)
	s.get("/projects/{project}", s.board)
	s.get("/projects/{project}/runs", s.runs)
	s.get("/projects/{project}/pulls", s.pulls)
	s.get("/projects/{project}/releases", s.releases)
	s.get("/projects/{project}/services/{service}", s.service)
	s.get("/projects/{project}/releases/{service}/{version}", s.release)
	s.get("/runs/{run}", s.run)
	s.get("/trace", s.trace)
	if s.Evidence != nil {
		s.get("/runs/{run}/findings", s.findings)
		s.get("/runs/{run}/manifests", s.manifests)
		s.get("/runs/{run}/sbom", s.sbom)
		s.mux.HandleFunc("GET /runs/{run}/sbom.json", s.sbomFile)
		s.mux.HandleFunc("GET /runs/{run}/manifests.yaml", s.manifestsFile)
	}
	if s.Images != nil {
		s.get("/projects/{project}/services/{service}/findings", s.deployedFindings)
	}
	if s.Waivers != nil {
		s.get("/projects/{project}/waivers", s.waivers)
		s.waiving()
	}
	if s.Codebases != nil {
		s.get("/projects/{project}/codebases", s.codebases)
	}
	if s.Tests != nil {
		s.get("/projects/{project}/services/{service}/test", s.caseHistory)
		s.mux.HandleFunc("GET /runs/{run}/attachments/{digest}", s.attachment)
	}
	s.mux.HandleFunc("GET /runs/{run}/log", s.log)
	s.mux.HandleFunc("GET /live", s.live)
	s.signing()
	s.buttons()
	s.get("/", func(r *http.Request, _ slipway.User) (string, view, error) {
		return "", view{}, slipway.Errorf(slipway.NotFound, "there is no page %s", r.URL.Path)
	})
}

// home is the board where there is one project only.
func (s *server) home(w http.ResponseWriter, r *http.Request) {
	by, ok := s.user(w, r)
	if !ok {
		return
	}
	projects, err := s.Lists.Projects(r.Context(), by)
	if err != nil {
		s.fail(w, r, by, err)
		return
	}
	to := "/projects"
	if len(projects) == 1 {
		to = projectHref(projects[0].Name)
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (s *server) projects(r *http.Request, by slipway.User) (string, view, error) {
	projects, err := s.Lists.Projects(r.Context(), by)
	if err != nil {
		return "", view{}, err
	}
	type some struct {
		Runs []slipway.Run
		More bool
	}
	var data struct {
		Projects         []projectCard
		Waiting, Running some
	}
	data.Projects = s.projectCards(r, by, projects)
	for state, to := range map[slipway.RunState]*some{slipway.RunWaiting: &data.Waiting, slipway.RunRunning: &data.Running} {
		runs, err := s.Reads.Runs(r.Context(), by, slipway.RunFilter{State: state, Limit: firstRuns + 1})
		if err != nil {
			return "", view{}, err
		}
		to.Runs, to.More = runs[:min(firstRuns, len(runs))], len(runs) > firstRuns
	}
	return "projects", view{Title: "Projects", Live: r.URL.Path, Data: data}, err
}

// boardPage is a board with what on it needs a person.
type boardPage struct {
	slipway.Board
	Filter   string
	Only     bool // services that need a person
	Services int  // on the board without the filter
	Page     paging
	Waiting  []slipway.Approval
	Bad      []slipway.Deployment
	Moving   []slipway.Deployment
	Chips    chips
	Failed   []slipway.Run // newest runs of services that did not get into their environment
	Outside  []changedOutside
	Cut      []codebaseCard // codebases that are broken, or wait for a person
	Runs     []slipway.Run
	Empty    *slipway.Project // the project, when it has no service yet
}

// changedOutside is what Helm runs somewhere that Slipway did not deploy.
type changedOutside struct {
	slipway.ObservedRevision
	Service, Environment string
}

// Calm reports whether nothing on the board needs a person.
func (b boardPage) Calm() bool { return b.needing()+len(b.Moving) == 0 }

// needing is how many things of the project need a person.
func (b boardPage) needing() int {
	return len(b.Bad) + len(b.Failed) + len(b.Cut) + len(b.Outside) + len(b.Waiting)
}

// Bounds of what a board shows at once.
const (
	manyServices = 12  // from how many on they can be filtered
	pageServices = 100 // on a page
	firstNeeds   = 5   // of each kind that needs a person
	firstRuns    = 20  // of all projects that wait, and that run
)

// Filtered reports whether the board offers to filter its services.
func (b boardPage) Filtered() bool { return b.Services >= manyServices || b.Filter != "" || b.Only }

// Broken is how many codebases are broken.
func (b boardPage) Broken() (n int) {
	for _, c := range b.Cut {
		n += boolInt(c.State() == "broken")
	}
	return n
}

// Asked is how many decisions, and codebases, wait for a person.
func (b boardPage) Asked() int { return len(b.Waiting) + len(b.Cut) - b.Broken() }

// Needs is what is listed above the board: the first of each kind that needs a person.
func (b boardPage) Needs() boardPage {
	return boardPage{Bad: b.Bad[:min(firstNeeds, len(b.Bad))], Failed: b.Failed[:min(firstNeeds, len(b.Failed))], Cut: b.Cut[:min(firstNeeds, len(b.Cut))],
		Outside: b.Outside[:min(firstNeeds, len(b.Outside))], Waiting: b.Waiting[:min(firstNeeds, len(b.Waiting))]}
}

// More is how many that need a person are not listed above the board.
func (b boardPage) More() int {
	return b.needing() - b.Needs().needing()
}

// State is what of the project is worst; "" when nothing needs a person.
func (b boardPage) State() string {
	switch {
	case len(b.Bad) > 0:
		return string(slipway.Unhealthy)
	case len(b.Failed) > 0:
		return string(slipway.RunFailed)
	case b.needing() > 0:
		return string(slipway.RunWaiting)
	}
	return ""
}

func (s *server) board(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	b, err := s.Reads.Board(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	p := boardPage{Board: b, Filter: strings.TrimSpace(r.FormValue("service")), Only: r.FormValue("needs") != "", Services: len(b.Rows)}
	p.Rows = nil
	for _, row := range b.Rows {
		needs := p.note(row)
		if strings.Contains(row.Service, strings.ToLower(p.Filter)) && (needs || !p.Only) {
			p.Rows = append(p.Rows, row)
		}
	}
	p.Rows, p.Page = paged(r, p.Rows, pageServices)
	if len(b.Rows) == 0 {
		if p.Empty, err = s.project(r, by, project); err != nil {
			return "", view{}, err
		}
	}
	slices.SortStableFunc(p.Waiting, func(a, b slipway.Approval) int { return a.CreatedAt.Compare(b.CreatedAt) })
	if p.Chips, err = s.chips(r.Context(), by, project); err != nil {
		return "", view{}, err
	}
	p.Cut = s.cut(r, by, project)
	p.Runs, err = s.Reads.Runs(r.Context(), by, slipway.RunFilter{Project: project, Limit: 8})
	return "board", view{Title: project, State: p.State(), Project: project, Tab: "board", Live: r.URL.RequestURI(), Data: p}, err
}

// note keeps what of a service is not as it should be, and reports whether any of it needs a person.
func (b *boardPage) note(row slipway.BoardRow) (needs bool) {
	if r := row.LastRun; r != nil && tone(r.State) == "bad" && r.Event != slipway.BranchPush && r.Event != slipway.PullUpdate {
		needs = true
		if !slices.ContainsFunc(b.Failed, func(o slipway.Run) bool { return o.ID == r.ID }) {
			b.Failed = append(b.Failed, *r)
		}
	}
	for _, c := range row.Cells {
		if c.Approval != nil {
			needs, b.Waiting = true, append(b.Waiting, *c.Approval)
		}
		if c.Current != nil && tone(c.Current.State) == "bad" {
			needs, b.Bad = true, append(b.Bad, *c.Current)
		}
		if c.Outside != nil {
			needs, b.Outside = true, append(b.Outside, changedOutside{*c.Outside, row.Service, c.Environment})
		}
		if c.Pending != nil {
			b.Moving = append(b.Moving, *c.Pending)
		}
	}
	return needs
}

func (s *server) runs(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	f := slipway.RunFilter{Project: project, Limit: pageRuns + 1, State: slipway.RunState(r.FormValue("state")), Service: r.FormValue("service")}
	if f.State != "" && !slices.Contains(slipway.RunStates(), f.State) {
		return "", view{}, slipway.Errorf(slipway.Invalid, "state=%q: expected one of %v", f.State, slipway.RunStates())
	}
	var err error
	if f.Before, err = before(r, "run"); err != nil {
		return "", view{}, err
	}
	runs, err := s.Reads.Runs(r.Context(), by, f)
	if err != nil {
		return "", view{}, err
	}
	type choice struct {
		State slipway.RunState
		Href  string
	}
	var data struct {
		Runs    []slipway.Run
		Service string
		State   slipway.RunState
		States  []choice
		Page    ages
	}
	data.Service, data.State = f.Service, f.State
	data.Runs, data.Page = aged(r, runs, pageRuns, func(r slipway.Run) int64 { return r.ID })
	for _, state := range append([]slipway.RunState{""}, slipway.RunStates()...) {
		q := url.Values{}
		for key, value := range map[string]string{"state": string(state), "service": f.Service} {
			if value != "" {
				q.Set(key, value)
			}
		}
		data.States = append(data.States, choice{state, "?" + q.Encode()})
	}
	return "runs", view{Title: "Runs", Project: project, Tab: "runs", Live: r.URL.RequestURI(), Data: data}, nil
}

// How many runs are on a page, and how many pull requests, releases or waivers.
const (
	pageRuns = 50
	pageRows = 100
)

type pullRow struct {
	slipway.PullRequest
	Run *slipway.Run // newest of its head
}

func (s *server) pulls(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	pulls, err := s.Lists.Pulls(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	runs, err := s.Reads.Runs(r.Context(), by, slipway.RunFilter{Project: project, Limit: mostRuns})
	if err != nil {
		return "", view{}, err
	}
	byPull := map[string]*slipway.Run{}
	for i := range runs {
		if run := &runs[i]; run.Pull > 0 && byPull[slipway.PullName(run.Codebase, run.Pull)] == nil {
			byPull[slipway.PullName(run.Codebase, run.Pull)] = run
		}
	}
	mirrored, err := s.mirrored(r, by, project)
	if err != nil {
		return "", view{}, err
	}
	rows := make([]pullRow, len(pulls))
	for i, p := range pulls {
		rows[i] = pullRow{PullRequest: p}
		if run := byPull[p.Name()]; run != nil && run.Commit == p.Head {
			rows[i].Run = run
		}
	}
	slices.SortStableFunc(rows, func(a, b pullRow) int {
		return cmp.Compare(boolInt(a.State != slipway.PullOpen), boolInt(b.State != slipway.PullOpen))
	})
	rows, page := paged(r, rows, pageRows)
	for i := range rows {
		if p := &rows[i]; p.Run == nil && p.State == slipway.PullOpen && len(runs) == mostRuns {
			if p.Run, err = s.runOf(r, by, p.PullRequest); err != nil {
				return "", view{}, err
			}
		}
	}
	return "pulls", view{Title: "Pull requests", Project: project, Tab: "pulls", Live: r.URL.RequestURI(), Data: struct {
		Rows     []pullRow
		Page     paging
		Mirrored bool
	}{rows, page, mirrored}}, nil
}

// mostRuns is how many runs can be asked for at once.
const mostRuns = 200

// runOf is the newest run of the head of a pull request, however many runs there were since; nil when there is none.
func (s *server) runOf(r *http.Request, by slipway.User, p slipway.PullRequest) (*slipway.Run, error) {
	runs, err := s.Reads.Runs(r.Context(), by, slipway.RunFilter{Project: p.Project, Commit: p.Head, Limit: mostRuns})
	i := slices.IndexFunc(runs, func(run slipway.Run) bool { return run.Pull == p.Number && run.Codebase == p.Codebase })
	if i < 0 {
		return nil, err
	}
	return &runs[i], err
}

// mirrored reports whether a project's repository is kept elsewhere.
func (s *server) mirrored(r *http.Request, by slipway.User, project string) (bool, error) {
	p, err := s.project(r, by, project)
	return p != nil && p.GitURL != "", err
}

// project is one of those that the user sees; nil when it is none of them.
func (s *server) project(r *http.Request, by slipway.User, name string) (*slipway.Project, error) {
	all, err := s.Lists.Projects(r.Context(), by)
	if i := slices.IndexFunc(all, func(p slipway.Project) bool { return p.Name == name }); i >= 0 {
		return &all[i], err
	}
	return nil, err
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// releasesPage is a project's releases, newest first.
type releasesPage struct {
	Releases []slipway.Release
	Filter   string
	Page     ages
	In       map[string][]string
}

// Filtered reports whether the page offers to filter its releases.
func (p releasesPage) Filtered() bool {
	return len(p.Releases) >= manyServices || p.Filter != "" || p.Page.Newest != ""
}

func (s *server) releases(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	p := releasesPage{Filter: strings.TrimSpace(r.FormValue("service"))}
	f := slipway.ReleaseFilter{Project: project, Named: strings.ToLower(p.Filter), Limit: pageRows + 1}
	var err error
	if f.Before, err = before(r, "release"); err != nil {
		return "", view{}, err
	}
	releases, err := s.Lists.Releases(r.Context(), by, f)
	if err != nil {
		return "", view{}, err
	}
	p.Releases, p.Page = aged(r, releases, pageRows, func(r slipway.Release) int64 { return r.ID })
	b, err := s.Reads.Board(r.Context(), by, project)
	p.In = runningIn(b)
	return "releases", view{Title: "Releases", Project: project, Tab: "releases", Live: r.URL.RequestURI(), Data: p}, err
}

// runningIn says in which environments a service's version runs, by service/version.
func runningIn(b slipway.Board) map[string][]string {
	in := map[string][]string{}
	for _, row := range b.Rows {
		for _, c := range row.Cells {
			if c.Current != nil {
				key := row.Service + "/" + c.Current.Version
				in[key] = append(in[key], c.Environment)
			}
		}
	}
	return in
}

// tracePage is where an id leads.
type tracePage struct {
	Query    string
	In       string // project that it is looked for in; "" for all
	Projects []slipway.Project
	Trace    *slipway.Trace
	None     string // why there is no trace
}

func (s *server) trace(r *http.Request, by slipway.User) (string, view, error) {
	data := tracePage{Query: strings.TrimSpace(r.FormValue("q")), In: r.FormValue("project")}
	v := view{Title: "Trace", Tab: "trace", Project: data.In}
	var err error
	if data.Projects, err = s.Lists.Projects(r.Context(), by); err != nil {
		return "", view{}, err
	}
	if data.Query != "" {
		v.Title = "Trace of " + data.Query
		t, err := s.Reads.Trace(r.Context(), by, data.In, data.Query)
		switch code := slipway.ErrorCode(err); {
		case code == slipway.NotFound, code == slipway.Invalid:
			data.None, v.Project = err.Error(), ""
		case code == slipway.Conflict: // in several projects: the form asks which
			data.None = err.Error()
		case err != nil:
			return "", view{}, err
		default:
			data.Trace, v.Project = &t, t.Project
		}
	}
	if v.Project == "" && len(data.Projects) == 1 {
		v.Project = data.Projects[0].Name
	}
	v.Data = data
	return "trace", v, nil
}

func runHref(run int64) string { return fmt.Sprintf("/runs/%d", run) }

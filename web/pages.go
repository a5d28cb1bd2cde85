package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

func (s *server) routes() {
	s.get("/{$}", s.home)
	s.get("/projects/{project}", s.board)
	s.get("/projects/{project}/runs", s.runs)
	s.get("/projects/{project}/pulls", s.pulls)
	s.get("/projects/{project}/releases", s.releases)
	s.get("/projects/{project}/services/{service}", s.service)
	s.get("/projects/{project}/releases/{service}/{version}", s.release)
	s.get("/runs/{run}", s.run)
	s.get("/trace", s.trace)
	s.mux.HandleFunc("GET /runs/{run}/log", s.log)
	s.mux.HandleFunc("GET /live", s.live)
	s.signing()
	s.buttons()
	s.get("/", func(r *http.Request, _ slipway.User) (string, view, error) {
		return "", view{}, slipway.Errorf(slipway.NotFound, "there is no page %s", r.URL.Path)
	})
}

func (s *server) home(r *http.Request, by slipway.User) (string, view, error) {
	projects, err := s.Lists.Projects(r.Context(), by)
	if err != nil {
		return "", view{}, err
	}
	return "home", view{Title: "Projects", Data: projects}, nil
}

func (s *server) board(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	b, err := s.Reads.Board(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	runs, err := s.Reads.Runs(r.Context(), by, slipway.RunFilter{Project: project, Limit: 8})
	if err != nil {
		return "", view{}, err
	}
	return "board", view{Title: project, Project: project, Tab: "board", Live: r.URL.Path, Data: struct {
		Board slipway.Board
		Runs  []slipway.Run
	}{b, runs}}, nil
}

func (s *server) runs(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	f := slipway.RunFilter{Project: project, Limit: 50, State: slipway.RunState(r.FormValue("state"))}
	if b := r.FormValue("before"); b != "" {
		if _, err := fmt.Sscan(b, &f.Before); err != nil {
			return "", view{}, slipway.Errorf(slipway.Invalid, "before=%q: expected the number of a run", b)
		}
	}
	runs, err := s.Reads.Runs(r.Context(), by, f)
	if err != nil {
		return "", view{}, err
	}
	older := ""
	if len(runs) == f.Limit {
		older = "?" + url.Values{"before": {fmt.Sprint(runs[len(runs)-1].ID)}, "state": {string(f.State)}}.Encode()
	}
	return "runs", view{Title: "Runs of " + project, Project: project, Tab: "runs", Live: r.URL.RequestURI(), Data: struct {
		Runs   []slipway.Run
		Older  string
		State  slipway.RunState
		States []slipway.RunState
	}{runs, older, f.State, slipway.RunStates()}}, nil
}

func (s *server) pulls(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	pulls, err := s.Lists.Pulls(r.Context(), by, project)
	return "pulls", view{Title: "Pull requests of " + project, Project: project, Tab: "pulls", Live: r.URL.Path, Data: pulls}, err
}

func (s *server) releases(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	releases, err := s.Lists.Releases(r.Context(), by, project, "")
	return "releases", view{Title: "Releases of " + project, Project: project, Tab: "releases", Live: r.URL.Path, Data: releases}, err
}

type environmentHistory struct {
	Environment string
	Deployments []slipway.Deployment
	CanRollback bool
}

func (s *server) service(r *http.Request, by slipway.User) (string, view, error) {
	project, service := r.PathValue("project"), r.PathValue("service")
	b, err := s.Reads.Board(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	var histories []environmentHistory
	for _, env := range b.Environments {
		h, err := s.Lists.History(r.Context(), by, project, env, service)
		if err != nil {
			return "", view{}, err
		}
		histories = append(histories, environmentHistory{env, h[:min(10, len(h))], len(h) > 1})
	}
	releases, err := s.Lists.Releases(r.Context(), by, project, service)
	return "service", view{Title: service, Project: project, Tab: "board", Live: r.URL.Path, Data: struct {
		Service   string
		Histories []environmentHistory
		Releases  []slipway.Release
	}{service, histories, releases}}, err
}

func (s *server) release(r *http.Request, by slipway.User) (string, view, error) {
	project, service, version := r.PathValue("project"), r.PathValue("service"), r.PathValue("version")
	releases, err := s.Lists.Releases(r.Context(), by, project, service)
	if err != nil {
		return "", view{}, err
	}
	i := slices.IndexFunc(releases, func(x slipway.Release) bool { return x.Version == version })
	if i < 0 {
		return "", view{}, slipway.Errorf(slipway.NotFound, "%s has no release %s in project %s", service, version, project)
	}
	run, err := s.Reads.Run(r.Context(), by, releases[i].RunID)
	if err != nil {
		return "", view{}, err
	}
	trace, err := s.Reads.Trace(r.Context(), by, releases[i].ImageDigest)
	if err != nil {
		return "", view{}, err
	}
	return "release", view{Title: service + " " + version, Project: project, Tab: "releases", Live: r.URL.Path, Data: struct {
		Release slipway.Release
		Run     slipway.RunDetail
		Trace   slipway.Trace
	}{releases[i], run, trace}}, nil
}

type runView struct {
	slipway.RunDetail
	Graph    graph
	Selected *slipway.Step
	Report   *slipway.TestReport
	Log      []slipway.LogLine
	LogLive  bool
	Spent    time.Duration
}

// mostLines bounds how much of a log a page holds; the rest is one click away.
const mostLines = 2000

func (s *server) run(r *http.Request, by slipway.User) (string, view, error) {
	n, err := id(r, "run")
	if err != nil {
		return "", view{}, err
	}
	d, err := s.Reads.Run(r.Context(), by, n)
	if err != nil {
		return "", view{}, err
	}
	v := runView{RunDetail: d, Selected: chooseStep(d, r.FormValue("step"))}
	key := ""
	if v.Selected != nil {
		key = v.Selected.Spec.Key
		if v.Selected.Spec.Kind == slipway.KindTest {
			if report, err := s.Reads.Report(r.Context(), by, n, key); err == nil {
				v.Report = &report
			}
		}
		v.LogLive = !v.Selected.State.Final()
		if r.Header.Get("X-Part") == "" && v.Selected.Attempt > 0 && !v.LogLive {
			err := s.Streams.Log(r.Context(), by, n, key, false, func(l slipway.LogLine) error {
				if v.Log = append(v.Log, l); len(v.Log) > 2*mostLines {
					v.Log = slices.Clone(v.Log[len(v.Log)-mostLines:])
				}
				return nil
			})
			if err != nil && slipway.ErrorCode(err) != slipway.NotFound {
				return "", view{}, err
			}
			v.Log = v.Log[max(0, len(v.Log)-mostLines):]
		}
	}
	v.Graph = layOut(d.Steps, n, key)
	return "run", view{Title: fmt.Sprintf("Run %d", n), Project: d.Run.Project, Tab: "runs", Live: fmt.Sprintf("/runs/%d?step=%s", n, url.QueryEscape(r.FormValue("step"))), Data: v}, nil
}

// chooseStep is the step a person most likely wants to see: the one asked for, else one that failed,
// else one at work, else the last one that did something.
func chooseStep(d slipway.RunDetail, asked string) *slipway.Step {
	var failed, working, last *slipway.Step
	for i := range d.Steps {
		st := &d.Steps[i]
		switch {
		case asked != "" && st.Spec.Key == asked:
			return st
		case st.State == slipway.StepFailed || st.State == slipway.StepErrored:
			failed = st
		case st.State == slipway.StepRunning || st.State == slipway.StepRetrying:
			if working == nil {
				working = st
			}
		case st.Attempt > 0:
			last = st
		}
	}
	for _, st := range []*slipway.Step{working, failed, last} {
		if st != nil {
			return st
		}
	}
	if len(d.Steps) > 0 {
		return &d.Steps[0]
	}
	return nil
}

func (s *server) trace(r *http.Request, by slipway.User) (string, view, error) {
	q := strings.TrimSpace(r.FormValue("q"))
	data := struct {
		Query string
		Trace *slipway.Trace
		None  string
	}{Query: q}
	v := view{Title: "Trace", Tab: "trace"}
	if q != "" {
		t, err := s.Reads.Trace(r.Context(), by, q)
		switch {
		case slipway.ErrorCode(err) == slipway.NotFound:
			data.None = err.Error()
		case err != nil:
			return "", view{}, err
		default:
			data.Trace, v.Project = &t, t.Project
		}
	}
	v.Data = data
	return "trace", v, nil
}

package web

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/slipway-cd/slipway"
)

// servicePage is one service in every environment.
type servicePage struct {
	Service   string
	Histories []history
	Releases  []slipway.Release // newest
	Older     bool              // there are further releases
	Runs      []slipway.Run
	Chips     chips
}

// history is what was deployed to an environment, newest first, and what may be gone back to.
type history struct {
	Environment string
	Cell        slipway.BoardCell // what the board says of it; zero where the service is not on it
	Current     *slipway.Deployment
	Deployments []slipway.Deployment // newest
	Older       bool                 // there are further ones
	Versions    []string             // verified once, not in quarantine, not the current one
}

// State is what of the service is worst; "" when nothing of it needs a person.
func (p servicePage) State() string {
	state := ""
	for _, h := range p.Histories {
		switch {
		case h.Current != nil && tone(h.Current.State) == "bad":
			return string(h.Current.State)
		case h.Cell.Approval != nil || h.Cell.Outside != nil:
			state = string(slipway.RunWaiting)
		}
	}
	return state
}

// Bounds of what is shown of a service's past.
const (
	mostDeployments = 12
	mostReleases    = 24
)

func (s *server) service(r *http.Request, by slipway.User) (string, view, error) {
	ctx, project, service := r.Context(), r.PathValue("project"), r.PathValue("service")
	b, err := s.Reads.Board(ctx, by, project)
	if err != nil {
		return "", view{}, err
	}
	p := servicePage{Service: service}
	known := slices.ContainsFunc(b.Rows, func(row slipway.BoardRow) bool { return row.Service == service })
	if p.Releases, err = s.Lists.Releases(ctx, by, slipway.ReleaseFilter{Project: project, Service: service, Limit: mostReleases + 1}); err != nil {
		return "", view{}, err
	}
	quarantined, err := s.Lists.Releases(ctx, by, slipway.ReleaseFilter{Project: project, Service: service, Quarantined: true})
	if err != nil {
		return "", view{}, err
	}
	for _, env := range b.Environments {
		h, err := s.Lists.History(ctx, by, project, env, service)
		if err != nil {
			return "", view{}, err
		}
		known = known || len(h) > 0
		p.Histories = append(p.Histories, historyOf(env, h, quarantined))
		p.Histories[len(p.Histories)-1].Cell = cellOf(b, service, env)
	}
	if !known && len(p.Releases) == 0 {
		return "", view{}, slipway.Errorf(slipway.NotFound, "project %s has no service %q", project, service)
	}
	if len(p.Releases) > mostReleases {
		p.Releases, p.Older = p.Releases[:mostReleases], true
	}
	if p.Chips, err = s.chips(ctx, by, project); err != nil {
		return "", view{}, err
	}
	p.Runs, err = s.Reads.Runs(ctx, by, slipway.RunFilter{Project: project, Service: service, Limit: 8})
	return "service", view{Title: service, State: p.State(), Project: project, Tab: "board", Live: r.URL.Path, Data: p}, err
}

// cellOf is the cell of a board that is about a service in an environment.
func cellOf(b slipway.Board, service, env string) slipway.BoardCell {
	for _, row := range b.Rows {
		for _, c := range row.Cells {
			if row.Service == service && c.Environment == env {
				return c
			}
		}
	}
	return slipway.BoardCell{}
}

func historyOf(env string, deployments []slipway.Deployment, quarantined []slipway.Release) history {
	h := history{Environment: env, Deployments: deployments[:min(mostDeployments, len(deployments))], Older: len(deployments) > mostDeployments}
	for i, d := range deployments {
		switch d.State {
		case slipway.Deploying, slipway.Deployed, slipway.Verified, slipway.Unhealthy:
			if h.Current == nil {
				h.Current = &deployments[i]
			}
		}
	}
	for _, d := range deployments {
		good := d.State == slipway.Verified || d.State == slipway.Replaced
		bad := slices.ContainsFunc(quarantined, func(r slipway.Release) bool { return r.Version == d.Version })
		if good && !bad && h.Current != nil && d.Version != h.Current.Version && !slices.Contains(h.Versions, d.Version) {
			h.Versions = append(h.Versions, d.Version)
		}
	}
	return h
}

// releasePage is a release with its chain from commit to production.
type releasePage struct {
	Release slipway.Release
	Run     slipway.RunDetail
	Chain   []link
	Trace   slipway.Trace
	Image   string // references by digest, to be copied
	Chart   string
	Asking  []asking
	Gates   *gateList
	Proofs  []proof
	Running []running
}

// running is where the image of a release runs, with what its newest scan found that is bad.
type running struct {
	Environment string
	Chip        *slipway.ImageCounts // nil: nothing, or it is not known
	Href        string
}

// runs are the environments in which the image of the release runs now.
func (p releasePage) runs(known chips) (out []running) {
	for _, d := range p.Trace.Deployments {
		now := d.State == slipway.Deployed || d.State == slipway.Verified || d.State == slipway.Unhealthy
		if now && d.Target.Service == p.Release.Service && d.ImageDigest == p.Release.ImageDigest && !slices.ContainsFunc(out, func(o running) bool { return o.Environment == d.Target.Environment }) {
			out = append(out, running{d.Target.Environment, chipOf(known, d.ImageDigest), deployedHref(d.Target.Project, d.Target.Service, d.Target.Environment)})
		}
	}
	return out
}

// link is one part of a chain.
type link struct {
	What, Text, Href string
	State            string
	Note             string
	Time             time.Time
}

func (s *server) release(r *http.Request, by slipway.User) (string, view, error) {
	ctx, project, service, version := r.Context(), r.PathValue("project"), r.PathValue("service"), r.PathValue("version")
	releases, err := s.Lists.Releases(ctx, by, slipway.ReleaseFilter{Project: project, Service: service, Version: version})
	if err != nil {
		return "", view{}, err
	}
	if len(releases) == 0 {
		return "", view{}, slipway.Errorf(slipway.NotFound, "%s has no release %s in project %s", service, version, project)
	}
	p := releasePage{Release: releases[0]}
	version = p.Release.Version
	if p.Run, err = s.Reads.Run(ctx, by, p.Release.RunID); err != nil {
		return "", view{}, err
	}
	if p.Trace, err = s.Reads.Trace(ctx, by, project, p.Release.ImageDigest); err != nil {
		return "", view{}, err
	}
	for _, a := range p.Run.Artifacts {
		switch {
		case a.Digest == p.Release.ImageDigest && p.Image == "":
			p.Image = a.Repository + "@" + a.Digest
		case a.Digest == p.Release.ChartDigest && p.Chart == "":
			p.Chart = a.Repository + "@" + a.Digest
		}
	}
	p.Chain = chain(p.Release, p.Run)
	if p.Asking, _, err = s.asking(ctx, by, p.Run, ""); err != nil {
		return "", view{}, err
	}
	said, given, err := s.gates(r, by, p.Run, service)
	if err != nil {
		return "", view{}, err
	}
	p.Gates, p.Proofs = listGates(p.Run, said, given, projectHref(project, "releases", service, version)), proofs(p.Run, service)
	known, err := s.chips(ctx, by, project)
	if err != nil {
		return "", view{}, err
	}
	p.Running = p.runs(known)
	state := string(p.Run.Run.State)
	if p.Release.Quarantined != "" {
		state = "quarantined"
	}
	return "release", view{Title: service + " " + version, State: state, Project: project, Tab: "releases", Live: r.URL.Path, Data: p}, nil
}

// chain is the way of a release: commit, run, image, chart, and what each environment's steps say.
func chain(r slipway.Release, d slipway.RunDetail) []link {
	out := []link{
		{What: "Commit", Text: slipway.ShortHash(r.Commit), Href: "/trace?q=" + r.Commit, Note: d.Run.Title, Time: d.Run.CreatedAt},
		{What: "Run", Text: fmt.Sprintf("#%d", r.RunID), Href: runHref(r.RunID), State: string(d.Run.State), Time: d.Run.StartedAt},
		{What: "Image", Text: digest(r.ImageDigest), Href: "/trace?q=" + r.ImageDigest, Time: r.CreatedAt},
		{What: "Chart", Text: digest(r.ChartDigest), Href: "/trace?q=" + r.ChartDigest, Time: r.CreatedAt},
	}
	var envs []string
	for _, s := range d.Steps {
		if env := s.Spec.Environment; env != "" && !slices.Contains(envs, env) {
			envs = append(envs, env)
			out = append(out, in(env, d)...)
		}
	}
	return out
}

// in is what a run did in an environment: its approval, where there is one, and its deployment.
func in(env string, d slipway.RunDetail) []link {
	var out []link
	deployed := link{What: env, State: "not yet"}
	for _, a := range d.Approvals {
		if a.Environment == env {
			l := link{What: "Approval", State: string(a.State), Href: stepHref(d.Run.ID, a.Step), Time: a.DecidedAt}
			if a.State == slipway.ApprovalWaiting {
				l.Href, l.Time = "#approval", a.CreatedAt
			}
			for _, v := range a.Votes {
				l.Note = "by " + v.User + ": " + v.Reason
			}
			out = append(out, l)
		}
	}
	for _, st := range d.Steps {
		if st.Spec.Environment == env && st.Spec.Kind == slipway.KindDeploy {
			deployed.Href = stepHref(d.Run.ID, st.Spec.Key)
			if st.State == slipway.StepSkipped || st.State == slipway.StepCancelled {
				deployed.State, deployed.Note = string(st.State), st.Reason
			}
		}
	}
	for _, x := range d.Deployments {
		if x.Target.Environment == env && x.Version == d.Run.Version {
			deployed.State, deployed.Time, deployed.Note = string(x.State), x.UpdatedAt, x.Reason
			if x.Revision > 0 {
				deployed.Text = fmt.Sprintf("revision %d", x.Revision)
			}
		}
	}
	return append(out, deployed)
}

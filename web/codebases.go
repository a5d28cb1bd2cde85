package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/slipway-cd/slipway"
)

// Codebases is how the repositories of a project are connected.
type Codebases interface {
	Project(ctx context.Context, by slipway.User, project string) (slipway.ProjectDetail, error)
}

// codebasesPage is the codebases of a project: those first that need a person, then the main one.
type codebasesPage struct {
	Codebases       []codebaseCard
	Broken, Waiting int
}

// codebaseCard is a codebase, how it is connected, and what to do where that is broken.
type codebaseCard struct {
	slipway.CodebaseDetail
	ID       string // of its element
	Problems []slipway.ForgeProblem
	Connect  string // the command that connects it
}

func (s *server) codebases(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	d, err := s.Codebases.Project(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	p := codebasesPage{}
	v := view{Title: "Codebases", Project: project, Tab: "codebases", Live: r.URL.RequestURI()}
	for _, c := range append([]slipway.CodebaseDetail{d.CodebaseDetail}, d.Codebases...) {
		card := cardOf(c)
		switch card.State() {
		case "broken":
			v.State = "broken"
			p.Broken++
		case "waiting":
			p.Waiting++
		}
		p.Codebases = append(p.Codebases, card)
	}
	rank := func(c codebaseCard) int { return cmp.Or(slices.Index([]string{"broken", "waiting"}, c.State())+1, 3) }
	slices.SortStableFunc(p.Codebases, func(a, b codebaseCard) int { return cmp.Compare(rank(a), rank(b)) })
	v.Data = p
	return "codebases", v, nil
}

func cardOf(d slipway.CodebaseDetail) codebaseCard {
	c := codebaseCard{CodebaseDetail: d, ID: "codebase-" + cmp.Or(d.Codebase.Name, slipway.MainCodebase), Connect: "slipway codebase connect " + d.Codebase.Name}
	if d.Codebase.Name == "" {
		c.Connect = "slipway project connect " + d.Codebase.Project
	}
	if d.Health != nil {
		c.Problems = d.Health.Problems
	}
	known := func(message string) bool {
		for _, p := range c.Problems {
			if p.Message == message {
				return true
			}
		}
		return message == ""
	}
	if d.DeployKey != nil && !known(d.DeployKey.Problem) {
		c.Problems = append(c.Problems, slipway.ForgeProblem{Area: "fetch", Message: d.DeployKey.Problem})
	}
	if d.Poll != nil && !known(d.Poll.Problem) {
		c.Problems = append(c.Problems, slipway.ForgeProblem{Area: "poll", Message: d.Poll.Problem})
	}
	return c
}

// State says in a word how it is with the codebase.
func (c codebaseCard) State() string {
	switch {
	case len(c.Problems) > 0:
		return "broken"
	case c.Codebase.GitURL == "":
		return "hosted here"
	case c.DeployKey != nil && !c.DeployKey.Accepted:
		return "waiting"
	case c.Connection == nil:
		return "polled"
	}
	return "connected"
}

// SignsIn says with what Slipway shows itself where the repository is.
func (c codebaseCard) SignsIn() string {
	k := c.Connection
	api := "an access token, kept sealed"
	switch {
	case c.Codebase.GitURL == "":
		return ""
	case k != nil && k.Shared:
		api = "the project's token, kept sealed"
	}
	switch key := c.DeployKey != nil && c.DeployKey.Accepted; {
	case key && k != nil && k.Credential != "":
		return "git with its deploy key, the forge's API with " + api
	case key:
		return "git with its deploy key; the forge's API is not asked"
	case k != nil && k.Credential != "":
		return api
	}
	return "nothing: only what everybody may read can be fetched"
}

// Hook says who made the webhook.
func (c codebaseCard) Hook() string {
	if c.Connection != nil && len(c.Connection.HookIDs) > 0 {
		return "made by Slipway"
	}
	return "pasted by a person, or not there"
}

// Repair says what can be done about the problems.
func (c codebaseCard) Repair() string {
	k := c.Connection
	switch {
	case c.DeployKey != nil && (k == nil || k.Credential == ""):
		return "See that the public half below is on the forge and may read. Another key:"
	case k == nil:
		return "See that the address is right and answers. Connected with its forge it needs no public access:"
	case k.Shared:
		return "If it is the project's token, give the project a new one; or this codebase one of its own:"
	}
	return "If it is the token, which may have ended or have too few rights, give a new one:"
}

// Command is what repairs or connects it.
func (c codebaseCard) Command() string {
	if c.DeployKey != nil && (c.Connection == nil || c.Connection.Credential == "") {
		return c.Connect + " --deploy-key new"
	}
	return c.Connect + " --token-file FILE"
}

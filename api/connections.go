package api

import (
	"net/http"

	"github.com/slipway-cd/slipway"
)

// NewProject is the body that creates a project. With Connection it is connected with a forge as well.
type NewProject struct {
	slipway.Project
	Connection *slipway.ConnectRequest `json:"connection,omitempty"`
}

// AccountOf is the body that says whose an account of a forge is.
type AccountOf struct {
	User string `json:"user"` // "": nobody's
}

// KeyFor is the body that asks for a new deploy key. GitURL is that of a project or a codebase to come.
type KeyFor struct {
	slipway.ConnectRequest
	GitURL string `json:"gitURL,omitempty"`
}

func (s *server) connections() {
	s.handle("GET /api/v1/projects/{project}", func(r *http.Request, by slipway.User) (any, error) {
		return s.Forges.Project(r.Context(), by, r.PathValue("project"))
	})
	s.handle("POST /api/v1/projects", func(r *http.Request, by slipway.User) (any, error) {
		var p NewProject
		if err := decode(r, &p); err != nil {
			return nil, err
		}
		if p.Connection == nil {
			return s.Settings.CreateProject(r.Context(), by, p.Project)
		}
		return s.createConnected(r, by, p.Project, *p.Connection)
	})
	s.handle("PUT /api/v1/projects/{project}/connection", s.connect)
	s.handle("POST /api/v1/projects/{project}/deploy-key", s.prepareKey)
	s.handle("PUT /api/v1/projects/{project}/accounts/{account}", func(r *http.Request, by slipway.User) (any, error) {
		var a AccountOf
		if err := decode(r, &a); err != nil {
			return nil, err
		}
		return struct{}{}, s.Forges.LinkAccount(r.Context(), by, codebase(r), r.PathValue("account"), a.User)
	})
}

// connect connects the codebase of the path, the main one where it names none.
func (s *server) connect(r *http.Request, by slipway.User) (any, error) {
	var c slipway.ConnectRequest
	if err := decode(r, &c); err != nil {
		return nil, err
	}
	c.Project, c.Codebase = slipway.SplitCodebase(codebase(r))
	return s.Forges.Connect(r.Context(), by, c)
}

// prepareKey makes a deploy key for the codebase of the path, the main one where it names none.
func (s *server) prepareKey(r *http.Request, by slipway.User) (any, error) {
	var k KeyFor
	if err := decode(r, &k); err != nil {
		return nil, err
	}
	k.Project, k.Codebase = slipway.SplitCodebase(codebase(r))
	return s.Forges.PrepareKey(r.Context(), by, k.ConnectRequest, k.GitURL)
}

// createConnected asks the forge before anything is made, so that a wrong token or address leaves nothing
// behind.
func (s *server) createConnected(r *http.Request, by slipway.User, p slipway.Project, c slipway.ConnectRequest) (any, error) {
	c.Project, c.Codebase = p.Name, ""
	_, repository, err := s.Forges.Probe(r.Context(), by, c, p.GitURL)
	if err != nil {
		return nil, err
	}
	if p.DefaultBranch == "" {
		p.DefaultBranch = repository.DefaultBranch
	}
	if p, err = s.Settings.CreateProject(r.Context(), by, p); err != nil {
		return nil, err
	}
	return s.Forges.Connect(r.Context(), by, c)
}

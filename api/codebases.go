package api

import (
	"context"
	"net/http"

	"github.com/slipway-cd/slipway"
)

// Codebases are the git repositories of a project.
type Codebases interface {
	Codebases(ctx context.Context, by slipway.User, project string) ([]slipway.Codebase, error)
	// CreateCodebase adds one, and connects it with its forge: as r says, or, without r, where the
	// project's credential is for that forge.
	CreateCodebase(ctx context.Context, by slipway.User, c slipway.Codebase, r *slipway.ConnectRequest) (slipway.Connected, error)
	RemoveCodebase(ctx context.Context, by slipway.User, project, name string) (slipway.Removed, error)
}

// NewCodebase is the body that adds a codebase.
type NewCodebase struct {
	slipway.Codebase
	Connection *slipway.ConnectRequest `json:"connection,omitempty"`
}

// codebase is the key of the one that a request is about: that of its path or of its query, main for the
// main one, which it is as well where none is named.
func codebase(r *http.Request) string {
	name := r.PathValue("codebase")
	if name == "" {
		name = r.URL.Query().Get("codebase")
	}
	if name == slipway.MainCodebase {
		name = ""
	}
	return slipway.CodebaseKey(r.PathValue("project"), name)
}

func (s *server) codebases() {
	s.handle("GET /api/v1/projects/{project}/codebases", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Codebases.Codebases(r.Context(), by, r.PathValue("project")))
	})
	s.handle("POST /api/v1/projects/{project}/codebases", func(r *http.Request, by slipway.User) (any, error) {
		var c NewCodebase
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		c.Project = r.PathValue("project")
		return s.Codebases.CreateCodebase(r.Context(), by, c.Codebase, c.Connection)
	})
	s.handle("PUT /api/v1/projects/{project}/codebases/{codebase}/connection", s.connect)
	s.handle("POST /api/v1/projects/{project}/codebases/{codebase}/deploy-key", s.prepareKey)
	s.handle("DELETE /api/v1/projects/{project}/codebases/{codebase}", func(r *http.Request, by slipway.User) (any, error) {
		return s.Codebases.RemoveCodebase(r.Context(), by, r.PathValue("project"), r.PathValue("codebase"))
	})
}

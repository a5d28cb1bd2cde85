package api

import (
	"context"
	"net/http"

	"github.com/slipway-cd/slipway"
)

// Codebases are the git repositories of a project.
type Codebases interface {
	Codebases(ctx context.Context, by slipway.User, project string) ([]slipway.Codebase, error)
	CreateCodebase(ctx context.Context, by slipway.User, c slipway.Codebase) (slipway.Codebase, error)
	RemoveCodebase(ctx context.Context, by slipway.User, project, name string) error
}

func (s *server) codebases() {
	s.handle("GET /api/v1/projects/{project}/codebases", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Codebases.Codebases(r.Context(), by, r.PathValue("project")))
	})
	s.handle("POST /api/v1/projects/{project}/codebases", func(r *http.Request, by slipway.User) (any, error) {
		var c slipway.Codebase
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		c.Project = r.PathValue("project")
		return s.Codebases.CreateCodebase(r.Context(), by, c)
	})
	s.handle("DELETE /api/v1/projects/{project}/codebases/{codebase}", func(r *http.Request, by slipway.User) (any, error) {
		return struct{}{}, s.Codebases.RemoveCodebase(r.Context(), by, r.PathValue("project"), r.PathValue("codebase"))
	})
}

package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/slipway-cd/slipway"
)

func (s *server) routes() {
	s.reads()
	s.tests()
	s.gates()
	s.deliveries()
	s.settings()
	s.keys()
	s.connections()
	s.codebases()
	s.people()
	s.streams()
	s.mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, slipway.Errorf(slipway.NotFound, "%s %s: no such path or method in the API", r.Method, r.URL.Path))
	})
}

func (s *server) reads() {
	s.handle("GET /api/v1/projects/{project}/board", func(r *http.Request, by slipway.User) (any, error) {
		return s.Reads.Board(r.Context(), by, r.PathValue("project"))
	})
	s.handle("GET /api/v1/runs", func(r *http.Request, by slipway.User) (any, error) {
		f, err := runFilter(r)
		if err != nil {
			return nil, err
		}
		return list(s.Reads.Runs(r.Context(), by, f))
	})
	s.handleID("GET /api/v1/runs/{run}", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return s.Reads.Run(r.Context(), by, id)
	})
	s.handleID("GET /api/v1/runs/{run}/report", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return s.Reads.Report(r.Context(), by, id, r.URL.Query().Get("step"))
	})
	s.handle("GET /api/v1/trace", func(r *http.Request, by slipway.User) (any, error) {
		return s.Reads.Trace(r.Context(), by, r.URL.Query().Get("project"), r.URL.Query().Get("q"))
	})
	s.handle("GET /api/v1/projects/{project}/pulls", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Pulls.Pulls(r.Context(), by, r.PathValue("project")))
	})
	s.handleID("GET /api/v1/projects/{project}/pulls/{pull}", "pull", func(r *http.Request, by slipway.User, n int64) (any, error) {
		return s.Pulls.Pull(r.Context(), by, codebase(r), n)
	})
	s.handle("GET /api/v1/projects/{project}/releases", func(r *http.Request, by slipway.User) (any, error) {
		q := r.URL.Query()
		f := slipway.ReleaseFilter{Project: r.PathValue("project"), Service: q.Get("service")}
		if err := numbers(q, map[string]func(int64){
			"before": func(n int64) { f.Before = n },
			"limit":  func(n int64) { f.Limit = int(min(n, slipway.MostReleases)) },
		}); err != nil {
			return nil, err
		}
		return list(s.Pulls.Releases(r.Context(), by, f))
	})
}

func runFilter(r *http.Request) (slipway.RunFilter, error) {
	q := r.URL.Query()
	f := slipway.RunFilter{Project: q.Get("project"), Service: q.Get("service"), Ref: q.Get("ref"),
		Commit: q.Get("commit"), State: slipway.RunState(q.Get("state"))}
	if name := q.Get("codebase"); name != "" {
		if f.Project == "" {
			return f, slipway.Errorf(slipway.Invalid, "codebase=%q: say of which project=", name)
		}
		if f.Codebase = f.Project; name != slipway.MainCodebase {
			f.Codebase = slipway.CodebaseKey(f.Project, name)
		}
	}
	if err := numbers(q, map[string]func(int64){
		"before": func(n int64) { f.Before = n },
		"limit":  func(n int64) { f.Limit = int(min(n, 200)) },
	}); err != nil {
		return f, err
	}
	if f.State != "" && !slices.Contains(slipway.RunStates(), f.State) {
		return f, slipway.Errorf(slipway.Invalid, "state=%q: expected one of %v", f.State, slipway.RunStates())
	}
	return f, nil
}

// numbers reads those parameters that are there.
func numbers(q url.Values, to map[string]func(int64)) error {
	for name, set := range to {
		v := q.Get(name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 || n > 1<<53 {
			return slipway.Errorf(slipway.Invalid, "%s=%q: expected a number", name, v)
		}
		set(n)
	}
	return nil
}

// Decision is the body of an approval or a rejection.
type Decision struct {
	Reason string `json:"reason"`
}

// Review is the body that approves a pull request.
type Review struct {
	Head string `json:"head"` // the commit that was looked at, by its whole hash
}

func (s *server) deliveries() {
	for verb, approve := range map[string]bool{"approve": true, "reject": false} {
		s.handleID("POST /api/v1/approvals/{approval}/"+verb, "approval", func(r *http.Request, by slipway.User, id int64) (any, error) {
			var d Decision
			if err := decode(r, &d); err != nil {
				return nil, err
			}
			return s.Deliveries.Vote(r.Context(), by, id, approve, d.Reason)
		})
	}
	s.handleID("POST /api/v1/runs/{run}/cancel", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		var d Decision
		if err := decode(r, &d); err != nil {
			return nil, err
		}
		return s.Deliveries.CancelRun(r.Context(), by, id, d.Reason)
	})
	s.handleID("POST /api/v1/runs/{run}/retry", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return s.Deliveries.RetryRun(r.Context(), by, id)
	})
	s.handle("POST /api/v1/projects/{project}/rollback", func(r *http.Request, by slipway.User) (any, error) {
		var req slipway.RollbackRequest
		if err := decode(r, &req); err != nil {
			return nil, err
		}
		req.Project = r.PathValue("project")
		return s.Deliveries.Rollback(r.Context(), by, req)
	})
	s.handle("POST /api/v1/projects/{project}/releases/{service}/{version}/lift-quarantine", func(r *http.Request, by slipway.User) (any, error) {
		return s.Deliveries.LiftQuarantine(r.Context(), by, r.PathValue("project"), r.PathValue("service"), r.PathValue("version"))
	})
	for verb, do := range map[string]func(r *http.Request, by slipway.User, n int64) (any, error){
		"merge": func(r *http.Request, by slipway.User, n int64) (any, error) {
			return s.Reviews.Merge(r.Context(), by, codebase(r), n)
		},
		"approve": func(r *http.Request, by slipway.User, n int64) (any, error) {
			var in Review
			if err := decode(r, &in); err != nil {
				return nil, err
			}
			return s.Reviews.ReviewPull(r.Context(), by, codebase(r), n, in.Head)
		},
		"close": func(r *http.Request, by slipway.User, n int64) (any, error) {
			return s.Reviews.ClosePull(r.Context(), by, codebase(r), n)
		},
	} {
		s.handleID("POST /api/v1/projects/{project}/pulls/{pull}/"+verb, "pull", do)
	}
}

// NewUser is the body that creates a user.
type NewUser struct {
	Name  string `json:"name"`
	Admin bool   `json:"admin"`
}

// NewCluster is the body that registers a cluster.
type NewCluster struct {
	Name       string `json:"name"`
	Context    string `json:"context"`
	Kubeconfig string `json:"kubeconfig"`
}

// Secret is a new credential: shown once.
type Secret struct {
	User  string `json:"user"`
	Value string `json:"value"`
}

// Redemption trades a one-time sign-in code for a token.
type Redemption struct {
	Code string `json:"code"`
	Name string `json:"name"`
}

func (s *server) settings() {
	s.handle("GET /api/v1/whoami", func(_ *http.Request, by slipway.User) (any, error) { return by, nil })
	s.handle("GET /api/v1/projects", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Settings.Projects(r.Context(), by))
	})
	s.handle("GET /api/v1/clusters", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Settings.Clusters(r.Context(), by))
	})
	s.handle("POST /api/v1/clusters", func(r *http.Request, by slipway.User) (any, error) {
		var c NewCluster
		if err := decode(r, &c); err != nil {
			return nil, err
		}
		return s.Settings.AddCluster(r.Context(), by, c.Name, c.Context, []byte(c.Kubeconfig))
	})
	s.handle("DELETE /api/v1/clusters/{cluster}", func(r *http.Request, by slipway.User) (any, error) {
		return struct{}{}, s.Settings.RemoveCluster(r.Context(), by, r.PathValue("cluster"))
	})
	s.mux.HandleFunc("POST /api/v1/login", func(w http.ResponseWriter, r *http.Request) {
		if !s.receive(w, r, maxLogin) {
			return
		}
		var in Redemption
		err := decode(r, &in)
		if err == nil {
			var u slipway.User
			var token string
			if u, token, err = s.Identity.Redeem(r.Context(), in.Code, in.Name); err == nil {
				writeJSON(w, http.StatusOK, Secret{User: u.Name, Value: token})
				return
			}
		}
		s.fail(w, r, err)
	})
}

func (s *server) people() {
	s.handle("GET /api/v1/users", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.People.Users(r.Context(), by))
	})
	s.handle("POST /api/v1/users", func(r *http.Request, by slipway.User) (any, error) {
		var u NewUser
		if err := decode(r, &u); err != nil {
			return nil, err
		}
		return s.People.CreateUser(r.Context(), by, u.Name, u.Admin)
	})
	s.handle("DELETE /api/v1/users/{user}", func(r *http.Request, by slipway.User) (any, error) {
		return struct{}{}, s.People.RemoveUser(r.Context(), by, r.PathValue("user"))
	})
	s.handle("PUT /api/v1/projects/{project}/members/{user}", func(r *http.Request, by slipway.User) (any, error) {
		var m struct {
			Role slipway.Role `json:"role"`
		}
		if err := decode(r, &m); err != nil {
			return nil, err
		}
		return s.People.SetRole(r.Context(), by, r.PathValue("user"), r.PathValue("project"), m.Role)
	})
	s.handle("GET /api/v1/users/{user}/tokens", func(r *http.Request, by slipway.User) (any, error) {
		return list(s.Credentials.Tokens(r.Context(), by, r.PathValue("user")))
	})
	s.handleID("DELETE /api/v1/users/{user}/tokens/{token}", "token", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return struct{}{}, s.Credentials.RevokeToken(r.Context(), by, r.PathValue("user"), id)
	})
	s.handle("POST /api/v1/users/{user}/tokens", func(r *http.Request, by slipway.User) (any, error) {
		var t struct {
			Name string `json:"name"`
		}
		if err := decode(r, &t); err != nil {
			return nil, err
		}
		v, err := s.Credentials.CreateToken(r.Context(), by, r.PathValue("user"), t.Name)
		return Secret{User: r.PathValue("user"), Value: v}, err
	})
	s.handle("POST /api/v1/users/{user}/links", func(r *http.Request, by slipway.User) (any, error) {
		v, err := s.Credentials.CreateLink(r.Context(), by, r.PathValue("user"))
		return Secret{User: r.PathValue("user"), Value: v}, err
	})
}

// list makes an empty list of nil, so that clients always see [].
func list[T any](v []T, err error) (any, error) {
	if v == nil {
		v = []T{}
	}
	return v, err
}

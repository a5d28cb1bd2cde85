package web

import (
	"net/http"
	"strings"

	"github.com/slipway-cd/slipway"
)

func (s *server) buttons() {
	s.post("/approvals/{approval}", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "approval")
		if err != nil {
			return "", err
		}
		decision := r.FormValue("decision")
		if decision != "approve" && decision != "reject" {
			return "", slipway.Errorf(slipway.Invalid, "decision=%q: expected approve or reject", decision)
		}
		a, err := s.Deliveries.Vote(r.Context(), by, n, decision == "approve", r.FormValue("reason"))
		return runHref(a.RunID), err
	})
	s.post("/runs/{run}/cancel", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "run")
		if err != nil {
			return "", err
		}
		_, err = s.Deliveries.CancelRun(r.Context(), by, n, r.FormValue("reason"))
		return runHref(n), err
	})
	s.post("/runs/{run}/retry", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "run")
		if err != nil {
			return "", err
		}
		_, err = s.Deliveries.RetryRun(r.Context(), by, n)
		return runHref(n), err
	})
	s.post("/projects/{project}/rollback", func(r *http.Request, by slipway.User) (string, error) {
		run, err := s.Deliveries.Rollback(r.Context(), by, slipway.RollbackRequest{Project: r.PathValue("project"), Service: r.FormValue("service"),
			Environment: r.FormValue("environment"), To: r.FormValue("to"), Reason: r.FormValue("reason")})
		return runHref(run.ID), err
	})
	s.post("/projects/{project}/releases/{service}/{version}/lift-quarantine", func(r *http.Request, by slipway.User) (string, error) {
		project, service, version := r.PathValue("project"), r.PathValue("service"), r.PathValue("version")
		_, err := s.Deliveries.LiftQuarantine(r.Context(), by, project, service, version)
		return projectHref(project, "releases", service, version), err
	})
	if s.Pulls != nil {
		s.pull("merge", func(r *http.Request, by slipway.User, codebase string, n int64) error {
			_, err := s.Pulls.Merge(r.Context(), by, codebase, n)
			return err
		})
		s.pull("review", func(r *http.Request, by slipway.User, codebase string, n int64) error {
			_, err := s.Pulls.ReviewPull(r.Context(), by, codebase, n, r.FormValue("head"))
			return err
		})
		s.pull("close", func(r *http.Request, by slipway.User, codebase string, n int64) error {
			_, err := s.Pulls.ClosePull(r.Context(), by, codebase, n)
			return err
		})
	}
}

// pull is a button of a pull request, in the codebase of a key.
func (s *server) pull(verb string, do func(r *http.Request, by slipway.User, codebase string, number int64) error) {
	s.post("/projects/{project}/pulls/{pull}/"+verb, func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "pull")
		if err != nil {
			return "", err
		}
		return projectHref(r.PathValue("project"), "pulls"), do(r, by, slipway.CodebaseKey(r.PathValue("project"), r.FormValue("codebase")), n)
	})
}

// signing is signing in with a token or a one-time link, and out. A link is used up by the button
// behind it, not by opening it, so that a program which previews links does not use it up.
func (s *server) signing() {
	show := func(w http.ResponseWriter, r *http.Request) {
		s.render(w, r, http.StatusOK, "signin", view{Title: "Sign in", Data: struct{ Code, To, Problem string }{r.PathValue("code"), local(r.FormValue("to")), ""}})
	}
	s.mux.HandleFunc("GET /signin", show)
	s.mux.HandleFunc("GET /signin/{code}", show)
	s.mux.HandleFunc("POST /signin", func(w http.ResponseWriter, r *http.Request) {
		if err := s.form(w, r); err != nil {
			s.fail(w, r, slipway.User{}, err)
			return
		}
		code, to := r.FormValue("code"), local(r.FormValue("to"))
		session, err := s.Identity.SignIn(r.Context(), strings.TrimSpace(r.FormValue("token")), code)
		if err != nil {
			if slipway.ErrorCode(err) == slipway.Internal {
				s.fail(w, r, slipway.User{}, err)
				return
			}
			s.render(w, r, statusOf(slipway.ErrorCode(err)), "signin", view{Title: "Sign in", Data: struct{ Code, To, Problem string }{"", to, err.Error()}})
			return
		}
		http.SetCookie(w, &http.Cookie{Name: SessionCookie, Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.Secure || r.TLS != nil, MaxAge: 30 * 24 * 3600})
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
	s.mux.HandleFunc("POST /signout", func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(SessionCookie); err == nil {
			if err := s.Identity.SignOut(r.Context(), c.Value); err != nil {
				s.fail(w, r, slipway.User{}, err)
				return
			}
		}
		http.SetCookie(w, &http.Cookie{Name: SessionCookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: s.Secure || r.TLS != nil, MaxAge: -1})
		http.Redirect(w, r, "/signin", http.StatusSeeOther)
	})
}

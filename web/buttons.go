package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/slipway-cd/slipway"
)

func (s *server) buttons() {
	s.post("/approvals/{approval}", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "approval")
		if err != nil {
			return "", err
		}
		a, err := s.Deliveries.Vote(r.Context(), by, n, r.FormValue("decision") == "approve", r.FormValue("reason"))
		return fmt.Sprintf("/runs/%d", a.RunID), err
	})
	s.post("/runs/{run}/cancel", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "run")
		if err != nil {
			return "", err
		}
		_, err = s.Deliveries.CancelRun(r.Context(), by, n, r.FormValue("reason"))
		return fmt.Sprintf("/runs/%d", n), err
	})
	s.post("/runs/{run}/retry", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "run")
		if err != nil {
			return "", err
		}
		_, err = s.Deliveries.RetryRun(r.Context(), by, n)
		return fmt.Sprintf("/runs/%d", n), err
	})
	s.post("/projects/{project}/rollback", func(r *http.Request, by slipway.User) (string, error) {
		run, err := s.Deliveries.Rollback(r.Context(), by, slipway.RollbackRequest{Project: r.PathValue("project"), Service: r.FormValue("service"),
			Environment: r.FormValue("environment"), To: r.FormValue("to"), Reason: r.FormValue("reason")})
		return fmt.Sprintf("/runs/%d", run.ID), err
	})
	s.post("/projects/{project}/pulls/{pull}/merge", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "pull")
		if err != nil {
			return "", err
		}
		_, err = s.Deliveries.Merge(r.Context(), by, r.PathValue("project"), n)
		return "/projects/" + url.PathEscape(r.PathValue("project")) + "/pulls", err
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
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		code, to := r.FormValue("code"), local(r.FormValue("to"))
		session, err := s.Identity.SignIn(r.Context(), strings.TrimSpace(r.FormValue("token")), code)
		if err != nil {
			if slipway.ErrorCode(err) == slipway.Internal {
				s.fail(w, r, slipway.User{}, err)
				return
			}
			s.render(w, r, status(slipway.ErrorCode(err)), "signin", view{Title: "Sign in", Data: struct{ Code, To, Problem string }{"", to, err.Error()}})
			return
		}
		http.SetCookie(w, &http.Cookie{Name: SessionCookie, Value: session, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil, MaxAge: 30 * 24 * 3600})
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
	s.mux.HandleFunc("POST /signout", func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(SessionCookie); err == nil {
			if err := s.Identity.SignOut(r.Context(), c.Value); err != nil {
				s.fail(w, r, slipway.User{}, err)
				return
			}
		}
		http.SetCookie(w, &http.Cookie{Name: SessionCookie, Path: "/", MaxAge: -1})
		http.Redirect(w, r, "/signin", http.StatusSeeOther)
	})
}

// local is to when it is a path of this server, else the first page.
func local(to string) string {
	if !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.Contains(to, "\\") {
		return "/"
	}
	return to
}

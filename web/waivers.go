package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Waivers is what is let through gates.
type Waivers interface {
	Waivers(ctx context.Context, by slipway.User, project string) ([]slipway.Waiver, error)
	GiveWaiver(ctx context.Context, by slipway.User, w slipway.Waiver) (slipway.Waiver, error)
	WithdrawWaiver(ctx context.Context, by slipway.User, id int64) (slipway.Waiver, error)
}

// mostOver bounds how many waivers are listed that hold no longer.
const mostOver = 200

// waiversPage is what is let through gates in a project, with a form that may be filled in already.
type waiversPage struct {
	Holding, Over []slipway.Waiver
	More          int // that hold no longer and are not listed
	Gates         []string
	Asked         slipway.Waiver
	Back          string
	First, Last   time.Time // days until which a waiver may hold
}

// Open reports whether somebody came to waive something.
func (p waiversPage) Open() bool { return p.Asked.Gate != "" || p.Asked.Subject != "" }

func (s *server) waivers(r *http.Request, by slipway.User) (string, view, error) {
	project := r.PathValue("project")
	all, err := s.Waivers.Waivers(r.Context(), by, project)
	if err != nil {
		return "", view{}, err
	}
	now := s.Now().UTC()
	p := waiversPage{Gates: slipway.GateNames(), First: now.AddDate(0, 0, 1), Last: now.AddDate(1, 0, 0), Back: local(r.FormValue("back")),
		Asked: slipway.Waiver{Gate: r.FormValue("gate"), Subject: r.FormValue("subject"), Service: r.FormValue("service"), Environment: r.FormValue("environment")}}
	for _, w := range all {
		switch {
		case w.Holds(now):
			p.Holding = append(p.Holding, w)
		case len(p.Over) < mostOver:
			p.Over = append(p.Over, w)
		default:
			p.More++
		}
	}
	slices.SortStableFunc(p.Holding, func(a, b slipway.Waiver) int { return a.Expires.Compare(b.Expires) })
	return "waivers", view{Title: "Waivers", Project: project, Tab: "waivers", Live: r.URL.RequestURI(), Data: p}, nil
}

func (s *server) waiving() {
	s.post("/projects/{project}/waivers", func(r *http.Request, by slipway.User) (string, error) {
		project := r.PathValue("project")
		until, err := time.Parse(time.DateOnly, r.FormValue("until"))
		if err != nil {
			return "", slipway.Errorf(slipway.Invalid, "until=%q: expected a day such as 2026-12-31", r.FormValue("until"))
		}
		_, err = s.Waivers.GiveWaiver(r.Context(), by, slipway.Waiver{Project: project, Gate: strings.TrimSpace(r.FormValue("gate")), Subject: r.FormValue("subject"),
			Service: strings.TrimSpace(r.FormValue("service")), Environment: strings.TrimSpace(r.FormValue("environment")), Reason: r.FormValue("reason"), Expires: until})
		if back := local(r.FormValue("back")); back != "/" {
			return back + "#gates", err
		}
		return projectHref(project, "waivers"), err
	})
	s.post("/waivers/{waiver}/withdraw", func(r *http.Request, by slipway.User) (string, error) {
		n, err := id(r, "waiver")
		if err != nil {
			return "", err
		}
		w, err := s.Waivers.WithdrawWaiver(r.Context(), by, n)
		return projectHref(w.Project, "waivers"), err
	})
}

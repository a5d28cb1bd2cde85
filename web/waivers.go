package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Waivers is what is let through gates.
type Waivers interface {
	// Waivers lists all that hold, then of those that do not hold any more as many as the filter wants.
	Waivers(ctx context.Context, by slipway.User, f slipway.WaiverFilter) ([]slipway.Waiver, error)
	GiveWaiver(ctx context.Context, by slipway.User, w slipway.Waiver) (slipway.Waiver, error)
	WithdrawWaiver(ctx context.Context, by slipway.User, id int64) (slipway.Waiver, error)
}

// pageOver is how many waivers that hold no longer are on a page.
const pageOver = 100

// waiversPage is what is let through gates in a project, with a form that may be filled in already.
type waiversPage struct {
	Holding, Over []slipway.Waiver
	Page          paging // of those that hold
	Past          bool   // a page of those that hold no longer
	Older         string // query of the page of the older ones
	Gates         []string
	Services      []string // to choose from
	Environments  []string
	Asked         slipway.Waiver
	Back          string
	First, Last   time.Time // days until which a waiver may hold
}

// Open reports whether somebody came to waive something.
func (p waiversPage) Open() bool { return p.Asked.Gate != "" || p.Asked.Subject != "" }

func (s *server) waivers(r *http.Request, by slipway.User) (string, view, error) {
	f := slipway.WaiverFilter{Project: r.PathValue("project"), Limit: pageOver}
	var err error
	if f.Before, err = before(r, "waiver"); err != nil {
		return "", view{}, err
	}
	all, err := s.Waivers.Waivers(r.Context(), by, f)
	if err != nil {
		return "", view{}, err
	}
	now := s.Now().UTC()
	p := waiversPage{Past: f.Before > 0, Gates: slipway.GateNames(), First: now.AddDate(0, 0, 1), Last: now.AddDate(1, 0, 0), Back: local(r.FormValue("back")),
		Asked: slipway.Waiver{Gate: r.FormValue("gate"), Subject: r.FormValue("subject"), Service: r.FormValue("service"), Environment: r.FormValue("environment")}}
	given := 0
	for _, w := range all {
		if w.Holds(now) {
			p.Holding = append(p.Holding, w)
			continue
		}
		p.Over = append(p.Over, w)
		if w.ID > 0 {
			given++
		}
	}
	if given >= pageOver {
		p.Older = "?before=" + strconv.FormatInt(p.Over[len(p.Over)-1].ID, 10)
	}
	if !p.Past && s.rights(by, f.Project).Waive {
		b, err := s.Reads.Board(r.Context(), by, f.Project)
		if err != nil {
			return "", view{}, err
		}
		p.Environments = b.Environments
		for _, row := range b.Rows {
			p.Services = append(p.Services, row.Service)
		}
	}
	slices.SortStableFunc(p.Holding, func(a, b slipway.Waiver) int { return a.Expires.Compare(b.Expires) })
	p.Holding, p.Page = paged(r, p.Holding, pageRows)
	return "waivers", view{Title: "Waivers", Project: f.Project, Tab: "waivers", Live: r.URL.RequestURI(), Data: p}, nil
}

func (s *server) waiving() {
	form := func(r *http.Request) string {
		q := url.Values{}
		for _, field := range []string{"gate", "subject", "service", "environment"} {
			q.Set(field, r.FormValue(field))
		}
		if to := back(r); to != "/" {
			q.Set("back", to)
		}
		return projectHref(r.PathValue("project"), "waivers") + "?" + q.Encode()
	}
	s.posted("/projects/{project}/waivers", form, func(r *http.Request, by slipway.User) (string, error) {
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

// Package web is Slipway's UI: pages rendered on the server that work without JavaScript, with a
// small script that keeps them live. It decides nothing; who may do what is asked of what it calls.
package web

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Reads answers what the pages show.
type Reads interface {
	Board(ctx context.Context, by slipway.User, project string) (slipway.Board, error)
	Runs(ctx context.Context, by slipway.User, f slipway.RunFilter) ([]slipway.Run, error)
	Run(ctx context.Context, by slipway.User, id int64) (slipway.RunDetail, error)
	Trace(ctx context.Context, by slipway.User, query string) (slipway.Trace, error)
	Report(ctx context.Context, by slipway.User, run int64, step string) (slipway.TestReport, error)
}

// Lists are what people choose from.
type Lists interface {
	Projects(ctx context.Context, by slipway.User) ([]slipway.Project, error)
	Pulls(ctx context.Context, by slipway.User, project string) ([]slipway.PullRequest, error)
	Releases(ctx context.Context, by slipway.User, project, service string) ([]slipway.Release, error)
	History(ctx context.Context, by slipway.User, project, environment, service string) ([]slipway.Deployment, error)
}

// Deliveries are the buttons.
type Deliveries interface {
	Vote(ctx context.Context, by slipway.User, approval int64, approve bool, reason string) (slipway.Approval, error)
	CancelRun(ctx context.Context, by slipway.User, run int64, reason string) (slipway.Run, error)
	RetryRun(ctx context.Context, by slipway.User, run int64) (slipway.Run, error)
	Rollback(ctx context.Context, by slipway.User, r slipway.RollbackRequest) (slipway.Run, error)
	Merge(ctx context.Context, by slipway.User, project string, number int64) (slipway.PullRequest, error)
}

// Streams gives what goes on while it goes on.
type Streams interface {
	Log(ctx context.Context, by slipway.User, run int64, step string, follow bool, line func(slipway.LogLine) error) error
	Events(ctx context.Context, by slipway.User, project string, after int64) ([]slipway.Event, int64, error)
	Changed() (<-chan struct{}, func())
}

// Identity signs people in and out.
type Identity interface {
	Identify(r *http.Request) (slipway.User, error)
	// SignIn makes a session of a token, or of a one-time code, which is used up.
	SignIn(ctx context.Context, token, code string) (session string, err error)
	SignOut(ctx context.Context, session string) error
}

// Options is what the UI calls.
type Options struct {
	Reads      Reads
	Lists      Lists
	Deliveries Deliveries
	Streams    Streams
	Identity   Identity
	Log        *slog.Logger
	Now        func() time.Time
}

// SessionCookie is the cookie that holds a session.
const SessionCookie = "slipway_session"

//go:embed templates assets
var files embed.FS

type server struct {
	Options
	mux   *http.ServeMux
	pages map[string]*template.Template
}

// New returns the handler of every page. Forms of other sites are refused
// (http.CrossOriginProtection), and pages load nothing from elsewhere.
func New(o Options) (http.Handler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &server{Options: o, mux: http.NewServeMux()}
	var err error
	if s.pages, err = s.parse(); err != nil {
		return nil, err
	}
	assets, err := fs.Sub(files, "assets")
	if err != nil {
		return nil, err
	}
	s.mux.Handle("GET /assets/", http.StripPrefix("/assets/", cached(http.FileServerFS(assets))))
	s.routes()
	return http.NewCrossOriginProtection().Handler(secured(s.mux)), nil
}

func cached(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		h.ServeHTTP(w, r)
	})
}

func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		h.ServeHTTP(w, r)
	})
}

func (s *server) parse() (map[string]*template.Template, error) {
	base, err := template.New("layout.html").Funcs(s.funcs()).ParseFS(files, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		page := strings.TrimSuffix(strings.TrimPrefix(name, "templates/"), ".html")
		if page == "layout" || page == "parts" {
			continue
		}
		t, err := template.Must(base.Clone()).ParseFS(files, name)
		if err != nil {
			return nil, err
		}
		pages[page] = t
	}
	return pages, nil
}

// view is what every page is given.
type view struct {
	Title   string
	Project string // "" on pages of no project
	Tab     string
	User    slipway.User
	Live    string // where the page's live part is fetched from again; "" for pages that do not change
	Cursor  int64  // last event that the page knows
	Data    any
}

// page answers a signed-in user's GET.
type page func(r *http.Request, by slipway.User) (name string, v view, err error)

func (s *server) get(pattern string, p page) {
	s.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
		by, ok := s.user(w, r)
		if !ok {
			return
		}
		name, v, err := p(r, by)
		if err != nil {
			s.fail(w, r, by, err)
			return
		}
		v.User = by
		s.render(w, r, http.StatusOK, name, v)
	})
}

// post does something for a signed-in user and sends them to where it is seen.
func (s *server) post(pattern string, do func(r *http.Request, by slipway.User) (to string, err error)) {
	s.mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		by, ok := s.user(w, r)
		if !ok {
			return
		}
		to, err := do(r, by)
		if err != nil {
			s.fail(w, r, by, err)
			return
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
}

func (s *server) user(w http.ResponseWriter, r *http.Request) (slipway.User, bool) {
	by, err := s.Identity.Identify(r)
	if err == nil && by.Name != "" {
		return by, true
	}
	if err != nil && slipway.ErrorCode(err) == slipway.Internal {
		s.fail(w, r, slipway.User{}, err)
		return by, false
	}
	http.Redirect(w, r, "/signin?to="+template.URLQueryEscaper(r.URL.RequestURI()), http.StatusSeeOther)
	return by, false
}

func (s *server) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	part := "layout.html"
	if r.Header.Get("X-Part") == "live" {
		part = "live"
	}
	var b bytes.Buffer
	if err := s.pages[name].ExecuteTemplate(&b, part, v); err != nil {
		s.Log.ErrorContext(r.Context(), "render page", "page", name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(b.Bytes()) //nolint:errcheck // the reader is gone
}

type failure struct {
	Status  int
	Message string
	Back    string
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, by slipway.User, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return
	}
	f := failure{Status: status(slipway.ErrorCode(err)), Message: err.Error()}
	if f.Status == http.StatusInternalServerError {
		s.Log.ErrorContext(r.Context(), "page", "path", r.URL.Path, "error", err)
		f.Message = "Something went wrong inside Slipway. The server's log has the details."
	}
	if r.Method == http.MethodPost {
		f.Back = r.FormValue("back")
		if !strings.HasPrefix(f.Back, "/") || strings.HasPrefix(f.Back, "//") {
			f.Back = "/"
		}
	}
	s.render(w, r, f.Status, "error", view{Title: http.StatusText(f.Status), User: by, Data: f})
}

func status(c slipway.Code) int {
	switch c {
	case slipway.Invalid:
		return http.StatusUnprocessableEntity
	case slipway.Unauthorized:
		return http.StatusUnauthorized
	case slipway.Forbidden:
		return http.StatusForbidden
	case slipway.NotFound:
		return http.StatusNotFound
	case slipway.Conflict:
		return http.StatusConflict
	case slipway.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

func id(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n <= 0 {
		return 0, slipway.Errorf(slipway.NotFound, "there is no %s %q", name, r.PathValue(name))
	}
	return n, nil
}

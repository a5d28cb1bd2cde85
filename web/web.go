// Package web is Slipway's UI: pages rendered on the server that work without JavaScript, with a
// small script that keeps them live. It decides nothing; who may do what is asked of what it calls.
package web

import (
	"context"
	"embed"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
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
	// Trace follows an id within a project; with project "" it is a Conflict when several know it.
	Trace(ctx context.Context, by slipway.User, project, query string) (slipway.Trace, error)
	Report(ctx context.Context, by slipway.User, run int64, step string) (slipway.TestReport, error)
}

// Lists are what people choose from.
type Lists interface {
	Projects(ctx context.Context, by slipway.User) ([]slipway.Project, error)
	Pulls(ctx context.Context, by slipway.User, project string) ([]slipway.PullRequest, error)
	Releases(ctx context.Context, by slipway.User, f slipway.ReleaseFilter) ([]slipway.Release, error)
	History(ctx context.Context, by slipway.User, project, environment, service string) ([]slipway.Deployment, error)
}

// Deliveries are the buttons.
type Deliveries interface {
	Vote(ctx context.Context, by slipway.User, approval int64, approve bool, reason string) (slipway.Approval, error)
	CancelRun(ctx context.Context, by slipway.User, run int64, reason string) (slipway.Run, error)
	RetryRun(ctx context.Context, by slipway.User, run int64) (slipway.Run, error)
	Rollback(ctx context.Context, by slipway.User, r slipway.RollbackRequest) (slipway.Run, error)
	LiftQuarantine(ctx context.Context, by slipway.User, project, service, version string) (slipway.Release, error)
}

// Pulls are the buttons of pull requests, by the keys of their codebases.
type Pulls interface {
	Merge(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error)
	// ReviewPull approves the head that was looked at; a Conflict when it moved since.
	ReviewPull(ctx context.Context, by slipway.User, codebase string, number int64, head string) (slipway.PullRequest, error)
	ClosePull(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error)
}

// Streams gives what goes on while it goes on.
type Streams interface {
	Log(ctx context.Context, by slipway.User, run int64, step string, follow bool, line func(slipway.LogLine) error) error
	Events(ctx context.Context, by slipway.User, project string, after int64) ([]slipway.Event, int64, error)
	Changed() (<-chan struct{}, func())
	// Enter counts a stream of the user until leave; one too many at once is TooMany.
	Enter(by slipway.User) (leave func(), err error)
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
	Pulls      Pulls     // nil: pull requests are shown without buttons
	Evidence   Evidence  // nil: pages show no gates
	Images     Images    // nil: nothing is said of the images that run
	Waivers    Waivers   // nil: there is no page of waivers
	Codebases  Codebases // nil: there is no page of codebases
	Tests      Tests     // nil: files that tests left cannot be opened, coverage is not compared, tests have no history
	Streams    Streams
	Identity   Identity
	// May says whether a button is shown to a user; action is a word of auth.Action. Whoever presses
	// one all the same is asked by what it calls. nil: every button is shown.
	May func(by slipway.User, action, project string) bool
	// Secure marks cookies so that browsers send them by https only; set it when people reach the
	// server by https, through a proxy too.
	Secure bool
	Log    *slog.Logger
	Now    func() time.Time
}

// SessionCookie is the cookie that holds a session.
const SessionCookie = "slipway_session"

//go:embed templates assets
var files embed.FS

type server struct {
	Options
	mux    *http.ServeMux
	pages  map[string]*template.Template
	assets map[string]string // name -> path with the version of its content
	shown  map[string]bool   // patterns that get answers with pages

	refusals refusals
}

// New returns the handler of every page. Forms of other sites are refused
// (http.CrossOriginProtection), and pages load nothing from elsewhere.
func New(o Options) (http.Handler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{Options: o, mux: http.NewServeMux(), shown: map[string]bool{}}
	if err := s.serveAssets(); err != nil {
		return nil, err
	}
	var err error
	if s.pages, err = s.parse(); err != nil {
		return nil, err
	}
	s.routes()
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, slipway.User{}, slipway.Errorf(slipway.Forbidden, "this form was sent from another site: open the page in Slipway and press the button there"))
	}))
	return secured(guard.Handler(s.mux)), nil
}

func secured(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "same-origin")
		head.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.ServeHTTP(w, r)
	})
}

func (s *server) parse() (map[string]*template.Template, error) {
	base, err := template.New("layout.html").Funcs(s.funcs()).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/log.html", "templates/report.html")
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
		if base.Lookup(page+".html") != nil {
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
	Title     string
	State     string // of what the page is about: its sign stands in the tab's title
	Project   string // "" on pages of no project
	Tab       string
	User      slipway.User
	Can       rights
	Live      string // where the page's live part is fetched from again; "" for pages that do not change
	Run       int64  // only events of this run change the page; 0: every one of the project
	Waivers   bool   // there is a page of them
	Codebases bool   // there is a page of codebases
	Cursor    int64  // last event that the page knows
	Origin    string // of this server, as the browser reached it
	Refused   *refused
	Data      any
	Body      template.HTML // the live part, once it is made
}

// Elsewhere reports whether a form was refused that this page does not have.
func (v view) Elsewhere() bool { return v.Refused != nil && !v.Refused.found }

// Head is the title of the browser's tab.
func (v view) Head() string {
	head := v.Title
	if v.State != "" {
		head = mark(v.State) + " " + head + " " + v.State
	}
	if v.Project != "" && v.Project != v.Title {
		head += " · " + v.Project
	}
	return visible(head) + " · Slipway"
}

// rights says which buttons a user is shown in a project.
type rights struct{ Approve, Cancel, Retry, Rollback, Merge, Review, Close, Waive bool }

func (s *server) rights(by slipway.User, project string) rights {
	may := s.May
	if may == nil {
		may = func(slipway.User, string, string) bool { return true }
	}
	return rights{
		Approve: may(by, "approve", project), Cancel: may(by, "cancel-run", project), Retry: may(by, "retry-run", project), Rollback: may(by, "rollback", project),
		Merge: s.Pulls != nil && may(by, "merge", project), Review: s.Pulls != nil && may(by, "review-pull", project),
		Close: s.Pulls != nil && may(by, "close-pull", project),
		Waive: s.Waivers != nil && may(by, "waive", project),
	}
}

// page answers a signed-in user's GET.
type page func(r *http.Request, by slipway.User) (name string, v view, err error)

// newest stands for an event that has not happened: reading after it gives the newest cursor.
const newest = 1 << 62

func (s *server) get(pattern string, p page) {
	s.shown["GET "+pattern] = true
	s.mux.HandleFunc("GET "+pattern, func(w http.ResponseWriter, r *http.Request) {
		by, ok := s.user(w, r)
		if !ok {
			return
		}
		_, cursor, err := s.Streams.Events(r.Context(), by, "", newest)
		var name string
		var v view
		if err == nil {
			name, v, err = p(r, by)
		}
		again := s.refusals.of(by, r.FormValue(refusedParameter), s.Now())
		switch {
		case err != nil && again != nil: // why the form was not taken matters more than that its page is gone
			s.fail(w, r, by, again.err)
			return
		case err != nil:
			s.fail(w, r, by, err)
			return
		case again != nil && v.Live != "":
			v.Live = r.URL.RequestURI() // what was typed is in this page only
		}
		v.Refused = again
		v.User, v.Cursor, v.Can, v.Origin, v.Waivers, v.Codebases = by, cursor, s.rights(by, v.Project), s.origin(r), s.Waivers != nil, s.Codebases != nil
		s.render(w, r, http.StatusOK, name, v)
	})
}

func (s *server) origin(r *http.Request) string {
	if s.Secure || r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// post does something for a signed-in user and sends them to where it is seen. When it is not done, they
// are sent back to the form's page, which says why.
func (s *server) post(pattern string, do func(r *http.Request, by slipway.User) (to string, err error)) {
	s.posted(pattern, back, do)
}

// posted is post for a form whose page is not what it names as such: page says which it is.
func (s *server) posted(pattern string, page func(r *http.Request) string, do func(r *http.Request, by slipway.User) (to string, err error)) {
	s.mux.HandleFunc("POST "+pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := s.form(w, r); err != nil {
			s.fail(w, r, slipway.User{}, err)
			return
		}
		by, ok := s.sender(w, r, page)
		if !ok {
			return
		}
		to, err := do(r, by)
		if err != nil && slipway.ErrorCode(err).HTTPStatus() != http.StatusInternalServerError {
			if to = s.again(r, by, page(r), err); to != "" {
				err = nil
			}
		}
		if err != nil {
			s.fail(w, r, by, err)
			return
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	})
}

// form reads the form that was sent, which must be small and arrive in time.
func (s *server) form(w http.ResponseWriter, r *http.Request) error {
	rc := http.NewResponseController(w)
	late := time.AfterFunc(formTimeout, func() {
		rc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // not every writer has one
	})
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	err := r.ParseForm()
	if !late.Stop() && err == nil {
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "read the form: %w", err)
	}
	return nil
}

const formTimeout = 30 * time.Second

// user is who asks; whoever is not signed in is sent to where they can, and from there back to where
// they were.
func (s *server) user(w http.ResponseWriter, r *http.Request) (slipway.User, bool) {
	return s.signed(w, r, func() string { return r.URL.RequestURI() })
}

// sender is user for a form: what was typed into it is there again after signing in.
func (s *server) sender(w http.ResponseWriter, r *http.Request, page func(r *http.Request) string) (slipway.User, bool) {
	return s.signed(w, r, func() string {
		if to := s.again(r, slipway.User{}, page(r), slipway.Errorf(slipway.Unauthorized, "you were not signed in any more, so nothing was done: what you typed is here, send it again")); to != "" {
			return to
		}
		return back(r)
	})
}

func (s *server) signed(w http.ResponseWriter, r *http.Request, then func() string) (slipway.User, bool) {
	by, err := s.Identity.Identify(r)
	if err == nil && by.Name != "" {
		return by, true
	}
	if err != nil && slipway.ErrorCode(err) != slipway.Unauthorized {
		s.fail(w, r, slipway.User{}, err)
		return by, false
	}
	http.Redirect(w, r, "/signin?to="+template.URLQueryEscaper(then()), http.StatusSeeOther)
	return by, false
}

func id(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(r.PathValue(name), 10, 64)
	if err != nil || n <= 0 {
		return 0, slipway.Errorf(slipway.NotFound, "there is no %s %q", name, r.PathValue(name))
	}
	return n, nil
}

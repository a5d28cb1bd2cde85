// Package api is Slipway's JSON API over HTTP: requests to actions, errors to status codes, events
// and logs as streams. It decides nothing; who may do what is asked of what it calls.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// Reads answers questions about runs and deployments, for a user.
type Reads interface {
	Board(ctx context.Context, by slipway.User, project string) (slipway.Board, error)
	Runs(ctx context.Context, by slipway.User, f slipway.RunFilter) ([]slipway.Run, error)
	Run(ctx context.Context, by slipway.User, id int64) (slipway.RunDetail, error)
	// Trace follows an id within a project; with project "" it is a Conflict when several know it.
	Trace(ctx context.Context, by slipway.User, project, query string) (slipway.Trace, error)
	Report(ctx context.Context, by slipway.User, run int64, step string) (slipway.TestReport, error)
}

// Streams gives what goes on while it goes on.
type Streams interface {
	// Log calls line for each line of a step's log, newest attempt; with follow until the step ends.
	Log(ctx context.Context, by slipway.User, run int64, step string, follow bool, line func(slipway.LogLine) error) error
	// Events returns the events after a cursor that the user may see, and the next cursor: the newest
	// event for a cursor beyond it.
	Events(ctx context.Context, by slipway.User, project string, after int64) ([]slipway.Event, int64, error)
	// Changed is closed or signalled when there may be new events.
	Changed() (<-chan struct{}, func())
	// Enter counts a stream of the user until leave; one too many at once is TooMany.
	Enter(by slipway.User) (leave func(), err error)
}

// Deliveries are the things a person does to runs and deployments.
type Deliveries interface {
	Vote(ctx context.Context, by slipway.User, approval int64, approve bool, reason string) (slipway.Approval, error)
	CancelRun(ctx context.Context, by slipway.User, run int64, reason string) (slipway.Run, error)
	RetryRun(ctx context.Context, by slipway.User, run int64) (slipway.Run, error)
	Rollback(ctx context.Context, by slipway.User, r slipway.RollbackRequest) (slipway.Run, error)
	LiftQuarantine(ctx context.Context, by slipway.User, project, service, version string) (slipway.Release, error)
}

// Pulls are pull requests, by the keys of their codebases, and releases.
type Pulls interface {
	Pulls(ctx context.Context, by slipway.User, project string) ([]slipway.PullRequest, error)
	Pull(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error)
	Releases(ctx context.Context, by slipway.User, f slipway.ReleaseFilter) ([]slipway.Release, error)
}

// Reviews are what a person does to pull requests, by the keys of their codebases.
type Reviews interface {
	Merge(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error)
	// ReviewPull approves the head that was looked at; a Conflict when it moved since.
	ReviewPull(ctx context.Context, by slipway.User, codebase string, number int64, head string) (slipway.PullRequest, error)
	ClosePull(ctx context.Context, by slipway.User, codebase string, number int64) (slipway.PullRequest, error)
}

// Settings are what an admin keeps.
type Settings interface {
	Projects(ctx context.Context, by slipway.User) ([]slipway.Project, error)
	CreateProject(ctx context.Context, by slipway.User, p slipway.Project) (slipway.Project, error)
	Clusters(ctx context.Context, by slipway.User) ([]slipway.Cluster, error)
	AddCluster(ctx context.Context, by slipway.User, name, contextName string, kubeconfig []byte) (slipway.Cluster, error)
	RemoveCluster(ctx context.Context, by slipway.User, name string) error
}

// People are users and their roles.
type People interface {
	Users(ctx context.Context, by slipway.User) ([]slipway.User, error)
	CreateUser(ctx context.Context, by slipway.User, name string, admin bool) (slipway.User, error)
	RemoveUser(ctx context.Context, by slipway.User, name string) error
	SetRole(ctx context.Context, by slipway.User, user, project string, role slipway.Role) (slipway.User, error)
}

// Credentials are what proves a user. Only CreateToken and CreateLink return a secret, once.
type Credentials interface {
	CreateToken(ctx context.Context, by slipway.User, user, name string) (string, error)
	Tokens(ctx context.Context, by slipway.User, user string) ([]slipway.Token, error)
	RevokeToken(ctx context.Context, by slipway.User, user string, id int64) error
	CreateLink(ctx context.Context, by slipway.User, user string) (string, error)
}

// Forges connects codebases with forges.
type Forges interface {
	Project(ctx context.Context, by slipway.User, project string) (slipway.ProjectDetail, error)
	Connect(ctx context.Context, by slipway.User, r slipway.ConnectRequest) (slipway.Connected, error)
	// Probe asks the forge for the repository that is meant; nothing is kept.
	Probe(ctx context.Context, by slipway.User, r slipway.ConnectRequest, gitURL string) (slipway.Connection, slipway.ForgeRepository, error)
	// PrepareKey makes a deploy key for a codebase that is, or will be, fetched from gitURL, once.
	PrepareKey(ctx context.Context, by slipway.User, r slipway.ConnectRequest, gitURL string) (slipway.DeployKey, error)
	// LinkAccount says whose an account of the forge of a codebase, given by its key, is; user "" takes
	// that back.
	LinkAccount(ctx context.Context, by slipway.User, codebase, account, user string) error
}

// Identity finds out who asks.
type Identity interface {
	// Identify returns the user behind a request's token or session; the zero user for neither.
	Identify(r *http.Request) (slipway.User, error)
	// Redeem uses up a one-time sign-in code and returns a new token of its user.
	Redeem(ctx context.Context, code, tokenName string) (slipway.User, string, error)
}

// Options is what the API calls.
type Options struct {
	Reads       Reads
	Streams     Streams
	Deliveries  Deliveries
	Pulls       Pulls
	Reviews     Reviews
	Forges      Forges
	Settings    Settings
	Codebases   Codebases
	People      People
	Credentials Credentials
	Identity    Identity
	Gates       Gates
	Tests       Tests
	Waivers     Waivers
	Retention   Retention
	Keys        Keys
	// Heartbeat is how often a quiet stream says that it is still there, and looks again whether the
	// user may have it; default 15 seconds.
	Heartbeat time.Duration
	// BodyTimeout is how long the body of a request may take to arrive; default 30 seconds.
	BodyTimeout time.Duration
	Log         *slog.Logger
}

const (
	maxBody  = 4 << 20
	maxLogin = 64 << 10 // of a body that anybody may send
)

type server struct {
	Options
	mux *http.ServeMux
}

// New returns the handler of everything under /api/v1/.
func New(o Options) http.Handler {
	s := &server{Options: o, mux: http.NewServeMux()}
	s.Heartbeat, s.BodyTimeout = cmp.Or(o.Heartbeat, 15*time.Second), cmp.Or(o.BodyTimeout, 30*time.Second)
	s.routes()
	// Browsers send the pages' cookie along: what changes something must not come from another site.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, slipway.Errorf(slipway.Forbidden, "this request was sent by a page of another site"))
	}))
	return guard.Handler(s.mux)
}

// call answers one request of a signed-in user with a value or an error.
type call func(r *http.Request, by slipway.User) (any, error)

func (s *server) handle(pattern string, c call) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		by, err := s.user(r)
		if err == nil {
			if !s.receive(w, r, maxBody) {
				return
			}
			var v any
			if v, err = c(r, by); err == nil {
				writeJSON(w, http.StatusOK, v)
				return
			}
		}
		s.fail(w, r, err)
	})
}

// receive reads the whole body, which must arrive in time: what is asked for may take longer, and a
// sender that trickles holds nothing. When it does not, it has answered, and returns false.
func (s *server) receive(w http.ResponseWriter, r *http.Request, limit int64) bool {
	if r.Body == nil || r.Body == http.NoBody {
		return true
	}
	rc := http.NewResponseController(w)
	late := time.AfterFunc(s.BodyTimeout, func() {
		rc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // not every writer has one
	})
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if !late.Stop() && err == nil {
		err = os.ErrDeadlineExceeded // a moment ago: reading from the connection is over
	}
	var large *http.MaxBytesError
	switch {
	case err == nil:
		r.Body = io.NopCloser(bytes.NewReader(b))
		return true
	case errors.As(err, &large):
		err = slipway.Errorf(slipway.Invalid, "request body: more than %d bytes", large.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = slipway.Errorf(slipway.Invalid, "request body: not all of it came within %s", s.BodyTimeout)
	default:
		err = slipway.Errorf(slipway.Invalid, "request body: %w", err)
	}
	// Reading that fails ends the request's context, although somebody may listen still.
	s.fail(w, r.WithContext(context.WithoutCancel(r.Context())), err)
	return false
}

func (s *server) user(r *http.Request) (slipway.User, error) {
	by, err := s.Identity.Identify(r)
	switch {
	case err != nil:
	case by.Name == "":
		err = slipway.Errorf(slipway.Unauthorized, "sign in first: `slipway login URL`, or send a token as `Authorization: Bearer ...`")
	case by.Robot != nil:
		err = slipway.Errorf(slipway.Forbidden, "%s is a robot: it may only pull images and charts of project %s", by.Name, by.Robot.Project)
	}
	return by, err
}

// ErrorBody is how an error is sent.
type ErrorBody struct {
	Error struct {
		Code    slipway.Code `json:"code"`
		Message string       `json:"message"`
	} `json:"error"`
}

func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(r.Context()); errors.Is(cause, slipway.ErrShutdown) {
		err = slipway.Errorf(slipway.Unavailable, "the server is stopping: try again in a moment")
	} else if cause != nil {
		return // nobody listens any more
	}
	var body ErrorBody
	body.Error.Code, body.Error.Message = slipway.ErrorCode(err), err.Error()
	if body.Error.Code == slipway.Internal {
		s.Log.ErrorContext(r.Context(), "request", "method", r.Method, "path", r.URL.Path, "error", err)
		body.Error.Message = "internal error; the server's log has the details"
	}
	if body.Error.Code == slipway.Unauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="slipway"`)
	}
	writeJSON(w, body.Error.Code.HTTPStatus(), body)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.Encode(v) //nolint:errcheck // the client is gone; there is nobody to tell
}

// decode reads a body of one JSON object; none is the zero value.
func decode(r *http.Request, v any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the first JSON value")
		}
	}
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "request body: %w", err)
	}
	return nil
}

// handleID is handle for a path in which the place of that name is an id.
func (s *server) handleID(pattern, name string, c func(r *http.Request, by slipway.User, id int64) (any, error)) {
	s.handle(pattern, func(r *http.Request, by slipway.User) (any, error) {
		id, err := pathID(r, name)
		if err != nil {
			return nil, err
		}
		return c(r, by, id)
	})
}

func pathID(r *http.Request, name string) (int64, error) {
	s := r.PathValue(name)
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "#"), 10, 64)
	if err != nil || n <= 0 {
		return 0, slipway.Errorf(slipway.Invalid, "%s %q: expected a positive number", name, s)
	}
	return n, nil
}

package gitserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/slipway-cd/slipway"
)

const (
	// idle is how long a client may neither send nor take anything.
	idle = 5 * time.Minute
	// maxNegotiation bounds what a reader sends, in bytes.
	maxNegotiation = 32 << 20
	// maxDrain is how much of a refused push is read so that the client sees why, beyond MaxPack.
	maxDrain = 256 << 20
)

const receivePack = "git-receive-pack"

// request is a request that may be answered.
type request struct {
	project  string
	codebase string // "": the project's main one
	actor    string
	service  string // git-upload-pack or git-receive-pack
	path     string // below the repository: /info/refs or /<service>
	dir      string
}

func (q request) push() bool { return q.service == receivePack && q.path != "/info/refs" }

// ServeHTTP answers git clients.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.busy.Add(1)
	defer s.busy.Done()
	q, err := s.admit(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := &patientWriter{w: w, control: http.NewResponseController(w)}
	err = s.serve(out, r, q)
	switch {
	case err == nil:
	case !out.begun && q.push():
		s.breakOff(w, q, err)
	case !out.begun:
		s.refuse(w, r, err)
	default:
		if out.err == nil && s.ctx.Err() == nil && r.Context().Err() == nil {
			s.Log.Error("serve git", "project", q.project, "service", q.service, "actor", q.actor, "error", err)
		}
		// The client must see that the response is not complete.
		panic(http.ErrAbortHandler)
	}
}

var (
	errNotFound = slipway.Errorf(slipway.NotFound, "there is no git repository here; URLs look like /git/<project>.git or /git/<project>/<codebase>.git")
	errMethod   = errors.New("method not allowed")
	errFull     = slipway.Errorf(slipway.Unavailable, "the server's disk is full: nothing was changed; push again when there is room")
)

// admit reads what is asked for and whether it may be had.
func (s *Server) admit(r *http.Request) (request, error) {
	m := s.path.FindStringSubmatch(r.URL.EscapedPath())
	if m == nil || !slipway.ValidName(m[1]) || (m[2] != "" && !slipway.ValidName(m[2])) {
		return request{}, errNotFound
	}
	q := request{project: m[1], codebase: m[2], service: m[3], path: "/" + m[3]}
	method := http.MethodPost
	if q.service == "info/refs" {
		method = http.MethodGet
		q.service = r.URL.Query().Get("service")
		if q.service != receivePack && q.service != "git-upload-pack" {
			return q, slipway.Errorf(slipway.Forbidden, "only smart HTTP is served: use git 1.6.6 or later")
		}
	}
	if r.Method != method {
		return q, errMethod
	}
	if s.ctx.Err() != nil {
		return q, slipway.Errorf(slipway.Unavailable, "Slipway is stopping; try again in a moment")
	}
	var err error
	if q.actor, err = s.Authorize(r.Context(), r, q.project, q.service == receivePack); err != nil {
		return q, err
	}
	if q.dir, err = s.Dir(r.Context(), q.project, q.codebase); err == nil && q.service == receivePack && !q.push() {
		err = room(q.dir)
	}
	return q, err
}

// minRoom is what a push needs besides its objects, in bytes: pipes, locks, what is recorded of it.
const minRoom = 512 << 10

// room refuses pushes while the disk is full, when git shows the client why: later it could only break
// off. A disk that cannot be asked is taken to have room.
func room(dir string) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err == nil && uint64(fs.Bavail)*uint64(fs.Bsize) < minRoom {
		return errFull
	}
	return nil
}

// refuse answers with an error; git shows the text to who ran it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, text := http.StatusInternalServerError, "internal error; the server's log says more"
	switch code := slipway.ErrorCode(err); {
	case errors.Is(err, errMethod):
		status, text = http.StatusMethodNotAllowed, err.Error()
	case code == slipway.Internal:
		s.Log.Error("admit to git", "path", r.URL.Path, "error", err)
	default:
		status, text = code.HTTPStatus(), err.Error()
	}
	h := w.Header()
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Basic realm="slipway"`)
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, text)
}

// breakOff answers a push that could not be begun, in git's own protocol: of an HTTP error git would show
// only the number.
func (s *Server) breakOff(w http.ResponseWriter, q request, err error) {
	text := "internal error; nothing was changed. The server's log says more."
	switch code := slipway.ErrorCode(err); {
	case errors.Is(err, syscall.ENOSPC):
		text = errFull.Error()
	case code != slipway.Internal:
		text = err.Error()
	default:
		s.Log.Error("begin a push", "project", q.project, "actor", q.actor, "error", err)
	}
	w.Header().Set("Content-Type", "application/x-"+receivePack+"-result")
	w.Header().Set("Cache-Control", "no-store")
	const fatal = "\x03" // band of errors
	line := fatal + text + "\n"
	fmt.Fprintf(w, "%04x%s0000", len(line)+4, line)
}

// serve runs git for the request.
func (s *Server) serve(out *patientWriter, r *http.Request, q request) error {
	slots := s.reads
	if q.push() {
		slots = s.writes
	}
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-r.Context().Done():
		return context.Cause(r.Context())
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	// git answers while it still reads; without this, net/http would stop reading at the first
	// byte that is written. What does not know the method does not have the problem.
	if err := out.control.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	limit := int64(maxNegotiation)
	if q.push() {
		limit = s.MaxPack + maxDrain
	}
	body := &patientReader{r: http.MaxBytesReader(out.w, r.Body, limit), control: out.control}
	defer out.done()
	if q.push() {
		return s.servePush(r, q, body, out)
	}
	return s.serveRead(r, q, body, out)
}

// serveRead serves what moves no ref: it ends with the client.
func (s *Server) serveRead(r *http.Request, q request, body *patientReader, out *patientWriter) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	p := process{dir: q.dir, env: s.environment(r, q), stdin: body, out: out}
	return p.run(ctx)
}

var protocolExpr = regexp.MustCompile(`^[a-z0-9=:.-]{1,64}$`)

// patientReader gives the client a new deadline for each piece it sends.
type patientReader struct {
	r       io.Reader
	control *http.ResponseController

	mu      sync.Mutex
	stopped bool
}

func (p *patientReader) Read(b []byte) (int, error) {
	if !p.deadline(time.Now().Add(idle)) {
		return 0, context.Canceled
	}
	n, err := p.r.Read(b)
	if err != nil {
		p.deadline(time.Time{})
	}
	return n, err
}

func (p *patientReader) deadline(t time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		_ = p.control.SetReadDeadline(t)
	}
	return !p.stopped
}

// stop ends a Read that waits, and all later ones.
func (p *patientReader) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	_ = p.control.SetReadDeadline(time.Now())
}

// patientWriter gives the client a new deadline for each piece it takes, and sends each at once, so
// that progress and messages are seen as they come.
type patientWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
	err     error // of the client's side
}

func (p *patientWriter) begin(header http.Header, status int) {
	p.begun = true
	maps.Copy(p.w.Header(), header)
	p.w.WriteHeader(status)
}

func (p *patientWriter) Write(b []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(idle))
	n, err := p.w.Write(b)
	if err == nil {
		err = p.control.Flush()
		if errors.Is(err, http.ErrNotSupported) {
			err = nil
		}
	}
	p.err = err
	return n, err
}

func (p *patientWriter) done() { _ = p.control.SetWriteDeadline(time.Time{}) }

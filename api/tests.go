package api

import (
	"context"
	"io"
	"mime"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/slipway-cd/slipway"
)

// Tests answers questions about the results of tests, for a user.
type Tests interface {
	// RunTests returns the reports of a run's test steps.
	RunTests(ctx context.Context, by slipway.User, run int64) (slipway.RunTests, error)
	// ServiceTests returns the newest report of a service, of one ref or with "" of any, and the numbers of
	// those before it.
	ServiceTests(ctx context.Context, by slipway.User, project, service, ref string, limit int) (slipway.ServiceTests, error)
	// CaseHistory returns how the tests that a filter selects ended over the runs of a service.
	CaseHistory(ctx context.Context, by slipway.User, f slipway.CaseFilter) ([]slipway.CaseHistory, error)
	// OpenAttachment opens a file that the tests of a run left, with what the report says of it. Whoever
	// called closes it.
	OpenAttachment(ctx context.Context, by slipway.User, run int64, digest string) (slipway.Attachment, io.ReadSeekCloser, error)
}

func (s *server) tests() {
	s.handleID("GET /api/v1/runs/{run}/tests", "run", func(r *http.Request, by slipway.User, id int64) (any, error) {
		return s.Tests.RunTests(r.Context(), by, id)
	})
	s.handle("GET /api/v1/projects/{project}/services/{service}/tests", func(r *http.Request, by slipway.User) (any, error) {
		n, q := 0, r.URL.Query()
		if v := q.Get("limit"); v != "" {
			var err error
			if n, err = strconv.Atoi(v); err != nil || n < 0 {
				return nil, slipway.Errorf(slipway.Invalid, "limit=%q: expected a number", v)
			}
		}
		return s.Tests.ServiceTests(r.Context(), by, r.PathValue("project"), r.PathValue("service"), q.Get("ref"), n)
	})
	s.handle("GET /api/v1/projects/{project}/services/{service}/tests/history", func(r *http.Request, by slipway.User) (any, error) {
		q := r.URL.Query()
		if q.Get("case") == "" {
			return nil, slipway.Errorf(slipway.Invalid, "case: expected the name of a test")
		}
		return list(s.Tests.CaseHistory(r.Context(), by, slipway.CaseFilter{Project: r.PathValue("project"), Service: r.PathValue("service"),
			Ref: q.Get("ref"), Name: q.Get("case"), Suite: q.Get("suite"), Class: q.Get("class")}))
	})
	s.mux.HandleFunc("GET /api/v1/runs/{run}/attachments/{digest}", func(w http.ResponseWriter, r *http.Request) {
		if err := s.attachment(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

// attachment sends a file that tests left. What is in it nobody has looked at: a browser saves it and shows
// nothing of it.
func (s *server) attachment(w http.ResponseWriter, r *http.Request) error {
	by, err := s.user(r)
	if err != nil {
		return err
	}
	id, err := pathID(r, "run")
	if err != nil {
		return err
	}
	a, f, err := s.Tests.OpenAttachment(r.Context(), by, id, r.PathValue("digest"))
	if err != nil {
		return err
	}
	defer f.Close()
	name := path.Base(a.Name)
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "private, immutable")
	http.ServeContent(w, r, "", time.Time{}, f)
	return nil
}

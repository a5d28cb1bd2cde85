package web

import (
	"context"
	"net/http"
	"net/url"

	"github.com/slipway-cd/slipway"
)

// refused is a form with typed text that was not taken: its page is shown again, with what was typed
// and the reason beside the form. A nil one is no form.
type refused struct {
	Problem string
	path    string // that it was sent to
	values  url.Values
	status  int
	fail    func() // shows the page of the error instead
	found   bool   // the page has the form
}

// At is the form if it was sent to a path, with pairs of a field's name and value; else nil.
func (f *refused) At(path string, pairs ...string) *refused {
	if f == nil || f.path != path {
		return nil
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if f.values.Get(pairs[i]) != pairs[i+1] {
			return nil
		}
	}
	f.found = true
	return f
}

// Typed is what a field held, "" without a form.
func (f *refused) Typed(field string) string {
	if f == nil {
		return ""
	}
	return f.values.Get(field)
}

type refusedKey struct{}

func refusedIn(ctx context.Context) *refused {
	f, _ := ctx.Value(refusedKey{}).(*refused)
	return f
}

// typed is post for a form into which people type: when it is not taken, the page that it is on is
// shown again. page says which that is, as the form may lead elsewhere.
func (s *server) typed(pattern string, page func(r *http.Request) string, do func(r *http.Request, by slipway.User) (to string, err error)) {
	s.posted(pattern, do, func(w http.ResponseWriter, r *http.Request, by slipway.User, err error) {
		fail := func() { s.fail(w, r, by, err) }
		code := status(slipway.ErrorCode(err))
		to, perr := url.Parse(page(r))
		if code == http.StatusInternalServerError || perr != nil {
			fail()
			return
		}
		f := &refused{Problem: err.Error(), path: r.URL.Path, values: r.PostForm, status: code, fail: fail}
		next := r.Clone(context.WithValue(r.Context(), refusedKey{}, f))
		next.Method, next.URL, next.RequestURI = http.MethodGet, to, to.RequestURI()
		next.Body, next.ContentLength, next.Form, next.PostForm = http.NoBody, 0, nil, nil
		if _, pattern := s.mux.Handler(next); !s.shown[pattern] {
			fail()
			return
		}
		s.mux.ServeHTTP(w, next)
	})
}

// back is the page that a form names as its own.
func back(r *http.Request) string { return local(r.FormValue("back")) }

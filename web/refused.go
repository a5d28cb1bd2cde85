package web

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
)

// refused is a form that was not taken: its page is shown again, with what was typed and the reason
// beside the form, or at the top of the page when the form is not there any more. A nil one is no form.
type refused struct {
	Problem string
	err     error
	id      string
	by      string // who sent it; "": somebody whose session had ended
	path    string // that it was sent to
	values  url.Values
	at      time.Time
	found   bool // the page has the form
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

// Bounds of the forms that are kept until their pages are shown again.
const (
	keepRefused = time.Hour
	mostRefused = 256
	longRefused = 16 << 10 // bytes that were typed
)

// refusals keeps the forms that were not taken, so that who sent one is sent on to its page, which can be
// loaded again. They are kept in memory only: after a restart a page is there without what was typed.
type refusals struct {
	mu   sync.Mutex
	kept []*refused // oldest first
}

// keep returns the name under which a form is found again.
func (k *refusals) keep(f *refused) string {
	size := len(f.Problem)
	for _, v := range f.values {
		for _, s := range v {
			size += len(s)
		}
	}
	if size > longRefused {
		f.values = nil
	}
	f.id = rand.Text()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = slices.DeleteFunc(k.kept, func(o *refused) bool { return f.at.Sub(o.at) > keepRefused })
	if len(k.kept) >= mostRefused {
		k.kept = slices.Delete(k.kept, 0, 1)
	}
	k.kept = append(k.kept, f)
	return f.id
}

// of is a form that somebody sent, for one page; nil when it is not kept.
func (k *refusals) of(by slipway.User, id string, now time.Time) *refused {
	if id == "" {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, f := range k.kept {
		if f.id == id && (f.by == by.Name || f.by == "") && now.Sub(f.at) <= keepRefused {
			one := *f
			return &one
		}
	}
	return nil
}

// again is where a form that was not taken is shown again: its page, with the name of what was kept. It is
// "" when the form names no page.
func (s *server) again(r *http.Request, by slipway.User, page string, why error) string {
	to, err := url.Parse(page)
	if err != nil {
		return ""
	}
	get := &http.Request{Method: http.MethodGet, URL: to, Host: r.Host}
	if _, pattern := s.mux.Handler(get); !s.shown[pattern] {
		return ""
	}
	f := &refused{Problem: why.Error(), err: why, by: by.Name, path: r.URL.Path, values: r.PostForm, at: s.Now()}
	q := to.Query()
	q.Set(refusedParameter, s.refusals.keep(f))
	to.RawQuery, to.Fragment = q.Encode(), "refused"
	return to.String()
}

// refusedParameter names in a page's query the form that was not taken.
const refusedParameter = "refused"

// without is a path and query without the name of a form that was not taken.
func without(r *http.Request) string {
	q := r.URL.Query()
	if !q.Has(refusedParameter) {
		return r.URL.RequestURI()
	}
	q.Del(refusedParameter)
	u := url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: q.Encode()}
	return u.RequestURI()
}

// back is the page that a form names as its own.
func back(r *http.Request) string { return local(r.FormValue("back")) }

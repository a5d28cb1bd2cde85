package web

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/slipway-cd/slipway"
)

// paging is which rows of a list a page shows, and where the others are.
type paging struct {
	From, To, Of  int    // 1 to 100 of 500
	Before, After string // queries of the pages before and after; "" where there is none
}

// Several reports whether there is more than one page.
func (p paging) Several() bool { return p.Before != "" || p.After != "" }

// paged is the page of n rows that a request asks for with from=, and rows on it: the first where there is no such page.
func paged[T any](r *http.Request, all []T, size int) ([]T, paging) {
	from, err := strconv.Atoi(r.FormValue("from"))
	if err != nil || from < 0 || from >= len(all) {
		from = 0
	}
	to := min(from+size, len(all))
	p := paging{From: min(from+1, len(all)), To: to, Of: len(all)}
	if from > 0 {
		p.Before = turn(r, max(0, from-size))
	}
	if to < len(all) {
		p.After = turn(r, to)
	}
	return all[from:to], p
}

// turn is the query of the page that begins with another row.
func turn(r *http.Request, from int) string { return with(r, "from", int64(from)) }

// ages is how a list that begins with its newest goes on: queries of the pages of older ones and of the newest; ""
// where there is none.
type ages struct{ Older, Newest string }

// before is the number that a request wants only older ones than; 0: the newest. what is a thing with such a number.
func before(r *http.Request, what string) (int64, error) {
	v := r.FormValue("before")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n <= 0 {
		return 0, slipway.Errorf(slipway.Invalid, "before=%q: expected the number of a %s", v, what)
	}
	return n, nil
}

// aged is the page of the size newest of all, of which there is one more than that when there are older ones.
func aged[T any](r *http.Request, all []T, size int, number func(T) int64) ([]T, ages) {
	a := ages{}
	if r.FormValue("before") != "" {
		a.Newest = with(r, "before", 0)
	}
	if len(all) > size {
		all = all[:size]
		a.Older = with(r, "before", number(all[size-1]))
	}
	return all, a
}

// with is the query of a request with another number in it, without it for 0.
func with(r *http.Request, name string, n int64) string {
	q := url.Values{}
	for key, v := range r.URL.Query() {
		q[key] = v
	}
	q.Del(refusedParameter)
	q.Del(name)
	if n > 0 {
		q.Set(name, strconv.FormatInt(n, 10))
	}
	return "?" + q.Encode()
}

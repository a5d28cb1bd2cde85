package web

import (
	"net/http"
	"net/url"
	"strconv"
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
func turn(r *http.Request, from int) string {
	q := url.Values{}
	for key, v := range r.URL.Query() {
		q[key] = v
	}
	q.Del(refusedParameter)
	q.Set("from", strconv.Itoa(from))
	if from == 0 {
		q.Del("from")
	}
	return "?" + q.Encode()
}

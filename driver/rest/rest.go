// Package rest is what the drivers of forges share: JSON requests to an API over HTTP with bounded
// answers and errors that say what to do, and the checks of a request that a webhook sends. It knows no
// forge: paths, fields and scopes are the drivers' business. It retries nothing.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/slipway-cd/slipway"
)

const (
	defaultTimeout = 20 * time.Second
	maxAnswer      = 16 << 20
	maxRedirects   = 3
)

// Options are how an API is reached; the zero value works.
type Options struct {
	Timeout   time.Duration     // of one request with its answer; 20 s
	Transport http.RoundTripper // nil: that of net/http, with the proxy of the environment
	Now       func() time.Time  // nil: time.Now
	Log       *slog.Logger      // nil: nothing is logged; never gets a token or a body
}

// Client speaks to one API. It may be used by several goroutines.
type Client struct {
	forge     string
	base      *url.URL
	authorize func(ctx context.Context, h http.Header) error
	http      *http.Client
	now       func() time.Time
	log       *slog.Logger
}

// New makes a client of the API at base, a URL that slipway.Connection.Check passed. forge is the name
// for messages. authorize puts the credential into a request's header, and nowhere else.
func New(forge, base string, authorize func(ctx context.Context, h http.Header) error, o Options) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil, slipway.Errorf(slipway.Invalid, "address of %s's API: expected a URL", forge)
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &http.Client{Transport: o.Transport, Timeout: o.Timeout, CheckRedirect: stay}
	return &Client{forge: forge, base: u, authorize: authorize, http: h, now: o.Now, log: o.Log}, nil
}

// stay follows a redirect only to the same place with the same method: a token is never carried to
// another host, and a write never becomes a read that looks like a success.
func stay(req *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > maxRedirects || req.Method != first.Method || req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Request is one call of the API.
type Request struct {
	Method string   // GET if empty
	Path   []string // below the base; each element is escaped, so none can lead elsewhere
	Query  url.Values
	Body   any // sent as JSON; nil for none
	Into   any // what the answer is read into; nil drops it
	// What is being done, for messages: "set a commit status on shop/backend".
	What string
	// Scope is what the token needs for it, in the forge's words.
	Scope string
}

// Answer is what came back beside the body.
type Answer struct {
	Status int
	Header http.Header
}

// more reports whether the forge says that there is a further page.
func (a Answer) more() bool {
	if a.Header.Get("X-Next-Page") != "" {
		return true
	}
	for _, link := range a.Header.Values("Link") {
		for part := range strings.SplitSeq(link, ",") {
			if _, rel, ok := strings.Cut(part, ";"); ok && strings.Contains(rel, `rel="next"`) {
				return true
			}
		}
	}
	return false
}

// Do sends one request. An answer of 2xx is a success; everything else is a slipway.Error that names
// what was done and what helps: Forbidden (401, 403), NotFound, Conflict, Invalid, or Unavailable for
// what may pass (429, a rate limit, 5xx, no answer), with slipway.RetryAfter if the forge said when.
func (c *Client) Do(ctx context.Context, r Request) (Answer, error) {
	req, err := c.request(ctx, r)
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %w", r.What, err)
	}
	started := c.now()
	res, err := c.send(ctx, req)
	if err != nil {
		return Answer{}, c.unanswered(ctx, r, err)
	}
	defer func() { _ = res.Body.Close() }()
	c.log.DebugContext(ctx, "forge answered", "forge", c.forge, "method", req.Method, "path", req.URL.Path, "status", res.StatusCode, "took", c.now().Sub(started))
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return Answer{}, c.unanswered(ctx, r, err)
	}
	if len(body) > maxAnswer {
		return Answer{}, slipway.Errorf(slipway.Invalid, "%s: %s answers with more than %d MB", r.What, c.forge, maxAnswer>>20)
	}
	a := Answer{Status: res.StatusCode, Header: res.Header}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return a, c.refused(r, res, body)
	}
	return a, c.read(r, res, body)
}

// send follows redirects of writes as well: Gitea answers 301 to all that is asked of a repository by a former
// name, which net/http takes for a write to be read elsewhere.
func (c *Client) send(ctx context.Context, req *http.Request) (*http.Response, error) {
	for hop := 0; ; hop++ {
		res, err := c.http.Do(req)
		if err != nil {
			return nil, err
		}
		to := moved(req, res)
		if to == nil || hop == maxRedirects {
			return res, nil
		}
		_ = res.Body.Close()
		next := req.Clone(ctx)
		next.URL, next.Host = to, ""
		if req.GetBody != nil {
			if next.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
		req = next
	}
}

// moved is where a write is to be repeated, at the same host; nil for nowhere.
func moved(req *http.Request, res *http.Response) *url.URL {
	if req.Method == http.MethodGet || res.StatusCode != http.StatusMovedPermanently && res.StatusCode != http.StatusFound {
		return nil
	}
	to, err := res.Location()
	if err != nil || to.Scheme != req.URL.Scheme || to.Host != req.URL.Host {
		return nil
	}
	return to
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	var body io.Reader
	if r.Body != nil {
		data, err := json.Marshal(r.Body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	u := *c.base
	raw := strings.TrimSuffix(u.EscapedPath(), "/")
	for _, p := range r.Path {
		if p == "" || p == "." || p == ".." {
			return nil, slipway.Errorf(slipway.Invalid, "%q cannot be part of a path", p)
		}
		raw += "/" + url.PathEscape(p)
	}
	path, err := url.PathUnescape(raw)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", raw, err)
	}
	u.Path, u.RawPath, u.RawQuery = path, raw, r.Query.Encode()
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "slipway")
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := c.authorize(ctx, req.Header); err != nil {
		return nil, err
	}
	return req, nil
}

// read takes only what says that it is JSON: a page to sign in with comes with 200 too.
func (c *Client) read(r Request, res *http.Response, body []byte) error {
	if r.Into == nil {
		return nil
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if kind != "application/json" && !strings.HasSuffix(kind, "+json") {
		return slipway.Errorf(slipway.Forbidden, "%s: %s answers with a page (%s) instead of data: check the token%s and the address of the API, %s",
			r.What, c.forge, slipway.CleanLine(kind, 60), needs(r), c.base.Host)
	}
	if err := json.Unmarshal(body, r.Into); err != nil {
		return slipway.Errorf(slipway.Invalid, "%s: %s's answer is not what its documentation says: %w", r.What, c.forge, err)
	}
	return nil
}

// unanswered says that no answer came. The text of net/http's error holds the URL: only its cause is
// kept.
func (c *Client) unanswered(ctx context.Context, r Request, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", r.What, context.Cause(ctx))
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var se *slipway.Error
	if errors.As(err, &se) {
		return fmt.Errorf("%s: %w", r.What, err)
	}
	return slipway.Errorf(slipway.Unavailable, "%s: %s at %s does not answer: %w", r.What, c.forge, c.base.Host, err)
}

// secondary is how GitHub says that one of its further limits is reached, where no header says it; one is then to
// wait for a minute at least, by its page "Rate limits for the REST API".
var secondary = regexp.MustCompile(`(?i)\bsecondary rate limit\b`)

func needs(r Request) string {
	if r.Scope == "" {
		return ""
	}
	return " (it needs " + r.Scope + ")"
}

func (c *Client) refused(r Request, res *http.Response, body []byte) error {
	after := retryAfter(res.Header, c.now())
	wait := asksToWait(after)
	at := fmt.Sprintf("%s: %s answers %d", r.What, c.forge, res.StatusCode)
	said := message(body, credential(res.Request))
	if said != "" {
		at += " (" + said + ")"
	}
	limited := res.StatusCode == http.StatusForbidden && (after > 0 || res.Header.Get("X-RateLimit-Remaining") == "0")
	if res.StatusCode == http.StatusForbidden && !limited && secondary.MatchString(said) {
		limited, after = true, time.Minute
	}
	switch {
	case res.StatusCode == http.StatusTooManyRequests || limited:
		return later(after, "%s: too many requests%s", at, wait)
	case res.StatusCode >= 500 || res.StatusCode == http.StatusRequestTimeout:
		return later(after, "%s: it is in trouble itself%s", at, wait)
	case res.StatusCode == http.StatusUnauthorized:
		return slipway.Errorf(slipway.Forbidden, "%s: the token is wrong, expired or revoked; give the project a new one%s", at, needs(r))
	case res.StatusCode == http.StatusForbidden:
		return slipway.Errorf(slipway.Forbidden, "%s: the token may not do this%s", at, needs(r))
	case res.StatusCode == http.StatusNotFound || res.StatusCode == http.StatusGone:
		return slipway.Errorf(slipway.NotFound, "%s: it is not there, or the token may not see it%s", at, needs(r))
	case res.StatusCode == http.StatusConflict:
		return slipway.Errorf(slipway.Conflict, "%s", at)
	case res.StatusCode < 400:
		return slipway.Errorf(slipway.Invalid, "%s with a redirect that is not followed: check the address of the API, %s, and the repository's name", at, c.base.Host)
	}
	return slipway.Errorf(slipway.Invalid, "%s", at)
}

// message is what the forge says itself, if it says it in one of the usual fields: one short line
// without the credential, should the forge repeat it.
func message(body []byte, secrets []string) string {
	var said struct {
		Message any `json:"message"`
		Error   any `json:"error"`
		Errors  []struct {
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &said) != nil {
		return ""
	}
	text := textOf(said.Message)
	if text == "" {
		text = textOf(said.Error)
	}
	for _, e := range said.Errors {
		if e.Message != "" {
			text += ": " + e.Message
		}
	}
	text = ansi.Strip(text) // before secrets are looked for, which a sequence could part
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return slipway.CleanLine(text, 200)
}

// textOf takes a text, or GitLab's object of fields with what is wrong with each.
func textOf(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	data, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(data)
}

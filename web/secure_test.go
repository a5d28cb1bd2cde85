package web_test

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway/web"
)

// buttons are every form of the pages, with what it does when a person presses it.
func buttons() map[string][2]string {
	return map[string][2]string{
		"/approvals/12?decision=approve&reason=fine": {"bob votes true on 12: fine", "/runs/12"},
		"/approvals/12?decision=reject&reason=no":    {"bob votes false on 12: no", "/runs/12"},
		"/runs/14/cancel?reason=not+now":             {"bob cancels 14: not now", "/runs/14"},
		"/runs/5/retry":                              {"bob retries 5", "/runs/5"},
		"/projects/shop/rollback?service=delivery&environment=production&to=v1.0.0&reason=slow":                               {"bob rolls back delivery in production to v1.0.0: slow", "/runs/9"},
		"/projects/shop/releases/delivery/v1.1.1/lift-quarantine":                                                             {"bob lifts delivery v1.1.1", "/projects/shop/releases/delivery/v1.1.1"},
		"/projects/shop/pulls/3/merge":                                                                                        {"bob merges 3", "/projects/shop/pulls"},
		"/projects/shop/pulls/3/merge?codebase=web":                                                                           {"bob merges web#3", "/projects/shop/pulls"},
		"/projects/shop/pulls/3/review?codebase=web&head=c6":                                                                  {"bob approves web#3 at c6", "/projects/shop/pulls"},
		"/projects/shop/pulls/3/close?codebase=web":                                                                           {"bob closes web#3", "/projects/shop/pulls"},
		"/projects/shop/pulls/3/review?head=c6":                                                                               {"bob approves 3 at c6", "/projects/shop/pulls"},
		"/projects/shop/waivers?gate=vulnerabilities&subject=CVE-1+zlib&service=orders&until=2026-12-31&reason=not+reachable": {"bob waives vulnerabilities CVE-1 zlib of orders in  until 2026-12-31: not reachable", "/projects/shop/waivers"},
		"/waivers/1/withdraw":          {"bob withdraws 1", "/projects/shop/waivers"},
		"/projects/shop/pulls/3/close": {"bob closes 3", "/projects/shop/pulls"},
	}
}

func TestPresses(t *testing.T) {
	t.Parallel()
	for button, want := range buttons() {
		target, form, _ := strings.Cut(button, "?")
		s := newSite(t)
		w := s.ask("POST", target, form, header("Sec-Fetch-Site", "same-origin"))
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != want[1] {
			t.Errorf("%s answers %d to %s", button, w.Code, w.Header().Get("Location"))
		}
		if !slices.Equal(s.asked, []string{want[0]}) {
			t.Errorf("%s did %v", button, s.asked)
		}
		// Opened as a link it does nothing.
		page := strings.HasSuffix(target, "/waivers") // there is one of the same address
		if w := s.ask("GET", target, form); (w.Code < 400 && !page) || len(s.asked) != 1 {
			t.Errorf("GET %s answers %d and did %v", target, w.Code, s.asked)
		}
	}
}

func TestPressesRefused(t *testing.T) {
	t.Parallel()
	for button := range buttons() {
		target, form, _ := strings.Cut(button, "?")
		s := newSite(t)
		for name, change := range map[string]func(*http.Request){
			"another site": header("Sec-Fetch-Site", "cross-site"), "a sibling": header("Sec-Fetch-Site", "same-site"), "another origin": header("Origin", "https://evil.example"), "an opaque origin": header("Origin", "null"),
		} {
			w := s.ask("POST", target, form, change)
			if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "from another site") || w.Header().Get("Content-Security-Policy") == "" {
				t.Errorf("%s from %s answers %d", target, name, w.Code)
			}
		}
		page := "/signin?to=%2Fruns%2F12%3F"
		if strings.HasSuffix(target, "/waivers") {
			page = "/signin?to=%2Fprojects%2Fshop%2Fwaivers%3F"
		}
		if w := s.ask("POST", target, form+"&back=/runs/12", cookie("")); !strings.HasPrefix(w.Header().Get("Location"), page) {
			t.Errorf("%s without a session leads to %s", target, w.Header().Get("Location"))
		}
		s.forbidden = true
		w, code := s.ask("POST", target, form+"&back=//evil.example"), http.StatusForbidden
		if to, known := strings.CutSuffix(w.Header().Get("Location"), "#refused"); known { // its page is known without
			w, code = s.ask("GET", to, ""), http.StatusOK
		}
		if w.Code != code || !strings.Contains(w.Body.String(), "takes an approver") || strings.Contains(w.Body.String(), "evil.example") {
			t.Errorf("%s by a viewer answers %d: %s", target, w.Code, w.Body)
		}
		if len(s.asked) > 0 {
			t.Errorf("%s did %v all the same", target, s.asked)
		}
	}
	s := newSite(t)
	for target, form := range map[string]string{"/approvals/12": "decision=approve", "/approvals/13": "decision=maybe&reason=x", "/approvals/14": "decision=approve&reason=" + strings.Repeat("x", 70<<10)} {
		if w := s.ask("POST", target, form); w.Code != http.StatusUnprocessableEntity {
			t.Errorf("POST %s answers %d", target, w.Code)
		}
	}
}

// A link is used up by its button and not by opening it.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for range 3 {
		if w := s.ask("GET", "/signin/one-time", "", cookie("")); w.Code != http.StatusOK || len(w.Result().Cookies()) > 0 || !strings.Contains(w.Body.String(), `value="one-time"`) {
			t.Fatalf("opening the link answers %d", w.Code)
		}
	}
	w := s.ask("POST", "/signin", "code=one-time&to=/runs/12", cookie(""))
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/runs/12" {
		t.Fatalf("the button answers %d to %s: %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	c := w.Result().Cookies()
	if len(c) != 1 || c[0].Value != session || !c[0].HttpOnly || c[0].SameSite != http.SameSiteLaxMode || c[0].Path != "/" {
		t.Errorf("the cookie is %v", c)
	}
	if w := s.ask("POST", "/signin", "code=one-time", cookie("")); w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), "ask for a new one") || len(w.Result().Cookies()) > 0 {
		t.Errorf("the link signs in twice: %d", w.Code)
	}
	if w := s.ask("POST", "/signin", "token=+slw_secret+", cookie("")); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/" {
		t.Errorf("a token answers %d", w.Code)
	}
	if w := s.ask("POST", "/signin", "token=guess", cookie("")); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "guess") {
		t.Errorf("a wrong token answers %d: %s", w.Code, w.Body)
	}
	if w := s.ask("POST", "/signin", "token=slw_x", cookie(""), header("Sec-Fetch-Site", "cross-site")); w.Code != http.StatusForbidden {
		t.Errorf("signing in from another site answers %d", w.Code)
	}
	if w := s.ask("POST", "/signout", ""); w.Code != http.StatusSeeOther || w.Result().Cookies()[0].MaxAge >= 0 {
		t.Errorf("signing out answers %d", w.Code)
	}
}

func TestSecureCookie(t *testing.T) {
	t.Parallel()
	w := newWorld(noon)
	o := w.options()
	o.Secure = true
	h, err := web.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{w, h}
	if c := s.ask("POST", "/signin", "token=slw_x", cookie("")).Result().Cookies(); !c[0].Secure {
		t.Error("the cookie is sent without https")
	}
}

func TestSignedOut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for target := range pages() {
		if strings.HasPrefix(target, "/signin") {
			continue
		}
		for _, value := range []string{"", "ended"} {
			w := s.ask("GET", target, "", cookie(value))
			if to := "/signin?to=" + url.QueryEscape(target); w.Code != http.StatusSeeOther || w.Header().Get("Location") != to {
				t.Errorf("%s answers %d to %s, not to %s", target, w.Code, w.Header().Get("Location"), to)
			}
		}
	}
	for _, target := range []string{"/live?project=shop", "/runs/14/log?step=test/web"} {
		if w := s.ask("GET", target, "", cookie("")); w.Code != http.StatusUnauthorized || strings.Contains(w.Body.String(), "page01") {
			t.Errorf("%s answers %d", target, w.Code)
		}
	}
	// What is down is not a reason to sign in again.
	if w := s.ask("GET", "/runs/12", "", cookie("down")); w.Code != http.StatusServiceUnavailable {
		t.Errorf("a database that is down answers %d", w.Code)
	}
}

func TestOpenRedirects(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, to := range []string{"https://evil.example/", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "/\n/evil.example", "\t//evil.example", "javascript:alert(1)", "evil.example", " //evil.example", "/%00\x00", "http:evil.example"} {
		w := s.ask("POST", "/signin", url.Values{"token": {"slw_x"}, "to": {to}}.Encode(), cookie(""))
		if got := w.Header().Get("Location"); got != "/" {
			t.Errorf("to=%q leads to %q", to, got)
		}
		page := s.ask("GET", "/signin?to="+url.QueryEscape(to), "", cookie("")).Body.String()
		if !strings.Contains(page, `name="to" value="/"`) {
			t.Errorf("to=%q is kept on the page", to)
		}
	}
	for _, to := range []string{"/", "/runs/12", "/runs/5?step=test%2Forders", "/trace?q=https%3A%2F%2Fx"} {
		w := s.ask("POST", "/signin", url.Values{"token": {"slw_x"}, "to": {to}}.Encode(), cookie(""))
		if got := w.Header().Get("Location"); got != to {
			t.Errorf("to=%q leads to %q", to, got)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, target := range []string{"/projects/shop", "/signin", "/nowhere", "/assets/slipway.css", "/runs/14/log?step=test/web"} {
		head := s.ask("GET", target, "").Header()
		policy := head.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s has the headers %v", target, head)
		}
	}
	if got := s.ask("GET", "/projects/shop", "").Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("a page may be kept: %s", got)
	}
}

// Files are asked for by a name that changes with their content, and kept for good.
func TestAssets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := parse(t, s.ask("GET", "/signin", "").Body.String())
	found := 0
	for n := range root.Descendants() {
		for _, key := range []string{"href", "src"} {
			file := attr(n, key)
			if !strings.HasPrefix(file, "/assets/") {
				continue
			}
			found++
			w := s.ask("GET", file, "", cookie(""))
			if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
				t.Errorf("%s answers %d, %s", file, w.Code, w.Header().Get("Cache-Control"))
			}
			stale := file[:strings.Index(file, "?")] + "?v=000000000000"
			if got := s.ask("GET", stale, "").Header().Get("Cache-Control"); got != "no-cache" {
				t.Errorf("%s is kept: %s", stale, got)
			}
			if again := s.ask("GET", file, "", header("If-None-Match", w.Header().Get("ETag"))); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
				t.Errorf("%s answers %d to who has it", file, again.Code)
			}
			packed := s.ask("GET", file, "", header("Accept-Encoding", "gzip"))
			z, err := gzip.NewReader(packed.Body)
			if packed.Header().Get("Content-Encoding") != "gzip" && strings.Contains(file, ".svg") {
				continue // too small to gain by it
			}
			if err != nil {
				t.Errorf("%s is not compressed: %v", file, err)
			} else if b, err := io.ReadAll(z); err != nil || string(b) != w.Body.String() {
				t.Errorf("%s is another one when compressed: %v", file, err)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d files were found", found)
	}
	if w := s.ask("GET", "/favicon.ico", "", cookie("")); w.Code != http.StatusMovedPermanently {
		t.Errorf("the favicon answers %d", w.Code)
	}
}

func TestCompressed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	plain := s.ask("GET", "/projects/big", "").Body.String()
	w := s.ask("GET", "/projects/big", "", header("Accept-Encoding", "br, gzip"))
	packed := w.Body.Len()
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil || string(b) != plain {
		t.Errorf("the page is another one when compressed: %v", err)
	}
	if packed > 12_000 {
		t.Errorf("a board of 200 services is %d bytes", packed)
	}
}

// A program that asks with HEAD, as link previews do, uses nothing up either.
func TestHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	srv := httptest.NewServer(s.handler)
	defer srv.Close()
	resp, err := srv.Client().Head(srv.URL + "/signin/one-time")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !s.codes["one-time"] {
		t.Errorf("HEAD answers %d, and the code is there: %v", resp.StatusCode, s.codes["one-time"])
	}
}

// The button approves the commit that the page shows, whatever the pull request is at when it is pressed.
func TestTheFormOfAReviewCarriesTheHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	page := s.ask("GET", "/projects/shop/pulls", "").Body.String()
	if head := `name="head" value="` + hex(40, "c5") + `"`; !strings.Contains(page, head) {
		t.Errorf("%s is not in\n%s", head, page)
	}
}

package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/net/html"
)

// typed is what the form with the message holds, and the message.
func typed(t *testing.T, page string) (url.Values, string) {
	t.Helper()
	root := parse(t, page)
	note := one(t, root, "#refused")
	box := note.Parent
	if attr(note, "role") != "alert" {
		t.Error("the message is not told to who does not see it")
	}
	out := url.Values{}
	for n := range box.Descendants() {
		switch {
		case n.Type == html.ElementNode && n.Data == "input":
			out.Set(attr(n, "name"), attr(n, "value"))
		case n.Data == "option" && slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "selected" }):
			out.Set(attr(n.Parent, "name"), attr(n, "value"))
		}
	}
	return out, words(note)
}

// What is not taken stays in its form, with the reason beside it.
func TestRefusedFormKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	day := "until=\"21.12.2026\": expected a day such as 2026-12-31"
	viewer := "bob is a viewer of shop: that takes an approver"
	for _, c := range []struct {
		target, form, problem string
		status                int
	}{
		{"/projects/shop/waivers", "gate=vulnerabilities&subject=CVE-1+%22zlib%22&service=orders&environment=qa&until=21.12.2026&reason=not+%3Cb%3Ereachable&back=/runs/17", day, 422},
		{"/projects/shop/waivers", "gate=&subject=&service=&environment=&until=2026-12-31&reason=", "say why: a reason is kept with the waiver", 422},
		{"/projects/shop/waivers", "gate=x&subject=y&service=&environment=&until=2026-12-31&reason=z", viewer, 403},
		{"/approvals/12", "decision=approve&reason=&back=/runs/12", "say why: a reason is kept with the decision", 422},
		{"/approvals/12", "decision=reject&reason=it+is+%22slow%22&back=/runs/12", viewer, 403},
		{"/approvals/12", "decision=reject&reason=slow&back=/projects/shop/releases/delivery/v1.2.0", viewer, 403},
		{"/runs/14/cancel", "reason=not+now&back=/runs/14", viewer, 403},
		{"/projects/shop/rollback", "service=delivery&environment=production&to=v1.0.0&reason=slow&back=/projects/shop/services/delivery", viewer, 403},
	} {
		s := newSite(t)
		s.forbidden = c.status == http.StatusForbidden
		w := s.ask("POST", c.target, c.form)
		to := w.Header().Get("Location")
		if w.Code != http.StatusSeeOther || !strings.Contains(to, "refused=") || !strings.HasSuffix(to, "#refused") {
			t.Errorf("POST %s %s answers %d and leads to %s", c.target, c.form, w.Code, to)
			continue
		}
		w = s.ask("GET", strings.TrimSuffix(to, "#refused"), "")
		page := w.Body.String()
		if w.Code != http.StatusOK || strings.Contains(page, "<b>reachable") {
			t.Errorf("%s answers %d", to, w.Code)
			continue
		}
		live := attr(one(t, parse(t, page), "#main"), "data-live")
		if again := s.ask("GET", live, "", header("X-Part", "live")).Body.String(); !strings.Contains(again, `id="refused"`) {
			t.Errorf("%s loses what was typed when something happens", to)
		}
		if other := s.ask("GET", strings.TrimSuffix(to, "#refused"), "", cookie("eve")).Body.String(); strings.Contains(other, `id="refused"`) {
			t.Errorf("%s shows somebody else what was typed", to)
		}
		got, problem := typed(t, page)
		want, _ := url.ParseQuery(c.form)
		want.Del("decision")
		if got.Encode() != want.Encode() || problem != c.problem {
			t.Errorf("%s: the form holds %v, not %v, and says %q", c.target, got, want, problem)
		}
		if len(s.asked) > 0 {
			t.Errorf("%s did %v all the same", c.target, s.asked)
		}
	}
}

// A form whose page does not have it any more is told of at the top of that page, or instead of one that is not there.
func TestRefusedFormWithoutItsForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		target, back string
		status       int
	}{
		{"/approvals/99", "/runs/12", 200}, {"/runs/5/retry", "/runs/5", 200}, {"/projects/shop/pulls/3/merge", "/projects/shop/pulls", 200}, {"/waivers/1/withdraw", "/projects/shop/waivers", 200},
		{"/projects/shop/rollback", "/projects/shop/services/delivery", 200}, // of no environment
		{"/approvals/12", "/runs/4711", 403}, {"/approvals/12", "/nowhere", 403},
	} {
		s := newSite(t)
		s.forbidden = true
		w := s.ask("POST", c.target, url.Values{"decision": {"approve"}, "reason": {"fine"}, "back": {c.back}}.Encode())
		to, _ := strings.CutSuffix(w.Header().Get("Location"), "#refused")
		if w.Code != http.StatusSeeOther || !strings.HasPrefix(to, c.back+"?") {
			t.Errorf("POST %s from %s answers %d and leads to %s", c.target, c.back, w.Code, to)
			continue
		}
		w = s.ask("GET", to, "")
		page := w.Body.String()
		if w.Code != c.status || !strings.Contains(page, "that takes an approver") || strings.Count(page, `role="alert"`) != 1 {
			t.Errorf("GET %s answers %d: %s", to, w.Code, page)
		}
		if strings.Contains(s.ask("GET", c.back, "").Body.String(), "that takes an approver") {
			t.Errorf("%s still says what was refused before", c.back)
		}
	}
}

// A form that names no page of Slipway ends on the page of the error.
func TestRefusedFormWithoutItsPage(t *testing.T) {
	t.Parallel()
	for _, back := range []string{"/live", "//evil.example", ""} {
		s := newSite(t)
		s.forbidden = true
		w := s.ask("POST", "/approvals/12", url.Values{"decision": {"approve"}, "reason": {"fine"}, "back": {back}}.Encode())
		if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), "that takes an approver") || strings.Contains(w.Body.String(), "evil.example") {
			t.Errorf("from %q it answers %d: %s", back, w.Code, w.Body)
		}
	}
}

// What was typed when the session had ended is there after signing in.
func TestFormAfterTheSessionEnded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	form := "decision=approve&reason=the+quote+is+right&back=/runs/12"
	w := s.ask("POST", "/approvals/12", form, cookie("ended"))
	signin, err := url.Parse(w.Header().Get("Location"))
	if err != nil || w.Code != http.StatusSeeOther || signin.Path != "/signin" {
		t.Fatalf("it answers %d and leads to %s", w.Code, signin)
	}
	w = s.ask("POST", "/signin", url.Values{"token": {"slw_x"}, "to": {signin.Query().Get("to")}}.Encode(), cookie(""))
	to, _ := strings.CutSuffix(w.Header().Get("Location"), "#refused")
	got, problem := typed(t, s.ask("GET", to, "").Body.String())
	if got.Get("reason") != "the quote is right" || !strings.Contains(problem, "nothing was done") || len(s.asked) > 0 {
		t.Errorf("%s holds %v, says %q, and did %v", to, got, problem, s.asked)
	}
}

// What is kept of forms is bounded.
func TestRefusedFormsAreBounded(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	send := func(reason string) string {
		to, _ := strings.CutSuffix(s.ask("POST", "/approvals/12", url.Values{"decision": {"approve"}, "reason": {reason}, "back": {"/runs/12"}}.Encode(), cookie("")).Header().Get("Location"), "#refused")
		u, _ := url.Parse(to)
		page, _, _ := strings.Cut(u.Query().Get("to"), "#")
		return page
	}
	holds := func(page, text string) bool { return strings.Contains(s.ask("GET", page, "").Body.String(), text) }
	first := send("the first one")
	if !holds(first, "the first one") {
		t.Fatal("the first form is not kept")
	}
	for range 255 {
		send("another")
	}
	if !holds(first, "the first one") {
		t.Error("the first form is gone too soon")
	}
	if long := send(strings.Repeat("x", 60<<10)); holds(long, "xxxxxxxx") || !holds(long, "nothing was done") {
		t.Error("a form of 60 KiB is kept, or nothing is said of it")
	}
	if holds(first, "the first one") {
		t.Error("the 257th form pushed out none")
	}
	last := send("the last one")
	s.now = s.now.Add(2 * time.Hour)
	if holds(last, "the last one") {
		t.Error("a form is kept for two hours")
	}
}

// Without JavaScript: what was refused is put right in the form that still holds the rest.
func TestBrowserRefusedWaiver(t *testing.T) {
	t.Parallel()
	b := browse(t)
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.open("/projects/shop/waivers?gate=vulnerabilities&subject=CVE-1+zlib&service=orders&back=%2Fruns%2F17")
	refuse := func(yes bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.forbidden = yes
	}
	reason := chromedp.CSS("#give input[name=reason]")
	refuse(true)
	b.do(chromedp.WaitVisible(reason), chromedp.SendKeys(reason, "not reachable"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.SendKeys(reason, kb.Enter)); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.WaitVisible(chromedp.CSS("#give[open] #refused")))
	b.until("document.activeElement.id === 'refused'")
	// The address is that of a page: loading it again sends nothing, and shows the same.
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Reload()); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.WaitVisible(chromedp.CSS("#give[open] #refused")))
	if got := value[string](b, "location.pathname + ' ' + document.querySelector('#give input[name=reason]').value"); got != "/projects/shop/waivers not reachable" {
		t.Errorf("loaded again it is %q", got)
	}
	refuse(false)
	if _, err := chromedp.RunResponse(b.ctx, chromedp.SendKeys(reason, kb.Enter)); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.WaitVisible(chromedp.CSS("#gates")))
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) != 1 || !strings.HasPrefix(b.asked[0], "bob waives vulnerabilities CVE-1 zlib of orders") || !strings.HasSuffix(b.asked[0], ": not reachable") {
		t.Errorf("it did %v", b.asked)
	}
}

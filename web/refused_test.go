package web_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

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
		page := w.Body.String()
		if w.Code != c.status || strings.Contains(page, "data-live") || strings.Contains(page, "<b>reachable") {
			t.Errorf("POST %s %s answers %d", c.target, c.form, w.Code)
			continue
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

// A form whose page does not have it, or that names no page, ends on the page of the error.
func TestRefusedFormWithoutItsPage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ target, back, link string }{
		{"/approvals/99", "/runs/12", "/runs/12"}, {"/approvals/12", "/runs/4711", "/runs/4711"}, {"/approvals/12", "/nowhere", "/nowhere"},
		{"/approvals/12", "/live", "/live"}, {"/approvals/12", "//evil.example", "/"}, {"/approvals/12", "", "/"},
		{"/projects/shop/rollback", "/projects/shop/services/delivery", "/projects/shop/services/delivery"}, // of no environment
	} {
		s := newSite(t)
		s.forbidden = true
		w := s.ask("POST", c.target, url.Values{"decision": {"approve"}, "reason": {"fine"}, "back": {c.back}}.Encode())
		page := w.Body.String()
		if w.Code != http.StatusForbidden || !strings.Contains(page, "that takes an approver") || !strings.Contains(page, `<a href="`+c.link+`">`) || strings.Contains(page, `id="refused"`) {
			t.Errorf("POST %s from %s answers %d: %s", c.target, c.back, w.Code, page)
		}
	}
	s := newSite(t)
	s.world.supply.down = true
	if w := s.ask("POST", "/projects/shop/waivers", "gate=x&subject=y&reason=z&until=soon"); w.Code != 422 || !strings.Contains(w.Body.String(), "expected a day") {
		t.Errorf("without its page the form answers %d", w.Code)
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
	if got := value[string](b, "document.activeElement.id"); got != "refused" {
		t.Errorf("the focus is at %q", got)
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

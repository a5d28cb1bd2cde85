package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/slipway-cd/slipway"
)

// one is the only element of a page with a class, or with an id when it begins with #.
func one(t *testing.T, root *html.Node, class string) *html.Node {
	t.Helper()
	var found []*html.Node
	for n := range root.Descendants() {
		if slices.Contains(strings.Fields(attr(n, "class")), class) || "#"+attr(n, "id") == class {
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d elements %s", len(found), class)
	}
	return found[0]
}

func summaries(root *html.Node) (out []string) {
	for n := range root.Descendants() {
		if n.Data == "summary" && strings.HasPrefix(attr(n.Parent, "class"), "gate ") {
			text := strings.Join(strings.Fields(words(n)), " ")
			if has(n.Parent, "open") {
				text += " (open)"
			}
			out = append(out, text)
		}
	}
	return out
}

// Each gate of a service is one row, however many environments it spoke in; what failed comes first.
func TestGateList(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for target, want := range map[string][]string{
		"/runs/18": {
			"✗ fail manifests 2 remarks fail, 2 warn ✓pass in development ✗fail in qa ✗fail in production",
			"✓ pass tests 46 passed ✓pass in test",
			"✓ pass no-gpl " + script + ` the rule holds \u202egnp.exe ✓pass in scan`,
		},
		"/projects/shop/releases/delivery/v1.2.0": {
			"! warn vulnerabilities 2 medium !warn in development !warn in qa !warn in production",
			"✓ pass tests 46 passed, 1 skipped ✓pass in development ✓pass in qa ✓pass in production",
			"✓ pass manifests 4 objects, no remark ✓pass in development ✓pass in qa ✓pass in production",
			"✓ pass signatures 2 of 2 signed, provenance required ✓pass in qa",
		},
	} {
		if got := summaries(parse(t, s.ask("GET", target, "").Body.String())); !slices.Equal(got, want) {
			t.Errorf("%s lists\n%s\nnot\n%s", target, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// What fails is unfolded unless the top of the page tells it; many that passed are folded away.
func TestGateListFolds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.detail(17).Steps[3].State = slipway.StepSucceeded // and so nothing at the top tells of it
	for i := range 9 {
		s.supply.said[17] = append(s.supply.said[17], said(17, slipway.KindScan, "orders", "", fmt.Sprint("rule-", i), slipway.Pass, "holds"))
	}
	root := parse(t, s.ask("GET", "/runs/17", "").Body.String())
	if got := summaries(root)[0]; got != "✗ fail vulnerabilities 4 critical, 1 high, 30 medium, 1 waived until 2026-12-11 ✗fail in scan (open)" {
		t.Errorf("the first row is %s", got)
	}
	passed := one(t, root, "passed")
	if has(passed, "open") || !strings.HasPrefix(strings.TrimSpace(words(passed)), "11 gates passed") {
		t.Errorf("what passed is %s", words(passed))
	}
}

// links are the addresses of links whose text begins so.
func links(root *html.Node, text string) (out []string) {
	for n := range root.Descendants() {
		if n.Data == "a" && strings.HasPrefix(strings.TrimSpace(words(n)), text) {
			out = append(out, attr(n, "href"))
		}
	}
	return out
}

// From a reason to its form, filled in; from there back to the run, which says what is left and offers to go on.
func TestWaive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all := links(parse(t, s.ask("GET", "/runs/17", "").Body.String()), "Waive …")
	if len(all) != 12 { // six reasons, at the top and in the list
		t.Fatalf("%d reasons can be waived: %v", len(all), all)
	}
	if got := links(parse(t, s.ask("GET", "/runs/17", "", cookie("eve")).Body.String()), "Waive …"); len(got) > 0 {
		t.Errorf("eve may waive %v", got)
	}
	form := url.Values{}
	for n := range one(t, parse(t, s.ask("GET", all[0], "").Body.String()), "#give").Descendants() {
		if n.Data == "input" {
			form.Set(attr(n, "name"), attr(n, "value"))
		}
	}
	want := url.Values{"gate": {"vulnerabilities"}, "subject": {"CVE-2025-0000 lib0"}, "service": {"orders"}, "environment": {""}, "back": {"/runs/17"}, "until": {"2026-12-21"}, "reason": {""}}
	if form.Encode() != want.Encode() {
		t.Errorf("the form holds %v", form)
	}
	form.Set("reason", "not reachable")
	if w := s.ask("POST", "/projects/shop/waivers", form.Encode()); w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/runs/17#gates" {
		t.Fatalf("the form answers %d to %s", w.Code, w.Header().Get("Location"))
	}
	root := parse(t, s.ask("GET", "/runs/17", "").Body.String())
	note := one(t, root, "waived")
	if got := strings.Join(strings.Fields(words(note)), " "); got != "One reason was waived after the gates had spoken; 5 are left. That counts when their steps run again. Retry what did not succeed" {
		t.Errorf("the note says %s", got)
	}
	if got := links(root, "Waive …"); len(got) != 10 || !strings.Contains(words(root), "waived since by bob until 2026-12-21: not reachable") {
		t.Errorf("%d reasons are left to be waived", len(got))
	}
	// A waiver of another service, gate or environment, one that is over or withdrawn, lets nothing more through.
	other := s.waivers[0]
	for _, change := range []func(*slipway.Waiver){
		func(w *slipway.Waiver) { w.Service = "web" }, func(w *slipway.Waiver) { w.Gate = "tests" }, func(w *slipway.Waiver) { w.Environment = "qa" },
		func(w *slipway.Waiver) { w.Expires = noon }, func(w *slipway.Waiver) { w.Withdrawn = noon },
	} {
		w := other
		w.Subject, w.Service, w.Gate, w.Expires = "CVE-*", "", slipway.GateVulnerabilities, noon.AddDate(0, 0, 3)
		change(&w)
		s.waivers = append(s.waivers, w)
	}
	if got := links(parse(t, s.ask("GET", "/runs/17", "").Body.String()), "Waive …"); len(got) != 10 {
		t.Errorf("%d reasons are left to be waived, not 10", len(got))
	}
	for _, until := range []string{"", "soon", "2026-13-01", "21.12.2026"} {
		if w := s.ask("POST", "/projects/shop/waivers", "gate=x&subject=y&reason=z&until="+until); !strings.Contains(w.Header().Get("Location"), "refused=") || len(s.asked) != 1 {
			t.Errorf("until=%s answers %d and did %v", until, w.Code, s.asked)
		}
	}
	if page := s.ask("GET", "/projects/shop/waivers?gate=x&subject=%3Cscript%3E&back=https://evil.example", "").Body.String(); strings.Contains(page, `value="https:`) || strings.Contains(page, `href="https://evil`) || strings.Contains(page, "<script>") {
		t.Error("the form leads to another site, or holds markup")
	}
	if w := s.ask("POST", "/projects/shop/waivers", "gate=x&subject=y&reason=z&until=2026-12-01&back=//evil.example"); w.Header().Get("Location") != "/projects/shop/waivers" {
		t.Errorf("it leads to %s", w.Header().Get("Location"))
	}
}

// A run whose gates cannot be told from waivers, as the repository does not answer, is shown all the same.
func TestWaiversUnknown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.world.supply.down = true
	if w := s.ask("GET", "/runs/17", ""); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "CVE-2025-0000 lib0") {
		t.Errorf("it answers %d", w.Code)
	}
	if w := s.ask("GET", "/projects/shop/waivers", ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("the page of waivers answers %d", w.Code)
	}
}

// The reason that only repeats the gates is not shown beside them, nor is the end of the log.
func TestFailedGateInsteadOfLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.logs[key(17, "scan/orders")] = []slipway.LogLine{{Text: "a line of the log"}}
	top := words(one(t, parse(t, s.ask("GET", "/runs/17?step=plan", "").Body.String()), "alert"))
	if strings.Contains(top, "a line of the log") || strings.Contains(top, "4 critical, 1 high; gate") || !strings.Contains(top, "CVE-2025-0004 lib4") {
		t.Errorf("the top says %s", top)
	}
	s.supply.said[17] = nil
	top = words(one(t, parse(t, s.ask("GET", "/runs/17?step=plan", "").Body.String()), "alert"))
	if !strings.Contains(top, "a line of the log") || !strings.Contains(top, "4 critical, 1 high; gate") {
		t.Errorf("without gates the top says %s", top)
	}
}

func TestFindingsPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	scan := s.scans[key(17, "orders")]
	scan.Findings = nil
	for i := range 10_000 {
		scan.Findings = append(scan.Findings, finding(i))
	}
	s.scans[key(17, "orders")] = scan
	target, seen, pages := "/runs/17/findings?service=orders&fixable=1", 0, 0
	for target != "" {
		w := s.ask("GET", target, "")
		root := parse(t, w.Body.String())
		if w.Body.Len() > 600_000 {
			t.Errorf("%s is %d bytes", target, w.Body.Len())
		}
		for n := range root.Descendants() {
			if n.Data == "tr" && n.Parent.Data == "tbody" {
				seen++
			}
		}
		pages++
		target = ""
		if next := links(root, "after these"); len(next) == 1 {
			target = "/runs/17/findings" + next[0]
		}
	}
	if seen != 5000 || pages != 20 {
		t.Errorf("%d findings on %d pages", seen, pages)
	}
	for _, from := range []string{"-1", "x", "99999999", "5000"} {
		if w := s.ask("GET", "/runs/17/findings?fixable=1&from="+from, ""); !strings.Contains(words(parse(t, w.Body.String())), "1 to 250 of 5000 that fit") {
			t.Errorf("from=%s does not give the first page", from)
		}
	}
}

// A link that leads nowhere good is none.
func TestFindingsLinks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.supply.said[17][1].Reasons[0].Link = "http://evil.example"
	for _, target := range []string{"/runs/17", "/runs/17/findings"} {
		if page := s.ask("GET", target, "").Body.String(); strings.Contains(page, "javascript:") || strings.Contains(page, "ZgotmplZ") || strings.Contains(page, "evil.example") {
			t.Errorf("%s links to somewhere else", target)
		}
	}
}

// A new scan shows on the next board, and the chip leads to what it found.
func TestChipsAreNew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, want := range []string{"4 critical, 3 high", "! 1 high"} {
		if page := words(parse(t, s.ask("GET", "/projects/shop", "").Body.String())); !strings.Contains(page, want) {
			t.Errorf("the board does not have %q", want)
		}
		newest := *s.deployed[0].Scan
		newest.Findings = []slipway.Finding{{ID: "CVE-1", Severity: slipway.SeverityHigh}}
		s.deployed[0].Scan = &newest
	}
	for _, to := range links(parse(t, s.ask("GET", "/projects/shop/services/delivery", "").Body.String()), "! 1 high") {
		if to != "/projects/shop/services/delivery/findings?environment=production&severity=high" {
			t.Errorf("it leads to %s", to)
		}
	}
}

func TestEvidenceNotFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for target, status := range map[string]int{
		"/runs/99/findings": 404, "/runs/x/sbom": 404, "/runs/99/manifests": 404, "/runs/18/sbom.json": 404, "/runs/17/manifests.yaml?service=orders": 404, "/runs/99/sbom.json": 404,
		"/projects/shop/services/delivery/findings?environment=mars": 404, "/projects/shop/services/none/findings": 404, "/runs/3/findings": 200, "/runs/16/manifests": 200, "/runs/16/findings": 200,
	} {
		if w := s.ask("GET", target, ""); w.Code != status {
			t.Errorf("%s answers %d, not %d", target, w.Code, status)
		}
	}
	for _, target := range []string{"/runs/17/sbom.json", "/runs/18/manifests.yaml", "/runs/5/attachments/" + sha("page.html")} {
		if w := s.ask("GET", target, "", cookie("")); w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), "/signin") {
			t.Errorf("%s without a session answers %d", target, w.Code)
		}
	}
}

func TestEvidenceFiles(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	w := s.ask("GET", "/runs/17/sbom.json?service=orders", "")
	if got := w.Header().Get("Content-Disposition"); got != "attachment; filename=orders.spdx.json" || !strings.Contains(w.Body.String(), "openssl") {
		t.Errorf("the SBOM is sent as %s", got)
	}
	w = s.ask("GET", "/runs/17/sbom.json?service="+url.QueryEscape("../\"\r\nX: y"), "")
	if w.Code != http.StatusNotFound || len(w.Header()["X"]) > 0 {
		t.Errorf("a service that is none answers %d", w.Code)
	}
	w = s.ask("GET", "/runs/18/manifests.yaml?service=orders&environment=qa", "")
	if text := w.Body.String(); w.Header().Get("Content-Type") != "text/plain; charset=utf-8" || !strings.Contains(text, "# Deployment/orders, chart/templates/deployment.yaml\napiVersion: apps/v1\n") || !strings.Contains(text, "# too long to be kept") {
		t.Errorf("the manifests are\n%s", text)
	}
}

// What tests left is saved and not shown, but for pictures, whatever its name says.
func TestAttachments(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for name, want := range map[string][2]string{
		"shots/cart.png":          {"image/png", "inline; filename=cart.png"},
		"page.html":               {"application/octet-stream", "attachment; filename=page.html"},
		"evil.png":                {"application/octet-stream", "attachment; filename=evil.png"},
		"a\"b\r\n" + rtl + ".txt": {"application/octet-stream", `attachment; filename="a\"b____gnp.exe.txt"`},
	} {
		w := s.ask("GET", "/runs/5/attachments/"+sha(name), "")
		h := w.Header()
		disposition := h.Get("Content-Disposition")
		if strings.HasPrefix(name, "a\"b") {
			want[1] = disposition // one line, see below
		}
		if w.Code != http.StatusOK || h.Get("Content-Type") != want[0] || disposition != want[1] || strings.ContainsAny(disposition, "\r\n\u202e") {
			t.Errorf("%q is sent as %s, %q", name, h.Get("Content-Type"), disposition)
		}
		if h.Get("Content-Security-Policy") != "default-src 'none'; sandbox" || h.Get("X-Content-Type-Options") != "nosniff" || w.Body.String() != string(s.files[sha(name)]) {
			t.Errorf("%q is sent with %v", name, h)
		}
	}
	for _, target := range []string{"/runs/5/attachments/" + sha("none"), "/runs/3/attachments/" + sha("page.html"), "/runs/5/attachments/..%2f..%2fetc"} {
		if w := s.ask("GET", target, ""); w.Code != http.StatusNotFound {
			t.Errorf("%s answers %d", target, w.Code)
		}
	}
	w := s.ask("GET", "/runs/5/attachments/"+sha("page.html"), "", header("Range", "bytes=0-8"))
	if w.Code != http.StatusPartialContent || w.Body.String() != "<!doctype" {
		t.Errorf("a part answers %d, %s", w.Code, w.Body)
	}
}

// New failures come first, then failures, then those of flaky tests; the output of a failed test stands with it.
func TestReportOrder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	k := key(5, "test/orders")
	r := s.reports[k]
	r.Suites[0].Cases[3].State, r.Suites[0].Cases[3].Message = slipway.TestFailed, "an old one"
	r.Failed++
	s.reports[k] = r
	page := words(one(t, parse(t, s.ask("GET", "/runs/5?step=test/orders", "").Body.String()), "report"))
	last := -1
	for _, name := range []string{"TestCurrency/EUR new", "an old one", "TestTotalWithDiscount flaky", "TestOrder/04 flaky", "Coverage: 71.3 %", "Slowest", "3 files that the tests left"} {
		at := strings.Index(page, name)
		if at < last || at < 0 {
			t.Errorf("%q is at %d, after %d:\n%.900s", name, at, last, page)
		}
		last = at
	}
}

// Without what keeps evidence there are no gates, no waivers and no links to nowhere.
func TestWithoutEvidence(t *testing.T) {
	t.Parallel()
	s := newBareSite(t)
	for _, target := range []string{"/runs/17", "/runs/5", "/projects/shop", "/projects/shop/releases/delivery/v1.2.0"} {
		w := s.ask("GET", target, "")
		root := parse(t, w.Body.String())
		if w.Code != http.StatusOK || len(links(root, "Waivers"))+len(links(root, "Waive …"))+len(links(root, "shots/cart.png")) > 0 || strings.Contains(words(root), "4 critical, 3 high") {
			t.Errorf("%s answers %d, with links", target, w.Code)
		}
	}
}

// All that hold are on the first page; those that do not any more are paged.
func TestWaiverPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 230 {
		s.waivers = append(s.waivers, slipway.Waiver{ID: int64(10 + i), Project: "shop", Gate: "tests", Subject: fmt.Sprintf("old-%03d", i), Reason: "over", Author: "ada", Expires: s.now.AddDate(0, 0, -1)})
	}
	s.waivers = append([]slipway.Waiver{{ID: 9, Project: "shop", Gate: "tests", Subject: "the-first", Reason: "r", Author: "ada", Expires: s.now.AddDate(0, 1, 0), Problem: "there is no service carts"}}, s.waivers...)
	to, seen := "/projects/shop/waivers", map[string]int{}
	for pages := 1; to != ""; pages++ {
		page := parse(t, s.ask("GET", to, "").Body.String())
		text := words(page)
		for i := range 230 {
			if name := fmt.Sprintf("old-%03d", i); strings.Contains(text, name) {
				seen[name]++
			}
		}
		if has := strings.Contains(text, "the-first"); has != (pages == 1) || has != strings.Contains(text, "there is no service carts") {
			t.Errorf("page %d has what holds: %t", pages, has)
		}
		to = ""
		for _, next := range links(page, "older waivers that hold no longer") {
			to = "/projects/shop/waivers" + next
		}
		if pages > 4 {
			t.Fatal("the pages do not end")
		}
	}
	if len(seen) != 230 {
		t.Errorf("%d of 230 were on a page", len(seen))
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s was on %d pages", name, n)
		}
	}
	for _, bad := range []string{"x", "-1", "0"} {
		if w := s.ask("GET", "/projects/shop/waivers?before="+bad, ""); w.Code != 422 {
			t.Errorf("before=%s: %d", bad, w.Code)
		}
	}
	for target, status := range map[string]int{"orders/test": 422, "orders/test?case=nothing": 404, "none/test?case=TestCurrency/EUR": 404} {
		if w := s.ask("GET", "/projects/shop/services/"+target, ""); w.Code != status {
			t.Errorf("%s: %d, want %d", target, w.Code, status)
		}
	}
}

// A test leads to its history, of a fork's run to that of the fork's ref.
func TestLinksToHistories(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.detail(5).Run.Ref = "refs/pull/2/head"
	for _, want := range []string{"", "&ref=refs%2Fpull%2F2%2Fhead"} {
		found := links(parse(t, s.ask("GET", "/runs/5", "").Body.String()), "TestCurrency/EUR")
		if len(found) < 2 {
			t.Errorf("links are %v", found)
		}
		for _, to := range found {
			if to != "/projects/shop/services/orders/test?case=TestCurrency%2FEUR"+want+"&suite=example.com%2Fshop%2Forders" {
				t.Errorf("it leads to %s", to)
			}
		}
		s.detail(5).Run.Fork = true
	}
}

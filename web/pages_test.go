package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/web"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// site is the UI over a world, asked in process.
type site struct {
	*world
	handler http.Handler
}

func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteWith(t, func(*web.Options) {})
}

// newBareSite has nothing that gates need.
func newBareSite(t testing.TB) *site {
	t.Helper()
	return newSiteWith(t, func(o *web.Options) { o.Evidence, o.Images, o.Waivers, o.Tests = nil, nil, nil, nil })
}

func newSiteWith(t testing.TB, change func(*web.Options)) *site {
	t.Helper()
	w := newWorld(noon)
	o := w.options()
	o.Now = func() time.Time { return w.now }
	change(&o)
	h, err := web.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &site{w, h}
}

// ask sends a request with a session, unless change takes it away.
func (s *site) ask(method, target, body string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: session})
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

func cookie(value string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del("Cookie")
		if value != "" {
			r.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: value})
		}
	}
}

func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// pages are all of them, and what must be seen on each.
func pages() map[string][]string {
	return map[string][]string{
		"/projects":                               {"shop", "mirrors https://git.example/team/big.git", "Waiting for a person", "release delivery v1.2.0"},
		"/projects/shop":                          {"4 services", "1 unhealthy", "1 run failed", "merge main errored", "2 waiting for a person", "orders main-1a2b3c4 is unhealthy in development", "v1.1.0 verified", "approve or reject", "on its way", "✗ 4 critical, 3 high", "changed outside revision 7, app version 0.9.0 · 4 min ago · Rollback to 2 <script>"},
		"/projects/big":                           {"200 services", "1 to 100 of 200", "service-099", "after these", "nothing needs you"},
		"/projects/big?from=100":                  {"101 to 200 of 200", "service-199", "before these"},
		"/projects/big?needs=1":                   {"No service needs a person.", "all 200"},
		"/projects/shop?needs=1":                  {"orders", "delivery", "all 4"},
		"/projects/big?service=service-00":        {"service-009", "all 200"},
		"/projects/big?service=none-such":         {"No service's name has “none-such” in it."},
		"/projects/new":                           {"git remote add slipway http://example.com/git/new.git", "No runs yet."},
		"/projects/shop/runs":                     {"push feature/tidy", "superseded by run 15", "pull request 2"},
		"/projects/shop/runs?state=waiting":       {"#12", "release delivery v1.2.0"},
		"/projects/shop/runs?state=errored":       {"#13", "no space left on device"},
		"/projects/new/runs?state=failed":         {"No runs: none is in the state failed."},
		"/projects/shop/runs?service=orders":      {"Runs of orders", "#5"},
		"/projects/shop/pulls":                    {"Greet customers better", "#6 ✓ succeeded", "Merge when run #5 has succeeded", "Approve d0bf3e6", "Close"},
		"/projects/new/pulls":                     {"git push origin HEAD:refs/for/main"},
		"/projects/shop/releases":                 {"delivery v1.1.1", "! quarantined", "production"},
		"/projects/new/releases":                  {"git push origin HEAD:refs/heads/release/SERVICE/v1.0.0"},
		"/projects/shop/services/delivery":        {"Roll back delivery in production", "v1.0.0 (the last verified one)", "Releases"},
		"/projects/shop/releases/delivery/v1.1.0": {"What was built, once", "the quote in QA is right", "registry.slipway.internal/shop/delivery@" + sha("deliveryv1.1.0"), ", production ✗ 4 critical, 3 high"},
		"/projects/shop/releases/delivery/v1.2.0": {"waits for a person before production", "Approve", "not yet", "+        value: (secret, hash 77ab)", "! warn vulnerabilities 2 medium: no fix yet", "gate without a verdict", "Signature and attestations", "✓ signed 3 signed statements", "! 1 warned · ✓ 3 passed"},
		"/projects/shop/releases/delivery/v1.1.1": {"Not deployed again until a person lifts it.", "Lift the quarantine", "rolled-back"},
		"/runs/3":                   {"Run #3 ✓ succeeded", "merge of main", "skipped: no file under src/web changed", "its approval in production run #2, which waits", "Timings", "development"},
		"/runs/5":                   {"tests failed: 2 of 46", "TestTotalWithDiscount", "got 29.97, want 26.97", "2 failed (1 new), 43 passed, 1 skipped, 2 flaky", "44 that did not fail", "not a test report", "TestCurrency/EUR new", "-2.7 points against run #3", "shots/cart.png 48 B", "1 flaky test that did not fail this time", "big.zip: not kept"},
		"/runs/5?step=build/orders": {"Log of build/orders", "This step wrote no log."},
		"/runs/7":                   {"npm error code E404", "did not complete successfully", "= [build 1/5] FROM docker.io/library/node:22 cached"},
		"/runs/8":                   {"does not answer", "3 attempts ended in an error since 11:51:00 UTC"},
		"/runs/11":                  {"Readiness probe failed", "of which 6 min 8 s waiting for people", "verify-rollback/delivery@production"},
		"/runs/12":                  {"delivery v1.2.0 waits for a person before production", "by someone other than ada", "tests: 46 passed, 1 skipped", "Reject"},
		"/runs/14":                  {"going on for 48 s", "ok example.com/shop/web/page24", "● tests of web started"},
		"/runs/10?step=verify/delivery@production": {"✓ Deployment/delivery done 4 s", "running the chart's tests: delivery-quote"},
		"/runs/17":                                            {"gate vulnerabilities: 4 critical, 1 high, 30 medium", "CVE-2025-0000 lib0 critical, fixed in 1.2.4", "2 failed · ! 1 warned · ✓ 2 passed", "26 more", "waived by lin until 2026-12-11: not reachable", "Evidence: findings · SBOM"},
		"/runs/18":                                            {"in qa, production: 2 remarks fail, 2 warn", "latest-tag Deployment/orders the tag latest moves", "no-gpl " + script},
		"/runs/19":                                            {"18 gates passed", "✓ pass tests orders all is well"},
		"/runs/18?step=attest/orders":                         {"attest/orders"},
		"/runs/12?step=attest/delivery":                       {"3 signed statements, SBOM, what the builder recorded"},
		"/runs/12?step=gate/delivery@production":              {"Evidence: test report · findings · SBOM · manifests"},
		"/runs/17/findings?service=orders":                    {"25 findings, worst first", "with the vulnerability database of 2026-11-20", "Not looked at: layer 3", "private-key secret", "its gate fails", "5 critical"},
		"/runs/17/findings":                                   {"Findings of orders"},
		"/runs/17/findings?service=orders&severity=high":      {"9 that fit, of 25 findings", "high and worse"},
		"/runs/17/findings?service=orders&q=nothing-has-this": {"None of the 25 findings fits the filter."},
		"/runs/17/findings?service=orders&counts=1":           {"5 that fit, of 25 findings"},
		"/runs/12/findings?service=delivery":                  {"There was no vulnerability database", "no mirror answers", "Nothing was found, and no vulnerability could be."},
		"/runs/18/findings":                                   {"This image was not scanned."},
		"/runs/17/sbom":                                       {"3 packages", "openssl", "Apache-2.0", "pkg:deb/debian/openssl@3.0.11", script},
		"/runs/17/sbom?q=zlib":                                {"1 that fit, of 3 packages"},
		"/runs/17/sbom?q=none":                                {"None of the 3 packages fits the filter."},
		"/runs/12/sbom":                                       {"No SBOM of this image is kept."},
		"/runs/18/manifests":                                  {"Manifests of orders in qa", "4 remarks", "value from chart/values.yaml:7", "the cluster's own Kubernetes v1.36.3", "Its text is too long to be kept."},
		"/runs/18/manifests?environment=development":          {"no remark", "Kubernetes v1.34.9 (offline)"},
		"/runs/18/manifests?object=Service/orders":            {"all objects", "kind: Service"},
		"/runs/18/manifests?object=none":                      {"There is no object none."},
		"/runs/17/manifests":                                  {"This run rendered no chart of orders."},
		"/projects/shop/codebases": {
			"Main codebase ✓ hosted here", "http://example.com/git/shop.git", "pages ✓ connected", "Gitea, team/pages", "https://slipway.example/hooks/shop/pages made by Slipway", "Last delivery 3 min ago, 2 not processed yet", "Last poll 40 s ago", "an access token, kept sealed", "wait until a member lets them run",
			"search ✗ broken", "it refuses commit statuses: 403 \\x1b]0;owned", "git.example answers 401 " + script, "Since 2 h ago", "slipway codebase connect search --token-file FILE", "the project's token, kept sealed", "pasted by a person, or not there", "7 events",
			"keyed ✗ broken", "git.example refuses the deploy key See that the public half", "git with its deploy key", "SHA256:", "slipway codebase connect keyed --deploy-key new", "fresh ! waiting", "not in use yet", "not since the server started, 5 s ago", "mirror ✓ polled", "slipway codebase connect mirror --token-file FILE",
		},
		"/projects/new/codebases":                                                         {"hosted here", "http://example.com/git/new.git"},
		"/projects/shop/waivers":                                                          {"CVE-2025-0009 *", "slipway.yaml:31", "not reachable " + script, "1 waiver that holds no longer", "Waive something …"},
		"/projects/shop/waivers?gate=x&subject=y&back=/runs/17":                           {"Waive it", "back"},
		"/projects/shop/services/orders/test?case=TestCurrency/EUR&class=orders":          {"TestCurrency/EUR", "orders: failed in 3 of 130 reports", "It fails on main since run #4", "Before that it passed in run #3", "It is flaky: it both passed and failed on the same inputs, in runs #5 and #3", "✗ failed first failure", "after a failure", "reused from #2", "1 to 100 of 130 results", "after these", "all branches"},
		"/projects/shop/services/orders/test?case=TestCurrency/EUR&from=100":              {"101 to 130 of 130 results", "before these"},
		"/projects/shop/services/orders/test?case=TestNew+" + url.QueryEscape(script+rtl): {"never failed in 2 reports", "slipway tests orders --case 'TestNew <script>"},
		"/projects/shop/services/delivery/findings?environment=production":                {"Findings of delivery in production", "v1.1.0, which runs there since run #10", "7 findings"},
		"/projects/shop/services/delivery/findings?environment=qa":                        {"This image was not scanned yet."},
		"/projects/shop/services/delivery/findings?environment=production&severity=low":   {"7 findings"},
		"/trace":                     {"Paste any id"},
		"/trace?q=v1.1.0":            {"v1.1.0 was found as image and tag in shop.", "the quote in QA is right"},
		"/trace?q=main":              {`"main" is in more than one project: big, shop`, "every project"},
		"/trace?q=main&project=shop": {"main was found as branch in shop."},
		"/trace?q=%3Cscript%3E%1b":   {`"<script>\x1b" is no commit`},
		"/signin":                    {"Token", "slipway users link NAME"},
		"/signin/one-time":           {"This link signs you in, once."},
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for target, want := range pages() {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			w := s.ask("GET", target, "")
			if w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			root := parse(t, w.Body.String())
			text := strings.Join(strings.Fields(words(root)), " ")
			for _, phrase := range want {
				if !strings.Contains(text, strings.Join(strings.Fields(phrase), " ")) {
					t.Errorf("%q is not on the page:\n%s", phrase, text)
				}
			}
			for _, problem := range check(root) {
				t.Error(problem)
			}
		})
	}
}

// The live part that the script asks for is the page's main part.
func TestLivePart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	whole := s.ask("GET", "/runs/12", "").Body.String()
	w := s.ask("GET", "/runs/12", "", header("X-Part", "live"))
	if part := strings.TrimSpace(w.Body.String()); !strings.Contains(whole, part) || strings.Contains(part, "<html") || len(part) < 1000 {
		t.Errorf("the part is not that of the page:\n%s", part)
	}
	if got, want := w.Header().Get("X-Title"), "%21%20Run%2012%20waiting%20%C2%B7%20shop%20%C2%B7%20Slipway"; got != want {
		t.Errorf("the title is %s, not %s", got, want)
	}
	if !strings.Contains(whole, "<title>! Run 12 waiting · shop · Slipway</title>") {
		t.Error("the tab's title does not show the state")
	}
	// A log that the browser has is not read again.
	if part := s.ask("GET", "/runs/14", "", header("X-Part", "live"), header("X-Log", "test/web")).Body.String(); strings.Contains(part, "page24") {
		t.Error("the log was sent again")
	}
	if part := s.ask("GET", "/runs/14", "", header("X-Part", "live"), header("X-Log", "build/web")).Body.String(); !strings.Contains(part, "page24") {
		t.Error("the log of another step was not sent")
	}
}

// Only versions that were verified there, are not in quarantine and do not run are offered.
func TestRollbackChoices(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	root := parse(t, s.ask("GET", "/projects/shop/services/delivery", "").Body.String())
	var got []string
	for n := range root.Descendants() {
		if n.Data == "option" {
			got = append(got, attr(n, "value"))
		}
	}
	// In qa v1.2.0 runs and v1.1.1 is in quarantine; in production v1.1.0 runs.
	if want := []string{"v1.1.0", "v1.0.0", "v1.0.0"}; !slices.Equal(got, want) {
		t.Errorf("offered are %v, not %v", got, want)
	}
}

// Buttons that a user may not press are not shown.
func TestButtons(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, target := range []string{"/runs/12", "/runs/5", "/projects/shop/pulls", "/projects/shop/services/delivery", "/projects/shop/releases/delivery/v1.1.1", "/projects/shop/releases/delivery/v1.2.0", "/runs/17", "/projects/shop/waivers"} {
		posts := func(user string) (out []string) {
			for n := range parse(t, s.ask("GET", target, "", cookie(user)).Body.String()).Descendants() {
				if n.Data == "form" && attr(n, "method") == "post" && attr(n, "action") != "/signout" {
					out = append(out, attr(n, "action"))
				}
			}
			return out
		}
		if got := posts(session); len(got) == 0 {
			t.Errorf("%s: bob sees no button", target)
		}
		if got := posts("eve"); len(got) > 0 {
			t.Errorf("%s: eve sees the buttons %v", target, got)
		}
	}
}

// The waiting approvals of one run each have a form of their own.
func TestSeveralApprovals(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	d := s.detail(12)
	second := d.Approvals[0]
	second.ID, second.Service = 99, "orders"
	d.Approvals = append(d.Approvals, second)
	root := parse(t, s.ask("GET", "/runs/12", "").Body.String())
	for _, problem := range check(root) {
		t.Error(problem)
	}
	forms := 0
	for n := range root.Descendants() {
		if n.Data == "form" && strings.HasPrefix(attr(n, "action"), "/approvals/") {
			forms++
		}
	}
	if forms != 2 {
		t.Errorf("there are %d forms, not 2", forms)
	}
}

func parse(t *testing.T, page string) *html.Node {
	t.Helper()
	for _, r := range page {
		if r != '\n' && r != '\t' && r != '\u200d' && unicode.In(r, unicode.Cc, unicode.Cf) { // U+200D joins emoji
			t.Errorf("the page has the character %U", r)
		}
	}
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	return slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == key })
}

// words is the text of a page.
func words(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type == html.TextNode {
			b.WriteString(n.Data)
		}
		if n.Type == html.ElementNode && slices.Contains([]string{"td", "th", "li", "dt", "dd", "p", "div", "text", "option", "h1", "h2"}, n.Data) {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// check finds what no page may have: two elements of one id, fields without a label, a reference to
// nothing, anything inline that the content security policy refuses, a table without header cells.
func check(root *html.Node) (problems []string) {
	ids, labels := map[string]int{}, map[string]bool{}
	for n := range root.Descendants() {
		if id := attr(n, "id"); id != "" {
			ids[id]++
		}
		if n.Data == "label" && attr(n, "for") != "" {
			labels[attr(n, "for")] = true
		}
	}
	for id, n := range ids {
		if n > 1 {
			problems = append(problems, "several elements have the id "+id)
		}
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "input", "select", "textarea":
			if attr(n, "type") != "hidden" && !labels[attr(n, "id")] && !inside(n, "label") {
				problems = append(problems, "the field "+attr(n, "name")+" has no label")
			}
		case "script":
			if attr(n, "src") == "" || n.FirstChild != nil {
				problems = append(problems, "a script is inline")
			}
		case "style":
			problems = append(problems, "a style is inline")
		case "th":
			if !has(n, "scope") {
				problems = append(problems, "a header cell has no scope")
			}
		case "button":
			if strings.TrimSpace(words(n)) == "" && attr(n, "aria-label") == "" {
				problems = append(problems, "a button has no name")
			}
		case "form":
			if attr(n, "method") == "post" && attr(n, "action") == "" {
				problems = append(problems, "a form goes nowhere")
			}
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "style" || strings.HasPrefix(strings.TrimSpace(strings.ToLower(a.Val)), "javascript:") {
				problems = append(problems, "the attribute "+a.Key+"="+a.Val+" acts")
			}
			if a.Key == "aria-labelledby" && ids[a.Val] == 0 {
				problems = append(problems, "nothing has the id "+a.Val)
			}
		}
	}
	return problems
}

func inside(n *html.Node, tag string) bool {
	for p := range n.Ancestors() {
		if p.Data == tag {
			return true
		}
	}
	return false
}

// What no page can show is an error page with the status of its code.
func TestStatus(t *testing.T) {
	t.Parallel()
	want := map[slipway.Code]int{slipway.Invalid: 422, slipway.Unauthorized: 401, slipway.Forbidden: 403, slipway.NotFound: 404, slipway.Conflict: 409, slipway.TooMany: 429, slipway.Unavailable: 503, slipway.Internal: 500}
	for _, code := range slipway.Codes() {
		s := newSite(t)
		s.err = slipway.Errorf(code, "what happened to %s", script)
		w := s.ask("GET", "/projects/shop", "")
		if w.Code != want[code] || want[code] == 0 {
			t.Errorf("%s answers %d, not %d", code, w.Code, want[code])
		}
		text := words(parse(t, w.Body.String()))
		if shown := strings.Contains(text, "what happened to "+script); shown == (code == slipway.Internal) {
			t.Errorf("%s: the message is shown: %v", code, shown)
		}
	}
	s := newSite(t)
	for target, status := range map[string]int{
		"/nowhere": 404, "/projects/none": 404, "/runs/99": 404, "/runs/x": 404, "/runs/-1": 404, "/projects/shop/services/none": 404,
		"/projects/shop/releases/delivery/v9": 404, "/projects/shop/runs?before=x": 422, "/projects/shop/runs?state=sleepy": 422, "/runs/99/log?step=x": 200, "/assets/none.css": 404,
	} {
		if w := s.ask("GET", target, ""); w.Code != status {
			t.Errorf("%s answers %d, not %d", target, w.Code, status)
		}
	}
}

// A project without services says where to push: to the repository that it mirrors, or here and to its branch.
func TestEmptyBoards(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.boards["big"].Rows = nil
	for target, want := range map[string][2]string{
		"/projects/big": {"has one to https://git.example/team/big.git, which this project mirrors.", "git remote add"},
		"/projects/new": {"git push slipway main", "mirrors"},
	} {
		text := words(parse(t, s.ask("GET", target, "").Body.String()))
		if !strings.Contains(text, want[0]) || strings.Contains(text, want[1]) {
			t.Errorf("%s: %s", target, text)
		}
	}
}

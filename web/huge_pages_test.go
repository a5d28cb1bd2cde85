package web_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"

	"github.com/slipway-cd/slipway"
)

// hugePages are pages of a project with 500 services, 10,000 runs, 5,000 findings and 50,000 tests.
func hugePages() []string {
	return []string{
		"/projects", "/projects/huge", "/projects/huge?from=400", "/projects/huge?needs=1", "/projects/huge?service=long", "/projects/huge/runs", "/projects/huge/pulls", "/projects/huge/releases", "/projects/huge/waivers",
		"/projects/huge/services/team-00-service-000", fmt.Sprintf("/runs/%d", hugeWide), fmt.Sprintf("/runs/%d?from=480", hugeWide), fmt.Sprintf("/runs/%d", hugeTests), fmt.Sprintf("/runs/%d?step=test/orders", hugeTests), fmt.Sprintf("/runs/%d/findings?service=orders", hugeTests),
	}
}

// However much there is, a page is small, and its markup is right whatever names people gave.
func TestHugePages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.huge()
	for _, target := range hugePages() {
		w := s.ask("GET", target, "")
		packed := s.ask("GET", target, "", header("Accept-Encoding", "gzip")).Body.Len()
		root := parse(t, w.Body.String())
		elements := 0
		for n := range root.Descendants() {
			if n.Type == html.ElementNode {
				elements++
			}
		}
		if w.Code != http.StatusOK || w.Body.Len() > 550_000 || packed > 32_000 || elements > 8_500 {
			t.Errorf("%s answers %d with %d bytes, %d compressed, %d elements", target, w.Code, w.Body.Len(), packed, elements)
		}
		t.Logf("%s: %d bytes, %d compressed, %d elements", target, w.Body.Len(), packed, elements)
		for _, problem := range check(root) {
			t.Errorf("%s: %s", target, problem)
		}
	}
}

// rowsOf are the first words of the rows of a table.
func rowsOf(t *testing.T, page string) (out []string) {
	for n := range parse(t, page).Descendants() {
		if n.Data == "th" && attr(n, "scope") == "row" {
			out = append(out, strings.Fields(words(n))[0])
		}
	}
	return out
}

// Every service of a large board is on one of its pages, and those that need a person are found at once.
func TestBoardPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.huge()
	var all []string
	target := "/projects/huge"
	for pages := 0; target != "" && pages < 9; pages++ {
		page := s.ask("GET", target, "").Body.String()
		all = append(all, rowsOf(t, page)...)
		target = ""
		for _, to := range links(parse(t, page), "after these") {
			target = "/projects/huge" + to
		}
	}
	if len(all) != 500 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 500 {
		t.Errorf("the pages have %d services", len(all))
	}
	page := s.ask("GET", "/projects/huge?needs=1", "").Body.String()
	if got := rowsOf(t, page); len(got) != 11 || slices.Contains(got, "team-00-service-000") {
		t.Errorf("a person is needed by %v", got)
	}
	if got := words(one(t, parse(t, page), "needs")); strings.Count(got, "unhealthy") != 5 || strings.Count(got, "waits for a person") != 5 || !strings.Contains(page, "1 more need a person") {
		t.Errorf("above the board stands %s", got)
	}
	if got := rowsOf(t, s.ask("GET", "/projects/huge?needs=1&service=TEAM-11", "").Body.String()); len(got) != 5 {
		t.Errorf("of team 11 there are %v", got)
	}
	if got := rowsOf(t, s.ask("GET", "/projects/huge?from=100000", "").Body.String()); len(got) != 100 || got[0] != "team-00-service-000" {
		t.Errorf("beyond the end there are %d", len(got))
	}
}

// lanesOf are the names of the services in the graph.
func lanesOf(t *testing.T, page string) (out []string) {
	for n := range parse(t, page).Descendants() {
		if n.Data == "text" && attr(n, "class") == "lane" {
			out = append(out, words(n))
		}
	}
	return out
}

// A run of many services shows those first that need a look, or that were asked for.
func TestLanes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.huge()
	run := fmt.Sprintf("/runs/%d", hugeWide)
	ask := func(query string) []string {
		page := s.ask("GET", run+query, "")
		if page.Code != http.StatusOK {
			t.Errorf("%s answers %d", query, page.Code)
		}
		return lanesOf(t, page.Body.String())
	}
	if got := ask(""); len(got) != 20 || got[0] != "service-250" || got[1] != "service-000" {
		t.Errorf("first are %v", got)
	}
	if got := ask("?from=20"); len(got) != 20 || got[0] != "service-019" {
		t.Errorf("after these are %v", got)
	}
	if got := ask("?step=test/service-444"); got[0] != "service-444" || got[1] != "service-250" {
		t.Errorf("of a step that was asked for are %v", got)
	}
	if got := ask("?service=service-25"); len(got) != 10 || got[0] != "service-250" {
		t.Errorf("named service-25 are %v", got)
	}
	for query, want := range map[string]string{"": "Services 1 to 20 of 500, those first that need a look.", "?service=service-25": "Services 1 to 10 of 10 with “service-25” in the name, of 500", "?service=none": "None of the 500 services has “none” in its name."} {
		if got := s.ask("GET", run+query, "").Body.String(); !strings.Contains(got, want) || !strings.Contains(got, "<b>499</b> succeeded") {
			t.Errorf("%s does not say %q", query, want)
		}
	}
	if got := attr(one(t, parse(t, s.ask("GET", run+"?service=service-25", "").Body.String()), "#main"), "data-live"); got != run+"?service=service-25" {
		t.Errorf("its live part is %s", got)
	}
}

// Gates of many services do not fill the page: what failed comes first, what passed is counted.
func TestGatesOfManyServices(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.huge()
	for i := range 500 {
		v := slipway.Pass
		if i%4 == 0 {
			v = slipway.Warn
		}
		if i == 250 {
			v = slipway.Fail
		}
		s.supply.said[hugeWide] = append(s.supply.said[hugeWide], said(hugeWide, slipway.KindTest, fmt.Sprintf("service-%03d", i), "", slipway.GateTests, v, "all of them"))
	}
	run := fmt.Sprintf("/runs/%d", hugeWide)
	root := parse(t, s.ask("GET", run, "").Body.String())
	gates := func(root *html.Node) string {
		return strings.Join(strings.Fields(words(one(t, root, "gates-of-the-run"))), " ")
	}
	got := gates(root)
	for _, want := range []string{"✗ 1 failed · ! 125 warned · ✓ 374 passed", "26 more that did not pass are not shown here", "274 more are not shown here"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q: %.400s", want, got)
		}
	}
	if got := gates(parse(t, s.ask("GET", run+"?service=service-25", "").Body.String())); !strings.Contains(got, "✗ 1 failed · ! 2 warned · ✓ 7 passed") {
		t.Errorf("of ten services: %s", got)
	}
	if page := s.ask("GET", run+"?service=service-11", "").Body.String(); !strings.Contains(page, "test/service-250") {
		t.Error("why the run failed is not told when its service is filtered out")
	}
}

// With hostile names no page is wider than its window.
func TestBrowserHugePages(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.huge()
	for _, target := range hugePages() {
		b.open(target)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelectorAll('details').forEach(d => d.open = true); undefined"))
		for _, width := range []int64{1280, 390} {
			b.resize(width)
			if wide := value[int64](b, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("%s is %d pixels wide in a window of %d", target, wide, width)
			}
		}
	}
}

// A board is filtered while one types: the focus stays, the address can be shared, and what was found is told.
func TestBrowserFilter(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.huge()
	b.open("/projects/huge")
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; undefined"), chromedp.SendKeys(chromedp.CSS(".filter input[name=service]"), "team-11"))
	b.wait("document.querySelectorAll('.board tbody tr').length === 20")
	b.wait("document.getElementById('news').textContent.includes('Services by environments')")
	if got := value[string](b, "location.search + ' ' + document.activeElement.name + '=' + document.activeElement.value"); got != "?service=team-11 service=team-11" {
		t.Errorf("it is at %s", got)
	}
	b.do(chromedp.Click(chromedp.CSS(".filter input[name=needs]")))
	b.wait("document.querySelectorAll('.board tbody tr').length === 5 && location.search === '?service=team-11&needs=1'")
	// It stays filtered when something happens.
	b.change(14, func() { b.boards["huge"].Rows[0].Cells[0].Current.Version = "v9" })
	b.happenIn("huge")
	b.wait("document.querySelectorAll('.board tbody tr').length === 5 && window.loadedOnce === true")
}

// A page that is left open while much happens does not grow.
func TestBrowserLongOpen(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/projects/shop")
	use := func() (nodes, heap float64) {
		t.Helper()
		if _, err := chromedp.Call(b.ctx, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
			t.Fatal(err)
		}
		if _, err := chromedp.Call(b.ctx, performance.Enable, performance.EnableParams{}); err != nil {
			t.Fatal(err)
		}
		got, err := chromedp.Call(b.ctx, performance.GetMetrics, cdp.Empty{})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got.Metrics {
			switch m.Name {
			case "Nodes":
				nodes = m.Value
			case "JSHeapUsedSize":
				heap = m.Value
			}
		}
		return nodes, heap
	}
	turn := func(from, to int) {
		for n := from; n < to; n++ {
			b.change(14, func() {
				b.boards["shop"].Rows[2].Cells[0].Current.Version = fmt.Sprint("main-new", n)
				b.boards["shop"].Rows[2].Cells[1].Current = nil
				if n%2 == 0 {
					d := deployment("web", "qa", "v3", 14, slipway.Verified, b.now)
					b.boards["shop"].Rows[2].Cells[1].Current = &d
				}
			})
			b.wait(fmt.Sprintf("document.body.innerText.includes('main-new%d')", n))
		}
	}
	turn(0, 5)
	nodes, heap := use()
	turn(5, 35)
	nodesThen, heapThen := use()
	t.Logf("after 30 changes %.0f nodes and %.0f kB, before %.0f and %.0f kB", nodesThen, heapThen/1000, nodes, heap/1000)
	if nodesThen > nodes*1.1+100 || heapThen > heap*1.25+250_000 {
		t.Errorf("30 changes made %.0f nodes of %.0f and %.0f kB of %.0f", nodesThen, nodes, heapThen/1000, heap/1000)
	}
}

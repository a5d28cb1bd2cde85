package web_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/slipway-cd/slipway"
)

// What a person unfolded stays unfolded when the page is fetched again, and says what is new.
func TestBrowserGatesLive(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/17")
	open := "[...document.querySelectorAll('.gate[open] .name')].map(e => e.textContent.trim()).join()"
	if got := value[string](b, open); got != "" {
		t.Fatalf("open are %s", got)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; document.querySelectorAll('.gate > summary')[2].click(); document.querySelectorAll('.gate > summary')[3].click(); undefined"))
	b.wait(open + " === 'database,tests'")
	b.change(17, func() {
		said := b.supply.said[17]
		said[2].ID, said[2].Summary, said[2].Reasons = 99, "built 7 days ago", append(said[2].Reasons, slipway.GateReason{Verdict: slipway.Warn, Subject: "older", Message: "every day " + script})
		b.supply.said[17] = append(said[2:], said[:2]...)
	})
	b.wait("document.body.innerText.includes('built 7 days ago')")
	b.wait("document.querySelector('.gate[open] .body').innerText.includes('every day <script>')")
	if got := value[string](b, open); got != "database,tests" || !value[bool](b, "window.loadedOnce === true") {
		t.Errorf("open are %s", got)
	}
	// A gate that is told at the top leads to its row, which opens.
	b.do(chromedp.Evaluate[chromedp.Void]("[...document.querySelectorAll('.alert .why a')].find(a => a.textContent === 'secrets').click(); undefined"))
	b.wait(open + ".includes('secrets')")
}

// By keyboard and without JavaScript: from a reason to its form, and from there to a retry.
func TestBrowserWaive(t *testing.T) {
	t.Parallel()
	b := browse(t)
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.open("/runs/17")
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(".alert .waive"))); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.WaitVisible(chromedp.CSS("#give input[name=reason]")), chromedp.SendKeys(chromedp.CSS("#give input[name=reason]"), "not reachable"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.SendKeys(chromedp.CSS("#give input[name=reason]"), kb.Enter)); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.WaitVisible(chromedp.CSS(".waived button")))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(".waived button"))); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) != 2 || !strings.HasPrefix(b.asked[0], "bob waives vulnerabilities CVE-2025-0000 lib0 of orders in  until ") || b.asked[1] != "bob retries 17" {
		t.Errorf("the buttons did %v", b.asked)
	}
}

// A remark of the list leads to the line that it is about, and what is shown can be reached by keyboard.
func TestBrowserManifests(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/18/manifests?service=orders")
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.manifest').open = false; document.querySelector('.remarks a').focus(); undefined"), chromedp.KeyEvent(kb.Enter))
	b.wait("location.hash === '#remark-1' && document.querySelector('.manifest').open")
	b.wait("(r => r.top >= 0 && r.bottom <= innerHeight)(document.querySelector(':target').getBoundingClientRect())")
	if got := value[string](b, "document.querySelector(':target').previousElementSibling.textContent.trim()"); got != "image: orders:latest" {
		t.Errorf("it leads below %q", got)
	}
	var stops []string
	for range 6 {
		b.do(chromedp.KeyEvent(kb.Tab))
		stops = append(stops, value[string](b, "document.activeElement.tagName + ' ' + document.activeElement.className"))
	}
	if !slices.Contains(stops, "DIV yaml") && !slices.Contains(stops, "SUMMARY ") {
		t.Errorf("the stops are %v", stops)
	}
}

// From a failed test to its history by keyboard, which is live and fits a narrow window.
func TestBrowserCase(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/5")
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.cases a.test').focus(); undefined"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		t.Fatal(err)
	}
	b.wait("document.querySelector('h1').innerText === 'TestCurrency/EUR' && document.title.startsWith('✗ TestCurrency/EUR')")
	if got := value[string](b, "document.querySelector('.case h2').innerText"); got != "example.com/shop/orders: failed in 3 of 130 reports" {
		t.Errorf("it says %q", got)
	}
	b.do(chromedp.Evaluate[chromedp.Void]("window.loadedOnce = true; undefined"))
	b.change(14, func() {
		h := b.cases["orders/TestCurrency/EUR"]
		newest := h.Results[0]
		newest.RunID, newest.State = 21, slipway.TestPassed
		h.Results = append([]slipway.CaseResult{newest}, h.Results...)
		b.cases["orders/TestCurrency/EUR"] = h
	})
	b.wait("document.querySelector('.results tbody tr').innerText.includes('#21') && window.loadedOnce === true && !document.querySelector('.note.bad')")
	b.do(chromedp.EmulateViewport(390, 900))
	b.wait("innerWidth === 390 && document.documentElement.scrollWidth === 390")
}

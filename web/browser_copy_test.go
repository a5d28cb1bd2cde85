package web_test

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Beside a digest that the focus or the pointer is at stands a button that copies the whole of it; it keeps the focus
// when the page is fetched again, and moves nothing.
func TestBrowserCopies(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/runs/12")
	b.do(chromedp.Evaluate[chromedp.Void]("Object.defineProperty(navigator, 'clipboard', { configurable: true, value: { writeText: async (text) => { window.copied = text; } } }); undefined"))
	height := value[float64](b, "document.documentElement.scrollHeight")
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.approval dd a.mono').focus(); undefined"), chromedp.KeyEvent(kb.Tab))
	if got := value[string](b, "document.activeElement.className + ' ' + document.activeElement.getAttribute('aria-label')"); got != "copier Copy "+sha("deliveryv1.2.0")[7:19] {
		t.Fatalf("after the digest the focus is at %q", got)
	}
	b.change(12, func() { d := b.detail(12); d.Approvals[0].Notes = append(d.Approvals[0].Notes, "a new note") })
	b.wait("document.body.innerText.includes('a new note')")
	// It says so for a moment, which may be over before it is asked.
	b.do(chromedp.Evaluate[chromedp.Void]("new MutationObserver(() => { window.said ||= document.activeElement.textContent === 'Copied' && document.getElementById('news').textContent === 'Copied'; }).observe(document, { subtree: true, childList: true }); undefined"))
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait("window.said")
	if got := value[string](b, "window.copied"); got != sha("deliveryv1.2.0") {
		t.Errorf("copied was %q", got)
	}
	// By plain http browsers give no clipboard: what is selected is copied.
	b.do(chromedp.Evaluate[chromedp.Void]("Object.defineProperty(navigator, 'clipboard', { value: undefined }); window.copied = ''; document.execCommand = () => { window.copied = document.activeElement.value; return true; }; undefined"), chromedp.KeyEvent(kb.Enter))
	b.wait("window.copied === '" + sha("deliveryv1.2.0") + "' && document.activeElement.className.startsWith('copier') && document.querySelector('textarea') === null")
	if got := value[float64](b, "document.documentElement.scrollHeight"); got > height+60 { // the new note
		t.Errorf("the page was %v high, and is %v", height, got)
	}
	// The pointer brings it to another digest, and takes it away with it.
	at := "document.querySelectorAll('.approval dd a.mono')[1]"
	b.do(chromedp.Evaluate[chromedp.Void]("document.activeElement.blur(); " + at + ".dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); undefined"))
	if !value[bool](b, at+".nextSibling.className.startsWith('copier') && document.querySelectorAll('.copier').length === 1") {
		t.Error("the pointer at a digest brings no button")
	}
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('h1').dispatchEvent(new MouseEvent('mouseover', {bubbles: true})); undefined"))
	if value[bool](b, "document.querySelector('.copier') !== null") {
		t.Error("the button stays where the pointer is no more")
	}
}

package web_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// tabTo presses Tab until an expression holds of the element e that has the focus.
func (b *tab) tabTo(expression string) {
	b.t.Helper()
	var stops []string
	for range 150 {
		b.do(chromedp.KeyEvent(kb.Tab))
		stop := value[string](b, "(e => (("+expression+") ? '!' : '') + e.tagName + ' ' + (e.name || e.textContent.trim().slice(0, 30)))(document.activeElement)")
		if strings.HasPrefix(stop, "!") {
			return
		}
		stops = append(stops, stop)
	}
	b.t.Fatalf("%s is not reached: %q", expression, stops)
}

// enter presses a key that leads to another page.
func (b *tab) enter() {
	b.t.Helper()
	if _, err := chromedp.RunResponse(b.ctx, chromedp.KeyEvent(kb.Enter)); err != nil {
		b.t.Fatal(err)
	}
}

// follow goes to a link and opens it.
func (b *tab) follow(expression, arrived string) {
	b.t.Helper()
	b.tabTo("e.tagName === 'A' && " + expression)
	b.enter()
	b.wait(arrived)
}

// Without a mouse: sign in, find a run, open a gate's evidence, give a waiver, approve a deployment.
func TestBrowserWithoutMouse(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.open("/projects")
	b.tabTo("e.textContent === 'Sign out'")
	b.enter()
	b.wait("document.activeElement.name === 'token'")
	b.do(chromedp.KeyEvent("slw_x"))
	b.enter()
	b.wait("document.querySelector('h1')?.innerText === 'Projects'")
	b.follow("e.querySelector('b')?.innerText === 'shop'", "location.pathname === '/projects/shop'")
	b.follow("e.innerText === 'Runs'", "location.pathname === '/projects/shop/runs'")
	b.follow("e.innerText === 'failed'", "location.search === '?state=failed'")
	b.follow("e.innerText === '#17'", "location.pathname === '/runs/17'")

	b.tabTo("e.matches('.gate > summary') && e.querySelector('.name').innerText === 'vulnerabilities'")
	b.do(chromedp.KeyEvent(kb.Enter))
	b.wait("document.activeElement.parentElement.open")
	b.follow("e.closest('.evidence') && e.innerText === 'findings'", "location.pathname === '/runs/17/findings'")
	b.follow("e.innerText === 'run #17'", "location.pathname === '/runs/17'")
	b.follow("e.matches('.waive')", "document.activeElement.name === 'reason'")
	b.do(chromedp.KeyEvent("not reachable"))
	b.enter()
	b.wait("location.pathname === '/runs/17' && document.querySelector('.waived') !== null")

	b.slash()
	b.wait("document.activeElement.id === 'find'")
	b.do(chromedp.KeyEvent("v1.2.0"))
	b.enter()
	b.wait("location.pathname === '/trace'")
	b.follow("e.innerText === '#12'", "location.pathname === '/runs/12'")
	b.tabTo("e.name === 'reason' && e.closest('#approval')")
	b.do(chromedp.KeyEvent("the quote is right"))
	b.tabTo("e.value === 'approve'")
	b.enter()
	b.wait("location.pathname === '/runs/12'")

	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) != 2 || !strings.HasPrefix(b.asked[0], "bob waives vulnerabilities CVE-2025-0000 lib0") || !strings.HasSuffix(b.asked[0], ": not reachable") || b.asked[1] != "bob votes true on 12: the quote is right" {
		t.Errorf("the keys did %q", b.asked)
	}
}

// What is seen first is reached first: style moves nothing past anything else, and the stops of the top are in the order
// in which they are read.
func TestBrowserFocusOrder(t *testing.T) {
	t.Parallel()
	b := browse(t)
	for target := range pages() {
		b.open(target)
		for _, width := range []int64{1280, 390} {
			b.resize(width)
			moved := value[[]string](b, `[...document.body.querySelectorAll('*')].filter(e => {
				const s = getComputedStyle(e);
				return e.tabIndex > 0 || s.order !== '0' || s.flexDirection.endsWith('reverse');
			}).map(e => e.outerHTML.slice(0, 80))`)
			if len(moved) > 0 {
				t.Errorf("%s, %d wide: out of their order are %q", target, width, moved)
			}
		}
	}
	b.open("/projects/shop")
	for _, width := range []int64{1280, 390} {
		b.resize(width)
		type stop struct{ Row, Left float64 }
		stops := value[[]stop](b, `[...document.querySelectorAll('.top :is(a, input, button)')].map(e => e.getBoundingClientRect()).map(r => ({Row: Math.round((r.top + r.bottom) / 2 / 20), Left: r.left}))`)
		inOrder := slices.IsSortedFunc(stops, func(a, b stop) int {
			if a.Row != b.Row {
				return int(a.Row - b.Row)
			}
			return int(a.Left - b.Left)
		})
		if len(stops) != 10 || !inOrder {
			t.Errorf("%d wide: the stops of the top are at %v", width, stops)
		}
	}
}

// Who asked for less motion sees none; others see what works.
func TestBrowserReducedMotion(t *testing.T) {
	t.Parallel()
	b := browse(t)
	for motion, moves := range map[string]bool{"reduce": false, "no-preference": true} {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-reduced-motion", Value: motion}}}
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
			t.Fatal(err)
		}
		b.open("/runs/14")
		b.wait("document.getElementById('log').dataset.streamOpen !== undefined")
		if got := value[int](b, "document.getAnimations().length"); got > 0 != moves {
			t.Errorf("%s: there are %d animations", motion, got)
		}
		smooth := "[...document.querySelectorAll('*')].some(e => getComputedStyle(e).scrollBehavior === 'smooth')"
		if value[bool](b, smooth) && !moves {
			t.Errorf("%s: it scrolls smoothly", motion)
		}
	}
}

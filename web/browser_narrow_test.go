package web_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
)

// On a narrow screen the tabs are one line with the current one in view, and the names of a run's services stay beside
// its steps, however far these are scrolled.
func TestBrowserNarrow(t *testing.T) {
	t.Parallel()
	b := browse(t)
	b.do(chromedp.EmulateViewport(390, 900))
	for _, page := range []string{"", "/runs", "/releases", "/codebases"} {
		b.open("/projects/shop" + page)
		if lines := value[float64](b, "new Set([...document.querySelectorAll('.tabs a')].map(a => a.getBoundingClientRect().top)).size"); lines != 1 {
			t.Errorf("%s: the tabs take %v lines", page, lines)
		}
		at := "(r => r.left >= 0 && r.right <= innerWidth)(document.querySelector('.tabs [aria-current]').getBoundingClientRect())"
		if !value[bool](b, at) {
			t.Errorf("%s: the current tab is out of view", page)
		}
	}
	b.open("/projects/shop/runs")
	b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.tabs a:last-child').focus(); undefined"))
	b.wait("(r => r.left >= 0 && r.right <= innerWidth)(document.activeElement.getBoundingClientRect())")
	b.huge()
	for target, width := range map[string]int64{"/runs/3": 390, fmt.Sprintf("/runs/%d", hugeWide): 700} {
		b.do(chromedp.EmulateViewport(width, 900))
		b.open(target)
		b.do(chromedp.Evaluate[chromedp.Void]("document.querySelector('.graph').scrollLeft = 1e6; undefined"))
		got := value[string](b, `(graph => {
			graph.scrollIntoView();
			const box = graph.getBoundingClientRect(), names = [...graph.querySelectorAll('.lane')].filter(n => n.getBoundingClientRect().bottom < Math.min(box.bottom, innerHeight)), steps = [...graph.querySelectorAll('.node')];
			const seen = names.filter(n => { const r = n.getBoundingClientRect(); return r.left >= box.left && r.left < box.left + 20 && document.elementFromPoint(r.left + 4, r.top + r.height / 2)?.closest('.names'); });
			const beside = names.filter(n => { const r = n.getBoundingClientRect(), y = r.top + r.height / 2; return steps.some(s => { const q = s.getBoundingClientRect(); return q.top < y && y < q.bottom; }); });
			return [graph.scrollLeft > 0, names.length > 1, seen.length === names.length, beside.length === names.length].join();
		})(document.querySelector('.graph'))`)
		if got != "true,true,true,true" {
			t.Errorf("%s, %d wide: scrolled, several, seen, beside their steps: %s", target, width, got)
		}
	}
}

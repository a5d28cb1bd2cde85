package web_test

import (
	"os"
	"slices"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// axeRules are what pages are held to: WCAG 2.2 A and AA, and what axe calls best practice.
const axeRules = `axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(r => r.violations.map(v =>
	v.id + ' (' + v.impact + ', ' + v.nodes.length + '): ' + v.nodes.slice(0, 2).map(n => n.html.slice(0, 160) + ' | ' + [...n.any, ...n.all, ...n.none].map(c => c.message).join('; ')).join(' and ')))`

// No page breaks a rule of axe, in light and wide as in dark and narrow, with all that can be unfolded. It needs Chromium
// and axe-core: npm install axe-core; SLIPWAY_E2E=1 SLIPWAY_AXE=node_modules/axe-core/axe.min.js.
func TestBrowserAxe(t *testing.T) {
	t.Parallel()
	path := os.Getenv("SLIPWAY_AXE")
	if path == "" {
		t.Skip("needs axe-core: set SLIPWAY_AXE to its axe.min.js")
	}
	axe, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b := browse(t)
	b.huge()
	targets := []string{"/signin", "/projects/huge", "/projects/huge?service=none", "/runs/110001", "/runs/110002/findings", "/projects/huge/pulls", "/projects/huge/waivers?from=100", "/projects/huge/releases"}
	for target := range pages() {
		targets = append(targets, target)
	}
	slices.Sort(targets)
	for scheme, width := range map[string]int64{"light": 1280, "dark": 390} {
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}}
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, media); err != nil {
			t.Fatal(err)
		}
		b.do(chromedp.EmulateViewport(width, 900))
		for _, target := range targets {
			b.open(target)
			b.do(chromedp.Evaluate[chromedp.Void]("document.querySelectorAll('details').forEach(d => d.open = true); undefined"), chromedp.Evaluate[chromedp.Void](string(axe)+"; undefined"))
			broken, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](axeRules, chromedp.EvalAwaitPromise))
			if err != nil {
				t.Fatalf("%s: %v", target, err)
			}
			for _, v := range broken {
				t.Errorf("%s, %s, %d wide: %s", target, scheme, width, v)
			}
		}
	}
}

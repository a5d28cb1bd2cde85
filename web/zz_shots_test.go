package web_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

func TestZZShots(t *testing.T) {
	list := os.Getenv("SHOTS")
	if list == "" {
		t.Skip()
	}
	b := browse(t)
	for _, mode := range strings.Split(os.Getenv("MODES"), ",") {
		width := int64(1280)
		if strings.Contains(mode, "narrow") {
			width = 390
		}
		scheme := "light"
		if strings.Contains(mode, "dark") {
			scheme = "dark"
		}
		b.do(chromedp.EmulateViewport(width, 900))
		if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
			t.Fatal(err)
		}
		for i, target := range strings.Fields(list) {
			b.open(target)
			if js := os.Getenv("JS"); js != "" {
				b.do(chromedp.Evaluate[chromedp.Void](js + "; undefined"))
			}
			shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(fmt.Sprintf("/tmp/webwork/%s-%d.png", mode, i), shot, 0o644)
		}
	}
}

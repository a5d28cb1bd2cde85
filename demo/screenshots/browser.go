package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// browser is a tab of a headless Chromium.
type browser struct{ tab context.Context }

// shot is a page to take pictures of.
type shot struct{ name, url string }

// mode is how a page is looked at.
type mode struct {
	suffix string
	width  int64
	dark   bool
}

func modes() []mode {
	return []mode{{"", 1280, false}, {"-dark", 1280, true}, {"-narrow", 390, false}}
}

const (
	tallest = 1800       // pixels of a picture; a page goes on below
	largest = 200 * 1000 // bytes of a picture
	settled = "document.readyState === 'complete' && !document.getAnimations().some(a => a.transitionProperty)"
)

func open(ctx context.Context, chromium string) (*browser, func(), error) {
	dir, err := os.MkdirTemp("", "slipway-screenshots-")
	if err != nil {
		return nil, nil, err
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.UserDataDir(dir), chromedp.Env("TMPDIR="+dir), chromedp.DisableGPU,
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("force-prefers-reduced-motion", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	if chromium != "" {
		options = append(options, chromedp.ExecPath(chromium))
	}
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	tab, closeTab := chromedp.NewContext(allocator)
	end := func() {
		closeTab()
		stop()
		os.RemoveAll(dir) //nolint:errcheck // a folder of the system's temporary ones
	}
	if err := chromedp.Do(tab); err != nil {
		end()
		return nil, nil, fmt.Errorf("start Chromium: %w (apt-get install chromium, or -chromium PROGRAM)", err)
	}
	return &browser{tab}, end, nil
}

// signIn opens a one-time link and presses its button.
func (b *browser) signIn(link string) error {
	_, err := chromedp.RunResponse(b.tab, chromedp.Navigate(link))
	if err != nil {
		return err
	}
	answer, err := chromedp.RunResponse(b.tab, chromedp.Click(chromedp.CSS(`form[action="/signin"] button`)))
	if err == nil && answer.Status != 200 {
		err = errors.New("the link is not good any more")
	}
	return err
}

// links are the addresses of what a selector finds on a page, in the page's order.
func (b *browser) links(url, selector string) ([]string, error) {
	err := chromedp.Do(b.tab, chromedp.Navigate(url))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", url, err)
	}
	out, err := chromedp.Run(b.tab, chromedp.Evaluate[[]string](fmt.Sprintf("[...document.querySelectorAll(%q)].map(a => new URL(a.href.baseVal ?? a.href, location).href)", selector)))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", url, err)
	}
	return out, nil
}

// tabs are the pages that every project has.
func tabs(project string) []shot {
	return []shot{{"board", project}, {"runs", project + "/runs"}, {"pulls", project + "/pulls"}, {"releases", project + "/releases"},
		{"waivers", project + "/waivers"}, {"codebases", project + "/codebases"}}
}

// find lists what there is to see; what is not there, such as a run that waits, is left out.
func (b *browser) find(origin string) ([]shot, error) {
	if err := chromedp.Do(b.tab, chromedp.Navigate(origin+"/")); err != nil {
		return nil, err
	}
	project, err := chromedp.Run(b.tab, chromedp.Location())
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(project, "/projects") {
		all, err := b.links(project, ".cards a")
		if err != nil || len(all) == 0 {
			return nil, errors.Join(err, errors.New("there is no project"))
		}
		project = all[0]
	}
	shots := append([]shot{{"projects", origin + "/projects"}}, tabs(project)...)
	for _, s := range []struct{ name, on, selector string }{
		{"service", project, ".board th[scope=row] > a"},
		{"release", project + "/releases", `.list a[href*="/releases/"]`},
		{"approval", project + "/runs?state=waiting", ".runs td:first-child a"},
		{"run-running", project + "/runs?state=running", ".runs td:first-child a"},
		{"run-failed", project + "/runs?state=failed", ".runs td:first-child a"},
		{"run", project + "/runs?state=succeeded", ".runs td:first-child a"},
	} {
		all, err := b.links(s.on, s.selector)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			fmt.Printf("%-12s nothing to see\n", s.name)
			continue
		}
		shots = append(shots, shot{s.name, all[0]})
		switch s.name {
		case "release":
			at := strings.Split(all[0], "/")
			shots = append(shots, shot{"trace", origin + "/trace?q=" + at[len(at)-1]})
		case "run":
			for _, part := range []struct{ name, selector string }{
				{"run-tests", `.graph a[href*="step=test"]`}, {"findings", `a[href*="/findings"]`}, {"manifests", `a[href*="/manifests"]`},
			} {
				found, err := b.links(all[0], part.selector)
				if err != nil {
					return nil, err
				}
				if len(found) > 0 {
					shots = append(shots, shot{part.name, found[0]})
				}
			}
		}
	}
	return shots, nil
}

// take writes a picture of each page in each mode.
func (b *browser) take(out string, shots []shot) error {
	var problems []error
	for _, s := range shots {
		for _, m := range modes() {
			size, err := b.picture(filepath.Join(out, s.name+m.suffix+".png"), s.url, m)
			if err != nil {
				problems = append(problems, fmt.Errorf("%s%s: %w", s.name, m.suffix, err))
				continue
			}
			fmt.Printf("%-24s %4d kB\n", s.name+m.suffix, size/1000)
		}
	}
	return errors.Join(problems...)
}

func (b *browser) picture(file, url string, m mode) (int, error) {
	scheme := "light"
	if m.dark {
		scheme = "dark"
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
	if _, err := chromedp.Call(b.tab, emulation.SetEmulatedMedia, media); err != nil {
		return 0, err
	}
	if err := chromedp.Do(b.tab, chromedp.EmulateViewport(m.width, 900), chromedp.Navigate(url), chromedp.Poll[chromedp.Void](settled)); err != nil {
		return 0, err
	}
	size, err := chromedp.Run(b.tab, chromedp.Evaluate[[]int64](`document.activeElement?.blur(); scrollTo(0, 0);
		[document.documentElement.scrollWidth, document.documentElement.scrollHeight]`))
	if err != nil {
		return 0, err
	}
	wide, tall := size[0], size[1]
	if wide > m.width {
		err = fmt.Errorf("the page is %d pixels wide in a window of %d", wide, m.width)
	}
	for tall = min(tall, tallest); ; tall = tall * 3 / 4 {
		png, shotErr := b.capture(m.width, tall)
		if shotErr != nil {
			return 0, errors.Join(err, shotErr)
		}
		if len(png) < largest || tall < 500 {
			return len(png), errors.Join(err, os.WriteFile(file, png, 0o644))
		}
	}
}

func (b *browser) capture(wide, tall int64) ([]byte, error) {
	beyond := true
	got, err := chromedp.Call(b.tab, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: &beyond,
		Clip: &page.Viewport{Width: float64(wide), Height: float64(tall), Scale: 1}})
	if err != nil {
		return nil, err
	}
	return pack(got.Data)
}

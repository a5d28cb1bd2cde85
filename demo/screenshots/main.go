// Command screenshots takes pictures of the pages of a running Slipway with headless Chromium, for
// docs/screenshots: wide in light and in dark, and narrow. It signs in with a one-time link, finds what
// there is to see by itself, and fails when a page is wider than its window.
//
//	go run ./demo/screenshots [-out DIR] [-release] [LINK]
//
// Without a link it asks the demo's server for one (SLIPWAY_DEMO, else .demo). With -release it first
// pushes the demo's next release, so that an approval is there to be seen; it is left waiting. Else it
// changes nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"
)

const allTimeout = 5 * time.Minute

func main() {
	out := flag.String("out", "docs/screenshots", "folder for the pictures")
	chromium := flag.String("chromium", "", "the browser's program (default: chromium or google-chrome on the PATH)")
	release := flag.Bool("release", false, "push the demo's next release first, so that an approval waits")
	pages := flag.String("pages", "", "further pages as name=path,name=path")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	link, err := signInLink(ctx, flag.Arg(0), *release)
	if err == nil {
		err = run(ctx, *out, *chromium, *pages, link)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, chromium, extra, link string) error {
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	if u, err := url.Parse(link); err != nil || u.Host == "" {
		return fmt.Errorf("%q is no sign-in link", link)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	b, closeBrowser, err := open(ctx, chromium)
	if err != nil {
		return err
	}
	defer closeBrowser()
	shots := []shot{{"signin", origin(link) + "/signin"}}
	if err := b.take(out, shots); err != nil {
		return err
	}
	if err := b.signIn(link); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	if shots, err = b.find(origin(link)); err != nil {
		return err
	}
	for _, p := range strings.Split(extra, ",") {
		if name, path, ok := strings.Cut(p, "="); ok {
			shots = append(shots, shot{name, origin(link) + path})
		}
	}
	return b.take(out, shots)
}

func signInLink(ctx context.Context, given string, release bool) (string, error) {
	if given != "" {
		return given, nil
	}
	d, err := openDemo()
	if err != nil {
		return "", fmt.Errorf("find the demo: %w (run make demo first, or give a sign-in link)", err)
	}
	if release {
		if err := d.release(ctx); err != nil {
			return "", fmt.Errorf("release: %w", err)
		}
	}
	link, err := d.link(ctx)
	if err != nil {
		return "", fmt.Errorf("ask the demo for a sign-in link: %w", err)
	}
	return link, nil
}

func origin(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

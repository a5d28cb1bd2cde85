// Command screenshots takes pictures of the pages of a running Slipway with headless Chromium, for
// docs/screenshots: wide in light and in dark, and narrow. It signs in with a one-time link, finds what
// there is to see by itself, and fails when a page is wider than its window. It changes nothing.
//
//	go run ./demo/screenshots [-out DIR] [LINK]
//
// Without a link it asks the demo's server for one (SLIPWAY_DEMO, else .demo).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/slipway-cd/slipway/client"
)

const (
	linkTimeout = 10 * time.Second
	allTimeout  = 5 * time.Minute
)

func main() {
	out := flag.String("out", "docs/screenshots", "folder for the pictures")
	chromium := flag.String("chromium", "", "the browser's program (default: chromium or google-chrome on the PATH)")
	pages := flag.String("pages", "", "further pages as name=path,name=path")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *chromium, *pages, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out, chromium, extra, link string) error {
	ctx, cancel := context.WithTimeout(ctx, allTimeout)
	defer cancel()
	if link == "" {
		var err error
		if link, err = demoLink(ctx); err != nil {
			return fmt.Errorf("ask the demo for a sign-in link: %w (run make demo first, or give a link)", err)
		}
	}
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

func origin(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// demoLink makes a one-time link of the demo's admin.
func demoLink(ctx context.Context) (string, error) {
	dir := os.Getenv("SLIPWAY_DEMO")
	if dir == "" {
		dir = ".demo"
	}
	address, err := os.ReadFile(filepath.Join(dir, "address"))
	if err != nil {
		return "", err
	}
	saved, err := os.ReadFile(filepath.Join(dir, "config-admin.json"))
	if err != nil {
		return "", err
	}
	var config struct{ Token string }
	if err := json.Unmarshal(saved, &config); err != nil {
		return "", err
	}
	if config.Token == "" {
		return "", errors.New("nobody is signed in as admin")
	}
	c, err := client.New("http://"+strings.TrimSpace(string(address)), config.Token)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	return c.CreateLink(ctx, "admin")
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
	"github.com/slipway-cd/slipway/web"
)

// site is a server on a data folder, and its admin.
type site struct {
	*running
	t     *testing.T
	admin *client.Client
	token string
}

func newSite(t *testing.T, seeded bool, o serveOptions) *site {
	t.Helper()
	if o.data == "" {
		o.data = t.TempDir()
	}
	if seeded {
		if err := seed(t.Context(), o.data); err != nil {
			t.Fatal(err)
		}
	}
	r, err := serveIn(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	s := &site{running: r, t: t}
	link := linkExpr.FindString(r.out.String())
	anonymous := must[*client.Client](t)(client.New(r.url, ""))
	if _, s.token, err = anonymous.Login(t.Context(), link[strings.LastIndex(link, "/")+1:], "test"); err != nil {
		t.Fatal(err)
	}
	s.admin = must[*client.Client](t)(client.New(r.url, s.token))
	return s
}

// get asks as a user of basic authentication, "" for nobody.
func (s *site) get(path, password string, header ...string) (*http.Response, string) {
	s.t.Helper()
	r := must[*http.Request](s.t)(http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil))
	if password != "" {
		r.SetBasicAuth("somebody", password)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, string(must[[]byte](s.t)(io.ReadAll(resp.Body)))
}

func TestMonitoring(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, serveOptions{})
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if resp, body := s.get(path, ""); resp.StatusCode != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, resp.StatusCode, body)
		}
	}
	_, metrics := s.get("/metrics", "")
	for _, want := range []string{`slipway_runs{state="succeeded"} 2`, `slipway_runs{state="failed"} 1`, `slipway_steps{state="waiting"} 1`, `slipway_approvals{state="waiting"} 1`,
		`slipway_deployments{state="verified"}`, "slipway_running_steps 0", "slipway_registry_bytes", "go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s:\n%s", want, metrics)
		}
	}
}

// The same wrong password is refused everywhere, in the way that each client understands.
func TestChallenges(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, serveOptions{})
	const refs = "/git/shop.git/info/refs?service=git-upload-pack"
	for path, want := range map[string]string{refs: `Basic realm="slipway"`, "/v2/": `Basic realm="slipway"`, "/api/v1/whoami": `Bearer realm="slipway"`} {
		for _, password := range []string{"", "wrong", "slp_wrong"} {
			resp, body := s.get(path, password)
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != want {
				t.Errorf("%s with %q: %d, challenge %q: %s", path, password, resp.StatusCode, resp.Header.Get("WWW-Authenticate"), body)
			}
		}
		if resp, body := s.get(path, s.token); resp.StatusCode != http.StatusOK {
			t.Errorf("%s as the admin: %d %s", path, resp.StatusCode, body)
		}
	}
	if resp, _ := s.get("/", ""); resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(resp.Header.Get("Location"), "/signin") {
		t.Errorf("the pages: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}

// A robot pulls from the registry and can do nothing else, whichever door it tries.
func TestRobotsPullOnly(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := seed(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	secret := robotOf(t, data)
	s := newSite(t, false, serveOptions{data: data})
	for path, want := range map[string]int{
		"/v2/":                      http.StatusOK,
		"/v2/shop/cart/tags/list":   http.StatusNotFound, // it may ask
		"/v2/blog/web/tags/list":    http.StatusForbidden,
		"/v2/mirror/x/tags/list":    http.StatusForbidden,
		"/api/v1/whoami":            http.StatusForbidden,
		"/api/v1/projects":          http.StatusForbidden,
		"/api/v1/clusters":          http.StatusForbidden,
		"/api/v1/runs":              http.StatusForbidden,
		"/api/v1/runs/1":            http.StatusForbidden,
		"/api/v1/events":            http.StatusForbidden,
		"/api/v1/runs/1/log?step=x": http.StatusForbidden,
		"/git/shop.git/info/refs?service=git-upload-pack":  http.StatusForbidden,
		"/git/shop.git/info/refs?service=git-receive-pack": http.StatusForbidden,
	} {
		if resp, body := s.get(path, secret); resp.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", path, resp.StatusCode, want, body)
		}
	}
	robot := must[*client.Client](t)(client.New(s.url, secret))
	if _, err := robot.CreateToken(t.Context(), "robot-shop.qa", "more"); slipway.ErrorCode(err) != slipway.Forbidden {
		t.Errorf("a token of its own: %v", err)
	}
}

func robotOf(t *testing.T, data string) string {
	t.Helper()
	s := &seeder{jobs: map[int64]int{}}
	if err := s.open(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, secret, err := s.Robot(t.Context(), "shop", "qa")
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// Somebody who looks on does not hold up the end: streams and followed logs are ended, not waited for.
func TestStopWithOpenStreams(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, serveOptions{})
	seen := make(chan struct{}, 100)
	ends := make(chan error, 3)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for range 2 {
		go func() {
			ends <- s.admin.Events(ctx, "", 0, func(slipway.Event) error {
				select {
				case seen <- struct{}{}:
				default:
				}
				return nil
			})
		}()
	}
	go func() { // of a step that has not started: it waits for lines
		ends <- s.admin.Log(ctx, 3, "deploy/cart@production", true, func(slipway.LogLine) error { return nil })
	}()
	<-seen
	session := s.session()
	page := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/live", nil))
	page.AddCookie(&http.Cookie{Name: web.SessionCookie, Value: session})
	live := must[*http.Response](t)(http.DefaultClient.Do(page))
	defer live.Body.Close()
	if kind := live.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("the stream of the pages is %d %s", live.StatusCode, kind)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-ends; slipway.ErrorCode(err) != slipway.Unavailable {
			t.Errorf("whoever looked on was told %v", err)
		}
	}
	if text := s.out.String(); strings.Contains(text, "level=ERROR") || strings.Contains(text, "cut off") || strings.Contains(text, s.token) || strings.Contains(text, session) {
		t.Errorf("the log:\n%s", text)
	}
}

// session signs the admin in as the pages do.
func (s *site) session() string {
	s.t.Helper()
	r := must[*http.Request](s.t)(http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/signin", strings.NewReader("token="+s.token)))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == web.SessionCookie {
			return c.Value
		}
	}
	s.t.Fatalf("signing in answers %d without a session", resp.StatusCode)
	return ""
}

// What is asked with a credential, right or wrong, leaves no trace of it in the log.
func TestCredentialsAreNotLogged(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		s := newSite(t, true, serveOptions{logFormat: format})
		session := s.session()
		const wrong = "slp_wrongandlongenough"
		for _, path := range []string{"/", "/runs/1", "/api/v1/runs/x", "/api/v1/nothing", "/git/shop.git/info/refs?service=git-upload-pack", "/git/none.git/info/refs?service=git-upload-pack", "/v2/shop/cart/manifests/x", "/signin/WRONGCODEWRONGCODE"} {
			for _, secret := range []string{s.token, wrong} {
				s.get(path, secret)
				s.get(path, "", "Authorization", "Bearer "+secret)
			}
			s.get(path, "", "Cookie", web.SessionCookie+"="+session)
		}
		if _, err := s.admin.CreateToken(t.Context(), "admin", "more"); err != nil {
			t.Fatal(err)
		}
		text := s.out.String()
		for _, secret := range []string{s.token, session, wrong, "WRONGCODEWRONGCODE", "slp_"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s log has %q:\n%s", format, secret, text)
			}
		}
	}
}

// A page of the log is read by lines of any length.
func TestLogOfAServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, serveOptions{})
	var got []string
	err := s.admin.Log(t.Context(), 1, "build/cart", true, func(l slipway.LogLine) error { got = append(got, l.Text); return nil })
	if err != nil || len(got) != 3 || got[2] != "日本語 wide" {
		t.Errorf("%q, %v", got, err)
	}
	for step, code := range map[string]slipway.Code{"nothing": slipway.NotFound, "": slipway.NotFound} {
		if err := s.admin.Log(t.Context(), 1, step, true, nil); slipway.ErrorCode(err) != code {
			t.Errorf("step %q: %v", step, err)
		}
	}
	r, err := s.admin.Report(t.Context(), 1, "test/cart")
	if err != nil || r.Passed != 12 {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := s.admin.Report(t.Context(), 1, "build/cart"); slipway.ErrorCode(err) != slipway.NotFound {
		t.Errorf("a step without a report: %v", err)
	}
}

// The stream goes on where Last-Event-ID says, as browsers ask.
func TestEventsOfAServer(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, serveOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := must[*http.Request](t)(http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/api/v1/events?follow=1&project=shop", nil))
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Last-Event-ID", "5")
	resp := must[*http.Response](t)(http.DefaultClient.Do(r))
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	last := 5
	for lines.Scan() && last < 30 {
		if id, ok := bytes.CutPrefix(lines.Bytes(), []byte("id: ")); ok {
			n := must[int](t)(strconv.Atoi(string(id)))
			if n <= last {
				t.Fatalf("event %d after %d", n, last)
			}
			last = n
		}
	}
	if last < 30 {
		t.Errorf("the stream ended after event %d: %v", last, lines.Err())
	}
}

// A server that lost its power leaves locks of git behind; the next one pushes all the same.
func TestLocksOfADeadGit(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	first := newSite(t, true, serveOptions{data: data})
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	lock := filepath.Join(data, "repos", "shop.git", "refs", "heads", "feature.lock")
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(data, "repos", "shop.git", "objects", "pack", "tmp_pack_x")
	if err := os.WriteFile(part, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(-time.Hour)
	if err := errors.Join(os.Chtimes(lock, hour, hour), os.Chtimes(part, hour, hour)); err != nil {
		t.Fatal(err)
	}
	second, err := serveIn(t.Context(), serveOptions{data: data})
	if err != nil {
		t.Fatal(err)
	}
	defer second.stop() //nolint:errcheck // what matters was seen
	if _, err := os.Stat(lock); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock is there still: %v", err)
	}
	if _, err := os.Stat(part); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the half-made pack is there still: %v", err)
	}
	if log := second.out.String(); !strings.Contains(log, "removed what a dead git left") {
		t.Errorf("the log says nothing of it:\n%s", log)
	}
}

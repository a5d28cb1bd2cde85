package rest_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/azuredevops"
	"github.com/slipway-cd/slipway/driver/gitea"
	"github.com/slipway-cd/slipway/driver/github"
	"github.com/slipway-cd/slipway/driver/gitlab"
	"github.com/slipway-cd/slipway/driver/rest"
	"github.com/slipway-cd/slipway/slipwaytest"
)

const (
	token  = "glpat-0123456789secret"
	commit = "da1560886d4f094c3e6c9ef40349f7d38b5d27d7"
)

type client interface {
	Repository(ctx context.Context) (slipway.ForgeRepository, error)
	Pulls(ctx context.Context) ([]slipway.ForgePull, error)
	Pull(ctx context.Context, number int64) (slipway.ForgePull, error)
	Heads(ctx context.Context) ([]slipway.BranchHead, error)
	SetStatus(ctx context.Context, s slipway.CommitStatus) error
	Comment(ctx context.Context, c slipway.PullComment) (string, error)
	MayWrite(ctx context.Context, a slipway.Account) (bool, error)
	CreateHooks(ctx context.Context, address, secret string) ([]string, error)
	DeleteHook(ctx context.Context, id string) error
	GitAuth(ctx context.Context) (user, password string, err error)
}

func clients(t *testing.T, url string, o rest.Options) map[slipway.ForgeKind]client {
	t.Helper()
	o.Timeout = cmp.Or(o.Timeout, time.Minute) // a busy machine gets there too
	out := map[slipway.ForgeKind]client{}
	for kind, x := range forges() {
		c := x.conn
		c.API = url
		var err error
		switch kind {
		case slipway.GitHub:
			out[kind], err = github.New(c, token, o)
		case slipway.GitLab:
			out[kind], err = gitlab.New(c, token, o)
		case slipway.Gitea:
			out[kind], err = gitea.New(c, token, o)
		case slipway.AzureDevOps:
			out[kind], err = azuredevops.New(c, token, o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// calls are all that one can ask of a client.
func calls(c client) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"repository": func(ctx context.Context) error { _, err := c.Repository(ctx); return err },
		"pulls":      func(ctx context.Context) error { _, err := c.Pulls(ctx); return err },
		"pull":       func(ctx context.Context) error { _, err := c.Pull(ctx, 3); return err },
		"heads":      func(ctx context.Context) error { _, err := c.Heads(ctx); return err },
		"status": func(ctx context.Context) error {
			return c.SetStatus(ctx, slipway.CommitStatus{Commit: commit, Context: "slipway/shipping", State: slipway.StatusSuccess, Pull: 3})
		},
		"comment": func(ctx context.Context) error {
			_, err := c.Comment(ctx, slipway.PullComment{Pull: 3, Marker: "summary", Text: "x"})
			return err
		},
		"rights": func(ctx context.Context) error {
			_, err := c.MayWrite(ctx, slipway.Account{ID: "5", Name: "bob"})
			return err
		},
		"hooks": func(ctx context.Context) error {
			_, err := c.CreateHooks(ctx, "https://slipway.example.com/x", "s")
			return err
		},
		"delete hook": func(ctx context.Context) error { return c.DeleteHook(ctx, "7") },
	}
}

func secretsOf(err error) bool {
	for _, s := range []string{token, base64.StdEncoding.EncodeToString([]byte(":" + token)), token[6:]} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}

// everywhere makes every call of every driver against one answer and checks the error.
func everywhere(t *testing.T, url string, o rest.Options, check func(t *testing.T, call string, err error)) {
	t.Helper()
	for kind, c := range clients(t, url, o) {
		for name, call := range calls(c) {
			t.Run(string(kind)+"/"+name, func(t *testing.T) {
				t.Parallel()
				err := call(t.Context())
				if err != nil && secretsOf(err) {
					t.Errorf("the error shows the token: %v", err)
				}
				check(t, name, err)
			})
		}
	}
}

func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// What a forge refuses becomes an error with the right code, which names the forge's answer and what
// the token needs.
func TestRefusals(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	options := rest.Options{Now: func() time.Time { return now }}
	for _, c := range []struct {
		name   string
		h      http.HandlerFunc
		code   slipway.Code
		after  time.Duration
		says   string
		needed bool // the message names the scope
	}{
		{"401", answer(401, `{"message":"Bad credentials"}`), slipway.Forbidden, 0, "the token is wrong, expired or revoked", true},
		{"403", answer(403, `{"message":"Resource not accessible by integration"}`), slipway.Forbidden, 0, "Resource not accessible", true},
		{"404", answer(404, `{"message":"404 Project Not Found"}`), slipway.NotFound, 0, "may not see it", true},
		{"409", answer(409, `{"message":"exists"}`), slipway.Conflict, 0, "exists", false},
		{"422", answer(422, `{"message":"Validation Failed","errors":[{"message":"No commit found"}]}`), slipway.Invalid, 0, "No commit found", false},
		{"400 with fields", answer(400, `{"message":{"name":["is too long"]}}`), slipway.Invalid, 0, "is too long", false},
		{"429", answer(429, ``, "Retry-After", "7"), slipway.Unavailable, 7 * time.Second, "too many requests; it asks to wait 7s", false},
		{"429 until a date", answer(429, ``, "Retry-After", "Sat, 21 Nov 2026 10:01:00 GMT"), slipway.Unavailable, time.Minute, "too many requests; it asks to wait 1m0s", false},
		{"429 for years", answer(429, ``, "Retry-After", "999999999"), slipway.Unavailable, time.Hour, "too many requests", false},
		{"429 of nonsense", answer(429, ``, "Retry-After", "-5"), slipway.Unavailable, 0, "too many requests", false},
		{"403 of a limit", answer(403, `{"message":"API rate limit exceeded"}`, "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1795255260"), slipway.Unavailable, time.Minute, "rate limit exceeded", false},
		{"403 of a second limit", answer(403, `{}`, "Retry-After", "60"), slipway.Unavailable, time.Minute, "too many requests", false},
		{"403 of a second limit that names no time", answer(403, `{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again.","documentation_url":"https://docs.github.com/rest"}`, "X-RateLimit-Remaining", "4999"), slipway.Unavailable, time.Minute, "too many requests", false},
		{"429 of GitLab", answer(429, `{}`, "RateLimit-Remaining", "0", "RateLimit-Reset", "1795255260"), slipway.Unavailable, time.Minute, "too many requests", false},
		{"502", answer(502, `<html>`), slipway.Unavailable, 0, "it is in trouble itself", false},
		{"503", answer(503, ``, "Retry-After", "30"), slipway.Unavailable, 30 * time.Second, "it is in trouble itself", false},
		{"the token in the answer", answer(403, `{"message":"token `+token+` is\u001b[1m bad\u001b[31m\u001b]0;owned\u0007"}`), slipway.Forbidden, 0, "token *** is bad", true},
		{"304", answer(304, ``), slipway.Invalid, 0, "redirect", false},
		{"a long answer", answer(400, `{"message":"`+strings.Repeat("x", 5000)+`"}`), slipway.Invalid, 0, "x…", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, server(t, c.h), options, func(t *testing.T, call string, err error) {
				if c.code == slipway.NotFound && (call == "delete hook" || call == "rights" && err == nil) {
					if err != nil {
						t.Errorf("gone already: %v", err)
					}
					return
				}
				if slipway.ErrorCode(err) != c.code || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 700 {
					t.Fatalf("%s: %v", slipway.ErrorCode(err), err)
				}
				if slipway.Temporary(err) != (c.code == slipway.Unavailable) || slipway.RetryAfter(err) != c.after {
					t.Errorf("temporary %v, after %s: %v", slipway.Temporary(err), slipway.RetryAfter(err), err)
				}
				if asked := c.after > 0 && !strings.HasSuffix(c.name, "names no time"); strings.Contains(err.Error(), "; it asks to wait ") != asked {
					t.Errorf("that it asks to wait is not told as it is: %v", err)
				}
				if c.needed && !strings.Contains(err.Error(), "it needs the") && !strings.Contains(err.Error(), "whose token it is") {
					t.Errorf("the scope is not named: %v", err)
				}
			})
		})
	}
}

// Answers that are none: pages, noise, too much, too little.
func TestBadAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		h    http.HandlerFunc
		code slipway.Code
	}{
		{"a page", answer(200, "<html>sign in</html>", "Content-Type", "text/html"), slipway.Forbidden},
		{"a page with 203", answer(203, "<html>sign in</html>", "Content-Type", "text/html; charset=utf-8"), slipway.Forbidden},
		{"broken", answer(200, `{"id":`), slipway.Invalid},
		{"another type", answer(200, `"x"`), slipway.Invalid},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"id":`)
		}, slipway.Unavailable},
		{"closed", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, slipway.Unavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			everywhere(t, server(t, c.h), rest.Options{}, func(t *testing.T, call string, err error) {
				if slipway.ErrorCode(err) == c.code {
					return
				}
				// What has no use for the answer does not read it.
				if err != nil || c.code == slipway.Unavailable || call != "status" && call != "delete hook" {
					t.Errorf("%s: %v", slipway.ErrorCode(err), err)
				}
			})
		})
	}
}

func TestTooMuch(t *testing.T) {
	t.Parallel()
	chunk := strings.Repeat(" ", 1<<20)
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for range 1000 {
			if _, err := io.WriteString(w, chunk); err != nil {
				return
			}
		}
	})
	for kind, c := range clients(t, url, rest.Options{}) {
		if _, err := c.Repository(t.Context()); slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "more than 16 MB") {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	t.Parallel()
	everywhere(t, "http://"+slipwaytest.Refusing(t), rest.Options{}, func(t *testing.T, _ string, err error) {
		if !slipway.Temporary(err) || !strings.Contains(err.Error(), "does not answer") || strings.Contains(err.Error(), "http:") {
			t.Errorf("refused: %v", err)
		}
	})
	over := make(chan struct{})
	silent := server(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	t.Cleanup(func() { close(over) })
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		everywhere(t, silent, rest.Options{Timeout: 50 * time.Millisecond}, func(t *testing.T, _ string, err error) {
			if !slipway.Temporary(err) || !strings.Contains(err.Error(), "does not answer") {
				t.Errorf("silent: %v", err)
			}
		})
	})
	for kind, c := range clients(t, silent, rest.Options{}) {
		for name, call := range calls(c) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(slipway.ErrShutdown)
			if err := call(ctx); !errors.Is(err, slipway.ErrShutdown) || slipway.Temporary(err) {
				t.Errorf("%s/%s, stopped: %v", kind, name, err)
			}
		}
	}
}

// A token goes nowhere else, and a write is never repeated as a read.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var elsewhere []string
	other := server(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		elsewhere = append(elsewhere, r.Method+" "+r.URL.Path)
	})
	for _, status := range []int{301, 302, 303, 307, 308} {
		away := server(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other+"/stolen", status) })
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			everywhere(t, away, rest.Options{}, func(t *testing.T, _ string, err error) {
				if slipway.ErrorCode(err) != slipway.Invalid || !strings.Contains(err.Error(), "redirect") {
					t.Errorf("got %v", err)
				}
			})
		})
		var methods []string
		back := server(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			methods = append(methods, r.Method)
			http.Redirect(w, r, "/again", status)
		})
		for kind, c := range clients(t, back, rest.Options{}) {
			methods = nil
			if err := calls(c)["status"](t.Context()); slipway.ErrorCode(err) != slipway.Invalid {
				t.Errorf("%s, %d in a circle: %v", kind, status, err)
			}
			if slices.Contains(methods, http.MethodGet) || len(methods) > 5 {
				t.Errorf("%s, %d: a status was asked for with %v", kind, status, methods)
			}
		}
	}
	t.Cleanup(func() {
		if len(elsewhere) > 0 {
			t.Errorf("another host was asked: %v", elsewhere)
		}
	})
}

// A redirect within the forge, as GitHub answers for a repository with a new name, is followed.
func TestRedirectWithin(t *testing.T) {
	t.Parallel()
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/repositories/") {
			http.Redirect(w, r, "/repositories/1", http.StatusMovedPermanently)
			return
		}
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(200, `{"id":1,"full_name":"new/name"}`)(w, r)
	})
	r, err := clients(t, url, rest.Options{})[slipway.GitHub].Repository(t.Context())
	if err != nil || r.Name != "new/name" {
		t.Errorf("got %+v, %v", r, err)
	}
}

// A write to a repository with a new name is written there, as Gitea 1.25.1 answers: with its body and its token.
func TestWriteRedirectedWithin(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 307, 308} {
		var mu sync.Mutex
		var seen []string
		url := server(t, func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(r.URL.Path, "/shop/") {
				http.Redirect(w, r, strings.Replace(r.URL.Path, "/shop/", "/store/", 1), status)
				return
			}
			body, err := io.ReadAll(r.Body)
			seen = append(seen, fmt.Sprintf("%s %s %t %t %v", r.Method, r.URL.Path, len(body) > 20, strings.Contains(r.Header.Get("Authorization"), token), err))
			answer(201, `{"id":1}`)(w, r)
		})
		c := clients(t, url, rest.Options{})[slipway.Gitea]
		if err := calls(c)["status"](t.Context()); err != nil || !slices.Equal(seen, []string{"POST /repos/ada/store/statuses/" + commit + " true true <nil>"}) {
			t.Errorf("%d: %q, %v", status, seen, err)
		}
	}
}

func TestCredential(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", " \n", "two words", "a\r\nX-Injected: 1", "tökén", "a\x00b"} {
		for kind, x := range forges() {
			c := x.conn
			var err error
			switch kind {
			case slipway.GitHub:
				_, err = github.New(c, bad, rest.Options{})
			case slipway.GitLab:
				_, err = gitlab.New(c, bad, rest.Options{})
			case slipway.Gitea:
				_, err = gitea.New(c, bad, rest.Options{})
			case slipway.AzureDevOps:
				_, err = azuredevops.New(c, bad, rest.Options{})
			}
			if slipway.ErrorCode(err) != slipway.Invalid || bad != "" && strings.Contains(err.Error(), strings.TrimSpace(bad)) && strings.TrimSpace(bad) != "" {
				t.Errorf("%s takes %q: %v", kind, bad, err)
			}
		}
	}
	for kind, c := range clients(t, "https://127.0.0.1:1", rest.Options{}) {
		if _, password, err := c.GitAuth(t.Context()); err != nil || password != token {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Names from deliveries become one element of a path, whatever is in them.
func TestPaths(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	url := server(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.URL.EscapedPath())
		answer(200, `{}`)(w, r)
	})
	for _, name := range []string{"../../user", "a/b", "a?x=1#y", "a%2fb", "..", ".", "ü\n"} {
		for kind, c := range clients(t, url+"/base", rest.Options{}) {
			mu.Lock()
			seen = nil
			mu.Unlock()
			may, err := c.MayWrite(t.Context(), slipway.Account{ID: name, Name: name})
			if may {
				t.Errorf("%s: %q may write, %v", kind, name, err)
			}
			for _, p := range seen {
				if strings.Contains(p, "/../") || strings.HasSuffix(p, "/user") || !strings.HasPrefix(p, "/base/") {
					t.Errorf("%s: %q leads to %s", kind, name, p)
				}
			}
		}
	}
}

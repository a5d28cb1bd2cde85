package github_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/github"
	"github.com/slipway-cd/slipway/driver/rest"
)

// hub is GitHub with one app: it gives tokens for an hour to who signs with the app's key.
type hub struct {
	mu     sync.Mutex
	key    *rsa.PublicKey
	now    time.Time
	made   int
	faults []string
	seen   []string
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, r.Method+" "+r.URL.Path)
	w.Header().Set("Content-Type", "application/json")
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case r.URL.Path == "/app/installations/22/access_tokens" && r.Method == http.MethodPost:
		if err := h.signed(bearer); err != nil {
			h.faults = append(h.faults, err.Error())
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.made++
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"token":"ghs_token%d","expires_at":%q}`, h.made, h.now.Add(time.Hour).Format(time.RFC3339))
	case r.URL.Path == "/app":
		if err := h.signed(bearer); err != nil {
			h.faults = append(h.faults, err.Error())
		}
		_, _ = io.WriteString(w, `{"slug":"slipway-test"}`)
	case bearer != fmt.Sprintf("ghs_token%d", h.made):
		w.WriteHeader(http.StatusUnauthorized)
	case strings.HasSuffix(r.URL.Path, "/comments") && r.Method == http.MethodGet:
		_, _ = io.WriteString(w, `[{"id":1,"body":"<!-- slipway:summary -->","user":{"login":"mallory"}},{"id":2,"body":"<!-- slipway:summary -->","user":{"login":"slipway-test[bot]"}}]`)
	default:
		_, _ = io.WriteString(w, `{"id":2}`)
	}
}

func (h *hub) signed(token string) error {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return fmt.Errorf("%q is no JSON Web Token", token)
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(h.key, crypto.SHA256, sum[:], signature); err != nil {
		return err
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var claims struct {
		Iat, Exp int64
		Iss      string
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return err
	}
	if claims.Iss != "11" || claims.Exp-claims.Iat > 600 || claims.Iat > h.now.Unix() || claims.Exp <= h.now.Unix() {
		return fmt.Errorf("the claims are %s", text)
	}
	return nil
}

func TestApp(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"PKCS 1": {Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
		"PKCS 8": {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hub{key: &key.PublicKey, now: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
			s := httptest.NewServer(h)
			defer s.Close()
			var log bytes.Buffer
			c := slipway.Connection{Forge: slipway.GitHub, API: s.URL, Repository: "octo-shop/shop"}
			clock := func() time.Time {
				h.mu.Lock()
				defer h.mu.Unlock()
				return h.now
			}
			g, err := github.New(c, "app 11 22\n"+string(pem.EncodeToMemory(block)), rest.Options{
				Now: clock, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			if err != nil {
				t.Fatal(err)
			}
			use(t, h, g)
			if text := log.String(); strings.Contains(text, "ghs_") || strings.Contains(text, "eyJ") || !strings.Contains(text, "status=201") {
				t.Errorf("the log is\n%s", text)
			}
		})
	}
}

func use(t *testing.T, h *hub, g *github.Client) {
	t.Helper()
	for hours, tokens := range []int{1, 2, 3} {
		for range 3 {
			if _, err := g.Repository(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if h.made != tokens {
			t.Errorf("after %d hours %d tokens were made", hours, h.made)
		}
		h.mu.Lock()
		h.now = h.now.Add(56 * time.Minute)
		h.mu.Unlock()
	}
	if id, err := g.Comment(t.Context(), slipway.PullComment{Pull: 3, Marker: "summary", Text: "x"}); err != nil || id != "2" {
		t.Errorf("comment %q, %v", id, err)
	}
	if user, password, err := g.GitAuth(t.Context()); err != nil || user != "x-access-token" || password != fmt.Sprintf("ghs_token%d", h.made) {
		t.Errorf("git: %s, %v", user, err)
	}
	for _, f := range h.faults {
		t.Error(f)
	}
}

func TestParseApp(t *testing.T) {
	t.Parallel()
	if _, ok, err := github.ParseApp("ghp_token"); ok || err != nil {
		t.Errorf("a token is an app: %v", err)
	}
	block := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("secret-bytes")}))
	for _, bad := range []string{"app ", "app 1", "app 1 2", "app x 2\n" + block, "app 1 0\n" + block, "app -1 2\n" + block, "app 1 2 3\n" + block, "app 1 2\n" + block, "app 1 2\nsecret-key"} {
		_, ok, err := github.ParseApp(bad)
		if !ok || slipway.ErrorCode(err) != slipway.Invalid {
			t.Errorf("%q: %v, %v", bad, ok, err)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), block[30:]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestHookText(t *testing.T) {
	t.Parallel()
	got := github.HookText(slipway.Connection{Repository: "octo-shop/shop"}, "https://slipway.example.com/hooks/shop", "open-sesame")
	want := `In octo-shop/shop on GitHub, open Settings, Webhooks, Add webhook, and enter:
  Payload URL:      https://slipway.example.com/hooks/shop
  Content type:     application/json
  Secret:           open-sesame
  SSL verification: enabled
  Events:           "Let me select individual events": Pushes, Pull requests, Issue comments
  Active:           yes
`
	if got != want {
		t.Errorf("got\n%s", got)
	}
}

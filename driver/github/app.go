package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/rest"
)

// App is a GitHub App that is installed in the repository's account: it makes tokens of its own that
// hold for an hour. It may be used by several goroutines.
type App struct {
	id           int64
	installation int64
	key          *rsa.PrivateKey
	api          *rest.Client
	now          func() time.Time

	mu      sync.Mutex
	token   string
	expires time.Time
}

// ParseApp reads a credential of the form
//
//	app <app id> <installation id>
//	-----BEGIN RSA PRIVATE KEY----- ...
//
// The second result is false for anything that does not begin with "app ": a token.
func ParseApp(credential string) (*App, bool, error) {
	if !strings.HasPrefix(credential, "app ") {
		return nil, false, nil
	}
	bad := func(why string) (*App, bool, error) {
		return nil, true, slipway.Errorf(slipway.Invalid, `credential of a GitHub App: %s; expected "app <app id> <installation id>" and the private key in PEM below`, why)
	}
	line, rest, _ := strings.Cut(credential, "\n")
	words := strings.Fields(line)
	if len(words) != 3 {
		return bad("the first line has not three words")
	}
	id, err1 := strconv.ParseInt(words[1], 10, 64)
	installation, err2 := strconv.ParseInt(words[2], 10, 64)
	if err1 != nil || err2 != nil || id < 1 || installation < 1 {
		return bad("an id is not a number")
	}
	block, _ := pem.Decode([]byte(rest))
	if block == nil {
		return bad("there is no PEM block")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		other, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return bad("the private key is not one")
		}
		var ok bool
		if key, ok = other.(*rsa.PrivateKey); !ok {
			return bad("the private key is not RSA")
		}
	}
	return &App{id: id, installation: installation, key: key}, true, nil
}

func (a *App) connect(base string, o rest.Options) (err error) {
	if a.now = o.Now; a.now == nil {
		a.now = time.Now
	}
	a.api, err = rest.New("GitHub", base, versioned(a.sign), o)
	return err
}

// sign proves to GitHub that it is the app: a JSON Web Token (RFC 7519) with RS256 for nine minutes.
func (a *App) sign(_ context.Context, h http.Header) error {
	now := a.now()
	claims, err := json.Marshal(map[string]any{"iat": now.Add(-time.Minute).Unix(), "exp": now.Add(9 * time.Minute).Unix(), "iss": strconv.FormatInt(a.id, 10)})
	if err != nil {
		return err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + enc.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return slipway.Errorf(slipway.Invalid, "sign with the GitHub App's key: %w", err)
	}
	h.Set("Authorization", "Bearer "+text+"."+enc.EncodeToString(signature))
	return nil
}

// Token is a token of the installation that holds for at least five minutes; git takes it as the
// password of the user x-access-token.
func (a *App) Token(ctx context.Context) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.token != "" && a.now().Add(5*time.Minute).Before(a.expires) {
		return a.token, nil
	}
	var made struct {
		Token     string    `json:"token"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	_, err := a.api.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: []string{"app", "installations", strconv.FormatInt(a.installation, 10), "access_tokens"},
		Into: &made, What: "get a token for the GitHub App's installation",
	})
	if err != nil {
		return "", err
	}
	if made.Token == "" {
		return "", slipway.Errorf(slipway.Invalid, "get a token for the GitHub App's installation: the answer holds none")
	}
	a.token, a.expires = made.Token, made.ExpiresAt
	return a.token, nil
}

// slug is the name of the app: its account is <slug>[bot].
func (a *App) slug(ctx context.Context) (string, error) {
	var app struct {
		Slug string `json:"slug"`
	}
	_, err := a.api.Do(ctx, rest.Request{Path: []string{"app"}, Into: &app, What: "ask GitHub for the app's name"})
	return app.Slug, err
}

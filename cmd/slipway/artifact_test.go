package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/client"
)

// The server's registry that is said to be elsewhere is not shown the token of who is signed in.
func TestATokenGoesToItsServerOnly(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(slipway.User{Name: "ada"}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(web.Close)
	api := must[*client.Client](t)(client.New(web.URL, "secret"))
	const registry = "registry.slipway.test"
	for address, want := range map[string]string{"": "secret", web.URL: "secret", web.URL + "/": "secret", "http://127.0.0.1:1": ""} {
		if _, token, err := atServer(api, registry, address)(t.Context(), registry); err != nil || token != want {
			t.Errorf("at %q it is shown %q, %v", address, token, err)
		}
	}
	if _, token, err := atServer(api, registry, "")(t.Context(), "docker.test"); err != nil || token != "" {
		t.Errorf("another registry is shown %q, %v", token, err)
	}
}

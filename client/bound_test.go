package client

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// What answers without an end is given up; an answer that is as large as it may be is taken.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	for name, c := range map[string]struct {
		write func(w http.ResponseWriter, r *http.Request)
		says  string
	}{
		"as large as may be": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"name":"%s"}`, strings.Repeat("a", most-len(`{"name":""}`)))
		}, ""},
		"a byte more": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"name":"%s"}`, strings.Repeat("a", 1+most-len(`{"name":""}`)))
		}, "answered more than 1048576 bytes"},
		"without an end": {func(w http.ResponseWriter, r *http.Request) {
			_, err := fmt.Fprint(w, `{"name":"`)
			for err == nil && r.Context().Err() == nil {
				_, err = fmt.Fprint(w, strings.Repeat("a", 64<<10))
			}
		}, "answered more than 1048576 bytes"},
	} {
		server := httptest.NewServer(http.HandlerFunc(c.write))
		api, err := New(server.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		if api.most != maxAnswer {
			t.Errorf("an answer may have %d bytes", api.most)
		}
		api.most = most
		_, err = api.Whoami(t.Context())
		if c.says == "" && err != nil || c.says != "" && (slipway.ErrorCode(err) != slipway.Internal || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

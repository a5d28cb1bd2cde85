package registry

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// Anybody who may pull may ask for any digest: what is not there must not fill the memory.
func TestOfWhatIsNotThereNothingIsRemembered(t *testing.T) {
	t.Parallel()
	all := func(context.Context, string, string, Action, string) (string, error) { return "dev", nil }
	r, err := Open(t.TempDir(), all, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(context.WithoutCancel(t.Context())) }) //nolint:errcheck // the folder goes with the test
	if err := r.disk.ensure("shop/delivery"); err != nil {
		t.Fatal(err)
	}
	there := fmt.Sprintf("sha256:%064d", 1)
	if err := os.WriteFile(r.disk.blob("shop/delivery", there), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		req := httptest.NewRequestWithContext(t.Context(), "HEAD", fmt.Sprintf("/v2/shop/delivery/blobs/sha256:%064d", i), nil)
		r.ServeHTTP(httptest.NewRecorder(), req)
	}
	if _, ok := r.asked.at["shop/delivery"+there]; len(r.asked.at) != 1 || !ok {
		t.Errorf("remembered: %v", r.asked.at)
	}
}

// When there are many, the old ones go, and not at every question.
func TestOldAnswersAreForgotten(t *testing.T) {
	t.Parallel()
	var a recently
	begin := time.Unix(1_700_000_000, 0)
	for i := range 3 * fewRemembered {
		now := begin.Add(time.Duration(i) * time.Second)
		a.note(fmt.Sprint(i), now, now.Add(-time.Hour))
	}
	if n := len(a.at); n > fewRemembered || n < 3600 {
		t.Errorf("%d are remembered", n)
	}
	if a.sweep < 2*3600 {
		t.Errorf("it looks for old ones again at %d", a.sweep)
	}
}

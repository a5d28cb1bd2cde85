package slipway_test

import (
	"net/http"
	"testing"

	"github.com/slipway-cd/slipway"
)

// Every code has a status of its own, and only our fault is 500.
func TestHTTPStatus(t *testing.T) {
	t.Parallel()
	want := map[slipway.Code]int{
		slipway.Invalid: http.StatusUnprocessableEntity, slipway.Unauthorized: http.StatusUnauthorized, slipway.Forbidden: http.StatusForbidden,
		slipway.NotFound: http.StatusNotFound, slipway.Conflict: http.StatusConflict, slipway.TooMany: http.StatusTooManyRequests,
		slipway.Unavailable: http.StatusServiceUnavailable, slipway.Internal: http.StatusInternalServerError,
	}
	for _, code := range slipway.Codes() {
		if got := code.HTTPStatus(); got != want[code] {
			t.Errorf("%s has status %d, want %d", code, got, want[code])
		}
	}
	if got := slipway.Code("new").HTTPStatus(); got != http.StatusInternalServerError {
		t.Errorf("an unknown code has status %d", got)
	}
}

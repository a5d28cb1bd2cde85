package gitlab

import (
	"strings"
	"testing"
)

// GitLab refuses a status whose page has an address of more than 255 characters.
func TestShort(t *testing.T) {
	t.Parallel()
	page, long := "https://slipway.example.com/runs/7", "?step="+strings.Repeat("x", 300)
	for in, want := range map[string]string{"": "", page: page, page + "?step=build": page + "?step=build", page + long: page, page + strings.Repeat("x", 300) + long: ""} {
		if got := short(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

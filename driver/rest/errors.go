package rest

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/slipway-cd/slipway"
)

// maxWait bounds what a forge can ask for: a clock that is wrong there must not stop a project for days.
const maxWait = time.Hour

// waitError is an Unavailable error that knows when to come back.
type waitError struct {
	error
	after time.Duration
}

func later(after time.Duration, format string, args ...any) error {
	err := slipway.Errorf(slipway.Unavailable, format, args...)
	if after <= 0 {
		return err
	}
	return &waitError{error: err, after: after}
}

// Unwrap returns the slipway.Error.
func (e *waitError) Unwrap() error { return e.error }

// RetryAfter is how long the forge wants to be left alone.
func (e *waitError) RetryAfter() time.Duration { return e.after }

// asksToWait says how long the forge wants to be left alone, "" when it did not say.
func asksToWait(after time.Duration) string {
	if after <= 0 {
		return ""
	}
	return fmt.Sprintf("; it asks to wait %s", max(after.Round(time.Second), time.Second))
}

// retryAfter reads Retry-After, in seconds or as a date, else the time at which a limit that is used up
// begins anew.
func retryAfter(h http.Header, now time.Time) time.Duration {
	wait := time.Duration(0)
	if v := h.Get("Retry-After"); v != "" {
		if n, err := strconv.Atoi(v); err == nil {
			wait = time.Duration(min(n, int(maxWait/time.Second))) * time.Second
		} else if at, err := http.ParseTime(v); err == nil {
			wait = at.Sub(now)
		}
	} else {
		for _, name := range []string{"X-RateLimit", "RateLimit"} {
			at, err := strconv.ParseInt(h.Get(name+"-Reset"), 10, 64)
			if err == nil && h.Get(name+"-Remaining") == "0" {
				wait = time.Unix(at, 0).Sub(now)
			}
		}
	}
	return max(0, min(wait, maxWait))
}

// credential are the texts in a request's header that must not be shown.
func credential(req *http.Request) (secrets []string) {
	for _, name := range []string{"Authorization", "Private-Token"} {
		v := req.Header.Get(name)
		if scheme, rest, ok := strings.Cut(v, " "); ok {
			v = rest
			if strings.EqualFold(scheme, "basic") {
				if plain, err := base64.StdEncoding.DecodeString(rest); err == nil {
					_, password, _ := strings.Cut(string(plain), ":")
					secrets = append(secrets, password)
				}
			}
		}
		secrets = append(secrets, v)
	}
	out := secrets[:0]
	for _, s := range secrets {
		if len(s) >= 4 {
			out = append(out, s)
		}
	}
	return out
}

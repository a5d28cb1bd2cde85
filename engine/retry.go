package engine

import (
	"fmt"
	"time"

	"github.com/slipway-cd/slipway"
)

// maxBackoff is the longest pause between attempts.
const maxBackoff = time.Minute

// decision says whether a step is tried again, and when.
type decision struct {
	again  bool
	at     time.Time
	reason string
}

// retry decides what follows an attempt that ended in an error. Only what says that trying again may
// help is tried again (D7), and as often as the plan says.
func (e *Engine) retry(step slipway.Step, err error) decision {
	if !slipway.Temporary(err) || step.Errors >= step.Spec.Retries {
		return decision{}
	}
	pause := backoff(e.opts.Backoff, step.Errors)
	return decision{
		again: true, at: e.opts.Now().Add(pause),
		reason: fmt.Sprintf("%s; next try in %s (attempt %d)", err, pause.Round(time.Millisecond), step.Attempt+1),
	}
}

// backoff is the pause after the n-th error in a row, counted from 0.
func backoff(first time.Duration, n int) time.Duration {
	d := first
	for range n {
		if d *= 2; d >= maxBackoff {
			return maxBackoff
		}
	}
	return min(d, maxBackoff)
}

package act

import (
	"context"
	"fmt"
	"time"
)

// stuck is a pull request that could not be taken over when the forge was polled.
type stuck struct {
	tries int
	next  time.Time
	err   error
}

// mostInARow is how many pull requests in a row may fail before the rest is left for the next poll: then it is no
// one's own trouble.
const mostInARow = 5

// sweep goes over the pull requests that a poll found. One that cannot be taken over, as when git does not have its
// head, holds up no other: it is tried again with a growing pause.
type sweep struct {
	*Forges
	codebase string
	anew     int // as Forges.anew when it began
	had, now map[int64]stuck
	row      int
	ended    bool // before all were seen
}

func (f *Forges) sweep(codebase string) *sweep {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &sweep{Forges: f, codebase: codebase, anew: f.anew[codebase], had: f.stuck[codebase], now: map[int64]stuck{}}
}

// goOn takes a pull request over unless that failed a moment ago, and reports whether to go on with others.
func (s *sweep) goOn(ctx context.Context, number int64, take func() error) bool {
	before, now := s.had[number], s.Forges.now()
	if now.Before(before.next) {
		s.now[number] = before
		return true
	}
	err := take()
	if err == nil {
		s.row = 0
		return true
	}
	if context.Cause(ctx) == nil {
		s.now[number] = stuck{before.tries + 1, now.Add(min(10*time.Second<<min(before.tries, 6), 5*time.Minute)), err}
	}
	s.row++
	s.ended = s.row >= mostInARow || context.Cause(ctx) != nil
	return !s.ended
}

// err is what cannot be taken over now, nil for nothing.
func (s *sweep) err() (err error) {
	first := int64(0)
	for number, k := range s.now {
		if first == 0 || number < first {
			first, err = number, k.err
		}
	}
	if len(s.now) > 1 {
		err = fmt.Errorf("%d pull requests cannot be taken over now; of %d: %w", len(s.now), first, err)
	}
	return err
}

// end remembers what is stuck: of those that were not reached, what was known before.
func (s *sweep) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Forges.anew[s.codebase] != s.anew { // that was of what it was connected with before
		return
	}
	for number, k := range s.had {
		if _, seen := s.now[number]; s.ended && !seen {
			s.now[number] = k
		}
	}
	if len(s.now) == 0 {
		delete(s.stuck, s.codebase)
		return
	}
	s.stuck[s.codebase] = s.now
}

package react_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// While something new is refused all along, as a comment on one locked pull request after the other, the cursor
// follows behind what was given up, and what is kept of it does not grow.
func TestRefusedAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := w.reactor()
	w.fail = func(string) error { return slipway.Errorf(slipway.Invalid, "no such commit") }
	for i := range 40 {
		d := delivery(int64(i+1), slipway.RunSucceeded)
		d.Run.Pull, d.Run.Commit = 0, fmt.Sprintf("%040x", i+1)
		w.runs = append(w.runs, d)
		w.happened(int64(i+1), 0)
		for range 3 { // 15 minutes
			w.round(t, r)
		}
	}
	if w.reacted < 30 || w.reacted == 40 {
		t.Errorf("at event %d of 40", w.reacted)
	}
	w.fail = nil
	for w.round(t, r) != 0 {
	}
	if w.reacted != 40 {
		t.Errorf("at event %d of 40", w.reacted)
	}
}

// What cannot be told any more, or was written by another version, holds up nothing.
func TestPoison(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.runs = []slipway.RunDetail{delivery(1, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))}
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, Forge: true, State: slipway.PullOpen}
	w.sent["comment 3"] = "{"
	w.happened(77, 0) // a run that is gone
	w.happened(1, 3)
	if wait := w.round(t, w.reactor()); wait != 0 || w.reacted != 2 || len(w.statuses) != 3 || len(w.comments) != 1 {
		t.Errorf("waits %s at event %d:\n%s", wait, w.reacted, w.shown())
	}
}

// A token that may do nothing leaves what is to be told in the store, but for a part of it.
func TestForbiddenForLong(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for i := range 3000 {
		d := delivery(int64(i+1), slipway.RunSucceeded)
		d.Run.Pull, d.Run.Commit, d.Plan = 0, fmt.Sprintf("%040x", i+1), slipway.Plan{}
		w.happened(int64(i+1), 0)
		w.runs = append(w.runs, d)
	}
	w.fail = func(string) error { return slipway.Errorf(slipway.Forbidden, "the token may not") }
	r := w.reactor()
	w.round(t, r)
	if w.read != 2000 {
		t.Errorf("%d events are read", w.read)
	}
	w.fail = nil
	for w.round(t, r) != 0 {
	}
	if w.reacted != 3000 || len(w.sent) != 3000 {
		t.Errorf("at event %d, %d sent", w.reacted, len(w.sent))
	}
}

// What cannot be worked out of one run, and what would end the server, holds up nothing else.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	w := newWorld()
	tested := delivery(1, slipway.RunSucceeded, step(9, "test/cart", slipway.StepSucceeded, ""))
	other := delivery(2, slipway.RunSucceeded, step(1, "build/cart", slipway.StepSucceeded, ""))
	other.Run.Pull, other.Run.Commit, other.Run.Ref = 0, fmt.Sprintf("%040x", 2), "refs/heads/main"
	w.runs = []slipway.RunDetail{tested, other}
	w.pulls[3] = slipway.PullRequest{Project: "shop", Number: 3, Forge: true, State: slipway.PullOpen}
	w.unreadable = 9
	w.happened(1, 3)
	w.happened(2, 0)
	r := w.reactor()
	began := w.now
	for w.round(t, r) != 0 {
	}
	if len(w.statuses) != 3 || len(w.comments) != 0 || w.reacted != 2 || w.now.Sub(began) > 2*time.Hour {
		t.Errorf("at event %d after %s:\n%s", w.reacted, w.now.Sub(began), w.shown())
	}
	w.unreadable = 0
	w.happened(1, 3)
	if wait := w.round(t, r); wait != 0 || len(w.statuses) != 6 || len(w.comments) != 1 {
		t.Errorf("waits %s:\n%s", wait, w.shown())
	}
	w.happened(2, 0)
	w.sent, w.fail = map[string]string{}, func(string) error { panic("boom") }
	if wait := w.round(t, r); wait != 5*time.Minute || w.reacted != 3 {
		t.Errorf("waits %s at event %d", wait, w.reacted)
	}
}

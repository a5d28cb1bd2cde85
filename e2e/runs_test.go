package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
)

// until waits until a run is in one of these states and returns it. A run that ends otherwise, or
// does not get there, fails the test with its steps and logs.
func (s *site) until(t *testing.T, run int64, want ...slipway.RunState) slipway.RunDetail {
	t.Helper()
	var d slipway.RunDetail
	there := s.await(t.Context(), patience, func() bool {
		var err error
		d, err = s.as("admin").Run(t.Context(), run)
		return err == nil && (slices.Contains(want, d.Run.State) || d.Run.State.Final())
	})
	if !there || !slices.Contains(want, d.Run.State) {
		t.Fatalf("run #%d is %s (%s), not %v\n%s", run, d.Run.State, d.Run.Reason, want, s.describe(run))
	}
	return d
}

// untilThat waits until something holds for a step.
func (s *site) untilThat(t *testing.T, run int64, key, what string, holds func(slipway.Step) bool) slipway.Step {
	t.Helper()
	var found slipway.Step
	there := s.await(t.Context(), patience, func() bool {
		d, err := s.as("admin").Run(t.Context(), run)
		if err != nil {
			return false
		}
		st, ok := stepOf(d, key)
		if !ok {
			return false
		}
		found = st
		return holds(st)
	})
	if !there {
		t.Fatalf("%s of run #%d is %s (%s), not %s\n%s", key, run, found.State, found.Reason, what, s.describe(run))
	}
	return found
}

func stepOf(d slipway.RunDetail, key string) (slipway.Step, bool) {
	for _, st := range d.Steps {
		if st.Spec.Key == key {
			return st, true
		}
	}
	return slipway.Step{}, false
}

// step is a step of a run that must have it.
func step(t *testing.T, d slipway.RunDetail, key string) slipway.Step {
	t.Helper()
	st, ok := stepOf(d, key)
	if !ok {
		t.Fatalf("run #%d has no step %s; it has %v", d.Run.ID, key, keys(d))
	}
	return st
}

// keys are the keys of a run's steps, sorted.
func keys(d slipway.RunDetail) []string {
	var out []string
	for _, st := range d.Steps {
		out = append(out, st.Spec.Key)
	}
	slices.Sort(out)
	return out
}

// approve approves what a run waits for, as somebody.
func (s *site) approve(t *testing.T, run int64, user string) {
	t.Helper()
	d := s.until(t, run, slipway.RunWaiting)
	if _, err := s.as(user).Vote(t.Context(), waiting(t, d).ID, true, "it works in QA"); err != nil {
		t.Fatalf("approve run #%d as %s: %v", run, user, err)
	}
}

// waiting is the approval that a run waits for.
func waiting(t *testing.T, d slipway.RunDetail) slipway.Approval {
	t.Helper()
	for _, a := range d.Approvals {
		if a.State == slipway.ApprovalWaiting {
			return a
		}
	}
	t.Fatalf("run #%d waits for no approval: %+v", d.Run.ID, d.Approvals)
	return slipway.Approval{}
}

// describe is a run for people: its steps, and the logs of those that did not succeed.
func (s *site) describe(run int64) string {
	ctx := context.Background() // the test's own may have ended
	var b strings.Builder
	d, err := s.as("admin").Run(ctx, run)
	if err != nil {
		fmt.Fprintf(&b, "run #%d: %v\n", run, err)
	}
	for _, st := range d.Steps {
		took := ""
		if !st.FinishedAt.IsZero() && !st.StartedAt.IsZero() {
			took = seconds(st.FinishedAt.Sub(st.StartedAt))
		}
		fmt.Fprintf(&b, "  %-36s %-10s attempt %d %8s  %s\n", st.Spec.Key, st.State, st.Attempt, took, st.Reason)
	}
	for _, st := range d.Steps {
		if st.State == slipway.StepSucceeded || st.Attempt == 0 {
			continue
		}
		fmt.Fprintf(&b, "--- log of %s\n%s", st.Spec.Key, tail(s.log(ctx, run, st.Spec.Key), 40))
	}
	fmt.Fprintf(&b, "--- log of server %s\n%s\n", s.name, s.process().LogTail(30))
	return b.String()
}

// log is the log of a step so far.
func (s *site) log(ctx context.Context, run int64, key string) string {
	var b strings.Builder
	err := s.as("admin").Log(ctx, run, key, false, func(l slipway.LogLine) error {
		fmt.Fprintf(&b, "%s | %s | %s %s\n", l.Time.Format("15:04:05.000"), l.Group, l.State, l.Text)
		return nil
	})
	if err != nil {
		fmt.Fprintln(&b, err)
	}
	return b.String()
}

func tail(s string, lines int) string {
	all := strings.SplitAfter(s, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "")
}

// wantCode wants an error of a code that says something.
func wantCode(t *testing.T, err error, code slipway.Code, says string) {
	t.Helper()
	if slipway.ErrorCode(err) != code || err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("got %q (%s), want %s with %q", err, slipway.ErrorCode(err), code, says)
	}
}

// wantOnce wants every event of a run to have happened once.
func (s *site) wantOnce(t *testing.T, run int64) {
	t.Helper()
	seen := map[string]int{}
	for _, e := range s.feed.of(run) {
		key := fmt.Sprintf("%s %s %s", e.Kind, e.Step, e.Data)
		if e.Kind == "run.running" { // again after each wait
			continue
		}
		if seen[key]++; seen[key] == 2 {
			t.Errorf("run #%d: event %s happened twice: %s", run, key, e.Message)
		}
	}
	for _, kind := range []string{"run.created", "step.ready plan"} {
		n := 0
		for key, times := range seen {
			if strings.HasPrefix(key, kind) {
				n += times
			}
		}
		if n == 0 {
			t.Errorf("run #%d: no event %s", run, kind)
		}
	}
}

// mentions reports whether a text has one of these parts.
func mentions(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
}

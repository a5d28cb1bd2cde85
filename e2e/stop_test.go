package e2e_test

import (
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
)

// TestGracefulStop stops the server as a service manager does while a build runs: the step is put back,
// and the next start goes on.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	s := newSite(t, "stopped", siteOptions{})
	r := s.project(t, "stop", tick().with(tree{"tick/slow/build": "15"}))
	stopping := make(chan struct{})
	a := armed{&killing{site: s, repo: r}, t, t.Context()}
	onLog("build/tick", "the build begins")(a, func() { close(stopping) })
	run := r.push("HEAD:refs/heads/feature/slow")
	select {
	case <-stopping:
	case <-time.After(patience):
		t.Fatalf("the build did not begin\n%s", s.describe(run.ID))
	}
	began := time.Now()
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	took := time.Since(began) // the step that was put back, below, shows that it did not wait for the build
	if left := below(s.data); len(left) > 0 {
		t.Errorf("processes go on after the server stopped: %v", left)
	}
	up := s.restart(t)
	d := s.until(t, run.ID, slipway.RunSucceeded)
	st := step(t, d, "build/tick")
	if st.Attempt != 2 || st.Errors != 0 {
		t.Errorf("the build was started %d times and ended in %d errors", st.Attempt, st.Errors)
	}
	s.told(t, d)
	s.wantOnce(t, run.ID)
	var released bool
	for _, e := range d.Events {
		if e.Kind == "step.failed" || e.Kind == "step.errored" || e.Kind == "step.retrying" {
			t.Errorf("event %s: %s", e.Kind, e.Message)
		}
		released = released || e.Kind == "step.ready" && strings.Contains(e.Message, "the server stopped")
	}
	if !released {
		t.Error("no event tells that the step was put back")
	}
	progress("  stopped during a build in %s, ready again after %s", seconds(took), seconds(up))
}

// below are the processes that have something to do with a folder.
func below(dir string) []string {
	var out []string
	for id, text := range processes() {
		if strings.Contains(text, dir) {
			out = append(out, id+" "+text)
		}
	}
	return out
}

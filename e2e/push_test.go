package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

// TestPushIsNotLost kills the server in the middle of pushes: afterwards either the ref moved and its
// run exists once, or neither; and pushing again makes it so.
func TestPushIsNotLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, "pushed", siteOptions{})
	r := s.project(t, "lost", tree{"README": "no service, so that runs end at once\n"})
	s.until(t, r.push("main").ID, slipway.RunSucceeded)
	moved := 0
	const rounds = 8
	for i := range rounds {
		kind := []string{"push.received", "push.accepted"}[i%2]
		t.Run(fmt.Sprintf("round %d, killed at %s", i+1, kind), func(t *testing.T) {
			r.t = t
			if killedPush(t, r, fmt.Sprintf("refs/heads/feature/%d", i), kind, false) {
				moved++
			}
		})
	}
	t.Run("killed while git waits for the ref's lock", func(t *testing.T) {
		r.t = t
		if killedPush(t, r, "refs/heads/feature/locked", "push.received", true) {
			t.Error("the ref moved while it was locked")
		}
	})
	progress("  of %d pushes that were killed, %d moved the ref", rounds, moved)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	wantChain(t, s)
}

// killedPush pushes a commit, kills the server at an event, starts it again and checks. It reports
// whether the ref moved.
func killedPush(t *testing.T, r *repo, ref, kind string, locked bool) bool {
	s := r.site
	commit := r.commit("For "+ref, tree{"file": ref})
	lock := filepath.Join(s.data, "repos", r.project+".git", ref+".lock")
	if locked {
		if err := os.MkdirAll(filepath.Dir(lock), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(lock, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dead := make(chan struct{})
	kill := sync.OnceFunc(func() {
		if err := s.process().Kill(); err != nil {
			t.Error(err)
		}
		close(dead)
	})
	remove := s.feed.trap(func(e slipway.Event) {
		if e.Kind == kind && e.Project == r.project {
			kill()
		}
	})
	_, pushErr := r.pushAs(t.Context(), "ada", "HEAD:"+ref)
	<-dead
	remove()
	s.restart(t)
	if _, err := os.Stat(lock); err == nil {
		t.Errorf("the start did not take away the lock of a push that is over: %s", lock)
	}
	moved := r.remote(ref) == commit
	runs := runsOf(t, r, ref)
	if moved != (len(runs) == 1) {
		t.Errorf("the ref moved: %v (the client was told: %v), and it has %d runs", moved, pushErr, len(runs))
	}
	if pushErr == nil && !moved {
		t.Error("the client was told that the push worked, and the ref did not move")
	}
	if _, err := r.pushAs(t.Context(), "ada", "HEAD:"+ref); err != nil {
		t.Errorf("push again: %v", err)
	}
	runs = runsOf(t, r, ref)
	if len(runs) != 1 {
		t.Fatalf("after the second push there are %d runs", len(runs))
	}
	s.told(t, s.until(t, runs[0].ID, slipway.RunSucceeded)) // the next round must not take it for its own
	s.wantOnce(t, runs[0].ID)
	return moved
}

func runsOf(t *testing.T, r *repo, ref string) []slipway.Run {
	t.Helper()
	runs, err := r.site.as("admin").Runs(t.Context(), slipway.RunFilter{Project: r.project, Ref: ref})
	if err != nil {
		t.Fatal(err)
	}
	return runs
}

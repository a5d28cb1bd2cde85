package mirror

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/driver/git"
)

// How the last poll of a mirrored codebase ended is known.
func TestPolls(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk")
	s := newWorld(t)
	p := s.mirrors("lib", u.url)
	if got := s.Polled(p.Key()); !got.Time.IsZero() || got.Since != s.begun || s.begun.IsZero() {
		t.Errorf("before the first poll %v is known", got)
	}
	began := time.Now()
	s.pollAlone(t.Context(), p)
	good := s.Polled(p.Key())
	if good.Problem != "" || good.Time.Before(began) {
		t.Fatalf("after the first poll %v is known", good)
	}
	p = s.mirrors("gone", u.url)
	if err := os.Remove(filepath.Join(strings.TrimSpace(u.git("remote", "get-url", "origin")), "HEAD")); err != nil {
		t.Fatal(err)
	}
	s.pollAlone(t.Context(), p)
	if bad := s.Polled(p.Key()); bad.Problem == "" || bad.Time.Before(good.Time) {
		t.Errorf("after one that found nothing out %v is known", bad)
	}
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	before := s.Polled(p.Key())
	s.pollAlone(stopped, p)
	if got := s.Polled(p.Key()); *got != *before {
		t.Errorf("a poll that was stopped is taken for one that ended: %v", got)
	}
}

// A codebase is recorded before its repository is in its place: it is left until then, and looked at then.
func TestAMirrorThatIsBeingMade(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk")
	s := newWorld(t)
	made, keep, err := s.Create(t.Context(), slipway.Codebase{Project: "lib", GitURL: u.url})
	if err != nil {
		t.Fatal(err)
	}
	p := must[slipway.Project](t)(s.store.CreateProject(t.Context(), slipway.Project{Name: made.Project, DefaultBranch: made.DefaultBranch, GitURL: made.GitURL}, "ada"))
	s.pollAlone(t.Context(), p.Main())
	if got := s.Polled("lib"); !got.Time.IsZero() || got.Problem != "" {
		t.Errorf("without a repository it was polled: %+v", got)
	}
	if err := keep(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.wakes.of(everyMirror):
	default:
		t.Error("that it is there wakes nobody")
	}
	s.pollAlone(t.Context(), p.Main())
	if got := s.runs(); got != "trunk@"+first {
		t.Errorf("then there is %q", got)
	}
}

func TestMirror(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk", "HEAD:old", "HEAD:older")
	s := newWorld(t)
	p := s.mirrors("lib", u.url)
	if p.DefaultBranch != "trunk" {
		t.Errorf("its default branch is %q", p.DefaultBranch)
	}
	poll := func() {
		t.Helper()
		if err := s.Fetch(t.Context(), p.Key(), nil); err != nil {
			t.Fatal(err)
		}
	}
	poll()
	poll()
	want := "trunk@" + first
	if got := s.runs(); got != want { // what was there already does not run
		t.Errorf("after the first poll: %s, want %s", got, want)
	}
	second := u.commit("second")
	u.git("tag", "-a", "v1", "-m", "one")
	u.git("push", "-q", "origin", "HEAD:trunk", "HEAD:feature/x", ":old", "v1")
	poll()
	poll()
	for _, ref := range []string{"trunk@" + second, "feature/x@" + second} {
		if !strings.Contains(s.runs(), ref) {
			t.Errorf("no run of %s: %s", ref, s.runs())
		}
	}
	refs := must[map[string]string](t)(s.repos.Open("lib").Refs(t.Context()))
	if len(refs) != 4 || refs["refs/tags/v1"] == "" || refs["refs/heads/old"] != "" || refs["refs/heads/trunk"] != second {
		t.Errorf("refs %v", refs)
	}
	if n := len(strings.Fields(s.runs())); n != 3 {
		t.Errorf("%d runs: %s", n, s.runs())
	}
	if open := must[[]slipway.Push](t)(s.store.OpenPushes(t.Context())); len(open) != 0 {
		t.Errorf("left open: %+v", open)
	}
}

// Killed at any point of a poll, the next start and poll make the run that is missing, and none twice.
func TestMirrorSurvivesACrash(t *testing.T) {
	t.Parallel()
	for name, crash := range map[string]func(s *world, p slipway.Codebase) error{
		"after the fetch": func(s *world, p slipway.Codebase) error {
			_, err := s.repos.Open(p.Project).Fetch(t.Context(), git.Remote{URL: p.GitURL})
			return err
		},
		"after recording": func(s *world, p slipway.Codebase) error {
			_, err := fetchAndRecord(t.Context(), s, p)
			return err
		},
		"after the refs moved": func(s *world, p slipway.Codebase) error {
			changes, err := fetchAndRecord(t.Context(), s, p)
			return errors.Join(err, s.repos.Open(p.Project).Apply(t.Context(), changes))
		},
	} {
		u := newUpstream(t)
		first := u.commit("first")
		u.git("push", "-q", "origin", "HEAD:trunk")
		s := newWorld(t)
		p := s.mirrors("lib", u.url)
		if err := s.Fetch(t.Context(), p.Key(), nil); err != nil {
			t.Fatal(err)
		}
		second := u.commit("second")
		u.git("push", "-q", "origin", "HEAD:trunk")
		if err := crash(s, p); err != nil {
			t.Fatal(err)
		}
		if err := s.actions.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Fetch(t.Context(), p.Key(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := s.runs(), "trunk@"+second+" trunk@"+first; got != want {
			t.Errorf("%s: runs %s, want %s", name, got, want)
		}
	}
}

func fetchAndRecord(ctx context.Context, s *world, p slipway.Codebase) ([]git.RefChange, error) {
	changes, err := s.repos.Open(p.Project).Fetch(ctx, git.Remote{URL: p.GitURL})
	for _, c := range changes {
		_, rerr := s.store.RecordPush(ctx, slipway.Push{Project: p.Project, Ref: c.Ref, Old: c.Old, New: c.New, Actor: "mirror"})
		err = errors.Join(err, rerr)
	}
	return changes, err
}

// A further codebase is mirrored as the main one is, beside it.
func TestMirrorOfAFurtherCodebase(t *testing.T) {
	t.Parallel()
	u := newUpstream(t)
	first := u.commit("first")
	u.git("push", "-q", "origin", "HEAD:trunk")
	s := newWorld(t)
	p := s.mirrors("lib", u.url)
	ctx := t.Context()
	made, keep, err := s.repos.Create(ctx, slipway.Codebase{Project: "lib", Name: "web", GitURL: u.url})
	if err != nil {
		t.Fatal(err)
	}
	web := must[slipway.Codebase](t)(s.store.CreateCodebase(ctx, made, "ada"))
	if err := s.repos.Recover([]slipway.Codebase{web}); err != nil || web.DefaultBranch != "trunk" { // killed before keep
		t.Fatalf("%+v: %v", web, err)
	}
	if err := keep(); err == nil {
		t.Error("what was recovered is put into its place once more")
	}
	for kind, want := range map[string]bool{"run.queued": false, "project.created": true, "codebase.created": true, "forge.connected": true, "codebase.removed": false} {
		before := must[int64](t)(s.store.LastEvent(ctx))
		for _, k := range []string{kind, "user.role"} {
			if err := s.store.Audit(ctx, slipway.Event{Kind: k}); err != nil {
				t.Fatal(err)
			}
		}
		after, found := s.added(ctx, before)
		if again, more := s.added(ctx, after); found != want || after != before+2 || again != after || more {
			t.Errorf("%s: the loop looks at all projects: %t, after event %d; at once again: %t, %d", kind, found, after, more, again)
		}
	}
	if _, found := s.added(ctx, 0); !found {
		t.Error("the codebase that was created is not noticed")
	}
	if !s.newMirror(ctx, []slipway.Codebase{p}) || s.newMirror(ctx, []slipway.Codebase{p, web}) {
		t.Error("the loop does not see which mirrors are new")
	}
	for range 2 {
		if err := s.Fetch(ctx, web.Key(), nil); err != nil {
			t.Fatal(err)
		}
	}
	runs := must[[]slipway.Run](t)(s.store.Runs(ctx, slipway.RunFilter{}))
	if len(runs) != 1 || runs[0].Codebase != "web" || runs[0].Commit != first || runs[0].Event != slipway.DefaultPush {
		t.Errorf("runs %+v", runs)
	}
	if got := must[string](t)(s.repos.Open("lib/web").Resolve(ctx, "refs/heads/trunk")); got != first {
		t.Errorf("trunk of the mirror is at %s", got)
	}
	if err := s.repos.Discard(web); err != nil {
		t.Fatal(err)
	}
	if err := s.repos.Discard(web); err == nil {
		t.Error("discarded twice")
	}
}

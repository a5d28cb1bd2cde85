package store

import (
	"strings"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
)

// publishing is a run whose publish step runs, and what it is about to publish.
func (w *world) publishing(version, commit, image string) slipway.Release {
	w.t.Helper()
	r := w.newRun("refs/heads/release/a/"+version, commit, steps(p("publish/a")))
	w.start(r.ID, "publish/a")
	return slipway.Release{Project: "shop", Service: "a", Version: version, Commit: commit, RunID: r.ID, ImageDigest: image}
}

// A version is one run's until that has published it or cannot any more, in whichever spelling.
func TestClaimVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.publishing("v1.0.2", commitA, "sha256:aa")
	second := w.publishing("1.0.2", commitB, "sha256:bb")
	w.ok(w.ClaimVersion(w.ctx, first))
	w.ok(w.ClaimVersion(w.ctx, first)) // again, as after a crash
	err := w.ClaimVersion(w.ctx, second)
	w.code(err, slipway.Unavailable)
	if !strings.Contains(err.Error(), "run #1") {
		t.Errorf("%v does not say who publishes it", err)
	}
	other := second
	other.Version = "1.0.3"
	w.ok(w.ClaimVersion(w.ctx, other))

	w.ok(w.FinishStep(w.ctx, w.stepOf(first.RunID, "publish/a").ID, 1, slipway.Result{Outcome: slipway.Failed, Reason: "the registry said no"}, nil))
	w.ok(w.ClaimVersion(w.ctx, second)) // given up: nothing has its name
	w.code(w.ClaimVersion(w.ctx, w.publishing("v1.0.2", commitA, "sha256:aa")), slipway.Unavailable)

	w.ok(w.FinishStep(w.ctx, w.stepOf(second.RunID, "publish/a").ID, 1, slipway.Result{Outcome: slipway.Succeeded, Release: &slipway.Release{Version: "1.0.2", ImageDigest: "sha256:bb", ChartDigest: "sha256:c"}}, nil))
	for _, v := range []slipway.Release{w.publishing("v1.0.2", commitA, "sha256:aa"), w.publishing("v1.0.2", commitB, "sha256:aa"), w.publishing("v1.0.2", commitA, "sha256:bb")} {
		err := w.ClaimVersion(w.ctx, v)
		w.code(err, slipway.Conflict)
		if !strings.Contains(err.Error(), "was released by run #2 from commit "+slipway.ShortHash(commitB)) {
			t.Errorf("%v does not say whose it is", err)
		}
	}
	w.ok(w.ClaimVersion(w.ctx, w.publishing("v1.0.2", commitB, "sha256:bb"))) // the same again
}

// A claim outlasts the server and is the same run's then; it ends with a run that is cancelled.
func TestClaimOfARunThatDied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.publishing("v1.0.2", commitA, "sha256:aa"), w.publishing("1.0.2", commitB, "sha256:bb")
	w.ok(w.ClaimVersion(w.ctx, first))
	w.ok(w.ReleaseStep(w.ctx, w.stepOf(first.RunID, "publish/a").ID, 1, nil))
	w.code(w.ClaimVersion(w.ctx, second), slipway.Unavailable)
	w.ok(w.ClaimVersion(w.ctx, first))
	w.ok(w.CancelRun(w.ctx, first.RunID, "ada", "no longer wanted"))
	w.ok(w.ClaimVersion(w.ctx, second))
}

// Of runs that ask at the same moment one has the version.
func TestClaimsAtTheSameMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := []slipway.Release{w.publishing("v1.0.2", commitA, "sha256:aa"), w.publishing("1.0.2", commitB, "sha256:bb"), w.publishing("v1.0.2", commitB, "sha256:cc")}
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, v := range all {
		wg.Go(func() { errs[i] = w.ClaimVersion(w.ctx, v) })
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			w.code(err, slipway.Unavailable)
		}
	}
	if won != 1 {
		t.Errorf("%d runs have the version: %v", won, errs)
	}
}

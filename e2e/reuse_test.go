package e2e_test

import (
	"testing"

	"github.com/slipway-cd/slipway"
)

// TestRevertRebuildsNothing goes back to files that were built and tested before: the image and the tests are
// those of then, and what is deployed has the digest of then.
func TestRevertRebuildsNothing(t *testing.T) {
	t.Parallel()
	s := mainSite(t)
	files := tick()
	files["slipway.yaml"] = "version: 1\nenvironments:\n  - {name: development, trigger: default-branch, timeout: 5m}\n"
	r := s.project(t, "reused", files)
	first := s.until(t, r.push("main").ID, slipway.RunSucceeded)
	r.commit("Another page", tree{"tick/www/index.html": "two\n"})
	second := s.until(t, r.push("main").ID, slipway.RunSucceeded)
	r.commit("Back to the first page", tree{"tick/www/index.html": "tick\n"})
	third := s.until(t, r.push("main").ID, slipway.RunSucceeded)
	for _, key := range []string{"build/tick", "test/tick"} {
		for _, d := range []slipway.RunDetail{first, second} {
			if st := step(t, d, key); st.ReusedFrom != 0 {
				t.Errorf("%s of run #%d is reused from run #%d", key, d.Run.ID, st.ReusedFrom)
			}
		}
		if st := step(t, third, key); st.ReusedFrom != first.Run.ID {
			t.Errorf("%s is reused from run #%d, want #%d: %s", key, st.ReusedFrom, first.Run.ID, s.log(t.Context(), third.Run.ID, key))
		}
	}
	was, is := first.Deployments[0], third.Deployments[0]
	if is.ImageDigest != was.ImageDigest || is.ImageDigest == second.Deployments[0].ImageDigest {
		t.Errorf("deployed %s, want the %s of the first run", is.ImageDigest, was.ImageDigest)
	}
	kube(t).runs(t, "reused-development", "app=tick", was.ImageDigest)
}

package publish_test

import (
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/publish"
)

// When only the chart changed, the image of an earlier run is published again, and all that follows finds
// it as if the run had built it (S23).
func TestPublishWhatWasBuiltBefore(t *testing.T) {
	t.Parallel()
	for _, host := range []string{stableHost, outsideHost} {
		w := newWorld(t)
		candidates := w.registry(host, "")
		r := &publish.Runner{Registry: w.client}
		before := w.build(1, "0.0.0-main.1.g1", candidates)
		before.step.Publish.Release = false
		if res := before.run(t, r); res.Outcome != slipway.Succeeded {
			t.Fatalf("%+v", res)
		}

		again := w.build(2, "0.0.0-main.2.g2", candidates)
		spec := again.step.Publish
		spec.Release = false
		spec.Built = &slipway.BuiltImage{Digest: before.digest(), Size: 7, Commit: before.env.Run.Commit, RunID: 1}
		again.env.Artifacts = again.env.Artifacts[1:] // no image of its own
		for range 2 {                                 // again after a crash
			res := again.run(t, r)
			if res.Outcome != slipway.Succeeded || len(res.Artifacts) != 2 {
				t.Fatalf("%+v", res)
			}
			img, ch := res.Artifacts[0], res.Artifacts[1]
			if img.Digest != before.digest() || img.Tag != "0.0.0-main.2.g2" || img.Size != 7 || img.RunID != 2 || img.Commit != again.env.Run.Commit {
				t.Errorf("image %+v", img)
			}
			if w.tag(spec.Image, "0.0.0-main.2.g2") != before.digest() || w.tag(spec.Image, "0.0.0-main.1.g1") != before.digest() || w.tag(spec.Chart, "0.0.0-main.2.g2") != ch.Digest {
				t.Errorf("tags: %s, %s", w.tag(spec.Image, "0.0.0-main.2.g2"), w.tag(spec.Chart, "0.0.0-main.2.g2"))
			}
		}

		gone := w.build(3, "0.0.0-main.3.g3", candidates)
		gone.step.Publish.Release = false
		gone.step.Publish.Built = &slipway.BuiltImage{Digest: "sha256:" + strings.Repeat("e", 64), RunID: 1}
		if res := gone.run(t, r); res.Outcome != slipway.Failed || !strings.Contains(res.Reason, "which run 1 published of this code, is no longer in the registry: push a commit") {
			t.Errorf("an image that is gone: %+v", res)
		}
	}
}

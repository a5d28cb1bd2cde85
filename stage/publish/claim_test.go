package publish_test

import (
	"context"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/publish"
)

// claims is a store that answers every claim alike, and looks whether anything has the version's name by then.
type claims struct {
	releases
	asked func(v slipway.Release) error
}

func (c claims) ClaimVersion(_ context.Context, v slipway.Release) error { return c.asked(v) }

// A version is claimed before anything has its name; who does not get it leaves no tag.
func TestTheVersionIsClaimedFirst(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claim   error
		outcome slipway.Outcome
		code    slipway.Code
		says    string
	}{
		"free":             {nil, slipway.Succeeded, "", ""},
		"released":         {slipway.Errorf(slipway.Conflict, "version 1.0.2 was released by run #1"), slipway.Failed, "", "was released by run #1"},
		"about to be":      {slipway.Errorf(slipway.Unavailable, "version 1.0.2 is being published by run #1"), "", slipway.Unavailable, "run #1"},
		"no store answers": {context.DeadlineExceeded, "", slipway.Internal, "claim the version"},
	} {
		w := newWorld(t)
		candidates := w.registry(stableHost, "")
		b := w.build(7, "v1.0.2", candidates)
		there := func() bool {
			_, err := w.client.Resolve(t.Context(), image(candidates), "v1.0.2")
			return err == nil
		}
		asked := 0
		r := &publish.Runner{Registry: w.client, Releases: claims{asked: func(v slipway.Release) error {
			if asked++; there() || v.RunID != 7 || v.Version != "v1.0.2" || v.ImageDigest != b.digest() || v.Commit == "" || v.Project != "shop" || v.Service != "delivery" {
				t.Errorf("%s: claimed %+v, and the tag is there: %t", name, v, there())
			}
			return c.claim
		}}}
		res, err := r.Run(t.Context(), b.env, b.step)
		said := res.Reason
		if err != nil {
			said = err.Error()
		}
		if asked != 1 || res.Outcome != c.outcome || err != nil && slipway.ErrorCode(err) != c.code || (err != nil) != (c.code != "") || !strings.Contains(said, c.says) {
			t.Errorf("%s: %+v, %v, asked %d times", name, res, err, asked)
		}
		if there() != (c.claim == nil) {
			t.Errorf("%s: the tag is there: %t", name, there())
		}
	}
}

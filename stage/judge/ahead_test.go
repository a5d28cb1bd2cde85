package judge_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
	"github.com/slipway-cd/slipway/stage/attest"
)

// asked is a registry without signatures that answers once the reading of a deployment has begun.
type asked struct {
	unsigned
	reading <-chan struct{}
	say     func(string)
}

func (a asked) Referrers(ctx context.Context, repo slipway.Repository, digest string) ([]attest.Attachment, error) {
	<-a.reading
	list, err := a.unsigned.Referrers(ctx, repo, digest)
	a.say("looked for signatures")
	return list, err
}

// What a deployment needs to know is read beside the proof, and nothing is done before the proof is complete. Without it
// the reading ends, and nothing is done at all.
func TestReadingAheadOfTheProof(t *testing.T) {
	t.Parallel()
	for level, want := range map[slipway.Level][]string{
		slipway.LevelWarn: {"read", "looked for signatures", "looked for signatures", "deployed"},
		slipway.LevelFail: {"read", "looked for signatures", "looked for signatures"},
	} {
		c := newCourt(t)
		c.governs("environments: [{name: other}]\n")
		run := c.candidate(map[string]slipway.Gates{"qa": lenient(func(g *slipway.Gates) { g.Signatures = slipway.SignatureGate{Level: level} })})
		var mu sync.Mutex
		var happened []string
		say := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			happened = append(happened, what)
		}
		begun := make(chan struct{})
		c.judge.Verify = c.verifies(asked{reading: begun, say: say})
		var reading context.Context
		res, err := c.step(run, "deploy/cart@qa", c.judge.Proven(func(ctx context.Context, _ stage.Env, _ slipway.PlanStep) stage.Runner {
			reading = ctx
			say("read")
			close(begun)
			return stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
				if reading.Err() != nil {
					t.Error("the reading ended before the deployment")
				}
				say("deployed")
				return slipway.Result{Outcome: slipway.Succeeded}, nil
			})
		}))
		if err != nil || (res.Outcome == slipway.Succeeded) != (level == slipway.LevelWarn) {
			t.Errorf("%s: %+v, %v", level, res, err)
		}
		if !slices.Equal(happened, want) {
			t.Errorf("%s: %q, want %q", level, happened, want)
		}
		if reading.Err() == nil {
			t.Errorf("%s: the reading goes on", level)
		}
	}
}

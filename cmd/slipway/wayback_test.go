package main

import (
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// A way back in development leads over a version of the default branch that is in quarantine.
func TestWayBackOverAQuarantine(t *testing.T) {
	t.Parallel()
	c := newCourt(t)
	c.governs("retention: {candidates: {keep: 1}}\n")
	var all []slipway.Deployment
	for _, version := range []string{"main-1111111", "main-2222222", "main-3333333", "main-4444444"} {
		r := c.run(slipway.Run{Event: slipway.BranchPush, Ref: "refs/heads/main", Commit: commitOf["main"]}, "changed", planned("deploy/cart@development"))
		state := slipway.Verified
		if version == "main-4444444" {
			state = slipway.Unhealthy
		}
		d := c.deployment(version, commitOf["main"], "development", len(all)+1)
		d.RunID, d.Step, d.State = r.ID, "deploy/cart@development", state
		all = append(all, must[slipway.Deployment](t)(c.SaveDeployment(t.Context(), d)))
	}
	if err := c.Quarantine(t.Context(), "shop", "cart", "main-2222222", "it crashed", "ada"); err != nil {
		t.Fatal(err)
	}
	if err := c.Quarantine(t.Context(), "shop", "cart", "main-3333333", "it crashed", "ada"); err != nil {
		t.Fatal(err)
	}
	plan := must[*slipway.Plan](t)(c.server.wayBack(t.Context(), stage.Env{}, all[3].Target, all[3], "it is not healthy"))
	if len(plan.Steps) == 0 || plan.Steps[0].Rollback == nil || plan.Steps[0].Rollback.To.Version != "main-1111111" {
		t.Errorf("the way back is %+v", plan.Steps)
	}
}

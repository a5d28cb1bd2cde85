package deploy

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage"
)

// records are what is on record about cart in qa.
type records struct {
	owner, quarantined string
	current            slipway.Deployment // ID 0: nothing was deployed yet
	err                error
}

func (r records) NamespaceOwner(context.Context, string, string, string) (string, error) {
	return r.owner, nil
}

func (r records) CurrentDeployment(context.Context, string, string, string) (slipway.Deployment, error) {
	if r.err == nil && r.current.ID == 0 {
		return slipway.Deployment{}, slipway.Errorf(slipway.NotFound, "cart was never deployed to qa")
	}
	return r.current, r.err
}

func (r records) Quarantined(context.Context, string, string, string) (string, error) {
	return r.quarantined, nil
}

func TestGuarded(t *testing.T) {
	t.Parallel()
	target := slipway.Target{Project: "shop", Cluster: "default", Namespace: "shop-qa", Environment: "qa", Service: "cart"}
	deploys := func(version string) slipway.PlanStep {
		return slipway.PlanStep{Service: "cart", Environment: "qa", Deploy: &slipway.DeploySpec{Target: target, Version: version}}
	}
	goesBack := slipway.PlanStep{Service: "cart", Environment: "qa", Rollback: &slipway.RollbackSpec{Target: target, From: slipway.Deployment{ID: 5}}}
	is := func(id, run int64, version string) slipway.Deployment {
		return slipway.Deployment{ID: id, RunID: run, Version: version}
	}
	broken := slipway.Errorf(slipway.Unavailable, "the database does not answer")
	for name, c := range map[string]struct {
		on   records
		step slipway.PlanStep
		want string // reason; "" when it goes on
		err  error
	}{
		"the first":                        {records{}, deploys("v1.0.0"), "", nil},
		"its own namespace":                {records{owner: "shop"}, deploys("v1.0.0"), "", nil},
		"a namespace of another project":   {records{owner: "bank"}, deploys("v1.0.0"), "namespace shop-qa of cluster default is where project bank deploys", nil},
		"back in a namespace of another":   {records{owner: "bank"}, goesBack, "namespace shop-qa of cluster default is where project bank deploys", nil},
		"a newer version":                  {records{current: is(5, 3, "v1.0.0")}, deploys("v1.0.1"), "", nil},
		"the same version":                 {records{current: is(5, 9, "v1.0.0")}, deploys("1.0.0"), "", nil},
		"an older version":                 {records{current: is(5, 3, "v1.10.0")}, deploys("v1.9.0"), "not deployed: the newer v1.10.0 is in qa since run #3; only a rollback goes back", nil},
		"an attempt of this very run":      {records{current: is(5, 7, "v1.10.0")}, deploys("v1.9.0"), "", nil},
		"a commit of an earlier run":       {records{current: is(5, 8, "main-2222222")}, deploys("main-1111111"), "not deployed: the newer main-2222222 is in qa since run #8", nil},
		"a commit of a later run":          {records{current: is(5, 6, "main-2222222")}, deploys("main-1111111"), "", nil},
		"a commit after a release":         {records{current: is(5, 8, "v1.0.0")}, deploys("main-1111111"), "", nil},
		"in quarantine":                    {records{quarantined: "it crashed"}, deploys("v1.0.0"), "not deployed: v1.0.0 is in quarantine (it crashed); lift that first: slipway lift cart v1.0.0", nil},
		"back from what runs":              {records{current: is(5, 3, "v1.0.0")}, goesBack, "", nil},
		"back from what was replaced":      {records{current: is(6, 8, "v1.0.1")}, goesBack, "not rolled back: v1.0.1 was deployed to qa since, by run #8", nil},
		"back from a deployment of itself": {records{current: is(6, 7, "v1.0.1")}, goesBack, "", nil},
		"back where nothing runs":          {records{}, goesBack, "", nil},
		"back over a quarantine":           {records{quarantined: "it crashed"}, goesBack, "", nil},
		"nobody knows":                     {records{err: broken}, deploys("v1.0.0"), "", broken},
	} {
		went := 0
		r := Guarded(stage.Func(func(context.Context, stage.Env, slipway.PlanStep) (slipway.Result, error) {
			went++
			return slipway.Result{Outcome: slipway.Succeeded}, nil
		}), c.on)
		res, err := r.Run(t.Context(), stage.Env{Run: slipway.Run{ID: 7, Project: "shop"}}, c.step)
		stopped := c.want != "" || c.err != nil
		if !errors.Is(err, c.err) || (went == 0) != stopped || (c.want != "") != (res.Outcome == slipway.Failed) || !strings.Contains(res.Reason, c.want) {
			t.Errorf("%s: %s %q, %v, done %d times", name, res.Outcome, res.Reason, err, went)
		}
	}
}

package rollback_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/slipway-cd/slipway"
	"github.com/slipway-cd/slipway/stage/rollback"
)

var target = slipway.Target{Project: "shop", Environment: "qa", Service: "delivery", Timeout: slipway.Duration(5 * time.Minute)}

func deployment(id int64, version string, state slipway.DeploymentState) slipway.Deployment {
	d := slipway.Deployment{ID: id, Target: target, Version: version, State: state}
	if state == slipway.Verified || state == slipway.Replaced {
		d.VerifiedAt = time.Unix(id, 0)
	}
	return d
}

func TestWhatWasReplacedUnverifiedIsNotChosen(t *testing.T) {
	t.Parallel()
	unverified := deployment(2, "v1.0.1", slipway.Replaced)
	unverified.VerifiedAt = time.Time{}
	got, err := rollback.Choose([]slipway.Deployment{deployment(1, "v1.0.0", slipway.Replaced), unverified, deployment(3, "v1.0.2", slipway.Verified)}, "", nil)
	if err != nil || got.ID != 1 {
		t.Errorf("got deployment %d, %v; want 1", got.ID, err)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	p := rollback.Plan(rollback.Input{
		Target: target, From: deployment(3, "v1.0.2", slipway.Unhealthy), To: deployment(2, "v1.0.1", slipway.Verified),
		Reason: "2 of 3 pods are not ready", Automatic: true, Limits: slipway.Limits{Retries: 4, DeployTimeout: slipway.Duration(time.Minute)},
	})
	if len(p.Steps) != 2 {
		t.Fatalf("%d steps: %+v", len(p.Steps), p.Steps)
	}
	back, verify := p.Steps[0], p.Steps[1]
	if back.Key != "rollback/delivery@qa" || back.Rollback == nil || back.Rollback.To.Version != "v1.0.1" || !back.Rollback.Automatic {
		t.Errorf("rollback step: %+v", back)
	}
	if back.Timeout <= target.Timeout {
		t.Errorf("the rollback has %s, less than its workloads", time.Duration(back.Timeout))
	}
	if verify.Key != "verify-rollback/delivery@qa" || !slices.Equal(verify.Needs, []string{back.Key}) || verify.Verify.Version != "v1.0.1" {
		t.Errorf("verify step: %+v", verify)
	}
	if verify.Verify.Mode != slipway.RollbackManual {
		t.Errorf("a verification after a rollback may roll back again: mode %s", verify.Verify.Mode)
	}
	for _, s := range p.Steps {
		if s.Lock != target.Lock() || s.Retries != 4 {
			t.Errorf("%s: lock %q, retries %d", s.Key, s.Lock, s.Retries)
		}
	}
	if want := "runs: qa goes back from v1.0.2 to v1.0.1: 2 of 3 pods are not ready"; p.Decisions[0].Reason != want {
		t.Errorf("got %q, want %q", p.Decisions[0].Reason, want)
	}
}

func TestPlanFirstInstall(t *testing.T) {
	t.Parallel()
	p := rollback.Plan(rollback.Input{Target: target, From: deployment(1, "v1.0.0", slipway.Unhealthy), Reason: "no pod is ready"})
	if len(p.Steps) != 1 || p.Steps[0].Rollback.To.ID != 0 {
		t.Fatalf("expected one step without a place to go to: %+v", p.Steps)
	}
	if want := "runs: v1.0.0 in qa is taken away, nothing was ever verified there: no pod is ready"; p.Decisions[0].Reason != want {
		t.Errorf("got %q, want %q", p.Decisions[0].Reason, want)
	}
}

func TestPlanKeysAreFree(t *testing.T) {
	t.Parallel()
	taken := []string{"rollback/delivery@qa", "rollback/delivery@qa#2", "verify-rollback/delivery@qa"}
	p := rollback.Plan(rollback.Input{Target: target, To: deployment(2, "v1", slipway.Verified), Taken: taken})
	if p.Steps[0].Key != "rollback/delivery@qa#3" || p.Steps[1].Key != "verify-rollback/delivery@qa#2" || p.Steps[1].Needs[0] != "rollback/delivery@qa#3" {
		t.Errorf("keys: %s, %s needs %v", p.Steps[0].Key, p.Steps[1].Key, p.Steps[1].Needs)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	history := []slipway.Deployment{ // oldest first; Choose takes any order
		deployment(1, "v1.0.0", slipway.Replaced),
		deployment(2, "v1.0.1", slipway.Replaced),
		deployment(3, "v1.0.2", slipway.RolledBack),
		deployment(4, "v1.0.3", slipway.DeployFailed),
		deployment(5, "v1.0.4", slipway.Replaced),
		deployment(6, "v1.0.5", slipway.Verified),
		deployment(7, "v1.0.6", slipway.DeployFailed),
	}
	failed := append(slices.Clone(history), deployment(8, "v1.1.0", slipway.Unhealthy))
	for _, c := range []struct {
		name        string
		history     []slipway.Deployment
		to          string
		quarantined slipway.Quarantines
		want        int64
		code        slipway.Code
		message     string
	}{
		{name: "the one before the current", history: history, want: 5},
		{name: "the verified one, when the current failed", history: failed, want: 6},
		{name: "not one in quarantine", history: history, quarantined: slipway.Quarantines{"delivery/1.0.4": "leaks"}, want: 2},
		{name: "not one of the default branch in quarantine", history: []slipway.Deployment{deployment(1, "v1.0.0", slipway.Replaced), deployment(2, "main-1a2b3c4", slipway.Replaced), deployment(3, "main-5d6e7f8", slipway.Verified)}, quarantined: slipway.Quarantines{"delivery/main-1a2b3c4": "leaks"}, want: 1},
		{name: "another service's quarantine", history: history, quarantined: slipway.Quarantines{"page/1.0.4": "leaks"}, want: 5},
		{name: "named", history: history, to: "v1.0.0", want: 1},
		{name: "named in its other spelling", history: history, to: "1.0.1", want: 2},
		{name: "named, the current", history: history, to: "1.0.5", code: slipway.Conflict, message: "delivery in qa is v1.0.5 already"},
		{name: "named, never verified", history: history, to: "v1.0.2", code: slipway.Conflict, message: "delivery in qa: version v1.0.2 was deployed there and is rolled-back, never verified; verified there: v1.0.4, v1.0.1, v1.0.0"},
		{name: "named, never deployed", history: history, to: "v9.0.0", code: slipway.NotFound, message: "delivery in qa: version v9.0.0 was never deployed there; verified there: v1.0.4, v1.0.1, v1.0.0"},
		{name: "named, in quarantine", history: history, to: "v1.0.4", quarantined: slipway.Quarantines{"delivery/1.0.4": "leaks"}, code: slipway.Conflict, message: "delivery in qa: version v1.0.4 is in quarantine (leaks); lift that first, or choose another: v1.0.1, v1.0.0"},
		{name: "nothing else verified", history: failed[5:6], code: slipway.NotFound, message: "no version other than v1.0.5"},
		{name: "only the same version", history: []slipway.Deployment{deployment(1, "v1.0.0", slipway.Replaced), deployment(2, "1.0.0", slipway.Verified)}, code: slipway.NotFound, message: "no version other than 1.0.0"},
		{name: "nothing deployed", history: nil, code: slipway.NotFound, message: "nothing is deployed there"},
		{name: "everything failed", history: history[3:4], code: slipway.NotFound, message: "nothing is deployed there"},
	} {
		reversed := slices.Clone(c.history)
		slices.Reverse(reversed)
		for _, h := range [][]slipway.Deployment{c.history, reversed} {
			got, err := rollback.Choose(h, c.to, c.quarantined)
			if slipway.ErrorCode(err) != c.code || got.ID != c.want {
				t.Errorf("%s: got deployment %d, %v; want %d, %s", c.name, got.ID, err, c.want, c.code)
			}
			if err != nil && !strings.Contains(err.Error(), c.message) {
				t.Errorf("%s: got %v\nwant %s", c.name, err, c.message)
			}
		}
	}
}
